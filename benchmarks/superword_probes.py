"""What is measured of superwords: each function runs in a fresh process of its own."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from benchmarks.outcome import ids_of, ids_of_lists, merges_of
from benchmarks.probe import memory_bytes
from pipeline.arrow import list_rows
from pipeline.jobs import warm
from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.pretokenizer import RECIPES, Pretokenizer
from pipeline.spec import JobSpec
from pipeline.stages.evaluate import unigram_bits
from pipeline.tokenizer import Tokenizer

_SLICE_BYTES = 8 << 20


# --- training ---------------------------------------------------------------------------------------------------------


def _spec(folder: str, fields: dict[str, Any]) -> JobSpec:
    defaults = {"name": "superwords", "output": f"{folder}/out", "execution": {"address": "local"}}
    return parse_spec(defaults | fields)


def train(folder: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A job in this process, kernels loaded before: seconds, those of each step, and its report."""
    warm.main()
    spec = _spec(folder, fields)
    started = time.perf_counter()
    run_job(spec, Progress(io.StringIO()))
    seconds = time.perf_counter() - started
    report = json.loads(Path(spec.output, "report/report.json").read_text())
    merges = {
        t.name: merges_of(Path(spec.output, f"tokenizers/{t.name}/tokenizer.json").read_text()) for t in spec.tokenizers
    }
    return {"seconds": seconds, "report": report, "merges": merges}


def second_stage(folder: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The last training of a finished job once more, alone: seconds, and the memory it takes beyond the program's."""
    warm.main()
    spec = _spec(folder, fields)
    out = Path(spec.output)
    shutil.rmtree(out / "_work/receipts/train")
    for name in ("manifest.json", "_SUCCESS"):
        (out / name).unlink()
    before = memory_bytes("VmRSS")
    started = time.perf_counter()
    run_job(spec, Progress(io.StringIO()))
    return {"seconds": time.perf_counter() - started, "extra_bytes": memory_bytes("VmHWM") - before}


# --- text -------------------------------------------------------------------------------------------------------------


def corpus_files(corpora: str) -> list[Path]:
    """Every text, in order."""
    files = sorted(path for path in Path(corpora).rglob("*") if path.is_file())
    return [path for path in files if path.suffix != ".md" and path.name != "MANIFEST.tsv"]


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Documents with what is known of them; of plain text, blocks of lines."""
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches(1024):
            yield from batch.to_pylist()
        return
    opener = {".zst": zstandard.open, ".gz": gzip.open}.get(path.suffix, io.open)
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        if ".jsonl" in path.name:
            yield from map(json.loads, file)
        else:
            while lines := file.readlines(1 << 20):
                yield {"text": "".join(lines)}


def _batches(texts: Iterator[str]) -> Iterator[pa.LargeStringArray]:
    some: list[str] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= _SLICE_BYTES:
            yield pa.array(some, pa.large_string())
            some, size = [], 0
    if some:
        yield pa.array(some, pa.large_string())


def published(oracles: str, name: str) -> Tokenizer:
    """The published SuperBPE (``80K_extend``) or the plain BPE beside it (``subword``), as the paper cuts text."""
    vocab = json.loads(zstandard.open(Path(oracles, f"superbpe/{name}.vocab.json.zst"), "rt", encoding="utf-8").read())
    with zstandard.open(Path(oracles, f"superbpe/{name}.merges.txt.zst"), "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file]
    merges = tuple((left, right) for left, right in (line.split(" ") for line in lines if line[:9] != "#version:"))
    return Tokenizer(vocab, merges, pretokenizer=Pretokenizer(RECIPES["paper"][name == "80K_extend"]))


def _loaded(oracles: str, name: str) -> Tokenizer:
    return Tokenizer.load(name) if "/" in name else published(oracles, name)


# --- encoding ---------------------------------------------------------------------------------------------------------


def encode(side: str, oracles: str, name: str, file: str, max_bytes: int) -> dict[str, Any]:
    """Seconds to encode some documents that are in memory, by ``ours`` or ``tokenizers``; a first pass is not timed."""
    texts: list[str] = []
    size = 0
    for record in records(Path(file)):
        texts.append(record["text"])
        size += len(record["text"].encode())
        if size >= max_bytes:
            break
    tokenizer = _loaded(oracles, name)
    if side == "ours":
        array = pa.array(texts, pa.large_string())
        started = time.perf_counter()
        tokenizer.encode_batch(array[:1])
        loading = time.perf_counter() - started
        started = time.perf_counter()
        tokenizer.encode_batch(array)
        first = time.perf_counter() - started
        started = time.perf_counter()
        offsets, ids = list_rows(tokenizer.encode_batch(array))
        seconds = time.perf_counter() - started
        outcome = ids_of(ids, np.diff(offsets))
        return {"seconds": seconds, "first_seconds": first, "load_seconds": loading, "text_bytes": size, **outcome}
    from tokenizers import Tokenizer as OutsideTokenizer

    outside = OutsideTokenizer.from_str(tokenizer.to_json())
    outside.encode_special_tokens = True
    outside.encode_batch_fast(texts[:1], add_special_tokens=False)
    started = time.perf_counter()
    rows = [encoding.ids for encoding in outside.encode_batch_fast(texts, add_special_tokens=False)]
    return {"seconds": time.perf_counter() - started, "text_bytes": size, **ids_of_lists(rows)}


def long_line(oracles: str, name: str, file: str, num_bytes: int) -> dict[str, Any]:
    """Seconds to encode one line of so many bytes: text whose line breaks are blanks."""
    words: list[str] = []
    size = 0
    for record in records(Path(file)):
        words.append(record["text"].replace("\n", " "))
        size += len(words[-1].encode())
        if size >= num_bytes:
            break
    text = " ".join(words)
    while len(text.encode()) < num_bytes:
        text += " " + text
    tokenizer = _loaded(oracles, name)
    tokenizer.encode_batch([text[:1000]])
    array = pa.array([text.encode()[:num_bytes].decode(errors="ignore")], pa.large_string())
    before = memory_bytes("VmRSS")
    started = time.perf_counter()
    ids = tokenizer.encode_batch(array)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "num_ids": len(ids.flatten()), "extra_bytes": memory_bytes("VmHWM") - before}


# --- tokens -----------------------------------------------------------------------------------------------------------


def count_tokens(oracles: str, corpora: str, names: list[str]) -> dict[str, Any]:
    """Tokens of every text by each tokenizer, and over all texts the bits of a token."""
    tokenizers = {Path(name).name: _loaded(oracles, name) for name in names}
    counts = {name: np.zeros(tokenizer.vocab_size, dtype=np.int64) for name, tokenizer in tokenizers.items()}
    rows = []
    for path in corpus_files(corpora):
        row = {"text": str(path.relative_to(corpora)), "bytes": 0, **dict.fromkeys(tokenizers, 0)}
        for texts in _batches(record["text"] for record in records(path)):
            row["bytes"] += pc.sum(pc.binary_length(texts)).as_py()
            for name, tokenizer in tokenizers.items():
                ids = tokenizer.encode_batch(texts).flatten().to_numpy()
                row[name] += len(ids)
                counts[name] += np.bincount(ids, minlength=tokenizer.vocab_size)
        rows.append(row)
    return {"rows": rows, "bits": {name: unigram_bits(found) for name, found in counts.items()}}


def count_parallel(oracles: str, corpora: str, names: list[str]) -> dict[str, Any]:
    """Tokens of each parallel text in each language: groups that all its languages have."""
    tokenizers = {Path(name).name: _loaded(oracles, name) for name in names}
    found = {}
    for path in corpus_files(f"{corpora}/parallel"):
        by_language: dict[str, dict[Any, str]] = {}
        for record in records(path):
            by_language.setdefault(record["lang"], {})[record["align"]] = record["text"]
        most = max(map(len, by_language.values()))
        whole = {language: groups for language, groups in by_language.items() if 10 * len(groups) >= 8 * most}
        common = sorted(set.intersection(*map(set, whole.values())), key=str)
        tokens: dict[str, dict[str, int]] = {}
        for language, groups in sorted(whole.items()):
            texts = pa.array([groups[group] for group in common], pa.large_string())
            tokens[language] = {name: len(t.encode_batch(texts).flatten()) for name, t in tokenizers.items()}
        found[path.name.split(".")[0]] = tokens
    return {"texts": found}

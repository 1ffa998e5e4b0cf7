"""From a tokenizer and some text of each category to the mixture it was trained on, without a job."""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline import storage
from pipeline.added import AddedCutter
from pipeline.arrow import rows_of
from pipeline.errors import ArtifactError, SpecError
from pipeline.jobs.plan import model_file
from pipeline.jobs.texts import read_texts
from pipeline.stages.count import WordCounter, WordSums
from pipeline.stages.mixture import MOST_ROUNDS, baseline_mixture, infer_mixture, replay
from pipeline.tokenizer import Tokenizer, parse_tokenizer


def infer(tokenizer: str, texts: list[str], num_merges: int) -> dict[str, Any]:
    """What the first merges of a tokenizer say of the categories that ``texts`` name: ``NAME=FILE``, a path or a glob.

    Raises
    ------
    SpecError
        A name is missing or given twice, there are fewer than two, a file is missing, a category has no text, or none of the
        merges is in any; the tokenizer is no byte-level BPE or has no merges; scipy is not installed.
    ArtifactError
        The tokenizer is not there or damaged.
    DataError
        A file is not what its ending says.
    """
    if importlib.util.find_spec("scipy") is None:
        raise SpecError("infer-mixture needs scipy, which is not installed: pip install 'tokenmill[mixture]'")
    if num_merges < 1:
        raise SpecError(f"--merges is {num_merges}; at least 1 is needed")
    patterns = _patterns(texts)
    own = _load(tokenizer)
    cutter = AddedCutter(own.added_tokens, own.special_tokens, own.normalizer)
    sums = WordSums(len(patterns))
    dropped: Counter[str] = Counter()
    rows = []
    for index, (name, pattern) in enumerate(patterns.items()):
        counter = WordCounter(own.pretokenizer)
        row: dict[str, Any] = {"category": name, "documents": 0, "bytes": 0}
        for batch in read_texts(pattern, dropped):
            row["documents"] += len(batch)
            row["bytes"] += pc.sum(pc.binary_length(batch)).as_py()
            counter.add(cutter.cut(batch).pieces)
        if not row["bytes"]:
            left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()))
            why = f" (dropped: {left_out})" if left_out else ""
            raise SpecError(f"--text {name}={pattern}: there is no text{why}; give some megabytes of UTF-8")
        rows.append(row)
        for words in counter.partitions():
            sums.add(words, index)
    table = sums.table()
    counts = np.stack([table[str(index)].to_numpy() for index in range(len(rows))], axis=1)
    replayed = replay(own, num_merges, rows_of(table["word"].combine_chunks()), counts)
    num_replayed, num_used = len(replayed.merge_counts), int(replayed.merge_counts.any(axis=1).sum())
    if not num_used:
        raise SpecError(
            f"none of the first {num_replayed:,} merges of {tokenizer} is in any of the texts; give text of the "
            "kinds it was trained on, and more of it"
        )
    num_bytes = np.array([row["bytes"] for row in rows])
    found = infer_mixture(replayed, num_bytes, MOST_ROUNDS)
    bytes_per_token = num_bytes / np.maximum(replayed.num_tokens, 1)
    for row, share, ratio, guess in zip(
        rows, found.shares.tolist(), bytes_per_token.tolist(), baseline_mixture(bytes_per_token).tolist(), strict=True
    ):
        row |= {"share": share, "bytes_per_token": round(ratio, 6), "baseline_share": guess}
    return {
        "tokenizer": tokenizer,
        "categories": rows,
        "dropped": dict(sorted(dropped.items())),
        "merges": num_replayed,
        "merges_used": num_used,
        "merges_absent": num_replayed - num_used,
        "slack": found.slack,
        "rounds": found.num_rounds,
        "rows": found.num_rows,
        "converged": found.converged,
    }


def _patterns(texts: list[str]) -> dict[str, str]:
    """Path or glob by the category's name."""
    patterns: dict[str, str] = {}
    for text in texts:
        name, equals, pattern = text.partition("=")
        if not (name and equals and pattern):
            raise SpecError(
                f"--text {text!r}: NAME=FILE is expected, the name of a category and its text, as in de=german.txt"
            )
        if name in patterns:
            raise SpecError(
                f"--text names the category {name!r} twice; a glob such as {name}='DIR/*.txt' names several files"
            )
        patterns[name] = pattern
    if len(patterns) < 2:
        raise SpecError("--text names one category; a mixture has two or more")
    return patterns


def _load(name: str) -> Tokenizer:
    uri = model_file(name)
    content = storage.read_bytes(uri)
    try:
        found = parse_tokenizer(content.decode(errors="replace"))
    except ArtifactError as error:
        raise SpecError(
            f"{uri}: {error}; infer-mixture replays merges over bytes, so it takes a tokenizer.json of byte-level BPE"
        ) from error
    if not isinstance(found, Tokenizer):
        raise SpecError(f"{uri}: it was not learned by merging the most frequent pair; give a tokenizer of byte-level BPE")
    if not found.merges:
        raise SpecError(f"{uri}: it has no merges, which are what tells of its training text; give one that has")
    return found

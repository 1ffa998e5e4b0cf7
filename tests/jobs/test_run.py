"""Small jobs from end to end: every document and token accounted for, and the same bytes whatever the circumstances."""

import contextlib
import dataclasses
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers

from pipeline.errors import ArtifactError, DataError, OutputInUse, StorageError, TaskFailed
from pipeline.jobs import steps
from pipeline.jobs.load import parse_spec
from pipeline.jobs.manifest import verify
from pipeline.jobs.plan import make_plan, settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.runner import LocalRunner
from pipeline.jobs.schedule import PLAIN_STEPS
from pipeline.jobs.tasks import Job, Receipt, Task
from pipeline.pretokenizer import Pretokenizer
from pipeline.tokenizer import Tokenizer
from tests import reference

EOS = "<|endoftext|>"
JSON_END = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"


def rows_of(output: Path, split: str = "train", name: str = "tok") -> list[dict]:
    return datasets.load_from_disk(str(output / "packed" / name / split)).to_list()


def parts_of(row: dict) -> list[list[int]]:
    """The documents' parts in a packed row."""
    stops = np.cumsum(row["seq_lengths"]).tolist()
    return [row["input_ids"][a:b] for a, b in zip([0, *stops], stops, strict=False)]


def all_parts(output: Path, split: str, name: str = "tok") -> list[list[int]]:
    return [part for row in rows_of(output, split, name) for part in parts_of(row)]


def split_at(ids: list[int], end: int) -> list[list[int]]:
    """The documents of a stream of ids, each without its end token."""
    stops = [i for i, token in enumerate(ids) if token == end]
    assert not ids or stops[-1] == len(ids) - 1
    return [ids[a:b] for a, b in zip([0, *[s + 1 for s in stops]], stops, strict=False)]


def tokenizer_of(output: Path, name: str = "tok") -> Tokenizer:
    return Tokenizer.load(output / "tokenizers" / name)


# --- documents --------------------------------------------------------------------------------------------------------


def test_every_document_is_accounted_for(run, corpus, texts):
    lines = ['{"text": null, "id": "n"}', '{"text": "", "id": "e"}', '{"text": "", "id": "f"}', '{"text": "xy", "id": "s"}']
    (corpus / "c.jsonl").write_bytes("\n".join(lines).encode() + b'\n\n{"text": "\xff bad", "id": "b"}\n')
    changes = {"errors": "skip", "filters": [{"name": "length", "min_bytes": 3}, {"name": "length", "max_bytes": 110}]}
    result = run(changes)
    sizes = [len(text.encode()) for text in texts]
    long = sum(size > 110 for size in sizes)
    assert 0 < long < 150
    row = result.accounting["sources"]["main"]
    assert row["dropped"] == {"empty": 2, "filter:length": 1 + long, "invalid_utf8": 1, "null": 1}
    assert row["documents"] == 205
    assert row["train"] + row["holdout"] == 200 - long
    assert row["text_bytes"] == sum(size for size in sizes if size <= 110)
    assert row["holdout"] > 0
    assert result.accounting["kept"] == {"train": row["train"], "holdout": row["holdout"]}
    packed = result.accounting["packed"]["tok"]
    assert {split: packed[split]["documents"] for split in packed} == result.accounting["kept"]


def test_sources_are_accounted_for_apart(run, corpus):
    sources = [
        {"name": "one", "uris": [f"{corpus}/a.jsonl"], "id_column": "id"},
        {"name": "two", "uris": [f"{corpus}/b.jsonl"], "id_column": "id"},
    ]
    rows = run({"sources": sources}).accounting["sources"]
    assert {name: row["documents"] for name, row in rows.items()} == {"one": 120, "two": 80}


def test_holdout_is_chosen_by_id_whatever_the_order_and_the_file(run, corpus, texts, tmp_path, jsonl):
    first = run()
    shutil.rmtree(corpus)
    jsonl(corpus / "all.jsonl", texts)
    lines = (corpus / "all.jsonl").read_text().splitlines(keepends=True)
    (corpus / "all.jsonl").write_text("".join(reversed(lines)))
    again = run({"output": str(tmp_path / "again")})
    assert again.accounting["kept"] == first.accounting["kept"]
    end = tokenizer_of(first.out).id_of(EOS)
    held = []
    for result in (first, again):
        stream = [token for part in all_parts(result.out, "holdout") for token in part]
        held.append(Counter(tokenizer_of(result.out).decode(document) for document in split_at(stream, end)))
    assert held[0] == held[1]


def test_holdout_is_about_its_fraction_and_another_for_another_seed(run, tmp_path):
    held = {}
    for seed in (0, 1, 2):
        result = run({"holdout": {"fraction": 0.4, "seed": seed}, "output": str(tmp_path / f"o{seed}")})
        assert 50 < result.accounting["kept"]["holdout"] < 110
        held[seed] = frozenset(tuple(part) for part in all_parts(result.out, "holdout"))
    assert len(set(held.values())) == 3


def test_nothing_held_out(run, texts):
    result = run({"holdout": {"fraction": 0}})
    assert result.accounting["kept"] == {"train": len(texts), "holdout": 0}
    assert not (result.out / "packed" / "tok" / "holdout").exists()
    assert list(result.accounting["packed"]["tok"]) == ["train"]
    report = json.loads((result.out / "report" / "report.json").read_bytes())
    assert report["evaluation"] == {}
    assert verify(str(result.out), lambda path: None) == len(result.manifest["artifacts"])


def test_held_out_documents_are_not_trained_on(run, tmp_path, jsonl):
    """A word that only held-out documents hold is in no merge."""
    folder = tmp_path / "plain"
    jsonl(folder / "a.jsonl", ["apple pear " * 9] * 40)
    changes = {"sources": [{"name": "main", "uris": [f"{folder}/*.jsonl"], "id_column": "id"}], "holdout": {"fraction": 0.5}}
    first = run(changes)
    held = first.accounting["kept"]["holdout"]
    assert 5 < held < 35
    training = json.loads((first.out / "tokenizers" / "tok" / "training.json").read_bytes())
    assert training["text_bytes"] == (40 - held) * len("apple pear " * 9)


@pytest.mark.parametrize("pack", [True, False])
def test_a_corpus_of_which_nothing_is_left(run, pack):
    result = run({"filters": [{"name": "length", "min_bytes": 10**6}], **({} if pack else {"pack": None})})
    assert result.accounting["kept"] == {"train": 0, "holdout": 0}
    assert result.accounting["sources"]["main"]["dropped"] == {"filter:length": 200}
    assert tokenizer_of(result.out).vocab_size == 257
    assert tokenizers.Tokenizer.from_file(str(result.out / "tokenizers/tok/tokenizer.json")).get_vocab_size() == 257
    if pack:
        for split in ("train", "holdout"):
            found = datasets.load_from_disk(str(result.out / "packed/tok" / split))
            assert (len(found), found.column_names) == (0, ["input_ids", "seq_lengths"])


def test_a_held_out_split_of_no_documents_can_be_opened(run):
    result = run({"holdout": {"fraction": 1e-9}})
    assert result.accounting["kept"]["holdout"] == 0
    assert len(datasets.load_from_disk(str(result.out / "packed/tok/holdout"))) == 0


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["best_fit", "concat"])
@pytest.mark.parametrize("overflow", ["split", "truncate", "drop"])
def test_every_token_is_packed_or_lost(run, texts, strategy, overflow):
    length = 24
    pack = {"strategy": strategy, "overflow": overflow, "sequence_length": length}
    result = run({"pack": pack, "holdout": {"fraction": 0}})
    tokenizer = tokenizer_of(result.out)
    sizes = [len(tokenizer.encode(text)) + 1 for text in texts]
    assert any(size > length for size in sizes)
    assert any(size <= length for size in sizes)
    lost = {
        "split": {},
        "truncate": {"truncated": sum(max(0, size - length) for size in sizes)},
        "drop": {"dropped_long_documents": sum(size for size in sizes if size > length)},
    }[overflow]
    figures = result.accounting["packed"]["tok"]["train"]
    assert figures["tokens_in"] == sum(sizes)
    assert figures["tokens_lost"] == lost
    assert figures["tokens_packed"] == sum(sizes) - sum(lost.values())
    rows = rows_of(result.out)
    assert figures["sequences"] == len(rows)
    assert sum(sum(row["seq_lengths"]) for row in rows) == figures["tokens_packed"]
    assert figures["padding"] == len(rows) * length - figures["tokens_packed"]
    if strategy == "concat":
        assert figures["padding"] < length
    for row in rows:
        assert len(row["input_ids"]) == length
        assert all(part > 0 for part in row["seq_lengths"])
        assert sum(row["seq_lengths"]) <= length
        assert set(row["input_ids"][sum(row["seq_lengths"]) :]) <= {tokenizer.id_of(EOS)}


@pytest.mark.parametrize("shuffle", ["none", {"seed": 3}])
@pytest.mark.parametrize("length", [7, 64])
def test_concat_gives_back_exactly_the_documents(run, texts, shuffle, length):
    pack = {"strategy": "concat", "overflow": "split", "sequence_length": length, "shuffle": shuffle}
    result = run({"pack": pack})
    tokenizer = tokenizer_of(result.out)
    found = {}
    for split in ("train", "holdout"):
        stream = [token for part in all_parts(result.out, split) for token in part]
        found[split] = [tokenizer.decode(document) for document in split_at(stream, tokenizer.id_of(EOS))]
    assert Counter(found["train"] + found["holdout"]) == Counter(texts)
    assert len(found["train"]) == result.accounting["kept"]["train"]
    in_order = [text for text in texts if text in set(found["train"])]
    assert (found["train"] == in_order) == (shuffle == "none")


@pytest.mark.parametrize("append", [EOS, None])
def test_best_fit_gives_back_exactly_the_documents(run, texts, append):
    result = run({"pack": {"strategy": "best_fit", "sequence_length": 400, "append": append}, "holdout": {"fraction": 0}})
    tokenizer = tokenizer_of(result.out)
    parts = all_parts(result.out, "train")
    if append:
        assert all(part[-1] == tokenizer.id_of(EOS) for part in parts)
    assert tokenizer.id_of(EOS) not in {token for part in parts for token in part[: -1 if append else None]}
    assert Counter(tokenizer.decode(part[:-1] if append else part) for part in parts) == Counter(texts)


def test_truncated_documents_are_the_beginnings(run, texts):
    pack = {"overflow": "truncate", "sequence_length": 20, "append": None}
    result = run({"pack": pack, "holdout": {"fraction": 0}})
    tokenizer = tokenizer_of(result.out)
    expected = Counter(tuple(tokenizer.encode(text)[:20]) for text in texts)
    assert Counter(map(tuple, all_parts(result.out, "train"))) == expected


def test_shuffles_differ_by_seed_and_hold_the_same(run, tmp_path):
    pack = {"sequence_length": 400, "strategy": "best_fit"}
    found = [
        list(map(tuple, all_parts(run({"pack": {**pack, "shuffle": s}, "output": str(tmp_path / f"o{i}")}).out, "train")))
        for i, s in enumerate([{"seed": 0}, {"seed": 1}, "none"])
    ]
    assert Counter(found[0]) == Counter(found[1]) == Counter(found[2])
    assert found[0] != found[1]
    assert found[1] != found[2]


def test_documents_with_one_id_are_all_kept_and_counted(run, corpus, texts):
    for name in ("a.jsonl", "b.jsonl"):
        shutil.copy(corpus / name, corpus / f"copy-{name}")
    result = run({"pack": {"sequence_length": 400}})
    packed = result.accounting["packed"]["tok"]
    assert result.accounting["sources"]["main"]["documents"] == 400
    for split in ("train", "holdout"):
        assert packed[split]["duplicate_ids"] == packed[split]["documents"] / 2
        assert set(Counter(map(tuple, all_parts(result.out, split))).values()) == {2}


def test_without_ids_in_the_data_no_id_is_a_duplicate(run, corpus):
    result = run({"sources": [{"name": "main", "uris": [f"{corpus}/*.jsonl"]}]})
    assert {row["duplicate_ids"] for row in result.accounting["packed"]["tok"].values()} == {0}


def test_packed_data_is_a_typed_data_set(run):
    result = run()
    for split in ("train", "holdout"):
        found = datasets.load_from_disk(str(result.out / "packed" / "tok" / split))
        assert found.features["input_ids"] == datasets.List(datasets.Value("uint16"), length=64)
        assert found.features["seq_lengths"] == datasets.List(datasets.Value("int32"))
        assert len(found) == result.accounting["packed"]["tok"][split]["sequences"] > 0
        assert found.data.schema.field("input_ids").type == pa.list_(pa.uint16(), 64)
        assert max(max(row["input_ids"]) for row in found) < 330
    files = sorted((result.out / "packed" / "tok" / "train").glob("*.arrow"))
    with pa.ipc.open_stream(files[0]) as reader:
        metadata = {key.decode(): value.decode() for key, value in reader.schema.metadata.items()}
        assert reader.schema.field("input_ids").type == pa.list_(pa.uint16(), 64)
    described = json.loads((result.out / "tokenizers" / "tok" / "tokenmill.json").read_bytes())
    assert metadata["tokenizer_sha256"] == described["tokenizer_sha256"]
    assert (metadata["vocab_size"], metadata["sequence_length"], metadata["split"]) == ("330", "64", "train")


def test_a_job_without_pack(run):
    result = run({"pack": None})
    assert result.accounting["packed"] == {}
    assert not (result.out / "packed").exists()
    assert tokenizer_of(result.out).vocab_size == 330
    assert (result.out / "_SUCCESS").exists()


def test_two_tokenizers_of_which_one_is_packed(run, texts):
    kinds = [
        {"name": "tok", "vocab_size": 330, "special_tokens": [EOS]},
        {"name": "small", "vocab_size": 280, "pretokenizer": "gpt2"},
    ]
    result = run({"tokenizers": kinds})
    assert list(result.accounting["packed"]) == ["tok"]
    assert [tokenizer_of(result.out, name).vocab_size for name in ("tok", "small")] == [330, 280]
    report = json.loads((result.out / "report" / "report.json").read_bytes())
    assert list(report["evaluation"]) == ["tok", "small"]


# --- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", ["none", {"seed": 0}])
def test_shards_of_any_size_give_the_same_bytes(run, tmp_path, hashes, shuffle):
    found = []
    for shard_bytes in (None, 900, 10_000):
        output = tmp_path / f"out-{shard_bytes}"
        result = run({"output": str(output), "pack": {"shuffle": shuffle}, "execution": {"shard_bytes": shard_bytes}})
        found.append((hashes(output), result.accounting, len(make_plan(result.spec).shards)))
    assert len({shards for _, _, shards in found}) == 3
    assert len(found[0][0]) == 12
    for other in found[1:]:
        assert other[:2] == found[0][:2]


def test_shards_of_any_size_give_the_same_bytes_for_parquet(run, tmp_path, hashes, texts):
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=17)
    found = []
    for shard_bytes in (None, 500, 3_000):
        output = tmp_path / f"out-{shard_bytes}"
        sources = [{"name": "main", "uris": [f"{tmp_path}/*.parquet"]}]
        run({"output": str(output), "sources": sources, "execution": {"shard_bytes": shard_bytes}})
        found.append(hashes(output))
    assert found[0] == found[1] == found[2]


def test_a_corpus_elsewhere_gives_the_same_bytes(run, corpus, tmp_path, hashes):
    first = run()
    other = tmp_path / "quite" / "another" / "place"
    shutil.copytree(corpus, other)
    sources = [{"name": "main", "uris": [f"{other}/*.jsonl"], "id_column": "id"}]
    second = run({"sources": sources, "output": str(tmp_path / "elsewhere" / "out")})
    assert hashes(first.out) == hashes(second.out)
    for path in hashes(first.out):
        assert str(tmp_path).encode() not in (first.out / path).read_bytes()


def test_compressed_and_plain_give_the_same_bytes(run, corpus, tmp_path, hashes):
    first = run()
    for path in corpus.iterdir():
        (tmp_path / "gz").mkdir(exist_ok=True)
        (tmp_path / "gz" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    sources = [{"name": "main", "uris": [f"{tmp_path}/gz/*.gz"], "id_column": "id"}]
    second = run({"sources": sources, "output": str(tmp_path / "out2")})
    assert hashes(first.out) == hashes(second.out)


def test_without_work_and_receipts_a_run_does_it_all_again_to_the_same_bytes(run, hashes):
    first = run()
    before = hashes(first.out)
    for name in ("_work", "tokenizers", "packed"):
        shutil.rmtree(first.out / name)
    (first.out / "_SUCCESS").unlink()
    again = run()
    assert not again.outcome.was_finished
    assert hashes(again.out) == before


def test_a_finished_run_does_nothing(run, hashes):
    first = run()
    before = {path: path.stat().st_mtime_ns for path in first.out.rglob("*")}
    again = run()
    assert (first.outcome.was_finished, again.outcome.was_finished) == (False, True)
    assert again.manifest == first.manifest
    assert again.progress == ""
    assert {path: path.stat().st_mtime_ns for path in again.out.rglob("*")} == before


def test_a_run_goes_on_where_it_stopped(run, hashes):
    first = run({"execution": {"shard_bytes": 2000}})
    before = hashes(first.out)
    receipts = first.out / "_work" / "receipts"
    (first.out / "_SUCCESS").unlink()
    for lost in ("pack/tok/train/00000.json", "encode/tok/00002.json", "count/00001.json"):
        (receipts / lost).unlink()
    kept = {path: path.stat().st_mtime_ns for path in receipts.rglob("*.json")}
    again = run({"execution": {"shard_bytes": 2000}})
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert hashes(again.out) == before
    assert again.accounting == first.accounting


# --- weights ----------------------------------------------------------------------------------------------------------


def trained_json(result) -> bytes:
    return (result.out / "tokenizers" / "tok" / "tokenizer.json").read_bytes()


def weighted(corpus: Path, a: float, b: float, *more: dict) -> dict:
    sources = [
        {"name": "a", "uris": [f"{corpus}/a.jsonl"], "id_column": "id", "weight": a},
        {"name": "b", "uris": [f"{corpus}/b.jsonl"], "id_column": "id", "weight": b},
    ]
    return {"sources": [*sources, *more], "pack": None}


@pytest.fixture
def two_kinds(corpus, jsonl):
    """Two files of quite different words, so that their weights decide the merges."""
    jsonl(corpus / "a.jsonl", ["abab abba baab " * 5] * 30)
    jsonl(corpus / "b.jsonl", ["xyxy yxxy xyyx " * 5] * 31, 30)
    return corpus


def test_a_weight_of_two_is_the_source_listed_twice(run, two_kinds, tmp_path):
    twice = {"name": "again", "uris": [f"{two_kinds}/a.jsonl"], "id_column": "id"}
    once = run({**weighted(two_kinds, 1, 1), "output": str(tmp_path / "1")})
    double = run({**weighted(two_kinds, 2, 1), "output": str(tmp_path / "2")})
    listed = run({**weighted(two_kinds, 1, 1, twice), "output": str(tmp_path / "3")})
    assert trained_json(double) == trained_json(listed)
    assert trained_json(double) != trained_json(once)


@pytest.mark.parametrize("small", [(0.5, 1.25), (0.02, 0.05), (0.4, 1)])
def test_fractional_weights_are_their_ratio(run, two_kinds, tmp_path, small):
    whole = run({**weighted(two_kinds, 2, 5), "output": str(tmp_path / "1")})
    fraction = run({**weighted(two_kinds, *small), "output": str(tmp_path / "2")})
    merges = [json.loads(trained_json(r))["model"]["merges"][:6] for r in (whole, fraction)]
    assert merges[0] == merges[1]
    assert ["x", "y"] in merges[0]
    assert json.loads((fraction.out / "tokenizers/tok/training.json").read_bytes())["count_scale"] > 1


def test_a_weight_changes_neither_the_accounting_nor_the_documents(run, two_kinds, tmp_path):
    one = run({**weighted(two_kinds, 1, 1), "output": str(tmp_path / "1")})
    other = run({**weighted(two_kinds, 7.5, 1), "output": str(tmp_path / "2")})
    assert one.accounting == other.accounting


# --- rare words -------------------------------------------------------------------------------------------------------


def words_of(*groups: list[str]) -> list[Counter]:
    """The words of groups of texts, as the twin cuts them."""
    patterns = Pretokenizer.named("gpt4o").patterns
    return [Counter(word for text in group for word in reference.split(text, patterns)) for group in groups]


def figures_of(result, name: str = "tok") -> dict:
    training = json.loads((result.out / "tokenizers" / name / "training.json").read_bytes())
    reported = json.loads((result.out / "report/report.json").read_bytes())["tokenizers"][name]
    for key in ("distinct_words", "pruned_words", "pruned_occurrences"):
        assert reported[key] == training[key]
    return training


@pytest.mark.parametrize("least", [1, 2, 3, 7, 10**9])
def test_rare_words_are_not_trained_on(run, texts, tmp_path, jsonl, least):
    """As if only the other words were there: each as a document of its own, as often as it occurs."""
    every = {"holdout": {"fraction": 0}, "pack": None}
    tokenizer = {"name": "tok", "vocab_size": 330, "special_tokens": [EOS]}
    pruned = run({**every, "tokenizers": [tokenizer | {"min_word_count": least}], "output": str(tmp_path / "1")})
    (counts,) = words_of(texts)
    kept = {word: count for word, count in counts.items() if count >= least}
    figures = figures_of(pruned)
    assert figures["distinct_words"] == len(kept)
    assert figures["words"] == sum(kept.values())
    assert figures["pruned_words"] == len(counts) - len(kept)
    assert figures["pruned_occurrences"] == counts.total() - sum(kept.values())
    assert (figures["pruned_words"] > 0) is (least > 1)
    jsonl(tmp_path / "kept/all.jsonl", [word for word, count in kept.items() for _ in range(count)] or [""])
    whole = tokenizer | {"pretokenizer": "none"}
    alone = {"sources": [{"name": "main", "uris": [f"{tmp_path}/kept/*.jsonl"]}], "tokenizers": [whole]}
    twin = run({**every, **alone, "output": str(tmp_path / "2")})
    models = [json.loads((r.out / "tokenizers/tok/tokenizer.json").read_bytes())["model"] for r in (pruned, twin)]
    assert models[0]["merges"] == models[1]["merges"]
    assert models[0]["vocab"] == models[1]["vocab"]
    assert figures["merges"] == figures_of(twin)["merges"]


def test_a_word_is_rare_over_all_sources_whatever_their_weights(run, tmp_path, jsonl):
    a, b = ["aa", "aa", "bb", "cc", "cc"], ["bb", "bb", "cc", "dd", "dd", "dd"]
    jsonl(tmp_path / "two/a.jsonl", a)
    jsonl(tmp_path / "two/b.jsonl", b)
    tokenizer = {"name": "tok", "vocab_size": 300, "pretokenizer": "none", "min_word_count": 3}
    result = run(
        {**weighted(tmp_path / "two", 0.5, 100), "holdout": {"fraction": 0}, "tokenizers": [tokenizer]},
    )
    figures = figures_of(result)
    assert (figures["pruned_words"], figures["pruned_occurrences"]) == (1, 2)  # aa, twice
    assert figures["distinct_words"] == 3
    assert figures["words"] == figures["count_scale"] * (0.5 * 3 + 100 * 6)
    merges = [tuple(pair) for *pair, _ in figures["merges"]]
    assert len(merges) == 3  # of bb, cc and dd


def test_tokenizers_of_one_count_prune_by_themselves(run, tmp_path):
    """Also what is packed stays whole: rare words are only not trained on."""
    tokenizers_ = [
        {"name": f"from-{least}", "vocab_size": 330, "special_tokens": [EOS], "min_word_count": least} for least in (1, 2, 5)
    ]
    packed = {"tokenizers": [t["name"] for t in tokenizers_], "sequence_length": 64, "append": EOS}
    result = run({"tokenizers": tokenizers_, "pack": packed})
    assert len(list((result.out / "_work/count").iterdir())) == 1
    figures = {t["name"]: figures_of(result, t["name"]) for t in tokenizers_}
    whole = figures["from-1"]
    assert (whole["pruned_words"], whole["pruned_occurrences"]) == (0, 0)
    for row in figures.values():
        assert row["distinct_words"] + row["pruned_words"] == whole["distinct_words"]
        assert row["words"] + row["pruned_occurrences"] == whole["words"]
    assert 0 < figures["from-2"]["pruned_words"] < figures["from-5"]["pruned_words"]
    page = (result.out / "report/report.html").read_text()
    for name, row in figures.items():
        cells = [name, *(f"{row[key]:,}" for key in ("distinct_words", "pruned_words", "pruned_occurrences"))]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    texts = [
        Counter(tokenizer_of(result.out, name).decode(part[:-1]) for part in all_parts(result.out, "train", name))
        for name in figures
    ]
    assert texts[0] == texts[1] == texts[2]


# --- filters, normalizers, invalid text -------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 60), (60, None), (50, 50), (61, 90)])
def test_the_length_filter_counts_bytes_and_keeps_both_ends(run, texts, low, high):
    result = run({"filters": [{"name": "length", "min_bytes": low, "max_bytes": high}], "pack": None})
    kept = sum(low <= len(t.encode()) <= (high or 10**9) for t in texts)
    row = result.accounting["sources"]["main"]
    assert sum(result.accounting["kept"].values()) == kept
    assert row["dropped"] == ({"filter:length": 200 - kept} if kept < 200 else {})


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        ("none", "E\u0301cole \ufb01N"),
        ("nfc", "\u00c9cole \ufb01N"),
        ("nfkc", "\u00c9cole fiN"),
        ("lowercase", "e\u0301cole \ufb01n"),
    ],
)
def test_normalizers_from_end_to_end(run, tmp_path, jsonl, normalizer, expected):
    folder = tmp_path / "plain"
    jsonl(folder / "a.jsonl", ["E\u0301cole \ufb01N"] * 20)
    result = run(
        {
            "sources": [{"name": "main", "uris": [f"{folder}/*.jsonl"], "id_column": "id"}],
            "tokenizers": [{"name": "tok", "vocab_size": 330, "normalizer": normalizer, "special_tokens": [EOS]}],
            "holdout": {"fraction": 0},
            "pack": {"sequence_length": 400},
        }
    )
    tokenizer = tokenizer_of(result.out)
    parts = all_parts(result.out, "train")
    assert {tokenizer.decode(part[:-1]) for part in parts} == {expected}
    outside = tokenizers.Tokenizer.from_file(str(result.out / "tokenizers/tok/tokenizer.json"))
    assert outside.encode("E\u0301cole \ufb01N").ids == parts[0][:-1]


def test_errors_of_a_source_go_before_those_of_the_job(run, corpus):
    (corpus / "c.jsonl").write_bytes(b'{"text": "\xff", "id": "bad"}\n')
    with pytest.raises(DataError, match=rf"{corpus}/c\.jsonl: document bad: invalid UTF-8 at byte 0 of its text"):
        run({"output": f"{corpus.parent}/o1"})
    sources = [{"name": "main", "uris": [f"{corpus}/*.jsonl"], "id_column": "id", "errors": "replace"}]
    result = run({"sources": sources})
    assert result.accounting["sources"]["main"]["dropped"] == {}
    assert result.accounting["sources"]["main"]["documents"] == 201


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.fixture
def word_piece(tmp_path, texts):
    """A tokenizer.json that our kernels cannot run."""
    outside = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    outside.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    outside.train_from_iterator(texts, tokenizers.trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"]))
    path = tmp_path / "word-piece.json"
    outside.save(str(path))
    return path


def test_a_long_path_to_compare_with_leaves_room_for_the_bars(run, word_piece, tmp_path):
    """Matplotlib would warn, which is an error here, and draw nothing."""
    folder = tmp_path.joinpath(*["a" * 40 + str(n) for n in range(5)])
    folder.mkdir(parents=True)
    shutil.copy(word_piece, folder / "tokenizer.json")
    page = (run({"evaluate": {"compare": [str(folder)]}}).out / "report/report.html").read_text()
    assert f"<td>{folder}</td>" in page
    plot = page[page.index("<svg") : page.index("</svg>")]
    assert ">…" in plot
    assert f"{folder}"[-39:] in plot
    assert str(folder) not in plot


def test_other_tokenizers_are_measured_on_the_same_documents(run, word_piece, texts):
    result = run({"evaluate": {"compare": [str(word_piece)]}, "pack": {"sequence_length": 400}})
    report = json.loads((result.out / "report" / "report.json").read_bytes())["evaluation"]
    assert list(report) == ["tok", str(word_piece)]
    tokenizer = tokenizer_of(result.out)
    held = [tokenizer.decode(part[:-1]) for part in all_parts(result.out, "holdout")]
    assert len(held) == result.accounting["kept"]["holdout"] > 0
    outside = tokenizers.Tokenizer.from_file(str(word_piece))
    for name, encode in (("tok", tokenizer.encode), (str(word_piece), lambda text: outside.encode(text).ids)):
        row = report[name]["main"]
        assert row == report[name]["all sources"]
        assert row["documents"] == len(held)
        assert row["text_bytes"] == sum(len(text.encode()) for text in held)
        assert row["chars"] == sum(map(len, held))
        assert row["words"] == sum(len(text.split()) for text in held)
        ids = [token for text in held for token in encode(text)]
        assert row["tokens"] == len(ids)
        assert row["vocab_used_fraction"] == pytest.approx(len(set(ids)) / row["vocab_size"], abs=1e-6)
        assert row["bytes_per_token"] == pytest.approx(row["text_bytes"] / row["tokens"], abs=1e-6)


@pytest.mark.parametrize(
    ("tokenizer_names", "source_names"),
    [(("a", "a-b"), ("b-c", "c")), (("compare-0", "x"), ("main", "other"))],
    ids=["joined by hyphens", "called compare-0"],
)
def test_names_that_look_alike_when_joined_are_measured_apart(run, corpus, word_piece, tokenizer_names, source_names):
    changes = {
        "sources": [
            {"name": name, "uris": [f"{corpus}/{file}.jsonl"], "id_column": "id"}
            for name, file in zip(source_names, "ab", strict=True)
        ],
        "tokenizers": [{"name": name, "vocab_size": size} for name, size in zip(tokenizer_names, (300, 350), strict=True)],
        "evaluate": {"compare": [str(word_piece)]},
        "holdout": {"fraction": 0.3},
        "pack": None,
    }
    result = run(changes)
    report = json.loads((result.out / "report" / "report.json").read_bytes())["evaluation"]
    rows = result.accounting["sources"]
    assert list(report) == [*tokenizer_names, str(word_piece)]
    for name in report:
        assert list(report[name]) == [*source_names, "all sources"]
        for source in source_names:
            assert report[name][source]["documents"] == rows[source]["holdout"]
    assert [report[name]["all sources"]["vocab_size"] for name in tokenizer_names] == [300, 350]


# --- storage ----------------------------------------------------------------------------------------------------------


def test_inputs_and_output_behind_uris(run, fields, lay_over, corpus, hashes, tmp_path):
    first = run()
    memory = fsspec.filesystem("memory")
    memory.put(str(corpus), "/test-run/corpus", recursive=True)
    try:
        sources = [{"name": "main", "uris": ["memory://test-run/corpus/*.jsonl"], "id_column": "id"}]
        spec = parse_spec(lay_over(fields, {"sources": sources, "output": "memory://test-run/out"}))
        outcome = run_job(spec, Progress())
        assert outcome.manifest["accounting"] == first.accounting
        assert verify("memory://test-run/out", lambda path: None) == len(first.manifest["artifacts"])
        assert run_job(spec, Progress()).was_finished
        memory.get("/test-run/out", str(tmp_path / "copy"), recursive=True)
        assert hashes(tmp_path / "copy") == hashes(first.out)
    finally:
        memory.rm("/test-run", recursive=True)


def test_a_file_uri_as_output(run, fields, lay_over, tmp_path, hashes):
    first = run()
    spec = parse_spec(lay_over(fields, {"output": f"file://{tmp_path}/other"}))
    run_job(spec, Progress())
    assert hashes(tmp_path / "other") == hashes(first.out)


_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
from pipeline.jobs.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(["run", sys.argv[1], *sys.argv[3:]]))
"""


@pytest.mark.parametrize("limit", [100, 1_500, 6_000, 14_000])
def test_a_full_disk_stops_with_a_word_and_the_next_run_completes(run, spec_file, tmp_path, hashes, limit):
    """The limit on the size of a file stands for the full disk: files are left unfinished in the same way."""
    undisturbed = run({"output": str(tmp_path / "undisturbed")})
    result = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(spec_file), str(limit)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "error: " in result.stderr
    assert "cannot write: the file is larger than this system allows" in result.stderr
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert not list(tmp_path.rglob("*.tmp"))
    again = run()
    assert hashes(again.out) == hashes(undisturbed.out)
    assert again.accounting == undisturbed.accounting


def test_storage_trouble_is_retried_as_often_as_the_spec_says(spec_file, tmp_path):
    command = [sys.executable, "-c", _LIMITED, str(spec_file), "6000", "--set", "execution.retries=2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 1
    assert result.stderr.count("; trying again") == 2
    last = result.stderr.splitlines()[-1]
    assert re.match(rf"error: \w+ tok.* failed after 3 attempts: {tmp_path}/out/.*: cannot write: ", last)


def test_bad_data_is_not_retried(spec_file, corpus, tokenmill):
    (corpus / "a.jsonl").write_text("{")
    result = tokenmill("run", spec_file, "--set", "execution.retries=2")
    assert result.returncode == 1
    where = f"in task count 00000, which reads {corpus}/a.jsonl and 1 more; to run it alone: "
    command = rf"\S*tokenmill run {spec_file} --set execution\.retries=2 --only count/00000"
    wanted = re.escape(f"error: {corpus}/a.jsonl: the line at byte 0: not JSON: {JSON_END}; {where}") + command
    assert re.fullmatch(wanted + "\n", result.stderr)


@pytest.mark.parametrize("lost", ["_work/encode/tok/train", "_work/count"])
def test_a_resume_makes_again_what_is_lost(run, hashes, lost):
    """The receipts are there, and what they stand for is not."""
    first = run()
    before = hashes(first.out)
    (first.out / "_SUCCESS").unlink()
    (first.out / "_work/receipts/pack/tok/train/00000.json").unlink()
    shutil.rmtree(first.out / "_work/receipts/merge")
    shutil.rmtree(first.out / lost)
    assert run().accounting == first.accounting
    assert hashes(first.out) == before


@pytest.mark.parametrize(
    "lost", ["tokenizers/tok/tokenizer.json", "tokenizers/tok/training.json", "packed/tok/train/data-00000-of-00001.arrow"]
)
@pytest.mark.parametrize("how", ["gone", "cut off"])
def test_a_run_does_not_succeed_over_an_artifact_that_is_lost(run, lost, how):
    """The receipts are there, and the artifact is not: stop, or make it again, but do not close the run."""
    first = run()
    (first.out / "_SUCCESS").unlink()
    content = (first.out / lost).read_bytes()
    (first.out / lost).unlink()
    if how == "cut off":
        (first.out / lost).write_bytes(content[:-5])
    with contextlib.suppress(ArtifactError):
        run()
    left = (first.out / lost).read_bytes() if (first.out / lost).exists() else None
    assert left == content or not (first.out / "_SUCCESS").exists()


def flip(path: Path, at: float = 0.5, *, like_rot: bool = False) -> None:
    """Change one byte, at this part of the file; ``like_rot``: without a trace in the file's times."""
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 0x20
    path.write_bytes(content)
    if like_rot:
        os.utime(path, ns=times)


STEP_OF = {"count": "count", "holdout": "count", "words": "merge", "evaluate": "evaluate", "encode": "encode"}


@pytest.mark.parametrize("at", [0, 0.3, 0.6, 0.999])
def test_a_resume_finds_a_changed_byte_in_any_receipt_or_output(run, hashes, at):
    first = run()
    wanted = hashes(first.out)
    files = [path for path in sorted(first.out.rglob("*")) if path.is_file()]
    damaged = [p for p in files if {"receipts", "packed", "tokenizers", *STEP_OF} & set(p.relative_to(first.out).parts)]
    damaged = [p for p in damaged if p.suffix in (".arrow", ".index") or p.name in ("tokenizer.json", "training.json")] + [
        p for p in damaged if "receipts" in p.parts
    ]
    assert len(damaged) == 20
    for path in damaged:
        (first.out / "_SUCCESS").unlink()
        flip(path, at)
        again = run()
        assert again.accounting == first.accounting, path
        assert hashes(first.out) == wanted, path


@pytest.mark.parametrize("at", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", STEP_OF)
def test_rotten_work_goes_into_no_result(run, hashes, kind, at):
    first = run()
    wanted = hashes(first.out)
    (first.out / "_SUCCESS").unlink()
    for step in PLAIN_STEPS[PLAIN_STEPS.index(STEP_OF[kind]) + 1 :]:
        shutil.rmtree(first.out / "_work/receipts" / step)
    for path in (first.out / "_work" / kind).rglob("*.arrow"):
        flip(path, at, like_rot=True)
    with pytest.raises(ArtifactError, match=rf"/_work/{kind}/\S+: .*damaged.*run the same command again: {STEP_OF[kind]} "):
        run()
    for _ in range(20):
        with contextlib.suppress(ArtifactError):  # each run finds one file
            again = run()
            break
    assert again.accounting == first.accounting
    assert hashes(first.out) == wanted


def test_a_rotten_tokenizer_is_trained_again(run, hashes):
    first = run()
    wanted = hashes(first.out)
    (first.out / "_SUCCESS").unlink()
    for step in ("evaluate", "encode", "pack"):
        shutil.rmtree(first.out / "_work/receipts" / step)
    flip(first.out / "tokenizers/tok/tokenizer.json", like_rot=True)
    steps._cached_tokenizer.cache_clear()
    with pytest.raises(
        ArtifactError, match=r"tokenizer.json: .*damaged; run the same command again: train tok is done anew"
    ):
        run()
    assert run().accounting == first.accounting
    assert hashes(first.out) == wanted


def test_a_receipt_in_the_place_of_another_is_not_believed(run, hashes):
    first = run({"execution": {"shard_bytes": 2_000}})
    wanted = hashes(first.out)
    (first.out / "_SUCCESS").unlink()
    receipts = first.out / "_work/receipts/count"
    shutil.copy(receipts / "00001.json", receipts / "00000.json")
    assert run({"execution": {"shard_bytes": 2_000}}).accounting == first.accounting
    assert hashes(first.out) == wanted


class Replacing(LocalRunner):
    """Replaces a file before the tasks of a step."""

    def __init__(self, step: str, path: Path, content: bytes) -> None:
        super().__init__(max_in_flight=1, max_retries=0)
        self._at = step, path, content

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        step, path, content = self._at
        if tasks and tasks[0].step == step:
            path.write_bytes(content)
        return super().run(job, tasks)


def test_a_tokenizer_to_compare_with_that_is_replaced_meanwhile(run, fields, lay_over, tmp_path):
    other = tmp_path / "other.json"
    shutil.copy(run().out / "tokenizers/tok/tokenizer.json", other)
    spec = parse_spec(lay_over(fields, {"output": str(tmp_path / "second"), "evaluate": {"compare": [str(other)]}}))
    runner = Replacing("evaluate", other, other.read_bytes().replace(b"tok", b"kot"))
    with pytest.raises(DataError, match=rf"{other}: has changed since the plan was made"):
        run_job(spec, Progress(io.StringIO()), runner)


def test_a_driver_that_was_replaced_does_not_close_the_run(run, fields, tmp_path):
    spec = parse_spec(fields)
    lease_file = Path(spec.output) / "_work/driver/000002.json"
    runner = Replacing("pack", lease_file, b"{}")
    with pytest.raises(OutputInUse, match="another driver has taken over"):
        run_job(spec, Progress(io.StringIO()), runner)
    assert not (Path(spec.output) / "_SUCCESS").exists()
    assert not (Path(spec.output) / "manifest.json").exists()


def test_a_finished_run_finds_a_changed_byte(run, hashes):
    first = run()
    wanted = hashes(first.out)
    for path in [*sorted((first.out / "packed").rglob("data-*.arrow")), first.out / "tokenizers/tok/tokenizer.json"]:
        flip(path)
        assert not run().outcome.was_finished
        assert hashes(first.out) == wanted
        assert run().outcome.was_finished


@pytest.mark.parametrize("token", ["th", "he", "<|e|>", "日本語", " "])
def test_special_tokens_are_never_made_of_text(run, texts, token):
    kinds = [{"name": "tok", "vocab_size": 330, "special_tokens": [EOS, token]}]
    result = run({"tokenizers": kinds, "holdout": {"fraction": 0}, "pack": {"sequence_length": 400, "append": EOS}})
    tokenizer = tokenizer_of(result.out)
    assert tokenizer.vocab_size == 330
    parts = all_parts(result.out, "train")
    end = tokenizer.id_of(EOS)
    assert all(part[-1] == end and end not in part[:-1] for part in parts)
    assert Counter(tokenizer.decode(part[:-1]) for part in parts) == Counter(texts)


@pytest.mark.parametrize("token", ["a", "Ġ", "Ġt", "é"])
def test_a_special_token_that_text_can_spell_stands_for_that_text(run, texts, token):
    """As in `tokenizers`, byte and special share an id; the text comes back all the same."""
    kinds = [{"name": "tok", "vocab_size": 330, "special_tokens": [EOS, token]}]
    result = run({"tokenizers": kinds, "holdout": {"fraction": 0}, "pack": {"sequence_length": 400, "append": EOS}})
    tokenizer = tokenizer_of(result.out)
    assert Counter(tokenizer.decode(part[:-1]) for part in all_parts(result.out, "train")) == Counter(texts)


def test_an_output_where_nothing_can_be_made(run):
    with pytest.raises((StorageError, TaskFailed), match=r"/proc/tokenmill/out.*cannot write"):
        run({"output": "/proc/tokenmill/out"})


def test_an_output_below_a_file(run, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises((StorageError, TaskFailed), match=rf"{tmp_path}/file/out/.*: cannot write"):
        run({"output": str(tmp_path / "file" / "out")})


class _MeddlingRunner(LocalRunner):
    """Changes an input after the count step, as a careless colleague would."""

    def __init__(self, path, change):
        super().__init__(max_in_flight=1, max_retries=0)
        self._path, self._change = path, change

    def run(self, job, tasks):
        if tasks and tasks[0].step == "encode":
            self._path.write_bytes(self._change(self._path.read_bytes()))
        return super().run(job, tasks)


def test_an_input_that_changes_during_the_run_is_refused(tmp_path):
    """The same documents in number, other words: the tokenizer would be of one text and the shards of another."""
    path = tmp_path / "corpus.txt"
    path.write_text("alpha beta\n" * 500)
    spec = parse_spec(
        {
            "name": "x",
            "output": str(tmp_path / "out"),
            "sources": [{"name": "main", "uris": [str(path)], "documents": "line"}],
            "tokenizers": [{"name": "tok", "vocab_size": 260}],
            "pack": {"tokenizers": ["tok"]},
            "execution": {"address": "local"},
        }
    )
    runner = _MeddlingRunner(path, lambda content: content.replace(b"alpha", b"omega"))
    with pytest.raises(DataError, match=rf"{path}: has changed since the plan was made"):
        run_job(spec, Progress(io.StringIO()), runner)
    assert not (tmp_path / "out/_SUCCESS").exists()


@pytest.mark.parametrize(("encoder", "cut"), [("merge", ["a", "bc"]), ("greedy", ["ab", "c"]), ("fewest", ["ab", "c"])])
def test_the_encoder_of_the_spec_packs_the_documents(tmp_path, encoder, cut):
    """The tokens bc and ab, in this order, and a word that they share."""
    (tmp_path / "corpus.txt").write_text("".join(f"bc-bc-bc-ab-ab-abc-{i}\n" for i in range(300)))
    spec = parse_spec(
        {
            "name": "x",
            "output": str(tmp_path / "out"),
            "sources": [{"name": "main", "uris": [str(tmp_path / "corpus.txt")], "documents": "line"}],
            "tokenizers": [{"name": "tok", "vocab_size": 258, "pretokenizer": "gpt2", "encoder": encoder}],
            "pack": {"tokenizers": ["tok"], "sequence_length": 64},
            "execution": {"address": "local"},
        }
    )
    run_job(spec, Progress(io.StringIO()))
    tokenizer = dataclasses.replace(tokenizer_of(tmp_path / "out"), encoder=encoder)
    assert tokenizer.encode("abc") == [tokenizer.id_of(token) for token in cut]
    for part in all_parts(tmp_path / "out", "train"):
        assert part == tokenizer.encode(tokenizer.decode(part))


@pytest.mark.parametrize("max_in_flight", [1, 4])
def test_threads_do_not_change_a_byte(run, hashes, monkeypatch, max_in_flight):
    """Beside a run of as many tasks as the machine has CPUs; here it has four."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    execution = {"shard_bytes": 2_000}
    usual = run({"execution": execution})
    other = run({"output": f"{usual.out}-{max_in_flight}", "execution": {**execution, "max_in_flight": max_in_flight}})
    assert hashes(other.out) == hashes(usual.out)
    assert other.accounting == usual.accounting


def test_a_finished_run_that_lost_an_artifact_makes_it_again(run, hashes):
    first = run()
    before = hashes(first.out)
    shutil.rmtree(first.out / "packed")
    assert run().accounting == first.accounting
    assert hashes(first.out) == before


def test_a_manifest_that_is_not_that_of_success_is_closed_again(run, hashes):
    """Two runs that end at once may leave the manifest of one and the _SUCCESS of the other."""
    first = run()
    before = hashes(first.out)
    (first.out / "_SUCCESS").write_text("0" * 64 + "\n")
    assert run().accounting == first.accounting
    assert hashes(first.out) == before
    assert verify(str(first.out), lambda path: None) > 0


def test_a_project_may_move_between_plan_and_run(tmp_path, monkeypatch):
    spec = parse_spec(
        {
            "name": "x",
            "output": "out",
            "sources": [{"name": "main", "uris": ["corpus/*.txt"], "documents": "line"}],
            "tokenizers": [{"name": "tok", "vocab_size": 260}],
            "execution": {"address": "local"},
        }
    )
    (tmp_path / "here/corpus").mkdir(parents=True)
    (tmp_path / "here/corpus/a.txt").write_text("alpha beta\n" * 500)
    monkeypatch.chdir(tmp_path / "here")
    settle_plan(spec)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    assert run_job(spec, Progress(io.StringIO())).manifest["accounting"]["kept"]["train"] > 0


def test_bytes_without_an_id_are_counted(tmp_path):
    """With the alphabet of what training saw, a held-out byte may have no id; as in `tokenizers` it is left out."""
    (tmp_path / "corpus.txt").write_text("".join(f"abab{chr(0x4E00 + i)}\n" for i in range(300)))
    spec = parse_spec(
        {
            "name": "x",
            "output": str(tmp_path / "out"),
            "sources": [{"name": "main", "uris": [str(tmp_path / "corpus.txt")], "documents": "line"}],
            "tokenizers": [{"name": "tok", "vocab_size": 200, "initial_alphabet": "seen"}],
            "holdout": {"fraction": 0.97},
            "pack": {"tokenizers": ["tok"]},
            "execution": {"address": "local"},
        }
    )
    packed = run_job(spec, Progress(io.StringIO())).manifest["accounting"]["packed"]["tok"]
    assert packed["train"]["unknown_bytes"] == 0
    assert packed["holdout"]["unknown_bytes"] > 0

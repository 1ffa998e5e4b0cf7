"""Jobs with tokenizers of two stages: against the naive twin, the same bytes, and what goes wrong."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from pipeline.errors import DataError, SpecError
from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.pretokenizer import LINES, PARAGRAPHS, RECIPES
from pipeline.tokenizer import Tokenizer
from tests import reference
from tests.corpus import documents, published, write_jsonl

TEXTS = [f"{text}the mill by the water grinds {number} of them" for number, text in enumerate(documents(120))]
ALPHABET = sorted(reference.CHAR_OF_BYTE.values())


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "text/a.jsonl", TEXTS[:70])
    write_jsonl(tmp_path / "text/b.jsonl", TEXTS[70:], 70)
    return tmp_path / "text"


def run(corpus: Path, output: Path, *some: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Train some tokenizers of two stages; returns the report."""
    common = {"kind": "superbpe", "vocab_size": 500}
    root = {
        "name": "test",
        "output": str(output),
        "sources": [{"name": "all", "uris": [f"{corpus}/*.jsonl"], "id_column": "id"}],
        "holdout": {"fraction": 0},
        "tokenizers": [common | {"name": f"t{number}"} | one for number, one in enumerate(some)],
        "execution": {"address": "local", **fields.pop("execution", {})},
    }
    run_job(parse_spec(root | fields), Progress(io.StringIO()))
    report: dict[str, Any] = json.loads((output / "report/report.json").read_text())
    return report


def model(output: Path, name: str = "t0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / f"tokenizers/{name}/tokenizer.json").read_text())["model"]
    return found


def merges(output: Path, name: str = "t0") -> list[tuple[str, str]]:
    return [(a, b) for a, b in model(output, name)["merges"]]


def split_all(texts: list[str], patterns: tuple[str, ...]) -> dict[bytes, int]:
    return reference.count_words(piece.encode() for text in texts for piece in reference.split(text, patterns))


def two_stages(texts: list[str], sample: list[str], num_first: int, vocab_size: int, **vetoes: Any) -> list[tuple[str, str]]:
    """The merges of the recommended recipe, naively."""
    words, units = RECIPES["recommended"]
    vocab, first, _ = reference.train_bpe(split_all(texts, words), num_first)
    ranks = {(vocab[a], vocab[b]): (rank, vocab[a + b]) for rank, (a, b) in enumerate(first)}
    sequences: dict[tuple[int, ...], int] = {}
    for unit, count in split_all(sample, (PARAGRAPHS, *units)).items():
        ids = tuple(reference.encode([vocab[char] for char in reference.spell(unit)], ranks))
        sequences[ids] = sequences.get(ids, 0) + count
    return first + reference.train_sequences(sequences, list(vocab), vocab_size, **vetoes)[1]


def test_as_the_naive_twin(corpus: Path, tmp_path: Path) -> None:
    report = run(corpus, tmp_path / "out", {"transition": 0.8, "vocab_size": 420}, {"transition": 300, "max_words": 2})
    assert merges(tmp_path / "out") == two_stages(TEXTS, TEXTS, 336, 420, max_words=4, forbidden=(":Ġ",))
    assert merges(tmp_path / "out", "t1") == two_stages(TEXTS, TEXTS, 300, 500, max_words=2, forbidden=(":Ġ",))
    assert report["superwords"]["t0"]["first_stage_tokens"] == 336
    assert report["tokenizers"]["t1"]["first_stage_merges"] == 300 - 256


def test_as_the_original(corpus: Path, tmp_path: Path) -> None:
    run(
        corpus,
        tmp_path / "out",
        {"recipe": "paper", "compat": "reference", "initial_alphabet": "seen", "transition": 150, "vocab_size": 400},
    )
    words, units = RECIPES["paper"]
    _, first, _ = reference.train_bpe(split_all(TEXTS, (LINES, *words)), 400, alphabet="seen")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in first)]
    vocab, expected = reference.extend_merges(split_all(TEXTS, (LINES, *units)), lines, 150, 400)
    assert merges(tmp_path / "out") == expected
    assert model(tmp_path / "out")["vocab"] == vocab


def test_a_sweep_shares_its_first_stage_and_ends_in_plain_bpe(corpus: Path, tmp_path: Path) -> None:
    plain = {"kind": "bpe", "pretokenizer": {"regex": RECIPES["recommended"][0][0]}}
    sweep = {"name": "s", "transitions": [0.65, 0.8, 1.0], "vocab_size": 480}
    report = run(corpus, tmp_path / "out", plain | {"vocab_size": 480}, sweep, holdout={"fraction": 0.2})
    assert len(list((tmp_path / "out/_work/subwords").iterdir())) == 1
    found = {share: merges(tmp_path / "out", f"s-t{share}") for share in (65, 80, 100)}
    assert found[100] == merges(tmp_path / "out")
    assert found[65][:56] == found[80][:56] == found[100][:56]
    assert found[80][:128] == found[100][:128]
    assert found[65] != found[80] != found[100]
    rows = report["superwords"]
    assert [rows[f"s-t{share}"]["sweep"] for share in (65, 80, 100)] == ["s"] * 3
    assert rows["s-t100"]["tokens_saved"]["t0"] == {"all": 0.0, "all sources": 0.0}
    assert rows["s-t65"]["tokens_saved"]["t0"]["all"] > 0
    assert rows["s-t65"]["share_of_tokens"] > 0 == rows["s-t100"]["share_of_tokens"] == rows["s-t100"]["superwords"]
    for row in rows.values():
        assert row["longest"] == sorted(row["longest"], key=lambda text: -len(text.encode()))
    page = (tmp_path / "out/report/report.html").read_text()
    assert "transition, as a share of the vocabulary" in page


def test_a_sample_of_documents_chosen_by_their_ids(corpus: Path, tmp_path: Path) -> None:
    one = {"transition": 300, "vocab_size": 350, "sample_bytes": sum(len(text.encode()) for text in TEXTS) // 3}
    report = run(corpus, tmp_path / "out", one)
    receipts = [json.loads(path.read_text())["receipt"] for path in (tmp_path / "out/_work/receipts/units").iterdir()]
    (name,) = receipts[0]["report"]["units"]
    assert 20 < sum(receipt["report"]["documents"][name] for receipt in receipts) < 60
    assert report["tokenizers"]["t0"]["vocab_size"] == 350
    write_jsonl(tmp_path / "other/z.jsonl", list(reversed(TEXTS)))  # the same ids, other texts
    lines = (tmp_path / "text/a.jsonl").read_text() + (tmp_path / "text/b.jsonl").read_text()
    (tmp_path / "other/z.jsonl").write_text("".join(reversed(lines.splitlines(keepends=True))))
    run(tmp_path / "other", tmp_path / "again", one)
    assert merges(tmp_path / "again") == merges(tmp_path / "out")  # whatever the order and the file


@pytest.mark.parametrize("stage", ["superwords", "word_runs", "random_chunks", "random_whitespace"])
def test_the_same_bytes_for_any_shards_and_workers(stage: str, corpus: Path, tmp_path: Path) -> None:
    one = {"stage": stage, "transition": 400, "sample_bytes": 40_000, "special_tokens": ["<|endoftext|>"]}
    one["allow_smaller"] = True
    run(corpus, tmp_path / "one", one)
    run(corpus, tmp_path / "many", one, execution={"shard_bytes": 4_000, "train_workers": 3, "max_in_flight": 2})
    assert published(tmp_path / "many") == published(tmp_path / "one")
    tokenizer = Tokenizer.load(tmp_path / "one/tokenizers/t0")
    outside = tokenizers.Tokenizer.from_file(str(tmp_path / "one/tokenizers/t0/tokenizer.json"))
    assert tokenizer.encode_batch(TEXTS).to_pylist() == [encoding.ids for encoding in outside.encode_batch(TEXTS)]
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in TEXTS)
    assert any("Ġ" in chars.strip("Ġ") for chars in tokenizer.vocab)


def test_a_tokenizer_as_base_gives_what_its_training_would(corpus: Path, tmp_path: Path) -> None:
    plain = {"kind": "bpe", "vocab_size": 400, "pretokenizer": {"regex": RECIPES["recommended"][0][0]}}
    run(corpus, tmp_path / "first", plain)
    run(corpus, tmp_path / "two", {"transition": 400})
    base = tmp_path / "base.json"
    shutil.copy(tmp_path / "first/tokenizers/t0/tokenizer.json", base)
    run(corpus, tmp_path / "out", {"base": str(base)})
    assert model(tmp_path / "out") == model(tmp_path / "two")
    assert not (tmp_path / "out/_work/subwords").exists()
    base.write_text(base.read_text().replace("\n", " "))
    with pytest.raises(SpecError, match="a tokenizer that is the base of another has changed since the plan was made"):
        run(corpus, tmp_path / "out", {"base": str(base)})


def test_a_base_that_is_not_byte_level(corpus: Path, tmp_path: Path) -> None:
    outside = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    outside.save(str(tmp_path / "chars.json"))
    with pytest.raises(
        SpecError, match=r"^tokenizer 't0': base is '.*', which is no byte-level BPE tokenizer that is run exactly here: its"
    ):
        run(corpus, tmp_path / "out", {"base": str(tmp_path / "chars.json")})
    assert not (tmp_path / "out").exists()


def test_a_base_with_added_tokens(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "first", {"kind": "bpe"})
    outside = tokenizers.Tokenizer.from_file(str(tmp_path / "first/tokenizers/t0/tokenizer.json"))
    outside.add_tokens(["New York"])
    outside.save(str(tmp_path / "added.json"))
    with pytest.raises(SpecError, match="which cuts 1 added tokens such as 'New York' out of the text; only kind"):
        run(corpus, tmp_path / "out", {"base": str(tmp_path / "added.json"), "vocab_size": 600})


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ({"vocab_size": 430, "base": "BASE"}, r"tokenizer 't0': vocab_size is 430; the base has \d+ tokens already"),
        ({"vocab_size": 600, "base": "BASE", "normalizer": "nfc"}, r"normalizer is .nfc.; that of the base is .none."),
        ({"vocab_size": 600, "base": "BASE", "special_tokens": ["<x>"]}, r"special_tokens holds '<x>', which is no special"),
    ],
)
def test_a_base_that_does_not_fit(one: dict[str, Any], message: str, corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "first", {"kind": "bpe"})
    base = str(tmp_path / "first/tokenizers/t0/tokenizer.json")
    with pytest.raises(SpecError, match=message):
        run(corpus, tmp_path / "out", {key: base if value == "BASE" else value for key, value in one.items()})


def test_vetoes_that_leave_nothing_to_merge(corpus: Path, tmp_path: Path) -> None:
    one = {"transition": 400, "vocab_size": 5000, "max_words": 1, "forbidden": ["e", "a", "o", "i", "u", "."]}
    with pytest.raises(DataError, match=r"^tokenizer 't0': nothing is left to merge at \d+ tokens, and vocab_size is 5000"):
        run(corpus, tmp_path / "out", one)
    report = run(corpus, tmp_path / "smaller", one | {"allow_smaller": True})
    assert 400 <= report["tokenizers"]["t0"]["vocab_size"] < 5000


def test_a_first_stage_without_enough_merges(corpus: Path, tmp_path: Path) -> None:
    one = {"transition": 40_000, "vocab_size": 50_000}
    with pytest.raises(DataError, match=r"^tokenizer 't0': transition is 40000, but the words have no merges for the "):
        run(corpus, tmp_path / "out", one)
    report = run(corpus, tmp_path / "smaller", one | {"allow_smaller": True})
    assert report["tokenizers"]["t0"]["vocab_size"] < 40_000


def test_an_alphabet_larger_than_the_transition(corpus: Path, tmp_path: Path) -> None:
    one = {"transition": 20, "initial_alphabet": "seen"}
    with pytest.raises(DataError, match=r"^tokenizer 't0': transition is 20, 20 tokens; special tokens and bytes alone"):
        run(corpus, tmp_path / "out", one)


def test_more_merges_inherited_than_there_is_room_for(corpus: Path, tmp_path: Path) -> None:
    one = {"compat": "reference", "recipe": "paper", "initial_alphabet": "seen", "transition": 190, "vocab_size": 190}
    with pytest.raises(DataError, match=r"^tokenizer 't0': \d+ tokens are inherited already .* and vocab_size is 190"):
        run(corpus, tmp_path / "out", one)


def test_a_sample_without_a_document(corpus: Path, tmp_path: Path) -> None:
    one = {"transition": 300, "vocab_size": 400, "sample_bytes": 1}
    with pytest.raises(DataError, match=r"^tokenizer 't0': there is no text for the second stage .*sample_bytes is 1\)"):
        run(corpus, tmp_path / "out", one)


def test_the_first_stage_of_one_does_not_depend_on_the_others(corpus: Path, tmp_path: Path) -> None:
    """Text can spell the special token, and a merge that makes it gives no new id: where does the first stage end?"""
    some = [{"transition": share, "vocab_size": 400, "special_tokens": ["the"]} for share in (258, 259, 260, 300, 399)]
    run(corpus, tmp_path / "all", *some)
    for number, one in enumerate(some):
        run(corpus, tmp_path / str(number), one | {"name": f"t{number}"})
        folder = f"tokenizers/t{number}"
        assert published(tmp_path / str(number)).items() <= published(tmp_path / "all").items(), folder

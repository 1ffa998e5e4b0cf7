"""The command infer-mixture: files in, shares out, and what it says to mistakes."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.errors import DataError, SpecError
from pipeline.jobs.cli import main
from pipeline.jobs.mixture import infer
from pipeline.jobs.texts import read_texts
from pipeline.pretokenizer import Pretokenizer
from pipeline.tokenizer import Tokenizer
from tests.stages.test_mixture import language, log_error, sample, trained

SHARES = [0.3, 0.6, 0.1]


def documents(number: int, seed: int) -> list[str]:
    words, chances = language(number)
    generator = np.random.default_rng(seed)
    return [b"".join(generator.choice(words, size=400, p=chances)).decode() for _ in range(60)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three languages in known shares."""
    made = trained([sample(number, seed=number) for number in range(3)], SHARES, 400)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(Tokenizer(made.vocab, made.merges, pretokenizer=Pretokenizer.named("gpt2")).to_json())
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Other text of the languages: two text files, compressed JSON lines, parquet."""
    root = tmp_path_factory.mktemp("texts")
    first = documents(0, 50)
    (root / "a1.txt").write_text("".join(first[:30]))
    (root / "a2.txt").write_text("".join(first[30:]))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in documents(1, 51))
    (root / "b.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    pq.write_table(pa.table({"text": [*documents(2, 52), None]}), root / "c.parquet")
    return [f"first={root}/a*.txt", f"second={root}/b.jsonl.zst", f"third={root}/c.parquet"]


def test_the_shares_of_a_known_mixture(tokenizer: Path, texts: list[str]) -> None:
    found = infer(str(tokenizer), texts, 10_000)
    rows = found["categories"]
    assert [row["category"] for row in rows] == ["first", "second", "third"]
    assert [row["documents"] for row in rows] == [2, 60, 60]
    assert [row["bytes"] for row in rows] == [sum(len(d.encode()) for d in documents(n, 50 + n)) for n in range(3)]
    shares = np.array([row["share"] for row in rows])
    assert log_error(shares, SHARES) < log_error(np.array([row["baseline_share"] for row in rows]), SHARES) - 2
    own = Tokenizer.load(tokenizer)
    for number, row in enumerate(rows):
        ids = own.encode_batch(documents(number, 50 + number) if number else ["".join(documents(0, 50))]).flatten()
        assert row["bytes_per_token"] == pytest.approx(row["bytes"] / len(ids), rel=1e-3)  # files cut a word of text files
    assert (found["merges"], found["merges_used"] + found["merges_absent"]) == (400, 400)
    assert found["dropped"] == {"null": 1}
    assert found["converged"]


def test_the_command(tokenizer: Path, texts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer-mixture", str(tokenizer.parent), "--text", *texts, "--merges", "200", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == infer(str(tokenizer.parent), texts, 200)
    assert found["merges"] == 200
    assert main(["infer-mixture", str(tokenizer.parent), "--text", *texts, "--merges", "200"]) == 0
    out = capsys.readouterr().out
    for row in found["categories"]:
        assert f"{100 * row['share']:.2f} %" in out
        assert f"{100 * row['baseline_share']:.2f} %" in out
    assert f"merges: {found['merges_used']:,} used, {found['merges_absent']:,} in no text · slack: " in out
    assert "documents dropped: 1 null" in out
    assert "not converged" not in out


def test_the_normalizer_comes_before_the_words(tokenizer: Path, texts: list[str], tmp_path: Path) -> None:
    own = Tokenizer.load(tokenizer)
    assert isinstance(own, Tokenizer)
    lower = Tokenizer(own.vocab, own.merges, pretokenizer=own.pretokenizer, normalizer="lowercase")
    (tmp_path / "lower.json").write_text(lower.to_json())
    (tmp_path / "A.txt").write_text("".join(documents(0, 50)).upper())
    (tmp_path / "a.txt").write_text("".join(documents(0, 50)))
    upper, plain = (
        infer(str(tmp_path / "lower.json"), [f"first={tmp_path}/{name}", *texts[1:]], 100) for name in ("A.txt", "a.txt")
    )
    assert upper == {**plain, "categories": upper["categories"]}
    assert [row["share"] for row in upper["categories"]] == [row["share"] for row in plain["categories"]]


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nothing.txt", "b={b}"], r"--text 'nothing.txt': NAME=FILE is expected, .* as in de=german.txt"),
        (["={b}", "b={b}"], "NAME=FILE is expected"),
        (["a=", "b={b}"], "NAME=FILE is expected"),
        (["b={b}", "b={b}"], r"--text names the category 'b' twice; a glob such as b='DIR/\*.txt' names several files"),
        (["b={b}"], "--text names one category; a mixture has two or more"),
        (["a=none.txt", "b={b}"], "none.txt matches no file; name a file, or a glob in quotation marks"),
        (["a={csv}", "b={b}"], r"a.csv: its ending tells no format; .jsonl, .parquet, .arrow, .fasta and .txt do"),
        (["a={empty}", "b={b}"], r"--text a=.*empty.txt: there is no text \(dropped: 1 empty\); give some"),
        (["a={latin}", "b={b}"], r"--text a=.*latin.txt: there is no text \(dropped: 1 invalid_utf8\)"),
        (["a={digits}", "b={digits}"], r"none of the first 400 merges of .*tokenizer.json is in any of the texts"),
    ],
)
def test_wrong_texts(tokenizer: Path, tmp_path: Path, given: list[str], message: str) -> None:
    files = {"b": "b.txt", "csv": "a.csv", "empty": "empty.txt", "latin": "latin.txt", "digits": "digits.txt"}
    paths = {name: str(tmp_path / file) for name, file in files.items()}
    for name, content in {"b": b"bread", "csv": b"a", "empty": b"", "latin": b"\xe9t\xe9", "digits": b"1 2 3"}.items():
        Path(paths[name]).write_bytes(content)
    with pytest.raises(SpecError, match=message):
        infer(str(tokenizer), [text.format(**paths) for text in given], 3_000)


def test_a_damaged_file(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"a\.parquet"):
        infer(str(tokenizer), [f"a={tmp_path}/a.parquet", f"b={tmp_path}/a.parquet"], 3_000)


@pytest.mark.parametrize("merges", [0, -3])
def test_no_merges_are_asked_for(tokenizer: Path, texts: list[str], merges: int) -> None:
    with pytest.raises(SpecError, match=f"--merges is {merges}; at least 1 is needed"):
        infer(str(tokenizer), texts, merges)


def word_piece() -> str:
    import tokenizers

    return tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")).to_str()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (word_piece, r"t.json: its model is WordPiece, not BPE; infer-mixture replays merges over bytes, so it takes"),
        (lambda: Tokenizer({"a": 0}, ()).to_json(), r"t.json: it has no merges, which are what tells of its training text"),
        (lambda: "{}", r"t.json: not a tokenizer.json"),
    ],
)
def test_other_tokenizers(tmp_path: Path, texts: list[str], content: Any, message: str) -> None:
    (tmp_path / "t.json").write_text(content())
    with pytest.raises(SpecError, match=message):
        infer(str(tmp_path / "t.json"), texts, 3_000)


def test_a_tokenizer_of_morphemes(tmp_path: Path, texts: list[str]) -> None:
    from tests.test_morph import full

    (tmp_path / "morph.json").write_text(full().to_json())
    with pytest.raises(SpecError, match=r"morph.json: it was not learned by merging the most frequent pair"):
        infer(str(tmp_path / "morph.json"), texts, 3_000)


def test_without_scipy(tokenizer: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "scipy" else find(name))
    with pytest.raises(SpecError, match=r"infer-mixture needs scipy.*: pip install 'tokenmill\[mixture\]'"):
        infer(str(tokenizer), texts, 3_000)


def test_rounds_that_are_too_few_are_told(
    tokenizer: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.jobs import mixture

    monkeypatch.setattr(mixture, "MOST_ROUNDS", 1)
    assert main(["infer-mixture", str(tokenizer), "--text", *texts]) == 0
    assert "not converged: the shares are those of the last round; give fewer merges" in capsys.readouterr().out


# --- texts ------------------------------------------------------------------------------------------------------------


def test_texts_of_every_format(tmp_path: Path) -> None:
    rows = pa.table({"text": ["one", "two", ""], "other": [1, 2, 3]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    pq.write_table(rows, tmp_path / "b.parquet")
    (tmp_path / "c.jsonl").write_text('{"text": "three"}\n')
    (tmp_path / "d.txt").write_bytes(b"four\nlines")
    dropped: Counter[str] = Counter()
    found = [text for batch in read_texts(f"{tmp_path}/*", dropped) for text in batch.to_pylist()]
    assert found == ["one", "two", "one", "two", "three", "four\nlines"]
    assert dropped == {"empty": 2}

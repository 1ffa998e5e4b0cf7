"""FASTA: records as the naive reader finds them, whatever the cut, the block and the line breaks; letters; messages."""

from __future__ import annotations

import gzip
import io
import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.schema import DOCUMENTS
from pipeline.stages import blocks
from pipeline.stages.shard import FileRange, ReadOptions
from pipeline.stages.source import read_documents
from tests import reference

Documents = list[tuple[str, str]]

ALLOWED = {"dna": "ACGTN", "iupac": "ACGTURYSWKMBDHVN-", "protein": "ACDEFGHIKLMNPQRSTVWYBXZJUO*-"}


def read(content: bytes, name: str = "a.fa", **options: Any) -> tuple[Documents, dict[str, int]]:
    """All documents of a file in memory, and what was dropped."""
    start, stop = options.pop("range", (None, None))
    part = FileRange(uri=f"/corpus/{name}", name=name, num_bytes=len(content), start=start, stop=stop)
    dropped: Counter[str] = Counter()
    documents: Documents = []
    for batch in read_documents(io.BytesIO(content), part, ReadOptions(format="fasta", **options), dropped):
        assert batch.schema == DOCUMENTS
        batch.validate(full=True)
        documents += zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)
    return documents, dict(dropped)


def naively(content: bytes, letters: str = "any", case: str = "keep", errors: str = "skip", names: bool = False) -> Any:
    """What ``read`` gives, one letter at a time."""
    documents: Documents = []
    dropped: Counter[str] = Counter()
    for start, header, raw in reference.fasta_records(content):
        sequence = raw.decode().upper() if case == "upper" else raw.decode()
        if letters != "any":
            bad = [char for char in sequence if char.upper() not in ALLOWED[letters]]
            if bad and errors == "skip":
                dropped["letters"] += 1
                continue
            other = "X" if letters == "protein" else "N"
            sequence = "".join(char if char.upper() in ALLOWED[letters] else other for char in sequence)
        if not sequence:
            dropped["empty"] += 1
            continue
        documents.append((header.split()[0].decode() if names else f"a.fa:{start}", sequence))
    return documents, dict(dropped)


lines = st.one_of(
    st.text("ACGTNacgtn", max_size=8).map(str.encode),
    st.text("ACGTUacgtuRYn-*J \t\r>;", max_size=8).map(lambda text: text.lstrip(">;").encode()),
    st.text("xyz >;\t", max_size=5).map(lambda text: b">" + text.encode()),
    st.just(b"; a comment >"),
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Records, comments and blank lines, in any order behind the first header."""
    before = draw(st.lists(st.sampled_from([b"", b"; old", b" \t", b"\r"]), max_size=3))
    content = draw(st.sampled_from([b"\n", b"\r\n"])).join([*before, b">first", *draw(st.lists(lines, max_size=12))])
    return content + draw(st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]))


def ranges_of(size: int, cuts: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise([0, *sorted(min(cut, size) for cut in cuts), size]))


@settings(max_examples=300, deadline=None)
@given(files(), st.sampled_from([*ALLOWED, "any"]), st.sampled_from(["upper", "keep"]), st.sampled_from(["skip", "replace"]))
def test_as_the_naive_reader(content: bytes, letters: str, case: str, errors: str) -> None:
    assert read(content, letters=letters, case=case, errors=errors) == naively(content, letters, case, errors)


@settings(max_examples=300, deadline=None)
@given(files(), st.lists(st.integers(0, 100), max_size=6), st.integers(4, 40))
def test_cuts_and_blocks_do_not_matter(content: bytes, cuts: list[int], block_bytes: int) -> None:
    documents: Documents = []
    dropped: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "READ_BYTES", block_bytes)
        for part in ranges_of(len(content), cuts):
            some, missing = read(content, range=part, letters="dna", errors="skip")
            documents += some
            dropped.update(missing)
        assert read(content, letters="dna", errors="skip") == (documents, dict(dropped))
    assert (documents, dict(dropped)) == naively(content, "dna", "upper", "skip")


def test_every_cut_of_a_file() -> None:
    content = b"; c\r\n>a x\r\nAC\r\nGT\r\n>b\r\n>c\r\n; c\r\nTT>\r\n;\r\nA\r\n>d\r\nN"
    whole = read(content, letters="any")
    assert whole == ([("a.fa:5", "ACGT"), ("a.fa:23", "TT>A"), ("a.fa:43", "N")], {"empty": 1})
    for cuts in itertools.combinations(range(len(content)), 2):
        pieces = [read(content, letters="any", range=part) for part in ranges_of(len(content), list(cuts))]
        assert [document for some, _ in pieces for document in some] == whole[0]
        assert sum(missing.get("empty", 0) for _, missing in pieces) == 1


def test_docstring_example() -> None:
    content = b">a first\nACg\nT\n>b\nNN"
    assert read(content) == ([("a.fa:0", "ACGT"), ("a.fa:15", "NN")], {})
    assert read(content, id_column="name") == ([("a", "ACGT"), ("b", "NN")], {})
    assert read(content, case="keep")[0][0] == ("a.fa:0", "ACgT")


@pytest.mark.parametrize(
    ("ending", "pack"),
    [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress), (".zst", lambda c: b"".join(
        zstandard.ZstdCompressor().compress(piece) for piece in (c[:9], c[9:])))],
)  # fmt: skip
def test_compressed(ending: str, pack: Any) -> None:
    content = b">a first\nACg\nT\n>b\nNN"
    assert read(pack(content), f"a.fa{ending}") == ([(f"a.fa{ending}:0", "ACGT"), (f"a.fa{ending}:15", "NN")], {})


@pytest.mark.parametrize("cut", [1, 100, 4_194_303, 4_194_304, 4_194_305, 4_194_306, 9_000_000, 9_500_010])
@pytest.mark.parametrize("width", [60, 10_000_000])
def test_a_record_longer_than_a_block(cut: int, width: int) -> None:
    letters = (b"ACGTTGCANN" * 950_000)[:-3]
    body = b"\n".join(letters[at : at + width] for at in range(0, len(letters), width))
    content = b">long\n" + body + b"\n>last\nAC\n"
    whole = read(content)[0]
    assert whole == [("a.fa:0", letters.decode()), (f"a.fa:{len(body) + 7}", "AC")]
    assert [document for part in ranges_of(len(content), [cut]) for document in read(content, range=part)[0]] == whole


def test_one_hundred_thousand_short_records() -> None:
    content = b"".join(b">%d\nACGT\n" % i for i in range(100_000))
    documents, dropped = read(content, id_column="name")
    assert documents == [(str(i), "ACGT") for i in range(100_000)]
    assert dropped == {}


def test_a_header_longer_than_a_block() -> None:
    content = b">a\nAC\n>b" + b" x" * 5_000_000 + b"\nGT\n;" + b"y" * 9_000_000 + b"\nA"
    assert read(content, id_column="name") == ([("a", "AC"), ("b", "GTA")], {})


def test_an_empty_file_has_no_documents() -> None:
    assert read(b"") == ([], {})


def test_a_byte_order_mark() -> None:
    content = b"\xef\xbb\xbf>a\nAC\n>b\nGT\n"
    assert read(content) == ([("a.fa:3", "AC"), ("a.fa:9", "GT")], {})
    assert [d for part in ranges_of(len(content), [2, 4]) for d in read(content, range=part)[0]] == read(content)[0]


def test_an_empty_record_is_counted() -> None:
    assert read(b">a\n>b\n\n \n>c\nA") == ([("a.fa:9", "A")], {"empty": 2})


# --- letters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letters", ALLOWED)
def test_which_letters_are_allowed(letters: str) -> None:
    for byte in range(33, 127):
        record = b">a\nA" + bytes([byte])
        is_allowed = chr(byte).upper() in ALLOWED[letters]
        assert read(record, letters=letters, errors="skip") == (
            ([("a.fa:0", "A" + chr(byte).upper())], {}) if is_allowed else ([], {"letters": 1})
        )
        other = "X" if letters == "protein" else "N"
        assert read(record, letters=letters, errors="replace", case="keep")[0] == [
            ("a.fa:0", "A" + (chr(byte) if is_allowed else other))
        ]


def test_any_letters() -> None:
    assert read(">a\n$x é\0".encode(), letters="any") == ([("a.fa:0", "$Xé\0")], {})
    with pytest.raises(DataError, match=r"document a\.fa:0: invalid UTF-8 at byte 1 of its text"):
        read(b">a\nA\xff", letters="any")
    assert read(b">a\nA\xff", letters="any", errors="replace")[0] == [("a.fa:0", "A\ufffd")]
    assert read(b">a\nA\xff\n>b\nC", letters="any", errors="skip") == ([("a.fa:6", "C")], {"invalid_utf8": 1})


def test_records_with_other_letters_are_dropped_each_once() -> None:
    content = b">a\nAXXA\nX\n>b\nAC\n>c\nX\n>d\nX"
    assert read(content, errors="skip") == ([("a.fa:10", "AC")], {"letters": 3})
    assert read(content, errors="replace") == (
        [("a.fa:0", "ANNAN"), ("a.fa:10", "AC"), ("a.fa:16", "N"), ("a.fa:21", "N")], {},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b">a b\nAC\n;X\nG X\n", {}, "record 'a': 'X' at byte 13; letters is dna, which allows ACGTN. Set letters to iupac, "
         "protein or any, errors: replace to have N in its place, or errors: skip to drop such records"),
        (b">a\nAC\n>b c\nuX\n", {}, "record 'b': 'u' at byte 11; letters is dna"),
        (b">\nAC>T\n", {}, "record '': '>' at byte 4;"),
        (b">a\r\nA\r\nC\0\r\n", {"letters": "iupac"}, r"record 'a': '\x00' at byte 8; letters is iupac, which allows ACGTU"),
        (">a\nAÉ".encode(), {"letters": "protein"}, "record 'a': the byte 0xC3 at byte 4; letters is protein, which allows "
         "ACDEFGHIKLMNPQRSTVWYBXZJUO*-. Set letters to dna, iupac or any, errors: replace to have X in its place"),
        (b"ACGT\n>a\n", {}, ", line 1: 'ACGT' stands before the first header, a line that starts with '>'; set the source's "
         "format if this is no FASTA file"),
        (b"; old\n\r\n  text, long long long long long\n", {}, ", line 3: '  text, "),
        (b"\n\n{}\n>a\nA\n", {"letters": "any"}, ", line 3: '{}' stands before"),
        (b"; a\n\n \n", {}, ": no line starts with '>', as each record of a FASTA file does; set the source's format, or "
         "exclude the file"),
        (b">a\rACGT\r>b\rAC", {}, ": its lines end in CR alone; have them end in LF or CRLF"),
        (b">a\nA\n>\nC\n", {"id_column": "name"}, ": the header at byte 5 has no name; every document needs an id, or leave "
         "id_column out"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("block_bytes", [4 << 20, 16])
def test_messages(content: bytes, options: dict[str, Any], message: str, block_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "READ_BYTES", block_bytes)
        with pytest.raises(DataError) as error:
            read(content, **options)
    assert str(error.value).startswith("/corpus/a.fa")
    assert message in str(error.value)


def test_a_message_names_the_record_that_a_block_goes_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "READ_BYTES", 8)
    with pytest.raises(DataError, match=r"record 'one': 'X' at byte 30;"):
        read(b">one two\nACGT\nACGTACGT\nACGTACGX\n>b\nA")


def test_a_file_without_a_header_is_refused_in_its_first_range_only() -> None:
    content = b"\n\n; none\n\n"
    with pytest.raises(DataError, match="no line starts with '>'"):
        read(content, range=(0, 3))
    assert read(content, range=(3, 10)) == ([], {})
    assert read(content + b">a\nA", range=(0, 3)) == ([], {})


# --- memory -----------------------------------------------------------------------------------------------------------

_MEASURE = """
import resource, sys
from collections import Counter
from pipeline.stages.shard import FileRange, ReadOptions
from pipeline.stages.source import coalesce, read_documents
def count(path):
    part = FileRange(uri=path, name="a", num_bytes=1)
    with open(path, "rb") as file:
        return sum(len(batch) for batch in coalesce(read_documents(file, part, ReadOptions(format="fasta"), Counter())))
count(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = count(sys.argv[2])
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(("records", "lines", "most"), [(1, 2_000_000, 200), (20_000, 100, 120)])
def test_memory_is_that_of_the_longest_record(records: int, lines: int, most: int, tmp_path: Path) -> None:
    """120 million letters, in one record or many."""
    small, large = tmp_path / "small.fa", tmp_path / "large.fa"
    small.write_bytes(b">a\n" + (b"ACGT" * 15 + b"\n") * 1000)
    with large.open("wb") as file:
        for _ in range(records):
            file.write(b">record\n")
            for _ in range(0, lines, 1000):
                file.write((b"ACGT" * 15 + b"\n") * min(lines, 1000))
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(small), str(large)], capture_output=True, text=True, check=True
    )
    rows, growth = map(int, result.stdout.split())
    assert rows == records
    assert growth < most, f"{growth} MB more"

"""Reading documents: every format, every kind of damage, every cut, and how much memory it takes."""

import gzip
import io
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.schema import DOCUMENTS
from pipeline.stages.shard import FileRange, ReadOptions
from pipeline.stages.source import coalesce, read_documents

Documents = list[tuple[str, str]]


def read(content: bytes, name: str, **options) -> tuple[Documents, dict[str, int]]:
    """All documents of a file in memory, and what was dropped."""
    start, stop = options.pop("range", (None, None))
    part = FileRange(uri=f"/corpus/{name}", name=name, num_bytes=len(content), start=start, stop=stop)
    dropped: Counter[str] = Counter()
    documents: Documents = []
    for batch in read_documents(io.BytesIO(content), part, ReadOptions(**options), dropped):
        assert batch.schema == DOCUMENTS
        batch.validate(full=True)
        documents += zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)
    return documents, dict(dropped)


def texts_of(content: bytes, name: str, **options) -> list[str]:
    return [text for _, text in read(content, name, **options)[0]]


def jsonl(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow_file(table: pa.Table, rows: int | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def arrow_stream(table: pa.Table, rows: int | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def zst(*pieces: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor().compress(piece) for piece in pieces)


def zst_stream(content: bytes) -> bytes:
    """A frame that does not say how long its content is, as the command line tool writes from a pipe."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(content) + compressor.flush()


def gz(*pieces: bytes) -> bytes:
    return b"".join(gzip.compress(piece, mtime=0) for piece in pieces)


TEXTS = ["first", "zwei, drei", "naïve 日本語 🙂", "tab\there", "x" * 300]
TABLES = {"parquet": parquet, "arrow file": arrow_file, "arrow stream": arrow_stream}


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "pack"),
    [
        ("", lambda c: c),
        (".gz", gz),
        (".gz", lambda c: gz(c[:40], c[40:45], c[45:])),
        (".gz", lambda c: gz(b"", c, b"")),
        (".zst", zst),
        (".zst", zst_stream),
        (".zst", lambda c: zst(c[:40], c[40:45], c[45:])),
        (".gz", lambda c: gz(c) + bytes(512)),
    ],
    ids=["plain", "gz", "gz members", "gz empty members", "zst", "zst unsized", "zst frames", "gz padded"],
)
@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_lines_plain_and_compressed(ending, pack, kind):
    if kind == "jsonl":
        content = jsonl(*[{"text": text, "n": 1} for text in TEXTS])
        options = {"format": "jsonl"}
    else:
        content = "".join(text + "\n" for text in TEXTS).encode()
        options = {"format": "txt", "documents": "line"}
    name = f"a.{kind}{ending}"
    starts = [0, *[i + 1 for i, byte in enumerate(content) if byte == 10]]
    expected = [(f"{name}:{start}", text) for start, text in zip(starts, TEXTS, strict=False)]
    assert read(pack(content), name, **options) == (expected, {})


@pytest.mark.parametrize(("ending", "pack"), [("", lambda c: c), (".gz", gz), (".zst", zst), (".zst", zst_stream)])
def test_a_text_file_is_one_document_kept_to_the_byte(ending, pack):
    text = "one\r\ntwo\n\n\0three\n "
    name = f"sub/a.txt{ending}"
    assert read(pack(text.encode()), name, format="txt") == ([(name, text)], {})


@pytest.mark.parametrize(
    ("content", "expected", "num_empty"),
    [
        (b"a\nb\n", ["a", "b"], 0),
        (b"a\nb", ["a", "b"], 0),
        (b"a\r\nb\r\n", ["a", "b"], 0),
        (b"a\r\nb", ["a", "b"], 0),
        (b"a\n\nb\n\n", ["a", "b"], 2),
        (b"\r\n\r\na", ["a"], 2),
        (b"\n", [], 1),
        (b"", [], 0),
        (b" \n\t\n", [" ", "\t"], 0),
        (b"a\rb\n", ["a\rb"], 0),
        (b"a\r\r\n", ["a\r"], 0),
        (b"a\0b\n\0\n", ["a\0b", "\0"], 0),
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"], 0),
    ],
)
def test_lines_of_text(content, expected, num_empty):
    documents, dropped = read(content, "a.txt", format="txt", documents="line")
    assert [text for _, text in documents] == expected
    assert dropped == ({"empty": num_empty} if num_empty else {})


def test_json_lines_with_blank_lines_nulls_empties_and_nuls():
    content = b'\n{"text":"a"}\r\n  \n{"text":null}\n{"text":""}\n\t\r\n{"text":"\\u0000b"}\n\n{"text":"c"}'
    documents, dropped = read(content, "a.jsonl", format="jsonl")
    assert documents == [("a.jsonl:1", "a"), ("a.jsonl:47", "\0b"), ("a.jsonl:67", "c")]
    assert [content[int(i.split(":")[1]) :][:1] for i, _ in documents] == [b"{"] * 3
    assert dropped == {"null": 1, "empty": 1}


@pytest.mark.parametrize("blank", ["", "\n"], ids=["fast path", "slow path"])
def test_json_columns_by_name(blank):
    rows = [{"body": "x", "key": "a\nb", "text": 3}, {"key": 7, "body": "y"}, {"body": "z", "key": -(10**15)}]
    content = jsonl(*rows) + blank.encode()
    documents, _ = read(content, "a.jsonl", format="jsonl", text_column="body", id_column="key")
    assert documents == [("a\nb", "x"), ("7", "y"), ("-1000000000000000", "z")]


@pytest.mark.parametrize("blank", [b"", b"\n"], ids=["fast path", "slow path"])
def test_one_column_may_be_both_text_and_id(blank):
    content = jsonl({"text": "x"}, {"text": "y"}) + blank
    documents, _ = read(content, "a.jsonl", format="jsonl", id_column="text")
    assert documents == [("x", "x"), ("y", "y")]


def test_json_escapes_and_the_last_of_repeated_keys():
    content = b'{"text":"\\ud83d\\ude42 \\"\\\\ \\/ \\n"}\n{"text":"old","text":"new"}\n'
    assert texts_of(content, "a.jsonl", format="jsonl") == ['🙂 "\\ / \n', "new"]
    assert texts_of(content + b"\n", "a.jsonl", format="jsonl") == ['🙂 "\\ / \n', "new"]


@pytest.mark.parametrize("blank", [b"", b"\n"], ids=["fast path", "slow path"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not JSON"),
        (b'{"text": "a"', "not JSON"),
        (b"text", "not JSON"),
        (b'{"text": "a"} x', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"text":"a","n":' + b"9" * 5000 + b"x}", "not JSON"),
        (b'["a"]', "a JSON object is expected, not list"),
        (b'"text"', "a JSON object is expected, not str"),
        (b"null", "a JSON object is expected, not NoneType"),
        (b'{"txt":"a","b":1}', "no column 'text'; it has 'txt', 'b'.*text_column"),
        (b"{}", "no column 'text'"),
        (b'{"text":5}', "column 'text' is int, expected a string"),
        (b'{"text":["a"]}', "column 'text' is list, expected a string"),
        (b'{"text":true}', "column 'text' is bool, expected a string"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_bad_json_line_is_named_by_file_and_byte(blank, line, message):
    good = jsonl({"text": "fine"})
    with pytest.raises(DataError, match=rf"(?s)/corpus/a\.jsonl: the line at byte {len(good)}: .*{message}"):
        read(good + line + b"\n" + good + blank, "a.jsonl", format="jsonl")


@pytest.mark.parametrize("blank", [b"", b"\n"], ids=["fast path", "slow path"])
@pytest.mark.parametrize(
    "row", ['{"text":"a","id":null}', '{"text":"a","id":1.5}', '{"text":"a"}', '{"text":"a","id":true}']
)
def test_a_json_id_must_be_a_string_or_an_integer(row, blank):
    good = jsonl({"text": "fine", "id": 1})
    with pytest.raises(DataError, match=rf"a\.jsonl: the line at byte {len(good)}: 'id' is .*; a string or an integer"):
        read(good + row.encode() + b"\n" + blank, "a.jsonl", format="jsonl", id_column="id")


def test_a_number_too_long_for_python_in_another_column_does_no_harm():
    content = b'{"text":"a","n":' + b"9" * 5000 + b"}\n"
    assert texts_of(content, "a.jsonl", format="jsonl") == ["a"]
    assert texts_of(content + b"\n", "a.jsonl", format="jsonl") == ["a"]


@pytest.mark.parametrize(
    "content",
    [b'{"text":"a"} {"text":"b"}\n', b'{"text":"a"} {"text":"b"}\n\n', b'{"text":\n"a"} {"text":"b"}\n'],
    ids=["two on a line", "two on a line and a blank line", "one over two lines, two on a line"],
)
def test_a_line_is_one_object(content):
    with pytest.raises(DataError, match=r"a\.jsonl: the line at byte 0: not JSON"):
        read(content, "a.jsonl", format="jsonl")


@pytest.mark.parametrize("format", ["jsonl", "txt"])
def test_one_long_line_without_a_blank(format):
    text = "".join(chr(97 + i % 26) for i in range(997)) * 9000
    content = (json.dumps({"text": text}) if format == "jsonl" else text).encode() + b"\n"
    after = b'{"text":"b"}\n' if format == "jsonl" else b"b\n"
    documents, _ = read(content + after, f"a.{format}", format=format, documents="line")
    assert [d[0] for d in documents] == [f"a.{format}:0", f"a.{format}:{len(content)}"]
    assert documents[0][1] == text
    assert documents[1][1] == "b"


@pytest.mark.parametrize("format", ["jsonl", "txt"])
def test_one_hundred_thousand_documents_of_one_byte(format):
    letters = [chr(97 + i % 26) for i in range(100_000)]
    lines = [json.dumps({"text": letter}) if format == "jsonl" else letter for letter in letters]
    content = "\n".join(lines).encode()
    documents, _ = read(content, "a", format=format, documents="line")
    assert [text for _, text in documents] == letters
    width = len(lines[0]) + 1
    assert [i for i, _ in documents] == [f"a:{width * i}" for i in range(100_000)]


def test_a_million_empty_lines_are_counted():
    documents, dropped = read(b"\n" * 1_000_000 + b"end", "a.txt", format="txt", documents="line")
    assert documents == [("a.txt:1000000", "end")]
    assert dropped == {"empty": 1_000_000}


# --- byte ranges ------------------------------------------------------------------------------------------------------


def ranges_of(size: int, cuts: list[int]) -> list[tuple[int, int]]:
    places = [0, *sorted(min(cut, size) for cut in cuts), size]
    return list(itertools.pairwise(places))


@settings(max_examples=300, deadline=None)
@given(
    lines=st.lists(st.text(alphabet="ab\r é日", max_size=6)),
    last_newline=st.booleans(),
    cuts=st.lists(st.integers(0, 80), max_size=6),
)
def test_ranges_of_text_lines_give_every_document_once(lines, last_newline, cuts):
    content = "\n".join(lines).encode() + (b"\n" if last_newline else b"")
    options = {"format": "txt", "documents": "line"}
    whole, dropped = read(content, "a.txt", **options)
    pieces, pieces_dropped = [], Counter()
    for part in ranges_of(len(content), cuts):
        documents, missing = read(content, "a.txt", range=part, **options)
        pieces += documents
        pieces_dropped.update(missing)
    assert pieces == whole
    assert dict(pieces_dropped) == dropped


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.one_of(st.none(), st.text(max_size=4).map(lambda t: {"text": t}), st.just({"text": None}))),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_ranges_of_json_lines_give_every_document_once(rows, cuts):
    content = b"".join(b"\n" if row is None else json.dumps(row).encode() + b"\n" for row in rows)
    whole, dropped = read(content, "a.jsonl", format="jsonl")
    assert [text for _, text in whole] == [row["text"] for row in rows if row and row["text"]]
    pieces, pieces_dropped = [], Counter()
    for part in ranges_of(len(content), cuts):
        documents, missing = read(content, "a.jsonl", format="jsonl", range=part)
        pieces += documents
        pieces_dropped.update(missing)
    assert pieces == whole
    assert dict(pieces_dropped) == dropped


@pytest.mark.parametrize("cut", [1, 4_194_303, 4_194_304, 4_194_305, 9_000_000])
def test_a_cut_inside_a_line_longer_than_a_read_block(cut):
    content = b"a\n" + b"x" * 9_500_000 + b"\nlast\n"
    options = {"format": "txt", "documents": "line"}
    whole = read(content, "a.txt", **options)[0]
    parts = [read(content, "a.txt", range=part, **options)[0] for part in ranges_of(len(content), [cut])]
    assert [len(text) for _, text in whole] == [1, 9_500_000, 4]
    assert parts[0] + parts[1] == whole


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_ranges_of_row_groups_give_every_document_once(cut):
    table = pa.table({"text": [f"row {i}" if i % 7 else None for i in range(40)]})
    content = parquet(table, row_group_size=9)
    whole, dropped = read(content, "a.parquet", format="parquet")
    assert whole == [(f"a.parquet:{i}", f"row {i}") for i in range(40) if i % 7]
    assert dropped == {"null": 6}
    pieces = []
    for part in [(0, cut), (cut, 5)]:
        pieces += read(content, "a.parquet", format="parquet", range=part)[0]
    assert pieces == whole


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", TABLES)
@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.binary()),
    ],
    ids=str,
)
def test_every_kind_of_text_column(writer, kind):
    texts = [*TEXTS, None, "", TEXTS[0]]
    if pa.types.is_dictionary(kind):
        column = pa.array(texts, type=kind.value_type).dictionary_encode().cast(kind)
    else:
        column = pa.array(texts, type=pa.string()).cast(kind)
    table = pa.table({"n": range(len(texts)), "body": column})
    format = writer.split()[0]
    documents, dropped = read(TABLES[writer](table), "a", format=format, text_column="body")
    expected = [(f"a:{i}", text) for i, text in enumerate(texts) if text]
    assert documents == expected
    assert dropped == {"null": 1, "empty": 1}


@pytest.mark.parametrize("writer", TABLES)
def test_rows_are_numbered_across_groups_and_batches(writer):
    table = pa.table({"text": [f"row {i}" for i in range(5000)]})
    content = parquet(table, row_group_size=700) if writer == "parquet" else TABLES[writer](table, 1300)
    documents, _ = read(content, "d/a", format=writer.split()[0])
    assert documents == [(f"d/a:{i}", f"row {i}") for i in range(5000)]


@pytest.mark.parametrize("writer", TABLES)
@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array(["x", "y"]), ["x", "y"]),
        (pa.array([1, -2]), ["1", "-2"]),
        (pa.array([1, 2], type=pa.uint8()), ["1", "2"]),
        (pa.array(["x", "x"]).dictionary_encode(), ["x", "x"]),
        (pa.array(["x", "y"], type=pa.large_string()), ["x", "y"]),
    ],
    ids=["string", "int64", "uint8", "dictionary", "large"],
)
def test_ids_by_column(writer, ids, expected):
    table = pa.table({"text": ["a", "b"], "key": ids})
    documents, _ = read(TABLES[writer](table), "a", format=writer.split()[0], id_column="key")
    assert documents == list(zip(expected, ["a", "b"], strict=True))


@pytest.mark.parametrize("writer", TABLES)
@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"txt": ["a"]}, {}, r"/corpus/a: no column 'text'; its columns are txt\. Set the source's text_column"),
        ({"text": ["a"]}, {"id_column": "key"}, r"/corpus/a: no column 'key'; its columns are text\. .*id_column"),
        ({"text": [1]}, {}, "/corpus/a: column 'text' is int64, expected string; set text_column"),
        ({"text": [["a"]]}, {}, "/corpus/a: column 'text' is list<.*>, expected string"),
        ({"text": [{"text": "a"}]}, {}, "/corpus/a: column 'text' is struct<.*>, expected string"),
        ({"text": [None]}, {}, "/corpus/a: column 'text' is null, expected string"),
        ({"text": ["a"], "key": [[1]]}, {"id_column": "key"}, "/corpus/a: column 'key' is list<.*>, which cannot be an id"),
        ({"text": ["a"] * 3, "key": ["x", None, "y"]}, {"id_column": "key"}, "/corpus/a: row 1: 'key' is null"),
    ],
)
def test_wrong_columns_are_named(writer, columns, options, message):
    with pytest.raises(DataError, match=message):
        read(TABLES[writer](pa.table(columns)), "a", format=writer.split()[0], **options)


def test_a_null_id_is_named_by_its_row_in_the_file():
    table = pa.table({"text": ["a"] * 3000, "key": [None if i == 2500 else str(i) for i in range(3000)]})
    for content, format in [(parquet(table, row_group_size=999), "parquet"), (arrow_file(table, 1500), "arrow")]:
        with pytest.raises(DataError, match=r"row 2500: 'key' is null"):
            read(content, "a", format=format, id_column="key")


@pytest.mark.parametrize("keep", [1, 3, 4, 100, 0.3, 0.7, -1, -8, -9])
@pytest.mark.parametrize("writer", ["parquet", "arrow file"])
def test_a_truncated_table_is_refused(writer, keep):
    content = TABLES[writer](pa.table({"text": [f"row {i} {i * i}" for i in range(2000)]}))
    cut = content[: int(len(content) * keep) if isinstance(keep, float) else keep]
    with pytest.raises(DataError, match=r"/corpus/a: cannot be read as (parquet|Arrow IPC)"):
        read(cut, "a", format=writer.split()[0])


@pytest.mark.parametrize("keep", [1, 3, 7, 100, 0.3, 0.5, 0.7, -9, -100])
def test_an_arrow_stream_cut_inside_a_message_is_refused(keep):
    content = arrow_stream(pa.table({"text": [f"row {i} {i * i}" for i in range(2000)]}), 500)
    cut = content[: int(len(content) * keep) if isinstance(keep, float) else keep]
    with pytest.raises(DataError, match=r"/corpus/a: cannot be read as Arrow IPC"):
        read(cut, "a", format="arrow")


@pytest.mark.parametrize("batches", [1, 2, 3, 4])
def test_an_arrow_stream_without_its_end_mark_is_refused(batches):
    """Arrow takes a stream that stops after any batch for one that has ended: documents would be lost without a word."""
    content = arrow_stream(pa.table({"text": [f"row {i}" for i in range(400)]}), 100)
    reader = pa.ipc.open_stream(io.BytesIO(content))
    sink = io.BytesIO()
    writer = pa.ipc.new_stream(sink, reader.schema)
    for _ in range(batches):
        writer.write_batch(reader.read_next_batch())
    cut = sink.getvalue()
    assert content.startswith(cut)
    with pytest.raises(DataError, match=r"/corpus/a: cannot be read as Arrow IPC: the stream has no end mark"):
        read(cut, "a", format="arrow")


def test_arrow_offsets_that_lead_anywhere_are_refused():
    """Arrow itself reads them and crashes the process."""
    offsets = pa.array([0, 3, 1 << 28, 9], type=pa.int32()).buffers()[1]
    array = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abcdefghi")])
    with pytest.raises(DataError, match=r"/corpus/a: cannot be read as Arrow IPC: "):
        read(arrow_stream(pa.table({"text": array})), "a", format="arrow")


@pytest.mark.parametrize("writer", TABLES)
def test_two_columns_of_one_name_are_refused(writer):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(DataError, match=r"/corpus/a: 2 columns are called 'text'"):
        read(TABLES[writer](table), "a", format=writer.split()[0])


def test_a_byte_order_mark_before_json_is_no_text():
    assert texts_of(b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}\n', "a", format="jsonl") == ["a", "b"]


def test_json_nested_without_end_is_named():
    line = b'{"text": "a", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    with pytest.raises(DataError, match=r"/corpus/a: the line at byte 14: not JSON"):
        read(b'{"text": "a"}\n' + line, "a", format="jsonl")


@pytest.mark.parametrize(("errors", "expected"), [("skip", []), ("replace", ["\ufffd" * 6])])
def test_surrogates_that_json_spells_out_are_no_utf8(errors, expected):
    """Though their low bytes would be."""
    line = b'{"text": "\\udcc3\\udca9"}\n'
    assert texts_of(line, "a", format="jsonl", errors=errors) == expected
    with pytest.raises(DataError, match="invalid UTF-8 at byte 0"):
        read(line, "a", format="jsonl")


def test_a_damaged_page_is_named_with_its_row_group():
    table = pa.table({"text": [f"row {i} {i * i}" for i in range(2000)]})
    content = bytearray(parquet(table, row_group_size=1000, compression="zstd", use_dictionary=False))
    footer = pq.ParquetFile(io.BytesIO(bytes(content))).metadata
    column = footer.row_group(1).column(0)
    middle = column.data_page_offset + column.total_compressed_size // 2
    content[middle : middle + 64] = bytes(64)
    with pytest.raises(DataError, match=r"/corpus/a: cannot be read as parquet, row group 1: "):
        read(bytes(content), "a", format="parquet")


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_a_table_that_is_something_else(format):
    with pytest.raises(DataError, match=r"/corpus/a: cannot be read as (parquet|Arrow IPC)"):
        read(b"plain text, quite long, but of no such format at all\n" * 20, "a", format=format)


# --- empty files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "dropped"),
    [
        ("a.jsonl", {"format": "jsonl"}, {}),
        ("a.jsonl.gz", {"format": "jsonl"}, {}),
        ("a.jsonl.zst", {"format": "jsonl"}, {}),
        ("a.txt", {"format": "txt", "documents": "line"}, {}),
        ("a.txt", {"format": "txt"}, {"empty": 1}),
        ("a.txt.gz", {"format": "txt"}, {"empty": 1}),
        ("a.txt.zst", {"format": "txt"}, {"empty": 1}),
    ],
)
def test_a_file_of_no_bytes_holds_no_documents(name, options, dropped):
    assert read(b"", name, **options) == ([], dropped)


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_a_table_of_no_bytes_is_an_error(format):
    with pytest.raises(DataError, match=r"/corpus/a: cannot be read as (parquet|Arrow IPC)"):
        read(b"", "a", format=format)


@pytest.mark.parametrize("writer", TABLES)
def test_a_table_of_no_rows(writer):
    content = TABLES[writer](pa.table({"text": pa.array([], type=pa.string())}))
    assert read(content, "a", format=writer.split()[0]) == ([], {})


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gz), (".zst", zst)])
def test_a_compressed_nothing(ending, pack):
    assert read(pack(b""), f"a.jsonl{ending}", format="jsonl") == ([], {})


# --- invalid UTF-8 ----------------------------------------------------------------------------------------------------

BAD = b"caf\xe9 \xf0\x9f"
REPAIRED = "caf\ufffd \ufffd"
BINARY = pa.array([b"one", BAD, b"three"], type=pa.binary())
CASES = {
    "txt lines": (b"one\n" + BAD + b"\nthree\n", {"format": "txt", "documents": "line"}, "a:4"),
    "jsonl": (b'{"text":"one"}\n{"text":"' + BAD + b'"}\n{"text":"three"}\n', {"format": "jsonl"}, "a:15"),
    "parquet binary": (parquet(pa.table({"text": BINARY})), {"format": "parquet"}, "a:1"),
    "parquet string": (parquet(pa.table({"text": BINARY.view(pa.string())})), {"format": "parquet"}, "a:1"),
    "arrow file": (arrow_file(pa.table({"text": BINARY})), {"format": "arrow"}, "a:1"),
    "arrow stream string": (arrow_stream(pa.table({"text": BINARY.view(pa.string())})), {"format": "arrow"}, "a:1"),
    "arrow dictionary": (
        arrow_file(pa.table({"text": BINARY.view(pa.string()).dictionary_encode()})),
        {"format": "arrow"},
        "a:1",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_invalid_utf8_under_each_policy(case):
    content, options, place = CASES[case]
    with pytest.raises(DataError, match=rf"/corpus/a: document {place}: invalid UTF-8 at byte 3 of its text; .*skip"):
        read(content, "a", errors="stop", **options)
    documents, dropped = read(content, "a", errors="replace", **options)
    assert [text for _, text in documents] == ["one", REPAIRED, "three"]
    assert documents[1][0] == place
    assert dropped == {}
    documents, dropped = read(content, "a", errors="skip", **options)
    assert [text for _, text in documents] == ["one", "three"]
    assert dropped == {"invalid_utf8": 1}


def test_invalid_utf8_in_a_whole_file():
    with pytest.raises(DataError, match=r"/corpus/a\.txt: document a\.txt: invalid UTF-8 at byte 3"):
        read(BAD, "a.txt", format="txt")
    assert texts_of(BAD, "a.txt", format="txt", errors="replace") == [REPAIRED]
    assert read(BAD, "a.txt", format="txt", errors="skip") == ([], {"invalid_utf8": 1})


@pytest.mark.parametrize("bad", [b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\x80"])
def test_what_counts_as_invalid(bad):
    """Surrogates, overlong forms and code points beyond Unicode are not UTF-8 either."""
    assert read(b"ok " + bad + b"\n", "a", format="txt", documents="line", errors="skip") == ([], {"invalid_utf8": 1})
    row = b'{"text":"ok ' + bad + b'"}\n'
    assert read(row, "a", format="jsonl", errors="skip") == ([], {"invalid_utf8": 1})


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00x", r"\ude42\ud83d", r"\udce9"])
def test_a_lone_surrogate_escape_is_invalid_utf8(escape):
    content = b'{"text":"one"}\n{"text":"a' + escape.encode() + b'b"}\n{"text":"three"}\n'
    with pytest.raises(DataError, match=r"/corpus/a: document a:15: invalid UTF-8 at byte 1 of its text"):
        read(content, "a", format="jsonl")
    documents, dropped = read(content, "a", format="jsonl", errors="skip")
    assert ([text for _, text in documents], dropped) == (["one", "three"], {"invalid_utf8": 1})
    documents, dropped = read(content, "a", format="jsonl", errors="replace")
    assert len(documents) == 3
    assert dropped == {}
    assert documents[1][1].startswith("a\ufffd")
    assert documents[1][1].endswith("b")
    assert not any(0xD800 <= ord(c) <= 0xDFFF for c in documents[1][1])


def test_invalid_utf8_in_a_column_that_is_not_read_does_no_harm():
    content = b'{"text":"one","other":"\xff"}\n'
    assert texts_of(content, "a", format="jsonl") == ["one"]
    assert texts_of(content + b"\n", "a", format="jsonl") == ["one"]


def test_an_invalid_id_beside_an_invalid_text_is_still_an_error_with_a_name():
    table = pa.table({"text": BINARY, "key": pa.array([b"a", b"\xff", b"c"]).view(pa.string())})
    with pytest.raises(DataError, match="/corpus/a: "):
        read(arrow_file(table), "a", format="arrow", id_column="key")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), max_size=8))
def test_policies_agree_with_python(lines):
    content = b"".join(line + b"\n" for line in lines)
    replaced = texts_of(content, "a", format="txt", documents="line", errors="replace")
    assert replaced == [line.decode(errors="replace") for line in lines if line]
    valid = [line for line in lines if line.decode(errors="replace").encode() == line]
    documents, dropped = read(content, "a", format="txt", documents="line", errors="skip")
    assert [text for _, text in documents] == [line.decode() for line in valid if line]
    assert dropped.get("invalid_utf8", 0) == len(lines) - len(valid)


# --- damaged compression ----------------------------------------------------------------------------------------------

PLAIN = b"".join(b'{"text":"line %d, %d"}\n' % (i, i * i * 7919) for i in range(300))
STREAMS = {
    ".gz": gz(PLAIN),
    ".gz members": gz(PLAIN[:3000], PLAIN[3000:]),
    ".zst": zst(PLAIN),
    ".zst unsized": zst_stream(PLAIN),
    ".zst frames": zst(PLAIN[:3000], PLAIN[3000:]),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_a_truncated_stream_is_refused_at_every_cut(stream):
    content, ending = STREAMS[stream], stream.split()[0]
    first = {".gz members": len(gz(PLAIN[:3000])), ".zst frames": len(zst(PLAIN[:3000]))}.get(stream, 0)
    cuts = {*range(1, 40), *range(40, len(content), 61), *range(len(content) - 24, len(content))} - {first}
    for cut in sorted(cuts):
        with pytest.raises(DataError, match=rf"/corpus/a\.jsonl\{ending}: .*(cut off|damaged)"):
            # A cut may end inside a line, too: whole files of text show the stream's own error.
            read(content[:cut], f"a.jsonl{ending}", format="txt")


@pytest.mark.parametrize("stream", [".gz", ".zst"])
def test_a_truncated_stream_of_lines_is_not_taken_for_a_bad_line(stream):
    content = STREAMS[stream]
    with pytest.raises(DataError, match=r"cut off"):
        read(content[: len(content) * 2 // 3], f"a.jsonl{stream}", format="jsonl")


@pytest.mark.parametrize("stream", [".gz", ".gz members"])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.9, -3, -7])
def test_a_damaged_gzip_stream_is_refused(stream, place):
    content = bytearray(STREAMS[stream])
    content[int(len(content) * place) if isinstance(place, float) else place] ^= 0x55
    with pytest.raises(DataError, match=r"/corpus/a\.txt\.gz: .*(damaged gz stream|cut off)"):
        read(bytes(content), "a.txt.gz", format="txt")


@pytest.mark.parametrize("place", [0, 0.3, 0.6, -2])
def test_a_damaged_zstd_frame_with_a_checksum_is_refused(place):
    content = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN))
    content[int(len(content) * place) if isinstance(place, float) else place] ^= 0x55
    with pytest.raises(DataError, match=r"/corpus/a\.txt\.zst: .*(damaged zst stream|cut off)"):
        read(bytes(content), "a.txt.zst", format="txt")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("content", [PLAIN, b"x", b"\0" * 100], ids=["plain text", "a byte", "zeros"])
def test_a_file_with_the_ending_of_a_stream_that_is_none(ending, content):
    with pytest.raises(DataError, match=rf"/corpus/a\.jsonl\{ending}: .*(damaged|cut off)"):
        read(content, f"a.jsonl{ending}", format="jsonl")


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gz), (".zst", zst)])
def test_rubbish_behind_a_stream_is_refused(ending, pack):
    with pytest.raises(DataError, match=r"a\.txt.*: .*(damaged|cut off)"):
        read(pack(PLAIN) + b"rubbish behind the end", f"a.txt{ending}", format="txt")


# --- batches and memory -----------------------------------------------------------------------------------------------


def test_coalesce_keeps_every_document_in_order():
    sizes = [1, 5_000_000, 5_000_000, 2, 20_000_000, 3]
    batches = [
        pa.RecordBatch.from_pydict({"id": [str(i)], "text": ["x" * size]}, schema=DOCUMENTS) for i, size in enumerate(sizes)
    ]
    joined = list(coalesce(iter(batches)))
    assert pa.Table.from_batches(joined).equals(pa.Table.from_batches(batches).combine_chunks())
    assert [batch.num_rows for batch in joined] == [3, 2, 1]
    assert list(coalesce(iter([]))) == []


_MEASURE = """
import resource, sys
from collections import Counter
from pipeline.stages.shard import FileRange, ReadOptions
from pipeline.stages.source import read_documents
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def count(path, options):
    part = FileRange(uri=path, name="a", num_bytes=1)
    with open(path, "rb") as file:
        rows = size = 0
        for batch in read_documents(file, part, options, Counter()):
            rows += batch.num_rows
            size += batch.nbytes
    return rows
small, large, format = sys.argv[1:]
options = ReadOptions(format=format, documents="line")
count(small, options)
before = peak()
rows = count(large, options)
print(rows, (peak() - before) // 1024)
"""


def _write_lines(path: Path, lines: list[bytes], times: int, level: int | None) -> None:
    block = b"".join(lines)
    with open(path, "wb") as file:
        if level is None:
            for _ in range(times):
                file.write(block)
        else:
            with zstandard.ZstdCompressor(level=level).stream_writer(file, closefd=False) as writer:
                for _ in range(times):
                    writer.write(block)


@pytest.mark.parametrize("case", ["txt", "jsonl.zst", "repetitive jsonl.zst"])
def test_memory_stays_bounded_over_200_megabytes(case, tmp_path):
    """The repetitive file is smaller than one compressed read block, yet is 200 MB of documents."""
    if case == "txt":
        lines = [b"line %d of a long file, with some more words in it %d\n" % (i, i * i) for i in range(20_000)]
    elif case == "jsonl.zst":
        lines = [b'{"text":"line %d of a long file, %d","id":%d}\n' % (i, i * i % 7919, i) for i in range(20_000)]
    else:
        lines = [b'{"text":"the same line of a log, again and again"}\n'] * 20_000
    name = f"a.{case.split()[-1]}"
    times = -(-200_000_000 // sum(map(len, lines)))
    small, large = tmp_path / f"small-{name}", tmp_path / name
    level = None if case == "txt" else 1
    _write_lines(small, lines, 1, level)
    _write_lines(large, lines, times, level)
    format = case.split()[-1].split(".")[0]
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(small), str(large), format], capture_output=True, text=True, check=True
    )
    rows, growth = map(int, result.stdout.split())
    assert rows == times * len(lines)
    assert growth < 250, f"{growth} MB more for 200 MB of input"

"""Added tokens found in documents, taken out and put back, against the textbook search."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrow import rows_of
from pipeline.kernels.added import HIDDEN, SINGLE_WORD, added_tables, find_added, put_between, take_out
from pipeline.unicode import word_chars
from tests import reference, strategies


def rows(texts):
    return rows_of(pa.array(texts, type=pa.large_string()))


def search(texts, tokens, hiding=(), room=100):
    """The tokens found, as the kernel gives them, with ``room`` of them at a time."""
    values, offsets = rows([*(content for content, _ in tokens), *hiding])
    flags = [SINGLE_WORD * single_word for _, single_word in tokens] + [HIDDEN] * len(hiding)
    tables = added_tables(values, offsets, np.array(flags, dtype=np.uint8), word_chars())
    documents = rows(texts)
    found = [np.empty((0, 3), dtype=np.int64)]
    doc, at = 0, 0
    while doc < len(texts):
        some = np.empty((room, 3), dtype=np.int64)
        num, doc, at = find_added(*documents, tables, doc, at, some)
        found.append(some[:num])
    return np.concatenate(found), np.diff(offsets)


def cut(texts, tokens, hiding=(), room=100):
    """Pieces and token numbers of each text."""
    found, lengths = search(texts, tokens, hiding, room)
    values, offsets, docs = take_out(*rows(texts), found, lengths)
    assert not values[offsets[-1] :].any()
    pieces = [values[a:b].tobytes().decode() for a, b in itertools.pairwise(offsets)]
    return [
        ([pieces[i] for i in np.flatnonzero(docs == doc)], found[found[:, 0] == doc, 2].tolist())
        for doc in range(len(texts))
    ]


@given(strategies.added_texts, strategies.added_contents, st.data())
def test_as_the_textbook(texts, contents, data):
    num_hiding = data.draw(st.integers(0, len(contents) - 1))
    tokens = [(content, data.draw(st.booleans())) for content in contents[num_hiding:]]
    hiding = contents[:num_hiding]
    room = data.draw(st.sampled_from([1, 2, 100]))
    assert cut(texts, tokens, hiding, room) == [reference.cut_added(text, tokens, hiding) for text in texts]


@pytest.mark.parametrize("length", range(1, 10))
def test_tokens_of_every_length_anywhere(length):
    """Around the two and the four bytes that are looked at first, and at the end of a document."""
    token = "abcdefghij"[:length]
    for before in range(6):
        text = "abc" * before
        for after in ("", "a", "\x00\x00\x00\x00", "bcdefghij"):
            assert cut([text + token + after, "x"], [(token, False)]) == [
                reference.cut_added(text + token + after, [(token, False)]),
                (["x"], []),
            ]


def test_no_token_goes_from_one_document_into_the_next():
    assert cut(["ab", "cd", "abcd"], [("abc", False), ("bcd", False)]) == [(["ab"], []), (["cd"], []), (["", "d"], [0])]


def test_all_bytes_pass_where_all_are_tokens():
    tokens = [(chr(c), False) for c in range(128)] + [("é", False), ("中文", False)]
    text = "".join(map(chr, range(128))) + "é中中文"
    assert cut([text], tokens) == [reference.cut_added(text, tokens)]


def test_docstring_example_of_find_added():
    assert cut(["new yorkers"], [("new york", True), ("york", False), ("ers", False)]) == [(["new york", ""], [2])]


def test_docstring_example_of_put_between():
    values = np.array([5, 6, 7], dtype=np.uint16)
    joined, offsets = put_between(values, np.array([0, 2, 2, 3]), np.array([0, 0, 1]), np.array([9], dtype=np.uint16))
    assert joined.tolist() == [5, 6, 9, 7]
    assert joined.dtype == np.uint16
    assert offsets.tolist() == [0, 3, 4]


@given(st.lists(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=4), max_size=5), st.data())
def test_values_between_pieces(docs, data):
    between = [data.draw(st.integers(10, 19)) for doc in docs for _ in doc[1:]]
    pieces = [piece for doc in docs for piece in doc]
    offsets = np.cumsum([0, *map(len, pieces)])
    of = np.array([n for n, doc in enumerate(docs) for _ in doc], dtype=np.int64)
    values = np.array([value for piece in pieces for value in piece], dtype=np.uint32)
    joined, stops = put_between(values, offsets, of, np.array(between, dtype=np.uint32))
    left = iter(between)
    expected = [[value for n, piece in enumerate(doc) for value in [*([next(left)] if n else []), *piece]] for doc in docs]
    assert [joined[a:b].tolist() for a, b in itertools.pairwise(stops)] == expected

"""The encoding kernels give what merging pair by pair gives, with any cache and any chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels import encode
from pipeline.kernels.encode import MergeTables, WordCache, encode_words, fill_pairs
from pipeline.kernels.keys import PADDING
from tests import reference, strategies

Merges = Sequence[tuple[int, int]]


def tables_of(merges: Merges, one_derivation: bool = False) -> MergeTables:
    """Bytes a, b and c have the ids 0, 1 and 2; the n-th merge makes the id 3 + n."""
    byte_ids = np.full(256, -1, dtype=np.int32)
    byte_ids[list(b"abc")] = np.arange(3)
    pairs = np.zeros((1 << 8, 2), dtype=np.uint64)
    sides = np.array(merges, dtype=np.int64).reshape(-1, 2)
    fill_pairs(pairs, sides[:, 0], sides[:, 1], np.arange(len(merges)), np.arange(3, 3 + len(merges)))
    tokens = [b"a", b"b", b"c"]
    for a, b in merges:
        tokens.append(tokens[a] + tokens[b])
    values = np.frombuffer(b"".join(tokens), dtype=np.uint8)
    return MergeTables(byte_ids, pairs, values, np.cumsum([0, *map(len, tokens)], dtype=np.int64), one_derivation)


def small_cache(capacity: int, arena_bytes: int, num_ids: int) -> WordCache:
    return WordCache(
        np.zeros((capacity, 4), dtype=np.uint64),
        np.zeros(arena_bytes, dtype=np.uint8),
        np.zeros(num_ids, dtype=np.int32),
        np.zeros(2, dtype=np.int64),
    )


def expected_ids(word: bytes, merges: Merges) -> list[int]:
    ranks = {pair: (rank, 3 + rank) for rank, pair in enumerate(merges)}
    return reference.encode([b"abc".index(byte) for byte in word if byte in b"abc"], ranks)


def run(documents: list[list[bytes]], tables: MergeTables, cache: WordCache) -> list[list[int]]:
    """Ids of each document, given as words."""
    words = [word for document in documents for word in document]
    data = b"".join(words)
    values = np.frombuffer(data + bytes(PADDING), dtype=np.uint8)
    stops = np.cumsum([len(word) for word in words], dtype=np.int64)
    doc_stops = np.cumsum([sum(map(len, document)) for document in documents], dtype=np.int64)
    ids = np.empty(len(data), dtype=np.int32)
    sizes = np.full(len(documents), -1, dtype=np.int64)
    size = encode_words(values, 0, stops, doc_stops, tables, cache, ids, sizes)
    return [part.tolist() for part in np.split(ids[:size], sizes[:-1])] if documents else []


def plain(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The Python function behind a kernel, which reads the module's constants anew."""
    return getattr(kernel, "py_func", kernel)


abc_words = st.text("abc!", min_size=1, max_size=60).map(str.encode)
long_words = st.builds(
    lambda parts: b"".join(part * times for part, times in parts)[:400],
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"ab", b"abc", b"cab", b"aab"]), st.integers(1, 40)), min_size=1),
)


@given(strategies.merge_lists(), st.lists(st.lists(st.one_of(abc_words, long_words), max_size=6), max_size=4))
def test_ids_are_those_of_the_reference(merges: Merges, documents: list[list[bytes]]) -> None:
    expected = [[i for word in document for i in expected_ids(word, merges)] for document in documents]
    tables = tables_of(merges)
    cache = small_cache(64, 4_096, 4_096)
    assert run(documents, tables, cache) == expected
    assert run(documents, tables, cache) == expected  # now from the cache


@given(strategies.merge_lists(), st.lists(abc_words, min_size=1, max_size=30), st.sampled_from([1, 2, 16]))
def test_a_full_cache_never_changes_a_result(merges: Merges, words: list[bytes], capacity: int) -> None:
    words = words + words[::-1]
    expected = [i for word in words for i in expected_ids(word, merges)]
    assert run([words], tables_of(merges), small_cache(capacity, 256, 256)) == [expected]


@pytest.mark.parametrize("length", [3, 15, 16, 40])
def test_a_cache_that_overflows_again_and_again(length: int) -> None:
    """What is left of words from before an overflow must not be found after it."""
    words = [bytes(b"abc"[(n >> i) % 3] for i in range(length)) for n in range(60)]
    words = words + words[::-1] + words[::3]
    merges = [(0, 1), (2, 2)]
    expected = [i for word in words for i in expected_ids(word, merges)]
    assert run([words], tables_of(merges), small_cache(256, 256, 256)) == [expected]


@given(strategies.merge_lists(), st.one_of(abc_words, long_words))
def test_the_heap_gives_what_the_scan_gives(merges: Merges, word: bytes) -> None:
    tables = tables_of(merges)
    start = np.array([b"abc".index(byte) for byte in word if byte in b"abc"], dtype=np.int32)
    scanned, heaped = start.copy(), start.copy()
    num_scanned = encode._merge_short(scanned, len(start), tables.pairs, np.empty(len(start) + 1, dtype=np.int64))
    num_heaped = encode._merge_long(heaped, len(start), tables.pairs)
    assert scanned[:num_scanned].tolist() == heaped[:num_heaped].tolist() == expected_ids(word, merges)


@given(long_words, long_words, st.integers(1, 40), st.integers(1, 9))
def test_chunks_join_to_the_exact_encoding(corpus: bytes, word: bytes, num_merges: int, chunk_bytes: int) -> None:
    """Merges as training makes them: each token in one way, later than its parts."""
    words = [([b"abc".index(byte) for byte in corpus], 1)]
    merges: list[tuple[int, int]] = []
    while len(merges) < num_merges and (found := reference.best_pair(words, {})):
        merges.append(found[0])
        words = [(reference.merge_all(words[0][0], found[0], 2 + len(merges)), 1)]
    tables = tables_of(merges, one_derivation=True)
    values = np.frombuffer(word + bytes(PADDING), dtype=np.uint8)
    ids = np.empty(len(word), dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "CHUNK_BYTES", chunk_bytes)
        ranks = np.empty(encode.SCAN_SYMBOLS + 1, dtype=np.int64)
        size = plain(encode._encode_word)(values, 0, len(word), tables, ids, 0, ranks)
    assert ids[:size].tolist() == expected_ids(word, merges)


def test_a_pair_given_twice_keeps_its_later_rank() -> None:
    pairs = np.zeros((16, 2), dtype=np.uint64)
    fill_pairs(pairs, np.array([0, 1, 0]), np.array([1, 2, 1]), np.arange(3), np.array([3, 4, 5]))
    assert encode._find_pair(pairs, 0, 1) == 2 << 32 | 5
    assert encode._find_pair(pairs, 1, 2) == 1 << 32 | 4
    assert encode._find_pair(pairs, 2, 2) == encode._NO_RANK


def test_empty_documents_have_no_ids() -> None:
    documents = [[], [b"ab"], [], [], [b"c", b"!"], [], [b"!"], []]
    assert run(documents, tables_of([(0, 1)]), small_cache(16, 300, 300)) == [[], [3], [], [], [2], [], [], []]

"""A cache in front of the encoders: whatever its size and its history, ids are those of the words one by one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.encode import (
    FEWEST,
    GREEDY,
    GROUP,
    LONGEST_CACHED,
    MERGE,
    Encoder,
    WordCache,
    encode_words,
    move_entries,
)
from pipeline.kernels.keys import PADDING, key_lanes
from pipeline.kernels.ranks import NO_RANK, MergeTables, pair_table
from pipeline.kernels.vocabulary import build_trie
from tests import reference, strategies

Merges = Sequence[tuple[int, int]]

MODES = [MERGE, GREEDY, FEWEST]


def tokens_of(merges: Merges) -> list[bytes]:
    """Any byte but the last one is its own id; the n-th merge makes the id 255 + n."""
    tokens = [bytes([byte]) for byte in range(255)]
    for a, b in merges:
        tokens.append(tokens[a] + tokens[b])
    return tokens


def encoder_of(merges: Merges, mode: int = MERGE) -> Encoder:
    tokens = tokens_of(merges)
    byte_ids = np.append(np.arange(255, dtype=np.int32), np.int32(-1))
    pairs = pair_table(*np.array(merges, dtype=np.int64).reshape(-1, 2).T.copy(), np.arange(len(merges)))
    values = np.frombuffer(b"".join(tokens), dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    results = np.arange(255, len(tokens), dtype=np.int32)
    byte_pairs = np.full(65_536, NO_RANK, dtype=np.int32)  # as `ranks_of_bytes`, which takes a second without the compiler
    for rank, (left, right) in enumerate(merges):
        if left < 255 and right < 255:
            byte_pairs[left << 8 | right] = rank
    tables = MergeTables(byte_ids, pairs, byte_pairs, results, values, offsets)
    return Encoder(mode, tables, build_trie(values, offsets, np.ones(len(tokens), dtype=np.bool_)))


def letters(merges: Merges) -> Merges:
    """Merges over the initial ids 0, 1, 2 as merges over the letters a, b and c."""
    return [tuple(token + (97 if token < 3 else 252) for token in pair) for pair in merges]  # type: ignore[misc]


def expected_ids(word: bytes, merges: Merges, mode: int = MERGE) -> list[int]:
    tokens = tokens_of(merges)
    if mode == MERGE:
        ranks = {pair: (rank, 255 + rank) for rank, pair in enumerate(merges)}
        return reference.encode([byte for byte in word if byte < 255], ranks)
    ids = reference.ids_of_tokens(tokens, [True] * len(tokens))
    return reference.greedy(word, ids) if mode == GREEDY else reference.fewest(word, ids)


def cache_of(capacity: int, arena_bytes: int, num_ids: int) -> WordCache:
    return WordCache(
        np.zeros((capacity, 4), dtype=np.uint64),
        np.zeros(arena_bytes, dtype=np.uint8),
        np.zeros(num_ids, dtype=np.int32),
        np.zeros(4, dtype=np.int64),
    )


caches = st.builds(
    cache_of, st.sampled_from([2, 4, 64]), st.sampled_from([0, 20, 300, 5_000]), st.sampled_from([0, 7, 300, 5_000])
)


def run(documents: Sequence[Sequence[bytes]], encoder: Encoder, cache: WordCache) -> list[list[int]]:
    """Ids of each document, given as words from the middle of a text."""
    words = [word for document in documents for word in document]
    data = b"".join(words)
    values = np.frombuffer(b"<!" + data + bytes(PADDING), dtype=np.uint8)
    stops = 2 + np.cumsum([len(word) for word in words], dtype=np.int64)
    doc_stops = 2 + np.cumsum([sum(map(len, document)) for document in documents], dtype=np.int64)
    ids = np.empty(len(data) + 4, dtype=np.int32)
    sizes = np.full(len(documents), -1, dtype=np.int64)
    size = encode_words(values, 2, stops, doc_stops, encoder, cache, ids, sizes)
    assert not documents or sizes[-1] == size
    return [ids[a:b].tolist() for a, b in itertools.pairwise([0, *sizes.tolist()])]


def run_words(words: Sequence[bytes], encoder: Encoder, cache: WordCache) -> list[list[int]]:
    """Ids of each word."""
    return run([[word] for word in words], encoder, cache)


abc_words = st.text("abc\xff", min_size=1, max_size=60).map(lambda text: text.encode("latin-1"))
long_words = st.builds(
    lambda parts: b"".join(part * times for part, times in parts)[:400],
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"ab", b"abc", b"cab", b"aab"]), st.integers(1, 40)), min_size=1),
)


@given(strategies.merge_lists().map(letters), st.lists(st.lists(st.one_of(abc_words, long_words), max_size=6), max_size=4))
def test_ids_are_those_of_the_reference(merges: Merges, documents: list[list[bytes]]) -> None:
    expected = [[i for word in document for i in expected_ids(word, merges)] for document in documents]
    cache = cache_of(64, 4_096, 4_096)
    assert run(documents, encoder_of(merges), cache) == expected
    assert run(documents, encoder_of(merges), cache) == expected  # now from the cache


@pytest.mark.parametrize("mode", [GREEDY, FEWEST])
@given(
    merges=strategies.merge_lists().map(letters),
    words=st.lists(st.text("abc\xff", min_size=1, max_size=9).map(lambda text: text.encode("latin-1")), max_size=20),
    cache=caches,
)
def test_ids_without_merges_are_those_of_the_reference(
    mode: int, merges: Merges, words: list[bytes], cache: WordCache
) -> None:
    words = words + words[::-1]
    assert run_words(words, encoder_of(merges, mode), cache) == [expected_ids(word, merges, mode) for word in words]


@given(strategies.merge_lists().map(letters), st.lists(abc_words, min_size=1, max_size=40), caches)
def test_a_full_cache_never_changes_a_result(merges: Merges, words: list[bytes], cache: WordCache) -> None:
    words = (words + words[::-1]) * 2
    assert run_words(words, encoder_of(merges), cache) == [expected_ids(word, merges) for word in words]


@pytest.mark.parametrize("mode", MODES)
@given(words=strategies.word_lists, cache=caches)
def test_any_bytes_come_back_from_any_cache(mode: int, words: list[bytes], cache: WordCache) -> None:
    """Without merges that apply, a word's ids are its bytes: what is mixed up shows."""
    words = words + words[::-1]
    assert run_words(words, encoder_of([], mode), cache) == [[b for b in word if b < 255] for word in words]


@pytest.mark.parametrize("capacity", [4, 64])
@pytest.mark.parametrize("length", [3, 4, 5, 14, 15, 16, 17, 40])
def test_a_cache_that_overflows_again_and_again(length: int, capacity: int) -> None:
    """What is left of words from before an overflow must not be found after it."""
    words = [bytes(b"abc"[(n >> i) % 3] for i in range(length)) for n in range(GROUP - 4)]
    words = words + words[::-1] + words[::3]
    merges = letters([(0, 1), (2, 2)])
    expected = [expected_ids(word, merges) for word in words]
    assert run_words(words, encoder_of(merges), cache_of(capacity, 256, 256)) == expected


@pytest.mark.parametrize("num_ids", range(10))
@pytest.mark.parametrize("length", [9, 15, 16])
def test_words_of_few_and_of_many_ids(num_ids: int, length: int) -> None:
    """Up to four ids lie in the entry, more of them elsewhere; bytes without an id fill the word up."""
    words = [bytes([n, *range(1, num_ids)])[:num_ids] + b"\xff" * (length - num_ids) for n in range(20)]
    expected = [[byte for byte in word if byte < 255] for word in words]
    cache = cache_of(128, 2_000, 2_000)
    for _ in range(3):
        assert run_words(words, encoder_of([]), cache) == expected


@pytest.mark.parametrize("length", [LONGEST_CACHED - 1, LONGEST_CACHED, LONGEST_CACHED + 1, 1_000])
def test_words_longer_than_the_cache_holds(length: int) -> None:
    words = [bytes([n]) + b"ab" * (length // 2) + b"c" * (length % 2) for n in range(3)]
    cache = cache_of(64, 4_000, 4_000)
    merges = letters([(0, 1), (3, 3)])
    for _ in range(2):
        assert run_words(words, encoder_of(merges), cache) == [expected_ids(word, merges) for word in words]
    assert cache.used[0] == (3 if length < LONGEST_CACHED else 0)


@pytest.mark.parametrize("factor", [2, 4, 64])
def test_words_move_to_a_larger_cache(factor: int) -> None:
    """Those of few ids, of many and long ones: all are found again, none is entered twice."""
    words = [b"%d" % n for n in range(100)] + [b"longer, %d" % n for n in range(100)]
    words += [b"longer than its key, %d" % n for n in range(100)]
    cache = cache_of(1_024, 9_000, 9_000)
    run_words(words, encoder_of([]), cache)
    assert cache.used[0] == 300
    larger = cache._replace(entries=np.zeros((factor * 1_024, 4), dtype=np.uint64))
    move_entries(cache.entries, larger.entries)
    assert run_words(words, encoder_of([]), larger) == [list(word) for word in words]
    assert cache.used[0] == 300


def first_lane(word: bytes) -> bytes:
    values = np.frombuffer(word + bytes(PADDING), dtype=np.uint8)
    return int(key_lanes(values, 0, len(word))[0]).to_bytes(8, "little")


def test_words_that_look_like_the_keys_of_others_stay_apart() -> None:
    """Zeros behind a word, and words whose bytes are the lanes of longer ones."""
    long = bytes(range(65, 85))
    lane = first_lane(long)
    words = [bytes(n) for n in range(1, 20)] + [b"a" + bytes(n) for n in range(20)]
    words += [long, *(lane + end for end in (b"", b"\0", bytes(6) + b"\xf0", b"\xff" * 7, bytes(7), b"\1" + bytes(6)))]
    cache = cache_of(256, 4_000, 4_000)
    for _ in range(2):
        assert run_words(words, encoder_of([]), cache) == [[byte for byte in word if byte < 255] for word in words]


def test_long_words_with_the_same_hash_stay_apart() -> None:
    words = reference.words_of_one_hash(6)
    assert len(set(map(first_lane, words))) == 1
    cache = cache_of(64, 4_000, 4_000)
    for _ in range(2):
        assert run_words(words, encoder_of([]), cache) == [[byte for byte in word if byte < 255] for word in words]


def test_empty_documents_have_no_ids() -> None:
    documents = [[], [b"ab"], [], [], [b"c", b"\xff"], [], [b"\xff"], []]
    encoder = encoder_of(letters([(0, 1)]))
    assert run(documents, encoder, cache_of(16, 300, 300)) == [[], [255], [], [], [99], [], [], []]


@pytest.mark.parametrize("num_words", [0, 1, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP, 2 * GROUP + 1])
@pytest.mark.parametrize("words_a_document", [1, 3, GROUP])
def test_documents_and_groups_of_words_need_not_end_together(num_words: int, words_a_document: int) -> None:
    words = [b"%d" % (n % 90) for n in range(num_words)]
    documents = [words[at : at + words_a_document] for at in range(0, num_words, words_a_document)]
    assert run(documents, encoder_of([]), cache_of(64, 300, 300)) == [list(b"".join(words)) for words in documents]

"""What the encoder must know of a vocabulary whose merges join words; see ``kernels/superwords.py``.

It is worked out from the merges alone, so that any tokenizer.json with superwords is encoded fast: ours, published ones,
with any order of ids. Where text is cut, and which merges count as the first, decides how fast, not what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import Rows
from pipeline.kernels.encode import MERGE, Encoder, WordCache, encode_words
from pipeline.kernels.ranks import MergeTables, pair_table, ranks_of_bytes
from pipeline.kernels.superwords import MEMO_BITS, SuperwordTables, inside_table, join_words, merge_runs
from pipeline.kernels.vocabulary import VocabularyTrie
from pipeline.pretokenizer import Pretokenizer

_BLANK = 0x20
_INNER_BLANK = re.compile(rb"\S +\S")

SLICE_BYTES = 1 << 18
"""Of chunks that are encoded together, or one longer chunk: their ids stay in the second-level cache."""

_LEAST_SHARE = 0.1
"""Of the merges that must be the first ones: with less, words are hardly encoded by the first step."""

_WINDOW, _DENSE = 1024, 0.05
"""Where a twentieth of so many merges join words, the second stage has begun."""

WORDS = Pretokenizer((r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",))
"""Where text is cut."""


class SuperwordEncoder:
    """Encodes chunks of text by a vocabulary with superwords. Threads may use it at the same time."""

    def __init__(self, first: MergeTables, tables: SuperwordTables) -> None:
        self._first = Encoder(MERGE, first, VocabularyTrie(np.zeros((0, 4), dtype=np.int32), 0))
        self._tables = tables
        self._memo = np.zeros(1 << MEMO_BITS, dtype=np.uint64)  # an entry is one store, so threads may share it

    def encode(
        self,
        values: NDArray[np.uint8],
        start: int,
        stops: NDArray[np.int64],
        doc_stops: NDArray[np.int64],
        cache: WordCache,
        ids: NDArray[np.int32],
        doc_sizes: NDArray[np.int64],
    ) -> int:
        """As ``encode_words``, for chunks instead of words; ``cache`` holds words as the first merges leave them."""
        sizes = np.empty(len(stops) + 1, dtype=np.int64)  # ids up to the end of each chunk
        sizes[0] = 0
        for first, last in _slices(start, stops):
            begin = start if first == 0 else int(stops[first - 1])
            size = int(sizes[first])
            self._encode_some(values, begin, stops[first:last], cache, ids[size:], sizes[first + 1 : last + 1])
            sizes[first + 1 : last + 1] += size
        doc_sizes[:] = sizes[np.searchsorted(stops, doc_stops, side="right")]
        return int(sizes[-1])

    def first_ids(
        self, values: NDArray[np.uint8], start: int, stops: NDArray[np.int64], cache: WordCache
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """What the first merges make of chunks: ids, and their number up to the end of each chunk."""
        room = int(stops[-1]) - start + 4
        words = np.empty(room, dtype=np.int32)
        word_sizes, word_stops, size = [], [], 0
        for first, some in WORDS.iter_words(Rows(values, np.concatenate(([start], stops)))):
            sizes = np.empty(len(some), dtype=np.int64)
            num = encode_words(values, first, some, some, self._first, cache, words[size:], sizes)
            word_sizes.append(sizes + size)
            word_stops.append(some.copy())
            size += num
        chunk_words = np.searchsorted(np.concatenate(word_stops), stops, side="right")
        ids = np.empty(room, dtype=np.int32)
        chunk_sizes = np.empty(len(stops), dtype=np.int64)
        join_words(words, np.concatenate(word_sizes), chunk_words, self._tables, self._memo, ids, chunk_sizes)
        return ids, chunk_sizes

    def _encode_some(
        self,
        values: NDArray[np.uint8],
        start: int,
        stops: NDArray[np.int64],
        cache: WordCache,
        ids: NDArray[np.int32],
        sizes: NDArray[np.int64],
    ) -> None:
        first_ids, chunk_sizes = self.first_ids(values, start, stops, cache)
        merge_runs(first_ids, chunk_sizes, self._tables, ids, sizes)


def _slices(start: int, stops: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Chunks that are encoded together, by number."""
    first = 0
    while first < len(stops):
        last = max(int(np.searchsorted(stops, start + SLICE_BYTES, side="right")), first + 1)
        yield first, last
        first, start = last, int(stops[last - 1])


def joins_words(token: bytes) -> bool:
    """Whether a token holds a blank after something else."""
    return _BLANK in token.lstrip(b" ")


def has_superwords(tokens: Sequence[bytes]) -> bool:
    """Whether a token in a thousand, or more, has blanks between other characters: tokens of plain words rarely do."""
    return 1000 * sum(_INNER_BLANK.search(token) is not None for token in tokens) > len(tokens)


def _num_first(joins: NDArray[np.bool_]) -> int:
    """How many merges count as the first: up to where many of those that follow join words; a few always do.

    ``joins [shape=(n,), dtype=bool]``: of each merge, by rank, whether it joins words.
    """
    window = min(_WINDOW, max(1, len(joins) // 8))
    until = np.cumsum(np.concatenate(([0], joins)))
    many = joins & (until[np.minimum(np.arange(len(joins)) + window, len(joins))] - until[:-1] >= _DENSE * window)
    return int(many.argmax()) if many.any() else len(joins)


def superword_encoder(
    merges: MergeTables, left: NDArray[np.int64], right: NDArray[np.int64], tokens: Sequence[bytes]
) -> SuperwordEncoder | None:
    """The encoder of a vocabulary; None if so few of its merges stay inside words that it would not pay.

    Parameters
    ----------
    merges
        The vocabulary as a whole.
    left, right
        The pairs of its merges, by rank. ``[shape=(n_merges,), dtype=int64]``
    tokens
        The bytes of each id.
    """
    results = merges.results.tolist()
    last = {pair: rank for rank, pair in enumerate(zip(left.tolist(), right.tolist(), strict=True))}
    ranks = np.sort(np.array(list(last.values()), dtype=np.int64))  # a pair that is given twice has its later rank
    num_first = _num_first(np.array([joins_words(tokens[results[rank]]) for rank in ranks.tolist()], dtype=bool))
    if num_first < _LEAST_SHARE * len(ranks):
        return None
    first_ranks = ranks[:num_first]
    pairs = pair_table(left[first_ranks], right[first_ranks], first_ranks)
    first = merges._replace(pairs=pairs, byte_pairs=ranks_of_bytes(pairs, merges.byte_ids))
    left, right, results = left[ranks], right[ranks], merges.results[ranks].tolist()
    inside = _pairs_inside(left.tolist(), right.tolist(), results, num_first)
    tables = SuperwordTables(
        words=first,
        pairs=merges.pairs,
        inside=inside_table(left, right, ranks, *np.array(sorted(inside), dtype=np.int64).reshape(-1, 2).T.copy()),
        results=merges.results,
        touching=_touching(tokens, set(results[:num_first])),
        first_bytes=np.array([token[0] if token else 0 for token in tokens], dtype=np.uint8),
        last_bytes=np.array([token[-1] if token else 0 for token in tokens], dtype=np.uint8),
    )
    return SuperwordEncoder(first, tables)


def _pairs_inside(left: list[int], right: list[int], results: list[int], num_first: int) -> set[tuple[int, int]]:
    """The pairs of neighbours, as the first merges leave them, that can come to stand inside a token.

    A token of the second step has a first and a last of the tokens that it was made of; if several merges make it, several.
    What the first merges make, or no merge, is one by itself as well.
    """
    made_later = set(results[num_first:])
    may_be_whole = set(results[:num_first])
    firsts: dict[int, set[int]] = {}
    lasts: dict[int, set[int]] = {}

    def ends(token: int, found: dict[int, set[int]]) -> set[int]:
        known = found.get(token, set())
        return known | {token} if token not in made_later or token in may_be_whole else known

    inside: set[tuple[int, int]] = set()
    grows = True
    while grows:  # mostly once, and once more to see that nothing is missing
        grows = False
        for a, b, result in zip(left, right, results, strict=True):
            if result not in made_later and a not in made_later and b not in made_later:
                continue  # of the first merges, and made of tokens that only they make
            for at, token, found in ((a, result, firsts), (b, result, lasts)):
                new = ends(at, found)
                if not new <= found.get(token, set()):
                    found[token] = found.get(token, set()) | new
                    grows = True
            inside |= {(x, y) for x in ends(a, lasts) for y in ends(b, firsts)}
    return inside


def _touching(tokens: Sequence[bytes], chosen: set[int]) -> NDArray[np.bool_]:
    """Which two bytes stand side by side in a token. ``[shape=(65536,), dtype=bool]``"""
    touching = np.zeros(1 << 16, dtype=np.bool_)
    for token in chosen:
        values = np.frombuffer(tokens[token], dtype=np.uint8).astype(np.int64)
        touching[values[:-1] << 8 | values[1:]] = True
    return touching

"""Which roots and which literal pieces a morphology-hybrid vocabulary has, and what its ids cost: from word counts.

1. All words are cut with all roots of the language. The roots used most take their share of the vocabulary.
2. The words are cut again with these. What is left to bytes is counted, and BPE on it (``bpe.py``) makes the pieces.
3. Costs are bits: ids are counted in the words as cut by the costs so far, and cost ``log2(all / count)`` from then on. That
   is hard EM for a unigram model over the lattice (Kudo 2018, "Subword Regularization", section 3.2, with the best path
   in place of all).

Everything is exact and in whole numbers, so the same words give the same tokenizer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.arrow import Rows, binary_array, rows_of
from pipeline.byte_level import to_bytes
from pipeline.errors import DataError
from pipeline.kernels.morph import AFFIX, LITERAL, MARKER, ROOT, decode_ids, segment_words
from pipeline.morph import NUM_BYTES, MorphTokenizer
from pipeline.trainers.bpe import BpeOptions, train_bpe

BIT = 256
"""Costs are in parts of a bit."""

SLICE_BYTES = 1 << 22
"""Words that are cut at a time."""

LITERAL_COST = 8 * BIT
"""Of going over from a root or affix to literal pieces, and so of every shortcut around an affix that is rare."""

ROUNDS = 2
"""Of counting, with all roots; and once more with what was chosen."""

_MARKER_COST, _AFFIX_COST, _ROOT_COST, _BYTE_COST = 3 * BIT, 6 * BIT, 14 * BIT, 6 * BIT
"""Before anything is counted."""

_MOST_BYTES = 2.0**61
"""Of all words together, each as often as it occurs: so sums of ids stay exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MorphOptions:
    """How to train; ``root_share``: of what the vocabulary has room for beside affixes and bytes."""

    vocab_size: int
    root_share: float
    min_count: int = 1
    max_token_length: int | None = None


@dataclass(frozen=True, slots=True)
class TrainedMorph:
    """The tokenizer, and how often each of its ids occurs in the words as it cuts them."""

    tokenizer: MorphTokenizer
    id_counts: NDArray[np.int64]


def untrained(tokenizer: MorphTokenizer) -> MorphTokenizer:
    """The same with the costs to begin with."""
    starts = tokenizer.tables_starts
    sizes = np.diff([0, *starts])
    costs = (0, _MARKER_COST, _AFFIX_COST, _AFFIX_COST, _ROOT_COST, _BYTE_COST)
    return dataclasses.replace(tokenizer, costs=tuple(np.repeat(costs, sizes).tolist()), literal_cost=LITERAL_COST)


def train_morph(words: Rows, counts: NDArray[np.int64], tokenizer: MorphTokenizer, options: MorphOptions) -> TrainedMorph:
    """Train from distinct words.

    Parameters
    ----------
    words
        The words' bytes, each word once. Their order does not matter.
    counts
        Occurrences of each word in the corpus. ``[shape=(n_words,), dtype=int64]``
    tokenizer
        With all roots of the language and no pieces; its costs do not matter.
    options
        Vocabulary size and the like.

    Raises
    ------
    DataError
        There is no room for the affixes, or the counts are too large.

    Examples
    --------
    Roots ``ev`` and ``evet``; words " evler" (3 times) and " xq" (twice); room for one root and one piece. ``ev`` is used 3
    times and ``evet`` never, so ``ev`` it is; " xq" is left to bytes, whose most frequent pair is "␣x" (twice), the piece.
    """
    least = int(tokenizer.tables_starts[ROOT]) + NUM_BYTES
    room = options.vocab_size - least
    if float((counts.astype(np.float64) * np.diff(words.offsets)).sum()) > _MOST_BYTES:
        raise DataError("the words' weighted bytes exceed 64 bits; use smaller weights or fewer decimals")
    if room < 0:
        raise DataError(f"vocab_size is {options.vocab_size}; special tokens, markers, affixes and bytes alone are {least}")
    full = untrained(tokenizer)
    id_counts = _count_ids(words, counts, full)
    for _ in range(ROUNDS - 1):
        full = _with_counted_costs(full, id_counts)
        id_counts = _count_ids(words, counts, full)
    chosen = _choose_roots(full, id_counts, round(options.root_share * room), options.min_count)
    small = dataclasses.replace(full, morphology=full.morphology.with_roots(chosen), costs=_of_chosen(full, chosen))
    small = _with_pieces(small, *_literal_runs(words, counts, small), options, room - len(chosen))
    for _ in range(ROUNDS + 1):
        id_counts = _count_ids(words, counts, small)
        small = _with_counted_costs(small, id_counts)
    return TrainedMorph(small, _count_ids(words, counts, small))


# --- counting ---------------------------------------------------------------------------------------------------------


def cut_words(
    words: Rows, tokenizer: MorphTokenizer, *, clitics: bool = True
) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.int64]]]:
    """For some words at a time: the number of the first, their ids, and how many each has."""
    first = 0
    while first < len(words.offsets) - 1:
        start = int(words.offsets[first])
        last = max(int(np.searchsorted(words.offsets, start + SLICE_BYTES, side="right")) - 1, first + 1)
        stops = words.offsets[first + 1 : last + 1]
        ids = np.empty(int(stops[-1]) - start + 4, dtype=np.int32)
        sizes = np.empty(len(stops), dtype=np.int64)
        segment_words(words.values, start, stops, tokenizer.tables, clitics, ids, sizes)
        yield first, ids[: sizes[-1]], np.diff(sizes, prepend=0)
        first = last


def _count_ids(words: Rows, counts: NDArray[np.int64], tokenizer: MorphTokenizer) -> NDArray[np.int64]:
    """How often each id occurs. ``[shape=(vocab_size,), dtype=int64]``"""
    found = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for first, ids, sizes in cut_words(words, tokenizer):
        np.add.at(found, ids, np.repeat(counts[first : first + len(sizes)], sizes))
    return found


def _with_counted_costs(tokenizer: MorphTokenizer, id_counts: NDArray[np.int64]) -> MorphTokenizer:
    """Costs by counts; ids that do not occur cost as much as one that occurs half a time."""
    total = int(id_counts.sum())
    return dataclasses.replace(tokenizer, costs=tuple(bits(2 * total, max(2 * count, 1)) for count in id_counts.tolist()))


@functools.lru_cache(maxsize=1 << 16)
def bits(total: int, count: int) -> int:
    """``log2(total / count)`` in 1/256 bits, rounded down; exact, unlike floats, whose last digit differs by machine.

    Examples
    --------
    Of 8, 1 costs 3 bits: 768. Of 3, 1 costs 1.585 bits: 405.
    """
    return max((_power(total) // _power(count)).bit_length() - 1, 0)


@functools.lru_cache(maxsize=8)
def _power(number: int) -> int:
    return int(number**BIT)


# --- morphemes of words -----------------------------------------------------------------------------------------------


def cut_at_morphemes(words: Rows, counts: NDArray[np.int64], tokenizer: MorphTokenizer) -> tuple[Rows, NDArray[np.int64]]:
    """What words are made of, distinct and ascending, and how often: roots with the blank before them, affixes, the rest.

    ``tokenizer`` has all roots of the language and no pieces.

    Examples
    --------
    " evlerde" (twice) and " evxq" (once): " ev" 3 times, "ler" and "de" twice each, "xq" once.
    """
    full = untrained(tokenizer)
    for _ in range(ROUNDS - 1):
        full = _with_counted_costs(full, _count_ids(words, counts, full))
    literal = int(full.tables_starts[LITERAL])
    tables = []
    for first, ids, sizes in cut_words(words, full, clitics=False):
        word_of = np.repeat(np.arange(len(sizes)), sizes)
        stops = _stops(ids, full)
        is_marker = (ids >= full.tables_starts[MARKER]) & (ids < full.tables_starts[AFFIX])
        joins = (ids[:-1] >= literal) & (ids[1:] >= literal) & (word_of[:-1] == word_of[1:])  # bytes of one literal run
        ends = np.append(~joins & ~is_marker[:-1], True)
        start = int(words.offsets[first])
        cut_stops = start + stops[ends]
        offsets = np.concatenate(([start], cut_stops)).astype(np.int64)
        piece_counts = counts[first + word_of[ends]]
        tables.append(_summed(pa.table({"run": binary_array(words.values, offsets), "count": pa.array(piece_counts)})))
    return _total(tables)


def _stops(ids: NDArray[np.int32], tokenizer: MorphTokenizer) -> NDArray[np.int64]:
    """Where the text of each id stops."""
    text = np.empty(len(ids) * tokenizer.tables.longest + 8, dtype=np.uint8)
    stops = np.empty(len(ids), dtype=np.int64)
    decode_ids(ids, tokenizer.tables, text, stops)
    return stops


# --- roots ------------------------------------------------------------------------------------------------------------


def _choose_roots(tokenizer: MorphTokenizer, id_counts: NDArray[np.int64], room: int, min_count: int) -> list[int]:
    """The roots that occur most, in that order; ties to the first in the table."""
    starts = tokenizer.tables_starts
    counts = id_counts[starts[ROOT] : starts[LITERAL]]
    order = np.argsort(-counts, kind="stable")[:room]
    return [int(root) for root in order if counts[root] >= max(min_count, 1)]


def _of_chosen(tokenizer: MorphTokenizer, chosen: list[int]) -> tuple[int, ...]:
    starts = tokenizer.tables_starts
    roots = [tokenizer.costs[starts[ROOT] + root] for root in chosen]
    return (*tokenizer.costs[: starts[ROOT]], *roots, *tokenizer.costs[starts[LITERAL] :])


# --- pieces -----------------------------------------------------------------------------------------------------------


def _with_pieces(
    tokenizer: MorphTokenizer, runs: Rows, run_counts: NDArray[np.int64], options: MorphOptions, num_pieces: int
) -> MorphTokenizer:
    """With the pieces that BPE makes of what is left to bytes; each costs as if it were as frequent as its merge was.

    Bytes by themselves then cost as if they were never needed: else what they cost now, when everything is made of them,
    would keep the pieces from being used.
    """
    if num_pieces <= 0 or not len(run_counts):
        return tokenizer
    bpe = BpeOptions(
        vocab_size=NUM_BYTES + num_pieces, min_count=options.min_count, max_token_length=options.max_token_length
    )
    trained = train_bpe(runs, run_counts, bpe)
    made = dict(zip((left + right for left, right in trained.merges), trained.merge_counts, strict=True))
    pieces = list(trained.vocab)[NUM_BYTES:]
    total = int((np.diff(runs.offsets) * run_counts).sum())
    costs = [bits(total, made[piece]) for piece in pieces]
    first = int(tokenizer.tables_starts[LITERAL])
    return dataclasses.replace(
        tokenizer,
        pieces=tuple(to_bytes(piece) for piece in pieces),
        costs=(*tokenizer.costs[:first], *[bits(total, 1)] * NUM_BYTES, *costs),
    )


def _literal_runs(words: Rows, counts: NDArray[np.int64], tokenizer: MorphTokenizer) -> tuple[Rows, NDArray[np.int64]]:
    """What stands between roots and affixes, distinct and ascending, and how often; of a model without pieces."""
    literal = int(tokenizer.tables_starts[LITERAL])
    tables = []
    for first, ids, sizes in cut_words(words, tokenizer):
        word_of = np.repeat(np.arange(len(sizes)), sizes)
        is_literal = ids >= literal
        at = np.flatnonzero(is_literal)
        if not len(at):
            continue
        begins = np.concatenate(([True], (np.diff(at) > 1) | (np.diff(word_of[at]) > 0)))
        values = (ids[at] - literal).astype(np.uint8)
        offsets = np.append(np.flatnonzero(begins), len(at)).astype(np.int64)
        run_counts = counts[first + word_of[at[begins]]]
        table = pa.table({"run": binary_array(values, offsets), "count": pa.array(run_counts)})
        tables.append(_summed(table))
    return _total(tables)


def _summed(table: pa.Table) -> pa.Table:
    return table.group_by("run").aggregate([("count", "sum")]).rename_columns({"count_sum": "count"})


def _total(tables: list[pa.Table]) -> tuple[Rows, NDArray[np.int64]]:
    """Runs, distinct and ascending, and their counts."""
    if not tables:
        return rows_of(pa.array([], pa.large_binary())), np.zeros(0, dtype=np.int64)
    table = _summed(pa.concat_tables(tables))
    table = table.take(pc.sort_indices(table, [("run", "ascending")])).combine_chunks()
    return rows_of(table.column("run").chunk(0)), table.column("count").to_numpy()

"""The merges of ``train_bpe``, from words that are divided over partitions which may be anywhere, and may be lost.

Each partition owns some of the words; a coordinator knows the count of every pair that may be merged. They work in rounds
(``kernels/rounds.py``, ``kernels/partition.py``): the coordinator proposes the next merges, the partitions apply them and
tell what then stands beside the new tokens, the coordinator keeps those that are next indeed. The merges are the same for
any division of the words and any number of members in a round.

The *merge log*, all merges that were kept, is all there is to save: words and log give the state of a partition, and of the
whole training. A lost partition is built again so, and asked again what it was asked.

Measured (``benchmarks``, *partitioned*), 32,768 tokens from 965,000 words, in threads: 1.16 times the time of ``train_bpe``
with one partition, 1.04 times with two, on two cores that share their units; 368 rounds of 88 merges.

Messages are NumPy arrays in named tuples. One way to ask partitions is here, threads of this process; whoever has others
(actors on a cluster) gives an object with the methods of ``Partitions``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import Rows
from pipeline.byte_level import BLANK, BYTE_OF_CHAR, CHAR_OF_BYTE
from pipeline.errors import DataError
from pipeline.kernels.cells import seen_bytes, words_to_cells
from pipeline.kernels.keys import hash_rows
from pipeline.kernels.pair_index import new_index
from pipeline.kernels.partition import (
    Lists,
    Members,
    Neighbours,
    Text,
    apply_members,
    compact,
    count_pairs,
    ids_in_text,
    list_positions,
    merge_everywhere,
    replay_members,
    settle_members,
)
from pipeline.kernels.ragged import gather_ranges
from pipeline.kernels.rounds import (
    Limits,
    Pairs,
    Tokens,
    add_initial_tokens,
    add_merges,
    count_of,
    gather_pairs,
    hash_spellings,
    propose,
    review,
    sum_pairs,
)
from pipeline.trainers.bpe import NO_VETOES, BpeOptions, TrainedBpe, check_symbols, initial_vocabulary, spell_merges

FIRST_MEMBERS = 8
"""Members of the first round."""

MOST_MEMBERS = 1024

_LEAST_PAIRS = 1 << 12

_BEGINS = np.array([BYTE_OF_CHAR.get(chr(code), 0) & 0xC0 != 0x80 for code in range(ord(max(BYTE_OF_CHAR)) + 1)])
"""By what spells a byte: whether that begins a character of UTF-8."""


class Words(NamedTuple):
    """Distinct words and how often each occurs: rows of bytes, or of ids.

    ``symbols [dtype=uint8]`` or ``[dtype=int32]``, ``offsets [shape=(n + 1,), dtype=int64]``,
    ``counts [shape=(n,), dtype=int64]``.
    """

    symbols: NDArray[np.uint8] | NDArray[np.int32]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]


class MergeLog(NamedTuple):
    """Merges, in order: pairs of ids, the ids they make, their counts. ``[shape=(n, 2), dtype=int32]``, int32, int64."""

    pairs: NDArray[np.int32]
    results: NDArray[np.int32]
    counts: NDArray[np.int64]


class Symbols(NamedTuple):
    """What each symbol of the words is.

    ``ids [dtype=int32]``: its id, or -1. ``lengths [dtype=int64]``, ``hashes``, ``powers [dtype=uint64]``: see ``Tokens``.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    powers: NDArray[np.uint64]


class PairCounts(NamedTuple):
    """Pairs of adjacent tokens and their counts in one partition. ``[dtype=int32]`` twice, ``[dtype=int64]``."""

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    weights: NDArray[np.int64]


class Settled(NamedTuple):
    """How a round ended: members kept, their ids, and the pairs that get lists; see ``settle_members``."""

    kept: NDArray[np.int32]
    results: NDArray[np.int32]
    new_ids: NDArray[np.int32]
    new_offsets: NDArray[np.int64]


class Statistics(NamedTuple):
    """How training went.

    ``rounds``; ``merges`` that were kept, and proposed ones ``taken_back``; ``bytes_sent`` to partitions and
    ``bytes_received`` from them; partitions ``rebuilt`` because they were lost.
    """

    rounds: int
    merges: int
    taken_back: int
    bytes_sent: int
    bytes_received: int
    rebuilt: int


class PartitionLost(Exception):
    """In place of an answer: the partition is gone, with all it knew."""


class Partitions(Protocol):
    """All partitions, wherever they are."""

    def __len__(self) -> int:
        """How many there are."""

    def call(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Call a method of ``Partition`` on some of them, at the same time.

        An answer may be a ``PartitionLost``: returned, not raised, for those of the others count.
        """

    def replace(self, index: int) -> None:
        """Put a new partition with the same words in the place of one that was lost."""


_NONE = np.empty(0, dtype=np.int32)
_NOTHING_SETTLED = Settled(_NONE, _NONE, _NONE, np.zeros(1, dtype=np.int64))
_NO_MEMBERS = Members(_NONE, _NONE, _NONE, _NONE)


class Partition:
    """Some of the words, and the text that is made of them merge by merge.

    Calls come in this order: ``start``, ``track``, then any number of ``step``; ``merge_again`` or ``recount`` take the
    place of a step, and a ``track`` follows.
    """

    def __init__(self, words: Words) -> None:
        check_symbols(int(words.offsets[-1] - words.offsets[0]) + len(words.counts) + 1)
        self._words = _own(words)
        self._members = _NO_MEMBERS
        self._merged = np.empty(0, dtype=np.int32)
        self._merged_offsets = np.zeros(1, dtype=np.int64)

    def seen(self) -> NDArray[np.bool_]:
        """Which bytes occur in the words: ``[shape=(256,), dtype=bool]``."""
        seen: NDArray[np.bool_] = seen_bytes(self._words.symbols[self._words.offsets[0] : self._words.offsets[-1]])
        return seen

    def frequent_words(self, symbols: Symbols, max_length: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Counts and hashes of the ``most`` most frequent words that can become tokens, in any order.

        Only words of more than one symbol, and if ``max_length`` is not 0, shorter than that.
        """
        values, offsets, counts = self._words
        _, *known = _own(symbols)
        lengths, hashes = hash_spellings(values, offsets, *known)
        can_be_token = np.diff(offsets) >= 2
        if max_length:
            can_be_token &= lengths < max_length
        counts, hashes = counts[can_be_token], hashes[can_be_token]
        if len(counts) > most:
            order = np.argpartition(counts, -most)[-most:]
            counts, hashes = counts[order], hashes[order]
        return counts, hashes

    def start(self, symbols: Symbols, num_ids: int, log: MergeLog) -> PairCounts:
        """Apply a merge log to the words; returns the pairs there are then. ``num_ids``: the most there will ever be."""
        values, offsets, counts = self._words
        log = _own(log)
        cells = words_to_cells(values, offsets, counts, _own(symbols.ids))
        self._text = Text(
            cells,
            counts,
            np.ones(num_ids, dtype=np.int32),
            np.zeros((2, num_ids), dtype=np.int64),
            np.empty((2, num_ids), dtype=np.int32),
            np.full((2, num_ids), -1, dtype=np.int32),
        )
        at = 0
        while at < len(log.results):
            at = self._replay(log, at)
        return self._count()

    def _replay(self, log: MergeLog, start: int) -> int:
        """Apply merges from a log's ``start`` on, as far as tokens are new to the text; returns where it stopped."""
        in_text = ids_in_text(self._text.cells, len(self._text.spans))
        made_at = np.full(len(in_text), -1, dtype=np.int64)  # by id, the merge that makes it
        results = log.results[start:].tolist()
        stop = 0
        while stop < len(results) and not in_text[results[stop]] and made_at[results[stop]] < 0:
            made_at[results[stop]] = stop
            stop += 1
        if stop == 0:
            left, right = log.pairs[start].tolist()
            self._text = self._text._replace(cells=merge_everywhere(self._text.cells, left, right, results[0]))
            return start + 1
        left, right = log.pairs[start : start + stop].T
        # A pair arises with the later of its tokens. So pairs are in order of that merge, those of the text first.
        arises_at = np.maximum(made_at[left], made_at[right])
        is_left_side = made_at[left] < arises_at
        order = np.lexsort((is_left_side, arises_at))
        number_of = np.empty(stop, dtype=np.int32)
        number_of[order] = np.arange(stop)
        num_first = int((arises_at < 0).sum())
        first = order[:num_first]
        local = count_pairs(self._text.cells, self._text.counts)
        lists = list_positions(self._text.cells, local, left[first], right[first], stop)
        later = order[num_first:]
        sides = 2 * arises_at[later] + is_left_side[later]
        new_ids = np.where(is_left_side[later], left[later], right[later]).astype(np.int32)
        new_offsets = num_first + np.searchsorted(sides, np.arange(2 * stop + 1))
        members = Members(number_of, *(np.ascontiguousarray(a) for a in (left, right, log.results[start : start + stop])))
        replay_members(self._text, lists, members, new_ids, new_offsets)
        self._text = self._text._replace(cells=compact(self._text.cells, self._text.spans))
        return start + stop

    def _count(self) -> PairCounts:
        self._local = count_pairs(self._text.cells, self._text.counts)
        return PairCounts(self._local.left, self._local.right, self._local.weights)

    def track(self, left: NDArray[np.int32], right: NDArray[np.int32]) -> None:
        """From now on pair i, of those that may be merged, is that of ``left[i]`` and ``right[i]``. ``[dtype=int32]``."""
        self._lists: Lists = list_positions(self._text.cells, self._local, _own(left), _own(right), len(left))
        self._members = _NO_MEMBERS
        del self._local

    def _settle(self, settled: Settled) -> None:
        if len(self._members.results):
            merged = self._merged, self._merged_offsets
            self._lists = settle_members(self._text, self._lists, self._members, *merged, *_own(settled))
            self._members = _NO_MEMBERS

    def step(self, settled: Settled, members: Members) -> Neighbours:
        """End the round before, and apply the merges of the next."""
        self._settle(settled)
        self._members = _own(members)
        neighbours: Neighbours
        neighbours, self._merged, self._merged_offsets = apply_members(self._text, self._lists, self._members)
        return neighbours

    def recount(self, settled: Settled) -> PairCounts:
        """End the round before; returns all pairs. A ``track`` follows."""
        self._settle(settled)
        self._text = self._text._replace(cells=compact(self._text.cells, self._text.spans))
        return self._count()

    def merge_again(self, settled: Settled, left: int, right: int, result: int) -> PairCounts:
        """End the round before, and apply a merge that makes a token which the text holds already; returns all pairs."""
        self._settle(settled)
        cells = compact(self._text.cells, self._text.spans)
        self._text = self._text._replace(cells=merge_everywhere(cells, left, right, result))
        return self._count()


class LocalPartitions:
    """Partitions in this process, a thread for each; one of them is the caller's."""

    def __init__(self, parts: Sequence[Words]) -> None:
        self._parts = parts
        self._partitions = [Partition(words) for words in parts]
        self._threads = ThreadPoolExecutor(max(len(parts) - 1, 1))  # which start when they are needed

    def __len__(self) -> int:
        """How many there are."""
        return len(self._parts)

    def call(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """See ``Partitions``."""
        calls = {index: partial(getattr(self._partitions[index], method), *args) for index, args in arguments.items()}
        answers = [self._threads.submit(call) for call in list(calls.values())[1:]]
        first = [call() for call in list(calls.values())[:1]]
        return dict(zip(calls, [*first, *(answer.result() for answer in answers)], strict=True))

    def replace(self, index: int) -> None:
        """See ``Partitions``."""
        self._partitions[index] = Partition(self._parts[index])


def divide_words(words: Words, num_partitions: int) -> list[Words]:
    """The words by a hash of their bytes. Any other division gives the same merges."""
    if num_partitions == 1:
        return [words]
    symbols, offsets, counts = words
    width = symbols.itemsize
    values = np.concatenate([symbols.view(np.uint8), np.zeros(64, dtype=np.uint8)])
    part_of = hash_rows(values, offsets * width, 0) % np.uint64(num_partitions)
    parts = []
    for part in range(num_partitions):
        rows = np.flatnonzero(part_of == part)
        part_symbols, part_offsets = gather_ranges(symbols, offsets[rows], offsets[rows + 1])
        parts.append(Words(part_symbols, part_offsets, counts[rows]))
    return parts


def concat_words(parts: Sequence[Words]) -> Words:
    """All words of several, one part after the other."""
    starts = np.cumsum([0, *(part.offsets[-1] for part in parts)])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)]
    return Words(
        np.concatenate([part.symbols for part in parts]),
        np.concatenate([*offsets, starts[-1:]]),
        np.concatenate([part.counts for part in parts]),
    )


def words_of(rows: Rows, counts: NDArray[np.int64]) -> Words:
    """Words of bytes, as of ``train_bpe``."""
    return Words(rows.values[: rows.num_bytes], rows.offsets, np.ascontiguousarray(counts, dtype=np.int64))


def _own(message: Any) -> Any:
    """A message whose arrays kernels take without being compiled anew: what comes from elsewhere may be read-only."""
    if isinstance(message, np.ndarray):
        return np.require(message, requirements=["C", "W"])
    return type(message)(*map(_own, message)) if isinstance(message, tuple) else message


def _num_bytes(message: Any) -> int:
    if isinstance(message, np.ndarray):
        return message.nbytes
    return sum(map(_num_bytes, message)) if isinstance(message, tuple) else 8


def _new_tokens(spellings: Sequence[str], num_ids: int) -> Tokens:
    """What is known of the ids before the first merge, with room for ``num_ids``."""
    offsets = np.cumsum([0, *map(len, spellings)], dtype=np.int64)
    values = np.frombuffer("".join(spellings).encode("utf-32-le"), dtype=np.uint32)
    tokens = Tokens(
        np.full(num_ids, -1, dtype=np.int32),
        np.full(num_ids, -1, dtype=np.int32),
        np.zeros(num_ids, dtype=np.int64),
        np.zeros(num_ids, dtype=np.uint64),
        np.zeros(num_ids, dtype=np.uint64),
        np.zeros(num_ids, dtype=np.bool_),
        np.zeros(num_ids, dtype=np.bool_),
        values,
        offsets,
        new_index(num_ids),
        np.zeros(1, dtype=np.int64),
    )
    add_initial_tokens(tokens)
    return tokens


class _Log:
    """A merge log that grows."""

    def __init__(self) -> None:
        self._size = 0
        self._rows = np.empty((1024, 3), dtype=np.int32)
        self._counts = np.empty(1024, dtype=np.int64)

    def add(self, left: NDArray[np.int32], right: NDArray[np.int32], results: NDArray[np.int32], counts: Any) -> None:
        """Append merges."""
        start, stop = self._size, self._size + len(results)
        if stop > len(self._counts):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows, shape=(stop, 3))])
            self._counts = np.concatenate([self._counts, np.empty(stop, dtype=np.int64)])
        for column, values in enumerate((left, right, results)):
            self._rows[start:stop, column] = values
        self._counts[start:stop] = counts
        self._size = stop

    @property
    def merges(self) -> MergeLog:
        """All merges so far. Later ones do not change it."""
        rows = self._rows[: self._size]
        return MergeLog(rows[:, :2], rows[:, 2], self._counts[: self._size])


class _Coordinator:
    """What is known of all partitions together, and how they are asked."""

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        self._log = _Log()
        self.statistics = Statistics(0, 0, 0, 0, 0, 0)

    def know_tokens(self, spellings: Sequence[str], are_made: NDArray[np.bool_], symbols: Symbols, num_ids: int) -> None:
        """What the ids are before the first merge, which of them earlier merges have made, what the symbols of words are,
        and how many ids there can ever be.
        """
        self._symbols = symbols
        self._num_ids = num_ids
        self._totals = np.zeros(num_ids, dtype=np.int64)
        self._aliases = np.tile(np.arange(num_ids, dtype=np.int32), (2, 1))
        self._tokens = _new_tokens(spellings, num_ids)
        self._tokens.is_made[: len(spellings)] = are_made

    @property
    def log(self) -> MergeLog:
        """All merges so far."""
        return self._log.merges

    def _note(self, **more: int) -> None:
        now = self.statistics._asdict()
        self.statistics = self.statistics._replace(**{name: now[name] + number for name, number in more.items()})

    def _ask(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        answers = self._partitions.call(method, arguments)
        self._note(
            bytes_sent=sum(map(_num_bytes, arguments.values())), bytes_received=sum(map(_num_bytes, answers.values()))
        )
        return answers

    def _ask_all(self, method: str, *arguments: Any) -> list[Any]:
        """The answer of every partition, in order. Those that are lost are built again and asked again, until none is."""
        answers = self._ask(method, dict.fromkeys(range(len(self._partitions)), arguments))
        while lost := [index for index, answer in answers.items() if isinstance(answer, PartitionLost)]:
            for index in lost:
                self._partitions.replace(index)
            self._note(rebuilt=len(lost))
            answers |= self._ask_again(lost, method, arguments)
        return [answers[index] for index in range(len(self._partitions))]

    def _ask_again(self, lost: list[int], method: str, arguments: tuple[Any, ...]) -> dict[int, Any]:
        """Bring new partitions to where the others were, and repeat what they were asked."""
        calls: list[tuple[str, tuple[Any, ...]]] = [(method, arguments)]
        if method == "step":  # the round before is part of the log
            calls = [("start", self._start), ("track", self._tracked), ("step", (_NOTHING_SETTLED, arguments[1]))]
        elif method == "track":
            calls = [("start", self._start), ("track", arguments)]
        elif method in ("merge_again", "recount"):  # and so is this merge
            calls = [("start", self._start)]
        answers: dict[int, Any] = {}
        for again, again_arguments in calls:
            left = [index for index in lost if not isinstance(answers.get(index), PartitionLost)]
            answers |= self._ask(again, dict.fromkeys(left, again_arguments))
        return answers

    @property
    def _has_room(self) -> bool:
        return int(self._tokens.num_ids[0]) < self._limits.vocab_size

    @property
    def _start(self) -> tuple[Symbols, int, MergeLog]:
        return self._symbols, self._num_ids, self.log

    @property
    def _tracked(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        num_pairs = self._pairs.sizes[0]
        return self._pairs.left[:num_pairs], self._pairs.right[:num_pairs]

    def seen(self) -> NDArray[np.bool_]:
        """Which bytes occur in the words of any partition."""
        seen = np.zeros(256, dtype=np.bool_)
        for answer in self._ask_all("seen"):
            seen |= answer
        return seen

    def rarest_merge(self, options: BpeOptions) -> int:
        """A count below which no pair is merged; see ``trainers/bpe.py``.

        Here a word counts if no other is spelled the same and no id is there for it already: then it takes an id of its own.
        """
        num_new = options.vocab_size - int(self._tokens.num_ids[0])
        if num_new <= 0:
            return 0
        found = self._ask_all("frequent_words", self._symbols, options.max_token_length or 0, num_new)
        counts, hashes = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(-counts, kind="stable")
        hashes, firsts = np.unique(hashes[order], return_index=True)
        is_new = ~np.isin(hashes, self._tokens.hashes[: self._tokens.num_ids[0]])
        counts = np.sort(counts[order][firsts[is_new]])
        return int(counts[-num_new]) if len(counts) >= num_new else 0

    def begin(self, limits: Limits, most_pairs: int, log: MergeLog | None) -> None:
        """Have all partitions start, where a log ended or at the words. ``most_pairs``: to begin with; 0 for all."""
        self._limits = limits
        self._most_pairs = most_pairs
        if log is not None:
            left, right = np.array(log.pairs.T, order="C")
            is_wanted = log.counts >= limits.min_count
            num = len(is_wanted) if is_wanted.all() else int(is_wanted.argmin())
            num, is_valid = add_merges(self._tokens, left[:num], right[:num], _own(log.results[:num]), limits.vocab_size)
            if not is_valid:
                raise DataError(
                    f"merge {num} of the merge log does not fit the vocabulary: it is the log of another training"
                )
            self._log.add(left[:num], right[:num], log.results[:num], log.counts[:num])
        self._track(self._ask_all("start", *self._start))

    def _track(self, found: list[PairCounts]) -> None:
        left, right, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if len(self._partitions) > 1:
            left, right, weights = sum_pairs(left, right, weights)
        self._tokens.in_text[left] = True
        self._tokens.in_text[right] = True
        floor = self._limits.min_count
        if 0 < self._most_pairs < len(weights):
            floor = max(floor, int(np.partition(weights, -self._most_pairs)[-self._most_pairs]))
        self._tracked_limits = self._limits._replace(min_count=floor)
        is_frequent = weights >= floor
        frequent = (np.ascontiguousarray(column[is_frequent]) for column in (left, right, weights))
        self._pairs: Pairs = gather_pairs(*frequent, self._tokens, self._tracked_limits)
        self._ask_all("track", *self._tracked)
        self._settled = _NOTHING_SETTLED

    def round(self, most: int) -> tuple[int, int]:
        """Propose up to ``most`` merges and keep those that are next; returns how many were proposed, and looked at."""
        limits = self._tracked_limits
        numbers, results, places = propose(self._pairs, self._tokens, limits, most)
        while len(numbers) == 0 and limits.min_count > self._limits.min_count and self._has_room:
            # All pairs at hand are merged or vetoed. What was too rare for them has its turn: counts never rise.
            self._most_pairs *= 4
            self._track(self._ask_all("recount", self._settled))
            self._note(rounds=1)
            limits = self._tracked_limits
            numbers, results, places = propose(self._pairs, self._tokens, limits, most)
        left, right = self._pairs.left[numbers], self._pairs.right[numbers]
        if len(numbers) == 1 and self._tokens.in_text[results[0]]:
            self._log.add(left, right, results, count_of(self._pairs, numbers[0]))
            self._tokens.is_made[results[0]] = True
            pair = int(left[0]), int(right[0]), int(results[0])
            self._track(self._ask_all("merge_again", self._settled, *pair))
            self._note(rounds=1, merges=1)
            return 1, 1
        if len(numbers) == 0:
            return 0, 0
        answers = self._ask_all("step", self._settled, Members(numbers, left, right, results))
        ids, weights, offsets = zip(*answers, strict=True)
        starts = np.cumsum([0, *map(len, ids[:-1])])
        self._pairs, num_reviewed, kept, results, counts, new_ids, new_offsets = review(
            self._pairs,
            self._tokens,
            limits,
            numbers,
            results,
            places,
            np.concatenate(ids),
            np.concatenate(weights),
            np.stack(offsets) + starts[:, None],
            self._totals,
            self._aliases,
        )
        self._settled = Settled(kept, results, new_ids, new_offsets)
        self._log.add(left[kept], right[kept], results, counts)
        self._note(rounds=1, merges=len(kept), taken_back=len(numbers) - len(kept))
        return len(numbers), num_reviewed


def train_partitioned(
    partitions: Partitions,
    options: BpeOptions,
    *,
    spellings: Sequence[str] | None = None,
    log: MergeLog | None = None,
    on_round: Callable[[MergeLog], None] | None = None,
    most_members: int = MOST_MEMBERS,
    most_pairs: int | None = None,
) -> tuple[TrainedBpe, Statistics]:
    """Train from words that are divided over partitions.

    Parameters
    ----------
    partitions
        Own the words: of bytes, or, all of them, of ids.
    options
        As for ``train_bpe``, and vetoes. For words of ids, special tokens and alphabet are not looked at.
    spellings
        For words of ids: how each id is spelled, all of them different.
    log
        Go on where this log ended. What of it the options would not give is left out.
    on_round
        Called after each round with all merges so far: whoever wants to go on from there later saves the last log.
    most_members
        Of a round. The merges are the same for any number.
    most_pairs
        For words of ids, whose pairs are many: how many are looked at to begin with, the most frequent. When they are used
        up, all are counted again. The merges are the same for any number; by default twice as many as there are ids to make.

    Returns
    -------
    (trained, statistics)
        For words of bytes, what ``train_bpe`` gives.

    Raises
    ------
    DataError
        A partition's words have more than 2**31 - 2 symbols together, ends included, or the log is not one of this training.

    Examples
    --------
    ``ab`` 3 times in one partition and ``abc`` once in another: the first round proposes (a, b) with count 4 and (b, c) with
    count 1; after (a, b) the pair (b, c) is gone, so one is kept. The second round merges (ab, c).
    """
    coordinator = _Coordinator(partitions)
    symbols_are_bytes = spellings is None
    if spellings is None:
        vocab, ids = initial_vocabulary(coordinator.seen(), options)
        spellings = list(vocab)
        symbols: Sequence[str] = [CHAR_OF_BYTE[byte] for byte in range(256)]
    else:
        ids = np.arange(len(spellings), dtype=np.int32)
        symbols = spellings
    alphabet = _new_tokens(symbols, len(symbols))
    known = Symbols(ids, alphabet.lengths, alphabet.hashes, alphabet.powers)
    are_made = np.array([not symbols_are_bytes and len(chars) > 1 for chars in spellings], dtype=np.bool_)
    coordinator.know_tokens(spellings, are_made, known, max(options.vocab_size, len(spellings)))
    min_count = max(options.min_count, 1)
    if options.vetoes == NO_VETOES:  # else words that may be no tokens leave room for rarer ones
        min_count = max(min_count, coordinator.rarest_merge(options))
    forbidden = [np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32) for text in options.vetoes.forbidden]
    limits = Limits(
        options.vocab_size,
        min_count,
        options.max_token_length or 0,
        options.vetoes.max_words,
        ord(BLANK),
        np.concatenate([*forbidden, np.empty(0, dtype=np.uint32)]),
        np.cumsum([0, *map(len, forbidden)], dtype=np.int64),
        options.vetoes.max_chars,
        _BEGINS,
    )
    if most_pairs is None:
        most_pairs = 2 * max(options.vocab_size - len(spellings), 0) + _LEAST_PAIRS
    coordinator.begin(limits, 0 if symbols_are_bytes else most_pairs, log)
    reach = float(FIRST_MEMBERS)
    while True:
        proposed, reviewed = coordinator.round(min(max(FIRST_MEMBERS, int(reach)), most_members))
        if proposed == 0:
            break
        # The mean of how far the last reviews got, the later the more; twice as far where a round was too short.
        reach += (reviewed * (2 if reviewed == proposed else 1) - reach) / 4
        if on_round is not None:
            on_round(coordinator.log)
    log = coordinator.log
    return spell_merges(spellings, log.pairs, log.counts, log.results), coordinator.statistics

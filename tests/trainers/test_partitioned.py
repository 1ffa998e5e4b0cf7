"""Training over partitions gives the merges of `train_bpe`, of the reference and of `tokenizers`, however it is cut up."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrow import rows_of
from pipeline.errors import DataError
from pipeline.trainers import bpe
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, Vetoes, train_bpe
from pipeline.trainers.partitioned import (
    LocalPartitions,
    MergeLog,
    PartitionLost,
    Partitions,
    Statistics,
    Words,
    divide_words,
    train_partitioned,
    words_of,
)
from tests import reference, strategies
from tests.trainers.test_bpe import alphabets, outside, special_lists

nums_partitions = st.sampled_from([1, 2, 3, 7])
most_members = st.sampled_from([1, 2, 3, 8, 1024])
all_options = st.fixed_dictionaries(
    {
        "vocab_size": st.integers(0, 300),
        "min_count": st.integers(0, 9),
        "max_token_length": st.none() | st.integers(1, 9),
        "initial_alphabet": alphabets,
        "special_tokens": special_lists.map(tuple),
    }
)
run_counts = st.dictionaries(
    st.text("ab", min_size=1, max_size=30).map(str.encode), st.integers(1, 3), min_size=1, max_size=5
)
many_merges = strategies.word_counts | strategies.large_word_counts | run_counts


def words_from(counts: Mapping[bytes, int]) -> Words:
    rows = rows_of(pa.array(list(counts), type=pa.large_binary()))
    return words_of(rows, np.array(list(counts.values()), dtype=np.int64))


def pool_of(counts: Mapping[bytes, int], num_partitions: int) -> LocalPartitions:
    return LocalPartitions(divide_words(words_from(counts), num_partitions))


def train(pool: Partitions, options: Mapping[str, Any], **more: Any) -> TrainedBpe:
    return train_partitioned(pool, BpeOptions(**options), **more)[0]


def train_whole(counts: Mapping[bytes, int], options: Mapping[str, Any]) -> TrainedBpe:
    words = rows_of(pa.array(list(counts), type=pa.large_binary()))
    return train_bpe(words, np.array(list(counts.values()), dtype=np.int64), BpeOptions(**options))


def logs_of(counts: Mapping[bytes, int], options: Mapping[str, Any], **more: Any) -> list[MergeLog]:
    logs: list[MergeLog] = []
    train(pool_of(counts, 1), options, on_round=logs.append, **more)
    return logs


@given(many_merges, nums_partitions, most_members, all_options)
def test_equal_to_one_process(
    counts: dict[bytes, int], num_partitions: int, most_members: int, options: dict[str, Any]
) -> None:
    trained = train(pool_of(counts, num_partitions), options, most_members=most_members)
    assert trained == train_whole(counts, options)


@given(strategies.word_counts, nums_partitions, all_options)
def test_equal_to_the_reference_and_to_tokenizers(
    counts: dict[bytes, int], num_partitions: int, options: dict[str, Any]
) -> None:
    trained = train(pool_of(counts, num_partitions), options)
    more = {name: options[name] for name in ("min_count", "max_token_length", "special_tokens")}
    vocab, merges, merge_counts = reference.train_bpe(
        counts, options["vocab_size"], alphabet=options["initial_alphabet"], **more
    )
    assert trained == TrainedBpe(vocab, tuple(merges), tuple(merge_counts))
    if options["vocab_size"] > 0:
        assert outside(counts, **options) == (vocab, merges)


@given(many_merges, nums_partitions, all_options, st.data())
def test_a_log_cut_anywhere_goes_on_as_if_it_had_not_been_cut(
    counts: dict[bytes, int], num_partitions: int, options: dict[str, Any], data: st.DataObject
) -> None:
    logs = logs_of(counts, options)
    whole = train_whole(counts, options)
    if logs:
        cut = data.draw(st.integers(0, len(logs[-1].results)))
        log = MergeLog(*(rows[:cut] for rows in logs[-1]))
        assert train(pool_of(counts, num_partitions), options, log=log) == whole


@given(strategies.word_counts, all_options, all_options, nums_partitions)
def test_of_a_longer_log_only_what_the_options_give_is_taken(
    counts: dict[bytes, int], options: dict[str, Any], others: dict[str, Any], num_partitions: int
) -> None:
    logs = logs_of(counts, options)
    others = options | {"vocab_size": others["vocab_size"], "min_count": others["min_count"]}
    if logs:
        assert train(pool_of(counts, num_partitions), others, log=logs[-1]) == train_whole(counts, others)


def test_the_log_of_another_training_is_refused() -> None:
    log = MergeLog(np.array([[64, 65]], np.int32), np.array([257], np.int32), np.array([3]))
    with pytest.raises(DataError, match="merge 0 of the merge log does not fit"):
        train(pool_of({b"ab": 3}, 1), {"vocab_size": 300}, log=log)
    with pytest.raises(DataError, match="does not fit"):
        train(pool_of({b"ab": 3}, 1), {"vocab_size": 300}, log=log._replace(pairs=np.array([[64, 400]], np.int32)))


def frozen(message: Any) -> Any:
    """A message as another process gets it: its arrays are read-only views of what was sent."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])


class Unreliable:
    """Partitions of which some are lost at given calls, and whose messages go through pickle."""

    def __init__(self, words: Words, num_partitions: int, losses: set[tuple[int, int]]) -> None:
        self._pool = LocalPartitions(divide_words(words, num_partitions))
        self.methods: list[str] = []
        self._losses = losses
        self.num_calls = 0

    def __len__(self) -> int:
        return len(self._pool)

    def call(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        number = self.num_calls
        self.num_calls += 1
        self.methods.append(method)
        answers = self._pool.call(method, frozen(arguments))
        for index in arguments:
            if (number, index) in self._losses:
                self._pool.replace(index)  # it knows nothing any more: to ask it would raise
                answers[index] = PartitionLost(index)
        return frozen(answers)  # type: ignore[no-any-return]

    def replace(self, index: int) -> None:
        self._pool.replace(index)


@given(many_merges, all_options, most_members)
def test_a_partition_is_lost_at_any_call(counts: dict[bytes, int], options: dict[str, Any], most_members: int) -> None:
    whole = train_whole(counts, options)
    unbroken = Unreliable(words_from(counts), 2, set())
    train(unbroken, options, most_members=most_members)
    for call in range(0, unbroken.num_calls, 1 + unbroken.num_calls // 12):
        pool = Unreliable(words_from(counts), 2, {(call, 1)})
        trained, statistics = train_partitioned(pool, BpeOptions(**options), most_members=most_members)
        assert trained == whole
        assert statistics.rebuilt == 1


@given(many_merges, all_options, st.sets(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=20))
def test_many_partitions_are_lost_also_while_they_are_rebuilt(
    counts: dict[bytes, int], options: dict[str, Any], losses: set[tuple[int, int]]
) -> None:
    assert train(Unreliable(words_from(counts), 3, losses), options) == train_whole(counts, options)


@given(strategies.word_counts | run_counts, all_options)
def test_bytes_make_a_token_in_one_way_only(counts: dict[bytes, int], options: dict[str, Any]) -> None:
    """So a special token is made by one pair at most, and no merge is there twice."""
    merges = train(pool_of(counts, 2), options).merges
    assert len({a + b for a, b in merges}) == len(merges)


# --- sequences of tokens ----------------------------------------------------------------------------------------------


def sequences_from(sequences: Mapping[tuple[int, ...], int]) -> Words:
    offsets = np.cumsum([0, *map(len, sequences)], dtype=np.int64)
    symbols = np.array([token for sequence in sequences for token in sequence], dtype=np.int32)
    return Words(symbols, offsets, np.array(list(sequences.values()), dtype=np.int64))


def learn_naively(
    sequences: Mapping[tuple[int, ...], int], spellings: list[str], options: BpeOptions
) -> tuple[dict[str, int], list[tuple[str, str]], list[int]]:
    return reference.train_sequences(
        sequences,
        spellings,
        options.vocab_size,
        min_count=options.min_count,
        max_token_length=options.max_token_length,
        max_words=options.vetoes.max_words,
        forbidden=options.vetoes.forbidden,
        max_chars=options.vetoes.max_chars,
    )


SPELLINGS = ["a", "b", "ab", "ba", "aa", "abb", "Ġ", "<s>", "Ã", "©", "©a", "é"]  # é of text is Ã©; é stands for a byte
sequence_counts = st.dictionaries(
    st.lists(st.integers(0, len(SPELLINGS) - 1), min_size=1, max_size=12).map(tuple),
    st.integers(1, 5),
    min_size=1,
    max_size=8,
)


@given(
    sequence_counts,
    nums_partitions,
    most_members,
    st.integers(0, 30),
    st.integers(0, 4),
    st.none() | st.integers(1, 8),
    st.builds(
        Vetoes,
        st.integers(0, 3),
        st.lists(st.sampled_from(["ba", "bĠ", "aab", "Ġ"]), max_size=2).map(tuple),
        st.sampled_from([0, 0, 1, 2, 3, 4]),
    ),
    st.data(),
)
def test_sequences_in_which_a_token_is_spelled_in_two_ways(
    sequences: dict[tuple[int, ...], int],
    num_partitions: int,
    most_members: int,
    vocab_size: int,
    min_count: int,
    max_token_length: int | None,
    vetoes: Vetoes,
    data: st.DataObject,
) -> None:
    options = BpeOptions(vocab_size=vocab_size, min_count=min_count, max_token_length=max_token_length, vetoes=vetoes)
    expected = learn_naively(sequences, SPELLINGS, options)
    parts = divide_words(sequences_from(sequences), num_partitions)
    logs: list[MergeLog] = []
    more: dict[str, Any] = {"spellings": SPELLINGS, "most_members": most_members}
    more["most_pairs"] = data.draw(st.none() | st.integers(1, 5))
    trained, _ = train_partitioned(LocalPartitions(parts), options, on_round=logs.append, **more)
    assert (trained.vocab, list(trained.merges), list(trained.merge_counts)) == expected
    if logs:
        cut = data.draw(st.integers(0, len(logs[-1].results)))
        log = MergeLog(*(rows[:cut] for rows in logs[-1]))
        assert train_partitioned(LocalPartitions(parts), options, log=log, **more)[0] == trained


@given(sequence_counts, st.sets(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=15))
def test_partitions_of_sequences_are_lost(sequences: dict[tuple[int, ...], int], losses: set[tuple[int, int]]) -> None:
    options = BpeOptions(vocab_size=30)
    words = sequences_from(sequences)
    trained, _ = train_partitioned(Unreliable(words, 3, losses), options, spellings=SPELLINGS, most_pairs=2)
    assert (trained.vocab, list(trained.merges), list(trained.merge_counts)) == learn_naively(sequences, SPELLINGS, options)


def test_a_token_that_is_made_again_also_by_a_partition_that_was_lost() -> None:
    """``ab`` and ``a b`` both become ``abb``; (ab, b) comes first, then (a, bb)."""
    spellings = ["a", "b", "ab", "bb", "c"]
    sequences = {(2, 1, 4): 9, (0, 3): 5, (0, 3, 4): 2, (4, 2, 1): 1}
    options = BpeOptions(vocab_size=8)
    expected = learn_naively(sequences, spellings, options)
    assert expected[1][:3] == [("ab", "b"), ("abb", "c"), ("a", "bb")]
    words = sequences_from(sequences)
    unbroken = Unreliable(words, 2, set())
    train_partitioned(unbroken, options, spellings=spellings)
    assert "merge_again" in unbroken.methods
    for call in range(unbroken.num_calls):
        trained, statistics = train_partitioned(Unreliable(words, 2, {(call, 0)}), options, spellings=spellings)
        assert (trained.vocab, list(trained.merges), list(trained.merge_counts)) == expected
        assert statistics.rebuilt == 1


@given(strategies.word_counts, nums_partitions, st.integers(0, 20), st.integers(0, 4))
def test_sequences_that_merges_have_made_of_words(
    counts: dict[bytes, int], num_partitions: int, num_merges: int, min_count: int
) -> None:
    """As if training had stopped, and gone on from what it had made of the words."""
    whole = train_whole(counts, {"vocab_size": 256 + 40, "min_count": min_count})
    first = whole.merges[:num_merges]
    ranks = {(whole.vocab[a], whole.vocab[b]): (rank, whole.vocab[a + b]) for rank, (a, b) in enumerate(first)}
    sequences: dict[tuple[int, ...], int] = {}
    for word, count in counts.items():
        ids = tuple(reference.encode([whole.vocab[reference.CHAR_OF_BYTE[byte]] for byte in word], ranks))
        sequences[ids] = sequences.get(ids, 0) + count
    spellings = list(whole.vocab)[: 256 + len(first)]
    pool = LocalPartitions(divide_words(sequences_from(sequences), num_partitions))
    trained = train(pool, {"vocab_size": 256 + 40, "min_count": min_count}, spellings=spellings)
    assert trained.vocab == whole.vocab
    assert trained.merges == whole.merges[len(first) :]
    assert trained.merge_counts == whole.merge_counts[len(first) :]


# --- the rest ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 40))
def test_the_least_count_is_that_of_one_process(counts: list[int], num_merges: int) -> None:
    """Where no special token can be made of bytes, the bound of one process and that of partitions are the same."""
    words = {b"w%d" % number: count for number, count in enumerate(counts)}
    options = BpeOptions(vocab_size=256 + num_merges)
    rows = rows_of(pa.array(list(words), type=pa.large_binary()))
    expected = max(bpe._rarest_merge(rows, np.array(counts, dtype=np.int64), options, num_merges), 1)
    limits = []
    from pipeline.trainers import partitioned

    with pytest.MonkeyPatch.context() as patch:
        gather = partitioned.gather_pairs
        patch.setattr(partitioned, "gather_pairs", lambda *args: limits.append(args[-1].min_count) or gather(*args))
        train_partitioned(pool_of(words, 3), options)
    assert limits[0] == expected


def test_statistics() -> None:
    _, statistics = train_partitioned(pool_of({b"abc": 3}, 2), BpeOptions(vocab_size=300))
    assert statistics == statistics._replace(rounds=2, merges=2, taken_back=1, rebuilt=0)
    assert min(statistics.bytes_sent, statistics.bytes_received) > 0
    assert isinstance(statistics, Statistics)


@given(strategies.word_counts, nums_partitions)
def test_every_word_is_in_one_partition(counts: dict[bytes, int], num_partitions: int) -> None:
    parts = divide_words(words_from(counts), num_partitions)
    assert len(parts) == num_partitions
    found = {}
    for part in parts:
        for row, count in enumerate(part.counts.tolist()):
            found[part.symbols[part.offsets[row] : part.offsets[row + 1]].tobytes()] = count
    assert found == counts
    assert sum(len(part.counts) for part in parts) == len(counts)


def test_no_words_and_too_many_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(pool_of({}, 3), {"vocab_size": 300}) == train_whole({}, {"vocab_size": 300})
    monkeypatch.setattr(bpe, "MAX_SYMBOLS", 5)
    with pytest.raises(DataError, match="6 symbols together"):
        pool_of({b"abcd": 1}, 1)

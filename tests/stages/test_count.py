"""Counting words: the same as a dict, whatever the batches."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrow import rows_of
from pipeline.pretokenizer import Pretokenizer
from pipeline.stages import count as count_module
from pipeline.stages.count import Counted, WordCounter
from tests import reference, strategies

SPLIT = Pretokenizer.named("gpt4o")


def count(batches: list[list[str]], num_partitions: int = 1, pretokenizer: Pretokenizer = SPLIT) -> tuple[Counted, int]:
    """What is counted, and how many words there were."""
    counter = WordCounter(pretokenizer)
    num_words = sum(counter.add(rows_of(pa.array(batch, type=pa.large_string()))) for batch in batches)
    result = counter.result(num_partitions)
    assert counter.num_distinct == len(result.words)
    return result, num_words


def as_dict(result: Counted) -> dict[bytes, int]:
    words = result.words.to_pylist()
    assert len(set(words)) == len(words)
    return dict(zip(words, result.counts.tolist(), strict=True))


def expected(texts: list[str]) -> dict[bytes, int]:
    return reference.count_words(word.encode() for text in texts for word in reference.split(text, SPLIT.patterns))


@given(st.lists(strategies.texts, max_size=4))
def test_counts_are_those_of_the_reference(batches: list[list[str]]) -> None:
    result, num_words = count(batches)
    wanted = expected([text for batch in batches for text in batch])
    assert as_dict(result) == wanted
    assert num_words == sum(wanted.values())


@given(strategies.texts, st.integers(0, 8))
def test_counts_of_parts_add_up(texts: list[str], cut: int) -> None:
    parts = [as_dict(count([part])[0]) for part in (texts[:cut], texts[cut:])]
    assert reference.merge_counts(parts, [1, 1]) == as_dict(count([texts])[0])


@given(strategies.texts, st.integers(1, 9))
def test_partitions_depend_on_the_word_alone(texts: list[str], num_partitions: int) -> None:
    one, _ = count([texts], num_partitions)
    other, _ = count([[text] for text in reversed(texts)], num_partitions)
    places = dict(zip(one.words.to_pylist(), one.partitions.tolist(), strict=True))
    assert places == dict(zip(other.words.to_pylist(), other.partitions.tolist(), strict=True))
    assert all(0 <= place < num_partitions for place in places.values())


@given(st.lists(st.text("ab", max_size=300), min_size=1, max_size=20))
def test_a_table_that_starts_tiny_grows(texts: list[str]) -> None:
    small = count_module._empty_table(2, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count_module, "_empty_table", lambda *_: small)
        counter = WordCounter(Pretokenizer.named("none"))
    counter.add(rows_of(pa.array(texts, type=pa.large_string())))
    assert as_dict(counter.result(1)) == reference.count_words(text.encode() for text in texts if text)


def test_more_distinct_words_than_the_first_table_holds() -> None:
    texts = [" ".join(f"w{n}" for n in range(start, start + 5_000)) for start in range(0, 40_000, 5_000)]
    result, num_words = count([texts, texts], pretokenizer=Pretokenizer.named("whitespace"))
    assert num_words == 80_000
    assert len(result.words) == 40_000
    assert set(result.counts.tolist()) == {2}


def test_a_word_longer_than_the_whole_arena() -> None:
    word = "x" * (3 << 20)
    result, _ = count([["a", word, word + "y", word]], pretokenizer=Pretokenizer.named("none"))
    assert as_dict(result) == {b"a": 1, word.encode(): 2, word.encode() + b"y": 1}


def test_nothing_to_count() -> None:
    result, num_words = count([[], [""]])
    assert (len(result.words), num_words) == (0, 0)

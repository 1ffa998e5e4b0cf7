"""Tokens of a few characters: beside the naive twin, and what they promise."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pipeline.byte_level import ALPHABET, to_bytes, to_chars
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, Vetoes
from pipeline.trainers.partitioned import LocalPartitions, divide_words, train_partitioned, words_of
from pipeline.trainers.superbpe import first_tokens
from tests import reference
from tests.trainers.test_superbpe import rows_and_counts

texts = st.dictionaries(
    st.text("aé日😀 ", min_size=1, max_size=7).map(str.encode), st.integers(1, 9), min_size=1, max_size=10
)


def train(counts: Mapping[bytes, int], vocab_size: int, max_chars: int, num_partitions: int = 1) -> TrainedBpe:
    words = divide_words(words_of(*rows_and_counts(counts)), num_partitions)
    options = BpeOptions(vocab_size=vocab_size, vetoes=Vetoes(max_chars=max_chars))
    return train_partitioned(LocalPartitions(words), options)[0]


@given(texts, st.integers(256, 300), st.integers(1, 4), st.integers(1, 3))
def test_twin(counts: dict[bytes, int], vocab_size: int, max_chars: int, num_partitions: int) -> None:
    spellings = [to_chars(bytes([byte])) for byte in ALPHABET]
    ids = {byte: number for number, byte in enumerate(ALPHABET)}
    sequences = {tuple(ids[byte] for byte in word): count for word, count in counts.items()}
    vocab, merges, merge_counts = reference.train_sequences(sequences, spellings, vocab_size, max_chars=max_chars)
    trained = train(counts, vocab_size, max_chars, num_partitions)
    assert trained == TrainedBpe(vocab, tuple(merges), tuple(merge_counts))


@given(texts, st.integers(1, 4))
def test_no_token_has_more_characters(counts: dict[bytes, int], max_chars: int) -> None:
    for chars in train(counts, 400, max_chars).vocab:
        token = to_bytes(chars)
        text = token.decode(errors="replace")  # a part of a character is one U+FFFD, or one for each byte of it
        assert len(text.replace("\ufffd", "")) <= max_chars
        whole = [word.decode() for word in counts if token in word]
        assert not whole or len(token) <= 4 * max_chars


@given(texts, st.integers(256, 330), st.integers(1, 4))
def test_a_smaller_vocabulary_is_a_prefix(counts: dict[bytes, int], vocab_size: int, max_chars: int) -> None:
    assert first_tokens(train(counts, 330, max_chars), vocab_size) == train(counts, vocab_size, max_chars)


def test_characters_of_several_bytes_count_once() -> None:
    trained = train({"ééé".encode(): 5, b"abcdef": 3}, 400, 2)
    texts = {to_bytes(chars) for chars in trained.vocab}
    assert "éé".encode() in texts
    assert b"ab" in texts
    assert not any(len(text) > 4 for text in texts)

"""The mixture behind merges: languages made up here, mixed in known shares, and the whole linear program as the twin."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.arrow import rows_of
from pipeline.errors import DataError
from pipeline.kernels.replay import Replay
from pipeline.stages import mixture
from pipeline.stages.mixture import baseline_mixture, infer_mixture, replay
from pipeline.tokenizer import Tokenizer
from pipeline.trainers.bpe import BpeOptions, train_bpe
from tests import reference

Counts = dict[bytes, tuple[int, ...]]
LANGUAGES = ["aeioubdgklmnprst", "aeioulnrstvzcqmp", "äöüaeiknlsthyv", "абвгдеиклмнопрст"]
"""Letters: the first three have some in common."""


def language(number: int, num_words: int = 300) -> tuple[list[bytes], NDArray[np.float64]]:
    """Words with the probability of each: letters by their place, the rank's inverse."""
    letters = LANGUAGES[number]
    generator = np.random.default_rng(number)
    chances = 1 / np.arange(1, len(letters) + 1)
    words: dict[str, None] = {}
    while len(words) < num_words:
        size = int(generator.integers(2, 9))
        words.setdefault(" " + "".join(generator.choice(list(letters), size=size, p=chances / chances.sum())))
    frequencies = 1 / np.arange(1, num_words + 1)
    return [word.encode() for word in words], frequencies / frequencies.sum()


def sample(number: int, seed: int, num_words: int = 60_000) -> dict[bytes, int]:
    words, chances = language(number)
    drawn = np.random.default_rng(seed).multinomial(num_words, chances).tolist()
    return {word: count for word, count in zip(words, drawn, strict=True) if count}


def size_of(counts: dict[bytes, int]) -> int:
    return sum(len(word) * count for word, count in counts.items())


def trained(samples: list[dict[bytes, int]], shares: list[float], num_merges: int) -> Tokenizer:
    """A tokenizer of text with these shares of bytes of each sample."""
    weights = [round(share * 1e9 / size_of(counts)) for share, counts in zip(shares, samples, strict=True)]
    words = reference.merge_counts(samples, weights)
    words = {word: count for word, count in words.items() if count}
    found = train_bpe(
        rows_of(pa.array(list(words), type=pa.large_binary())),
        np.array(list(words.values()), dtype=np.int64),
        BpeOptions(vocab_size=256 + num_merges),
    )
    return Tokenizer(found.vocab, found.merges)


def side_by_side(samples: list[dict[bytes, int]]) -> Counts:
    return {word: tuple(counts.get(word, 0) for counts in samples) for word in {w: None for c in samples for w in c}}


def done(tokenizer: Tokenizer, counts: Counts, num_merges: int = 10_000) -> Replay:
    words = rows_of(pa.array(list(counts), type=pa.large_binary()))
    return replay(tokenizer, num_merges, words, np.array(list(counts.values()), dtype=np.int64))


def tokenizer_of(*merges: tuple[str, str]) -> Tokenizer:
    """Of bytes a to f and what the merges make."""
    spellings = dict.fromkeys([*"abcdef", *(a + b for a, b in merges)])
    return Tokenizer({spelling: number for number, spelling in enumerate(spellings)}, merges)


def log_error(shares: NDArray[np.float64], truth: list[float]) -> float:
    return float(np.log10(np.mean((shares - truth) ** 2)))


# --- known mixtures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [[0.2, 0.5, 0.3], [0.05, 0.15, 0.1, 0.7], [0.6, 0.0, 0.4], [0.97, 0.03]])
def test_a_known_mixture_is_recovered(shares: list[float]) -> None:
    """From the training text itself all but exactly; from other text of the same languages far better than by guessing."""
    training = [sample(number, seed=number) for number in range(len(shares))]
    others = [sample(number, seed=100 + number) for number in range(len(shares))]
    tokenizer = trained(training, shares, 500)
    itself = infer_mixture(done(tokenizer, side_by_side(training)), np.array([size_of(c) for c in training]))
    assert log_error(itself.shares, shares) < -7
    assert (itself.converged, itself.shares.sum()) == (True, pytest.approx(1))
    assert itself.slack < 1e-6
    merges = done(tokenizer, side_by_side(others))
    sizes = np.array([size_of(counts) for counts in others])
    found = infer_mixture(merges, sizes)
    assert found.converged
    assert 0 < found.slack < 0.1
    guess = baseline_mixture(sizes / merges.num_tokens)
    assert log_error(found.shares, shares) < log_error(guess, shares) - 2


def test_how_much_text_of_a_category_is_given_does_not_matter() -> None:
    training = [sample(number, seed=number) for number in range(3)]
    shares = [0.25, 0.6, 0.15]
    tokenizer = trained(training, shares, 300)
    longer = [{word: count * times for word, count in c.items()} for c, times in zip(training, (1, 40, 7), strict=True)]
    found = infer_mixture(done(tokenizer, side_by_side(longer)), np.array([size_of(counts) for counts in longer]))
    assert log_error(found.shares, shares) < -7


def test_a_category_that_was_not_in_the_text_gets_nothing() -> None:
    training = [sample(number, seed=number) for number in range(3)]
    tokenizer = trained(training[:2], [0.3, 0.7], 400)
    found = infer_mixture(done(tokenizer, side_by_side(training)), np.array([size_of(counts) for counts in training]))
    assert found.shares.tolist() == pytest.approx([0.3, 0.7, 0.0], abs=1e-3)
    assert found.slack < 1e-6


def test_the_same_input_gives_the_same_mixture() -> None:
    counts = [sample(number, seed=number) for number in range(3)]
    tokenizer = trained([sample(number, seed=9 + number) for number in range(3)], [0.3, 0.3, 0.4], 200)
    sizes = np.array([size_of(c) for c in counts])
    one, other = (infer_mixture(done(tokenizer, side_by_side(counts)), sizes) for _ in range(2))
    assert one.shares.tolist() == other.shares.tolist()
    assert (one.slack, one.num_rounds, one.num_rows) == (other.slack, other.num_rounds, other.num_rows)


def test_rounds_that_are_too_few_are_told() -> None:
    counts = [sample(number, seed=number) for number in range(3)]
    tokenizer = trained([sample(number, seed=9 + number) for number in range(3)], [0.1, 0.3, 0.6], 200)
    sizes = np.array([size_of(c) for c in counts])
    merges = done(tokenizer, side_by_side(counts))
    found = infer_mixture(merges, sizes, most_rounds=1)
    assert (found.converged, found.num_rounds) == (False, 1)
    in_full = infer_mixture(merges, sizes)
    assert in_full.converged
    assert infer_mixture(merges, sizes, most_rounds=in_full.num_rounds).converged


# --- the linear program -----------------------------------------------------------------------------------------------

small_counts = st.dictionaries(
    st.text("abc", min_size=2, max_size=6).map(str.encode), st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2
).filter(lambda counts: all(sum(c[category] for c in counts.values()) for category in range(2)))


@given(small_counts, small_counts)
def test_the_slack_is_that_of_the_whole_program(training: Counts, counts: Counts) -> None:
    """Rows that are added where they are needed give what all rows give; levels that never rise cost little."""
    vocab, merges, _ = reference.train_bpe({word: sum(c) or 1 for word, c in training.items()}, 262)
    found = done(Tokenizer(vocab, tuple(merges)), counts)
    used = np.flatnonzero(found.merge_counts.any(axis=1)).tolist()
    if not used:
        return
    sizes = np.array([sum(len(word) * c[category] for word, c in counts.items()) for category in range(2)])
    inferred = infer_mixture(found, sizes)
    assert inferred.converged
    ids = [(vocab[a], vocab[b]) for a, b in merges]
    words = [([vocab[reference.CHAR_OF_BYTE[byte]] for byte in word], c) for word, c in counts.items()]
    tables = reference.replay_merges(words, ids, [vocab[a + b] for a, b in merges])
    tables, ids = [tables[step] for step in used], [ids[step] for step in used]
    mixed = sum(float(np.dot(inferred.shares, table[pair] / sizes)) for table, pair in zip(tables, ids, strict=True))
    least = reference.least_slack(tables, ids, (1 / sizes).tolist(), falls=True)
    assert inferred.slack * mixed == pytest.approx(least, abs=1e-6)
    assert reference.least_slack(tables, ids, (1 / sizes).tolist(), falls=False) <= least + 1e-9


def test_docstring_example() -> None:
    merges = done(tokenizer_of(("a", "b"), ("c", "d"), ("e", "f")), {b"ab": (2, 0), b"ef": (1, 0), b"cd": (0, 1)})
    found = infer_mixture(merges, np.array([6, 2]))
    assert 0.6 - 1e-6 <= found.shares[0] <= 0.75 + 1e-6
    assert found.slack == pytest.approx(0, abs=1e-9)


def test_merges_that_find_nothing_to_do() -> None:
    """``(b, f)`` is in no text, and ``(a, bc)`` would make again what ``(ab, c)`` has made."""
    tokenizer = tokenizer_of(("a", "b"), ("b", "f"), ("ab", "c"), ("b", "c"), ("a", "bc"), ("d", "e"))
    counts = {b"abc": (3, 0), b"fbc": (0, 2), b"de": (1, 1)}
    found = done(tokenizer, counts)
    assert found.merge_counts.tolist() == [[3, 0], [0, 0], [3, 0], [0, 2], [0, 0], [1, 1]]
    without = done(tokenizer_of(("a", "b"), ("ab", "c"), ("b", "c"), ("d", "e")), counts)
    sizes = np.array([11, 8])
    assert infer_mixture(found, sizes).shares.tolist() == infer_mixture(without, sizes).shares.tolist()
    assert done(tokenizer, counts, 3).merge_counts.tolist() == [[3, 0], [0, 0], [3, 0]]


def test_bytes_without_an_id_are_left_out() -> None:
    merges = done(tokenizer_of(("a", "b")), {b"axb": (1, 2)})
    assert merges.merge_counts.tolist() == [[1, 2]]
    assert merges.num_tokens.tolist() == [1, 2]


def test_the_baseline_is_in_proportion_to_bytes_per_token() -> None:
    assert baseline_mixture(np.array([4.0, 1.0])).tolist() == [0.8, 0.2]


def test_too_many_symbols_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "MAX_SYMBOLS", 6)
    assert done(tokenizer_of(("a", "b")), {b"abcd": (1, 1)}).merge_counts.tolist() == [[1, 1]]
    with pytest.raises(DataError, match="7 symbols together; at most 6 are possible: give less text"):
        done(tokenizer_of(("a", "b")), {b"abcde": (1, 1)})

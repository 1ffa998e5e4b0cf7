"""Sequences without cuts: words of hundreds of thousands of letters, trained on and encoded exactly, in any slices."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from pipeline import encoding, superwords
from pipeline.arrow import rows_of
from pipeline.pretokenizer import Pretokenizer
from pipeline.stages.count import WordCounter
from pipeline.tokenizer import Tokenizer
from pipeline.trainers.bpe import BpeOptions, train_bpe
from tests import reference

MOTIFS = {"TATAAT": 30, "GGATCCGGATCC": 200}
"""What is planted, and once in how many letters."""


def sequence(num_letters: int, seed: int = 0, motifs: bool = True) -> str:
    """Random letters, with motifs in their places."""
    generator = np.random.default_rng(seed)
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)[generator.integers(0, 4, num_letters)]
    for motif, distance in MOTIFS.items() if motifs else ():
        for at in generator.integers(0, num_letters - len(motif), num_letters // distance):
            letters[at : at + len(motif)] = np.frombuffer(motif.encode(), dtype=np.uint8)
    return letters.tobytes().decode()


def train(texts: list[str], vocab_size: int) -> Tokenizer:
    counter = WordCounter(Pretokenizer.named("none"))
    counter.add(rows_of(pa.array(texts, type=pa.large_string())))
    (words,) = counter.partitions()
    options = BpeOptions(vocab_size=vocab_size, initial_alphabet="seen")
    trained = train_bpe(rows_of(words.column("word")), words.column("count").to_numpy(), options)
    return Tokenizer(trained.vocab, trained.merges, pretokenizer=Pretokenizer.named("none"))


def naively(made: Tokenizer, text: str) -> list[int]:
    ranks = {(made.vocab[a], made.vocab[b]): (rank, made.vocab[a + b]) for rank, (a, b) in enumerate(made.merges)}
    return reference.encode([made.vocab[char] for char in text], ranks)


@pytest.fixture(scope="module")
def dna() -> Tokenizer:
    return train([sequence(300_000)], 300)


def test_planted_motifs_become_tokens(dna: Tokenizer) -> None:
    assert set(MOTIFS) <= dna.vocab.keys()
    random = train([sequence(300_000, motifs=False)], 300)
    assert max(map(len, random.vocab)) < 6
    text = sequence(50_000, seed=7)
    found = [part.decode() for part in dna.decode_parts(dna.encode(text))]
    assert sum("GGATCCGGATCC" in part for part in found) > 0.8 * text.count("GGATCCGGATCC")
    assert len(found) < len(random.encode(text))


def test_one_long_word_is_trained_on_as_by_the_naive_twin() -> None:
    text = sequence(6_000)
    vocab, merges, _ = reference.train_bpe({text.encode(): 1}, 60, alphabet="seen")
    made = train([text], 60)
    assert list(made.vocab.items()) == list(vocab.items())
    assert list(made.merges) == merges


def test_one_long_word_is_trained_on_as_by_tokenizers() -> None:
    text = sequence(100_000)
    outside = tokenizers.Tokenizer(models.BPE())
    outside.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    outside.train_from_iterator([text], trainers.BpeTrainer(vocab_size=120, show_progress=False))
    made = train([text], 120)
    assert made.vocab == outside.get_vocab()


def test_one_long_word_is_encoded_as_by_tokenizers(dna: Tokenizer) -> None:
    text = sequence(200_000, seed=3)
    assert dna.encode(text) == tokenizers.Tokenizer.from_str(dna.to_json()).encode(text).ids


def test_one_long_word_is_encoded_as_by_the_naive_twin(dna: Tokenizer) -> None:
    text = sequence(3_000, seed=4)
    assert dna.encode(text) == naively(dna, text)


def test_runs_of_one_letter(dna: Tokenizer) -> None:
    """As the gaps of a genome: tokens of thousands of letters."""
    text = f"{sequence(5_000)}{'N' * 1_000_000}{sequence(5_000, 1)}{'N' * 1_237}ACGT"
    made = train([text], 2_000)
    assert max(map(len, made.vocab)) >= 131_072
    assert made.encode(text) == tokenizers.Tokenizer.from_str(made.to_json()).encode(text).ids
    assert made.decode(made.encode(text)) == text


@pytest.mark.parametrize("num_bytes", [1, 100, 5_000, 1 << 30])
def test_batches_and_slices_do_not_matter(dna: Tokenizer, num_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [sequence(size, seed=size) for size in (50_000, 20, 3, 9_999, 1_000, 49, 20_000)]
    alone = [dna.encode(text) for text in texts]
    monkeypatch.setattr(encoding, "ENCODE_BYTES", num_bytes)
    monkeypatch.setattr(superwords, "SLICE_BYTES", num_bytes)
    assert dna.encode_batch(texts).to_pylist() == alone
    assert dna.encode_batch(texts[::-1]).to_pylist() == alone[::-1]


def test_kmers_are_merged_inside_only() -> None:
    text = sequence(10_000)
    made = Tokenizer(*_of_kmers(text, 6), pretokenizer=Pretokenizer.kmers(6))
    ids = [i for at in range(0, len(text), 6) for i in naively(made, text[at : at + 6])]
    assert made.encode(text) == ids == tokenizers.Tokenizer.from_str(made.to_json()).encode(text).ids
    assert max(map(len, made.vocab)) <= 6


def _of_kmers(text: str, k: int) -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    counter = WordCounter(Pretokenizer.kmers(k))
    counter.add(rows_of(pa.array([text], type=pa.large_string())))
    (words,) = counter.partitions()
    counts = words.column("count").to_numpy()
    assert int(counts.sum()) == -(-len(text) // k)
    trained = train_bpe(rows_of(words.column("word")), counts, BpeOptions(vocab_size=200, initial_alphabet="seen"))
    return trained.vocab, trained.merges

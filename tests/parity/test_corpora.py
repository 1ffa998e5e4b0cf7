"""On real text of every kind: merges, ids and tokenizer.json are those of ``tokenizers``, without one difference."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer as OutsideTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from pipeline.arrow import rows_of
from pipeline.normalizer import normalize
from pipeline.normalizer import to_tokenizers as normalizer_to_tokenizers
from pipeline.pretokenizer import PRESETS, Pretokenizer
from pipeline.stages.count import WordCounter
from pipeline.tokenizer import Tokenizer
from pipeline.trainers.bpe import BpeOptions, train_bpe
from pipeline.trainers.partitioned import LocalPartitions, divide_words, train_partitioned, words_of

VOCAB_SIZE = 8192
SPECIALS = ("<|endoftext|>", "<|pad|>")
CASES = {
    "gpt4o": (Pretokenizer.named("gpt4o"), "none"),
    "gpt2, nfkc": (Pretokenizer.named("gpt2"), "nfkc"),
}
SMALL_CASES = {
    "regex": (Pretokenizer.custom(r"\p{Lu}?[\p{Ll}\p{M}]+|\p{N}{1,2}|[^\p{L}\p{N}]{1,8}"), "none"),
    **{preset: (Pretokenizer.named(preset), "none") for preset in PRESETS if preset not in ("none", "llama3")},
    "gpt4o, digits r2l": (Pretokenizer.named("gpt4o", "r2l"), "none"),
    "whitespace, digits single": (Pretokenizer.named("whitespace", "single"), "none"),
    "gpt4, nfc": (Pretokenizer.named("gpt4"), "nfc"),
    "qwen2, lowercase": (Pretokenizer.named("qwen2"), "lowercase"),
    "outside the compiler": (Pretokenizer.custom(r"\b\w+\b|\W+"), "none"),
}


def _train(texts: list[str], pretokenizer: Pretokenizer, normalizer: str) -> Tokenizer:
    counter = WordCounter(pretokenizer)
    counter.add(rows_of(normalize(pa.array(texts, type=pa.large_string()), normalizer)))
    counted = next(counter.partitions())
    words, counts = rows_of(counted.column("word")), counted.column("count").to_numpy()
    trained = train_bpe(words, counts, BpeOptions(vocab_size=VOCAB_SIZE, special_tokens=SPECIALS))
    return Tokenizer(trained.vocab, trained.merges, SPECIALS, pretokenizer, normalizer)


def _train_outside(texts: list[str], pretokenizer: Pretokenizer, normalizer: str) -> Any:
    outside = OutsideTokenizer(models.BPE())
    if normalizer != "none":
        outside.normalizer = normalizer_to_tokenizers(normalizer)
    outside.pre_tokenizer = pretokenizer.to_tokenizers()
    outside.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    outside.train_from_iterator(texts, trainer)
    return outside


def _assert_parity(train: list[str], test: list[str], pretokenizer: Pretokenizer, normalizer: str) -> None:
    ours = _train(train, pretokenizer, normalizer)
    outside = _train_outside(train, pretokenizer, normalizer)
    assert ours.to_json() == outside.to_str(pretty=True)
    outside.encode_special_tokens = True
    for start in range(0, len(test), 2000):
        texts = test[start : start + 2000]
        expected = pa.array([e.ids for e in outside.encode_batch_fast(texts)], type=pa.large_list(pa.uint16()))
        found = ours.encode_batch(texts)
        assert found.equals(expected)
        if normalizer == "none":
            assert ours.decode_bytes(found.flatten().to_pylist()) == "".join(texts).encode()


def _num_bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def test_the_samples_are_large_enough(samples: tuple[list[str], list[str]]) -> None:
    train, test = samples
    assert _num_bytes(train) >= 20_000_000
    assert _num_bytes(test) >= 50_000_000


@pytest.mark.parametrize("name", CASES)
def test_same_tokenizer_and_same_ids(name: str, samples: tuple[list[str], list[str]]) -> None:
    train, test = samples
    index = list(CASES).index(name)
    _assert_parity(train, test[index :: len(CASES)], *CASES[name])


def test_llama3_cuts_as_gpt4_does() -> None:
    assert Pretokenizer.named("llama3") == Pretokenizer.named("gpt4")


def test_without_any_cut(samples: tuple[list[str], list[str]]) -> None:
    train, test = samples
    _assert_parity(train[::100], test[::240], Pretokenizer.named("none"), "none")


@pytest.mark.parametrize("name", SMALL_CASES)
def test_same_tokenizer_and_same_ids_on_less_text(name: str, samples: tuple[list[str], list[str]]) -> None:
    train, test = samples
    _assert_parity(train[::16], test[::60], *SMALL_CASES[name])


def test_same_tokenizer_from_three_partitions(samples: tuple[list[str], list[str]]) -> None:
    train = samples[0][::8]
    pretokenizer = Pretokenizer.named("gpt2")
    counter = WordCounter(pretokenizer)
    counter.add(rows_of(pa.array(train, type=pa.large_string())))
    counted = next(counter.partitions())
    words = words_of(rows_of(counted.column("word")), counted.column("count").to_numpy())
    options = BpeOptions(vocab_size=VOCAB_SIZE, special_tokens=SPECIALS)
    trained, statistics = train_partitioned(LocalPartitions(divide_words(words, 3)), options)
    ours = Tokenizer(trained.vocab, trained.merges, SPECIALS, pretokenizer, "none")
    assert ours.to_json() == _train_outside(train, pretokenizer, "none").to_str(pretty=True)
    assert statistics.merges > 10 * statistics.rounds

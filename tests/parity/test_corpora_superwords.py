"""Superwords on real text: the published tokenizers' ids, and merges, are those of ``tokenizers``."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
import zstandard
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as OutsideTokenizer

from pipeline.arrow import rows_of
from pipeline.pretokenizer import RECIPES, Pretokenizer
from pipeline.stages.count import WordCounter
from pipeline.tokenizer import Tokenizer
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, train_bpe
from pipeline.trainers.partitioned import LocalPartitions
from pipeline.trainers.superbpe import UnitEncoder, train_superbpe
from tests.parity.conftest import CORPORA

ORACLES = CORPORA.parent / "oracles/superbpe"


def _read(name: str) -> str:
    with zstandard.open(ORACLES / name, "rt", encoding="utf-8", newline="\n") as file:
        return str(file.read())


def _published(name: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    lines = [line for line in _read(f"{name}.merges.txt.zst").split("\n") if line and not line.startswith("#version:")]
    return json.loads(_read(f"{name}.vocab.json.zst")), [(a, b) for a, b in (line.split(" ") for line in lines)]


def _original_cut(stage: int) -> pre_tokenizers.PreTokenizer:
    """As the published tokenizers cut text, in their own words."""
    words = r"(?=(\d{3})+(?!\d))| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex(r"(?=(\d{3})+(?!\d))" if stage else words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@pytest.mark.parametrize(("name", "stage"), [("subword", 0), ("80K_extend", 1)])
def test_ids_of_the_published_tokenizers(name: str, stage: int, samples: tuple[list[str], list[str]]) -> None:
    vocab, merges = _published(name)
    assert len(vocab) == 200_000
    ours = Tokenizer(vocab, tuple(merges), pretokenizer=Pretokenizer(RECIPES["paper"][stage]))
    outside = OutsideTokenizer(models.BPE(vocab=vocab, merges=merges))
    outside.pre_tokenizer = _original_cut(stage)
    texts = samples[1][::24]
    expected = [encoding.ids for encoding in outside.encode_batch_fast(texts)]
    assert ours.encode_batch(texts).to_pylist() == expected
    if stage == 1:
        loaded = OutsideTokenizer.from_str(ours.to_json())
        assert [encoding.ids for encoding in loaded.encode_batch_fast(texts[::10])] == expected[::10]
        assert sum(map(len, expected)) > 500_000


def test_a_line_of_megabytes(samples: tuple[list[str], list[str]]) -> None:
    vocab, merges = _published("80K_extend")
    ours = Tokenizer(vocab, tuple(merges), pretokenizer=Pretokenizer(RECIPES["paper"][1]))
    line = " ".join(samples[1][::200]).replace("\n", " ")[:3_000_000]
    outside = OutsideTokenizer.from_str(ours.to_json())
    assert ours.encode(line) == outside.encode(line).ids


@pytest.mark.parametrize("recipe", RECIPES)
def test_merges_of_units_without_a_first_stage(recipe: str, samples: tuple[list[str], list[str]]) -> None:
    """No inherited merges, no vetoes: plain BPE on what the second stage is trained on."""
    train = samples[0][::40]
    cut = Pretokenizer(RECIPES[recipe][1])
    counter = WordCounter(cut)
    counter.add(rows_of(pa.array(train, type=pa.large_string())))
    counted = next(counter.partitions())
    units, counts = rows_of(counted.column("word")), counted.column("count").to_numpy()
    first: TrainedBpe = train_bpe(units, counts, BpeOptions(vocab_size=256))
    words = UnitEncoder(first, ()).encode(units, counts)
    trained, _ = train_superbpe(LocalPartitions([words]), first, BpeOptions(vocab_size=4096))
    outside = OutsideTokenizer(models.BPE())
    outside.pre_tokenizer = cut.to_tokenizers()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    outside.train_from_iterator(train, trainers.BpeTrainer(vocab_size=4096, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(outside.to_str())["model"]
    assert [list(merge) for merge in trained.merges] == model["merges"]
    assert trained.vocab == model["vocab"]

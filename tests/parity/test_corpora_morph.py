"""The morphology-hybrid on real text in all languages and domains: everything comes back."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from pipeline.arrow import list_rows, rows_of
from pipeline.jobs.packs import read_language
from pipeline.kernels.morph import LITERAL
from pipeline.morph import MorphTokenizer
from pipeline.morphology import compile_language
from pipeline.stages.count import WordCounter
from pipeline.trainers.morph import MorphOptions, train_morph
from tests.parity.conftest import CORPORA, _take, _texts


@pytest.fixture(scope="module")
def trained() -> MorphTokenizer:
    """On some of the Turkish text."""
    texts = [text for path in sorted((CORPORA / "turkish").iterdir()) for text in _take(_texts(path), 150_000)]
    seed = MorphTokenizer(compile_language(read_language("tr")), pieces=(), costs=())
    counter = WordCounter(seed.pretokenizer)
    counter.add(rows_of(pa.array(texts, pa.large_string())))
    (counts,) = counter.partitions()
    words = rows_of(counts.column("word"))
    options = MorphOptions(vocab_size=16_000, root_share=0.8)
    return train_morph(words, counts.column("count").to_numpy(), seed, options).tokenizer


@pytest.mark.parametrize("segmentation", ["viterbi", "longest"])
def test_every_document_comes_back(
    segmentation: Literal["viterbi", "longest"], trained: MorphTokenizer, samples: tuple[list[str], list[str]]
) -> None:
    tokenizer = dataclasses.replace(trained, segmentation=segmentation)
    texts = samples[1] if segmentation == "viterbi" else samples[1][::5]
    offsets, ids = list_rows(tokenizer.encode_batch(texts))
    for text, start, stop in zip(texts, offsets, offsets[1:], strict=False):
        assert tokenizer.decode(ids[start:stop]) == text


def test_turkish_is_mostly_roots_and_affixes(trained: MorphTokenizer) -> None:
    text = list(_texts(CORPORA / "turkish/tr_web_treebank_text.jsonl.zst"))[1000:]
    _, ids = list_rows(trained.encode_batch(text))
    letters = [token for token in ids.tolist() if any(char.isalpha() for char in trained.decode([token]))]
    assert np.mean(np.array(letters) < trained.tables_starts[LITERAL]) > 0.8

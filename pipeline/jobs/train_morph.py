"""Training of tokenizers that know morphemes: the morphology-hybrid, and BPE that merges inside morphemes only."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import Rows
from pipeline.errors import ArtifactError
from pipeline.jobs.packs import load_morphology, read_pack
from pipeline.jobs.tasks import FORMAT_VERSION, Job, Outputs, Report
from pipeline.jobs.training import WordFigures, WordFiles, read_words
from pipeline.morph import MorphTokenizer
from pipeline.morphology import Morphology, compile_language
from pipeline.tokenizer_spec import BpeSpec, MorphSpec
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, train_bpe
from pipeline.trainers.morfessor import learn_language
from pipeline.trainers.morph import MorphOptions, cut_at_morphemes, train_morph
from pipeline.turkish_tokenizer import FORMAT as TURKISH_FORMAT
from pipeline.turkish_tokenizer import TurkishTokenizer02


def _morphology(job: Job, pack: str | None, words: Rows, counts: NDArray[np.int64]) -> Morphology:
    """The language in a pack; without one, what Morfessor learns from the words."""
    return load_morphology(job, pack) if pack is not None else compile_language(learn_language(words, counts))


def train_inside_morphemes(
    job: Job, tokenizer: BpeSpec, files: WordFiles, options: BpeOptions, pack: str | None
) -> tuple[TrainedBpe, WordFigures]:
    """Train BPE on morphemes in place of words: no merge goes across their borders. What encodes is ordinary BPE.

    MorphBPE: Asgari, El Kheir and Sadraei Javaheri (2025), arXiv 2502.00894.
    """
    words, counts, figures = read_words(files)
    seed = MorphTokenizer(_morphology(job, pack, words, counts), pieces=(), costs=())
    morphemes, morpheme_counts = cut_at_morphemes(words, counts, seed)
    return train_bpe(morphemes, morpheme_counts, options), figures


def train_morph_tokenizer(
    job: Job, outputs: Outputs, tokenizer: MorphSpec, files: WordFiles, described: dict[str, Any], pack: str | None
) -> Report:
    """Train a morphology-hybrid tokenizer, and publish its directory."""
    folder = f"tokenizers/{tokenizer.name}"
    if tokenizer.compat == TURKISH_FORMAT:
        return _publish_turkish(job, outputs, folder, described, pack)
    words, counts, figures = read_words(files)
    morphology = _morphology(job, pack, words, counts)
    if not tokenizer.morphotactics:
        any_kind = (1 << len(morphology.kinds)) - 1
        affixes = tuple(dataclasses.replace(affix, after=any_kind) for affix in morphology.affixes)
        morphology = dataclasses.replace(morphology, affixes=affixes)
    seed = MorphTokenizer(
        morphology,
        pieces=(),
        costs=(),
        special_tokens=tokenizer.special_tokens,
        pretokenizer=tokenizer.make_pretokenizer(),
        normalizer=tokenizer.normalizer,
        segmentation=tokenizer.segmentation,
        options=described,
    )
    options = MorphOptions(
        vocab_size=tokenizer.vocab_size,
        root_share=tokenizer.root_share,
        min_count=tokenizer.min_count,
        max_token_length=tokenizer.max_token_length,
    )
    trained = train_morph(words, counts, seed, options)
    result = trained.tokenizer
    for name, content in result.files().items():
        outputs.write_bytes(f"{folder}/{name}", content)
    training = {
        "format_version": FORMAT_VERSION,
        **figures._asdict(),
        "tokens": list(zip(result.vocab, trained.id_counts.tolist(), strict=True)),
    }
    outputs.write_bytes(f"{folder}/training.json", (json.dumps(training, ensure_ascii=False) + "\n").encode())
    facts = result.description()
    return {
        "vocab_size": result.vocab_size,
        **{name: facts[name] for name in ("num_affixes", "num_roots", "num_pieces")},
        "distinct_words": figures.distinct_words,
        "pruned_words": figures.pruned_words,
        "pruned_occurrences": figures.pruned_occurrences,
        "sha256": result.sha256,
        "training": {},
    }


def _publish_turkish(job: Job, outputs: Outputs, folder: str, described: dict[str, Any], pack: str | None) -> Report:
    """The published tokenizer as it is: nothing is trained."""
    if pack is None:
        raise ArtifactError(f"{folder}: its dictionaries are not there")
    result = TurkishTokenizer02.from_json(read_pack(job, pack))
    for name, content in result.files(described).items():
        outputs.write_bytes(f"{folder}/{name}", content)
    return {
        "vocab_size": result.vocab_size, "distinct_words": 0, "pruned_words": 0, "pruned_occurrences": 0,
        "sha256": result.sha256, "training": {},
    }  # fmt: skip

"""The steps that train: the subwords that second stages share, then each tokenizer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.byte_level import to_chars
from pipeline.errors import DataError
from pipeline.jobs.load import without_paths
from pipeline.jobs.tasks import FORMAT_VERSION, Job, Outputs, Report, read_output
from pipeline.jobs.train_morph import train_inside_morphemes, train_morph_tokenizer
from pipeline.jobs.training import (
    Checkpoint,
    FirstStage,
    OpenPartitions,
    WordFigures,
    WordFiles,
    WordParts,
    train,
    train_second,
)
from pipeline.spec import AnySpec, BpeSpec, MorphSpec, SuperBpeSpec, TokenizerSpec
from pipeline.tokenizer import Tokenizer
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, Vetoes
from pipeline.trainers.superbpe import first_merges, first_tokens, num_initial


def _scale(job: Job) -> tuple[int, tuple[int, ...]]:
    """By how much counts are multiplied so that weights are whole numbers, and each source's weight then."""
    weights = [Fraction(str(source.weight)) for source in job.spec.sources]
    scale = int(np.lcm.reduce([weight.denominator for weight in weights]))
    return scale, tuple(int(weight * scale) for weight in weights)


def _word_files(job: Job, tokenizer: TokenizerSpec, words: WordParts) -> WordFiles:
    return WordFiles(job=job, parts=words.parts, weights=_scale(job)[1], min_word_count=tokenizer.min_word_count)


def _bpe_options(job: Job, tokenizer: TokenizerSpec, vocab_size: int) -> BpeOptions:
    scale, _ = _scale(job)
    return BpeOptions(
        vocab_size=vocab_size,
        min_count=tokenizer.min_count * scale if tokenizer.min_count > 1 else 1,
        max_token_length=tokenizer.max_token_length,
        initial_alphabet=tokenizer.initial_alphabet,
        special_tokens=tokenizer.special_tokens,
    )


# --- subwords ---------------------------------------------------------------------------------------------------------


def train_subwords(
    job: Job,
    outputs: Outputs,
    *,
    key: str,
    tokenizer: SuperBpeSpec,
    vocab_size: int,
    words: WordParts,
    open_partitions: OpenPartitions,
) -> Report:
    """Train the first stage, as far as any of the tokenizers that share it goes: they take a part of its merges."""
    options = _bpe_options(job, tokenizer, vocab_size)
    checkpoint = Checkpoint(job, f"subwords-{key}", _identity([key, vocab_size, words.hashes]))
    trained, figures, workers = train(
        _word_files(job, tokenizer, words), words.num_workers, options, checkpoint, open_partitions
    )
    content = {
        "vocab": list(trained.vocab),
        "merges": trained.merges,
        "merge_counts": trained.merge_counts,
        "figures": figures,
    }
    outputs.write_bytes(f"_work/subwords/{key}.json", json.dumps(content, ensure_ascii=False).encode())
    return {"vocab_size": len(trained.vocab), "training": workers}


def _read_subwords(job: Job, subwords: tuple[str, dict[str, Any]]) -> tuple[TrainedBpe, WordFigures]:
    root = json.loads(read_output(job, "subwords", *subwords).to_pybytes())
    vocab = {chars: token_id for token_id, chars in enumerate(root["vocab"])}
    merges = tuple((left, right) for left, right in root["merges"])
    return TrainedBpe(vocab, merges, tuple(root["merge_counts"])), WordFigures(*root["figures"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a training starts from, beside words. ``subwords``: a first stage, its task and entry; or ``base``: path and
    sha256 of a tokenizer.json. ``pack``: sha256 of what there is to know of a language.
    """

    subwords: tuple[str, dict[str, Any]] | None = None
    base: tuple[str, str] | None = None
    pack: str | None = None


# --- train ------------------------------------------------------------------------------------------------------------


def train_tokenizer(
    job: Job,
    outputs: Outputs,
    *,
    tokenizer: AnySpec,
    words: WordParts,
    origin: Origin,
    open_partitions: OpenPartitions,
) -> Report:
    """Train one tokenizer from the merged words, and publish its directory. For a second stage ``words`` are units."""
    scale, _ = _scale(job)
    first = _first_stage(job, tokenizer, origin) if isinstance(tokenizer, SuperBpeSpec) else None
    made_of = words.hashes + ([_identity(first.trained.merges)] if first else []) + ([origin.pack] if origin.pack else [])
    described = _tokenizer_options(job, tokenizer, made_of)
    checkpoint = Checkpoint(job, tokenizer.name, described["fingerprint"])
    options = _bpe_options(job, tokenizer, tokenizer.vocab_size)
    files = _word_files(job, tokenizer, words)
    if isinstance(tokenizer, MorphSpec):
        return train_morph_tokenizer(job, outputs, tokenizer, files, described, origin.pack)
    special_tokens = tokenizer.special_tokens
    workers: dict[str, int] = {}
    more: dict[str, Any] = {}
    if isinstance(tokenizer, SuperBpeSpec) and first is not None:
        files = _unit_files(files, tokenizer, first)
        vetoes = Vetoes(tokenizer.most_words, tuple(to_chars(text.encode()) for text in tokenizer.forbidden_texts))
        options = dataclasses.replace(options, vetoes=vetoes)
        trained, figures, workers = train_second(files, words.num_workers, options, checkpoint, open_partitions)
        _check_size(tokenizer, trained, figures.words)
        special_tokens = first.special_tokens
        more = {"first_stage_tokens": len(first.trained.vocab), "first_stage_merges": len(first.trained.merges)}
    elif isinstance(tokenizer, BpeSpec) and tokenizer.morphemes is not None:
        trained, figures = train_inside_morphemes(job, tokenizer, files, options, origin.pack)
    else:
        trained, figures, workers = train(files, words.num_workers, options, checkpoint, open_partitions)
    result = Tokenizer(
        vocab=trained.vocab,
        merges=trained.merges,
        special_tokens=special_tokens,
        pretokenizer=tokenizer.make_pretokenizer(),
        normalizer=tokenizer.normalizer,
        encoder=tokenizer.encoder,
        options=described,
    )
    folder = f"tokenizers/{tokenizer.name}"
    for name, content in result.files().items():
        outputs.write_bytes(f"{folder}/{name}", content)
    training = {
        "format_version": FORMAT_VERSION,
        "count_scale": scale,  # counts below are this many times the weighted occurrences
        **figures._asdict(),
        **more,
        "merges": [(*pair, count) for pair, count in zip(trained.merges, trained.merge_counts, strict=True)],
    }
    outputs.write_bytes(f"{folder}/training.json", (json.dumps(training, ensure_ascii=False) + "\n").encode())
    return {
        "vocab_size": result.vocab_size,
        "num_merges": len(trained.merges),
        "distinct_words": figures.distinct_words,
        "pruned_words": figures.pruned_words,
        "pruned_occurrences": figures.pruned_occurrences,
        **more,
        "sha256": result.sha256,
        "training": workers,
    }


def _first_stage(job: Job, tokenizer: SuperBpeSpec, origin: Origin) -> FirstStage:
    """What the second stage goes on from.

    Raises
    ------
    DataError
        The corpus has no merges, or too many bytes, for the transition; or ``base`` has changed.
    """
    if origin.base is not None:
        uri, sha256 = origin.base
        content = storage.read_bytes(uri)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DataError(f"{uri}: has changed since the plan was made; put the old file back")
        loaded = Tokenizer.from_json(content.decode())
        vocab = dict(sorted(loaded.vocab.items(), key=lambda item: item[1]))
        trained = TrainedBpe(vocab, loaded.merges, (0,) * len(loaded.merges))
        return FirstStage(trained, loaded.special_tokens, None)
    assert origin.subwords is not None
    whole, figures = _read_subwords(job, origin.subwords)
    least = num_initial(whole)
    if tokenizer.compat == "reference":  # which leaves out the first line of the file of merges
        num_merges = tokenizer.num_first - 1
        first = first_merges(whole, num_merges)
        missing = num_merges - len(first.merges)
    else:
        num_first = least if tokenizer.transition is None else tokenizer.num_first
        if num_first < least:
            raise DataError(
                f"tokenizer {tokenizer.name!r}: transition is {tokenizer.transition}, {num_first} tokens; special tokens "
                f"and bytes alone are {least}"
            )
        first = first_tokens(whole, num_first)
        missing = num_first - len(first.vocab)
    if missing > 0 and not tokenizer.allow_smaller:
        raise DataError(
            f"tokenizer {tokenizer.name!r}: transition is {tokenizer.transition}, but the words have no merges for the last "
            f"{missing} tokens of the first stage; use a smaller transition, more text, or allow_smaller: true"
        )
    return FirstStage(first, tokenizer.special_tokens, figures, is_reference=tokenizer.compat == "reference")


def _unit_files(files: WordFiles, tokenizer: SuperBpeSpec, first: FirstStage) -> WordFiles:
    runs = tokenizer.make_word_pretokenizer() if tokenizer.stage == "word_runs" else None
    return dataclasses.replace(files, min_word_count=1, first=first, runs_of=runs)


def _check_size(tokenizer: SuperBpeSpec, trained: TrainedBpe, num_units: int) -> None:
    """DataError if the vocabulary is not of the size that is wanted."""
    size = len(trained.vocab)
    if size > tokenizer.vocab_size:
        raise DataError(
            f"tokenizer {tokenizer.name!r}: {size} tokens are inherited already (bytes, and as many merges as the "
            f"transition says), and vocab_size is {tokenizer.vocab_size}; use a larger one, or a smaller transition"
        )
    if size == tokenizer.vocab_size or (tokenizer.allow_smaller and size):
        return
    if num_units == 0:
        sample = f", sample_bytes is {tokenizer.sample_bytes}" if tokenizer.sample_bytes else ""
        why = f"there is no text for the second stage (stage is {tokenizer.stage}{sample})"
        remedy = "use more text"
    else:
        why = f"nothing is left to merge at {size} tokens, and vocab_size is {tokenizer.vocab_size}"
        vetoes = {"max_words": tokenizer.most_words, "forbidden": list(tokenizer.forbidden_texts)}
        found = " and ".join(f"{name} {value}" for name, value in vetoes.items() if value)
        remedy = (f"loosen {found}, " if found else "") + "use a smaller vocab_size or more text"
    raise DataError(f"tokenizer {tokenizer.name!r}: {why}; {remedy}, or set allow_smaller: true")


def _tokenizer_options(job: Job, tokenizer: TokenizerSpec, made_of: list[str]) -> dict[str, Any]:
    """The tokenizer's spec, and the fingerprint of what determines it: spec, weights, hashes of what it is made of."""
    fields = without_paths(json.loads(json.dumps(dataclasses.asdict(tokenizer))))
    weights = {source.name: source.weight for source in job.spec.sources}
    options = {**fields, "weights": weights, "fingerprint": _identity([fields, weights, made_of])}
    appended = job.spec.pack.append if job.spec.pack else None
    for token in (appended, "<|endoftext|>"):
        if token in tokenizer.special_tokens:
            return {**options, "eos_token": token}
    return options


def _identity(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

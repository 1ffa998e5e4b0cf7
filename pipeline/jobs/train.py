"""The steps that train: the merges that tokenizers share, then each tokenizer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.added import AddedToken
from pipeline.byte_level import to_bytes, to_chars
from pipeline.errors import DataError
from pipeline.jobs.load import without_paths
from pipeline.jobs.packs import read_pack
from pipeline.jobs.tasks import FORMAT_VERSION, Job, Outputs, Report, read_output
from pipeline.jobs.term_packs import parse_terms_pack
from pipeline.jobs.train_morph import train_inside_morphemes, train_morph_tokenizer
from pipeline.jobs.training import (
    Checkpoint,
    FirstStage,
    OpenPartitions,
    WordFigures,
    WordFiles,
    WordParts,
    read_words,
    train,
    train_second,
)
from pipeline.tokenizer import Tokenizer
from pipeline.tokenizer_spec import BpeSpec, DomainSpec, ExtendSpec, MorphSpec, SuperBpeSpec, TrainedSpec, padded_size
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, Vetoes, train_bpe
from pipeline.trainers.domain import count_terms, padding, reserve_terms
from pipeline.trainers.superbpe import first_merges, first_tokens, num_initial

_FIRST_NEW = 20
"""New tokens that the report shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a training starts from, beside words. ``subwords``: merges that are trained already, their task and entry; or
    ``base``: path and sha256 of a tokenizer.json. ``pack``: sha256 of what there is to know of a language, or of terms.
    """

    subwords: tuple[str, dict[str, Any]] | None = None
    base: tuple[str, str] | None = None
    pack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """A training as the task has it. ``scale``: counts are this many times the weighted occurrences."""

    job: Job
    spec: TrainedSpec
    words: WordParts
    origin: Origin
    open_partitions: OpenPartitions
    scale: int
    files: WordFiles
    options: BpeOptions
    described: dict[str, Any]

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.job, self.spec.name, self.described["fingerprint"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """What a training gives. ``report``: figures for the receipt and training.json; ``told``: more for the latter."""

    bpe: TrainedBpe
    figures: WordFigures
    special_tokens: tuple[str, ...]
    added_tokens: tuple[AddedToken, ...] = ()
    workers: dict[str, int] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)


def _scale(job: Job, tokenizer: TrainedSpec) -> tuple[int, tuple[int, ...]]:
    """By how much counts are multiplied so that weights are whole numbers, and each source's weight then."""
    weights = [Fraction(str(weight)) for weight in job.spec.weights_of(tokenizer).values()]
    more = [Fraction(str(tokenizer.term_weight))] if isinstance(tokenizer, DomainSpec) else []
    scale = int(np.lcm.reduce([weight.denominator for weight in (*weights, *more)]))
    return scale, tuple(int(weight * scale) for weight in weights)


def word_files(job: Job, tokenizer: TrainedSpec, words: WordParts) -> WordFiles:
    """The words that a tokenizer is trained on."""
    weights = _scale(job, tokenizer)[1]
    return WordFiles(job=job, parts=words.parts, weights=weights, min_word_count=tokenizer.min_word_count)


def _bpe_options(job: Job, tokenizer: TrainedSpec, vocab_size: int) -> BpeOptions:
    scale, _ = _scale(job, tokenizer)
    return BpeOptions(
        vocab_size=vocab_size,
        min_count=tokenizer.min_count * scale if tokenizer.min_count > 1 else 1,
        max_token_length=tokenizer.max_token_length,
        initial_alphabet=tokenizer.initial_alphabet,
        special_tokens=tokenizer.special_tokens,
        vetoes=Vetoes(max_chars=tokenizer.most_chars),
    )


# --- subwords ---------------------------------------------------------------------------------------------------------


def train_subwords(
    job: Job,
    outputs: Outputs,
    *,
    key: str,
    tokenizer: TrainedSpec,
    vocab_size: int,
    words: WordParts,
    open_partitions: OpenPartitions,
) -> Report:
    """Train merges as far as any of the tokenizers that share them goes: each takes the first of them."""
    options = _bpe_options(job, tokenizer, vocab_size)
    checkpoint = Checkpoint(job, f"subwords-{key}", _identity([key, vocab_size, words.hashes]))
    trained, figures, workers = train(
        word_files(job, tokenizer, words), words.num_workers, options, checkpoint, open_partitions
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


# --- train ------------------------------------------------------------------------------------------------------------


def train_tokenizer(
    job: Job,
    outputs: Outputs,
    *,
    tokenizer: TrainedSpec,
    words: WordParts,
    origin: Origin,
    open_partitions: OpenPartitions,
) -> Report:
    """Train one tokenizer from the merged words, and publish its directory. For a second stage ``words`` are units."""
    first = _first_stage(job, tokenizer, origin) if isinstance(tokenizer, SuperBpeSpec) else None
    made_of = words.hashes + ([_identity(first.trained.merges)] if first else []) + ([origin.pack] if origin.pack else [])
    made_of += [origin.base[1]] if isinstance(tokenizer, ExtendSpec) and origin.base else []
    training = _Training(
        job=job,
        spec=tokenizer,
        words=words,
        origin=origin,
        open_partitions=open_partitions,
        scale=_scale(job, tokenizer)[0],
        files=word_files(job, tokenizer, words),
        options=_bpe_options(job, tokenizer, tokenizer.vocab_size),
        described=_tokenizer_options(job, tokenizer, made_of),
    )
    if isinstance(tokenizer, MorphSpec):
        return train_morph_tokenizer(job, outputs, tokenizer, training.files, training.described, origin.pack)
    if isinstance(tokenizer, SuperBpeSpec) and first is not None:
        return _publish(outputs, training, _train_superbpe(training, tokenizer, first), None)
    if isinstance(tokenizer, ExtendSpec):
        base = _read_base(origin)
        return _publish(outputs, training, _train_extend(training, tokenizer, base), base)
    if isinstance(tokenizer, DomainSpec):
        return _publish(outputs, training, _train_domain(training, tokenizer), None)
    return _publish(outputs, training, _train_bpe(training), None)


def _publish(outputs: Outputs, training: _Training, found: _Trained, base: Tokenizer | None) -> Report:
    """Publish a tokenizer's directory. ``base``: what cuts text as the tokenizer does, if that is not in its spec."""
    spec, trained, figures = training.spec, found.bpe, found.figures
    result = Tokenizer(
        vocab=trained.vocab,
        merges=trained.merges,
        special_tokens=found.special_tokens,
        pretokenizer=spec.make_pretokenizer() if base is None else base.pretokenizer,
        normalizer=spec.text_normalizer if base is None else base.normalizer,
        encoder=spec.encoder,
        options=training.described,
        added_tokens=found.added_tokens,
        around={} if base is None else base.around,
    )
    folder = f"tokenizers/{spec.name}"
    for name, content in result.files().items():
        outputs.write_bytes(f"{folder}/{name}", content)
    told = {
        "format_version": FORMAT_VERSION,
        "count_scale": training.scale,
        **figures._asdict(),
        **found.report,
        **found.told,
        "merges": [(*pair, count) for pair, count in zip(trained.merges, trained.merge_counts, strict=True)],
    }
    outputs.write_bytes(f"{folder}/training.json", (json.dumps(told, ensure_ascii=False) + "\n").encode())
    return {
        "vocab_size": result.vocab_size,
        "num_merges": len(trained.merges),
        "distinct_words": figures.distinct_words,
        "pruned_words": figures.pruned_words,
        "pruned_occurrences": figures.pruned_occurrences,
        **found.report,
        "sha256": result.sha256,
        "training": found.workers,
    }


# --- subwords: plain, of few characters, inside morphemes, of a domain ------------------------------------------------


def _train_bpe(training: _Training) -> _Trained:
    spec = training.spec
    if isinstance(spec, BpeSpec) and spec.morphemes is not None:
        trained, figures = train_inside_morphemes(training.job, spec, training.files, training.options, training.origin.pack)
        return _Trained(bpe=trained, figures=figures, special_tokens=spec.special_tokens)
    whole, figures, workers = _train_words(training)
    trained = first_tokens(whole, spec.vocab_size)
    return _Trained(bpe=trained, figures=figures, special_tokens=spec.special_tokens, workers=workers)


def _train_words(training: _Training) -> tuple[TrainedBpe, WordFigures, dict[str, int]]:
    """Merges as far as the tokenizer goes, or further: those that it shares."""
    if training.origin.subwords is not None:
        return *_read_subwords(training.job, training.origin.subwords), {}
    num_workers = training.words.num_workers
    return train(training.files, num_workers, training.options, training.checkpoint, training.open_partitions)


def _train_domain(training: _Training, spec: DomainSpec) -> _Trained:
    """Terms first: what is left of the vocabulary is trained."""
    assert training.origin.pack is not None
    terms = parse_terms_pack(read_pack(training.job, training.origin.pack))
    added: tuple[AddedToken, ...] = ()
    left_out: tuple[str, ...] = ()
    workers: dict[str, int] = {}
    if spec.use_terms == "reserve":
        whole, figures, workers = _train_words(training)
        trained, added, left_out = reserve_terms(whole, terms, spec.vocab_size)
    else:
        words, counts, figures = read_words(training.files)
        weight = round(Fraction(str(spec.term_weight)) * training.scale)
        words, counts = count_terms(words, counts, terms, weight, spec.make_pretokenizer(), spec.text_normalizer)
        trained = train_bpe(words, counts, training.options)
    num_before = len(trained.vocab)
    trained, special_tokens = padding(trained, spec.special_tokens, padded_size(num_before, spec.pad_to))
    report = {"terms": len(terms), "reserved_terms": len(added), "terms_left_out": len(left_out)}
    return _Trained(
        bpe=trained,
        figures=figures,
        special_tokens=special_tokens,
        added_tokens=added,
        workers=workers,
        report=report | {"padding_tokens": len(trained.vocab) - num_before},
        told={"terms_that_are_left_out": left_out},
    )


# --- superwords -------------------------------------------------------------------------------------------------------


def _train_superbpe(training: _Training, spec: SuperBpeSpec, first: FirstStage) -> _Trained:
    runs = spec.make_word_pretokenizer() if spec.stage == "word_runs" else None
    files = dataclasses.replace(training.files, min_word_count=1, first=first, runs_of=runs)
    vetoes = Vetoes(spec.most_words, tuple(to_chars(text.encode()) for text in spec.forbidden_texts))
    options = dataclasses.replace(training.options, vetoes=vetoes)
    trained, figures, workers = train_second(
        files, training.words.num_workers, options, training.checkpoint, training.open_partitions
    )
    _check_size(spec, trained, figures.words)
    report = {"first_stage_tokens": len(first.trained.vocab), "first_stage_merges": len(first.trained.merges)}
    return _Trained(bpe=trained, figures=figures, special_tokens=first.special_tokens, workers=workers, report=report)


def _first_stage(job: Job, tokenizer: SuperBpeSpec, origin: Origin) -> FirstStage:
    """What the second stage goes on from.

    Raises
    ------
    DataError
        The corpus has no merges, or too many bytes, for the transition; or ``base`` has changed.
    """
    if origin.base is not None:
        return _stage_of(_read_base(origin))
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


def _read_base(origin: Origin) -> Tokenizer:
    """The tokenizer that another goes on from; DataError if it has changed since the plan was made."""
    assert origin.base is not None
    uri, sha256 = origin.base
    content = storage.read_bytes(uri)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{uri}: has changed since the plan was made; put the old file back")
    return Tokenizer.from_json(content.decode())


def _stage_of(base: Tokenizer) -> FirstStage:
    """A tokenizer as what a training goes on from."""
    vocab = dict(sorted(base.vocab.items(), key=lambda item: item[1]))
    return FirstStage(TrainedBpe(vocab, base.merges, (0,) * len(base.merges)), base.special_tokens, None)


# --- a tokenizer that goes on -----------------------------------------------------------------------------------------


def _train_extend(training: _Training, spec: ExtendSpec, base: Tokenizer) -> _Trained:
    """More merges behind those of the base, of words as the base encodes them."""
    files = dataclasses.replace(training.files, first=_stage_of(base))
    trained, figures, workers = train_second(
        files, training.words.num_workers, training.options, training.checkpoint, training.open_partitions
    )
    new = [to_bytes(chars).decode(errors="replace") for chars in list(trained.vocab)[base.vocab_size :]]
    if len(trained.vocab) < spec.vocab_size and not spec.allow_smaller:
        raise DataError(
            f"tokenizer {spec.name!r}: nothing is left to merge at {len(trained.vocab)} tokens, and vocab_size is "
            f"{spec.vocab_size}; use a smaller vocab_size or more text, or set allow_smaller: true"
        )
    return _Trained(
        bpe=trained,
        figures=figures,
        special_tokens=base.special_tokens,
        added_tokens=base.added_tokens,
        workers=workers,
        report={
            "base_tokens": base.vocab_size,
            "base_merges": len(base.merges),
            "new_tokens": len(new),
            "first_new_tokens": new[:_FIRST_NEW],
        },
        told={"new_token_texts": new},
    )


# --- description ------------------------------------------------------------------------------------------------------


def _tokenizer_options(job: Job, tokenizer: TrainedSpec, made_of: list[str]) -> dict[str, Any]:
    """The tokenizer's spec, and the fingerprint of what determines it: spec, weights, hashes of what it is made of."""
    fields = without_paths(json.loads(json.dumps(dataclasses.asdict(tokenizer))))
    weights = job.spec.weights_of(tokenizer)
    options = {**fields, "weights": weights, "fingerprint": _identity([fields, weights, made_of])}
    appended = job.spec.pack.append if job.spec.pack else None
    for token in (appended, "<|endoftext|>"):
        if token in tokenizer.special_tokens:
            return {**options, "eos_token": token}
    return options


def _identity(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

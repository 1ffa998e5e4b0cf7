"""What the report says of tokens and morphemes: which tokens are words or affixes, and where words are cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import storage
from pipeline.errors import DataError
from pipeline.jobs.plan import Plan, model_file
from pipeline.jobs.tasks import Job
from pipeline.jobs.yardstick import Yardstick, read_yardstick
from pipeline.stages.evaluate import cut, token_text
from pipeline.stages.morphology import (
    WARNING,
    Analyzed,
    Segmented,
    Validity,
    count_boundaries,
    count_consistency,
    count_morph_score,
    count_morphemes,
    count_validity,
    pieces_of,
)
from pipeline.tokenizer import ForeignTokenizer, OwnTokenizer, load_tokenizer

AnyTokenizer = OwnTokenizer | ForeignTokenizer


# --- measuring --------------------------------------------------------------------------------------------------------


def describe_morphology(job: Job, plan: Plan, id_counts: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """As report.json has it: a warning, and figures for each tokenizer; empty if the spec does not ask for them.

    ``id_counts``: by tokenizer, how often each id occurs in the held-out text.
    """
    spec = job.spec.evaluate.morphology
    if spec is None:
        return {}
    yardstick = read_yardstick(spec)
    if yardstick.sha256 != plan.yardstick:
        raise DataError("what evaluate.morphology reads has changed since the plan was made; put the old files back")
    return {
        "warning": WARNING,
        "gold_words": len(yardstick.gold),
        "tokenizers": {
            name: measure_morphology(tokenizer, id_counts.get(name), yardstick) for name, tokenizer in _load_tokenizers(job)
        },
    }


def _load_tokenizers(job: Job) -> Iterator[tuple[str, AnyTokenizer]]:
    """All tokenizers of a job, and those to compare with, one after another: there may be hundreds."""
    places = {spec.name: job.path("tokenizers", spec.name, spec.model_file) for spec in job.spec.tokenizers}
    for name, uri in {**places, **{uri: model_file(uri) for uri in job.spec.evaluate.compare}}.items():
        yield name, load_tokenizer(storage.read_bytes(uri), uri)


def measure_morphology(
    tokenizer: AnyTokenizer, id_counts: NDArray[np.int64] | None, yardstick: Yardstick
) -> dict[str, dict[str, Any]]:
    """Figures of one tokenizer, by type and by occurrence."""
    figures: dict[str, dict[str, Any]] = {}
    if id_counts is not None and yardstick.texts is not None:
        known = yardstick.texts
        texts = [token_text(tokenizer, token) if id_counts[token] else "" for token in range(len(id_counts))]
        special = [] if isinstance(tokenizer, ForeignTokenizer) else list(map(tokenizer.id_of, tokenizer.special_tokens))
        validity = count_validity(
            texts, id_counts, is_valid=known.valid(texts), is_pure=known.pure, lower=known.lower, special_ids=special
        )
        for weighting in ("by_type", "by_occurrence"):
            found: Validity = getattr(validity, weighting)
            figures[f"tokens_{weighting}"] = {**dataclasses.asdict(found), **found.ratios()}
    if yardstick.gold:
        figures |= _measure_gold(tokenizer, yardstick)
    return figures


def _measure_gold(tokenizer: AnyTokenizer, yardstick: Yardstick) -> dict[str, dict[str, Any]]:
    """Words behind a blank, as in running text; those that do not come back as they were are counted and left out.

    Tokens are compared with morphemes as texts: that affixes of one id sound different does not make them alike here.
    """
    segmented = []
    for word, morphs in yardstick.gold:
        _, parts = cut(tokenizer, " " + word)
        pieces = pieces_of(parts, " " + word)
        if pieces is not None:
            first = next(i for i, piece in enumerate(pieces) if piece)  # behind what reads as nothing: a marker of case
            pieces[first] = pieces[first].removeprefix(" ")
            segmented.append(Segmented(word, pieces, morphs))
    boundaries, score = count_boundaries(segmented).by_type, count_morph_score(segmented).by_type
    analyzed = [Analyzed(row.word, [piece for piece in row.pieces if piece], row.morphs) for row in segmented]
    return {
        "gold": {"words": len(segmented), "not_restored": len(yardstick.gold) - len(segmented)},
        "boundaries": {**dataclasses.asdict(boundaries), **boundaries.ratios()},
        "morph_score": {**dataclasses.asdict(score), **score.ratios()},
        "morphemes": count_morphemes(analyzed).by_type.ratios(),
        "consistency": count_consistency(analyzed).ratios(),
    }

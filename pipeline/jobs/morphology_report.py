"""What the report says of tokens and morphemes: which tokens are words or affixes, and where words are cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.jobs.finished import AnyTokenizer, iter_tokenizers
from pipeline.jobs.plan import Plan
from pipeline.jobs.schedule import Receipts
from pipeline.jobs.tasks import Job
from pipeline.jobs.yardstick import Yardstick, check_yardstick, read_yardstick
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
from pipeline.tokenizer import ForeignTokenizer

# --- measuring --------------------------------------------------------------------------------------------------------


def describe_morphology(
    job: Job, plan: Plan, receipts: Receipts, id_counts: Mapping[str, NDArray[np.int64]]
) -> dict[str, Any]:
    """As report.json has it: a warning, and figures for each tokenizer; empty if the spec does not ask for them.

    ``id_counts``: by tokenizer, how often each id occurs in the held-out text.
    """
    spec = job.spec.evaluate.morphology
    if spec is None:
        return {}
    yardstick = read_yardstick(spec)
    check_yardstick(plan.yardsticks, "morphology", yardstick.sha256)
    return {
        "warning": WARNING,
        "gold_words": len(yardstick.gold),
        "tokenizers": {
            name: measure_morphology(tokenizer, id_counts.get(name), yardstick)
            for name, tokenizer in iter_tokenizers(job, plan, receipts)
        },
    }


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

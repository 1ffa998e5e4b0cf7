"""What the report says of tokenizers of two stages: the transition, their superwords, and the tokens these save."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.jobs.schedule import Receipts
from pipeline.jobs.tasks import Job, read_output
from pipeline.tokenizer import Tokenizer
from pipeline.tokenizer_spec import BpeSpec, SuperBpeSpec

_EXAMPLES = 10


def describe_superwords(
    job: Job, receipts: Receipts, id_counts: Mapping[str, NDArray[np.int64]], evaluation: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """For each tokenizer of two stages, as report.json has it.

    ``id_counts``: by tokenizer, how often each id occurs in the held-out text, if there is any; ``evaluation``: that of the
    report. A superword is a token with a blank inside.
    """
    found = {}
    sweeps = _sweeps(job)
    for spec in job.spec.tokenizers:
        if not isinstance(spec, SuperBpeSpec):
            continue
        receipt = receipts["train"][spec.name]
        path = f"tokenizers/{spec.name}/tokenizer.json"
        entry = next(entry for entry in receipt.outputs if entry["path"] == path)
        tokenizer = Tokenizer.from_json(read_output(job, "train", spec.name, entry).to_pybytes().decode())
        found[spec.name] = {
            "stage": spec.stage,
            "sweep": sweeps[spec.name],
            "first_stage_tokens": receipt.report["first_stage_tokens"],
            "transition": round(receipt.report["first_stage_tokens"] / max(1, receipt.report["vocab_size"]), 6),
            **_examples(tokenizer, id_counts.get(spec.name)),
            "tokens_saved": _tokens_saved(job, spec, evaluation),
        }
    return found


def _examples(tokenizer: Tokenizer, counts: NDArray[np.int64] | None) -> dict[str, Any]:
    texts = [tokenizer.decode_bytes([token_id]) for token_id in range(tokenizer.vocab_size)]
    special = {tokenizer.id_of(token) for token in tokenizer.special_tokens}
    chosen = [i for i, text in enumerate(texts) if b" " in text.strip(b" ") and i not in special]
    longest = sorted(chosen, key=lambda i: (-len(texts[i]), i))[:_EXAMPLES]
    figures: dict[str, Any] = {
        "superwords": len(chosen),
        "longest": [texts[i].decode(errors="replace") for i in longest],
        "share_of_tokens": None,
        "most_frequent": [],
    }
    if counts is not None and counts.sum() > 0:
        frequent = [i for i in sorted(chosen, key=lambda i: (-counts[i], i))[:_EXAMPLES] if counts[i]]
        figures["share_of_tokens"] = round(float(counts[chosen].sum() / counts.sum()), 6)
        figures["most_frequent"] = [[texts[i].decode(errors="replace"), int(counts[i])] for i in frequent]
    return figures


def _tokens_saved(job: Job, spec: SuperBpeSpec, evaluation: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Against each plain BPE of the same size, by source: 0.2 is a fifth fewer tokens."""
    saved: dict[str, dict[str, float]] = {}
    for plain in job.spec.tokenizers:
        if isinstance(plain, BpeSpec) and plain.name in evaluation:
            rows = evaluation[spec.name]
            found = {
                source: round(1 - rows[source]["tokens"] / row["tokens"], 6)
                for source, row in evaluation[plain.name].items()
                if row["tokens"] and row["vocab_size"] == rows[source]["vocab_size"]
            }
            saved |= {plain.name: found} if found else {}
    return saved


def _sweeps(job: Job) -> dict[str, str | None]:
    """By tokenizer, what those that differ in nothing but the transition are called together; None if there is but one."""
    alike: dict[str, list[str]] = {}
    for spec in job.spec.tokenizers:
        if isinstance(spec, SuperBpeSpec):
            fields = {**dataclasses.asdict(spec), "name": "", "transition": None}
            alike.setdefault(json.dumps(fields, sort_keys=True), []).append(spec.name)
    return {name: names[0].rsplit("-t", 1)[0] if len(names) > 1 else None for names in alike.values() for name in names}

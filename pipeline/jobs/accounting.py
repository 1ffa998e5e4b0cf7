"""What became of every document and every token, added up from the receipts and checked across steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.errors import ArtifactError
from pipeline.jobs.schedule import Receipts
from pipeline.jobs.tasks import SPLITS, Job


def account(job: Job, receipts: Receipts) -> dict[str, Any]:
    """Documents by source and fate, and tokens of each packed data set by fate.

    Raises
    ------
    ArtifactError
        The accounts of two steps do not agree: something was lost or doubled, and the run must not be trusted.
    """
    names = [source.name for source in job.spec.sources]
    sources: dict[str, dict[str, Any]] = {
        name: {"documents": 0, "train": 0, "holdout": 0, "text_bytes": 0, "dropped": Counter[str]()} for name in names
    }
    for receipt in receipts["count"].values():
        report = receipt.report
        row = sources[names[report["source"]]]
        for split in SPLITS:
            row[split] += report["documents"][split]
            row["text_bytes"] += report["text_bytes"][split]
        row["dropped"].update(report["dropped"])
        row["documents"] += sum(report["documents"].values()) + sum(report["dropped"].values())
    for row in sources.values():
        row["dropped"] = dict(sorted(row["dropped"].items()))
    kept = {split: sum(row[split] for row in sources.values()) for split in SPLITS}
    packed: dict[str, dict[str, Any]] = {}
    for receipt in receipts["pack"].values():
        report = receipt.report
        figures = packed.setdefault(report["tokenizer"], {}).setdefault(
            report["split"],
            {
                "documents": 0,
                "sequences": 0,
                "tokens_in": 0,
                "tokens_packed": 0,
                "padding": 0,
                "duplicate_ids": 0,
                "tokens_lost": {},
            },
        )
        for key in ("documents", "sequences", "tokens_in", "tokens_packed", "padding", "duplicate_ids"):
            figures[key] += report[key]
        for reason, count in report["tokens_lost"].items():
            figures["tokens_lost"][reason] = figures["tokens_lost"].get(reason, 0) + count
    for receipt in receipts["encode"].values():
        for split, figures in packed[receipt.report["tokenizer"]].items():
            figures["unknown_bytes"] = figures.get("unknown_bytes", 0) + receipt.report["unknown_bytes"][split]
    _check(packed, kept, receipts)
    return {"sources": sources, "kept": kept, "packed": packed}


def _check(packed: dict[str, dict[str, Any]], kept: dict[str, int], receipts: Receipts) -> None:
    for name, splits in packed.items():
        for split, figures in splits.items():
            encoded = [r.report for r in receipts["encode"].values() if r.report["tokenizer"] == name]
            tokens = sum(report["tokens"][split] for report in encoded)
            sums = {
                "documents read, encoded and packed": (
                    kept[split], sum(r["documents"][split] for r in encoded), figures["documents"],
                ),
                "tokens encoded and taken for packing": (tokens, figures["tokens_in"]),
                "tokens taken, and packed or lost": (
                    figures["tokens_in"], figures["tokens_packed"] + sum(figures["tokens_lost"].values()),
                ),
            }  # fmt: skip
            for what, values in sums.items():
                if len(set(values)) != 1:
                    raise ArtifactError(
                        f"packed/{name}/{split}: {what} differ: {values}. An input changed while the job ran, or this is a "
                        "fault of tokenmill; delete the output directory and run again"
                    )

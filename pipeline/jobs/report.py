"""The report: which tokenizer is better, and what became of every document. One JSON file, one self-contained page."""

from __future__ import annotations

import io
import os
import platform
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline import __version__
from pipeline.jobs.plan import Plan
from pipeline.jobs.schedule import Receipts
from pipeline.jobs.tasks import Job, read_output
from pipeline.stages.evaluate import Measure, describe

ALL = "all sources"

_LABEL_CHARS = 40
"""Of a path the end is shown in the plot: a longer label would leave no room for the bars."""


def make_report(
    job: Job, plan: Plan, receipts: Receipts, accounting: dict[str, Any], execution: dict[str, Any]
) -> dict[str, Any]:
    """Everything report.json holds; figures about time and machine stay under ``execution``."""
    return {
        "format_version": 1,
        "name": job.spec.name,
        "fingerprint": plan.fingerprint,
        "accounting": accounting,
        "tokenizers": {name: dict(r.report) for name, r in receipts["train"].items()},
        "evaluation": _evaluation(job, receipts),
        "execution": {
            **execution,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "tokenmill_version": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "address": job.spec.execution.address,
        },
    }


def _evaluation(job: Job, receipts: Receipts) -> dict[str, dict[str, Any]]:
    """For each tokenizer and source, and all sources together: sums, ratios, share of the vocabulary."""
    shown = {f"compare/{i}": uri for i, uri in enumerate(job.spec.evaluate.compare)}
    sums: dict[str, dict[str, Measure]] = {}
    used: dict[str, dict[str, Any]] = {}
    for receipt in receipts["evaluate"].values():
        report = dict(receipt.report)
        name, source = report.pop("tokenizer"), report.pop("source")
        content = read_output(job, "evaluate", receipt.name, receipt.outputs[0])
        counts = pa.ipc.open_stream(content).read_next_batch().column("count").to_numpy()
        for key in (source, ALL):
            sums.setdefault(name, {}).setdefault(key, Measure())
            sums[name][key] += Measure(**report)
            used.setdefault(name, {}).setdefault(key, np.zeros(len(counts), dtype=np.int64))
            used[name][key] = used[name][key] + counts
    rows = [*(source.name for source in job.spec.sources), ALL]
    order = [t.name for t in job.spec.tokenizers] + list(shown)
    return {
        shown.get(name, name): {key: describe(sums[name][key], used[name][key]) for key in rows if key in sums[name]}
        for name in order
        if name in sums
    }


def render_html(report: dict[str, Any]) -> str:
    """The report as one page: no script, no network."""
    environment = Environment(
        loader=PackageLoader("pipeline.jobs"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sources = _shown_sources(report["evaluation"])
    plot = Markup(_plot(report["evaluation"], sources))
    return environment.get_template("report.html").render(report=report, plot=plot, sources=sources)


def _shown_sources(evaluation: dict[str, dict[str, Any]]) -> list[str]:
    """Every source with held-out text, and all together if there are several."""
    rows = list(next(iter(evaluation.values()), {}))
    return rows if len(rows) > 2 else rows[:1]


def _plot(evaluation: dict[str, dict[str, Any]], sources: list[str]) -> str:
    """Bytes per token by source, a bar for each tokenizer, as SVG; empty if nothing was held out."""
    if not evaluation:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(max(6.0, 1.2 * len(sources) * len(evaluation)), 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(evaluation)
    for index, (name, rows) in enumerate(evaluation.items()):
        heights = [rows[source]["bytes_per_token"] or 0.0 for source in sources]
        places = np.arange(len(sources)) + (index - (len(evaluation) - 1) / 2) * width
        bars = axes.bar(places, heights, width, label=name if len(name) <= _LABEL_CHARS else f"…{name[1 - _LABEL_CHARS :]}")
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(np.arange(len(sources)), sources)
    axes.set_ylabel("bytes per token (more is better)")
    axes.margins(y=0.15)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]

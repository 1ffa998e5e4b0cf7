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
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.jobs.domain_report import describe_domains
from pipeline.jobs.morphology_report import describe_morphology
from pipeline.jobs.plan import Plan
from pipeline.jobs.schedule import Receipts, tokenizer_receipts
from pipeline.jobs.superword_report import describe_superwords
from pipeline.jobs.tasks import ALL, Job, read_output
from pipeline.stages.evaluate import Measure, describe

_LABEL_CHARS = 40
"""Of a path the end is shown in the plot: a longer label would leave no room for the bars."""

_MOST_BARS = 64
"""Tokenizers in the plot: more would leave no room either, and take a while to draw. The table has all."""


def make_report(
    job: Job, plan: Plan, receipts: Receipts, accounting: dict[str, Any], execution: dict[str, Any]
) -> dict[str, Any]:
    """Everything report.json holds; figures about time and machine stay under ``execution``."""
    sums, id_counts = _sums(job, receipts)
    evaluation = _evaluation(job, sums, id_counts)
    compared = {f"compare/{i}": uri for i, uri in enumerate(job.spec.evaluate.compare)}
    shown = {compared.get(name, name): rows for name, rows in id_counts.items()}
    superwords = describe_superwords(job, receipts, {name: rows[ALL] for name, rows in id_counts.items()}, evaluation)
    return {
        "format_version": 1,
        "name": job.spec.name,
        "fingerprint": plan.fingerprint,
        "accounting": accounting,
        "tokenizers": {name: dict(r.report) for name, r in tokenizer_receipts(receipts).items()},
        "evaluation": evaluation,
        "superwords": superwords,
        "domains": describe_domains(job, plan, receipts),
        "morphology": describe_morphology(job, plan, receipts, {name: rows[ALL] for name, rows in shown.items()}),
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


Sums = dict[str, dict[str, Measure]]
IdCounts = dict[str, dict[str, NDArray[np.int64]]]


def _sums(job: Job, receipts: Receipts) -> tuple[Sums, IdCounts]:
    """For each tokenizer and source, and all sources together: the sums, and how often each id occurs."""
    sums: Sums = {}
    id_counts: IdCounts = {}
    for receipt in receipts["evaluate"].values():
        report = dict(receipt.report)
        name, source = report.pop("tokenizer"), report.pop("source")
        report.pop("noise", None)  # for `domain_report`
        content = read_output(job, "evaluate", receipt.name, receipt.outputs[0])
        counts = pa.ipc.open_stream(content).read_next_batch().column("count").to_numpy()
        for key in (source, ALL):
            sums.setdefault(name, {}).setdefault(key, Measure())
            sums[name][key] += Measure(**report)
            id_counts.setdefault(name, {}).setdefault(key, np.zeros(len(counts), dtype=np.int64))
            id_counts[name][key] = id_counts[name][key] + counts
    return sums, id_counts


def _evaluation(job: Job, sums: Sums, id_counts: IdCounts) -> dict[str, dict[str, Any]]:
    """The same as figures: ratios, share of the vocabulary, bits."""
    shown = {f"compare/{i}": uri for i, uri in enumerate(job.spec.evaluate.compare)}
    rows = [*(source.name for source in job.spec.sources), ALL]
    order = [t.name for t in job.spec.tokenizers] + list(shown)
    return {
        shown.get(name, name): {key: describe(sums[name][key], id_counts[name][key]) for key in rows if key in sums[name]}
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
    plots = {
        "plot": Markup(_plot(report["evaluation"], sources)),
        "transitions": Markup(_plot_transitions(report["superwords"], report["evaluation"], sources)),
    }
    environment.globals |= {"percent": _percent, "number": _number}
    return environment.get_template("report.html").render(report=report, sources=sources, **plots)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _shown_sources(evaluation: dict[str, dict[str, Any]]) -> list[str]:
    """Every source with held-out text, and all together if there are several."""
    rows = list(next(iter(evaluation.values()), {}))
    return rows if len(rows) > 2 else rows[:1]


def _plot(evaluation: dict[str, dict[str, Any]], sources: list[str]) -> str:
    """Bytes per token by source, a bar for each tokenizer, as SVG; empty if nothing was held out, or for very many."""
    if not 1 <= len(evaluation) <= _MOST_BARS:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(max(6.0, 1.2 * len(sources) * len(evaluation)), max(3.6, 0.2 * len(evaluation))), layout="constrained"
    )
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
    return _svg(figure)


def _plot_transitions(superwords: dict[str, Any], evaluation: dict[str, dict[str, Any]], sources: list[str]) -> str:
    """Bytes per token against the transition, a line for each sweep, as SVG; empty if there is none."""
    sweeps: dict[str, list[tuple[float, float]]] = {}
    for name, row in superwords.items():
        if row["sweep"] and name in evaluation:
            height = evaluation[name][sources[-1]]["bytes_per_token"] or 0.0
            sweeps.setdefault(row["sweep"], []).append((row["transition"], height))
    if not sweeps:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, points in sweeps.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    for name in sorted({plain for row in superwords.values() for plain in row["tokens_saved"]}):
        height = evaluation[name][sources[-1]]["bytes_per_token"] or 0.0
        axes.axhline(height, linestyle="--", color="gray", label=name)
    axes.set_xlabel("transition, as a share of the vocabulary")
    axes.set_ylabel("bytes per token (more is better)")
    axes.legend(fontsize=8)
    return _svg(figure)


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]

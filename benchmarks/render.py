"""The README and the plots, from the JSON files alone."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.groups import GROUPS
from benchmarks.rows import Row

INTRODUCTION = """# Benchmarks

tokenmill beside the fastest programs there are for the same work, at the versions pinned in the extra `bench`:
[gigabpe](https://github.com/Abraham-y/gigabpe) (training), gigatoken (encoding, and counting in its trainer), `tokenizers`
(both) and `tiktoken` (encoding). This file is written by the benchmark; do not edit it.

## How it is measured

- **Ratios.** Both sides take turns in one run (A B A B …), and medians are compared, with the least and the greatest run
  beside them. Absolute times on shared machines mean little.
- **Every single measurement is a fresh process**, pinned to its cores before it imports anything. It runs a tiny input
  first, so that kernels are compiled and loaded and thread pools are there, and times the work alone. Only the groups
  `command`, `cold_start`, `whole_job` and `resume` time whole commands.
- **Same input, same result.** All sides get the same text, split, vocabulary and number of cores. Times count only after
  merges and ids were found identical (in `count`, beside gigatoken, the number of distinct words, for it tells no more);
  otherwise the benchmark stops. What was checked stands under each table. Only the sides of `whole_job` make
  different things.
- **The text** is a document of every file under `../shared/corpora` in turn (prose, law, code, Turkish, many languages,
  biomedicine). Training reads its lines, without blank ones and without white space at their ends: gigabpe and `tokenizers`
  read lines with their ending, tokenmill without, and on this file the words are the same but for a lone newline. So ours
  is asked for one id less, and the merges are the same.
- **Memory** is the most that the process ever had (`VmHWM`), Python, libraries and input included.
- **Ratio**: how many times faster ours is. For memory: ours by theirs, so there less is better.
- **What each side starts from and ends with**: training, a file and a tokenizer.json. Counting, documents in memory and
  a table of counts. Encoding, an Arrow array of strings and an array of lists; an awkward array for gigatoken, made before
  the clock starts and not turned back to Arrow; a list of `str` for `tokenizers` and `tiktoken`. Before the first (cold)
  call every tokenizer has encoded the text `x`, and the second (warm) call gets the same text again.

## How to repeat it

`make bench` installs the peers, measures everything and writes this file{duration}.
`make bench CORPUS=folder` takes another folder with `prose`, `legal`, `code`, `turkish`, `multilingual` or `biomed` in it,
each with `.jsonl.zst` files of `{{"text": …}}`. `.venv/bin/python -m benchmarks GROUP…` measures some groups only,
`--megabytes 5 --repeats 1 --output /tmp/try` tries it out, and `--render` rebuilds this file from `results/*.json`.
`python -m benchmarks.scale` measures what [docs/scaling.md](../docs/scaling.md) goes by.
"""


def render(output: Path) -> None:
    """README.md, and the plots under results/, from results/*.json."""
    files = {name: output / "results" / f"{name}.json" for name in GROUPS}
    results = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    minutes = sum(result["minutes"] for result in results.values())
    duration = f"; the groups below took {minutes:.0f} minutes together" if results else ""
    parts = [INTRODUCTION.format(duration=duration)]
    measured_on = {_circumstances(result) for result in results.values()}
    if results:
        parts.append(_summary([Row.from_dict(row) for result in results.values() for row in result["rows"]]))
    if len(measured_on) == 1:
        parts.append(f"Measured: {min(measured_on)}\n")
    for name, group in GROUPS.items():
        parts.append(f"## {name}\n\n{group.__doc__}\n")
        if name not in results:
            parts.append("Not measured yet.\n")
            continue
        if len(measured_on) > 1:
            parts.append(f"Measured: {_circumstances(results[name])}\n")
        parts.append(_section(results[name]))
        if results[name]["points"]:
            parts.append("![Cost of training by corpus and vocabulary](results/scaling.svg)\n")
            _plot(results[name]["points"], output / "results/scaling.svg")
    (output / "README.md").write_text("\n".join(parts))


# --- tables -----------------------------------------------------------------------------------------------------------


def _summary(rows: list[Row]) -> str:
    aimed = [row for row in rows if row.target.floor is not None]
    reached = {
        word: sum(word in row.verdict for row in aimed) for word in ("aim reached", "floor reached", "BELOW THE FLOOR")
    }
    lost = [f"- {row.work}, {row.peer}: {row.ratio:.2f} × ({row.verdict})" for row in rows if row.peer_wins]
    counted = ", ".join(f"{word.lower()}: {num}" for word, num in reached.items())
    text = f"## Summary\n\n{len(aimed)} rows have a floor and mostly an aim, set in advance; {counted}.\n"
    return text + ("Rows where a peer wins:\n\n" + "\n".join(lost) + "\n" if lost else "A peer wins in no row.\n")


def _circumstances(result: dict[str, Any]) -> str:
    machine, corpus = result["machine"], result["corpus"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"{result['date']}; {machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}, Python {machine['python']}; {versions}; {corpus['documents']:,} documents, "
        f"{corpus['text_bytes'] / 1e6:.1f} MB of text, {corpus['line_bytes'] / 1e6:.1f} MB in lines "
        f"(sha256 {corpus['lines_sha256'][:16]})."
    )


def _section(result: dict[str, Any]) -> str:
    lines = [
        "| work | ours | peer | theirs | ratio | floor | aim | verdict | note |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in (Row.from_dict(stored) for stored in result["rows"]):
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} ×"
        theirs = _figure(row.theirs, row.unit) if row.theirs else ""
        verdict = row.verdict.replace("PEER WINS", "**PEER WINS**").replace("BELOW THE FLOOR", "**BELOW THE FLOOR**")
        cells = [row.work, _figure(row.ours, row.unit), row.peer or "none", theirs, ratio]
        cells += [_target(row.target.floor, row.unit), _target(row.target.aim, row.unit), verdict, row.note]
        lines.append("| " + " | ".join(cells) + " |")
    if result["checked"]:
        lines += ["", "Checked:", "", *(f"- {sentence}" for sentence in result["checked"])]
    return "\n".join(lines) + "\n"


def _figure(runs: list[float], unit: str) -> str:
    digits = 2 if max(runs) < 100 else 0
    least, median, greatest = (f"{value:,.{digits}f}" for value in (min(runs), statistics.median(runs), max(runs)))
    return f"{median} {unit}" + (f" ({least} to {greatest}, {len(runs)} runs)" if len(runs) > 1 else " (1 run)")


def _target(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"≤ {value:g} ×" if unit == "MB" else f"{value:g} ×"


# --- plots ------------------------------------------------------------------------------------------------------------


def _plot(points: list[dict[str, Any]], file: Path) -> None:
    """Seconds and memory by corpus and by vocabulary; the same points give the same bytes."""
    style = {"svg.hashsalt": "tokenmill", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
    with mpl.rc_context(style):
        figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
        columns = (("corpus", "megabytes", "MB of text"), ("vocabulary", "vocab_size", "tokens"))
        for column, (axis, key, label) in enumerate(columns):
            chosen = [point for point in points if point["axis"] == axis]
            at = [point[key] for point in chosen]
            for row, (measure, unit) in enumerate((("seconds", "seconds"), ("peak_megabytes", "peak memory, MB"))):
                panel = axes[row][column]
                for side, marker in (("tokenmill", "o-"), ("gigabpe", "s--")):
                    panel.plot(at, [statistics.median(point[side][measure]) for point in chosen], marker, label=side)
                _label(panel, label, unit, at)
        chosen = [point for point in points if point["axis"] == "corpus"]
        words = [point["distinct_words"] / 1e6 for point in chosen]
        axes[0][2].plot([point["megabytes"] for point in chosen], words, "o-", color="black")
        _label(axes[0][2], "MB of text", "million distinct words", [point["megabytes"] for point in chosen])
        for side, marker in (("tokenmill", "o-"), ("gigabpe", "s--")):
            axes[1][2].plot(words, [statistics.median(point[side]["seconds"]) for point in chosen], marker, label=side)
        _label(axes[1][2], "million distinct words", "seconds", words)
        axes[0][0].legend()
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)


def _label(panel: Any, x_label: str, y_label: str, at: list[float]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_ylim(bottom=0)
    panel.set_xlabel(x_label)
    panel.set_ylabel(y_label)
    panel.set_xticks(at)
    panel.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 1024:.0f}k" if value >= 4096 else f"{value:.3g}")
    )
    panel.xaxis.set_minor_formatter(NullFormatter())

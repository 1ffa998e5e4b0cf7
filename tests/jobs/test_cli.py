"""The command: what it prints, what it writes, and its exit status."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from pipeline import __version__
from pipeline.jobs.cli import main
from pipeline.jobs.manifest import verify

EOS = "<|endoftext|>"
STEPS = ("count", "merge", "train", "evaluate", "encode", "pack")


@pytest.fixture
def call(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a verb in this process: exit status, stdout, stderr."""

    def run_main(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run_main


@pytest.fixture
def finished(run) -> Path:
    return run().out


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(root)): (p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


# --- run --------------------------------------------------------------------------------------------------------------


def test_run_to_the_end_and_again(call, spec_file, tmp_path):
    status, out, err = call("run", spec_file)
    assert status == 0
    kept = json.loads((tmp_path / "out" / "manifest.json").read_bytes())["accounting"]["kept"]
    assert f"documents: {kept['train']} to train on, {kept['holdout']} held out\n" in out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    for entry in manifest["artifacts"]:
        assert f"{tmp_path}/out/{entry['path']}  " in out
    assert f"{tmp_path}/out/_SUCCESS\n" in out
    assert re.search(rf"done in \d+\.\d s\. Next: tokenmill verify {tmp_path}/out\n", out)
    assert f"{manifest['accounting']['packed']['tok']['train']['tokens_packed']:,} tokens in" in out
    before = snapshot(tmp_path)
    status, out, err = call("run", spec_file)
    assert status == 0
    assert out.startswith(f"{tmp_path}/out was finished already: nothing to do.\n")
    assert "done in" not in out
    assert err == ""
    assert snapshot(tmp_path) == before


def test_progress_without_a_terminal_is_a_line_for_each_step(call, spec_file):
    _, _, err = call("run", spec_file)
    lines = err.splitlines()
    assert [line.split()[0] for line in lines] == list(STEPS)
    for line in lines:
        assert re.fullmatch(r"\w+ +(\d+)/\1 · .*\d s", line), line
    assert "\r" not in err
    assert "\x1b" not in err


def test_progress_of_a_resumed_run_tells_what_was_there(call, spec_file, tmp_path, run):
    run({"execution": {"shard_bytes": 3000}})
    (tmp_path / "out" / "_SUCCESS").unlink()
    (tmp_path / "out" / "_work/receipts/count/00000.json").unlink()
    total = len(list((tmp_path / "out" / "_work/receipts/count").iterdir())) + 1
    status, _, err = call("run", spec_file)
    assert status == 0
    lines = err.splitlines()
    assert [line.split(" · ")[0].split() for line in lines[:2]] == [
        ["count", f"{total - 1}/{total}"],
        ["count", f"{total}/{total}"],
    ]
    assert [line.split()[0] for line in lines[1:]] == list(STEPS)


def test_run_for_machines(call, spec_file, tmp_path):
    status, out, err = call("run", spec_file, "--json")
    result = json.loads(out)
    assert (status, result["state"]) == (0, "finished")
    assert result["manifest"] == json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    events = [json.loads(line) for line in err.splitlines()]
    assert [event["step"] for event in events] == list(STEPS)
    assert all(event["done"] == event["total"] for event in events)
    again = json.loads(call("run", spec_file, "--json")[1])
    assert (again["state"], again["manifest"]) == ("was_finished", result["manifest"])


def test_dry_run_writes_nothing(call, spec_file, tmp_path):
    before = snapshot(tmp_path)
    status, out, err = call("run", spec_file, "--dry-run")
    assert (status, err) == (0, "")
    assert "source main: 2 files" in out
    assert "packed: tok, sequences of 64" in out
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "out").exists()
    facts = json.loads(call("run", spec_file, "--dry-run", "--json")[1])
    assert facts["sources"][0]["files"] == 2
    assert not (tmp_path / "out").exists()


def test_set_reaches_the_job(call, spec_file, tmp_path):
    status, out, _ = call("run", spec_file, "--set", "pack=null", "--set", "tokenizers.0.vocab_size=290")
    assert status == 0
    assert "tokens in" not in out
    saved = tokenizers.Tokenizer.from_file(str(tmp_path / "out/tokenizers/tok/tokenizer.json"))
    assert saved.get_vocab_size() == 290


def test_a_slow_regex_is_told_once_and_gives_a_result(call, spec_file):
    status, _, err = call("run", spec_file, "--set", r"tokenizers.0.pretokenizer={regex: '(?<=a)b|\w+|\W'}")
    assert status == 0
    assert err.count("note: tokenizer tok: the regex runs through the slower splitter") == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tokenizers.0.vocab_size=5", "error: tokenizers[0].vocab_size is 5;"),
        ("tokenizers.0.vocabsize=5", "did you mean 'vocab_size'?"),
        ("sources.0.uris=/nowhere/*.txt", "error: sources[0].uris[0] is '/nowhere/*.txt', which matches no file"),
        ("sources.0.text_column=body", "a.jsonl: the line at byte 0: no column 'body'"),
        ("sources.0.format=parquet", "cannot be read as parquet"),
        ("output=/proc/tokenmill/out", "cannot write"),
        ("evaluate.compare=[/nowhere/t.json]", "error: /nowhere/t.json: not found"),
        ("name=[a", "--set"),
        ("nonsense", "error: --set 'nonsense': a.b=value is expected"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_mistakes_are_told_in_a_line_and_exit_with_1(call, spec_file, override, message, as_json):
    status, out, err = call("run", spec_file, "--set", override, *(["--json"] if as_json else []))
    assert status == 1
    assert message in err
    assert err.splitlines()[-1].startswith("error: ")
    if as_json:
        told = json.loads(out.splitlines()[-1])
        assert message.removeprefix("error: ") in told["message"]
        assert told["error"].endswith(("Error", "Failed"))
    else:
        assert out == ""


def test_compare_with_what_is_no_tokenizer(call, spec_file, tmp_path):
    (tmp_path / "t.json").write_text("{}")
    status, _, err = call("run", spec_file, "--set", f"evaluate.compare=[{tmp_path}/t.json]")
    assert status == 1
    assert "t.json" in err


def test_a_changed_spec_is_refused(call, spec_file, finished):
    status, _, err = call("run", spec_file, "--set", "holdout.seed=9")
    assert status == 1
    assert "holdout.seed (1 there, 9 here)" in err


# --- plan, status -----------------------------------------------------------------------------------------------------


def test_plan_then_status_then_run(call, spec_file, tmp_path):
    status, out, _ = call("plan", spec_file)
    assert status == 0
    assert f"written to {tmp_path}/out/plan.json. Next: tokenmill run {spec_file}" in out
    assert os.listdir(tmp_path / "out") == ["plan.json"]
    fingerprint = json.loads((tmp_path / "out/plan.json").read_bytes())["fingerprint"]
    assert f"fingerprint {fingerprint[:12]}" in out
    plan = json.loads(call("plan", spec_file, "--json")[1])
    assert plan["fingerprint"] == fingerprint
    assert plan["shards"] == 1
    assert list(plan["counting_passes"].values()) == [["tok"]]
    assert plan["packed"] == ["tok"]
    status, out, _ = call("status", tmp_path / "out")
    assert status == 0
    assert "count     0/1\n" in out
    assert out.endswith("not finished: run the same command again to go on\n")
    facts = json.loads(call("status", tmp_path / "out", "--json")[1])
    assert facts["finished"] is False
    assert [row["step"] for row in facts["steps"]] == list(STEPS)
    assert {row["done"] for row in facts["steps"]} == {0}
    assert call("run", spec_file)[0] == 0
    facts = json.loads(call("status", tmp_path / "out", "--json")[1])
    assert facts["finished"] is True
    assert all(row["done"] == row["total"] for row in facts["steps"] if row["total"] is not None)
    assert all(row["done"] > 0 for row in facts["steps"])
    lines = call("status", tmp_path / "out")[1].splitlines()
    assert re.fullmatch(r"count     1/1 · [\d.]+ [kM]?B/s · slowest: 00000, [\d.]+ s", lines[0])
    assert lines[-1] == "finished"


def test_status_of_nothing(call, tmp_path):
    status, out, err = call("status", tmp_path)
    assert (status, out) == (1, "")
    assert f"error: {tmp_path}/plan.json: not found" in err


def test_yes_lets_sweeps_make_more_than_are_allowed(tokenmill, call, spec_file, tmp_path):
    sweep = ["--set", "tokenizers.0.matrix.min_count=[" + ", ".join(map(str, range(300))) + "]"]
    for words in (["run", "--dry-run"], ["plan"], ["submit", "--address", "http://127.0.0.1:1"]):
        status, out, err = call(words[0], spec_file, *sweep, *words[1:])
        assert (status, out) == (1, "")
        assert "make 300 tokenizers (tokenizers[0]: 300); more than 256 are made only with --yes" in err
    assert "http://127.0.0.1:1: no Ray cluster answers" in call("submit", spec_file, *sweep, *words[1:], "--yes")[2]
    assert len(json.loads(call("run", spec_file, *sweep, "--dry-run", "--yes", "--json")[1])["packed"]) == 300
    assert not (tmp_path / "out").exists()
    result = tokenmill("plan", spec_file, *sweep, "--yes")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.rstrip().endswith("299]' --yes")


# --- verify -----------------------------------------------------------------------------------------------------------


def test_verify(call, finished):
    manifest = json.loads((finished / "manifest.json").read_bytes())
    paths = [entry["path"] for entry in manifest["artifacts"]]
    status, out, err = call("verify", finished)
    assert (status, out, err) == (0, f"{len(paths)} artifacts read again: every byte is as published\n", "")
    assert json.loads(call("verify", finished, "--json")[1]) == {"verified": len(paths), "artifacts": paths}
    assert call("verify", os.path.relpath(finished))[0] == 0


def test_the_manifest_names_every_file_but_the_work(finished):
    manifest = json.loads((finished / "manifest.json").read_bytes())
    named = {entry["path"] for entry in manifest["artifacts"]} | {"manifest.json", "_SUCCESS"}
    there = {path for path in snapshot(finished) if not path.startswith("_work/")}
    assert named == there
    for entry in manifest["artifacts"]:
        assert entry["bytes"] == (finished / entry["path"]).stat().st_size


def test_verify_finds_a_flipped_bit_anywhere(call, finished):
    for name in [path for path in snapshot(finished) if not path.startswith("_work/")]:
        path = finished / name
        content = path.read_bytes()
        for place in sorted({0, len(content) // 2, len(content) - 1}):
            damaged = bytearray(content)
            damaged[place] ^= 1
            path.write_bytes(damaged)
            status, out, err = call("verify", finished)
            assert (status, out) == (1, ""), f"{name}, byte {place}"
            assert ("manifest.json" if name in ("manifest.json", "_SUCCESS") else name) in err
        path.write_bytes(content)
    assert call("verify", finished)[0] == 0


def test_verify_finds_a_byte_more_or_less_and_a_missing_file(call, finished):
    for name in [path for path in snapshot(finished) if not path.startswith("_work/")]:
        path = finished / name
        content = path.read_bytes()
        for damaged in (content + b"\0", content[:-1], None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            status, _, err = call("verify", finished)
            assert status == 1, name
            assert name in err or "manifest.json" in err
            path.write_bytes(content)
    assert call("verify", finished)[0] == 0


def test_verify_does_without_the_work(call, finished):
    shutil.rmtree(finished / "_work")
    assert call("verify", finished)[0] == 0


def test_verify_of_what_has_not_finished(call, finished, tmp_path):
    (finished / "_SUCCESS").unlink()
    for output in (finished, tmp_path / "nowhere"):
        status, _, err = call("verify", output)
        assert status == 1
        assert f"error: {output}: no _SUCCESS" in err


# --- inspect ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("", ["what: a finished run", "name: small", "packed/tok/train/data-00000-of-00001.arrow ("]),
        ("tokenizers/tok", ["what: a byte-level BPE tokenizer", "vocab_size: 330", f"{EOS}: 0"]),
        ("tokenizers/tok/tokenizer.json", ["what: a byte-level BPE tokenizer", "merges: 73"]),
        ("packed/tok/train", ["what: a packed data set of 1 file(s)", "input_ids: fixed_size_list<", "sample:"]),
        ("packed/tok/train/data-00000-of-00001.arrow", ["what: an Arrow IPC stream", "sequence_length: 64", "sample:"]),
        ("_work/words", None),
        ("packed", None),
    ],
)
def test_inspect(call, finished, path, parts):
    status, out, err = call("inspect", finished / path if path else finished)
    if parts is None:
        assert (status, out) == (1, "")
        assert "not a run's output, a tokenizer, a packed data set or an .arrow file" in err
        return
    assert (status, err) == (0, "")
    for part in parts:
        assert part in out
    facts = json.loads(call("inspect", finished / path if path else finished, "--json")[1])
    assert f"what: {facts['what']}" in out


def test_inspect_the_work(call, finished):
    for path in sorted((finished / "_work").rglob("*.arrow")):
        status, out, _ = call("inspect", path, "--json")
        assert status == 0
        assert json.loads(out)["rows"] > 0


def test_inspect_shows_the_text_of_the_first_ids(call, finished):
    facts = json.loads(call("inspect", finished / "packed/tok/train", "--json")[1])
    for row in facts["first_file"]["sample"]:
        assert len(row["ids"]) == 24
        assert row["text"][:1].isdigit()
    facts = json.loads(call("inspect", f"{finished}/", "--json")[1])
    assert facts["documents"] == json.loads((finished / "manifest.json").read_bytes())["accounting"]["kept"]


def test_inspect_a_run_that_has_not_finished(call, spec_file, tmp_path):
    call("plan", spec_file)
    status, out, _ = call("inspect", tmp_path / "out")
    assert status == 0
    assert f"next: tokenmill status {tmp_path}/out" in out


def test_inspect_a_foreign_tokenizer(call, word_piece):
    status, out, _ = call("inspect", word_piece)
    assert (status, out) == (0, "what: a tokenizer that `tokenizers` runs\nvocab_size: 200\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.arrow", b""), ("a.arrow", b"nonsense"), ("a.arrow", b"ARROW1\0\0" + bytes(50)), ("a.json", b"{}"),
     ("a.json", b"\xff"), ("d/state.json", b"{"), ("d/state.json", b"{}"), ("d/tokenizer.json", b"[]"),
     ("d/tokenizer.json", b'{"model": 5}'), ("d/tokenizer.json", b'{"model": {"type": "BPE"}}')],
)  # fmt: skip
def test_inspect_what_is_damaged(call, tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    status, out, err = call("inspect", path.parent if name.startswith("d/") else path)
    assert (status, out) == (1, "")
    assert str(path.parent) in err


def test_inspect_nothing(call, tmp_path):
    assert call("inspect", tmp_path / "none")[::2] == (1, f"error: {tmp_path}/none: not found\n")


# --- compare ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def word_piece(tmp_path, texts) -> Path:
    outside = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    outside.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    outside.train_from_iterator(texts, tokenizers.trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"]))
    outside.save(str(tmp_path / "word-piece.json"))
    return tmp_path / "word-piece.json"


def test_compare(call, finished, word_piece, tmp_path, texts):
    files = [tmp_path / "one.txt", tmp_path / "two.txt"]
    contents = ["\n".join(texts[:50]), texts[60]]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content.encode())
    ours = finished / "tokenizers" / "tok"
    status, out, _ = call("compare", ours, word_piece, "--text", *files, "--json")
    rows = json.loads(out)
    assert status == 0
    assert [row["tokenizer"] for row in rows] == [str(ours), str(word_piece)]
    outside = [tokenizers.Tokenizer.from_file(str(path)) for path in (ours / "tokenizer.json", word_piece)]
    for tokenizer in outside:
        tokenizer.encode_special_tokens = True
    for row, tokenizer in zip(rows, outside, strict=True):
        assert row["tokens"] == sum(len(tokenizer.encode(content).ids) for content in contents)
        assert row["text_bytes"] == sum(len(content.encode()) for content in contents)
        assert row["words"] == sum(len(content.split()) for content in contents)
        assert row["vocab_size"] == tokenizer.get_vocab_size()
    status, out, _ = call("compare", ours / "tokenizer.json", word_piece, "--text", *files)
    assert status == 0
    for row in rows:
        assert f"{row['tokens']:,}" in out
        assert f"{row['bytes_per_token']:.3f}" in out


def test_compare_with_ids_that_leave_gaps(call, tmp_path):
    model = tokenizers.models.WordPiece({"[UNK]": 0, "a": 7, "b": 3}, unk_token="[UNK]")
    tokenizers.Tokenizer(model).save(str(tmp_path / "gaps.json"))
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    status, out, err = call("compare", tmp_path / "gaps.json", "--text", tmp_path / "a.txt", tmp_path / "b.txt", "--json")
    assert (status, err) == (0, "")
    row = json.loads(out)[0]
    assert (row["tokens"], row["documents"]) == (2, 2)
    assert 0 < row["vocab_used_fraction"] <= 1


def test_compare_on_an_empty_text(call, finished, word_piece, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    ours = finished / "tokenizers" / "tok"
    status, out, _ = call("compare", ours, word_piece, "--text", tmp_path / "empty.txt", "--json")
    assert status == 0
    assert [(row["tokens"], row["bytes_per_token"]) for row in json.loads(out)] == [(0, None), (0, None)]
    assert call("compare", ours, "--text", tmp_path / "empty.txt")[0] == 0


@pytest.mark.parametrize(
    ("tokenizer", "text", "message"),
    [
        ("none", "good.txt", r"none/tokenizer\.json: not found"),
        ("none.json", "good.txt", r"none\.json: not found"),
        ("bad.json", "good.txt", r"bad\.json: not a tokenizer\.json"),
        ("out/tokenizers/tok", "none.txt", r"none\.txt: not found"),
        ("out/tokenizers/tok", "bad.txt", r"bad\.txt: invalid UTF-8 at byte 2"),
        ("out/tokenizers/tok", "out", r"out: cannot read"),
    ],
)
def test_compare_mistakes(call, finished, tmp_path, tokenizer, text, message):
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "bad.txt").write_bytes(b"ab\xff")
    (tmp_path / "bad.json").write_text("[1]")
    status, out, err = call("compare", tmp_path / tokenizer, "--text", tmp_path / text)
    assert (status, out) == (1, "")
    assert re.search(message, err)


# --- the installed command --------------------------------------------------------------------------------------------


def test_the_command_runs_from_another_folder(tokenmill, fields, tmp_path):
    """Relative paths are those of the folder the command runs in."""
    fields = {**fields, "output": "./here/out"}
    fields["sources"][0]["uris"] = ["corpus/*.jsonl"]
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    first = tokenmill("run", "job.yaml")
    assert first.returncode == 0, first.stderr
    assert "./here/out/_SUCCESS" in first.stdout
    assert len(first.stderr.splitlines()) == len(STEPS)
    assert verify(str(tmp_path / "here" / "out"), lambda path: None) > 10
    again = tokenmill("run", "job.yaml")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("./here/out was finished already: nothing to do.")
    assert tokenmill("verify", "here/out").returncode == 0
    (tmp_path / "here/out/report/report.html").write_text("x")
    damaged = tokenmill("verify", "here/out")
    assert damaged.returncode == 1
    assert damaged.stderr.startswith("error: here/out/report/report.html: 1 bytes, the manifest says ")


def test_version(tokenmill):
    version = tokenmill("--version")
    assert (version.returncode, version.stdout, version.stderr) == (0, f"tokenmill {__version__}\n", "")


@pytest.mark.parametrize(
    "args", [[], ["rum"], ["run"], ["verify"], ["compare", "a"], ["run", "a", "b"], ["plan", "a", "--dry-run"]]
)
def test_wrong_usage_exits_with_2(capsys, args):
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tokenmill")


def test_help_names_every_verb(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    for verb in ("run", "plan", "status", "verify", "inspect", "compare", "infer-mixture"):
        assert re.search(rf"\n    {verb}\s", out)


def test_a_mistake_in_the_spec_shows_no_traceback(tokenmill, tmp_path):
    (tmp_path / "job.yaml").write_text("name: a\nname: b\n")
    for args in (("run", "job.yaml"), ("inspect", "none")):
        result = tokenmill(*args)
        assert result.returncode == 1
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.stderr


def test_output_into_a_closed_pipe_is_quiet(finished, tmp_path):
    """As in ``tokenmill inspect OUT | head -0``."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(Path(sys.executable).with_name("tokenmill")), "inspect", str(finished)]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert "Traceback" not in result.stderr
    assert "BrokenPipeError" not in result.stderr


def test_an_interrupted_run_says_so_and_goes_on(spec_file, tmp_path, tokenmill, run, hashes):
    """Stopped as soon as its plan is written."""
    undisturbed = run({"output": str(tmp_path / "undisturbed")})
    command = [str(Path(sys.executable).with_name("tokenmill")), "run", str(spec_file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "out" / "plan.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped; the same command goes on from here" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert tokenmill("run", spec_file).returncode == 0
    assert hashes(tmp_path / "out") == hashes(undisturbed.out)

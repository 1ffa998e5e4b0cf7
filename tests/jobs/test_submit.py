"""Jobs on a real Ray head with its dashboard: sent, followed, found again, stopped, lost with the head."""

from __future__ import annotations

import http.server
import io
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.errors import TaskFailed
from pipeline.jobs.cli import main
from pipeline.jobs.load import load_spec, parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.ray_runner import ONE_THREAD
from pipeline.jobs.run import run_job
from pipeline.jobs.submit import Submission, follow, run_id, write_package
from tests.corpus import documents, job, published, write_jsonl
from tests.ray_head import ROOT, Head

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # in Ray's client
]

SLOW = {"shard_bytes": 1_000, "max_in_flight": 1}
"""Some hundred tasks, one after the other: long enough to be met on its way."""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    head = Head()
    try:
        head.start()
        yield head
    finally:
        head.close()


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for index in range(2):
        write_jsonl(root / f"a/part-{index}.jsonl", documents(60, seed=index), first_id=60 * index)
    write_jsonl(root / "b/all.jsonl", documents(60, seed=9))
    return root


@pytest.fixture(scope="module")
def undisturbed(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    run_job(parse_spec(job(small_corpus, output)), Progress(io.StringIO()))
    return published(output)


@pytest.fixture
def spec(small_corpus: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec over the small corpus, with output in ``tmp_path/out`` and ``execution`` as given."""

    def write(**execution: Any) -> Path:
        path = tmp_path / "job.json"
        path.write_text(json.dumps(job(small_corpus, tmp_path / "out", **execution)))
        return path

    return write


class Server(http.server.ThreadingHTTPServer):
    """Answers GET with the next of what is planned for a path (status, text, seconds before it), and the last for ever."""

    def __init__(self, answers: dict[str, list[tuple[int, str, float]]]) -> None:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                planned = answers[self.path]
                status, text, seconds = planned.pop(0) if len(planned) > 1 else planned[0]
                time.sleep(seconds)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


def details(status: str, **more: object) -> tuple[int, str, float]:
    return 200, json.dumps({"type": "SUBMISSION", "status": status, "entrypoint": "x", **more}), 0


VERSION = (200, '{"ray_version": "2.60.0"}', 0)
LOST = (500, "Traceback (…):\n  …\nNo agent", 0)


def id_of(spec_file: Path) -> str:
    return run_id(load_spec(str(spec_file)))


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def receipts(output: Path) -> int:
    return len(list(output.glob("_work/receipts/*/*.json")))


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_the_package_and_the_spec_are_sent_and_nothing_else(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("CORPUS_OF_THE_TEST", "s3://bucket/texts")
    spec_file = spec(retries=7)
    fields = json.loads(spec_file.read_text())
    fields["sources"][0]["uris"] = ["${CORPUS_OF_THE_TEST}/*.jsonl"]
    fields["pack"]["shuffle"] = None
    spec_file.write_text(json.dumps(fields))
    loaded = load_spec(str(spec_file), ["tokenizers.0.vocab_size=300"])
    (tmp_path / "sent").mkdir()
    write_package(loaded, tmp_path / "sent")

    assert {path.name for path in (tmp_path / "sent").iterdir()} == {"pipeline", "spec.json"}
    sent = {path.relative_to(tmp_path / "sent" / "pipeline") for path in (tmp_path / "sent/pipeline").rglob("*")}
    here = Path(pipeline.__file__).parent
    assert sent == {path.relative_to(here) for path in here.rglob("*") if "__pycache__" not in path.parts}
    assert {path.suffix for path in sent} <= {"", ".py", ".typed", ".txt", ".tsv", ".html", ".md"}
    assert sum(path.stat().st_size for path in (tmp_path / "sent").rglob("*")) < 2 << 20

    monkeypatch.delenv("CORPUS_OF_THE_TEST")
    there = load_spec(str(tmp_path / "sent/spec.json"))
    assert there.sources[0].uris == ("s3://bucket/texts/*.jsonl",)
    assert (there.execution.address, there.execution.retries) == ("auto", 7)
    assert (there.tokenizers, there.pack, there.output) == (loaded.tokenizers, loaded.pack, loaded.output)


def test_a_run_keeps_its_id(spec):
    loaded = load_spec(str(spec()))
    assert re.fullmatch(r"tokenmill-test-[0-9a-f]{8}", run_id(loaded))
    assert run_id(load_spec(str(spec(retries=9)), ["pack=null"])) == run_id(loaded)
    assert run_id(load_spec(str(spec()), ["output=/elsewhere"])) != run_id(loaded)
    assert run_id(load_spec(str(spec()), ["name=a b/ä?c"])).startswith("tokenmill-a-b-c-")


# --- refused before anything is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("output=out/test", "output is 'out/test', which means something else on the cluster; a URI"),
        ("output=~/out", "output is '~/out', which means"),
        ("sources.1.uris=[s3://b/*.jsonl, data/*.jsonl]", "sources[1].uris[1] is 'data/*.jsonl', which means"),
        ("evaluate.compare=[./tokenizer.json]", "evaluate.compare[0] is './tokenizer.json', which means"),
        (
            "tokenizers.3={name: m, kind: morph, vocab_size: 999, language: ./fi}",
            "tokenizer 'm': language is './fi', which means",
        ),
        (
            "tokenizers.3={name: m, kind: morph, vocab_size: 999, language: tr, roots: r.tsv}",
            "tokenizer 'm': roots is 'r.tsv'",
        ),
        ("tokenizers.3={name: m, vocab_size: 999, morphemes: fi}", "tokenizer 'm': morphemes is 'fi', which means"),
        (
            "tokenizers.3={name: m, kind: superbpe, vocab_size: 999, base: t.json}",
            "tokenizer 'm': base is 't.json', which m",
        ),
        ("evaluate.morphology={language: tr, words: [/a, b.txt]}", "evaluate.morphology.words[1] is 'b.txt', which means"),
        ("evaluate.morphology={language: fi}", "evaluate.morphology.language is 'fi', which means"),
        ("evaluate.morphology={gold: g.tsv}", "evaluate.morphology.gold is 'g.tsv', which means"),
        ("tokenizers.0.vocab_size=5", "tokenizers[0].vocab_size is 5;"),
    ],
)
def test_a_wrong_spec_is_told_here(spec, override, message, capsys):
    assert main(["submit", str(spec()), "--address", "http://127.0.0.1:1", "--set", override]) == 1
    assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://127.0.0.1:10001", "auto", "http://", ""])
def test_an_address_that_is_none(spec, address, capsys):
    assert main(["submit", str(spec()), "--address", address]) == 1
    assert f"error: --address is {address!r}; that of the head's dashboard is needed" in capsys.readouterr().err


def test_nobody_answers(spec, capsys, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:2")  # Ray would take this one
    assert main(["submit", str(spec()), "--address", "http://127.0.0.1:1", "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == f"error: {json.loads(out)['message']}\n"
    assert "--address http://127.0.0.1:1: no Ray cluster answers there: Failed to connect" in err


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ((404, "", 0), "no Ray cluster answers there: Version check returned 404"),
        ((200, "<html>", 0), "no Ray cluster answers there: Expecting value"),
        ((200, "{}", 0), "no Ray cluster answers there: 'ray_version'"),
        ((200, '{"ray_version": "1.13.0"}', 0), "is not compatible with the Ray cluster"),
        ((401, "no", 0), "`RAY_AUTH_TOKEN` environment variable"),
        (VERSION, "cannot take the job: No agent"),
    ],
)
def test_what_answers_is_no_head_that_takes_jobs(spec, capsys, version, message):
    with Server({"/api/version": [version], "/api/jobs/": [LOST]}) as server:
        assert main(["submit", str(spec()), "--address", server.address]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: --address {server.address}: ")
    assert message in err
    assert len(err.splitlines()) == 1


# --- connections that fail --------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.jobs.submit._PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("pipeline.jobs.submit._PAUSE_SECONDS", 0.1)


def test_a_head_that_answers_again_is_followed_on(impatient):
    """Patience begins with the first failure: before it, a connection may have been good for hours."""
    tail = (500, "", 1.0)
    log = (200, json.dumps({"logs": "one\ntwo\n"}), 0)
    states = [LOST, LOST, details("RUNNING"), LOST, details("FAILED", driver_exit_code=3)]
    written: list[str] = []
    with Server(
        {
            "/api/version": [VERSION],
            "/api/jobs/a/logs/tail": [tail, (500, "", 0)],
            "/api/jobs/a": states,
            "/api/jobs/a/logs": [log],
        }
    ) as server:
        ending = follow(server.address, "a", written.append)
    assert (ending.status, ending.exit_status, ending.last_lines) == ("FAILED", 3, ("one", "two"))
    assert "".join(written) == "one\ntwo\n"


def test_a_head_that_does_not_answer_any_more_is_given_up(impatient):
    answers = {"/api/version": [VERSION], "/api/jobs/a/logs/tail": [LOST], "/api/jobs/a": [details("RUNNING"), LOST]}
    with Server(answers) as server, pytest.raises(TaskFailed, match="has not answered for 0 s: No agent; a may go on there"):
        follow(server.address, "a", print)


def test_who_reads_the_log_may_go(impatient):
    def write(text: str) -> None:
        raise BrokenPipeError

    log = (200, json.dumps({"logs": "one\n"}), 0)
    answers = {"/api/version": [VERSION], "/api/jobs/a/logs/tail": [LOST], "/api/jobs/a/logs": [log]}
    with Server({**answers, "/api/jobs/a": [details("SUCCEEDED")]}) as server, pytest.raises(BrokenPipeError):
        follow(server.address, "a", write)


# --- on a head --------------------------------------------------------------------------------------------------------


def test_a_job_runs_to_its_end_and_is_finished_the_second_time(head, spec, undisturbed, tmp_path):
    first = head.submit(spec(), "--wait", A_SECRET_OF_THIS_SHELL="never sent")
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert first.stdout.splitlines()[-1] == f"{id_of(spec())}: SUCCEEDED"
    assert first.stdout.count("Running entrypoint for job") == 1
    for text in ("count ", "documents: ", "tokens in ", "done in "):
        assert text in first.stdout
    assert published(tmp_path / "out") == undisturbed

    again = head.submit(spec(), "--wait", "--json", RAY_ADDRESS="http://127.0.0.1:2")
    assert again.returncode == 0, again.stderr
    assert f"{tmp_path}/out was finished already: nothing to do.\n" in again.stderr
    told = json.loads(again.stdout)
    assert (told["job"], told["status"], told["exit_status"]) == (f"{id_of(spec())}-2", "SUCCEEDED", 0)

    records = [record for record in head.get("/api/jobs/") if (record["submission_id"] or "").startswith(id_of(spec()))]
    for record in records:
        assert record["runtime_env"].pop("working_dir").startswith("gcs://")
        assert record["runtime_env"] == {"env_vars": ONE_THREAD}
        assert "never sent" not in json.dumps(record)
    # The drivers and the tasks had that environment and no other.
    states = head.get("/api/v0/runtime_envs")["data"]["result"]["result"]
    for state in states:
        assert set(state["runtime_env"]) == {"working_dir", "env_vars"}
        assert state["runtime_env"]["env_vars"] == ONE_THREAD


def test_bad_data_is_told_with_the_last_lines_and_the_exit_status(head, spec, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"text": 7}\n')
    ended = head.submit(spec(), "--wait", "--set", f"sources.1.uris=['{bad}']")
    assert ended.returncode == 1
    told = ended.stderr.splitlines()
    assert told[0] == (f"error: {id_of(spec())} is FAILED: its command ended with exit status 1; the last lines of its log:")
    assert re.search(r"bad\.jsonl: the line at byte 17: column 'text' is int", told[-1])
    assert 1 < len(told) <= 11
    command = ["tokenmill", "run", str(spec()), "--set", f"sources.1.uris=['{bad}']", "--only"]
    assert told[-1].partition("to run it alone: ")[2].startswith(shlex.join(command) + " ")
    assert not (tmp_path / "out/_SUCCESS").exists()


_TWICE = """
import sys
from pipeline.errors import TaskFailed
from pipeline.jobs.load import load_spec
from pipeline.jobs.submit import submit

_, spec_file, address = sys.argv
print(submit(load_spec(spec_file), address))
try:
    submit(load_spec(spec_file, ["tokenizers.0.vocab_size=300"]), address)
except TaskFailed as error:
    print(error)
"""


def test_a_job_that_runs_is_found_followed_left_stopped_and_sent_again(head, spec, undisturbed, tmp_path):
    spec_file = spec(**SLOW)
    sent = head.submit(spec_file)
    assert (sent.returncode, sent.stderr) == (0, "")
    first, *commands = sent.stdout.splitlines()
    assert first == f"{id_of(spec_file)} is sent"
    assert f"ray job logs --follow --address {head.address} {id_of(spec_file)}" in commands[0]
    assert commands[2].endswith(f"tokenmill status {tmp_path}/out")
    wait_for(lambda: receipts(tmp_path / "out") > 0)

    both = [sys.executable, "-c", _TWICE, str(spec_file), head.address]
    again, other = subprocess.run(
        both, env=head.env, cwd=ROOT, check=True, capture_output=True, text=True, timeout=100
    ).stdout.splitlines()
    assert again == str(Submission(id_of(spec_file), "RUNNING", was_running=True))
    assert other.startswith(
        f"{id_of(spec_file)} is RUNNING on {head.address}, from a spec that is not this one: nothing was"
    )

    follower = head.begin(spec_file, "--wait")
    assert follower.stdout is not None
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert f"note: {id_of(spec_file)} was running already" in err
    assert f"no longer following: {id_of(spec_file)} goes on" in err
    assert head.get(f"/api/jobs/{id_of(spec_file)}")["status"] == "RUNNING"

    stop = shlex.split(commands[1].split(maxsplit=1)[1])
    assert stop[:3] == ["ray", "job", "stop"]
    program = str(Path(sys.executable).with_name("ray"))
    subprocess.run([program, *stop[1:]], env=head.env, check=True, capture_output=True, timeout=60)
    assert head.get(f"/api/jobs/{id_of(spec_file)}")["status"] == "STOPPED"
    assert not (tmp_path / "out/_SUCCESS").exists()

    done_before = receipts(tmp_path / "out")
    resumed = head.submit(spec(), "--wait")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[-1] == f"{id_of(spec_file)}-2: SUCCEEDED"
    assert done_before > 0
    assert published(tmp_path / "out") == undisturbed


def followed(head: Head, job_id: str, submission: str, write: str = "sys.stdout.write", silence: float = 60) -> str:
    """What ``follow`` writes of a job that Ray's own client has sent, and how it says that it ended."""
    script = f"""
import sys
from ray.job_submission import JobSubmissionClient
from pipeline.jobs import submit

submit._SILENCE_SECONDS = {silence}
client = JobSubmissionClient({head.address!r})
client.submit_job(submission_id={job_id!r}, {submission})
ending = submit.follow({head.address!r}, {job_id!r}, {write})
print(ending.status, ending.exit_status, ending.reason)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=head.env, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_job_that_is_stopped_while_it_is_followed(head):
    stop = "lambda text: sys.stdout.write(text) and 'started' in text.splitlines() and client.stop_job('stopped')"
    assert "STOPPED 1 Job was intentionally stopped" in followed(
        head, "stopped", "entrypoint='echo started; sleep 100'", stop
    )


def test_a_log_is_written_once_however_often_the_connection_ends(head):
    told = followed(head, "slowly", "entrypoint='for i in 1 2 3 4; do echo line $i; sleep 2; done'", silence=0.2)
    assert [line for line in told.splitlines() if line.startswith("line ")] == [f"line {i}" for i in range(1, 5)]
    assert told.count("Running entrypoint") == 1
    assert told.endswith("SUCCEEDED 0 \n")


def test_a_job_that_cannot_be_set_up_on_the_nodes(head):
    told = followed(head, "no-package", "entrypoint='true', runtime_env={'working_dir': 'gcs://_ray_pkg_none.zip'}")
    assert "FAILED 1 runtime_env setup failed" in told


def test_a_job_that_was_sent_by_other_means_gets_one_thread_for_each_task_too(head):
    """Ray refuses a variable that is given twice: those that the job came with stay as they are."""
    code = (
        "import json, ray; from pipeline.jobs.ray_runner import RayRunner; RayRunner('auto', None, 0);"
        "print('variables', json.dumps(ray.get_runtime_context().runtime_env['env_vars']))"
    )
    entrypoint = f"cd {ROOT} && python -c {shlex.quote(code)}"
    told = followed(head, "by-hand", f"entrypoint={entrypoint!r}, runtime_env={{'env_vars': {{'OMP_NUM_THREADS': '2'}}}}")
    variables = re.search(r"^variables (.*)$", told, re.MULTILINE)
    assert variables is not None, told
    assert json.loads(variables.group(1)) == {**ONE_THREAD, "OMP_NUM_THREADS": "2"}


# --- a head that is lost ----------------------------------------------------------------------------------------------


def test_a_killed_head_and_a_new_one_change_nothing(spec, undisturbed, tmp_path):
    head = Head()
    spec_file = spec(**SLOW)
    try:
        head.start()
        follower = head.begin(spec_file, "--wait")
        wait_for(lambda: receipts(tmp_path / "out") > 3)
        head.kill()
        assert not (tmp_path / "out/_SUCCESS").exists()
        nobody = head.submit(spec_file, "--wait")
        assert nobody.returncode == 1
        assert "no Ray cluster answers there" in nobody.stderr

        head.start()
        out, err = follower.communicate(timeout=100)
        assert follower.returncode == 1
        assert "Running entrypoint for job" in out
        assert f"error: {head.address} does not know {id_of(spec_file)} any more: the head was started anew" in err

        resumed = head.submit(spec(), "--wait")
        assert resumed.returncode == 0, resumed.stderr
        assert re.search(r"^count +([1-9]\d*)/", resumed.stdout, re.MULTILINE)
        assert resumed.stdout.splitlines()[-1] == f"{id_of(spec_file)}: SUCCEEDED"
    finally:
        head.close()
    assert published(tmp_path / "out") == undisturbed

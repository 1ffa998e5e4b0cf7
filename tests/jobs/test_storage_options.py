"""Endpoint and credentials that only the spec knows: they work everywhere, and are written nowhere."""

from __future__ import annotations

import http.server
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.cloudpickle

from pipeline import storage
from pipeline.errors import SpecError, StorageError
from pipeline.jobs.cli import main
from pipeline.jobs.load import parse_spec
from pipeline.jobs.plan import make_plan, settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import make_job, run_job
from pipeline.jobs.status import status
from pipeline.jobs.steps import STEPS
from tests.corpus import documents, job, published, write_jsonl
from tests.s3 import Bucket, Proxy, Server, use

ROOT = Path(__file__).parents[2]
KEY, SECRET = "AKIAUNMISTAKABLE", "wJalrXUtnFEMI/unmistakable+secret"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test configures ends with it."""
    storage.configure({})
    monkeypatch.setenv(storage.OPTIONS_VARIABLE, "{}")


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for name in ("a", "b"):
        write_jsonl(root / name / "all.jsonl", documents(40, seed=ord(name)))
    return root


@pytest.fixture(scope="module")
def undisturbed(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    run_job(parse_spec(job(small_corpus, output)), Progress(io.StringIO()))
    return published(output)


@pytest.fixture
def stored(bucket: Bucket, s3_server: Server, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A job in a bucket of which the environment knows nothing; what is private is in variables of other names."""
    for path in small_corpus.rglob("*.jsonl"):
        bucket.put(f"corpus/{path.relative_to(small_corpus)}", path.read_bytes())
    use({}, monkeypatch)
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("MY_SECRET", SECRET)
    spec = job(Path(), Path())
    spec["output"] = f"{bucket.uri}/out"
    for source in spec["sources"]:
        source["uris"] = [f"{bucket.uri}/corpus/{uri}" for uri in source["uris"]]
    spec["execution"]["storage_options"] = {
        "endpoint_url": s3_server.env["AWS_ENDPOINT_URL"],
        "key": "${MY_KEY}",
        "secret": "${MY_SECRET}",
    }
    return spec


@pytest.fixture
def ray_home() -> Iterator[Path]:
    """A folder for a Ray that nobody else finds; short, for the sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="tm", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def command(spec: dict[str, Any], folder: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = folder / "job.json"
    path.write_text(json.dumps(spec))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", storage.OPTIONS_VARIABLE))}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.jobs.cli", "run", str(path), *args],
        cwd=ROOT, env=env | variables, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def private(spec: dict[str, Any]) -> list[str]:
    return [KEY, SECRET, spec["execution"]["storage_options"]["endpoint_url"].removeprefix("http://")]


@pytest.mark.parametrize("address", ["local", pytest.param("auto", marks=pytest.mark.xdist_group("ray"))])
def test_a_whole_job_with_what_only_the_spec_knows(
    address: str, stored: dict[str, Any], bucket: Bucket, undisturbed: dict[str, str], tmp_path: Path, ray_home: Path
) -> None:
    stored["execution"]["address"] = address
    done = command(stored, tmp_path, RAY_TMPDIR=str(ray_home))
    assert done.returncode == 0, done.stderr
    for key in (keys := bucket.keys("out/")):
        target = tmp_path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bucket.read(key))
    assert published(tmp_path / "out") == undisturbed
    written = {key: bucket.read(key) for key in keys} | {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    assert {"out/plan.json", "out/manifest.json", "out/report/report.html", "out/_work/driver/000001.json"} <= set(written)
    written |= {str(path): path.read_bytes() for path in ray_home.rglob("*") if path.is_file()}
    assert any("logs" in name for name in written) is (address == "auto")
    for text in private(stored):
        assert not [name for name, content in written.items() if text.encode() in content]


def test_one_task_alone_and_a_finished_run_have_them_too(stored: dict[str, Any], bucket: Bucket, tmp_path: Path) -> None:
    alone = command(stored, tmp_path, "--only", "count/00000")
    assert json.loads(alone.stdout)["name"] == "00000"
    assert "out/_work/receipts/count/00000.json" in bucket.keys("out/")
    spec = parse_spec(stored)
    assert run_job(spec, Progress(io.StringIO())).was_finished is False
    assert run_job(spec, Progress(io.StringIO())).was_finished is True
    assert status(stored["output"])["finished"] is True


def test_tasks_are_told_nothing_private(stored: dict[str, Any]) -> None:
    spec = parse_spec(stored)
    plan = settle_plan(spec)
    made = make_job(spec, plan)
    assert made.spec.execution.storage_options == {}
    assert made.spec.sources == spec.sources
    for text in (*private(stored), "MY_KEY", "MY_SECRET", "endpoint_url"):
        assert text.encode() not in ray.cloudpickle.dumps((made, plan))
        assert text not in repr(made) + repr(spec) + repr(plan)


def test_variables_in_options_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "value")
    storage.configure({"a": "x-${HERE}-${HERE}", "b": {"c": ["${HERE}", 1, None]}, "d": True, "e": "$HERE {HERE}"})
    assert json.loads(os.environ[storage.OPTIONS_VARIABLE]) == {
        "a": "x-value-value",
        "b": {"c": ["value", 1, None]},
        "d": True,
        "e": "$HERE {HERE}",
    }


def test_a_variable_that_is_not_set(stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_SECRET")
    with pytest.raises(SpecError, match=r"^execution\.storage_options: \$\{MY_SECRET\} is not set in the environment$"):
        make_plan(parse_spec(stored))
    for args in ([], ["--dry-run"], ["--only", "count/00000"]):
        done = command(stored, tmp_path, *args)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "error: execution.storage_options: ${MY_SECRET} is not set in the environment\n"


# --- errors -----------------------------------------------------------------------------------------------------------


class Refusing(http.server.ThreadingHTTPServer):
    """A store that says no, and repeats what it was told."""

    def __init__(self) -> None:
        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # who writes waits for its "100 Continue"

            def _refuse(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = (
                    "<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code><Message>"
                    f"{KEY} with {SECRET} may not use {self.headers['Host']}</Message></Error>"
                ).encode()
                self.send_response(403)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _refuse

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answer)
        self.daemon_threads = True
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


@pytest.fixture(params=["refuses", "is not there"])
def useless(request: pytest.FixtureRequest) -> Iterator[str]:
    """An endpoint that is of no use."""
    if request.param == "refuses":
        server = Refusing()
        yield f"http://127.0.0.1:{server.server_port}"
        server.stop()
    else:
        with socket.socket() as taken:  # bound, and nobody listens
            taken.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_messages_hold_nothing_private(useless: str, nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    use({"AWS_EC2_METADATA_DISABLED": "true"}, monkeypatch)
    options: dict[str, Any] = {"endpoint_url": useless, "key": KEY, "secret": SECRET}
    if nested:
        names = {"endpoint_url": useless, "aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        options = {"client_kwargs": names}
    once = {"retries": {"mode": "standard", "total_max_attempts": 1}, "connect_timeout": 2, "read_timeout": 2}
    storage.configure({**options, "config_kwargs": once})
    for action in (
        lambda: storage.list_files("s3://bucket/*"),
        lambda: storage.stat("s3://bucket/key"),
        lambda: storage.read_bytes("s3://bucket/key"),
        lambda: storage.read_all(["s3://bucket/key"]),
        lambda: storage.list_stored("s3://bucket/folder"),
        lambda: storage.publish_bytes("s3://bucket/key", b"x"),
        lambda: storage.create_first("s3://bucket/key", b"x", conditional=True),
        lambda: storage.remove("s3://bucket/key"),
    ):
        with pytest.raises(StorageError, match=r"^s3://bucket/.*: cannot ") as error:
            action()
        for text in (KEY, SECRET, useless.removeprefix("http://")):
            assert text not in str(error.value)


def test_the_command_tells_nothing_private(stored: dict[str, Any], useless: str, tmp_path: Path) -> None:
    stored["execution"]["storage_options"]["endpoint_url"] = useless
    once = {"retries": {"mode": "standard", "total_max_attempts": 1}, "connect_timeout": 2, "read_timeout": 2}
    stored["execution"]["storage_options"]["config_kwargs"] = once
    for args in ([], ["--json"]):
        done = command(stored, tmp_path, *args)
        assert done.returncode == 1
        assert re.match(r"error: s3://.*: cannot list: ", done.stderr)
        for text in private(stored):
            assert text not in done.stdout + done.stderr


def test_of_what_the_environment_gives_nothing_is_told_either(useless: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"AWS_ENDPOINT_URL": useless, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    use(env | {"AWS_MAX_ATTEMPTS": "1"}, monkeypatch)
    with pytest.raises(StorageError) as error:
        storage.read_bytes("s3://bucket/key")
    for text in (KEY, SECRET, useless.removeprefix("http://")):
        assert text not in str(error.value)


USUAL = {"key": "AKIAEXAMPLE", "secret": "HUNTER2HUNTER2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint_url": "minio.example:9000"}, "cannot be used with these options: Invalid endpoint: "),
        ({"config_kwargs": "x"}, "storage options: config_kwargs is str; a mapping is expected"),
        ({"client_kwargs": ["x"]}, "storage options: client_kwargs is list; a mapping is expected"),
        ({"config_kwargs": {"foo": "x"}}, "cannot be used with these options: .*foo"),
        ({"client_kwargs": {"foo": "x"}}, "cannot be used with these options: .*foo"),
        ({"endpoint": "http://minio.example:9000"}, "cannot be used with these options: .*endpoint"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use({"AWS_EC2_METADATA_DISABLED": "true"}, monkeypatch)
    storage.configure({**USUAL, **options})
    for action in (
        lambda: storage.read_bytes("s3://bucket/key"),
        lambda: storage.publish_bytes("s3://bucket/key", b"x"),
        lambda: storage.list_files("s3://bucket/*"),
    ):
        with pytest.raises(SpecError, match=message) as error:
            action()
        for text in (*USUAL.values(), "minio.example"):
            assert text not in str(error.value)


@pytest.mark.parametrize("content", ["{key: abc}", "[1]", "3", '"x"'])
def test_a_variable_that_holds_no_options(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the variable that is wrong, and not the output: nobody is told to delete anything."""
    monkeypatch.setenv(storage.OPTIONS_VARIABLE, content)
    with pytest.raises(SpecError, match=f"^{storage.OPTIONS_VARIABLE} is set, but holds no JSON object"):
        status("s3://bucket/out")


def test_what_the_user_has_set_comes_back_after_a_job_with_options_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(storage.OPTIONS_VARIABLE, '{"anon": true}')
    for _ in range(2):
        storage.configure({"anon": False})
        storage.configure({"anon": False, "key": "x"})
        storage.configure({})
        assert os.environ[storage.OPTIONS_VARIABLE] == '{"anon": true}'
        storage.configure({})
        assert os.environ[storage.OPTIONS_VARIABLE] == '{"anon": true}'


def test_ordinary_words_are_not_cut_out_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    style = {"config_kwargs": {"s3": {"addressing_style": "path"}}, "client_kwargs": {"region_name": "us-east-1"}}
    storage.configure({"key": "AKIAEXAMPLE", **style})
    told = storage._without_secrets("s3://data-us-east-1/path/part-00001.jsonl: no, AKIAEXAMPLE")
    assert told == "s3://data-us-east-1/path/part-00001.jsonl: no, ***"


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("execution.storage_options.secret=HUNTER2HUNTER2", "execution.storage_options.secret=***"),
        ("execution.storage_options={secret: HUNTER2HUNTER2}", "execution.storage_options=***"),
        ("execution={storage_options: {secret: HUNTER2HUNTER2}}", "execution=***"),
        ("execution[storage_options][secret]=HUNTER2HUNTER2", "execution[storage_options][secret]=***"),
    ],
)
def test_a_command_in_a_message_holds_no_options(
    override: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": 7}\n')
    spec = job(tmp_path, tmp_path / "out")
    spec["sources"] = [{"name": "bad", "uris": [str(tmp_path / "bad.jsonl")]}]
    (tmp_path / "job.json").write_text(json.dumps(spec))
    assert main(["run", str(tmp_path / "job.json"), "--json", "--set", override, "--set", "execution.address=local"]) == 1
    told = capsys.readouterr()
    assert "HUNTER2" not in told.out + told.err
    assert f"--set '{shown}'" in told.err


@pytest.mark.parametrize(
    "override",
    [
        'execution.storage_options="key=AKIA,secret=HUNTER2"',
        "execution.storage_options=[HUNTER2]",
        "execution=HUNTER2",
        "execution.storage_options.secret.x.y='HUNTER2",
    ],
)
def test_options_of_the_wrong_kind_are_not_shown(override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.json").write_text(json.dumps(job(tmp_path, tmp_path / "out")))
    assert main(["run", str(tmp_path / "job.json"), "--set", override]) == 1
    told = capsys.readouterr()
    assert "HUNTER2" not in told.out + told.err
    assert "execution" in told.err


# --- clusters ---------------------------------------------------------------------------------------------------------


@pytest.mark.xdist_group("ray")
def test_on_a_cluster_that_was_there_before_they_are_refused(
    stored: dict[str, Any], bucket: Bucket, ray_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers do not have this process's environment."""
    monkeypatch.setenv("RAY_TMPDIR", str(ray_home))
    stored["execution"]["address"] = "auto"
    ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
    try:
        with pytest.raises(SpecError, match=r"^execution\.storage_options stay in this process.*Leave them out") as error:
            run_job(parse_spec(stored), Progress(io.StringIO()))
        assert ray.is_initialized()  # it is not ours to stop
    finally:
        ray.shutdown()
    assert not [text for text in private(stored) if text in str(error.value)]
    assert not [key for key in bucket.keys("out/") if any(f"receipts/{step}" in key for step in STEPS)]


def test_they_are_not_sent_to_a_cluster(
    stored: dict[str, Any], proxy: Proxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before anything is asked of the address: the proxy would have seen it."""
    (tmp_path / "job.json").write_text(json.dumps(stored))
    proxy.seen.clear()
    assert main(["submit", str(tmp_path / "job.json"), "--address", f"http://127.0.0.1:{proxy.port}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: execution.storage_options do not travel")
    assert not [text for text in private(stored) if text in told]
    assert proxy.seen == []

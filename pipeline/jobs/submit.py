"""Send a job to a Ray cluster through Ray Jobs, and follow it there; the second home of Ray.

What is sent is one directory: this package and the resolved spec, nothing else. What the package imports is on the nodes
already (``cluster.yaml`` installs it, or an image holds it), and so are credentials: no variable of this process travels.

A run is known by its name and its output, so that the same command finds it again. Ray wants an id of its own for each
attempt (used again after deleting its record, an id takes over the end of the attempt before: the job is said to have
failed while it runs). So the second attempt is called as the run with ``-2`` behind it, and so on. An attempt needs nothing
of those before it: ``run`` goes on from what lies in storage, on this cluster or another.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

import pipeline
from pipeline import storage
from pipeline.errors import SpecError, TaskFailed
from pipeline.jobs.lexicon import BUILT_IN
from pipeline.jobs.load import PATHS
from pipeline.jobs.packs import MORFESSOR
from pipeline.jobs.ray_runner import ONE_THREAD
from pipeline.spec import JobSpec

_SPEC_FILE = "spec.json"
_SPEC_HASH = "spec_sha256"
SENT_COMMAND = f"tokenmill run {_SPEC_FILE}"
"""How a job on the cluster names itself in the commands that it prints."""

_LAST_LINES = 10

_PAUSE_SECONDS = 1.0
_SILENCE_SECONDS = 60.0
"""A connection that is dead without a word looks like a job that says nothing: then the job's status is asked for."""
_PATIENCE_SECONDS = 120.0
"""How long a head may not answer before following ends."""

# What Ray's client raises: OSError (also every error of `requests`), RuntimeError for a refusal, ValueError and KeyError for
# an answer that is none of Ray's. AuthenticationError says itself which variables are to be set.
_TROUBLE = (OSError, RuntimeError, ValueError, KeyError, AuthenticationError, ClientError)

_TALKATIVE = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
"""Loggers of Ray's client that tell of every upload and connection."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job on a cluster. ``was_running``: it was there already, and nothing was sent."""

    job_id: str
    status: str
    was_running: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended: ``exit_status`` is 0 only if it succeeded, else the driver's own where that is known, else 1."""

    status: str
    exit_status: int
    reason: str
    last_lines: tuple[str, ...]


def submit(spec: JobSpec, address: str) -> Submission:
    """Start a job on the cluster whose dashboard is at ``address``, or find it running there.

    Raises
    ------
    SpecError
        The address is none, a path of the spec means nothing on another machine, or the spec holds storage options.
    TaskFailed
        Nobody answers there, the job is refused, or the run goes on there from another spec.
    """
    _check_paths(spec)
    if spec.execution.storage_options:
        raise SpecError(
            "execution.storage_options do not travel: what is sent is kept by the cluster. Leave them out, and give the "
            f"nodes a role, AWS_… variables or {storage.OPTIONS_VARIABLE} (the options as JSON)"
        )
    run = run_id(spec)
    client = _connect(address)
    with _told(address, "cannot take the job"):
        number, newest = _newest_attempt(client, run)
        if newest is not None and not newest.status.is_terminal():
            return _already(newest, spec, address)
        job_id = run if number == 0 else f"{run}-{number + 1}"
        try:
            _send(client, job_id, spec)
        except RuntimeError:
            now, newest = _newest_attempt(client, run)
            if newest is None or now == number:
                raise
            return _already(newest, spec, address)  # somebody else was quicker
    return Submission(job_id, str(JobStatus.PENDING), False)


def run_id(spec: JobSpec) -> str:
    """What a run is called on a cluster: the same for each submission of the same name and output."""
    name = re.sub(r"[^A-Za-z0-9._]+", "-", spec.name).strip("-")[:60]
    return f"tokenmill-{name}-{hashlib.sha256(storage.absolute(spec.output).encode()).hexdigest()[:8]}"


def write_package(spec: JobSpec, folder: Path) -> None:
    """What is sent: the package as it is imported here, and the spec with every variable in it resolved."""
    source = Path(pipeline.__file__).parent
    shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    Path(folder, _SPEC_FILE).write_text(_spec_there(spec), encoding="utf-8")


def _spec_there(spec: JobSpec) -> str:
    """The spec as the cluster reads it, for which its own Ray is the one that runs already."""
    there = dataclasses.replace(spec, execution=dataclasses.replace(spec.execution, address="auto"))
    return json.dumps(dataclasses.asdict(there), indent=1)


def follow(address: str, job_id: str, write: Callable[[str], object]) -> Ending:
    """Write the job's log as it grows, through lost connections, until the job has ended.

    Raises
    ------
    TaskFailed
        The head does not answer for two minutes, or does not know the job (any more).
    """
    client = _connect(address)
    log = _Log(client, job_id, write)
    unanswered_since: float | None = None
    while True:
        try:
            log.copy_while_connected()
            details = client.get_job_info(job_id)
            if details.status.is_terminal():
                log.write_rest()
                return _ending(details, log)
            unanswered_since = None
        except BrokenPipeError:  # not of the connection: who reads the log has gone
            raise
        except _TROUBLE as error:
            unanswered_since = unanswered_since or time.monotonic()
            if "does not exist" in str(error):
                raise TaskFailed(
                    f"{address} does not know {job_id} any more: the head was started anew; the same command sends it again"
                ) from error
            if time.monotonic() - unanswered_since > _PATIENCE_SECONDS:
                raise TaskFailed(
                    f"{address} has not answered for {_PATIENCE_SECONDS:.0f} s: {_first_cause(error)}; {job_id} may go on "
                    "there, the same command follows it again"
                ) from error
        time.sleep(_PAUSE_SECONDS)


class _Log:
    """A job's log, written as it grows. Each connection begins at its start: what was written already is passed over."""

    def __init__(self, client: JobSubmissionClient, job_id: str, write: Callable[[str], object]) -> None:
        self._client = client
        self._job_id = job_id
        self._write = write
        self._written = 0
        self.text = ""

    def copy_while_connected(self) -> None:
        """Until the job has ended, the connection is lost, or nothing has come for a while."""
        try:
            asyncio.run(self._copy())
        except BrokenPipeError:
            raise
        except _TROUBLE:
            pass  # what is missed now is written later

    async def _copy(self) -> None:
        position = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SILENCE_SECONDS) as silence, contextlib.aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    silence.reschedule(asyncio.get_running_loop().time() + _SILENCE_SECONDS)
                    self._write_from(position, chunk)
                    position += len(chunk)

    def _chunks(self) -> Any:
        return self._client.tail_job_logs(self._job_id)

    def write_rest(self) -> None:
        """The whole log as it is now, without what was written already."""
        self.text = self._client.get_job_logs(self._job_id)
        self._write_from(0, self.text)

    def _write_from(self, position: int, chunk: str) -> None:
        if new := chunk[max(0, self._written - position) :]:
            self._write(new)
            self._written = position + len(chunk)


def _ending(details: Any, log: _Log) -> Ending:
    code = details.driver_exit_code
    if details.status == JobStatus.SUCCEEDED:
        reason, exit_status = "", 0
    elif code:
        reason, exit_status = f"its command ended with exit status {code}", code if 0 < code < 256 else 1
    else:
        reason, exit_status = details.message or "no reason is known", 1
    return Ending(str(details.status), exit_status, reason, tuple(log.text.splitlines()[-_LAST_LINES:]))


def _check_paths(spec: JobSpec) -> None:
    """The job runs on another machine, in another directory: a relative path would mean something else there."""
    paths = [("output", spec.output)]
    paths += [(f"sources[{i}].uris[{j}]", uri) for i, s in enumerate(spec.sources) for j, uri in enumerate(s.uris)]
    paths += [(f"evaluate.compare[{i}]", uri) for i, uri in enumerate(spec.evaluate.compare)]
    paths += _language_paths(spec)
    paths += [(f"evaluate.terms[{i}]", uri) for i, uri in enumerate(spec.evaluate.terms)]
    if (parallel := spec.evaluate.parallel) is not None:
        paths += [(f"evaluate.parallel.uris[{i}]", uri) for i, uri in enumerate(parallel.uris)]
    for field, value in paths:
        if "://" not in value and not value.startswith("/"):
            raise SpecError(
                f"{field} is {value!r}, which means something else on the cluster; a URI (s3://bucket/prefix) is needed, or "
                "the absolute path of a file system that all nodes share"
            )


def _language_paths(spec: JobSpec) -> list[tuple[str, str]]:
    """Paths of tokenizers that others start from, of languages, and of what morphology is measured by."""
    found: list[tuple[str, str | None]] = []
    for tokenizer in spec.tokenizers:
        paths = {name: getattr(tokenizer, name, None) for name in PATHS}
        found += [(f"tokenizer {tokenizer.name!r}: {name}", path) for name, path in paths.items() if isinstance(path, str)]
    if (morphology := spec.evaluate.morphology) is not None:
        fields = {"language": morphology.language, "roots": morphology.roots, "gold": morphology.gold}
        found += [(f"evaluate.morphology.{name}", value) for name, value in fields.items()]
        found += [(f"evaluate.morphology.words[{i}]", uri) for i, uri in enumerate(morphology.words)]
    return [(field, value) for field, value in found if value and value not in (*BUILT_IN, MORFESSOR)]


def _connect(address: str) -> JobSubmissionClient:
    if not re.fullmatch(r"https?://[^/\s]+\S*", address):
        raise SpecError(f"--address is {address!r}; that of the head's dashboard is needed: http://HEAD:8265")
    # Ray would let these variables win over an address that is given.
    hidden = {name: os.environ.pop(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS") if name in os.environ}
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with _told(address, "no Ray cluster answers there"):
            return JobSubmissionClient(address)
    finally:
        os.environ.update(hidden)


def _newest_attempt(client: JobSubmissionClient, run: str) -> tuple[int, Any]:
    """The number and the record of a run's last attempt; 0 and None if there was none."""
    found: dict[int, Any] = {0: None}
    for details in client.list_jobs():
        if match := re.fullmatch(re.escape(run) + r"(?:-(\d{1,6}))?", details.submission_id or ""):
            found[int(match.group(1) or 1)] = details
    return max(found), found[max(found)]


def _already(details: Any, spec: JobSpec, address: str) -> Submission:
    """The attempt that is running. A job sent by other means has no hash of its spec, and is taken for the same."""
    if (details.metadata or {}).get(_SPEC_HASH, _hash(spec)) != _hash(spec):
        raise TaskFailed(
            f"{details.submission_id} is {details.status} on {address}, from a spec that is not this one: nothing was sent. "
            f"Wait for its end, or stop it: ray job stop --address {address} {details.submission_id}"
        )
    return Submission(details.submission_id, str(details.status), True)


def _hash(spec: JobSpec) -> str:
    return hashlib.sha256(_spec_there(spec).encode()).hexdigest()


def _send(client: JobSubmissionClient, job_id: str, spec: JobSpec) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_package(spec, Path(folder))
        client.submit_job(
            entrypoint=f"python -m pipeline.jobs.cli run {_SPEC_FILE}",
            submission_id=job_id,
            metadata={_SPEC_HASH: _hash(spec)},
            # The only one: the driver adds nothing to it, so that all tasks share their workers.
            runtime_env={"working_dir": folder, "env_vars": ONE_THREAD},
        )


@contextlib.contextmanager
def _told(address: str, what: str) -> Iterator[None]:
    try:
        yield
    except _TROUBLE as error:
        raise TaskFailed(f"--address {address}: {what}: {_first_cause(error)}") from error


def _first_cause(error: Exception) -> str:
    """One line: an error of the head comes as a whole traceback, whose last line tells what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
    return lines[-1].rstrip(".") if lines else type(error).__name__

"""What a finished run leaves beside its artifacts: data-set descriptions, the accounting, the manifest, ``_SUCCESS``.

Everything is made from receipts. The manifest names every artifact with its hash; it is written last but one, and
``_SUCCESS``, which holds the manifest's own hash, last.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any

from pipeline import __version__, storage
from pipeline.errors import ArtifactError
from pipeline.jobs.accounting import account
from pipeline.jobs.dataset import describe_data_set
from pipeline.jobs.lease import Check
from pipeline.jobs.plan import Plan
from pipeline.jobs.report import make_report, render_html
from pipeline.jobs.schedule import Receipts
from pipeline.jobs.steps import STEPS
from pipeline.jobs.tasks import FORMAT_VERSION, Job, read_receipts

logger = logging.getLogger(__name__)

Manifest = dict[str, Any]

_REMEDY = "delete it and run the job again: it is made anew"


def read_manifest(output: str) -> Manifest:
    """The manifest of a finished run, checked against ``_SUCCESS``.

    Raises
    ------
    ArtifactError
        One of the two is missing, or they do not belong together.
    """
    success, manifest = storage.join(output, "_SUCCESS"), storage.join(output, "manifest.json")
    if not storage.exists(success):
        raise ArtifactError(f"{output}: no _SUCCESS; there is no run here, or it has not finished: run it again to go on")
    content = storage.read_bytes(manifest)
    if storage.read_bytes(success) != _success(content):
        raise ArtifactError(f"{manifest}: its sha256 is not the one in _SUCCESS; one of the two is damaged")
    found: dict[str, Any] = json.loads(content)
    return found


def _success(manifest: bytes) -> bytes:
    return (hashlib.sha256(manifest).hexdigest() + "\n").encode()


def is_finished(job: Job, plan: Plan, *, may_reopen: bool) -> bool:
    """Whether the run of this plan has come to its end, and what it made is all there.

    What was written after ``_SUCCESS`` is read and hashed again. If something is gone or another, or manifest and
    ``_SUCCESS`` do not belong together, the run is not finished; with ``may_reopen``, ``_SUCCESS`` is deleted then.
    """
    if not storage.exists(job.path("_SUCCESS")):
        return False
    try:
        manifest = read_manifest(job.output)
        stored = storage.list_stored(job.output)
        closed = stored["_SUCCESS"].modified
        for entry in manifest["artifacts"]:
            found = stored.get(entry["path"])
            if found is None or found.num_bytes != entry["bytes"]:
                raise ArtifactError(f"{job.path(entry['path'])}: gone or cut off")
            if found.modified > closed and storage.sha256_of(found.uri)[1] != entry["sha256"]:
                raise ArtifactError(f"{found.uri}: its content has changed since the run was finished")
    except ArtifactError as error:
        if may_reopen:
            logger.warning("%s; the run goes on", error)
            storage.remove(job.path("_SUCCESS"))
        return False
    return bool(manifest["fingerprint"] == plan.fingerprint)


def write_results(job: Job, plan: Plan, receipts: Receipts, execution: dict[str, Any], check_lease: Check) -> Manifest:
    """Describe the data sets, report, account for every document and token, and close the run, if it is still ours.

    Raises
    ------
    ArtifactError
        As ``accounting.account``.
    """
    check_lease(ask=True)
    accounting = account(job, receipts)
    artifacts = [
        entry
        for step in ("train", "pool", "pack")
        for receipt in receipts.get(step, {}).values()
        for entry in receipt.outputs
    ]
    if job.spec.pack is not None:
        for name, splits in accounting["packed"].items():
            for split, figures in splits.items():
                artifacts += describe_data_set(job, job.spec.pack, receipts, name, split, figures)
    report = make_report(job, plan, receipts, accounting, execution)
    for path, content in (
        ("report/report.json", (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode()),
        ("report/report.html", render_html(report).encode()),
    ):
        artifacts.append({"path": path, **storage.publish_bytes(job.path(path), content)})
    num_bytes, sha256 = storage.sha256_of(job.path("plan.json"))
    artifacts.append({"path": "plan.json", "bytes": num_bytes, "sha256": sha256})
    manifest = {
        "format_version": FORMAT_VERSION,
        "tokenmill_version": __version__,
        "name": job.spec.name,
        "fingerprint": plan.fingerprint,
        "accounting": accounting,
        "artifacts": sorted(artifacts, key=lambda entry: str(entry["path"])),
    }
    content = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    storage.remove_temporaries(job.output)
    check_lease(ask=True)
    storage.publish_bytes(job.path("manifest.json"), content)
    storage.publish_bytes(job.path("_SUCCESS"), _success(content))
    return manifest


def verify(output: str, on_file: Callable[[str], None]) -> int:
    """Read and hash every artifact again, and the receipts if they are still there; returns how many artifacts there are.

    Raises
    ------
    ArtifactError
        The first that is missing or differs, by one byte or more.
    """
    root = storage.absolute(output)
    artifacts = read_manifest(root)["artifacts"]
    for entry in artifacts:
        num_bytes, sha256 = storage.sha256_of(storage.join(root, entry["path"]))
        if num_bytes != entry["bytes"]:
            raise ArtifactError(
                f"{output}/{entry['path']}: {num_bytes} bytes, the manifest says {entry['bytes']}; {_REMEDY}"
            )
        if sha256 != entry["sha256"]:
            raise ArtifactError(
                f"{output}/{entry['path']}: its content has changed: sha256 {sha256}, the manifest says "
                f"{entry['sha256']}; {_REMEDY}"
            )
        on_file(entry["path"])
    for step in STEPS:
        read_receipts(root, step)
    return len(artifacts)

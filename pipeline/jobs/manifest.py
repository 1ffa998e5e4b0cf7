"""What a finished run leaves beside its artifacts: data-set descriptions, the accounting, the manifest, ``_SUCCESS``.

Everything is made from receipts. The manifest names every artifact with its hash; it is written last but one, and
``_SUCCESS``, which holds the manifest's own hash, last.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline import __version__, storage
from pipeline.errors import ArtifactError
from pipeline.jobs.plan import Plan
from pipeline.jobs.report import make_report, render_html
from pipeline.jobs.tasks import FORMAT_VERSION, SPLITS, Job, Receipt
from pipeline.spec import PackSpec

Receipts = dict[str, dict[str, Receipt]]


Manifest = dict[str, Any]


def read_manifest(output: str) -> Manifest:
    """The manifest of a finished run, checked against ``_SUCCESS``.

    Raises
    ------
    ArtifactError
        One of the two is missing, or they do not belong together.
    """
    success, manifest = storage.join(output, "_SUCCESS"), storage.join(output, "manifest.json")
    if not storage.exists(success):
        raise ArtifactError(
            f"{output}: no _SUCCESS; there is no run here, or it has not finished: run it again to go on"
        )
    content = storage.read_bytes(manifest)
    if storage.read_bytes(success) != _success(content):
        raise ArtifactError(f"{manifest}: its sha256 is not the one in _SUCCESS; one of the two is damaged")
    return json.loads(content)  # type: ignore[no-any-return]


def _success(manifest: bytes) -> bytes:
    return (hashlib.sha256(manifest).hexdigest() + "\n").encode()


def is_finished(job: Job, plan: Plan) -> bool:
    """Whether the run of this plan has come to its end."""
    return storage.exists(job.path("_SUCCESS")) and read_manifest(job.output)["fingerprint"] == plan.fingerprint


def write_results(job: Job, plan: Plan, receipts: Receipts, execution: dict[str, Any]) -> Manifest:
    """Describe the data sets, report, account for every document and token, and close the run.

    Raises
    ------
    ArtifactError
        The accounts of two steps do not agree: something was lost or doubled, and the run must not be trusted.
    """
    accounting = account(job, plan, receipts)
    artifacts = [
        entry for step in ("train", "pack") for receipt in receipts[step].values() for entry in receipt.outputs
    ]
    if job.spec.pack is not None:
        for name, splits in accounting["packed"].items():
            for split, figures in splits.items():
                artifacts += _write_data_set(job, job.spec.pack, receipts, name, split, figures)
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
    storage.publish_bytes(job.path("manifest.json"), content)
    storage.publish_bytes(job.path("_SUCCESS"), _success(content))
    return manifest


def verify(output: str, on_file: Callable[[str], None]) -> int:
    """Read and hash every artifact again; returns how many there are.

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
            raise ArtifactError(f"{output}/{entry['path']}: {num_bytes} bytes, the manifest says {entry['bytes']}")
        if sha256 != entry["sha256"]:
            raise ArtifactError(
                f"{output}/{entry['path']}: its content has changed: sha256 {sha256}, the manifest says {entry['sha256']}"
            )
        on_file(entry["path"])
    return len(artifacts)


# --- accounting -------------------------------------------------------------------------------------------------------


def account(job: Job, plan: Plan, receipts: Receipts) -> dict[str, Any]:
    """Documents by source and fate, and tokens of each packed data set by fate."""
    names = [source.name for source in job.spec.sources]
    sources = {
        name: {"documents": 0, "train": 0, "holdout": 0, "text_bytes": 0, "dropped": Counter[str]()} for name in names
    }
    for receipt in receipts["count"].values():
        report = receipt.report
        row: dict[str, Any] = sources[names[report["source"]]]
        for split in SPLITS:
            row[split] += report["documents"][split]
            row["text_bytes"] += report["text_bytes"][split]
        row["dropped"].update(report["dropped"])
        row["documents"] += sum(report["documents"].values()) + sum(report["dropped"].values())
    for row in sources.values():
        row["dropped"] = dict(sorted(row["dropped"].items()))  # type: ignore[attr-defined]
    kept = {split: sum(int(row[split]) for row in sources.values()) for split in SPLITS}  # type: ignore[call-overload]
    packed: dict[str, dict[str, Any]] = {}
    for receipt in receipts["pack"].values():
        report = receipt.report
        figures = packed.setdefault(report["tokenizer"], {}).setdefault(
            report["split"],
            {
                "documents": 0,
                "sequences": 0,
                "tokens_in": 0,
                "tokens_packed": 0,
                "padding": 0,
                "duplicate_ids": 0,
                "tokens_lost": {},
            },
        )
        for key in ("documents", "sequences", "tokens_in", "tokens_packed", "padding", "duplicate_ids"):
            figures[key] += report[key]
        for reason, count in report["tokens_lost"].items():
            figures["tokens_lost"][reason] = figures["tokens_lost"].get(reason, 0) + count
    _check(packed, kept, receipts)
    return {"sources": sources, "kept": kept, "packed": packed}


def _check(packed: dict[str, dict[str, Any]], kept: dict[str, int], receipts: Receipts) -> None:
    for name, splits in packed.items():
        for split, figures in splits.items():
            encoded = [r.report for r in receipts["encode"].values() if r.report["tokenizer"] == name]
            tokens = sum(report["tokens"][split] for report in encoded)
            sums = {
                "documents read, encoded and packed": (kept[split], sum(r["documents"][split] for r in encoded), figures["documents"]),
                "tokens encoded and taken for packing": (tokens, figures["tokens_in"]),
                "tokens taken, and packed or lost": (
                    figures["tokens_in"], figures["tokens_packed"] + sum(figures["tokens_lost"].values()),
                ),
            }  # fmt: skip
            for what, values in sums.items():
                if len(set(values)) != 1:
                    raise ArtifactError(
                        f"packed/{name}/{split}: {what} differ: {values}. An input changed while the job ran, or this is a "
                        "fault of tokenmill; delete the output directory and run again"
                    )


# --- data sets --------------------------------------------------------------------------------------------------------


def _write_data_set(
    job: Job, spec: PackSpec, receipts: Receipts, name: str, split: str, figures: dict[str, Any]
) -> list[dict[str, Any]]:
    """The three files that make a folder of Arrow streams a data set of `datasets`."""
    folder = f"packed/{name}/{split}"
    files = sorted(
        (entry for r in receipts["pack"].values() for entry in r.outputs if entry["path"].startswith(folder + "/")),
        key=lambda entry: str(entry["path"]),
    )
    trained = receipts["train"][name].report
    id_type = "uint16" if trained["vocab_size"] <= 1 << 16 else "uint32"
    fingerprint = hashlib.sha256("".join(entry["sha256"] for entry in files).encode()).hexdigest()[:16]
    state: dict[str, Any] = {
        "_data_files": [{"filename": entry["path"].rsplit("/", 1)[1]} for entry in files],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    info = {
        "builder_name": "arrow",
        "dataset_name": job.spec.name,
        "features": {
            "input_ids": {
                "feature": {"dtype": id_type, "_type": "Value"},
                "length": spec.sequence_length,
                "_type": "List",
            },
            "seq_lengths": {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"},
        },
        "splits": {
            split: {
                "name": split,
                "num_bytes": sum(entry["bytes"] for entry in files),
                "num_examples": figures["sequences"],
                "dataset_name": job.spec.name,
            }
        },
    }
    card = _templates().get_template("card.md").render(
        job=job.spec, spec=spec, name=name, split=split, figures=figures, trained=trained, id_type=id_type,
        num_files=len(files), num_bytes=sum(entry["bytes"] for entry in files),
        dtype_bytes=np.dtype(id_type).itemsize, pyarrow_version=pa.__version__,
    )  # fmt: skip
    written = []
    for file_name, content in (
        ("state.json", json.dumps(state, indent=2) + "\n"),
        ("dataset_info.json", json.dumps(info, indent=2) + "\n"),
        ("README.md", card),
    ):
        path = f"{folder}/{file_name}"
        written.append({"path": path, **storage.publish_bytes(job.path(path), content.encode())})
    return written


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("pipeline.jobs"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip

"""The files that make packed shards a data set of ``datasets``, and a card of real figures."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline import storage
from pipeline.jobs.schedule import Receipts, tokenizer_receipts
from pipeline.jobs.tasks import Job
from pipeline.schema import id_type
from pipeline.spec import PackSpec


def describe_data_set(
    job: Job, spec: PackSpec, receipts: Receipts, name: str, split: str, figures: dict[str, Any]
) -> list[dict[str, Any]]:
    """Publish the three files that make a folder of Arrow streams a data set of `datasets`; their manifest entries."""
    folder = f"packed/{name}/{split}"
    files = sorted(
        (entry for r in receipts["pack"].values() for entry in r.outputs if entry["path"].startswith(folder + "/")),
        key=lambda entry: str(entry["path"]),
    )
    trained = tokenizer_receipts(receipts)[name].report
    id_name = np.dtype(id_type(trained["vocab_size"])).name
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
                "feature": {"dtype": id_name, "_type": "Value"},
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
        job=job.spec, spec=spec, name=name, split=split, figures=figures, trained=trained, id_type=id_name,
        num_files=len(files), num_bytes=sum(entry["bytes"] for entry in files),
        
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

"""The tokenizers that a report is about: all of the job, and those to compare with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pipeline import storage
from pipeline.errors import DataError
from pipeline.jobs.plan import Plan, model_file
from pipeline.jobs.schedule import Receipts, tokenizer_receipts
from pipeline.jobs.tasks import Job, read_output
from pipeline.tokenizer import ForeignTokenizer, OwnTokenizer, load_tokenizer, parse_tokenizer
from pipeline.tokenizer_spec import encoder_of

AnyTokenizer = OwnTokenizer | ForeignTokenizer


def iter_tokenizers(job: Job, plan: Plan, receipts: Receipts) -> Iterator[tuple[str, AnyTokenizer]]:
    """Each with its name, or the path that the spec gives, one loaded at a time; ours with the encoder of their spec.

    Raises
    ------
    ArtifactError
        One of ours is not what training published.
    DataError
        One to compare with has changed since the plan was made.
    """
    made = tokenizer_receipts(receipts)
    for spec in job.spec.tokenizers:
        path = f"tokenizers/{spec.name}/{spec.model_file}"
        receipt = made[spec.name]
        entry = next(entry for entry in receipt.outputs if entry["path"] == path)
        content = read_output(job, receipt.step, spec.name, entry).to_pybytes()
        yield spec.name, parse_tokenizer(content.decode(), encoder=encoder_of(spec))
    for uri, sha256 in zip(job.spec.evaluate.compare, plan.compare, strict=True):
        content = storage.read_bytes(model_file(uri))
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DataError(f"{model_file(uri)}: has changed since the plan was made; put the old file back")
        yield uri, load_tokenizer(content, uri)

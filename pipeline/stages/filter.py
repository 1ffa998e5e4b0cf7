"""Drop documents by rule; each rule counts what it drops under ``filter:NAME``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.spec import FilterSpec


def keep_documents(batch: pa.RecordBatch, filters: Sequence[FilterSpec], dropped: Counter[str]) -> pa.RecordBatch:
    """The documents every filter keeps, in order."""
    for rule in filters:
        sizes = pc.binary_length(batch.column("text"))
        keep = pc.greater_equal(sizes, rule.min_bytes)
        if rule.max_bytes is not None:
            keep = pc.and_(keep, pc.less_equal(sizes, rule.max_bytes))
        kept = batch.filter(keep)
        if kept.num_rows < batch.num_rows:
            dropped[f"filter:{rule.name}"] += batch.num_rows - kept.num_rows
        batch = kept
    return batch

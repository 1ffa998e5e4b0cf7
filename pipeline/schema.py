"""Every Arrow schema that is stored or crosses a function boundary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

DOCUMENTS = pa.schema(
    [
        pa.field("id", pa.large_string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
    ]
)
"""Documents as read: what the user calls them, and their text."""

HELD_OUT = pa.schema([pa.field("text", pa.large_string(), nullable=False)])
"""Held-out documents of a shard, for the evaluation."""

WORD_COUNTS = pa.schema(
    [
        pa.field("word", pa.large_binary(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)
"""Distinct words of a shard; one record batch a partition."""


def merged_counts(sources: Sequence[str]) -> pa.Schema:
    """Distinct words of a partition, ascending, with a count for each source."""
    counts = [pa.field(f"count:{source}", pa.int64(), nullable=False) for source in sources]
    return pa.schema([pa.field("word", pa.large_binary(), nullable=False), *counts])


def id_type(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """What packed ids are stored in: uint16 if every id is at most 65,535."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def token_rows(dtype: type[np.generic]) -> pa.Schema:
    """Encoded documents on their way to a bucket; one record batch a bucket. ``key``: their place in the shuffle."""
    ids = pa.large_list(pa.field("item", pa.from_numpy_dtype(dtype), nullable=False))
    return pa.schema([pa.field("key", pa.uint64(), nullable=False), pa.field("ids", ids, nullable=False)])


MERGE_LOG = pa.schema(
    [
        pa.field("left", pa.int32(), nullable=False),
        pa.field("right", pa.int32(), nullable=False),
        pa.field("result", pa.int32(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)
"""Merges of ids, in order: what a training has come to."""

TOKEN_COUNTS = pa.schema([pa.field("count", pa.int64(), nullable=False)])
"""How often each id occurs in held-out text."""


def packed(dtype: type[np.generic], sequence_length: int, metadata: dict[str, str]) -> pa.Schema:
    """A packed shard: rows of ``sequence_length`` ids, and the lengths of the documents' parts in each."""
    return pa.schema(
        [
            pa.field("input_ids", pa.list_(pa.field("item", pa.from_numpy_dtype(dtype)), sequence_length)),
            pa.field("seq_lengths", pa.list_(pa.field("item", pa.int32()))),
        ],
        metadata=metadata,
    )

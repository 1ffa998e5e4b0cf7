"""Documents to sequences of fixed length, every id accounted for.

A document longer than a sequence is split, truncated or dropped first. Then ``concat`` lays documents end to end and
cuts at every ``sequence_length``; ``best_fit`` keeps each piece whole and fills sequences tightly. Only the last sequence
of a bucket (``concat``), or the rest a sequence could not fill (``best_fit``), is padding.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.arrow import list_rows
from pipeline.kernels.pack import best_fit, fill_rows
from pipeline.schema import packed

ROWS_PER_BATCH = 1024


class Packed(NamedTuple):
    """``rows [shape=(n, sequence_length)]``, padded; ``part_lengths [dtype=int32]`` of the documents' parts, row after
    row, between ``part_offsets [shape=(n + 1,), dtype=int64]``; ``lost``: ids left out, by reason.
    """

    rows: NDArray[np.generic]
    part_lengths: NDArray[np.int32]
    part_offsets: NDArray[np.int64]
    lost: dict[str, int]


def _overflow(
    offsets: NDArray[np.int64], length: int, overflow: Literal["split", "truncate", "drop"]
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, int]]:
    """Starts and lengths of the pieces, in order, none longer than ``length``; and the ids lost, by reason."""
    starts, sizes = offsets[:-1], np.diff(offsets)
    is_long = sizes > length
    if not is_long.any():
        keep = sizes > 0
        return starts[keep], sizes[keep], {}
    if overflow == "truncate":
        lost = int((sizes - length)[is_long].sum())
        sizes = np.minimum(sizes, length)
        return starts[sizes > 0], sizes[sizes > 0], {"truncated": lost}
    if overflow == "drop":
        keep = ~is_long & (sizes > 0)
        return starts[keep], sizes[keep], {"dropped_long_documents": int(sizes[is_long].sum())}
    counts = -(-sizes // length)
    document = np.repeat(np.arange(len(sizes)), counts)
    piece = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    piece_starts = starts[document] + piece * length
    return piece_starts, np.minimum(length, offsets[1:][document] - piece_starts), {}


def _concat(
    starts: NDArray[np.int64], sizes: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pieces cut at every multiple of ``length`` of the stream they form: starts, lengths, rows."""
    ends = np.cumsum(sizes)
    begins = ends - sizes
    counts = (ends - 1) // length - begins // length + 1
    piece = np.repeat(np.arange(len(sizes)), counts)
    nth = np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = begins[piece] // length + nth
    first = np.maximum(begins[piece], row * length)
    last = np.minimum(ends[piece], (row + 1) * length)
    return starts[piece] + first - begins[piece], last - first, row


def _best_fit(sizes: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The row of each piece. Rows are in the order of their first piece, which keeps the shuffle a shuffle."""
    sequence_of, num_sequences = best_fit(sizes, length)
    first = np.full(num_sequences, len(sizes))
    np.minimum.at(first, sequence_of, np.arange(len(sizes)))
    row_of_sequence = np.empty(num_sequences, dtype=np.int64)
    row_of_sequence[np.argsort(first)] = np.arange(num_sequences)
    row_of: NDArray[np.int64] = row_of_sequence[sequence_of]
    return row_of


def pack(
    documents: pa.LargeListArray,
    sequence_length: int,
    strategy: Literal["best_fit", "concat"],
    overflow: Literal["split", "truncate", "drop"],
    pad_id: int,
) -> Packed:
    """Pack encoded documents.

    Examples
    --------
    Documents of 3, 2 and 5 ids, length 4. ``concat``: rows with parts (3, 1), (1, 3), (2). ``best_fit``: the last
    splits into 4 and 1, which joins the first: (3, 1), (2), (4).
    """
    offsets, values = list_rows(documents)
    longest = len(values) if (strategy, overflow) == ("concat", "split") else sequence_length  # concat splits by itself
    starts, sizes, lost = _overflow(offsets, longest, overflow)
    if strategy == "concat":
        starts, sizes, row_of = _concat(starts, sizes, sequence_length)
    else:
        row_of = _best_fit(sizes, sequence_length)
    num_rows = int(row_of.max()) + 1 if len(row_of) else 0
    rows = np.full((num_rows, sequence_length), pad_id, dtype=values.dtype)
    used = np.zeros(num_rows, dtype=np.int64)
    fill_rows(values, starts, sizes, row_of, rows, used)
    by_row = np.argsort(row_of, kind="stable")
    part_offsets = np.concatenate(([0], np.cumsum(np.bincount(row_of, minlength=num_rows)))).astype(np.int64)
    return Packed(rows, sizes[by_row].astype(np.int32), part_offsets, lost)


def to_batches(result: Packed, metadata: dict[str, str]) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """The rows as Arrow batches of ``schema.packed``, without copying the ids."""
    num_rows, length = result.rows.shape
    schema = packed(result.rows.dtype.type, length, metadata)
    batches = []
    for start in range(0, num_rows, ROWS_PER_BATCH):
        stop = min(start + ROWS_PER_BATCH, num_rows)
        ids = pa.FixedSizeListArray.from_arrays(
            pa.array(result.rows[start:stop].reshape(-1)), type=schema.field("input_ids").type
        )
        first, last = result.part_offsets[start], result.part_offsets[stop]
        lengths = pa.ListArray.from_arrays(
            pa.array((result.part_offsets[start : stop + 1] - first).astype(np.int32)),
            pa.array(result.part_lengths[first:last]),
            type=schema.field("seq_lengths").type,
        )
        batches.append(pa.RecordBatch.from_arrays([ids, lengths], schema=schema))
    return schema, batches

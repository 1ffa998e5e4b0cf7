"""What both sides must agree on before their times are compared: merges and ids, as hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def describe_merges(merges: Sequence[str | Sequence[str]]) -> dict[str, Any]:
    """How many merges there are, and the hash of their list; a merge is a pair of spellings, or these with a blank."""
    lines = "\n".join(merge if isinstance(merge, str) else " ".join(merge) for merge in merges)
    return {"num_merges": len(merges), "merges_sha256": hashlib.sha256(lines.encode()).hexdigest()}


def merges_of(tokenizer_json: str) -> dict[str, Any]:
    """The same of the text of a tokenizer.json."""
    return describe_merges(json.loads(tokenizer_json)["model"]["merges"])


def ids_of(ids: NDArray[Any], sizes: NDArray[Any]) -> dict[str, Any]:
    """How many ids there are, and the hash of them and of their number in each document."""
    digest = hashlib.sha256(np.ascontiguousarray(ids, dtype=np.uint32).tobytes())
    digest.update(np.ascontiguousarray(sizes, dtype=np.int64).tobytes())
    return {"num_ids": len(ids), "ids_sha256": digest.hexdigest()}


def ids_of_lists(rows: list[list[int]]) -> dict[str, Any]:
    """The same for one list of ids a document."""
    ids = np.concatenate([np.array(row, dtype=np.uint32) for row in rows])
    return ids_of(ids, np.array([len(row) for row in rows]))

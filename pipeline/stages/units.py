"""What a second stage is trained on: a sample of the documents, and cuts at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import Rows
from pipeline.kernels.keys import permute_keys

_SAMPLE_SEED = 0x5A3B1E
"""The sample is another choice than the held-out documents, and the order of the packed ones."""

_WHITESPACE = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\v\f", dtype=np.uint8))


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCut:
    """Cuts decided by the document's id and the seed: chunks of a number of characters from ``chars[0]`` to ``chars[1]``, or
    before each white space (of ASCII) with ``probability``.
    """

    seed: int
    chars: tuple[int, int] | None = None
    probability: float | None = None

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> RandomCut:
        """Back from ``dataclasses.asdict`` and JSON."""
        return RandomCut(**{**fields, "chars": tuple(fields["chars"]) if fields["chars"] else None})


def is_in_sample(keys: NDArray[np.uint64], sample_bytes: int | None, total_bytes: int) -> NDArray[np.bool_]:
    """True for the documents of a sample, chosen by the hashes of their ids: about ``sample_bytes`` of ``total_bytes``."""
    if sample_bytes is None or sample_bytes >= total_bytes:
        return np.ones(len(keys), dtype=np.bool_)
    threshold = np.uint64((sample_bytes << 64) // total_bytes)
    chosen: NDArray[np.bool_] = permute_keys(keys, _SAMPLE_SEED) < threshold
    return chosen


def cut_at_random(texts: Rows, keys: NDArray[np.uint64], cut: RandomCut) -> Rows:
    """Documents cut into pieces.

    Parameters
    ----------
    texts
        UTF-8 documents.
    keys
        The hash of each document's id. ``[shape=(n_docs,), dtype=uint64]``
    cut
        How.

    Returns
    -------
    Rows
        The pieces, in order, over the same bytes.
    """
    ends = [np.zeros(1, dtype=np.int64)]
    for key, start, stop in zip(keys, texts.offsets[:-1].tolist(), texts.offsets[1:].tolist(), strict=True):
        cuts = _chunk_stops if cut.chars else _whitespace_stops
        ends.append(start + cuts(texts.values[start:stop], key, cut))
        ends.append(np.array([stop]))
    return Rows(texts.values, np.unique(np.concatenate(ends)))


def _chance(key: np.uint64, count: int, seed: int) -> NDArray[np.uint64]:
    """``count`` numbers that look random, the same for the same document and seed. ``[shape=(count,), dtype=uint64]``"""
    numbers: NDArray[np.uint64] = permute_keys(key + np.arange(count, dtype=np.uint64), seed)
    return numbers


def _chunk_stops(text: NDArray[np.uint8], key: np.uint64, cut: RandomCut) -> NDArray[np.int64]:
    assert cut.chars is not None
    least, most = cut.chars
    starts = np.flatnonzero(text & 0xC0 != 0x80)  # of characters
    lengths = least + (_chance(key, len(starts) // least + 1, cut.seed) % np.uint64(most - least + 1)).astype(np.int64)
    stops = np.cumsum(lengths)
    return starts[stops[stops < len(starts)]]


def _whitespace_stops(text: NDArray[np.uint8], key: np.uint64, cut: RandomCut) -> NDArray[np.int64]:
    assert cut.probability is not None
    places = np.flatnonzero(_WHITESPACE[text])
    if cut.probability == 1:
        return places
    return places[_chance(key, len(places), cut.seed) < np.uint64(int(cut.probability * 2.0**64))]

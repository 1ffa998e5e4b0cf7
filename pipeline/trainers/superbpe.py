"""SuperBPE: first subwords, then merges that cross blanks.

Stage 1 is BPE on words. Stage 2 goes on with the same merge rule on longer *units* (lines, mostly) that stage 1 has encoded:
sequences of ids, each with the number of times it occurs. So stage 2 is ``train_partitioned`` on words of ids, exact as it
is, with *vetoes* on what a merge may spell.

Liu, Hayase, Hofmann, Oh, Smith, Choi (2025), "SuperBPE: Space Travel for Language Models", section 3.

Examples
--------
``ab ab`` twice and ``ab`` once, with the merge (a, b) from stage 1, where ␣ is the blank: stage 2 sees ``ab``, ``␣``, ``ab``
twice and ``ab`` once. It merges (␣, ab) with count 2, then (ab, ␣ab), a superword.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.arrow import Rows, list_rows, text_array
from pipeline.byte_level import BYTE_OF_CHAR
from pipeline.pretokenizer import Pretokenizer
from pipeline.tokenizer import Tokenizer
from pipeline.trainers.bpe import BpeOptions, TrainedBpe
from pipeline.trainers.partitioned import MergeLog, Partitions, Statistics, Words, train_partitioned


def num_initial(trained: TrainedBpe) -> int:
    """How many ids there are before the first merge: the ids that merges make, if not there already, follow in order."""
    first = len(trained.vocab)
    for left, right in reversed(trained.merges):
        first -= trained.vocab[left + right] == first - 1
    return first


def first_tokens(trained: TrainedBpe, num_tokens: int) -> TrainedBpe:
    """What training gives that ends at ``num_tokens`` tokens: the merge that makes the last of them is the last merge."""
    made = [trained.vocab[left + right] for left, right in trained.merges]
    full = num_tokens <= num_initial(trained)
    return first_merges(trained, 0 if full else made.index(num_tokens - 1) + 1 if num_tokens - 1 in made else len(made))


def first_merges(trained: TrainedBpe, num_merges: int) -> TrainedBpe:
    """The first merges, and the vocabulary as they leave it."""
    made = [trained.vocab[left + right] for left, right in trained.merges[:num_merges]]
    size = max(num_initial(trained), *(made_id + 1 for made_id in made), 0)
    vocab = dict(itertools.islice(trained.vocab.items(), size))
    return TrainedBpe(vocab, trained.merges[:num_merges], trained.merge_counts[:num_merges])


class UnitEncoder:
    """Encodes units by the merges of the first stage, across the blanks in them."""

    def __init__(self, first: TrainedBpe, special_tokens: tuple[str, ...]) -> None:
        self._tokenizer = Tokenizer(first.vocab, first.merges, special_tokens, Pretokenizer(()))

    def encode(self, units: Rows, counts: NDArray[np.int64]) -> Words:
        """Units as rows of ids; ``counts [shape=(n_units,), dtype=int64]``: how often each occurs."""
        offsets, ids = list_rows(self._tokenizer.encode_batch(text_array(units)))
        return Words(ids.astype(np.int32), offsets, counts)

    def encode_runs(self, units: Rows, counts: NDArray[np.int64], pretokenizer: Pretokenizer) -> Words:
        """Runs of two words or more in a unit, each of them one token with a letter in it, as rows of ids."""
        found = [stops.copy() for _, stops in pretokenizer.iter_words(units)]
        stops = np.concatenate([*found, np.zeros(0, dtype=np.int64)])
        words = text_array(Rows(units.values, np.concatenate(([0], stops))))
        offsets, ids = list_rows(self._tokenizer.encode_batch(words))
        is_token = np.diff(offsets) == 1
        is_token &= pc.match_substring_regex(words, r"\pL").to_numpy(zero_copy_only=False)
        unit_of = np.searchsorted(units.offsets[1:], stops, side="left")
        goes_on = is_token[1:] & is_token[:-1] & (unit_of[1:] == unit_of[:-1])
        in_run = is_token & (np.append(goes_on, False) | np.insert(goes_on, 0, False)) if len(stops) else is_token
        starts = in_run & ~np.insert(goes_on, 0, False) if len(stops) else in_run
        first = np.flatnonzero(starts)
        run_offsets = np.append(np.cumsum(in_run)[first] - 1, in_run.sum())
        return Words(ids[offsets[:-1][in_run]].astype(np.int32), run_offsets, counts[unit_of[first]])

    def met(self, units: Rows) -> NDArray[np.bool_]:
        """See ``Tokenizer.merges_met``."""
        return self._tokenizer.merges_met(text_array(units))


def inherited(first: TrainedBpe, met: NDArray[np.bool_], seen: NDArray[np.bool_], num_special: int) -> TrainedBpe:
    """What the original implementation keeps of the first stage.

    It reads the merges again over the text of the second stage, with an alphabet of the bytes it sees there, and leaves out
    those of a pair that never stands there, or of a token that is not in the vocabulary by then.

    Parameters
    ----------
    first
        The first stage; special tokens and alphabet come first in its vocabulary.
    met
        Of each merge, whether its pair stands side by side at any time. ``[shape=(n_merges,), dtype=bool]``
    seen
        Which bytes there are. ``[shape=(256,), dtype=bool]``
    num_special
        Special tokens.

    Examples
    --------
    Merges (a, b), (b, c), (ab, c) on text in which ``c`` stands only behind ``ab``: (b, c) stands side by side at first, so
    it is kept, although (a, b) leaves none of it. Without any ``c`` both merges are left out, and so is ``c``.
    """
    vocab: dict[str, int] = {}
    for token_id, chars in enumerate(first.vocab):
        if token_id < num_special or (len(chars) == 1 and seen[BYTE_OF_CHAR[chars]]):
            vocab.setdefault(chars, len(vocab))
    merges, counts = [], []
    for (left, right), count, is_met in zip(first.merges, first.merge_counts, met.tolist(), strict=True):
        if is_met and left in vocab and right in vocab:
            vocab.setdefault(left + right, len(vocab))
            merges.append((left, right))
            counts.append(count)
    return TrainedBpe(vocab, tuple(merges), tuple(counts))


def train_superbpe(
    partitions: Partitions,
    first: TrainedBpe,
    options: BpeOptions,
    *,
    log: MergeLog | None = None,
    on_round: Callable[[MergeLog], None] | None = None,
) -> tuple[TrainedBpe, Statistics]:
    """Stage 2: go on where stage 1 ended.

    Parameters
    ----------
    partitions
        Own the units, rows of the ids of ``first``.
    first
        What stage 1 gave.
    options
        Vocabulary size, of both stages together, vetoes and the like.
    log, on_round
        As for ``train_partitioned``.

    Returns
    -------
    (trained, statistics)
        The merges of both stages; statistics of stage 2.
    """
    spellings = list(first.vocab)
    trained, statistics = train_partitioned(partitions, options, spellings=spellings, log=log, on_round=on_round)
    merges, counts = first.merges + trained.merges, first.merge_counts + trained.merge_counts
    return TrainedBpe(trained.vocab, merges, counts), statistics

"""Byte-level BPE from word counts, merge for merge what ``tokenizers`` trains.

Order of ids: special tokens, alphabet (in the order of its byte-level characters), merges. Order of merges: highest
count, ties to the smaller left id, then to the smaller right id. Counts are int64, where ``tokenizers`` counts pairs in
32 bits and wraps at 2**31.

Sennrich, Haddow, Birch (2016), "Neural Machine Translation of Rare Words with Subword Units", section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import Rows
from pipeline.byte_level import ALPHABET, BYTE_OF_CHAR, to_bytes, to_chars
from pipeline.errors import DataError
from pipeline.kernels.cells import seen_bytes, words_to_cells
from pipeline.kernels.merges import learn_merges

MAX_SYMBOLS = 2**31 - 2


class Vetoes(NamedTuple):
    """What no merge may make: tokens of more than ``max_words`` words (0: any number), which stand between blanks, or with
    one of the texts ``forbidden`` in them, spelled in byte-level characters, or of more than ``max_chars`` characters of
    text (0: any number). A merge that is vetoed once is vetoed for ever.
    """

    max_words: int = 0
    forbidden: tuple[str, ...] = ()
    max_chars: int = 0


NO_VETOES = Vetoes()


@dataclass(frozen=True, slots=True, kw_only=True)
class BpeOptions:
    """How to train; see ``spec.TokenizerSpec`` for the words."""

    vocab_size: int
    min_count: int = 1
    max_token_length: int | None = None
    initial_alphabet: Literal["bytes", "seen"] = "bytes"
    special_tokens: tuple[str, ...] = ()
    vetoes: Vetoes = NO_VETOES


@dataclass(frozen=True, slots=True)
class TrainedBpe:
    """What training gives: ``vocab`` (spelling to id), ``merges`` (spellings, by rank) and each merge's count."""

    vocab: dict[str, int]
    merges: tuple[tuple[str, str], ...]
    merge_counts: tuple[int, ...]


def train_bpe(words: Rows, counts: NDArray[np.int64], options: BpeOptions) -> TrainedBpe:
    """Train from distinct words.

    Parameters
    ----------
    words
        The words' bytes, each word once. Their order does not matter.
    counts
        Occurrences of each word in the corpus. ``[shape=(n_words,), dtype=int64]``
    options
        Vocabulary size and the like; no vetoes, which only ``train_partitioned`` knows.

    Raises
    ------
    DataError
        The words have more than 2**31 - 2 symbols together, ends included.

    Examples
    --------
    Words ``ab`` (3 times) and ``abc`` (once): ``(a, b)`` is merged with count 4, then ``(ab, c)`` with count 1.
    """
    assert options.vetoes == NO_VETOES
    check_symbols(words.num_bytes + len(counts) + 1)
    vocab, byte_ids = initial_vocabulary(seen_bytes(words.values[: words.num_bytes]), options)
    byte_of = np.full(len(vocab), -1, dtype=np.int64)
    byte_of[byte_ids[byte_ids >= 0]] = np.flatnonzero(byte_ids >= 0)

    formable = [to_bytes(t) for t in options.special_tokens if len(t) > 1 and all(c in BYTE_OF_CHAR for c in t)]
    formable.sort(key=len)
    special_ids = np.array([vocab[to_chars(token)] for token in formable], dtype=np.int64)
    counts = np.ascontiguousarray(counts, dtype=np.int64)
    learned = learn_merges(
        words_to_cells(words.values, words.offsets, counts, byte_ids),
        counts,
        len(vocab),
        options.vocab_size,
        max(options.min_count, 1, _rarest_merge(words, counts, options, options.vocab_size - len(vocab) + len(formable))),
        options.max_token_length or 0,
        byte_of,
        special_ids,
        np.frombuffer(b"".join(formable) + b"\0", dtype=np.uint8),
        np.cumsum([0, *map(len, formable)], dtype=np.int64),
    )
    return spell_merges(vocab, *learned)


def check_symbols(num_symbols: int) -> None:
    """Raise a DataError if one trainer cannot hold so many symbols."""
    if num_symbols > MAX_SYMBOLS:
        raise DataError(
            f"the distinct words have {num_symbols:,} symbols together; one trainer holds at most {MAX_SYMBOLS:,}. "
            "Use a pretokenizer that cuts shorter words, or fewer documents."
        )


def initial_vocabulary(seen: NDArray[np.bool_], options: BpeOptions) -> tuple[dict[str, int], NDArray[np.int32]]:
    """Spelling to id before the first merge, special tokens and alphabet, and the id of each byte, or -1.

    ``seen [shape=(256,), dtype=bool]``: which bytes occur.
    """
    vocab: dict[str, int] = {}
    for token in options.special_tokens:
        vocab.setdefault(token, len(vocab))
    byte_ids = np.full(256, -1, dtype=np.int32)
    for byte in ALPHABET:
        if options.initial_alphabet == "bytes" or seen[byte]:
            byte_ids[byte] = vocab.setdefault(to_chars(bytes([byte])), len(vocab))
    return vocab, byte_ids


def spell_merges(
    initial: Iterable[str], pairs: NDArray[np.int32], merge_counts: NDArray[np.int64], results: NDArray[np.int32]
) -> TrainedBpe:
    """What merges of ids give, from the spellings of the ids before the first merge; arrays as of ``learn_merges``."""
    spellings = list(initial)
    merges = []
    for left, right, result in zip(*pairs.T.tolist(), results.tolist(), strict=True):
        merges.append((spellings[left], spellings[right]))
        if result == len(spellings):
            spellings.append(spellings[left] + spellings[right])
    return TrainedBpe({s: i for i, s in enumerate(spellings)}, tuple(merges), tuple(merge_counts.tolist()))


def _rarest_merge(words: Rows, counts: NDArray[np.int64], options: BpeOptions, num_merges: int) -> int:
    """A count below which no pair is merged, so that the kernel need not list such pairs; 0 if none is known.

    When all pairs are rarer than ``c``, each word that occurs ``c`` times is a single token (else a pair inside it would
    occur ``c`` times), and each such token took a merge of its own. So if there are ``num_merges`` such words, the
    vocabulary is full before a pair rarer than ``c`` is merged.

    Examples
    --------
    Two merges are wanted, and the words ``ab``, ``bc`` and ``ca`` occur 9, 7 and 2 times: no merge is rarer than 7.
    """
    lengths = np.diff(words.offsets)
    can_be_token = (lengths >= 2) & (lengths < (options.max_token_length or np.iinfo(np.int64).max))
    if not 0 < num_merges <= can_be_token.sum():
        return 0
    return int(np.partition(counts[can_be_token], -num_merges)[-num_merges])

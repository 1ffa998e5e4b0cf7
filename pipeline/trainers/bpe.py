"""Byte-level BPE from word counts, merge for merge what ``tokenizers`` trains.

Order of ids: special tokens, alphabet (in the order of its byte-level characters), merges. Order of merges: highest
count, ties to the smaller left id, then to the smaller right id. Counts are int64, where ``tokenizers`` counts pairs in
32 bits and wraps at 2**31.

Sennrich, Haddow, Birch (2016), "Neural Machine Translation of Rare Words with Subword Units", section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import Rows
from pipeline.byte_level import ALPHABET, BYTE_OF_CHAR, to_bytes, to_chars
from pipeline.errors import DataError
from pipeline.kernels.merges import learn_merges, words_to_symbols

MAX_SYMBOLS = 2**31 - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BpeOptions:
    """How to train; see ``spec.TokenizerSpec`` for the words."""

    vocab_size: int
    min_count: int = 1
    max_token_length: int | None = None
    initial_alphabet: Literal["bytes", "seen"] = "bytes"
    special_tokens: tuple[str, ...] = ()


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
        The distinct words' bytes. Their order does not matter.
    counts
        Occurrences of each word in the corpus. ``[shape=(n_words,), dtype=int64]``
    options
        Vocabulary size and the like.

    Raises
    ------
    DataError
        The words have more than 2**31 - 2 symbols together, ends included.

    Examples
    --------
    Words ``ab`` (3 times) and ``abc`` (once): ``(a, b)`` is merged with count 4, then ``(ab, c)`` with count 1.
    """
    num_symbols = words.num_bytes + len(counts) + 1
    if num_symbols > MAX_SYMBOLS:
        raise DataError(
            f"the distinct words have {num_symbols:,} symbols together; one trainer holds at most {MAX_SYMBOLS:,}. "
            "Use a pretokenizer that cuts shorter words, or fewer documents."
        )
    vocab: dict[str, int] = {}
    for token in options.special_tokens:
        vocab.setdefault(token, len(vocab))
    seen = np.zeros(256, dtype=bool)
    seen[words.values[: words.num_bytes]] = True
    byte_ids = np.full(256, -1, dtype=np.int32)
    for byte in ALPHABET:
        if options.initial_alphabet == "bytes" or seen[byte]:
            byte_ids[byte] = vocab.setdefault(to_chars(bytes([byte])), len(vocab))
    byte_of = np.full(len(vocab), -1, dtype=np.int64)
    byte_of[byte_ids[byte_ids >= 0]] = np.flatnonzero(byte_ids >= 0)

    formable = [to_bytes(t) for t in options.special_tokens if len(t) > 1 and all(c in BYTE_OF_CHAR for c in t)]
    special_ids = np.array([vocab[to_chars(token)] for token in formable], dtype=np.int64)
    symbols, word_of = words_to_symbols(words.values, words.offsets, byte_ids)
    pairs, merge_counts, results = learn_merges(
        symbols,
        word_of,
        np.ascontiguousarray(counts, dtype=np.int64),
        len(vocab),
        options.vocab_size,
        max(options.min_count, 1),
        options.max_token_length or 0,
        byte_of,
        special_ids,
        np.frombuffer(b"".join(formable) + b"\0", dtype=np.uint8),
        np.cumsum([0, *map(len, formable)], dtype=np.int64),
    )
    spellings = list(vocab)
    merges = []
    for (left, right), result in zip(pairs.tolist(), results.tolist(), strict=True):
        merges.append((spellings[left], spellings[right]))
        if result == len(spellings):
            spellings.append(spellings[left] + spellings[right])
    return TrainedBpe({s: i for i, s in enumerate(spellings)}, tuple(merges), tuple(merge_counts.tolist()))

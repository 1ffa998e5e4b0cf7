"""Measure a tokenizer on held-out documents: counts that add up over shards, and the ratios made of them."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.arrow import list_rows, rows_of
from pipeline.pool import PoolTokenizer
from pipeline.tokenizer import ForeignTokenizer, OwnTokenizer, Tokenizer


@dataclass(frozen=True, slots=True)
class Measure:
    """Sums over documents. ``words`` are runs of characters between white space, the same for every tokenizer."""

    documents: int = 0
    text_bytes: int = 0
    chars: int = 0
    words: int = 0
    tokens: int = 0

    def __add__(self, other: Measure) -> Measure:
        return Measure(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def ratios(self) -> dict[str, float | None]:
        """What the counts mean: None where there is nothing to divide by."""

        def ratio(a: int, b: int) -> float | None:
            return round(a / b, 6) if b else None

        return {
            "bytes_per_token": ratio(self.text_bytes, self.tokens),
            "chars_per_token": ratio(self.chars, self.tokens),
            "tokens_per_char": ratio(self.tokens, self.chars),
            "tokens_per_word": ratio(self.tokens, self.words),
            "tokens_per_document": ratio(self.tokens, self.documents),
        }


def measure(tokenizer: OwnTokenizer | ForeignTokenizer, texts: pa.LargeStringArray) -> tuple[Measure, NDArray[np.int64]]:
    """The sums of some documents, and how often each id occurs in them ``[shape=(vocab_size,), dtype=int64]``."""
    ids = tokenizer.encode_batch(texts).flatten().to_numpy()
    trimmed = pc.utf8_trim_whitespace(texts)
    trimmed = trimmed.filter(pc.greater(pc.binary_length(trimmed), 0))  # an empty text would split into one empty word
    words = pc.sum(pc.list_value_length(pc.utf8_split_whitespace(trimmed))).as_py() or 0
    sums = Measure(
        documents=len(texts),
        text_bytes=pc.sum(pc.binary_length(texts)).as_py() or 0,
        chars=pc.sum(pc.utf8_length(texts)).as_py() or 0,
        words=words,
        tokens=len(ids),
    )
    return sums, np.bincount(ids, minlength=tokenizer.vocab_size).astype(np.int64)


def cut(tokenizer: OwnTokenizer | ForeignTokenizer, text: str) -> tuple[list[int], list[bytes]]:
    """The ids of a text, and what each of them stands for there."""
    if not isinstance(tokenizer, ForeignTokenizer):
        ids = tokenizer.encode(text)
        return ids, tokenizer.decode_parts(ids)
    encoded = tokenizer.outside.encode(text, add_special_tokens=False)
    parts, done = [], 0
    for _, stop in encoded.offsets:  # tokens inside a character have the same offsets
        parts.append(text[done : max(done, stop)].encode())
        done = max(done, stop)
    return encoded.ids, parts


class Starts(NamedTuple):
    """``starts``: at each character, all texts joined, whether a token starts there; tokens that start inside a character
    are not seen. ``is_restored``: of each text, whether its tokens add up to it; if not, its starts mean nothing.
    ``tokens``: of each text. ``[shape=(n_chars,), dtype=bool]``, ``[shape=(n_texts,), dtype=bool]``, ``[…, dtype=int64]``
    """

    starts: NDArray[np.bool_]
    is_restored: NDArray[np.bool_]
    tokens: NDArray[np.int64]


def token_starts(tokenizer: OwnTokenizer | ForeignTokenizer, texts: pa.LargeStringArray) -> Starts:
    """Where the tokens of some texts start; the texts are normalized as the tokenizer has it.

    Of byte-level tokenizers by the lengths of their ids, a table look-up for each token; of others token by token.

    Examples
    --------
    Tokens ``ab|é|`` + the two bytes of ``ş``: starts at a, é and ş.
    """
    rows = rows_of(texts)
    if isinstance(tokenizer, ForeignTokenizer):
        return _foreign_starts(tokenizer, texts)
    offsets, ids = list_rows(tokenizer.encode_batch(texts))
    if isinstance(tokenizer, Tokenizer | PoolTokenizer):
        lengths = _token_sizes(tokenizer)[ids]
        ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])[offsets]
        is_restored = np.diff(ends) == np.diff(rows.offsets)
    else:
        contents = [text.as_buffer().to_pybytes() for text in texts]
        parts = [tokenizer.decode_parts(ids[start:stop].tolist()) for start, stop in pairwise(offsets.tolist())]
        lengths = np.array([len(part) for some in parts for part in some], dtype=np.int64)
        is_restored = np.array([b"".join(p) == c for p, c in zip(parts, contents, strict=True)], dtype=np.bool_)
    doc_of = np.repeat(np.arange(len(texts)), np.diff(offsets))
    begins = np.cumsum(lengths) - lengths  # of each token, in what all tokens stand for
    first = np.concatenate([begins, [lengths.sum()]])[offsets[:-1]]
    begins = (begins - first[doc_of] + rows.offsets[:-1][doc_of])[is_restored[doc_of]]
    at_byte = np.zeros(rows.num_bytes + 1, dtype=np.bool_)
    at_byte[begins] = True
    is_char = rows.values[: rows.num_bytes] & 0xC0 != 0x80
    return Starts(at_byte[:-1][is_char], is_restored, np.diff(offsets))


@functools.lru_cache(maxsize=4)
def _token_sizes(tokenizer: Tokenizer | PoolTokenizer) -> NDArray[np.int64]:
    """Bytes of each id, which are the same wherever it stands."""
    return np.array([len(part) for part in tokenizer.decode_parts(range(tokenizer.vocab_size))], dtype=np.int64)


def _foreign_starts(tokenizer: ForeignTokenizer, texts: pa.LargeStringArray) -> Starts:
    lengths = pc.utf8_length(texts).to_numpy().astype(np.int64)
    encoded = tokenizer.outside.encode_batch(texts.to_pylist(), add_special_tokens=False)
    starts = np.zeros(int(lengths.sum()) + 1, dtype=np.bool_)
    for one, stop, length in zip(encoded, np.cumsum(lengths).tolist(), lengths.tolist(), strict=True):
        # A token starts where the one before ends: the start of its own offsets may leave a blank out.
        ends = [0, *(end for _, end in one.offsets)][: len(one.ids)]
        starts[np.minimum(np.maximum.accumulate(np.array(ends, dtype=np.int64)), length) + stop - length] = True
        starts[stop] = False
    firsts = (np.cumsum(lengths) - lengths)[lengths > 0]
    starts[firsts] = True
    tokens = np.array([len(one.ids) for one in encoded], dtype=np.int64)
    unknown = getattr(tokenizer.outside.model, "unk_token", None)
    restored = [_covers(one, text, unknown) for one, text in zip(encoded, texts.to_pylist(), strict=True)]
    return Starts(starts[:-1], np.array(restored, dtype=np.bool_), tokens)


def _covers(encoded: Any, text: str, unknown: str | None) -> bool:
    """Whether every character but white space is in a token, and none of them is the unknown one."""
    is_covered = np.array([char.isspace() for char in text], dtype=np.bool_)
    for start, stop in encoded.offsets:
        is_covered[start:stop] = True
    return bool(is_covered.all()) and unknown not in encoded.tokens


def token_text(tokenizer: OwnTokenizer | ForeignTokenizer, token: int) -> str:
    """What one id stands for by itself."""
    if isinstance(tokenizer, ForeignTokenizer):
        return str(tokenizer.outside.decode([token], skip_special_tokens=False))
    return tokenizer.decode([token])


def describe(sums: Measure, id_counts: NDArray[np.int64]) -> dict[str, Any]:
    """Sums, ratios, the share of the vocabulary that occurs, and its bits, as a report shows them."""
    used = int((id_counts > 0).sum())
    return {
        **asdict(sums),
        **sums.ratios(),
        "vocab_size": len(id_counts),
        "vocab_used_fraction": round(used / len(id_counts), 6) if len(id_counts) else 0.0,
        **unigram_bits(id_counts),
    }


def unigram_bits(id_counts: NDArray[np.int64]) -> dict[str, float | None]:
    """How much a token tells, if tokens came one by one, each as often as it does here.

    ``bits_per_token``: the mean, the entropy of the unigram distribution; ``bits_deviation``: the standard deviation over
    the tokens of the text, small where each tells about as much as the other; ``capacity_used``: the entropy as a share of
    the most that a vocabulary of that size could have. None without tokens.

    Examples
    --------
    One id twice, two others once: 1, 2 and 2 bits, 1.5 on average, with a deviation of 0.5; of log2(3) that is 0.95.
    """
    total = int(id_counts.sum())
    if total == 0:
        return {"bits_per_token": None, "bits_deviation": None, "capacity_used": None}
    shares = id_counts[id_counts > 0] / total
    bits = -np.log2(shares)
    mean = float((shares * bits).sum())
    deviation = float(np.sqrt((shares * (bits - mean) ** 2).sum()))
    most = np.log2(len(id_counts))
    return {
        "bits_per_token": round(mean, 6),
        "bits_deviation": round(deviation, 6),
        "capacity_used": round(mean / most, 6) if most else None,
    }

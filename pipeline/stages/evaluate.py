"""Measure a tokenizer on held-out documents: counts that add up over shards, and the ratios made of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.tokenizer import ForeignTokenizer, OwnTokenizer


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
        "vocab_used_fraction": round(used / len(id_counts), 6),
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

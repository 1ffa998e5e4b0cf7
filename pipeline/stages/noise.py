"""Noise as of optical character recognition, and whether a tokenizer still cuts where it did.

What reads print mistakes ``rn`` for ``m`` and ``l`` for ``1``, loses blanks, and sees blanks where there are none. The model
is ours and simple: each character is hit with the same probability; what happens then depends on what it is.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.arrow import Rows, text_array
from pipeline.kernels.keys import permute_keys
from pipeline.normalizer import normalize
from pipeline.stages.evaluate import token_starts
from pipeline.stages.holdout import document_keys
from pipeline.stages.morphology import Sums
from pipeline.tokenizer import ForeignTokenizer, OwnTokenizer
from pipeline.unicode import NUM_CODE_POINTS, in_categories

SINGLE = {
    "l": "1", "1": "l", "I": "l", "i": "l", "|": "l", "O": "0", "0": "O", "o": "c", "c": "e", "e": "c", "a": "o", "u": "n",
    "n": "u", "h": "b", "b": "h", "t": "f", "f": "t", "g": "9", "9": "g", "q": "g", "v": "y", "y": "v", "s": "a", "S": "5",
    "5": "S", "B": "8", "8": "B", "Z": "2", "2": "Z", "6": "b", "G": "6", "D": "O", "Q": "O", "E": "F", "F": "P", "C": "G",
    "U": "V", "V": "U", "M": "N", "4": "A", "3": "8", "7": "1", ",": ".", ".": ",", ":": ";", ";": ":", "-": "_", "!": "l",
    "'": "`", "é": "e", "è": "e", "ê": "e", "á": "a", "à": "a", "ä": "a", "å": "a", "ö": "o", "ó": "o", "ü": "u", "ú": "u",
    "ç": "c", "ş": "s", "ğ": "g", "ı": "i", "İ": "I", "ñ": "n", "ß": "B",
}  # fmt: skip
"""What one character is mistaken for."""

FROM_TWO = {"rn": "m", "ri": "n", "cl": "d", "fi": "h"}
"""What two characters are mistaken for. No second one is the first of a pair, so pairs never overlap."""

TO_TWO = {"m": "rn", "w": "vv", "d": "cl", "k": "lc", "H": "II", "W": "VV"}
"""What is mistaken for two characters."""

SPLIT_PARTS = 32
"""Of 256 hits between two characters that are no white space, those that leave them and put a blank between them."""

TABLE_PARTS = 192
"""Of 256 other hits on what is in a table, those that go by it; of letters the rest give another one from the same text."""

MOST_CHARS = 1 << 20
"""Of a document: what comes behind is not looked at."""

NOISE_BYTES = 1 << 20
"""Of text at a time: noise and places take a hundred bytes for each character."""

_BLANK = 32
_SPACES = np.array([9, 10, 11, 12, 13, 28, 29, 30, 31, _BLANK, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
                    0x202F, 0x205F, 0x3000], dtype=np.int64)  # fmt: skip


class _Table(NamedTuple):
    """What each code point is mistaken for: one character, or two; 0: nothing. ``is_letter``, ``is_space``: what it is."""

    first: NDArray[np.uint32]
    second: NDArray[np.uint32]
    is_letter: NDArray[np.bool_]
    is_space: NDArray[np.bool_]


@functools.cache
def _table() -> _Table:
    first, second = (np.zeros(NUM_CODE_POINTS, dtype=np.uint32) for _ in range(2))
    for char, seen in SINGLE.items():
        first[ord(char)] = ord(seen)
    for char, seen in TO_TWO.items():
        first[ord(char)], second[ord(char)] = ord(seen[0]), ord(seen[1])
    is_space = np.zeros(NUM_CODE_POINTS, dtype=np.bool_)
    is_space[_SPACES] = True
    return _Table(first, second, in_categories(("L",)), is_space)


class Noisy(NamedTuple):
    """Texts with noise. Of each of their characters, all texts joined: ``sources``, which character of the joined clean
    texts it was made of, ascending; ``origins``, the same if it still is that character, else -1. ``[shape=(n_chars,),
    dtype=int64]`` each
    """

    texts: pa.LargeStringArray
    sources: NDArray[np.int64]
    origins: NDArray[np.int64]


def add_noise(texts: pa.LargeStringArray, keys: NDArray[np.uint64], *, rate: float, seed: int) -> Noisy:
    """Texts as a bad scan would give them.

    Each character is hit with the probability ``rate``. A hit

    - on a blank loses the blank; other white space stays;
    - else, once in eight, puts a blank before the character, if neither it nor the one before is white space;
    - else makes of two characters one (``FROM_TWO``), of a character two (``TO_TWO``) or another (``SINGLE``); one time in
      four, and for letters in no table always, it gives a letter from a place of the same text that chance picks;
    - on what is neither in a table nor a letter does nothing.

    Only the keys and the seed decide, so the same document gets the same noise anywhere. All characters of all texts at
    once, in NumPy: some ten megabytes a second.

    Parameters
    ----------
    texts
        Clean texts, without nulls.
    keys
        A hash of each. ``[shape=(n_texts,), dtype=uint64]``
    rate
        From 0 to 1.
    seed
        Another one gives other noise.
    """
    lengths = pc.utf8_length(texts).to_numpy().astype(np.int64)
    codes = np.frombuffer("".join(texts.to_pylist()).encode("utf-32-le"), dtype=np.uint32)
    stops = np.cumsum(lengths)
    doc_of = np.repeat(np.arange(len(lengths)), lengths)
    within = (np.arange(len(codes)) - (stops - lengths)[doc_of]).astype(np.uint64)
    chance = permute_keys(keys[doc_of] + within, seed)
    is_hit = chance <= np.uint64(min(int(rate * 2.0**64), 2**64 - 1)) if rate > 0 else np.zeros(len(codes), dtype=np.bool_)
    hits = np.flatnonzero(is_hit)
    change = _choose(codes, hits, chance[hits], doc_of, stops)
    counts = np.ones(len(codes), dtype=np.int64)
    counts[change.lost] = 0
    counts[change.doubled] = 2
    source = np.repeat(np.arange(len(codes)), counts)
    starts = np.cumsum(counts) - counts
    out, origins = codes[source], source.copy()
    out[starts[change.places]] = change.firsts
    origins[starts[change.places]] = np.where(change.firsts == codes[change.places], change.places, -1)
    out[starts[change.doubled] + 1] = change.seconds
    is_own = change.seconds == codes[change.doubled]  # a blank was put before it
    origins[starts[change.doubled] + 1] = np.where(is_own, change.doubled, -1)
    return Noisy(_encoded(out, np.bincount(doc_of[source], minlength=len(lengths))), source, origins)


class _Change(NamedTuple):
    """``places`` become ``firsts``; of these ``doubled`` become two, the second in ``seconds``; ``lost`` become nothing."""

    places: NDArray[np.int64]
    firsts: NDArray[np.uint32]
    doubled: NDArray[np.int64]
    seconds: NDArray[np.uint32]
    lost: NDArray[np.int64]


def _choose(
    codes: NDArray[np.uint32],
    hits: NDArray[np.int64],
    chance: NDArray[np.uint64],
    doc_of: NDArray[np.int64],
    stops: NDArray[np.int64],
) -> _Change:
    """What becomes of the characters that are hit. The lower bits of their numbers are as good as new ones."""
    table = _table()
    kind, by_table = (chance & np.uint64(255)).astype(np.int64), (chance >> np.uint64(8) & np.uint64(255)).astype(np.int64)
    char = codes[hits]
    previous = codes[np.maximum(hits - 1, 0)]
    has_previous = (hits > 0) & (doc_of[np.maximum(hits - 1, 0)] == doc_of[hits])
    following = codes[np.minimum(hits + 1, len(codes) - 1)] if len(codes) else char
    has_following = hits + 1 < stops[doc_of[hits]]

    is_merge = char == _BLANK
    is_split = (kind < SPLIT_PARTS) & has_previous & ~table.is_space[char] & ~table.is_space[previous] & ~is_merge
    rest = ~is_merge & ~is_split
    go_by_table = rest & (by_table < TABLE_PARTS)
    merged_into = np.zeros(len(hits), dtype=np.uint32)
    for pair, seen in FROM_TWO.items():
        is_here = (char == ord(pair[0])) & (following == ord(pair[1]))
        merged_into[go_by_table & has_following & is_here] = ord(seen)
    is_pair = merged_into > 0
    taken = np.isin(hits, hits[is_pair] + 1)  # the second of a pair, hit itself
    is_single = go_by_table & ~is_pair & (table.first[char] > 0)
    is_random = rest & ~is_pair & ~is_single & table.is_letter[char]
    firsts = np.where(is_pair, merged_into, np.where(is_split, np.uint32(_BLANK), table.first[char]))
    if is_random.any():
        letters = np.flatnonzero(table.is_letter[codes])
        before = np.searchsorted(letters, stops - np.diff(stops, prepend=0))  # letters before each text
        number = np.searchsorted(letters, stops) - before
        docs = doc_of[hits[is_random]]
        picked = (chance[is_random] >> np.uint64(16) & np.uint64(0xFFFFFFFF)).astype(np.int64) % number[docs]
        firsts[is_random] = codes[letters[before[docs] + picked]]
    is_double = ~taken & (is_split | (is_single & (table.second[char] > 0)))
    is_changed = ~taken & (is_pair | is_split | is_single | is_random)
    return _Change(
        places=hits[is_changed],
        firsts=firsts[is_changed],
        doubled=hits[is_double],
        seconds=np.where(is_split, char, table.second[char])[is_double],
        lost=np.union1d(hits[is_merge & ~taken], hits[is_pair & ~taken] + 1),
    )


def _encoded(codes: NDArray[np.uint32], lengths: NDArray[np.int64]) -> pa.LargeStringArray:
    """Code points, and how many there are in each text, as texts."""
    sizes = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000).astype(np.int64)
    ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
    offsets = ends[np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])]
    values = np.frombuffer(codes.tobytes().decode("utf-32-le").encode(), dtype=np.uint8)
    return text_array(Rows(values, offsets))


# --- whether tokens are cut where they were ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Agreement(Sums):
    """Sums over documents.

    ``not_restored``: documents whose tokens do not add up to their text, which are in no other figure. ``chars``: of the
    clean texts; ``changed``: those of them that are no more in the noisy ones. A place lies between two characters of the
    clean text that both became something. ``places``: all; ``clean``, ``noisy``: those where a token starts without and
    with noise; ``hits``: both. ``hit_words``: words, between white space, of which a character, or the white space beside
    them, is not what or where it was; ``word_places`` and so on: the same of places inside such words. ``word_tokens``,
    ``word_noisy_tokens``: tokens that end in such words; ``word_kept_tokens``: those that start and end at the same places
    in both. ``tokens``, ``noisy_tokens``: all tokens.
    """

    documents: int = 0
    not_restored: int = 0
    chars: int = 0
    changed: int = 0
    places: int = 0
    clean: int = 0
    noisy: int = 0
    hits: int = 0
    hit_words: int = 0
    word_places: int = 0
    word_clean: int = 0
    word_noisy: int = 0
    word_hits: int = 0
    word_tokens: int = 0
    word_noisy_tokens: int = 0
    word_kept_tokens: int = 0
    tokens: int = 0
    noisy_tokens: int = 0

    def ratios(self) -> dict[str, float | None]:
        """What the counts mean: None where there is nothing to divide by."""

        def ratio(a: int, b: int) -> float | None:
            return round(a / b, 6) if b else None

        return {
            "boundary_f1": ratio(2 * self.hits, self.clean + self.noisy),
            "boundaries_kept": ratio(self.hits, self.clean),
            "hit_word_f1": ratio(2 * self.word_hits, self.word_clean + self.word_noisy),
            "hit_word_token_f1": ratio(2 * self.word_kept_tokens, self.word_tokens + self.word_noisy_tokens),
            "changed_fraction": ratio(self.changed, self.chars),
            "token_growth": ratio(self.noisy_tokens, self.tokens),
        }


def measure_agreement(
    tokenizer: OwnTokenizer | ForeignTokenizer, texts: pa.LargeStringArray, *, rate: float, seed: int
) -> Agreement:
    """Where tokens start in texts, with noise and without.

    Noise is put on the normalized text, by the hash of the text as it was: all tokenizers without a normalizer get the same.
    Of a longer document the first ``MOST_CHARS`` characters are taken.

    Examples
    --------
    ``the barn`` becomes ``the bam``, the m of r and n. Places: before h, e, the blank, b, a and r; not before n, of which
    nothing is left. Tokens ``the| barn`` and ``the| b|am`` start at one and at two of them, with one in common: F1 is 2/3.
    """
    normalizer = "none" if isinstance(tokenizer, ForeignTokenizer) else tokenizer.normalizer
    keys, clean = document_keys(texts), normalize(pc.utf8_slice_codeunits(texts, 0, MOST_CHARS), normalizer)
    noisy = add_noise(clean, keys, rate=rate, seed=seed)
    again = normalize(noisy.texts, normalizer)
    is_same = pc.equal(pc.utf8_length(again), pc.utf8_length(noisy.texts))  # else places are where nobody knows
    if not pc.all(is_same).as_py():
        clean, keys = clean.filter(is_same), keys[is_same.to_numpy(zero_copy_only=False)]
        again, noisy = again.filter(is_same), add_noise(clean, keys, rate=rate, seed=seed)
    before, after = token_starts(tokenizer, clean), token_starts(tokenizer, again)
    is_good = before.is_restored & after.is_restored
    lengths = pc.utf8_length(again).to_numpy().astype(np.int64)
    doc_of = np.repeat(np.arange(len(lengths)), lengths)
    origins, sources = noisy.origins, noisy.sources
    is_next = (sources[1:] == sources[:-1] + 1) & (doc_of[1:] == doc_of[:-1]) & is_good[doc_of[1:]]
    places = np.flatnonzero(is_next) + 1
    intact = origins[1:][is_next & (origins[1:] >= 0) & (origins[:-1] >= 0)]
    is_clean, is_noisy = before.starts[sources[places]], after.starts[places]
    words = _hit_words(clean, intact, is_good)
    is_inside = words.is_inner[sources[places]] & words.is_hit[sources[places]]
    is_place = np.concatenate([[False], is_next])[: len(sources)]
    is_text_start = np.diff(doc_of, prepend=-1) > 0
    kept = _count_tokens(before.starts, after.starts | is_text_start, sources, is_place, is_text_start, words)
    chars = int(pc.utf8_length(clean).to_numpy()[is_good].sum())
    return Agreement(
        documents=int(is_good.sum()),
        not_restored=len(texts) - int(is_good.sum()),
        chars=chars,
        changed=chars - int((origins[is_good[doc_of]] >= 0).sum()),
        places=len(places),
        clean=int(is_clean.sum()),
        noisy=int(is_noisy.sum()),
        hits=int((is_clean & is_noisy).sum()),
        hit_words=words.number,
        word_places=int(is_inside.sum()),
        word_clean=int((is_clean & is_inside).sum()),
        word_noisy=int((is_noisy & is_inside).sum()),
        word_hits=int((is_clean & is_noisy & is_inside).sum()),
        word_tokens=kept[0],
        word_noisy_tokens=kept[1],
        word_kept_tokens=kept[2],
        tokens=int(before.tokens[is_good].sum()),
        noisy_tokens=int(after.tokens[is_good].sum()),
    )


class _Words(NamedTuple):
    """``number`` of hit words. Of each character of the clean texts: ``is_hit``, whether it is in one; ``is_inner``, whether
    it and the one before it are of the same word. ``starts``: where texts start, and where the last ends.
    """

    number: int
    is_hit: NDArray[np.bool_]
    is_inner: NDArray[np.bool_]
    starts: NDArray[np.int64]


def _hit_words(clean: pa.LargeStringArray, intact: NDArray[np.int64], is_good: NDArray[np.bool_]) -> _Words:
    """Which words are hit. ``intact``: the places, in order, between two characters that both stay."""
    lengths = pc.utf8_length(clean).to_numpy().astype(np.int64)
    codes = np.frombuffer("".join(clean.to_pylist()).encode("utf-32-le"), dtype=np.uint32)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    is_letter = ~_table().is_space[codes] & np.repeat(is_good, lengths)
    is_start = np.zeros(len(codes) + 1, dtype=np.bool_)
    is_start[starts] = True
    is_inner = is_letter & ~is_start[:-1] & np.concatenate([np.zeros(1, dtype=np.bool_), is_letter])[:-1]
    word_of = np.cumsum(is_letter & ~is_inner)  # 0 stands for none
    is_broken = ~is_start[:-1]  # between a character and the one before it
    is_broken[intact] = False
    is_hit = np.zeros(int(word_of[-1]) + 1 if len(codes) else 1, dtype=np.bool_)
    is_hit[word_of[is_broken & is_letter]] = True
    behind = np.flatnonzero(is_broken) - 1  # the word before may be hit as well
    is_hit[word_of[behind[is_letter[behind]]]] = True
    return _Words(int(is_hit.sum()), is_letter & is_hit[word_of], is_inner, starts)


def _count_tokens(
    clean: NDArray[np.bool_],
    noisy: NDArray[np.bool_],
    sources: NDArray[np.int64],
    is_place: NDArray[np.bool_],
    is_text_start: NDArray[np.bool_],
    words: _Words,
) -> tuple[int, int, int]:
    """Tokens that end in hit words: without noise, with noise, and those that start and end at the same places.

    ``clean``, ``noisy``: where tokens start; of each character with noise, ``is_place``: whether there is one before it,
    ``is_text_start``: whether a text starts there.
    """
    is_edge = np.zeros(len(clean) + 1, dtype=np.bool_)  # of texts
    is_edge[words.starts] = True
    starts, noisy_starts = np.flatnonzero(clean | is_edge[:-1]), np.flatnonzero(noisy)
    ends = np.append(starts[1:], len(clean))[: len(starts)]
    end_of = np.full(len(clean) + 1, -1, dtype=np.int64)  # by where a token starts
    end_of[starts] = ends
    noisy_ends = np.append(noisy_starts[1:], len(noisy))[: len(noisy_starts)]
    first, behind = sources[noisy_starts], sources[noisy_ends - 1] + 1
    is_found = is_place[noisy_starts] | (is_edge[first] & is_text_start[noisy_starts])
    is_found &= np.append(is_place, False)[noisy_ends] | (is_edge[behind] & np.append(is_text_start, True)[noisy_ends])
    is_in_hit = words.is_hit[behind - 1]
    is_kept = is_found & (end_of[first] == behind) & is_in_hit
    return int(words.is_hit[ends - 1].sum()), int(is_in_hit.sum()), int(is_kept.sum())

"""A language without tables: morphemes that Morfessor finds in the words, as roots and affixes of one form each.

Creutz and Lagus (2007), "Unsupervised models for morpheme segmentation and morphology learning"; Virpioja, Smit, Grönroos
and Kurimo (2013), "Morfessor 2.0: Python Implementation and Extensions for Morfessor Baseline". The package does the work.
"""

from __future__ import annotations

import random
import threading
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import Rows
from pipeline.language import OTHER, Affix, Language, Root

MOST_WORDS = 50_000
"""Morfessor learns from the most frequent: it takes minutes for them, and hours for millions."""

LONGEST_WORD = 64
"""Longer ones, in characters, are no words of a language; Morfessor takes the square of their length."""

MOST_AFFIXES = 512
"""Morphemes inside words that become affixes; rarer ones are left to literal pieces."""

_STEM, _SUFFIX = "stem", "suffix"

_LOCK = threading.Lock()


def learn_language(words: Rows, counts: NDArray[np.int64]) -> Language:
    """Learn morphemes from distinct words; the same words give the same language.

    Words count once each, however often they occur, as its authors advise for types. Only words of letters take part, in
    lower case and without the blank before them.

    Examples
    --------
    Of ``walking``, ``walked``, ``talking``, ``talked``, ``jumping`` and ``jumped`` it may learn the roots ``walk``, ``talk``
    and ``jump``, and the affixes ``ing`` and ``ed``.
    """
    import morfessor.baseline
    import morfessor.utils

    morfessor.utils.show_progress_bar = False
    occurrences = _plain_words(words, counts)
    frequent = sorted(occurrences, key=lambda word: (-occurrences[word], word))[:MOST_WORDS]
    model = morfessor.baseline.BaselineModel()
    with _LOCK:  # Morfessor takes the words in a random order, of a generator that it has in common with all of the process
        shared, morfessor.baseline.random = morfessor.baseline.random, random.Random(0)
        try:
            model.load_data([(1, word) for word in frequent])
            model.train_batch()
        finally:
            morfessor.baseline.random = shared
    roots: Counter[str] = Counter()
    affixes: Counter[str] = Counter()
    for word in frequent:
        first, *others = model.viterbi_segment(word)[0]
        roots[first] += occurrences[word]
        affixes.update(dict.fromkeys(others, occurrences[word]))
    chosen = sorted(affixes, key=lambda text: (-affixes[text], text))[:MOST_AFFIXES]
    return Language(
        vowels=frozenset(),
        upper={},
        rules={},
        affixes=tuple(
            Affix(text, _SUFFIX, (("text", text),), frozenset((_STEM, _SUFFIX, OTHER)), None, is_clitic=False)
            for text in chosen
        ),
        roots=tuple(Root(text, frozenset((_STEM,))) for text in sorted(roots)),
    )


def _plain_words(words: Rows, counts: NDArray[np.int64]) -> Counter[str]:
    """Words of letters in lower case, and how often they occur."""
    occurrences: Counter[str] = Counter()
    values = words.values.tobytes()
    offsets = words.offsets.tolist()
    for start, stop, count in zip(offsets, offsets[1:], counts.tolist(), strict=False):
        try:
            word = values[start:stop].decode().removeprefix(" ")
        except UnicodeDecodeError:
            continue
        lower = word.lower()
        if lower.isalpha() and len(lower) <= LONGEST_WORD and all(char.upper().lower() == char for char in lower):
            occurrences[lower] += count
    return occurrences

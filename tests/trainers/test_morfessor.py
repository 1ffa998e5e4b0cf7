"""Morphemes that Morfessor learns: the same for the same words, whatever else the process does."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from pipeline.arrow import rows_of
from pipeline.language import Language
from pipeline.trainers.morfessor import learn_language


def learned(seed: int) -> Language:
    """Of words made of a few stems and endings, in an order of their own."""
    chance = random.Random(seed)
    stems = ["walk", "talk", "jump", "climb", "paint", "wander", f"stem{'abcdefgh'[seed]}"]
    words = [f" {stem}{ending}" for stem in stems for ending in ("", "s", "ed", "ing", "er", "ers", "ingly")]
    chance.shuffle(words)
    return learn_language(rows_of(pa.array(words, pa.large_string())), np.arange(1, len(words) + 1))


def test_trainings_side_by_side_do_not_disturb_each_other() -> None:
    """They drew from one generator once."""
    alone = [learned(seed) for seed in range(8)]
    random.seed(5)
    state = random.getstate()
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(learned, range(8)))
    assert together == alone
    assert random.getstate() == state

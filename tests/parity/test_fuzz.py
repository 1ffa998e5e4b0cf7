"""The fuzzer, for a few seconds: ``make fuzz`` runs it longer."""

from __future__ import annotations

import itertools

from tests import fuzz


def test_characters_of_every_block_cut_as_tokenizers() -> None:
    verdicts, difference = fuzz.run(fuzz.walk_cases(seed=1, num_chars=4))
    assert difference == ""
    assert set(verdicts) == {"same"}
    assert verdicts.total() >= len(fuzz.FIXED) * len(fuzz.BLOCKS) / 16


def test_random_regexes_cut_as_tokenizers() -> None:
    verdicts, difference = fuzz.run(itertools.islice(fuzz.random_cases(seed=1), 160))
    assert difference == ""
    assert verdicts["same"] >= 130

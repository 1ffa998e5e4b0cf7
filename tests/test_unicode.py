"""The committed table of categories is that of the regex engine inside `tokenizers`."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models

from pipeline.unicode import CATEGORIES, NUM_CODE_POINTS, categories, in_categories, probe, word_chars

SURROGATES = slice(0xD800, 0xE000)


@pytest.mark.parametrize("name", ["Lu", "Lo", "Mn", "Nd", "No", "Zs", "Cn"])
def test_the_table_agrees_with_the_engine(name: str) -> None:
    members = in_categories((name,)).copy()
    members[SURROGATES] = False
    assert np.array_equal(members, probe(rf"\p{{{name}}}"))


@pytest.mark.parametrize("group", ["L", "N"])
def test_a_group_is_the_union_of_its_categories(group: str) -> None:
    assert np.array_equal(in_categories((group,)), probe(rf"\p{{{group}}}"))


def test_every_code_point_has_a_category() -> None:
    table = categories()
    assert table.shape == (NUM_CODE_POINTS,)
    assert set(table.tolist()) == set(range(len(CATEGORIES)))
    assert (table[SURROGATES] == CATEGORIES.index("Cn")).all()


@pytest.mark.parametrize("char", "aAǅʰ中\u0301\u0903\u20dd5Ⅷ½_-()«»!+$^© \u2028\u2029\n\u200b\ue000")
def test_old_characters_have_the_category_python_knows(char: str) -> None:
    assert CATEGORIES[categories()[ord(char)]] == unicodedata.category(char)


def test_prefixes_add_up() -> None:
    both = in_categories(("Lu", "Nd"))
    assert np.array_equal(both, in_categories(("Lu",)) | in_categories(("Nd",)))
    assert both[ord("A")]
    assert both[ord("7")]
    assert not both[ord("a")]


def test_probe_refuses_what_the_engine_refuses() -> None:
    with pytest.raises(Exception, match="invalid character property name"):
        probe(r"\p{Nonsense}")


@pytest.mark.parametrize("is_before", [False, True])
def test_characters_of_words_are_those_that_added_tokens_may_not_touch(is_before: bool) -> None:
    tokenizer = Tokenizer(models.BPE({}, []))
    tokenizer.add_tokens([AddedToken("<", single_word=True)])
    code_points = np.array([c for c in range(NUM_CODE_POINTS) if not 0xD800 <= c < 0xE000 and chr(c) != "<"])
    text = "".join(f" {chr(c)}<" if is_before else f" <{chr(c)}" for c in code_points)
    found = np.array([start for start, _ in tokenizer.encode(text).offsets])
    expected = np.zeros(NUM_CODE_POINTS, dtype=bool)
    expected[code_points] = True
    expected[code_points[found // 3]] = False
    assert np.array_equal(word_chars(), expected)

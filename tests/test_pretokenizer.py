"""Pretokenizers cut as the tokenizer.json they are written to cuts."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from pipeline import pretokenizer
from pipeline.arrow import rows_of
from pipeline.errors import ArtifactError, DataError, SpecError
from pipeline.kernels.split import SPAN
from pipeline.pretokenizer import DIGITS, GPT2_REGEX, LONGEST_KMER, PRESETS, RECIPES, Pretokenizer
from tests import reference, strategies

LOOKBEHIND = r"(?<=a)b|\s+|\w"


def words_of(cutter: Pretokenizer, texts: list[str]) -> list[bytes]:
    rows = rows_of(pa.array(texts, type=pa.large_string()))
    words: list[bytes] = []
    at = 0
    for start, stops in cutter.iter_words(rows):
        assert start == at
        for stop in stops.tolist():
            words.append(rows.values[at:stop].tobytes())
            at = stop
    assert at == rows.num_bytes
    return words


def expected(cutter: Pretokenizer, texts: list[str]) -> list[bytes]:
    return [word.encode() for text in texts for word in reference.split(text, cutter.patterns)]


def outside_words(part: Any, texts: list[str]) -> list[str]:
    return [word for text in texts for word, _ in part.pre_tokenize_str(text)]


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("digits", [None, *DIGITS])
@given(strategies.texts)
def test_words_are_those_of_tokenizers(preset: str, digits: str | None, texts: list[str]) -> None:
    cutter = Pretokenizer.named(preset, digits)
    words = words_of(cutter, texts)
    assert words == expected(cutter, texts)
    assert [reference.spell(word) for word in words] == outside_words(cutter.to_tokenizers(), texts)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("digits", [None, *DIGITS])
def test_presets_are_compiled(preset: str, digits: str | None) -> None:
    assert Pretokenizer.named(preset, digits).messages == []


@pytest.mark.parametrize("preset", ["gpt2", "gpt4o", "whitespace"])
@pytest.mark.parametrize("words_at_once", [4, 5, 1_000])
@given(strategies.texts)
def test_the_size_of_a_chunk_does_not_matter(preset: str, words_at_once: int, texts: list[str]) -> None:
    cutter = Pretokenizer.named(preset, "r2l")
    texts = [*texts, "I'm 1234 " * (SPAN // 4), *texts]  # a document of several spans, and others behind it
    whole = words_of(cutter, texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokenizer, "WORDS_AT_ONCE", words_at_once)
        assert words_of(cutter, texts) == whole


def test_chunks_hold_no_more_words_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretokenizer, "WORDS_AT_ONCE", 10)
    rows = rows_of(pa.array(["a b c d e f " * SPAN], type=pa.large_string()))
    sizes = [len(stops) for _, stops in Pretokenizer.named("gpt2").iter_words(rows)]
    assert max(sizes) <= SPAN + 10
    assert len(sizes) > 5
    assert sum(sizes) == 6 * SPAN + 1


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("l2r", ["x", "123", "456", "7", "y"]),
        ("r2l", ["x", "1", "234", "567", "y"]),
        ("single", ["x", *"1234567", "y"]),
    ],
)
@pytest.mark.parametrize("preset", list(PRESETS))
def test_digits(preset: str, digits: str, words: list[str]) -> None:
    assert words_of(Pretokenizer.named(preset, digits), ["x1234567y"]) == [word.encode() for word in words]


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("gpt2", ["I", "'m", " 12345", ",", " John", "'", "S", "\n\n "]),
        ("gpt4", ["I", "'m", " ", "123", "45", ",", " John", "'S", "\n\n", " "]),
        ("gpt4o", ["I'm", " ", "123", "45", ",", " John'S", "\n\n", " "]),
        ("llama3", ["I", "'m", " ", "123", "45", ",", " John", "'S", "\n\n", " "]),
        ("qwen2", ["I", "'m", " ", *"12345", ",", " John", "'S", "\n\n", " "]),
        ("superbpe", ["I", "'m", " ", "123", "45", ",", " John", "'S", "\n\n", " "]),
        ("whitespace", ["I'm", " 12345,", " John'S", "\n\n "]),
        ("none", ["I'm 12345, John'S\n\n "]),
    ],
)
def test_presets_on_one_sentence(preset: str, words: list[str]) -> None:
    found = words_of(Pretokenizer.named(preset), ["I'm 12345, John'S\n\n "])
    assert [word.decode() for word in found] == words


@pytest.mark.parametrize("k", [1, 2, 6, LONGEST_KMER])
@given(strategies.texts)
def test_kmers(k: int, texts: list[str]) -> None:
    cutter = Pretokenizer.kmers(k)
    assert cutter.messages == []
    words = words_of(cutter, texts)
    assert [word.decode() for word in words] == [text[at : at + k] for text in texts for at in range(0, len(text), k)]
    assert [reference.spell(word) for word in words] == outside_words(cutter.to_tokenizers(), texts)


def test_kmers_start_where_a_document_does() -> None:
    assert words_of(Pretokenizer.kmers(3), ["ACGTACGT", "TT", "\n\r\nA"]) == [b"ACG", b"TAC", b"GT", b"TT", b"\n\r\n", b"A"]
    long = "ACGTTGCA" * (SPAN // 4)
    assert words_of(Pretokenizer.kmers(6), [long, "A", long]) == [
        text[at : at + 6].encode() for text in (long, "A", long) for at in range(0, len(text), 6)
    ]


@pytest.mark.parametrize("k", [0, -1, LONGEST_KMER + 1])
def test_kmers_of_no_length(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k is {k}; 1 to {LONGEST_KMER} is allowed"):
        Pretokenizer.kmers(k)


@given(strategies.texts)
def test_a_regex_that_cannot_be_compiled_cuts_as_tokenizers(texts: list[str]) -> None:
    cutter = Pretokenizer.custom(LOOKBEHIND, "r2l")
    assert len(cutter.messages) == 1
    assert "(?<=" in cutter.messages[0]
    assert words_of(cutter, texts) == expected(cutter, texts)


def test_a_document_that_the_outside_splitter_gives_up_on_is_an_error_of_the_data() -> None:
    cut = Pretokenizer.custom(r"(?<!x)(?:a|aa)+b|\s")
    with pytest.raises(DataError, match=r"a document of 60 bytes: the regex .* gives up on it \(.*retry-limit"):
        list(cut.iter_words(rows_of(pa.array(["a" * 60]))))


@given(strategies.texts, st.lists(st.sampled_from([GPT2_REGEX, LOOKBEHIND, r"\n+", r"[aeiou]", r"\p{N}"]), max_size=3))
def test_regexes_apply_one_after_the_other(texts: list[str], patterns: list[str]) -> None:
    cutter = Pretokenizer(tuple(patterns))
    assert words_of(cutter, texts) == expected(cutter, texts)


def test_the_order_of_regexes_matters() -> None:
    assert words_of(Pretokenizer((r"b+", r"a.")), ["aabb"]) == [b"aa", b"bb"]
    assert words_of(Pretokenizer((r"ab", r"b+")), ["aabb"]) == [b"a", b"a", b"b", b"b"]


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("digits", [None, *DIGITS])
def test_the_file_format_gives_back_the_pretokenizer(preset: str, digits: str | None) -> None:
    cutter = Pretokenizer.named(preset, digits)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cutter.to_tokenizers()
    assert Pretokenizer.from_json(json.loads(tokenizer.to_str())["pre_tokenizer"]) == cutter


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=True), "without a prefix blank"),
        (pre_tokenizers.Whitespace(), "does not end in ByteLevel"),
        (pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]), "Digits"),
        (
            pre_tokenizers.Sequence(
                [pre_tokenizers.Split("a", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            ),
            "Split",
        ),
    ],
)
def test_other_pretokenizers_are_refused(part: Any, named: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = part
    with pytest.raises(ArtifactError, match=named):
        Pretokenizer.from_json(json.loads(tokenizer.to_str())["pre_tokenizer"])


def test_no_pretokenizer_is_refused() -> None:
    with pytest.raises(ArtifactError, match="ByteLevel"):
        Pretokenizer.from_json(None)


def test_a_regex_the_engine_refuses_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match=r"pretokenizer\.regex is '\(a'"):
        Pretokenizer.custom("(a")


def test_a_word_of_a_megabyte_whose_regex_has_a_lookahead_is_no_square() -> None:
    """With the square of its length this would take hours."""
    cutter = Pretokenizer(RECIPES["paper"][1])
    text = "no digit in here " * 60_000 + "1234567" + " but there" * 50_000
    assert [len(word) for word in words_of(cutter, [text])] == [1_020_000, 1, 3, 3, 500_000]


def test_the_recipes_of_superbpe_are_those_of_its_authors() -> None:
    """Written out here once more, from the paper's code and from their scripts since November 2025."""
    first, second = RECIPES["recommended"]
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    assert first == (
        rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
    assert second == (r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)",)


@given(st.text("ab 1234567890,.\n²½Ⅷ٣", max_size=60))
def test_the_recipe_of_the_paper_cuts_as_its_own_regexes(text: str) -> None:
    for stage, words in enumerate((r"| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", "")):
        expected = reference.split(text, (r"\p{N}+", rf"(?=(\d{{3}})+(?!\d)){words}"))
        assert [word.decode() for word in words_of(Pretokenizer(RECIPES["paper"][stage]), [text])] == expected

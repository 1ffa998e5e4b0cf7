"""Compiled regexes cut as the regex engine of `tokenizers` does, or say what they do not know."""

from __future__ import annotations

import string

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings

from pipeline.arrow import rows_of
from pipeline.pretokenizer import DIGITS, PRESETS, Pretokenizer
from pipeline.regex import compile_regex
from pipeline.regex_syntax import UnsupportedRegex
from tests import reference, strategies

PATTERNS = {
    f"{preset}-{digits}-{number}": pattern
    for preset in PRESETS
    for digits in (None, *DIGITS)
    for number, pattern in enumerate(Pretokenizer.named(preset, digits).patterns)
}

EVERY_ASCII = [chr(n) for n in range(128)] + [f"a{chr(n)}1" for n in range(128)]


def cut(texts: list[str], pattern: str) -> list[bytes]:
    """Words by our tables; a construct they do not know raises here, it does not run elsewhere."""
    compile_regex(pattern)
    rows = rows_of(pa.array(texts, type=pa.large_string()))
    words = []
    for start, stops in Pretokenizer((pattern,)).iter_words(rows):
        for stop in stops.tolist():
            words.append(rows.values[start:stop].tobytes())
            start = stop
    return words


def cut_outside(texts: list[str], pattern: str) -> list[bytes]:
    return [word.encode() for text in texts for word in reference.split(text, [pattern])]


@pytest.mark.parametrize("pattern", list(dict.fromkeys(PATTERNS.values())))
@given(strategies.texts)
def test_presets_cut_as_tokenizers(pattern: str, texts: list[str]) -> None:
    assert cut(texts, pattern) == cut_outside(texts, pattern)


@settings(max_examples=max(settings().max_examples // 2, 1))  # each compiles a regex: 0.1 s
@given(strategies.regexes, strategies.regex_texts)
def test_compositions_cut_as_tokenizers(pattern: str, texts: list[str]) -> None:
    try:
        compile_regex(pattern)
    except UnsupportedRegex as error:
        assume("repeated group inside" not in str(error) and "more than" not in str(error))
        raise
    assert cut(texts, pattern) == cut_outside(texts, pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"a|ab", r"(?:a|ab)(?:c|bcd)", r"a*?b", r"a{2,3}", r"a{2}b", r"(?:ab){1,2}", r"a++b|a", r"a?+b", r"[ab]*+c",
        r"\w+$", r"\s+\z|\s", r"x(?=y)", r"x(?!y)", r"x(?=y|\z)", r"(?!ab)\w", r"(?=a+b)a", r"(?=a+b)a|(?!\d+x)\d",
        r"[^\n]+", r".+", r"[a-]+", r"[-a]+", r"[\]]+", r"]+", r"}", r"[.]", r"[$]+", r"[a-c-]+", r"[^^]", r"[a^]+",
        r"(?i:s)", r"(?i:k)", r"(?i:'re|[st]x)", r"\x20+", r"\u4e2d+", r"\p{^L}+", r"\P{^L}+", r"[\P{L}]+",
        r"\p{Greek}+", r"\p{Alphabetic}+", r"\p{lu}", r"(a)(b)?", r"a+?a", r"(?:a+?)+b", r"(?:a|b)+?c", r"\t\r\n\f\v\a\e",
    ],
)  # fmt: skip
def test_each_construct_cuts_as_tokenizers(pattern: str) -> None:
    texts = [
        *EVERY_ASCII,
        "abcd abbcd aaab aab ab\nab ", "xy x xz yx", "aaaab1ab 12x 3", "ſsSKkK 'RE'ſ sx Tx", "中中 é Σσς ß]]}}..$$^^-a-c",
        "a\t\r\n\f\v\a\x1bb", "x  \n", "\n\n", " \u00a0\u2028x", "ababab abc aaaaaab",
    ]  # fmt: skip
    assert cut(texts, pattern) == cut_outside(texts, pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"[]a]+", r"[^]a]+", r"[]-a]", r"[[]",
        r"(?i:(?:s)s)", r"(?i:s(?:s))", r"(?i:\x73s)", r"(?i:s\x73)", r"(?i:(?:s)t)",
        r"(?i:s[s])", r"(?i:s{1}s)", r"(?i:s+)s", r"(?i:s)(?i:s)", r"(?i:f?i)", r"(?i:[^s])", r"[+--]+", r"[--a]",
        r"[a-c-e]+",
        r"[\w-]+", r"[\w\-x]+", r"a{2}{2}", r"a+{2}", r"a??b", r"a???b", r"(?:)a", r"(?:|a)b", r"a||b", r"$a", r"a$\n",
        r"(?!)b|c", r"(?=)b", r"\p{^lu}+", r"\p{Any}+", r"[^\p{Any}]a|b", r"[é-ü]+", r"\uD800", r"a{0}b", r"{1}", r"x{,2}",
    ],
)  # fmt: skip
def test_corners_of_the_syntax_cut_as_tokenizers_or_are_refused(pattern: str) -> None:
    texts = [
        *EVERY_ASCII,
        "ss sS ß ẞ ſs st ﬆ ﬅ fi ﬁ Kk",
        "a]b []a] ]] [ ^",
        "a\na\n\nab",
        "éü aaaaaaaab b bb cde-+,",
        "LlUu",
    ]
    try:
        words = cut(texts, pattern)
    except UnsupportedRegex as error:
        assert f"{pattern!r}" in str(error)  # noqa: PT017
    else:
        assert words == cut_outside(texts, pattern)


@pytest.mark.parametrize(
    "pattern", ["a*", "a|", "$", "a*?", "(?=a)", r"(?=(\d{3})+(?!\d))", r"(?=b)|b+", r"\s*$", r"(?!\S)", "a*|b", "(?:ab)*|b"]
)
def test_empty_matches_cut_as_tokenizers(pattern: str) -> None:
    """Where nothing matches but the empty string, there is a boundary and no word."""
    texts = [*EVERY_ASCII, "aab ba abab", "1234567 12 é1234", "a \n\n b\n", "中a中", "", "a" * 70 + "b" * 70, "1" * 200]
    assert cut(texts, pattern) == cut_outside(texts, pattern)


@pytest.mark.parametrize("char", list(string.punctuation))
def test_escaped_punctuation_is_itself(char: str) -> None:
    assert cut(EVERY_ASCII, f"\\{char}+") == cut_outside(EVERY_ASCII, f"\\{char}+")
    assert cut(EVERY_ASCII, f"[a\\{char}]+") == cut_outside(EVERY_ASCII, f"[a\\{char}]+")


@pytest.mark.parametrize("char", list(string.ascii_letters + string.digits))
@pytest.mark.parametrize("form", ["\\{}", "[x\\{}]"])
def test_escaped_letters_cut_as_tokenizers_or_are_refused(form: str, char: str) -> None:
    pattern = form.format(char) + "+"
    try:
        compile_regex(pattern)
    except UnsupportedRegex as error:
        assert char in str(error)  # noqa: PT017
    else:
        assert cut(EVERY_ASCII, pattern) == cut_outside(EVERY_ASCII, pattern)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        (r"^a", r"'\^'"),
        (r"(?<=a)b", r"'\(\?<='"),
        (r"(?<!a)b", r"'\(\?<!'"),
        (r"(?<name>a)", r"'\(\?<n'"),
        (r"(?>a+)b", r"'\(\?>a'"),
        (r"(?i)a", r"'\(\?i\)'"),
        (r"(?m:.)", r"'\(\?m:'"),
        (r"(?x: a )", r"'\(\?x:'"),
        (r"(?#note)a", r"'\(\?#n'"),
        (r"(a)\1", r"the escape \\1"),
        (r"\bword", r"the escape \\b"),
        (r"\Aword", r"the escape \\A"),
        (r"word\Z", r"the escape \\Z"),
        (r"\Ga", r"the escape \\G"),
        (r"\h+", r"the escape \\h"),
        (r"\R", r"the escape \\R"),
        (r"\X", r"the escape \\X"),
        (r"\x{41}", r"the escape \\x"),
        (r"\xE9", r"\\x escape beyond ASCII"),
        (r"\pL", "a property without braces"),
        (r"\p{Nonsense}", r"the property \\p\{Nonsense\}"),
        (r"[[:alpha:]]", "a class inside a class at character 1 "),
        (r"[a[bc]]", "a class inside a class at character 2 "),
        (r"[a-z&&[^x]]", "an intersection of classes at character 4 "),
        (r"[!-&&b]", "an intersection of classes"),
        (r"[a-[b]]", "a class inside a class"),
        (r"[ab", "an unclosed class"),
        (r"abc(?:a|b)++", "a possessive repeat of a group at character 3 "),
        (r"\p{L}+a\h+", r"the escape \\h at character 7 "),
        (r"(?:ab){1}*", r"another quantifier after \{1\}"),
        (r"a{1,1}{2}", r"another quantifier after \{1\}"),
        ("a{\u0663}", "a '{' that is not a counted repeat"),
        ("(" * 200 + "a" + ")" * 200, "groups nested more than 100 deep"),
        ("x" * 10_001, "a regex of 10,001 characters"),
        (r"[a\d-z]", "a range between classes"),
        (r"[z-a]", "an empty range"),
        (r"(?:a|b)++", "a possessive repeat of a group"),
        (r"a{1,2}?", r"'\?' after a counted repeat"),
        (r"a{,3}", "a '{' that is not a counted repeat"),
        (r"a{b}", "a '{' that is not a counted repeat"),
        (r"a{3,2}", r"the repeat \{3,2\}"),
        (r"(?:a?)+b", "a repeat of what can match the empty string"),
        (r"(?=a)+b", "a repeat of what can match the empty string"),
        (r"(?=a(?=bc))a", "a lookahead inside a lookahead"),
        (r"(?i:\p{Lu})", r"a property inside \(\?i:…\)"),
        (r"(?i:ß)", "the non-ASCII character 'ß'"),
        (r"(?i:ss)", r"'ss' inside \(\?i:…\)"),
        (r"(?i:[a-z])", "inside"),
        (r"(?i:(?:ab)+)", r"a repeated group inside \(\?i:…\)"),
        (r"a{30000}", "more than 20000 instructions"),
        (r"(?:a|b)*a(?:a|b){20}c", "states"),
        ("|".join(rf"a(?=b{{{n}}}c)" for n in range(2, 7)), "more than 4 lookaheads"),
        ("|".join(chr(0x100 + n) for n in range(70)), "more than 62 different character sets"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_named(pattern: str, named: str) -> None:
    with pytest.raises(UnsupportedRegex, match=named):
        compile_regex(pattern)


@pytest.mark.parametrize("pattern", ["(a", "a)", "[a", "*a", "+", "?", "a**", "\\"])
def test_what_is_no_regex_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedRegex):
        compile_regex(pattern)

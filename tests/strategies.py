"""All Hypothesis strategies of the suite."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import strategies as st

_PIECES = (
    "a", "b", "ab", "The", "the", "ſ", "İ", "ß", "ǅ", "'s", "'LL", "'ſ", "I'm", " ", "  ", "\t", "\n", "\r\n", "\u00a0",
    "\u2028", "\u0085", "\u200b", "\ufeff", "\x00", "\x1c", "\x7f", "0", "7", "12345", "½", "Ⅷ", "٣", ".", "!?", "_", "/",
    "é", "e\u0301", "\u0301", "ﬁ", "한", "각", "中文", "ภาษา", "א", "Σς", "😀", "👩\u200d💻", "🇩🇪", "\U000e0001",
    "\ufffd", "\uffff", "\U0010ffff", "<|endoftext|>", "[UNK]",
)  # fmt: skip

characters = st.characters(exclude_categories=["Cs"])
"""Any code point of any plane, assigned or not, but surrogates."""

typical_text = st.lists(st.sampled_from(_PIECES), max_size=30).map("".join)
"""Letters, digits, blanks and newlines of several scripts, as tokenizers trip over them."""

repeated_text = st.builds(lambda piece, times: piece * times, st.sampled_from(_PIECES), st.integers(2, 300))

text = st.one_of(
    typical_text,
    st.text(characters, max_size=40),
    st.lists(st.one_of(typical_text, st.text(characters, max_size=5), repeated_text), max_size=4).map("".join),
)
"""Any text."""

texts = st.lists(text, max_size=8)

words = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.text("ab ", min_size=1, max_size=24).map(str.encode),
    st.builds(lambda byte, times: bytes([byte]) * times, st.sampled_from(b"\0a"), st.integers(1, 300)),
)
"""Bytes of a word, below, at and above every limit of the kernels."""

word_lists = st.lists(words, max_size=40)

word_counts = st.dictionaries(
    st.text("abcd ", min_size=1, max_size=8).map(str.encode), st.integers(1, 9), min_size=1, max_size=12
)
"""Distinct words of few letters, which give long chains of merges and many ties."""

large_word_counts = st.dictionaries(
    st.text("abc", min_size=1, max_size=8).map(str.encode), st.integers(2**31 - 2, 2**45), min_size=1, max_size=8
)

ragged_rows = st.lists(st.lists(st.integers(0, 60_000), max_size=12), max_size=20)

sequence_lengths = st.integers(1, 9)


@st.composite
def piece_lengths(draw: st.DrawFn) -> tuple[list[int], int]:
    """Lengths of pieces, none above the sequence length, and that length."""
    sequence_length = draw(st.integers(1, 33))
    return draw(st.lists(st.integers(1, sequence_length), max_size=60)), sequence_length


@st.composite
def merge_lists(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Merges over the initial ids 0, 1, 2: the n-th makes the id 3 + n of two ids that are there before it."""
    merges: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(0, 10))):
        ids = st.integers(0, 2 + len(merges))
        pair = draw(st.tuples(ids, ids))
        if pair not in merges:
            merges.append(pair)
    return merges


@st.composite
def arrow_texts(draw: st.DrawFn, nulls: bool = False) -> pa.Array:
    """A string or binary array of any width that may be a slice of a longer one."""
    rows = draw(st.lists(st.one_of(text, st.none()) if nulls else text, max_size=8))
    kind = draw(st.sampled_from([pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()]))
    array = pa.array(rows, type=kind)
    start = draw(st.integers(0, len(rows)))
    return array.slice(start, draw(st.integers(0, len(rows) - start)))


@st.composite
def arrow_lists(draw: st.DrawFn) -> pa.LargeListArray:
    """A list array of ids that may be a slice of a longer one."""
    rows = draw(ragged_rows)
    kind = pa.large_list(draw(st.sampled_from([pa.uint16(), pa.uint32()])))
    start = draw(st.integers(0, len(rows)))
    return pa.array(rows, type=kind).slice(start, draw(st.integers(0, len(rows) - start)))


# --- added tokens -----------------------------------------------------------------------------------------------------

_ADDED_PIECES = (
    "a", "b", "ab", "A", "x", "_", "1", " ", "  ", "\n", "é", "É", "e\u0301", "İ", "ﬁ", "中", "Ⓐ", "😀", "\u200d", "<s>",
)  # fmt: skip

added_texts = st.lists(st.lists(st.sampled_from(_ADDED_PIECES), max_size=14).map("".join), max_size=6)
"""Texts in which the tokens below occur often, side by side and across each other."""

added_contents = st.lists(
    st.lists(st.sampled_from(_ADDED_PIECES), min_size=1, max_size=4).map("".join), min_size=1, max_size=6, unique=True
)
"""Distinct strings, many of them in another, or its beginning."""


# --- regexes ----------------------------------------------------------------------------------------------------------

_CLASSES = (
    "a", "b", "s", "k", " ", "1", r"\n", r"\.", "é", "[ab]", "[^a]", r"[^\s\p{L}]", r"[a-c\d]", r"[\p{Lu}_-]", r"\p{L}",
    r"\P{L}", r"\p{^N}", r"\p{Ll}", r"\p{Han}", r"\s", r"\S", r"\d", r"\D", r"\w", r"\W", r"\x41", r"\u00e9", ".", "-", "'",
)  # fmt: skip
_REPEATS = ("", "", "", "+", "*", "?", "+?", "*?", "??", "++", "*+", "?+", "{2}", "{1,2}", "{2,}", "{0,3}")
_CHECKS = (
    "$", r"\z", r"(?=a)", r"(?!\S)", r"(?= ?b)", r"(?!\s*1)", r"(?=(?:\d{3})*(?!\d))", r"(?!ab|\z)", r"(?=[ab]+$)",
)  # fmt: skip
_FOLDED = ("(?i:'s|'LL)", "(?i:k)", "(?i:[sx]a)", "(?i:Ab+c?)", "(?i:a|s1)")


def _never_empty(item: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    parts = st.tuples(
        st.lists(st.one_of(item, st.sampled_from(_CHECKS)), max_size=2),
        st.sampled_from(_CLASSES + _FOLDED),
        st.sampled_from(["", "+", "+?", "{2}", "{1,3}"]),
        st.lists(st.one_of(item, st.sampled_from(_CHECKS)), max_size=2),
    )
    return parts.map(lambda p: "".join(p[0]) + p[1] + (p[2] if not p[1].startswith("(?i") else "") + "".join(p[3]))


_class_items = st.builds(lambda chars, repeat: chars + repeat, st.sampled_from(_CLASSES), st.sampled_from(_REPEATS))
_groups = st.builds(
    lambda start, items, repeat: f"{start}{'|'.join(items)}){repeat}",
    st.sampled_from(["(?:", "("]),
    st.lists(_never_empty(_class_items), min_size=1, max_size=3),
    st.sampled_from(["", "*", "?", "+", "+?", "{1,2}", "{2}"]),
)

regexes = st.lists(_never_empty(st.one_of(_class_items, _groups)), min_size=1, max_size=4).map("|".join)
"""Regexes of the supported constructs. None of their alternatives matches the empty string."""

regex_texts = st.lists(
    st.one_of(st.text("aAbBsSkK1 \n'.c_-", max_size=12), st.text("aé中\u017f\u212aÉß٣ 12\u00a0", max_size=8), typical_text),
    min_size=1,
    max_size=6,
)
"""Texts whose characters the regexes above tell apart."""

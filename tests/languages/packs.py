"""A small made-up language that has everything a pack can have, tokenizers for it, and text that trips over it."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from pipeline.language import Language, parse_language
from pipeline.morph import NUM_BYTES, NUM_MARKERS, MorphTokenizer
from pipeline.morphology import Morphology, compile_language
from pipeline.pretokenizer import Pretokenizer
from tests import strategies

HEADERS = {
    "harmony.tsv": "rule\tlooks\tletters\tbecomes",
    "affixes.tsv": "affix\tclass\tform\tafter\tstem",
    "roots.tsv": "root\tclass\tforms",
}

HARMONY = """\
vowel letters aoıeiö -
hard letters ptks -
soft letters bdgmnlrzvcğş -
i upper i İ
ı upper ı I
# vowels, after front and back ones
A last eiö e
A last aoı a
I last eiö i
I last aoı ı
(I) last 3 {y}{I}
(I) last {vowel} -
(I) last {hard}{soft} {I}
D last {hard} t
D last {vowel}{soft} d
# 3: no letter, but what affixes hear of so
y last 3 y
y last {vowel} y
y last {hard}{soft} -
s last 3 y
s last {vowel} s
s last {hard}{soft} -
# before the next affix
K next vowel ğ
K next * k
(n) next dat n
(n) next * -
# by the very last character
caus end {vowel} t
caus end rl {I}t
caus last {vowel} {D}{A}r
"""

ROOT_CLASSES = """\
- name - - -
- verb - - -
- pron - - -
"""
"""Rows that name the classes which roots alone have."""

AFFIXES = (
    ROOT_CLASSES
    + """\
DA clitic _d{A} * -
MI question _m{I} * -
APOS apostrophe ' noun,name,other -
PL plural l{A}r noun,name,other,apostrophe -
DIM noun {(I)}c{I}{K} noun,name,other -
POSS possessive {s}{I}{(n)} noun,name,other,plural,apostrophe -
ACC case {y}{I} noun,name,other,plural,possessive,apostrophe -
DAT case {y}{A} noun,name,other,plural,possessive,apostrophe dat
LOC case {D}{A} noun,name,other,plural,possessive,apostrophe loc
CAUS voice {caus} verb,voice -
INF noun m{A}{K} verb,voice -
PAST past {D}{I} verb,voice,noun,case,question -
"""
)

ROOTS = """\
kitap noun vowel=kitab dat=kitab
renk noun vowel=reng dat=reng
ağız noun vowel=ağz dat=ağz
at noun vowel=ad dat=ad
ad noun -
ağz noun -
sog noun vowel=sag sounds=sek
sek noun vowel=sag
begi noun vowel=beg dat=beg
bek noun vowel=beg dat=beg
ev noun loc=evi
eve noun -
evler noun -
oda noun -
saat noun sounds=saet
so noun sounds=so3
deniz noun -
Deniz name -
Ali name -
Ahmet name vowel=Ahmed dat=Ahmed
İzmir name -
Işık name vowel=Işığ dat=Işığ
git verb vowel=gid
al verb -
de verb,pron vowel=di
o pron dat=on loc=on
ıl other -
中文 noun -
straße noun -
p2p noun -
"""


def table(name: str, rows: str) -> bytes:
    """A table whose cells are apart by blanks in ``rows``."""
    lines = [line if line.startswith("#") else "\t".join(line.split()) for line in rows.splitlines()]
    return "\n".join([HEADERS[name], *lines, ""]).encode()


def files(harmony: str = HARMONY, affixes: str = AFFIXES, roots: str = ROOTS) -> dict[str, bytes]:
    """The three tables; of roots, what is behind the class is one cell."""
    content = "".join("\t".join(line.split(" ", 2)) + "\n" for line in roots.splitlines())
    return {
        "harmony.tsv": table("harmony.tsv", harmony),
        "affixes.tsv": table("affixes.tsv", affixes),
        "roots.tsv": f"{HEADERS['roots.tsv']}\n{content}".encode(),
    }


def language_of(harmony: str = HARMONY, affixes: str = AFFIXES, roots: str = ROOTS) -> Language:
    return parse_language(files(harmony, affixes, roots))


@functools.cache
def morphology_of(harmony: str = HARMONY, affixes: str = AFFIXES, roots: str = ROOTS) -> Morphology:
    return compile_language(language_of(harmony, affixes, roots))


# --- tokenizers -------------------------------------------------------------------------------------------------------

SPECIALS = ("<|end|>", "<pad>")

PIECES = (b"  ", b"   ", b"\n\n", b"k\xc4", b"\xb1\x72", b" \xc4", b" k", b"le", b"itab", b"zz", "ığ".encode(), b"vler")
"""Some of blanks alone, of parts of characters, and some that roots and affixes begin or end with."""


def tokenizer_of(
    pieces: Sequence[bytes] = PIECES, costs: Sequence[int] | random.Random | None = None, **options: Any
) -> MorphTokenizer:
    """Of the made-up language, or ``morphology=``; costs: given, random small ones with many ties, or by the kind of id."""
    morphology = options.pop("morphology", None) or morphology_of()
    specials = options.pop("special_tokens", SPECIALS)
    sizes = len(specials), NUM_MARKERS, len(morphology.affixes), len(morphology.roots), NUM_BYTES, len(pieces)
    if costs is None:
        costs = [cost for cost, size in zip((0, 700, 1500, 3500, 2300, 2900), sizes, strict=True) for _ in range(size)]
    elif isinstance(costs, random.Random):
        costs = costs.choices(range(6), k=sum(sizes))
    return MorphTokenizer(morphology, tuple(pieces), tuple(costs), special_tokens=specials, **options)


@functools.cache
def usual(segmentation: Any = "viterbi", pretokenizer: str = "words") -> MorphTokenizer:
    return tokenizer_of(segmentation=segmentation, pretokenizer=Pretokenizer.named(pretokenizer))


def names(tokenizer: MorphTokenizer, text: str) -> list[str]:
    """The ids of a text by name."""
    name_of = {token_id: name for name, token_id in tokenizer.vocab.items()}
    return [name_of[token_id] for token_id in tokenizer.encode(text)]


# --- text -------------------------------------------------------------------------------------------------------------


def _forms() -> tuple[list[str], list[str], list[str]]:
    morphology = morphology_of()
    surfaces = {text: affix.is_clitic for affix in morphology.affixes for text in affix.surfaces if text}
    return (
        sorted({form for root in morphology.roots for form in root.forms}),
        sorted(text for text, is_clitic in surfaces.items() if not is_clitic),
        sorted(text for text, is_clitic in surfaces.items() if is_clitic),
    )


FORMS, SURFACES, CLITICS = _forms()

_UPPER = str.maketrans({"i": "İ"})
_CASES: Mapping[str, Any] = {
    "lower": str,
    "capital": lambda text: text[:1].translate(_UPPER).upper() + text[1:],
    "upper": lambda text: text.translate(_UPPER).upper(),
    "plain upper": str.upper,  # I for i, SS for ß
    "title": str.title,
    "mixed": lambda text: "".join(c.translate(_UPPER).upper() if n % 2 else c for n, c in enumerate(text)),
    "last": lambda text: text[:-1] + text[-1:].upper(),
}

_stems = st.one_of(
    st.sampled_from(FORMS), st.sampled_from(["", "zz", "g", "brk", "3", "lar", "xö"]), st.text("aeıkltr3'", max_size=4)
)
_suffixes = st.lists(st.sampled_from([*SURFACES, "zz", "'"]), max_size=4).map("".join)
_cased = st.builds(
    lambda case, stem, suffixes, is_whole: _CASES[case](stem + suffixes) if is_whole else _CASES[case](stem) + suffixes,
    st.sampled_from(sorted(_CASES)), _stems, _suffixes, st.booleans(),
)  # fmt: skip
_starts = st.sampled_from([" ", " ", " ", "", "  ", "\n", " \n ", "\t", "'", "."])
_junk = st.one_of(
    st.text(strategies.characters, max_size=3),
    st.sampled_from([" ", "  ", "\n", "\r\n", "\u0130", "I\u0307", "ß", "中", "😀"]),
)

text = st.lists(
    st.one_of(
        st.builds(str.__add__, _starts, _cased),
        st.builds(str.__add__, _starts, _cased),
        st.sampled_from([*CLITICS, " dalar", " dadı", " mıdı", " Da", " DA", " deler"]),
        _junk,
    ),
    max_size=10,
).map("".join)
"""Words of roots, affixes and clitics that go together or do not, in all cases, and any other text between them."""

short_words = st.builds(str.__add__, st.sampled_from([" ", ""]), _cased).filter(lambda word: 0 < len(word.encode()) <= 7)


def _pieces_of(content: str, cuts: list[tuple[int, int]]) -> tuple[bytes, ...]:
    encoded = content.encode() or b" "
    found = [encoded[start % len(encoded) :][:length] for start, length in cuts]
    return tuple(dict.fromkeys(piece for piece in found if len(piece) > 1))


pieces = st.builds(
    lambda of_text, usual: tuple(dict.fromkeys(of_text + usual)),
    st.builds(_pieces_of, text, st.lists(st.tuples(st.integers(0, 999), st.integers(2, 9)), max_size=12)),
    st.lists(st.sampled_from(PIECES), max_size=4).map(tuple),
)
"""Literal pieces as any text has them: they cut characters, and blanks and newlines make some alone."""

tokenizers = st.builds(
    lambda segmentation, literal_cost, some, seed: tokenizer_of(
        some, None if seed is None else random.Random(seed), literal_cost=literal_cost, segmentation=segmentation
    ),
    st.sampled_from(["viterbi", "viterbi", "longest"]),
    st.sampled_from([0, 0, 1, 3, 2048]),
    pieces,
    st.none() | st.integers(0, 2**16),
)
"""With random pieces and costs."""


# --- any language -----------------------------------------------------------------------------------------------------

_rule_rows = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["last", "end"]), st.sampled_from(["a", "b", "ab", "bc", "x", "*"])),
        st.tuples(st.just("next"), st.sampled_from(["vowel", "s", "*"])),
    ),
    min_size=1,
    max_size=4,
)
_affix_forms = st.lists(st.sampled_from(["{A}", "{B}", "a", "c", "x"]), min_size=1, max_size=3).map("".join)
_root_forms = st.text("abcx", min_size=1, max_size=3)


@st.composite
def languages(draw: st.DrawFn) -> Language:
    """Over four letters: three rules, which may become what later ones become; affixes, and roots with many of their forms
    in common.
    """
    harmony = "vowel letters ab -\n"
    for number, rule in enumerate("ABC"):
        inner = st.lists(st.sampled_from(["a", "b", "x", *(f"{{{name}}}" for name in "ABC"[number + 1 :])]), max_size=2)
        for looks, letters in draw(_rule_rows):
            harmony += f"{rule} {looks} {letters} {''.join(draw(inner)) or '-'}\n"
    affixes = "S case xs * s\nV case _v{A}v * vowel\n- noun - - -\n- name - - -\n"
    for number, form in enumerate(draw(st.lists(_affix_forms, min_size=1, max_size=4, unique=True))):
        kind, after = (
            draw(st.sampled_from(["case", "plural"])),
            draw(st.sampled_from(["*", "noun", "name,case", "other,noun"])),
        )
        affixes += f"X{number} {kind} {form} {after} {draw(st.sampled_from('--s'))}\n"
    roots = ""
    for text in draw(st.lists(_root_forms, min_size=1, max_size=6, unique=True)):
        case = draw(st.sampled_from([str, str, str.title]))
        forms = [f"{stem}={case(draw(_root_forms))}" for stem in draw(st.sets(st.sampled_from(["vowel", "s"])))]
        sounds = draw(st.sampled_from(["", "", "sounds=ba", "sounds=x3"]))
        kinds = draw(st.sampled_from(["noun", "name", "noun,name", "other"]))
        roots += f"{case(text)} {kinds} {' '.join([*sorted(forms), sounds]).strip() or '-'}\n"
    return language_of(harmony, affixes, roots)


@st.composite
def any_models(draw: st.DrawFn) -> tuple[MorphTokenizer, list[str]]:
    """Of any language, with random costs; and text of its forms and surfaces."""
    morphology = compile_language(draw(languages()))
    tokenizer = tokenizer_of(
        [b"ab", b" a", b"xc", b"  ", b"Ab"],
        random.Random(draw(st.integers(0, 99))),
        morphology=morphology,
        literal_cost=draw(st.sampled_from([0, 4, 2048])),
        segmentation=draw(st.sampled_from(["viterbi", "viterbi", "longest"])),
    )
    stems = st.sampled_from(["v", "va", "xb", *sorted({form for root in morphology.roots for form in root.forms})])
    suffixes = st.sampled_from(sorted({text for affix in morphology.affixes for text in affix.surfaces if text}))
    words = st.builds(
        lambda blank, case, stem, more: blank + case(stem + "".join(more)),
        st.sampled_from([" ", " ", " ", ""]), st.sampled_from([str, str, str, str.title, str.upper]), stems,
        st.lists(suffixes, max_size=4),
    )  # fmt: skip
    return tokenizer, draw(st.lists(words, min_size=1, max_size=30))

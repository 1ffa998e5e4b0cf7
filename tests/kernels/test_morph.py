"""Morphemes to ids and back, against the plain Python that tokenizer directories carry, and against all paths there are."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline import encoding
from pipeline.arrow import Rows
from pipeline.exports import tokenization_morph
from pipeline.exports.tokenization_morph import Model
from pipeline.kernels.morph import LONGEST_WORD, WINDOW, decode_ids, segment_words
from pipeline.morph import MARKERS, MorphTokenizer
from pipeline.pretokenizer import Pretokenizer
from tests import reference, strategies
from tests.languages import packs
from tests.languages.packs import tokenizer_of, usual

MODES = ["viterbi", "longest"]
MORE_EXAMPLES = settings(max_examples=3 * settings().max_examples)
FEWER_EXAMPLES = settings(max_examples=settings().max_examples // 2)


@functools.cache
def _splits(patterns: tuple[str, ...]) -> list[Any]:
    return Model({**json.loads(usual().to_json()), "pretokenizer": patterns}).splits


def twin(tokenizer: MorphTokenizer) -> Model:
    """Without what takes longer to make than all the rest: regexes, and GPT-2's alphabet for each piece."""
    root = json.loads(tokenizer.to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenization_morph, "to_chars", reference.spell)
        model = Model({**root, "pretokenizer": []})
    model.splits = _splits(tuple(root["pretokenizer"]))
    return model


@functools.cache
def twin_of_usual(segmentation: str = "viterbi", pretokenizer: str = "words") -> Model:
    return twin(usual(segmentation, pretokenizer))


def parts(tokenizer: MorphTokenizer, text: str) -> list[str]:
    """Of each id, what it is: ``kitap``, ``-PL``, a marker, or the piece in quotes."""
    return packs.names(tokenizer, text)


def segment(tokenizer: MorphTokenizer, words: Sequence[str], clitics: bool = True) -> list[list[int]]:
    """Each word by itself."""
    content = [word.encode() for word in words]
    stops = np.cumsum([len(word) for word in content], dtype=np.int64)
    text = np.frombuffer(b"".join(content) + bytes(64), dtype=np.uint8)
    ids, sizes = np.empty(int(stops[-1]) + 4, dtype=np.int32), np.empty(len(stops), dtype=np.int64)
    segment_words(text, 0, stops, tokenizer.tables, clitics, ids, sizes)
    return [ids[start:stop].tolist() for start, stop in itertools.pairwise([0, *sizes.tolist()])]


def check(tokenizer: MorphTokenizer, text: str, expected: list[int] | None = None) -> None:
    """The ids are those of the twin, they read as the text, and they are no more than its bytes."""
    ids = tokenizer.encode(text)
    assert ids == (twin(tokenizer).encode(text) if expected is None else expected)
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert len(ids) <= len(text.encode())


# --- encode -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segmentation", MODES)
@pytest.mark.parametrize("pretokenizer", ["words", "gpt4o", "none"])
@given(text=packs.text)
def test_ids_are_those_of_the_twin(segmentation: str, pretokenizer: str, text: str) -> None:
    check(usual(segmentation, pretokenizer), text, twin_of_usual(segmentation, pretokenizer).encode(text))


@MORE_EXAMPLES
@given(packs.tokenizers, packs.text)
def test_ids_are_those_of_the_twin_for_any_pieces_and_costs(tokenizer: MorphTokenizer, text: str) -> None:
    check(tokenizer, text)


@MORE_EXAMPLES
@given(packs.any_models())
def test_ids_are_those_of_the_twin_in_any_language(case: tuple[MorphTokenizer, list[str]]) -> None:
    """Whose roots have forms in common, and whose affixes may follow each other in many ways."""
    tokenizer, words = case
    model = twin(tokenizer)
    for text in (*words, "".join(words)):
        check(tokenizer, text, model.encode(text))


@pytest.mark.parametrize("segmentation", MODES)
@given(text=strategies.text)
def test_ids_of_any_text_are_those_of_the_twin(segmentation: str, text: str) -> None:
    check(usual(segmentation), text, twin_of_usual(segmentation).encode(text))


@given(packs.tokenizers, st.lists(packs.text, min_size=1, max_size=3), st.booleans())
def test_words_by_themselves_are_those_of_the_twin(tokenizer: MorphTokenizer, texts: list[str], clitics: bool) -> None:
    model = twin(tokenizer)
    words = [word for text in texts for word in model.words(text)] or [" de"]
    assert segment(tokenizer, words, clitics) == [model.encode_word(word, clitics) for word in words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" kitaplar", ["kitap", "-PL"]),
        (" kitabı", ["kitap", "-POSS"]),
        ("Kitabı", ["<|upper_join|>", "kitap", "-POSS"]),
        (" KİTABI", ["<|caps|>", "kitap", "-POSS"]),
        ("KİTABI", ["<|caps_join|>", "kitap", "-POSS"]),
        (" Kitapta", ["<|upper|>", "kitap", "-LOC"]),
        ("evlerde", ["<|join|>", "evler", "-LOC"]),
        (" evide", ["ev", "-LOC"]),  # it has a form of its own there
        (" rengini", ["renk", "-POSS", "'n'", "-POSS"]),  # (n) is there before DAT alone
        (" odasına", ["oda", "-POSS", "-DAT"]),  # (n) hears what is asked of it
        (" saatte", ["saat", "-LOC"]),  # as if it were saet
        (" soyı", ["so", "-POSS"]),
        (" Ahmedi", ["Ahmet", "-POSS"]),
        (" Ali'de", ["Ali", "-APOS", "-LOC"]),
        (" ALİ'DE", ["<|caps|>", "Ali", "-APOS", "-LOC"]),
        (" deniz Deniz", ["deniz", "Deniz"]),
        (" Denizdi", ["<|upper|>", "deniz", "-PAST"]),  # it does not follow names
        (" ağzda", ["ağz", "-LOC"]),  # ağız has the same form, but not here
        (" sagı", ["sek", "-POSS"]),  # sog has it too, and what asks for it is the same, but it sounds otherwise
        (" sagi", ["sog", "-POSS"]),
        (" begine", ["bek", "-POSS", "-DAT"]),  # begi has it too, but what asks for it is another affix
        (" Işığı", ["Işık", "-POSS"]),
        (" gitmek", ["git", "-INF"]),
        (" gid", ["'Ġ'", "'g'", "'i'", "'d'"]),  # gid needs an affix that starts with a vowel
        (" gidmek", ["'Ġ'", "'g'", "'i'", "'d'", "'m'", "-DAT", "'k'"]),
        (" gidler", ["'Ġ'", "'g'", "'i'", "'d'", "-PL"]),
        ("o", ["'o'"]),  # a marker and a root would be two ids for a byte
        (" O", ["<|upper|>", "o"]),
        (" 中文", ["中文"]),
        ("中文", ["<|join|>", "中文"]),
        (" STRASSE Straße", ["'Ġ'", *(f"'{c}'" for c in "STRASSE"), "<|upper|>", "straße"]),
        (" ağızağız", ["ağız", "'a'", "'ÄŁ'", "-POSS", "'z'"]),  # roots only at the beginning
    ],
)  # fmt: skip
def test_words_of_every_kind(text: str, expected: list[str]) -> None:
    """Roots that do not stand at the beginning, and forms without the affix that they need, are left to pieces."""
    tokenizer = tokenizer_of(["ğ".encode(), "ı".encode()])
    assert parts(tokenizer, text) == expected


# --- the cheapest path ------------------------------------------------------------------------------------------------

CONTEXTS = ["", " kitap", " kitaplar", " ev", " evler", " saat", " so", " o", " zz", " ağız", "e ", "r"]
"""Text that leaves every state that an affix may hear."""


def _readings(tokenizer: MorphTokenizer) -> dict[int, set[bytes]]:
    """All that each root, affix and literal piece may read as, with its marker left out."""
    morphology, starts = tokenizer.morphology, tokenizer.tables_starts.tolist()
    upper = {lower: large for lower, large, _ in morphology.letters if large}
    found: dict[int, set[str]] = {}
    for number, affix in enumerate(morphology.affixes):
        if not affix.is_clitic:
            found[starts[1] + number] = set(affix.surfaces)
    for number, root in enumerate(morphology.roots):
        found[starts[3] + number] = set(root.forms)
    cased = {token: {"".join(upper.get(c, c) for c in text) for text in texts} for token, texts in found.items()}
    first = {token: {upper.get(text[0], text[0]) + text[1:] for text in texts if text} for token, texts in found.items()}
    readings = {token: {t.encode() for t in found[token] | cased[token] | first[token] if t} for token in found}
    return readings | {starts[4] + number: {piece} for number, piece in enumerate(tokenizer._literals)}


def _all_paths(tokenizer: MorphTokenizer, word: bytes) -> Iterator[list[int]]:
    """All id sequences that may read as the word: literal pieces, or a root first and affixes and pieces behind it."""
    starts = tokenizer.tables_starts.tolist()
    readings = _readings(tokenizer)
    marked = {b"": (0, 2, 4), b" ": (None, 1, 3)}  # by the blank before a root, in the order in which they are tried

    def extend(path: list[int], rest: bytes) -> Iterator[list[int]]:
        if not rest:
            yield path
        for token, texts in readings.items():
            if starts[3] <= token < starts[4] and path:
                continue
            for text in texts:
                if rest.startswith(text):
                    yield from extend([*path, token], rest[len(text) :])

    blank = b" " if word.startswith(b" ") else b""
    for path in extend([], word):
        if not starts[3] <= path[0] < starts[4]:
            yield path
    for path in extend([], word.removeprefix(b" ")) if word != b" " else ():
        if starts[3] <= path[0] < starts[4]:
            for marker in marked[blank]:
                yield path if marker is None else [starts[0] + marker, *path]


def _is_admissible(tokenizer: MorphTokenizer, path: list[int], word: bytes) -> bool:
    """It reads as the word whatever stands before it, by the plainest marker, with affixes behind classes they follow."""
    starts = tokenizer.tables_starts.tolist()
    morphology = tokenizer.morphology
    kinds = 1
    for at, token in enumerate(path):
        if token >= starts[4]:
            kinds = 1
        elif token >= starts[3]:
            kinds = morphology.roots[token - starts[3]].kinds
        elif token >= starts[1]:
            affix = morphology.affixes[token - starts[1]]
            if at == 0 or not affix.after & kinds:
                return False
            kinds = 1 << affix.kind
    for context in CONTEXTS:
        before = tokenizer.encode(context) if context else []
        if tokenizer.decode_bytes([*before, *path]) != context.encode() + word:
            return False
    root = path[:2] if path[0] < starts[1] else path[:1]
    if len(root) == 2:
        asked = path[:3]  # the form of the root is that before the next id
        text = tokenizer.decode_parts(asked)[1]
        marker = root[0] - starts[0]
        others = {1: [[]], 2: [[0]], 3: [[], [1]], 4: [[0], [2]]}.get(marker, [])
        if any(tokenizer.decode_parts([*(starts[0] + m for m in o), *asked[1:]])[len(o)] == text for o in others):
            return False
        if len(text) < 2:  # more ids than bytes
            return False
    return True


def _cost(tokenizer: MorphTokenizer, path: list[int]) -> int:
    first = int(tokenizer.tables_starts[4])
    goes_over = sum(token >= first and (at == 0 or path[at - 1] < first) for at, token in enumerate(path))
    return sum(tokenizer.costs[token] for token in path) + goes_over * tokenizer.literal_cost


@MORE_EXAMPLES
@given(packs.pieces, packs.short_words, st.sampled_from([0, 1, 7]), st.integers(0, 2**16))
def test_no_path_is_cheaper(pieces: tuple[bytes, ...], word: str, literal_cost: int, seed: int) -> None:
    """Of all sequences of ids that read as a word, wherever it stands."""
    tokenizer = tokenizer_of(pieces, random.Random(seed), literal_cost=literal_cost)
    (ids,) = segment(tokenizer, [word], clitics=False)
    paths = list(_all_paths(tokenizer, word.encode()))
    assert ids in paths
    assert _is_admissible(tokenizer, ids, word.encode())
    cheaper = [path for path in paths if _cost(tokenizer, path) < _cost(tokenizer, ids)]
    assert not [path for path in cheaper if _is_admissible(tokenizer, path, word.encode())]


# --- clitics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segmentation", MODES)
@pytest.mark.parametrize(
    ("text", "is_clitic"),
    [
        (" mı", False),  # nothing stands before it
        ("mı", False),
        (" oda mı", True),
        (" ev mi", True),
        (" ev mı", False),
        (" saat mi", True),  # as affixes do, they hear saet
        (" saat mı", False),
        (" oda Mı", False),
        (" oda MI", False),
        (" ODA mı", True),
        (" oda  mı", True),
        (" oda\nmı", False),
        (" oda. mı", True),
        (" oda zz mı", True),  # no vowel since
        (" zz mı", False),
        (" oda mı mı mı", True),
        (" oda mıdı", True),  # with an affix
        (" oda mığ", True),  # with a piece
        (" mı oda mı", True),
    ],
)
def test_clitics_hear_what_stands_before_them(segmentation: Any, text: str, is_clitic: bool) -> None:
    tokenizer = usual(segmentation)
    assert ("-MI" in parts(tokenizer, text)) is is_clitic
    check(tokenizer, text)


@pytest.mark.parametrize("gap", range(WINDOW + 3))
def test_clitics_hear_no_farther_than_the_window(gap: int) -> None:
    """``oda``, some ids without a vowel, and a clitic."""
    tokenizer = tokenizer_of([])
    text = " oda" + "1" * gap + " da"
    assert len(tokenizer.encode(text)) == 1 + gap + (1 if gap < WINDOW else 3)
    assert ("-DA" in parts(tokenizer, text)) == (gap < WINDOW)
    check(tokenizer, text)


def test_documents_do_not_hear_each_other() -> None:
    texts = [" oda", " da", "", " da", " ev", " de", " ev de"]
    tokenizer = usual()
    assert tokenizer.encode_batch(texts).to_pylist() == [usual().encode(text) for text in texts]
    assert ["-DA" in parts(tokenizer, text) for text in texts] == [False] * 6 + [True]


class InChunks(Pretokenizer):
    """The same words, a few at a time."""

    def iter_words(self, rows: Rows) -> Iterator[tuple[int, NDArray[np.int64]]]:
        for start, stops in super().iter_words(rows):
            for first in range(0, len(stops), self.num_words):
                yield (int(stops[first - 1]) if first else start), stops[first : first + self.num_words]

    num_words = 1


class InChunksOf3(InChunks):
    num_words = 3


@pytest.mark.parametrize("segmentation", MODES)
@given(st.lists(packs.text, max_size=5), st.sampled_from([1, 8, 64]), st.sampled_from([InChunks, InChunksOf3]))
def test_how_text_is_cut_into_batches_does_not_matter(
    segmentation: str, texts: list[str], encode_bytes: int, pretokenizer: type[InChunks]
) -> None:
    """Clitics at the beginning of a chunk hear the ids of the chunks before."""
    texts = [*texts, *(text + " mı" + text for text in texts), " oda mı" * 3, "", " mı"]
    tokenizer, model = usual(segmentation), twin_of_usual(segmentation)
    in_chunks = dataclasses.replace(tokenizer, pretokenizer=pretokenizer(tokenizer.pretokenizer.patterns))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "ENCODE_BYTES", encode_bytes)
        found = in_chunks.encode_batch(texts).to_pylist()
    assert found == [model.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts).to_pylist() == found


def test_clitics_at_the_borders_of_chunks() -> None:
    """Of the splitter's own, which are 16 kB long at least."""
    texts = [" " * shift + " oda mı zzğ mı ev mi" * 1_000 for shift in range(0, 28, 7)]
    expected = [usual().encode(text) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.pretokenizer.WORDS_AT_ONCE", 1)
        found = usual().encode_batch(texts)
    assert found.to_pylist() == expected
    clitic = usual().id_of("-MI")
    assert [ids.count(clitic) for ids in expected] == [3_000] * len(texts)


@given(st.lists(packs.text, max_size=6), st.sampled_from([2, 4, 64]), st.sampled_from([256, 700]), st.integers(0, 2))
def test_a_small_cache_does_not_change_a_result(texts: list[str], entries: int, room: int, seed: int) -> None:
    texts = texts + texts[::-1]
    tokenizer = tokenizer_of(packs.PIECES, random.Random(seed))
    expected = tokenizer.encode_batch(texts).to_pylist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "FIRST_CACHE_ENTRIES", 2)
        patch.setattr(encoding, "CACHE_ENTRIES", entries)
        patch.setattr(encoding, "CACHE_BYTES", room)
        patch.setattr(encoding, "CACHE_IDS", room)
        small = tokenizer_of(packs.PIECES, random.Random(seed))
        assert small.encode_batch(texts).to_pylist() == expected
        assert small.encode_batch(texts).to_pylist() == expected


# --- long words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segmentation", MODES)
@pytest.mark.parametrize("shift", range(5))
@pytest.mark.parametrize("filler", ["ı", "中", "😀", "kitaplar", " da", "z", "  "])
def test_long_words_are_cut_between_characters(segmentation: str, shift: int, filler: str) -> None:
    tokenizer = usual(segmentation, "none")
    text = " kitap" + "z" * shift + filler * (2 * LONGEST_WORD // len(filler.encode()) + 9) + " ev"
    ids = tokenizer.encode(text)
    assert ids == twin_of_usual(segmentation, "none").encode(text)
    assert tokenizer.decode(ids) == text


@FEWER_EXAMPLES
@given(packs.tokenizers, packs.text.filter(bool), st.integers(0, 40))
def test_words_around_the_limit(tokenizer: MorphTokenizer, text: str, less: int) -> None:
    word = (text * LONGEST_WORD)[: LONGEST_WORD - less] + text
    for may_be_clitic in (True, False):
        (ids,) = segment(tokenizer, [word], may_be_clitic)
        assert ids == twin(tokenizer).encode_word(word, may_be_clitic)
    assert tokenizer.decode(ids) == word


def test_more_nodes_than_there_is_room_for_at_first() -> None:
    """Many affixes of a letter or two, each a class of its own, which follow themselves."""
    affixes = "".join(f"k{n} k{n} {'a' * (1 + n % 2)} verb,k{n} -\n" for n in range(24))
    morphology = packs.morphology_of("vowel letters aeıi -\n", affixes + packs.ROOT_CLASSES, "b verb -\n")
    tokenizer = tokenizer_of([], morphology=morphology, literal_cost=99_999)
    text = " b" + "a" * 400
    assert len(tokenizer.encode(text)) == 201
    assert tokenizer.decode(tokenizer.encode(text)) == text


# --- decode -----------------------------------------------------------------------------------------------------------


def read(tokenizer: MorphTokenizer, ids: Sequence[int]) -> tuple[bytes, int]:
    """The bytes, and the state in the end."""
    text = np.empty(len(ids) * tokenizer.tables.longest + 8, dtype=np.uint8)
    stops = np.zeros(len(ids), dtype=np.int64)
    state = decode_ids(np.array(ids, dtype=np.int32), tokenizer.tables, text, stops)
    return text[: stops[-1] if len(ids) else 0].tobytes(), int(state)


def _any_ids() -> st.SearchStrategy[list[int]]:
    starts = usual().tables_starts.tolist()
    kinds = [st.integers(start, stop - 1) for start, stop in itertools.pairwise([0, *starts])]
    bytes_of_letters = st.sampled_from([starts[4] + byte for byte in "ıığİıöZa1 ".encode()])
    bytes_of_none = st.sampled_from([starts[4] + byte for byte in b"\xc1\xe0\xf0\xf8\xff\x80\x81\xa1\xb1"])
    return st.lists(st.one_of(*kinds, bytes_of_letters, bytes_of_none), max_size=14)


any_ids = _any_ids()


@MORE_EXAMPLES
@given(any_ids)
def test_any_ids_read_as_by_the_twin(ids: list[int]) -> None:
    """Markers before anything, affixes first, special tokens, characters cut off or never begun."""
    tokenizer = usual()
    assert read(tokenizer, ids) == twin_of_usual().read(ids)
    assert tokenizer.decode_bytes(ids) == twin_of_usual().read(ids)[0]


@pytest.mark.parametrize(
    "content", [b"\xc4\x31", b"\xc1\xa1", b"\xf8\x80\x81\xa1", b"\xe0\x81\xa1", b"\xc4a", b"\xc4\xb1\xb1"]
)
def test_what_is_no_character_is_heard_as_by_the_twin(content: bytes) -> None:
    """The first byte of ``ı`` before a ``1`` has the bits of an ``ı``; an ``a`` may be written with too many bytes."""
    tokenizer = usual()
    literal = int(tokenizer.tables_starts[4])
    ids = [literal + byte for byte in b"e" + content] + [tokenizer.id_of("-PL")]
    assert read(tokenizer, ids) == twin_of_usual().read(ids)


@given(any_ids)
def test_every_id_has_its_share_of_the_bytes(ids: list[int]) -> None:
    tokenizer = usual()
    found = tokenizer.decode_parts(ids)
    assert len(found) == len(ids)
    assert b"".join(found) == tokenizer.decode_bytes(ids)
    markers = range(tokenizer.id_of(MARKERS[0]), tokenizer.id_of(MARKERS[-1]) + 1)
    assert all(part == b"" for token, part in zip(ids, found, strict=True) if token in markers)


@given(packs.text, packs.text)
def test_what_stands_before_a_word_does_not_change_how_it_reads(before: str, text: str) -> None:
    """But of clitics; so any ids before the ids of a word leave it as it is."""
    tokenizer = usual()
    words = twin_of_usual().words(text)
    for word, ids in zip(words, segment(tokenizer, words, clitics=False) if words else [], strict=True):
        context = tokenizer.encode(before)
        assert tokenizer.decode_bytes([*context, *ids]) == (before + word).encode()


@given(packs.text, st.integers(0, 99))
def test_the_end_of_the_ids_leaves_a_state_that_is_certain(text: str, cut: int) -> None:
    """Of the last ids of a text, the state is that of the whole text, or one that knows less: clitics read the same."""
    tokenizer = usual()
    ids = tokenizer.encode(text)
    whole, part = read(tokenizer, ids)[1], read(tokenizer, ids[cut % (len(ids) + 1) :])[1]
    for affix in tokenizer.morphology.affixes:
        if affix.surface[part][0] >= 0:
            assert affix.surface[whole][0] == affix.surface[part][0]

"""The published Turkish tokenizer, ours beside the package: the same ids, the same text back, the same mistakes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import turkish_tokenizer as package
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import turkish_tokenizer
from pipeline.errors import ArtifactError
from pipeline.turkish_tokenizer import TurkishTokenizer02
from tests import strategies
from tests.parity.conftest import CORPORA, _take, _texts

FOLDER = Path(package.__file__).parent
THEIRS = package.TurkishTokenizer()
OURS = TurkishTokenizer02.from_folder(FOLDER)
MORE_EXAMPLES = settings(max_examples=10 * settings().max_examples)
NO_ID = 40_000


def answer(decode: Callable[[list[int]], str], ids: list[int]) -> str | type[Exception]:
    try:
        return decode(ids)
    except KeyError as error:
        return type(error)


def check_text(text: str) -> None:
    ids = THEIRS.encode(text)
    assert OURS.encode(text) == ids
    assert OURS.decode(ids) == THEIRS.decode(ids)


def check_ids(ids: list[int]) -> None:
    assert answer(OURS.decode, ids) == answer(THEIRS.decode, ids), ids


# --- the same as the package ---

ORACLES = {
    "kitaplarımızdan": [227, 20000, 20013, 20014, 20025],
    "gözlüğümün": [460, 20013, 20021],
    "İstanbul'da": [0, 3286, 31881, 20024],
    "Kitabı bana ver": [0, 227, 20034, 2, 2829, 20037, 2, 2554],
    "🙂": [1],
    "a  b\tc\nd": [20037, 2, 2, 32276, 4, 31951, 3, 32266],
    "": [],
    " ": [2],
}


@pytest.mark.parametrize(("text", "ids"), ORACLES.items())
def test_ids_are_those_written_down(text: str, ids: list[int]) -> None:
    assert THEIRS.encode(text) == ids
    assert OURS.encode(text) == ids


def test_as_many_ids() -> None:
    assert OURS.vocab_size == THEIRS.vocab_size == 32_768


@pytest.mark.parametrize("path", sorted((CORPORA / "turkish").glob("tr_*")), ids=lambda path: path.name.split(".")[0])
def test_real_text(path: Path) -> None:
    for text in _take(_texts(path), 40_000):
        check_text(text)


turkish_text = st.lists(
    st.one_of(
        st.text("abcçdefgğhıijklmnoöprsştuüvyzâîûABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZ'.,0 \n\t", max_size=8),
        st.sampled_from(sorted(THEIRS.vocab)).flatmap(lambda text: st.sampled_from([text, text.capitalize(), text.upper()])),
        st.sampled_from([" ", " ", " ", "\n", "\t"]),
    ),
    max_size=12,
).map("".join)


@MORE_EXAMPLES
@given(text=st.one_of(turkish_text, strategies.text))
def test_any_text(text: str) -> None:
    check_text(text)


@pytest.mark.parametrize(
    "text", ["ΑΣ ΣΑΣ", "ǅ", "𝐀b", "Ⓐ", "ẞẞ", "ﬁ", "\u0130\u0307", "i\u0307", "\ud800", " \n\t \x1c \u3000a"]
)
def test_capitals_and_blanks_as_python_has_them(text: str) -> None:
    check_text(text)


FORMS = {token_id: forms for token_id, forms in THEIRS.reverse_dict.items() if len(forms) > 1}
BEFORE = ["", "a", "bâ", "kı", "ev", "e", "saç", "git", "dolu", "kol", "top", "gör", "üç", "kürk", "sch", "E", "ev 5 ", "5"]
BEFORE += ["saat", "Saat", "kilovatsaat", "ziraat", "itaat", "istikbal", "<unknown>"]
AFTER = [[], [0], [0, 20034], [1], [2], [3], [4], [227], [2573], [20034], [20038], [20041], [32266], [NO_ID]]


@pytest.mark.parametrize("after", AFTER, ids=str)
def test_every_form_of_every_root(after: list[int]) -> None:
    for token_id in FORMS:
        check_ids([token_id, *after])


@pytest.mark.parametrize("after", AFTER, ids=str)
def test_every_form_of_every_suffix(after: list[int]) -> None:
    suffixes = [token_id for token_id in FORMS if token_id >= 20_000]
    assert len(suffixes) == 33
    for before in map(THEIRS.encode, BEFORE):
        for token_id in suffixes:
            check_ids([*before, token_id, *after])


some_id = st.one_of(
    st.sampled_from(range(7)),
    st.sampled_from(sorted(FORMS)),
    st.sampled_from(range(20_000, 20_072)),
    st.integers(0, 32_767),
    st.sampled_from([-1, 32_768, NO_ID]),
)


@MORE_EXAMPLES
@given(ids=st.lists(some_id, max_size=12))
def test_any_ids(ids: list[int]) -> None:
    check_ids(ids)


# --- what the package loses ---

LOST = {
    "a free word is taken for a suffix": ("bu en iyi", "bu an iyi"),
    "at the beginning it is given ü": ("su", "sü"),
    "a clitic is hardened": ("kitap da", "kitap ta"),
    "a suffix after a number follows the word before that": ("kitap 6'da", "kitap 6'ta"),
    "a word is taken for the narrowed form of a verb": ("adı soyadı", "ada soyadı"),
    "a narrowed verb comes back wide": ("istiyorum", "isteyorum"),
    "a root is softened": ("gereken", "gereğen"),
    "a vowel is dropped": ("alınır", "alnır"),
    "a vowel is put in": ("resmî", "resimî"),
    "a capitalized root is never softened": ("Kitabı", "Kitapı"),
    "a capitalized exception is none": ("saatler Saatler", "saatler Saatlar"),
    "a capital is no vowel": ("Evler", "Evlar"),
    "İ is I": ("İzmir", "Izmir"),
    "ẞ is Ss": ("ẞ", "Ss"),
    "the back form stands at the end: lık": ("beraberlik", "beraberlık"),
    "the back form stands at the end: cık": ("minicik", "minicık"),
    "the back form stands at the end: mak": ("gelmek", "gelmak"),
    "a line break between blanks is lost": ("a \n b", "a  b"),
    "a carriage return is unknown": ("a\r\nb", "a▁u▁\nb"),
    "a combining mark is unknown": ("e\u0301", "e▁u▁"),
    "an emoji is unknown": ("iyi 🙂", "iyi ▁u▁"),
    "an unknown capital is a marker": ("Ⅷ", "<unknown>"),
    "a marker in the text is obeyed": ("<uppercase>ev", "Ev"),
}


@pytest.mark.parametrize(("text", "back"), LOST.values(), ids=LOST)
def test_what_is_lost(text: str, back: str) -> None:
    assert THEIRS.decode(THEIRS.encode(text)) == back
    assert OURS.decode(OURS.encode(text)) == back


@pytest.mark.parametrize("end", [" ", "."])
@pytest.mark.parametrize("text", ["beraberlik", "minicik", "gelmek"])
def test_back_forms_stand_at_the_very_end_alone(text: str, end: str) -> None:
    assert OURS.decode(OURS.encode(text + end)) == text + end


def test_the_worked_example() -> None:
    ids = OURS.encode("Kitaplardan kitabı")
    assert ids == [0, 227, 20000, 20025, 2, 227, 20034]
    assert OURS.texts_of(ids) == ["", "Kitap", "lar", "dan", " ", "kitab", "ı"]


# --- our own side ---


@given(text=turkish_text)
def test_texts_are_one_for_each_id(text: str) -> None:
    ids = OURS.encode(text)
    texts = OURS.texts_of(iter(ids))
    assert len(texts) == len(ids)
    assert "".join(texts) == OURS.decode(iter(ids))
    assert all(bool(part) or token_id == 0 for part, token_id in zip(texts, ids, strict=True))


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turkish_tokenizer, "CACHE_WORDS", 3)
    ours = TurkishTokenizer02.from_folder(FOLDER)
    long = "uzun" * 20
    text = f"bir iki üç bir dört {long} iki bir"
    for _ in range(3):
        assert ours.encode(text) == THEIRS.encode(text)
        assert 0 < len(ours._cache) <= 3
        assert long not in ours._cache


def test_it_survives_the_way_between_processes() -> None:
    other = pickle.loads(pickle.dumps(OURS))
    ids = other.encode("Kitaplardan kitabı")
    assert ids == OURS.encode("Kitaplardan kitabı")
    assert other.decode(ids) == "Kitaplardan kitabı"


TABLES: dict[str, Any] = {
    "kokler.json": {"<uppercase>": 0, "<unknown>": 1, " ": 2, "ev": 2315},
    "ekler.json": {"lar": 20000, "ler": 20000},
    "bpe_tokenler.json": {"k": 20256},
}


def write(folder: Path, tables: dict[str, Any]) -> Path:
    for name, table in tables.items():
        (folder / name).write_text(table if isinstance(table, str) else json.dumps(table), encoding="utf-8")
    return folder


def test_other_dictionaries_of_this_layout(tmp_path: Path) -> None:
    small = TurkishTokenizer02.from_folder(write(tmp_path, TABLES))
    assert small.vocab_size == 6
    assert small.encode("evler kx") == [2315, 20000, 2, 20256, 1]
    assert small.decode([2315, 20000, 2, 20256, 1]) == "evler k▁u▁"


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, TABLES)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: cannot be read .No such file"):
        TurkishTokenizer02.from_folder(tmp_path)


DAMAGED = {
    "cut off": ("kokler.json", '{"ev": 23', "is no JSON"),
    "no object": ("ekler.json", [1, 2], "must hold one object"),
    "no ids": ("bpe_tokenler.json", {"k": "20256"}, "must hold one object"),
    "true is no id": ("bpe_tokenler.json", {"k": True}, "must hold one object"),
    "no marker": ("kokler.json", {"<uppercase>": 0, " ": 2}, "'<unknown>' has the id None, the rules need 1"),
    "other marker": (
        "kokler.json",
        {"<uppercase>": 9, "<unknown>": 1, " ": 2},
        "'<uppercase>' has the id 9, the rules need 0",
    ),
    "a form is lacking": ("ekler.json", {"la": 20023, "le": 20023}, "20023 has the forms la, le, its rule picks one of 4"),
}


@pytest.mark.parametrize(("name", "table", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, table: Any, message: str) -> None:
    write(tmp_path, TABLES | {name: table})
    with pytest.raises(ArtifactError, match=f"{name}: .*{message}"):
        TurkishTokenizer02.from_folder(tmp_path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (write(tmp_path, TABLES) / "ekler.json").write_bytes(b'{"\xff": 20000}')
    with pytest.raises(ArtifactError, match=r"ekler\.json: is no JSON"):
        TurkishTokenizer02.from_folder(tmp_path)

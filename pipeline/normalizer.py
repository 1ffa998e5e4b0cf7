"""Normalize text exactly as the exported tokenizer.json does: with the normalizers of ``tokenizers`` themselves.

ASCII rows, most of most corpora, need no normalization form and are lowered by Arrow.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ArtifactError

_CLASSES = {
    "nfc": ("NFC",),
    "nfkc": ("NFKC",),
    "nfd": ("NFD",),
    "nfkd": ("NFKD",),
    "lowercase": ("Lowercase",),
    "nfc_lowercase": ("NFC", "Lowercase"),
    "nfkc_lowercase": ("NFKC", "Lowercase"),
}

NORMALIZERS = ("none", *_CLASSES)

UNCASED = {
    "none": "lowercase", "lowercase": "lowercase", "nfc": "nfc_lowercase", "nfc_lowercase": "nfc_lowercase",
    "nfkc": "nfkc_lowercase", "nfkc_lowercase": "nfkc_lowercase",
}  # fmt: skip
"""The same normalizer, and no capitals."""

PIECE_CHARS = 1 << 20
"""Longer texts are normalized in pieces: the normalizers keep about 16 bytes of alignment for each byte."""


@functools.cache
def _outside(name: str) -> Any:
    from tokenizers import normalizers

    parts = [getattr(normalizers, class_name)() for class_name in _CLASSES[name]]
    return parts[0] if len(parts) == 1 else normalizers.Sequence(parts)


def to_tokenizers(name: str) -> Any:
    """The normalizer as a ``tokenizers`` object; None for ``none``."""
    return None if name == "none" else _outside(name)


def from_json(node: dict[str, Any] | None) -> str:
    """The name of the ``normalizer`` of a tokenizer.json; a sequence of one is that one, and an empty one is none.

    Raises
    ------
    ArtifactError
        It is none of ``NORMALIZERS``.
    """
    found = tuple(_class_names(node))
    for name, class_names in (("none", ()), *_CLASSES.items()):
        if found == class_names:
            return name
    raise ArtifactError(f"its normalizer {' + '.join(map(str, found))} is none of {', '.join(NORMALIZERS)}")


def _class_names(node: dict[str, Any] | None) -> Iterator[str]:
    """What is done, in order."""
    if node is not None and node.get("type") == "Sequence":
        for part in node["normalizers"]:
            yield from _class_names(part)
    elif node is not None:
        yield node["type"]


def _lowers(name: str) -> bool:
    return name != "none" and "Lowercase" in _CLASSES[name]


def _pieces(text: str) -> list[str]:
    """Pieces of about ``PIECE_CHARS``, cut before an ASCII character: none of those changes with what stands before it."""
    pieces, start = [], 0
    while len(text) - start > PIECE_CHARS:
        cut = re.compile(r"[\x00-\x7f]").search(text, start + PIECE_CHARS)
        if cut is None:
            break
        pieces.append(text[start : cut.start()])
        start = cut.start()
    return [*pieces, text[start:]]


def normalize_text(text: str, name: str) -> str:
    """One text, normalized. ``name`` is one of ``NORMALIZERS``."""
    if name == "none" or (text.isascii() and not _lowers(name)):
        return text
    normalizer = _outside(name)
    return "".join(normalizer.normalize_str(piece) for piece in _pieces(text))


def normalize(texts: pa.LargeStringArray, name: str) -> pa.LargeStringArray:
    """Every text, normalized; one row out for each row in."""
    if name == "none" or len(texts) == 0:
        return texts
    is_ascii = pc.string_is_ascii(texts)
    if pc.all(is_ascii).as_py():
        return pc.ascii_lower(texts) if _lowers(name) else texts
    others = texts.filter(pc.invert(is_ascii))
    changed = pa.array([normalize_text(text, name) for text in others.to_pylist()], type=pa.large_string())
    plain = pc.ascii_lower(texts) if _lowers(name) else texts
    return pc.replace_with_mask(plain, pc.invert(is_ascii), changed)

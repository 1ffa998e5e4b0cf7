"""Normalize text exactly as the exported tokenizer.json does: with the normalizers of ``tokenizers`` themselves.

ASCII rows, most of most corpora, need no normalization form and are lowered by Arrow.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ArtifactError

_CLASSES = {"nfc": "NFC", "nfkc": "NFKC", "nfd": "NFD", "nfkd": "NFKD", "lowercase": "Lowercase"}

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

    return getattr(normalizers, _CLASSES[name])()


def to_tokenizers(name: str) -> Any:
    """The normalizer as a ``tokenizers`` object; None for ``none``."""
    return None if name == "none" else _outside(name)


def from_json(node: dict[str, Any] | None) -> str:
    """The name of the ``normalizer`` of a tokenizer.json.

    Raises
    ------
    ArtifactError
        It is none of ``NORMALIZERS``.
    """
    if node is None:
        return "none"
    for name, class_name in _CLASSES.items():
        if node.get("type") == class_name:
            return name
    raise ArtifactError(f"its normalizer {node.get('type')} is none of {', '.join(NORMALIZERS)}")


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
    if name == "none" or (text.isascii() and name != "lowercase"):
        return text
    normalizer = _outside(name)
    return "".join(normalizer.normalize_str(piece) for piece in _pieces(text))


def normalize(texts: pa.LargeStringArray, name: str) -> pa.LargeStringArray:
    """Every text, normalized; one row out for each row in."""
    if name == "none" or len(texts) == 0:
        return texts
    is_ascii = pc.string_is_ascii(texts)
    if pc.all(is_ascii).as_py():
        return pc.ascii_lower(texts) if name == "lowercase" else texts
    others = texts.filter(pc.invert(is_ascii))
    changed = pa.array([normalize_text(text, name) for text in others.to_pylist()], type=pa.large_string())
    plain = pc.ascii_lower(texts) if name == "lowercase" else texts
    return pc.replace_with_mask(plain, pc.invert(is_ascii), changed)

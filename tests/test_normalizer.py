"""Normalizers give what those of `tokenizers` give, row by row and piece by piece."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers

from pipeline import normalizer
from pipeline.errors import ArtifactError
from pipeline.normalizer import NORMALIZERS, from_json, normalize, normalize_text, to_tokenizers
from tests import strategies

OUTSIDE: dict[str, Any] = {
    "none": None,
    "nfc": normalizers.NFC(),
    "nfkc": normalizers.NFKC(),
    "nfd": normalizers.NFD(),
    "nfkd": normalizers.NFKD(),
    "lowercase": normalizers.Lowercase(),
    "nfc_lowercase": normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]),
    "nfkc_lowercase": normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
}

every_name = pytest.mark.parametrize("name", NORMALIZERS)


def expected(text: str, name: str) -> str:
    return text if name == "none" else OUTSIDE[name].normalize_str(text)


combining_text = st.text("aeA\u0301\u0327\u0323\u0345ﬁÅΣσςİſ가\u1100\u1161\u11a8\u0958a\n", max_size=40)


def test_every_name_is_tested() -> None:
    assert set(OUTSIDE) == set(NORMALIZERS)


@every_name
@given(text=strategies.text)
def test_a_text_is_normalized_as_by_tokenizers(name: str, text: str) -> None:
    assert normalize_text(text, name) == expected(text, name)


@every_name
@given(texts=st.lists(st.one_of(strategies.text, combining_text), max_size=8))
def test_rows_are_normalized_as_by_tokenizers(name: str, texts: list[str]) -> None:
    rows = normalize(pa.array(texts, type=pa.large_string()), name)
    assert rows.type == pa.large_string()
    assert rows.to_pylist() == [expected(text, name) for text in texts]


@every_name
@given(texts=st.lists(strategies.text, min_size=2, max_size=8))
def test_slices_are_normalized(name: str, texts: list[str]) -> None:
    rows = normalize(pa.array(texts, type=pa.large_string()).slice(1), name)
    assert rows.to_pylist() == [expected(text, name) for text in texts[1:]]


@every_name
@pytest.mark.parametrize("piece_chars", [1, 3])
@given(text=st.one_of(strategies.text, combining_text))
def test_the_size_of_a_piece_does_not_matter(name: str, piece_chars: int, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalizer, "PIECE_CHARS", piece_chars)
        assert normalize_text(text, name) == expected(text, name)


def test_pieces_are_cut_before_ascii_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalizer, "PIECE_CHARS", 2)
    assert normalizer._pieces("aaaé\u0301\u0301b\u0301c") == ["aa", "aé\u0301\u0301", "b\u0301", "c"]
    assert normalizer._pieces("ééééé") == ["ééééé"]


@every_name
def test_the_file_format_gives_back_the_name(name: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    if name != "none":
        tokenizer.normalizer = to_tokenizers(name)
    assert from_json(json.loads(tokenizer.to_str())["normalizer"]) == name


def test_nothing_stands_for_none() -> None:
    assert to_tokenizers("none") is None


def test_another_normalizer_is_refused() -> None:
    with pytest.raises(ArtifactError, match="normalizer Strip is none of none, nfc"):
        from_json({"type": "Strip", "strip_left": True, "strip_right": True})


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ([], "none"),
        ([normalizers.NFKC()], "nfkc"),
        ([normalizers.Sequence([normalizers.NFC()]), normalizers.Lowercase()], "nfc_lowercase"),
    ],
)
def test_a_sequence_is_what_it_does(parts: list[Any], name: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(parts)
    assert from_json(json.loads(tokenizer.to_str())["normalizer"]) == name


@pytest.mark.parametrize("parts", [["NFD", "Lowercase"], ["Lowercase", "NFC"], ["NFC", "Strip"]])
def test_another_sequence_is_refused(parts: list[str]) -> None:
    with pytest.raises(ArtifactError, match=f"its normalizer {parts[0]} . {parts[1]} is none of none, nfc"):
        from_json({"type": "Sequence", "normalizers": [{"type": part} for part in parts]})

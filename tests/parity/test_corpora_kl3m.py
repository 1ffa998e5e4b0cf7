"""Published tokenizers with added tokens, on real text: their ids are those of ``tokenizers``."""

from __future__ import annotations

import pytest
import zstandard
from tokenizers import Tokenizer as OutsideTokenizer

from pipeline.tokenizer import ForeignTokenizer, Tokenizer, load_tokenizer
from tests.parity.conftest import CORPORA

ORACLES = CORPORA.parent / "oracles/kl3m"


def _read(name: str) -> str:
    with zstandard.open(ORACLES / f"{name}.json.zst", "rt", encoding="utf-8", newline="\n") as file:
        return str(file.read())


@pytest.mark.parametrize(
    ("name", "num_added", "normalizer"),
    [
        ("kl3m-001-32k", 1629, "none"),
        ("kl3m-004-char-4k-cased", 13, "nfkc"),
        ("kl3m-004-char-16k-cased", 13, "nfkc"),
    ],
)
def test_ids_of_the_published_tokenizers(
    name: str, num_added: int, normalizer: str, samples: tuple[list[str], list[str]]
) -> None:
    content = _read(name)
    ours = load_tokenizer(content.encode(), name)
    assert isinstance(ours, Tokenizer)
    assert len(ours.added_tokens) == num_added
    assert ours.normalizer == normalizer
    outside = OutsideTokenizer.from_str(content)
    outside.encode_special_tokens = True
    outside.no_padding()
    texts = samples[1][::30]
    found = ours.encode_batch(texts).to_pylist()
    assert found == [encoding.ids for encoding in outside.encode_batch_fast(texts, add_special_tokens=False)]
    added = {ours.id_of(token.content) for token in ours.added_tokens}
    assert sum(token in added for ids in found for token in ids) > 10_000
    written = Tokenizer.from_json(ours.to_json())
    assert written.encode_batch(texts[::10]).to_pylist() == found[::10]
    if ours.num_unknown_bytes(texts) == 0:
        assert [ours.decode(ids) for ids in found] == [ours.normalize(text) for text in texts]


@pytest.mark.parametrize(("name", "size", "longest"), [("char-4k", 4096, 3), ("char-16k", 16384, 4)])
def test_the_character_tokenizers(name: str, size: int, longest: int) -> None:
    """A power of two, and tokens of so many characters at most but for special and added ones."""
    ours = Tokenizer.from_json(_read(f"kl3m-004-{name}-cased"))
    assert ours.vocab_size == size
    made = [left + right for left, right in ours.merges]
    assert max(map(len, made)) == longest


def test_one_without_byte_level_stays_with_tokenizers() -> None:
    name = "kl3m-005-multi-word-example-32k"
    assert isinstance(load_tokenizer(_read(name).encode(), name), ForeignTokenizer)

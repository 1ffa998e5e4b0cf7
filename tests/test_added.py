"""Added tokens: cut out of the text as `tokenizers` does it, and put back."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as OutsideTokenizer
from tokenizers import decoders, models, pre_tokenizers

from pipeline import added, encoding, superwords
from pipeline import tokenizer as tokenizer_module
from pipeline.added import AddedCutter, AddedFinder, AddedToken
from pipeline.arrow import rows_of
from pipeline.byte_level import CHAR_OF_BYTE
from pipeline.errors import ArtifactError
from pipeline.normalizer import NORMALIZERS, normalize_text
from pipeline.pretokenizer import Pretokenizer
from pipeline.tokenizer import ForeignTokenizer, Tokenizer, load_tokenizer
from tests import reference, strategies

MERGES = (("a", "b"), ("Ġ", "ab"), ("Ġ", "Ġ"), ("N", "e"), ("Ne", "w"))
SPECIALS = ("<s>", "b<s>")


def tokenizer_with(*tokens: AddedToken, specials: tuple[str, ...] = SPECIALS, **fields: Any) -> Tokenizer:
    """A byte-level tokenizer of few merges with added tokens behind all else."""
    spellings = [*specials, *CHAR_OF_BYTE.values(), *(a + b for a, b in MERGES), *(token.content for token in tokens)]
    vocab = {token: n for n, token in enumerate(dict.fromkeys(spellings))}
    return Tokenizer(vocab, MERGES, specials, added_tokens=tokens, **fields)


def outside_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    outside = OutsideTokenizer.from_str(tokenizer.to_json())
    outside.encode_special_tokens = True
    return [e.ids for e in outside.encode_batch(texts, add_special_tokens=False)]


def pieces_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return [part.decode() for part in tokenizer.decode_parts(tokenizer.encode(text))]


def can_be_added(content: str) -> bool:
    return content not in SPECIALS and (content.isascii() or content not in CHAR_OF_BYTE.values())


@st.composite
def tokenizers(draw: st.DrawFn) -> Tokenizer:
    """Any added tokens, normalizer, pretokenizer; those that cannot be told apart once they are normalized are left out."""
    normalizer = draw(st.sampled_from(NORMALIZERS))
    tokens: dict[str, AddedToken] = {}
    for content in draw(strategies.added_contents):
        token = AddedToken(content, draw(st.booleans()), draw(st.booleans()))
        if can_be_added(content):
            tokens.setdefault(normalize_text(content, normalizer) if token.normalized else f"raw {content}", token)
    specials = draw(st.sampled_from([(), SPECIALS]))
    pretokenizer = Pretokenizer.named(draw(st.sampled_from(["gpt2", "gpt4o", "none"])))
    return tokenizer_with(*tokens.values(), specials=specials, normalizer=normalizer, pretokenizer=pretokenizer)


# --- cut ---------------------------------------------------------------------------------------------------------------


@given(strategies.added_texts, strategies.added_contents, st.data())
def test_pieces_and_tokens_of_documents(texts: list[str], contents: list[str], data: st.DataObject) -> None:
    tokens = [AddedToken(content, data.draw(st.booleans())) for content in contents]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(added, "FOUND_AT_ONCE", data.draw(st.sampled_from([1, 3, 100])))
        cut = AddedFinder(tokens[1:], [contents[0]]).cut(rows_of(pa.array(texts, type=pa.large_string())))
    pieces, docs, numbers, number_docs = [], [], [], []
    for doc, text in enumerate(texts):
        some, found = reference.cut_added(text, [(t.content, t.single_word) for t in tokens[1:]], [contents[0]])
        pieces += some
        docs += [doc] * len(some)
        numbers += found
        number_docs += [doc] * len(found)
    stops = cut.pieces.offsets
    assert [cut.pieces.values[a:b].tobytes().decode() for a, b in itertools.pairwise(stops)] == pieces
    assert cut.piece_docs.tolist() == docs
    assert cut.tokens.tolist() == numbers
    assert cut.token_docs.tolist() == number_docs
    assert not cut.pieces.values.flags.writeable
    assert len(cut.pieces.values) >= cut.pieces.num_bytes + 64


def test_docstring_example_of_cut() -> None:
    cut = AddedFinder([AddedToken("ab")]).cut(rows_of(pa.array(["xabab", "y"])))
    assert cut.pieces.offsets.tolist() == [0, 1, 1, 1, 2]
    assert cut.pieces.values[:2].tobytes() == b"xy"
    assert [part.tolist() for part in cut[1:]] == [[0, 0, 0, 1], [0, 0], [0, 0]]


def test_tokens_of_the_raw_text_go_before_those_of_the_normalized() -> None:
    tokens = [AddedToken("ab"), AddedToken("B", normalized=False), AddedToken("xa")]
    cut = AddedCutter(tokens, (), "lowercase").cut(pa.array(["XABab", "", "abB"], type=pa.large_string()))
    stops = cut.pieces.offsets
    pieces = [cut.pieces.values[a:b].tobytes() for a, b in itertools.pairwise(stops)]
    assert pieces == [b"", b"", b"", b"", b"", b"", b"", b""]
    assert cut.tokens.tolist() == [2, 1, 0, 0, 1]
    assert cut.token_docs.tolist() == [0, 0, 0, 2, 2]
    assert cut.piece_docs.tolist() == [0, 0, 0, 0, 1, 2, 2, 2]


# --- encode and decode -------------------------------------------------------------------------------------------------


@given(tokenizers(), strategies.added_texts)
def test_ids_are_those_of_tokenizers(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


@given(tokenizers(), st.lists(st.one_of(strategies.text, strategies.typical_text), max_size=5))
def test_ids_of_any_text_are_those_of_tokenizers(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


@given(tokenizers(), strategies.added_texts, st.sampled_from([1, 5, 30]))
def test_the_size_of_a_slice_does_not_matter(tokenizer: Tokenizer, texts: list[str], num_bytes: int) -> None:
    whole = tokenizer.encode_batch(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "ENCODE_BYTES", num_bytes)
        patch.setattr(added, "FOUND_AT_ONCE", 2)
        assert tokenizer.encode_batch(texts).equals(whole)


@given(
    tokenizers(),
    st.one_of(strategies.added_texts.map("".join), strategies.text),
    st.sampled_from(["merge", "greedy", "fewest"]),
)
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str, encoder: Any) -> None:
    tokenizer = dataclasses.replace(tokenizer, encoder=encoder)
    assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.normalize(text)
    if tokenizer.normalizer == "none":
        assert tokenizer.normalize(text) == text


def test_what_is_between_added_tokens_is_normalized() -> None:
    tokenizer = tokenizer_with(AddedToken("USA", normalized=False), AddedToken("McX"), normalizer="lowercase")
    assert tokenizer.normalize("The USA, MCX and USa.") == "the USA, McX and usa."
    assert tokenizer.decode(tokenizer.encode("The USA, MCX and USa.")) == "the USA, McX and usa."


@pytest.mark.parametrize(
    ("tokens", "text", "cut_out"),
    [
        ([AddedToken("New York")], "xNew Yorkx", ["New York"]),
        ([AddedToken("New York", single_word=True)], "New York, New Yorker", ["New York"]),
        ([AddedToken("ab c"), AddedToken("ab cd")], "ab cdab ce", ["ab cd", "ab c"]),
        ([AddedToken("abc", single_word=True), AddedToken("cd"), AddedToken("de")], "abcde", ["de"]),
        ([AddedToken("s>", normalized=False)], "<s>s>", ["s>"]),
        ([AddedToken("s>")], "<s>s>", ["s>", "s>"]),
        ([AddedToken("1999")], "1999 19990", ["1999", "1999"]),
        ([AddedToken("1999", single_word=True)], "1999 19990", ["1999"]),
        ([AddedToken("19"), AddedToken("999")], "1999", ["19"]),
    ],
)
def test_worked_examples(tokens: list[AddedToken], text: str, cut_out: list[str]) -> None:
    tokenizer = tokenizer_with(*tokens)
    assert [piece for piece in pieces_of(tokenizer, text) if piece in {token.content for token in tokens}] == cut_out
    assert tokenizer.encode(text) == outside_ids(tokenizer, [text])[0]


def test_no_text_and_no_token() -> None:
    tokenizer = tokenizer_with(AddedToken("New York"))
    assert tokenizer.encode_batch([]).to_pylist() == []
    assert tokenizer.encode_batch(["", "", "New York"]).to_pylist() == [[], [], [tokenizer.id_of("New York")]]
    assert tokenizer.encode_batch(["ab"]).type == pa.large_list(pa.uint16())


def test_an_added_token_that_is_a_token_of_the_merges_has_its_id() -> None:
    tokenizer = tokenizer_with(AddedToken("ab", single_word=True), AddedToken("b"))
    assert tokenizer.encode("ab") == [tokenizer.vocab["ab"]]
    assert tokenizer.encode("aab") == [tokenizer.vocab["a"], tokenizer.vocab["ab"]]  # dropped, but the merge makes it
    assert tokenizer.encode("aab") == outside_ids(tokenizer, ["aab"])[0]


@pytest.mark.parametrize("encoder", ["greedy", "fewest"])
def test_an_added_token_is_no_token_between_others(encoder: Any) -> None:
    tokenizer = tokenizer_with(AddedToken("York", single_word=True), encoder=encoder)
    assert tokenizer.id_of("York") not in tokenizer.encode("Yorker")
    assert tokenizer.encode("in York") == [*tokenizer.encode("in "), tokenizer.id_of("York")]


def test_bytes_without_an_id_inside_added_tokens_are_known() -> None:
    base = tokenizer_with(AddedToken("x\x00"))
    spellings = [token for token in base.vocab if token != CHAR_OF_BYTE[0]]
    tokenizer = dataclasses.replace(base, vocab={token: n for n, token in enumerate(spellings)})
    assert tokenizer.num_unknown_bytes(["x\x00a\x00", "\x00"]) == 2
    assert tokenizer.decode(tokenizer.encode("x\x00a\x00")) == "x\x00a"
    assert tokenizer.encode("x\x00a\x00") == outside_ids(tokenizer, ["x\x00a\x00"])[0]


def test_merges_are_met_between_added_tokens_alone() -> None:
    assert tokenizer_with(AddedToken("ab")).merges_met(["ab ab", "New"]).tolist() == [False, False, False, True, True]
    assert tokenizer_with().merges_met(["ab ab", "New"]).tolist() == [True, True, False, True, True]


@given(strategies.added_texts, strategies.added_contents)
def test_superwords_between_added_tokens(texts: list[str], contents: list[str]) -> None:
    tokens = [AddedToken(content) for content in contents if can_be_added(content)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(superwords, "_LEAST_SHARE", 0.0)
        patch.setattr(tokenizer_module, "has_superwords", lambda _: True)
        tokenizer = tokenizer_with(*tokens, pretokenizer=Pretokenizer((r"[^\n]*\n|[^\n]+",)))
        assert tokenizer._superwords is not None
        assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


# --- files -------------------------------------------------------------------------------------------------------------

THREE = (AddedToken("New York", single_word=True), AddedToken("  "), AddedToken("1999", normalized=False))


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(*THREE, normalizer="nfc_lowercase")
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert isinstance(loaded, Tokenizer)
    assert loaded.added_tokens == THREE
    assert loaded.special_tokens == SPECIALS
    assert loaded.files() == tokenizer.files()
    assert json.loads((tmp_path / "tokenmill.json").read_text())["num_added_tokens"] == 3
    assert "num_added_tokens" not in tokenizer_with().description()
    copy = pickle.loads(pickle.dumps(loaded))
    texts = ["New York  1999", "new york 1999", "x"]
    assert copy.encode_batch(texts).equals(tokenizer.encode_batch(texts))


def test_transformers_loads_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    tokenizer = tokenizer_with(*THREE)
    tokenizer.save(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = ["In New York  1999", "New Yorker", "abab"]
    assert [loaded(text)["input_ids"] for text in texts] == tokenizer.encode_batch(texts).to_pylist()
    assert [loaded.decode(loaded(text)["input_ids"]) for text in texts] == texts


def published(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json as others write it: added tokens that its model does not know."""
    alphabet = {char: n for n, char in enumerate(["<s>", *sorted(CHAR_OF_BYTE.values())])}
    outside = OutsideTokenizer(models.BPE(alphabet, []))
    outside.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    outside.decoder = decoders.ByteLevel()
    outside.add_special_tokens(["<s>"])
    outside.add_tokens(["New York", "  "])
    root: dict[str, Any] = json.loads(outside.to_str())
    root["added_tokens"][1].update(changes)
    return root


def both_ways(root: dict[str, Any], texts: list[str]) -> Tokenizer:
    """Our tokenizer of a file, after its ids were compared with those of `tokenizers`."""
    content = json.dumps(root)
    ours = load_tokenizer(content.encode(), "some.json")
    assert isinstance(ours, Tokenizer)
    outside = OutsideTokenizer.from_str(content)
    outside.encode_special_tokens = True
    assert ours.encode_batch(texts).to_pylist() == [e.ids for e in outside.encode_batch(texts, add_special_tokens=False)]
    assert ours.vocab_size == outside.get_vocab_size()
    return ours


TEXTS = ["in New York  or <s>New Yorker", "  ", "\x00"]


def test_a_published_file_runs_in_our_kernels() -> None:
    ours = both_ways(published(), TEXTS)
    assert ours.added_tokens == (AddedToken("New York"), AddedToken("  "))
    assert ours.special_tokens == ("<s>",)
    assert (ours.id_of("New York"), ours.id_of("  ")) == (257, 258)


def test_ids_are_given_in_the_order_of_the_file() -> None:
    root = published()
    root["added_tokens"].reverse()
    ours = both_ways(root, TEXTS)
    assert (ours.id_of("  "), ours.id_of("New York")) == (257, 258)
    assert ours.added_tokens == (AddedToken("  "), AddedToken("New York"))


def test_tokens_that_no_text_can_spell_are_kept() -> None:
    root = published()
    root["model"]["vocab"] |= {"\x00": 257, "中 文": 258}
    ours = both_ways(root, [*TEXTS, "中 文\x00"])
    assert ours.decode([257, 258]) == "\x00中 文"
    for encoder in ("greedy", "fewest"):
        other = dataclasses.replace(ours, encoder=encoder)
        assert other.decode(other.encode("中 文\x00")) == "中 文\x00"
        assert not {257, 258} & set(other.encode("中 文\x00"))


def _use_a_strange_token(root: dict[str, Any]) -> None:
    root["model"]["vocab"] |= {"中": 257, "中a": 258}
    root["model"]["merges"] = [["中", "a"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: root["added_tokens"][1].update(lstrip=True), "its added token 'New York' sets lstrip, which takes"),
        (lambda root: root["added_tokens"][1].update(rstrip=True), "its added token 'New York' sets rstrip, which takes"),
        (lambda root: root["added_tokens"][1].update(content="  "), "the added token '  ' is given twice"),
        (lambda root: root["added_tokens"][1].update(content="<s>"), "the added token '<s>' is a special token too"),
        (lambda root: root["added_tokens"][1].update(content=""), "an added token is empty"),
        (
            lambda root: root["added_tokens"][1].update(content="é"),
            r"'é' is spelled like the token of other bytes, b'\\xe9'",
        ),
        (
            lambda root: root["added_tokens"][0].update(normalized=True),
            "special token '<s>' is normalized, so that it hides",
        ),
        (_use_a_strange_token, "its merges use the token '中', which is not spelled in byte-level characters"),
    ],
)
def test_what_our_kernels_do_not_run_is_refused(change: Callable[[dict[str, Any]], None], message: str) -> None:
    root = published()
    change(root)
    with pytest.raises(ArtifactError, match=message):
        Tokenizer.from_json(json.dumps(root))
    assert isinstance(load_tokenizer(json.dumps(root).encode(), "some.json"), ForeignTokenizer)


def test_an_added_token_that_would_give_its_id_to_a_byte() -> None:
    root = published(content="a", single_word=True)
    root["model"]["vocab"] = {"中" if token == "a" else token: n for token, n in root["model"]["vocab"].items()}
    with pytest.raises(ArtifactError, match="its added token 'a' is spelled like a byte that its model has no token for"):
        Tokenizer.from_json(json.dumps(root))


def test_added_tokens_that_are_the_same_once_normalized() -> None:
    with pytest.raises(ArtifactError, match="token 'usa' and 'USA' are both 'usa' in the normalized text; leave one out"):
        tokenizer_with(AddedToken("USA"), AddedToken("usa"), normalizer="lowercase")
    both = tokenizer_with(AddedToken("USA"), AddedToken("usa", normalized=False), normalizer="lowercase")
    assert pieces_of(both, "usaUSAUsa") == ["usa", "USA", "USA"]


def test_an_added_token_that_is_no_text() -> None:
    with pytest.raises(ArtifactError, match="holds a lone surrogate, which no UTF-8 can hold"):
        Tokenizer.from_json(json.dumps(published(content="a\ud800")))


def test_an_added_token_without_an_id() -> None:
    base = tokenizer_with()
    with pytest.raises(ArtifactError, match="the added token 'York' is not in the vocabulary"):
        dataclasses.replace(base, added_tokens=(AddedToken("York"),))


def test_many_tokens() -> None:
    tokens = [AddedToken(str(number)) for number in range(3_000)]
    tokenizer = tokenizer_with(*tokens)
    texts = [" ".join(map(str, np.arange(0, 40_000, 7))), "x" * 100_000 + "2999"]
    assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)

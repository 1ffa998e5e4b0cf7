"""Encoding with the vocabulary alone gives what trying every way gives, whatever the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models

from pipeline.kernels.vocabulary import VocabularyTrie, build_trie, fewest_word, greedy_word
from tests import reference

WORKED = [b"a", b"b", b"c", b"d", b"ab", b"abc", b"bcd"]
BYTES = [bytes([byte]) for byte in range(256)]


def trie_of(tokens: Sequence[bytes], is_text: Sequence[bool] | None = None) -> VocabularyTrie:
    values = np.frombuffer(b"".join(tokens) + b"\0", dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    mask = np.ones(len(tokens), dtype=np.bool_) if is_text is None else np.array(is_text, dtype=np.bool_)
    trie: VocabularyTrie = build_trie(values, offsets, mask)
    return trie


def run(kernel: Callable[..., int], word: bytes, trie: VocabularyTrie) -> list[int]:
    """The ids of a word in the middle of a text, written behind others; nothing around them may be touched."""
    text = np.frombuffer(b"ab" + word + b"cd", dtype=np.uint8)
    ids = np.full(3 + len(word) + 2, -7, dtype=np.int32)
    size = kernel(text, 2, 2 + len(word), trie, ids, 3)
    assert set(ids[:3].tolist()) == set(ids[3 + len(word) :].tolist()) == {-7}
    return ids[3:size].tolist()  # type: ignore[no-any-return]


def spell(ids: Sequence[int], tokens: Sequence[bytes]) -> bytes:
    return b"".join(tokens[token_id] for token_id in ids)


def spelled(kernel: Callable[..., int], word: bytes, tokens: Sequence[bytes]) -> list[bytes]:
    return [tokens[token_id] for token_id in run(kernel, word, trie_of(tokens))]


tiny_words = st.text("abcd", max_size=9).map(str.encode)
longer_words = st.text("abcd", max_size=120).map(str.encode)
some_tokens = st.lists(st.text("abcd", max_size=5).map(str.encode), max_size=24)
"""With repetitions, and with tokens of no bytes; many a byte has no id of its own."""
complete_tokens = some_tokens.map(lambda tokens: [*tokens, b"a", b"b", b"c", b"d"])
any_tokens = st.lists(st.one_of(st.binary(max_size=4), st.binary(min_size=40, max_size=90)), max_size=60)


@pytest.mark.parametrize("kernel", [greedy_word, fewest_word])
def test_the_worked_example(kernel: Callable[..., int]) -> None:
    assert spelled(kernel, b"abcd", WORKED) == [b"abc", b"d"]
    assert spelled(kernel, b"ababcd", WORKED) == [b"ab", b"abc", b"d"]
    assert spelled(kernel, b"abcd", [token for token in WORKED if token not in (b"a", b"d")]) == [b"abc"]
    assert spelled(kernel, b"", WORKED) == []


def test_fewest_is_fewer_than_the_longest_first() -> None:
    tokens = [b"a", b"b", b"c", b"d", b"e", b"abc", b"ab", b"cde"]
    assert spelled(greedy_word, b"abcde", tokens) == [b"abc", b"d", b"e"]
    assert spelled(fewest_word, b"abcde", tokens) == [b"ab", b"cde"]


def test_fewest_leaves_out_fewer_bytes_than_the_longest_first() -> None:
    assert spelled(greedy_word, b"abcd", [b"abc", b"ab", b"cd"]) == [b"abc"]
    assert spelled(fewest_word, b"abcd", [b"abc", b"ab", b"cd"]) == [b"ab", b"cd"]


@given(st.data(), some_tokens, tiny_words)
def test_ids_are_those_of_the_reference(data: st.DataObject, tokens: list[bytes], word: bytes) -> None:
    is_text = data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    ids = reference.ids_of_tokens(tokens, is_text)
    trie = trie_of(tokens, is_text)
    assert run(greedy_word, word, trie) == reference.greedy(word, ids)
    assert run(fewest_word, word, trie) == reference.fewest(word, ids)


@given(some_tokens, longer_words)
def test_longer_words_with_bytes_left_out(tokens: list[bytes], word: bytes) -> None:
    ids = reference.ids_of_tokens(tokens, [True] * len(tokens))
    found = run(fewest_word, word, trie_of(tokens))
    assert (len(word) - len(spell(found, tokens)), len(found)) == reference.num_fewest(word, ids)
    assert run(greedy_word, word, trie_of(tokens)) == reference.greedy(word, ids)


@given(complete_tokens, longer_words)
def test_fewest_is_never_more_where_every_byte_has_an_id(tokens: list[bytes], word: bytes) -> None:
    trie = trie_of(tokens)
    by_greedy, by_fewest = run(greedy_word, word, trie), run(fewest_word, word, trie)
    assert spell(by_greedy, tokens) == spell(by_fewest, tokens) == word
    assert len(by_fewest) <= len(by_greedy)


@given(any_tokens, st.data())
def test_any_bytes(tokens: list[bytes], data: st.DataObject) -> None:
    """Long tokens too: the ring of costs is longer and shorter than the word."""
    tokens = [*BYTES, *tokens]
    word = b"".join(data.draw(st.lists(st.one_of(st.sampled_from(tokens), st.binary(max_size=5)), max_size=6)))
    ids = reference.ids_of_tokens(tokens, [True] * len(tokens))
    trie = trie_of(tokens)
    assert run(greedy_word, word, trie) == reference.greedy(word, ids)
    found = run(fewest_word, word, trie)
    assert spell(found, tokens) == word
    assert (0, len(found)) == reference.num_fewest(word, ids)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=10), longer_words)
def test_fewest_is_never_more_than_the_merges_give(sides: list[tuple[int, int]], word: bytes) -> None:
    tokens = [b"a", b"b", b"c", b"d"]
    merges: dict[tuple[int, int], tuple[int, int]] = {}
    for a, b in sides:
        pair = (len(tokens) - 1 - min(a, len(tokens) - 1), len(tokens) - 1 - min(b, len(tokens) - 1))
        if pair not in merges and len(tokens[pair[0]] + tokens[pair[1]]) <= 40:
            merges[pair] = (len(merges), len(tokens))
            tokens.append(tokens[pair[0]] + tokens[pair[1]])
    merged = reference.encode([b"abcd".index(byte) for byte in word], merges)
    assert len(run(fewest_word, word, trie_of(tokens))) <= len(merged)


@given(complete_tokens, st.text("abcd", min_size=1, max_size=60))
def test_the_longest_first_is_what_word_piece_gives(tokens: list[bytes], word: str) -> None:
    ids = reference.ids_of_tokens(tokens, [True] * len(tokens))
    vocab = {token.decode(): token_id for token, token_id in ids.items()} | {"[UNK]": len(tokens)}
    model = models.WordPiece(vocab, unk_token="[UNK]", continuing_subword_prefix="", max_input_chars_per_word=10**6)
    assert run(greedy_word, word.encode(), trie_of(tokens)) == [token.id for token in model.tokenize(word)]


@given(st.one_of(some_tokens, any_tokens))
def test_a_trie_holds_its_tokens_and_nothing_else(tokens: list[bytes]) -> None:
    nodes = trie_of(tokens).nodes
    found = {}
    for slot, (parent, _, token_id, depth) in enumerate(nodes.tolist()):
        if parent < 0:
            continue
        path, at = b"", slot
        while at != 0:
            path = bytes([at ^ int(nodes[nodes[at, 0], 1])]) + path
            at = int(nodes[at, 0])
        assert len(path) == depth
        if token_id >= 0:
            found[path] = token_id
    assert found == reference.ids_of_tokens(tokens, [True] * len(tokens))
    assert trie_of(tokens).longest == max(map(len, tokens), default=0)


def test_nodes_with_many_children_share_blocks_with_those_with_few() -> None:
    """Enough tokens that blocks fill up and the array of nodes grows."""
    tokens = [*BYTES, *(bytes([a, b]) for a in range(0, 256, 32) for b in range(0, 256, 1 + a // 32))]
    tokens += [bytes([a, b, c]) for a in range(0, 256, 32) for b in range(0, 256, 16) for c in (a ^ b, a, 255 - b)]
    ids = reference.ids_of_tokens(tokens, [True] * len(tokens))
    trie = trie_of(tokens)
    for token, token_id in ids.items():
        assert run(greedy_word, token, trie) == [token_id]
    num_nodes = len({token[:length] for token in tokens for length in range(len(token) + 1)})
    assert int((trie.nodes[:, 0] != -1).sum()) == num_nodes
    assert num_nodes > len(trie.nodes) / 2


def test_a_token_longer_than_16_bits_can_count() -> None:
    token = np.random.default_rng(0).bytes((1 << 16) + 10)
    trie = trie_of([*BYTES, token])
    assert trie.longest == len(token)
    for kernel in (greedy_word, fewest_word):
        assert run(kernel, b"\0" + token + b"\1", trie) == [0, 256, 1]


def test_a_vocabulary_without_text() -> None:
    for tokens in ([], [b""], [b"<s>"]):
        trie = trie_of(tokens, [False] * len(tokens))
        assert trie.longest == 0
        assert run(greedy_word, b"\0a<s>", trie) == run(fewest_word, b"\0a<s>", trie) == []

"""The pool of tokenizers: its choice against a naive twin, its ids, its files, and the commands that meet it."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pickle
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import pool as pool_module
from pipeline.arrow import rows_of
from pipeline.errors import ArtifactError
from pipeline.jobs.compare import compare
from pipeline.jobs.inspect import inspect
from pipeline.jobs.morphology_report import measure_morphology
from pipeline.jobs.yardstick import Yardstick
from pipeline.normalizer import NORMALIZERS
from pipeline.pool import FORMAT, PoolTokenizer, code_lengths
from pipeline.pretokenizer import Pretokenizer
from pipeline.stages.evaluate import cut, measure, token_text
from pipeline.tokenizer import Tokenizer, load_tokenizer, parse_tokenizer
from pipeline.trainers.bpe import BpeOptions, train_bpe
from tests import reference, strategies

CORPORA = {
    "prose": "The quick brown fox isn't here; the lazy dogs aren't either.\n\n  The end, the very end of the THE end.",
    "code": "def the(self, other):\n\treturn self.the == other.the  # 3.14159 and 2.71828, then self.then self",
    "german": "Die Straße wäre größer, wäre die Straße nicht; die größere Straße der Größe nach, die Größe 中文字符中文",
}
TEXTS = [*CORPORA.values(), "", "the self", "<|pool:code|> <|end|> 😀", "", " ", "wäre", "\x00"]
SPECIALS = ("<|end|>", "<pad>")


def train(text: str, size: int = 320, preset: str = "gpt2", alphabet: Any = "bytes", **fields: Any) -> Tokenizer:
    pretokenizer = Pretokenizer.named(preset)
    words = reference.count_words(word.encode() for word in reference.split(text, pretokenizer.patterns))
    specials = fields.pop("special_tokens", SPECIALS)
    trained = train_bpe(
        rows_of(pa.array(list(words), type=pa.large_binary())),
        np.array(list(words.values()), dtype=np.int64),
        BpeOptions(vocab_size=size, initial_alphabet=alphabet, special_tokens=specials),
    )
    return Tokenizer(trained.vocab, trained.merges, specials, pretokenizer, **fields)


@functools.cache
def members(normalizer: str = "none") -> dict[str, Tokenizer]:
    """Of different sizes, ways to cut, and encoders."""
    return {
        "prose": train(CORPORA["prose"], normalizer=normalizer),
        "code": train(CORPORA["code"], 330, "gpt4o", normalizer=normalizer, encoder="fewest"),
        "german": train(CORPORA["german"], 310, "whitespace", normalizer=normalizer, encoder="greedy"),
    }


@functools.cache
def usual(selector: Any = "fewest", normalizer: str = "none") -> PoolTokenizer:
    counts = [measure(m, pa.array([CORPORA[name]]))[1] for name, m in members().items()] if selector == "bits" else []
    return PoolTokenizer(members(normalizer), selector, tuple(counts), {"note": "é"})


@functools.cache
def with_gaps() -> PoolTokenizer:
    """Its members know the bytes that they have seen."""
    known = {name: train(text, 90, alphabet="seen") for name, text in CORPORA.items()}
    return PoolTokenizer(known)


def by_letters(letters: str, *merges: str, specials: tuple[str, ...] = ()) -> Tokenizer:
    """Tokens of two letters each, of single words without blanks."""
    vocab = {token: n for n, token in enumerate(dict.fromkeys([*specials, *letters, *merges]))}
    return Tokenizer(vocab, tuple((pair[0], pair[1:]) for pair in merges), specials, Pretokenizer.named("none"))


def tokens_of(member: Tokenizer) -> list[bytes | str]:
    """What each of a member's ids is, by the vocabulary alone; for special tokens that text cannot spell."""
    byte_of = {char: byte for byte, char in reference.CHAR_OF_BYTE.items()}
    return [
        chars if chars in member.special_tokens else bytes(byte_of[char] for char in chars)
        for chars, _ in sorted(member.vocab.items(), key=lambda item: item[1])
    ]


def twin(pool: PoolTokenizer, text: str) -> list[int]:
    own: list[Any] = list(pool.members.values())
    named = [*SPECIALS, *(f"<|pool:{name}|>" for name in pool.members)]
    counts = [row.tolist() for row in pool.counts] or None
    return reference.pool_encode(named, [tokens_of(m) for m in own], [m.encode(text) for m in own], counts)


POOLS = [usual, functools.partial(usual, "bits"), with_gaps]

# --- encode -----------------------------------------------------------------------------------------------------------


def test_a_worked_example() -> None:
    """That of the module."""
    pool = PoolTokenizer(
        {"law": by_letters("abc", "ab", specials=("<pad>",)), "code": by_letters("abc", "bc", specials=("<pad>",))}
    )
    assert pool.vocab_size == 8
    assert pool.encode_batch(["abab", "abc", "bcbc", "", "bcab"]).to_pylist() == [
        [1, 6, 6],
        [1, 6, 5],
        [2, 7, 7],
        [],
        [1, 4, 5, 6],
    ]
    assert pool.selected(["abab", "abc", "bcbc", ""]).tolist() == [0, 0, 1, 0]
    assert pool.decode_parts(range(8)) == [b"<pad>", b"", b"", b"a", b"b", b"c", b"ab", b"bc"]


@pytest.mark.parametrize("make", POOLS)
@given(texts=strategies.texts)
def test_every_text_goes_where_the_twin_sends_it(make: Callable[[], PoolTokenizer], texts: list[str]) -> None:
    ids = make().encode_batch(texts).to_pylist()
    assert ids == [twin(make(), text) for text in texts]


@pytest.mark.parametrize("make", POOLS)
def test_each_member_is_chosen_for_what_it_was_trained_on(make: Callable[[], PoolTokenizer]) -> None:
    pool = make()
    assert pool.selected(list(CORPORA.values())).tolist() == [0, 1, 2]
    assert pool.encode_batch(TEXTS).to_pylist() == [twin(pool, text) for text in TEXTS]
    for text, member in zip(TEXTS, pool.selected(TEXTS), strict=True):
        ids = pool.encode(text)
        assert ids[:1] == [len(SPECIALS) + member] * bool(ids)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("selector", ["fewest", "bits"])
@given(text=strategies.text)
def test_decoding_gives_the_normalized_text_back(normalizer: str, selector: str, text: str) -> None:
    pool = usual(selector, normalizer)
    assert pool.normalizer == normalizer
    assert pool.decode(pool.encode(text)) == pool.normalize(text)


@given(texts=st.lists(strategies.typical_text, max_size=12), num_bytes=st.integers(1, 40))
def test_slices_change_nothing(texts: list[str], num_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "ENCODE_BYTES", num_bytes)
        found, selected = usual("bits").encode_batch(texts), usual("bits").selected(texts)
    assert found.equals(usual("bits").encode_batch(texts))
    assert selected.tolist() == usual("bits").selected(texts).tolist()


def test_of_equals_the_first_wins() -> None:
    pool = usual()
    names = list(members())
    for order in (names, names[::-1]):
        same = PoolTokenizer({name: members()[name] for name in order})
        assert same.selected(["", "\x01", "\U0010ffff"]).tolist() == [0, 0, 0]
        assert same.encode("\x01") == [len(SPECIALS), same.encode("\x01")[1]]
    twice = PoolTokenizer({"one": members()["prose"], "two": members()["prose"]})
    assert twice.selected(TEXTS).tolist() == [0] * len(TEXTS)
    assert twice.vocab_size == members()["prose"].vocab_size + 2
    assert pool.dtype is np.uint16


def test_many_short_documents() -> None:
    chance = random.Random(0)
    texts = ["".join(chance.choices(["the", " ", "self", "", "ß", "Größe"], k=chance.randrange(3))) for _ in range(20_000)]
    found = usual().encode_batch(texts)
    expected = {text: twin(usual(), text) for text in set(texts)}
    assert found.to_pylist() == [expected[text] for text in texts]
    assert found.type == pa.large_list(pa.uint16())


def test_no_texts() -> None:
    for texts in ([], [""], ["", ""]):
        assert usual().encode_batch(texts).to_pylist() == [[]] * len(texts)
        assert usual().selected(texts).tolist() == [0] * len(texts)
        assert usual().num_unknown_bytes(texts) == with_gaps().num_unknown_bytes(texts) == 0
    assert usual().encode_batch([]).type == pa.large_list(pa.uint16())
    assert usual().selected([]).dtype == np.int32


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_arrays_of_any_kind(kind: pa.DataType) -> None:
    array = pa.array(TEXTS, type=kind)
    expected = [usual().encode(text) for text in TEXTS]
    assert usual().encode_batch(array).to_pylist() == expected
    assert usual().encode_batch(array.slice(2, 4)).to_pylist() == expected[2:6]
    chunked = pa.chunked_array([array.slice(4), array.slice(0, 0), array.slice(0, 4)], type=kind)
    assert usual().encode_batch(chunked).to_pylist() == expected[4:] + expected[:4]
    assert usual().selected(chunked).tolist() == [*usual().selected(TEXTS[4:]), *usual().selected(TEXTS[:4])]


@pytest.mark.parametrize("ask", ["encode_batch", "selected"])
def test_what_is_no_text_is_refused(ask: str) -> None:
    with pytest.raises(TypeError, match="the texts are of the type int64; strings are expected"):
        getattr(usual(), ask)(pa.array([1]))
    with pytest.raises(ValueError, match="1 of the texts are null; drop them first"):
        getattr(usual(), ask)(pa.array(["a", None]))
    with pytest.raises(UnicodeEncodeError):
        usual().encode("\ud800")


@pytest.mark.parametrize(("more", "kind"), [(0, np.uint16), (1, np.uint32)])
def test_two_bytes_an_id_as_long_as_they_hold(more: int, kind: type) -> None:
    letters = "".join(reference.CHAR_OF_BYTE.values())
    pairs = [a + b for a in letters for b in letters if a + b != "!!"][: 65_536 - 2 - 256 - 1 + more]
    parts = {"one": pairs[:40_000], "two": [*pairs[30_000:], "!!"]}
    pool = PoolTokenizer({name: by_letters(letters, *part) for name, part in parts.items()})
    assert pool.vocab_size == 65_536 + more
    assert pool.dtype is kind
    ids = pool.encode_batch(["!!", "", "!"])
    assert ids.type == pa.large_list(pa.from_numpy_dtype(kind))
    assert ids.to_pylist() == [[1, 65_535 + more], [], [0, 2]]
    assert [pool.decode(row) for row in ids.to_pylist()] == ["!!", "", "!"]


# --- the choice -------------------------------------------------------------------------------------------------------


def test_bits_by_hand() -> None:
    """Of 128: 7 bits for a, which never occurs, and for ab; 0.02 for b. The other member takes 2 bits for each letter."""
    pool = PoolTokenizer(
        {"pairs": by_letters("ab", "ab"), "letters": by_letters("abcd")},
        "bits",
        (np.array([0, 125, 0]), np.array([0, 0, 0, 0])),
    )
    assert code_lengths(pool.counts[0]).tolist() == [
        7 * 65_536,
        7 * 65_536 - math.floor(65_536 * math.log2(126)),
        7 * 65_536,
    ]
    assert code_lengths(pool.counts[1]).tolist() == [2 * 65_536] * 4
    texts = ["abab", "ab", "b", "bbb", "ba", "abbb"]
    assert pool.selected(texts).tolist() == [1, 1, 0, 0, 1, 0]  # 14:8, 7:4, 0.02:2, 0.07:6, 7.02:4, 7.05:8
    assert PoolTokenizer(pool.members).selected(texts).tolist() == [0] * 6


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=6))
def test_code_lengths(counts: list[int]) -> None:
    found = code_lengths(np.array(counts))
    assert found.tolist() == [reference.code_length([token_id], counts) for token_id in range(len(counts))]


@given(st.lists(st.integers(0, 1 << 60), min_size=1, max_size=3))
def test_code_lengths_of_large_counts(counts: list[int]) -> None:
    total = sum(counts) + len(counts)
    for count, found in zip(counts, code_lengths(np.array(counts)).tolist(), strict=True):
        assert abs(found - 65_536 * (math.log2(total) - math.log2(count + 1))) < 1 + 1e-6


def test_a_member_that_would_leave_bytes_out_is_passed_over() -> None:
    """However few tokens it takes for the rest."""
    pool = PoolTokenizer({"ab": by_letters("ab", "ab"), "abc": by_letters("abc"), "d": by_letters("d")})
    assert pool.selected(["abab", "ababc", "c", "d", "dc", "x", "xd"]).tolist() == [0, 1, 1, 2, 1, 0, 2]
    assert pool.encode_batch(["dc", "x"]).to_pylist() == [[1, 6], []]  # nothing is left of x, not even a switch token
    assert pool.num_unknown_bytes(["abab", "ababc", "dc", "xx", "xd"]) == 4
    assert pool.num_unknown_bytes(["dé"]) == 2
    assert usual().num_unknown_bytes(TEXTS) == 0


def test_a_special_token_of_one_byte_is_not_that_byte() -> None:
    """Where text with it cannot be encoded."""
    letters = "".join(reference.CHAR_OF_BYTE[byte] for byte in range(256) if byte != ord(" "))
    pool = PoolTokenizer({"no": by_letters(letters, specials=(" ",)), "yes": by_letters(letters + "Ġ", specials=(" ",))})
    assert pool.selected([" ", "a", "a b"]).tolist() == [1, 0, 1]
    assert pool.decode(pool.encode("a b")) == "a b"
    assert pool.id_of(" ") not in pool.encode("a b")


@given(strategies.texts)
def test_unknown_bytes_are_those_that_do_not_come_back(texts: list[str]) -> None:
    pool = with_gaps()
    lost = sum(len(text.encode()) - len(pool.decode_bytes(pool.encode(text))) for text in texts)
    assert pool.num_unknown_bytes(texts) == lost


# --- ids --------------------------------------------------------------------------------------------------------------


def test_the_order_of_ids() -> None:
    pool = usual()
    parts = pool.decode_parts(range(pool.vocab_size))
    first = members()["prose"]
    assert parts[:5] == [b"<|end|>", b"<pad>", b"", b"", b""]
    assert parts[5 : 3 + first.vocab_size] == first.decode_parts(range(2, first.vocab_size))
    assert len(set(parts[5:])) == len(parts) - 5  # each spelling once
    assert set(parts[5:]) == {
        part for member in members().values() for part in member.decode_parts(range(2, member.vocab_size))
    }
    assert pool.vocab_size < sum(member.vocab_size for member in members().values()) - 2 * 256


def test_members_share_the_ids_of_what_they_share() -> None:
    pool = PoolTokenizer({"one": by_letters("xab", "ab"), "two": by_letters("bay", "ay", "ab")})
    one, two = pool.encode("xab"), pool.encode("ayab")
    assert (one[0], two[0]) == (0, 1)
    assert one[-1] == two[-1]
    assert pool.decode([one[-1]]) == "ab"


def test_ids_of_names() -> None:
    pool = usual()
    assert [pool.id_of(token) for token in (*SPECIALS, "<|pool:prose|>", "<|pool:code|>", "<|pool:german|>")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert pool.special_tokens == SPECIALS
    for unknown in ("a", "<|pool:law|>", "Ġthe", ""):
        with pytest.raises(KeyError):
            pool.id_of(unknown)


@pytest.mark.parametrize("make", POOLS[:2])
def test_text_that_spells_a_switch_token_is_text(make: Callable[[], PoolTokenizer]) -> None:
    text = "<|pool:code|> <|pool:prose|><|end|> <pad><|pool:german|>"
    ids = make().encode(text)
    assert min(ids[1:]) >= 5
    assert make().decode(ids) == text


@given(strategies.text)
def test_ids_of_names_come_from_no_text(text: str) -> None:
    assert all(token_id >= 5 for token_id in usual().encode(text)[1:])


def test_special_tokens_that_text_can_spell() -> None:
    """A byte, and what a merge of one member makes, the other not: in text they are not special."""
    specials = ("a", "ab", "Ġb")
    members = {
        "one": by_letters("Ġab", "ab", "Ġb", specials=specials),
        "two": by_letters("Ġabc", "bc", specials=specials),
    }
    pool = PoolTokenizer(members)
    for text in ("abab", "bcbc", "a", " b", " bcbc"):
        ids = pool.encode(text)
        assert min(ids[1:]) >= 5
        assert pool.decode(ids) == text
    assert pool.decode_parts(range(5)) == [b"a", b"ab", "Ġb".encode(), b"", b""]
    assert pool.decode_parts(pool.encode(" bab")) == [b"", b" b", b"ab"]


# --- decode -----------------------------------------------------------------------------------------------------------


@given(strategies.texts)
def test_ids_of_several_documents_decode_with_and_without_switches(texts: list[str]) -> None:
    pool = usual()
    rows = pool.encode_batch(texts).to_pylist()
    assert pool.decode([token_id for row in rows for token_id in row]) == "".join(texts)
    assert pool.decode([token_id for row in rows for token_id in row[1:]]) == "".join(texts)


@pytest.mark.parametrize("wrong", [-1, 10**6, 2**32])
def test_an_id_beyond_the_vocabulary_cannot_be_decoded(wrong: int) -> None:
    for decode in (usual().decode, usual().decode_bytes, usual().decode_parts):
        with pytest.raises(IndexError, match=f"^{wrong} is not an id$"):
            decode([5, wrong, 6])
    with pytest.raises(IndexError):
        usual().decode([usual().vocab_size])


def test_ids_may_come_in_any_form() -> None:
    ids = usual().encode(TEXTS[0])
    for same in (tuple(ids), iter(ids), np.array(ids, dtype=np.uint16), pa.array(ids).to_numpy()):
        assert usual().decode(same) == TEXTS[0]
    assert usual().decode([]) == ""
    assert usual().decode([0, 2, *ids, 1]) == f"<|end|>{TEXTS[0]}<pad>"


# --- what does not go together ----------------------------------------------------------------------------------------


def test_what_does_not_go_together_is_refused() -> None:
    a, b = by_letters("ab", "ab"), by_letters("abc")
    counts = (np.array([1, 2, 3]), np.array([1, 2, 3]))
    cases: list[tuple[Callable[[], PoolTokenizer], str]] = [
        (lambda: PoolTokenizer({}), "a pool has no members; at least one is needed"),
        (
            lambda: PoolTokenizer({"a": a, "b": dataclasses.replace(b, normalizer="nfc")}),
            "members 'a' and 'b' of a pool have the normalizers 'none' and 'nfc'; they must be the same",
        ),
        (
            lambda: PoolTokenizer({"a": a, "b": dataclasses.replace(b, special_tokens=("c",))}),
            r"members 'a' and 'b' of a pool have the special tokens \[\] and \['c'\]; they must be the same",
        ),
        (
            lambda: PoolTokenizer({"a": by_letters("a", specials=("<|pool:a|>",))}),
            r"'<\|pool:a\|>' is a special token and would be a pool's switch token; rename one",
        ),
        (lambda: PoolTokenizer({"a": a}, "least"), "a pool's selector is 'least'; one of fewest, bits is expected"),  # type: ignore
        (
            lambda: PoolTokenizer({"a": a, "b": b}, "bits", counts[:1]),
            "selector 'bits' has counts of 1; 'bits' needs those of",
        ),
        (
            lambda: PoolTokenizer({"a": a, "b": b}, "fewest", counts),
            "selector 'fewest' has counts of 2; 'bits' needs those of",
        ),
        (
            lambda: PoolTokenizer({"a": a, "b": b}, "bits", (counts[0], np.array([1, 2]))),
            r"the counts of a pool's member 'b' are int64\[2\]; int64\[3\] is expected, one for each of its ids",
        ),
        (
            lambda: PoolTokenizer({"a": a}, "bits", (np.array([1.0, 2, 3]),)),
            r"the counts of a pool's member 'a' are float64\[3\]; int64\[3\] is expected",
        ),
        (lambda: PoolTokenizer({"a": a}, "bits", (np.array([1, -1, 3]),)), "member 'a' are negative, or 2\\^62 and more"),
        (lambda: PoolTokenizer({"a": a}, "bits", (np.array([1 << 62, 0, 0]),)), "are negative, or 2\\^62 and more together"),
    ]
    for make, message in cases:
        with pytest.raises(ArtifactError, match=message):
            make()


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", ["fewest", "bits"])
@pytest.mark.parametrize("normalizer", ["none", "nfkc"])
def test_a_saved_pool_is_the_same(tmp_path: Path, selector: str, normalizer: str) -> None:
    pool = usual(selector, normalizer)
    pool.save(tmp_path / "deep" / "er")
    loaded = Tokenizer.load(tmp_path / "deep" / "er")
    assert isinstance(loaded, PoolTokenizer)
    assert loaded.files() == pool.files()
    assert sorted(pool.files()) == ["pool.json", "tokenmill.json"]
    assert list(loaded.members) == list(pool.members)
    assert [member.encoder for member in loaded.members.values()] == ["merge", "fewest", "greedy"]
    assert [row.tolist() for row in loaded.counts] == [row.tolist() for row in pool.counts]
    assert (loaded.selector, loaded.options, loaded.normalizer) == (selector, {"note": "é"}, normalizer)
    assert loaded.encode_batch(TEXTS).equals(pool.encode_batch(TEXTS))
    assert Tokenizer.load(tmp_path / "deep" / "er" / "pool.json").sha256 == pool.sha256
    for name, content in pool.files().items():
        assert (tmp_path / "deep" / "er" / name).read_bytes() == content


def test_json_alone_is_enough() -> None:
    text = usual("bits").to_json()
    for loaded in (parse_tokenizer(text), load_tokenizer(text.encode(), "some.json")):
        assert isinstance(loaded, PoolTokenizer)
        assert loaded.to_json() == text
        assert loaded.encode_batch(TEXTS).equals(usual("bits").encode_batch(TEXTS))
    assert (
        len({usual(selector, normalizer).sha256 for selector in ("fewest", "bits") for normalizer in ("none", "nfc")}) == 4
    )


def test_the_description() -> None:
    description = usual().description()
    assert json.loads(usual().files()["tokenmill.json"]) == description
    assert (description["kind"], description["selector"], description["normalizer"]) == ("pool", "fewest", "none")
    assert description["vocab_size"] == usual().vocab_size
    assert description["special_tokens"] == {"<|end|>": 0, "<pad>": 1}
    assert description["switch_tokens"] == {"<|pool:prose|>": 2, "<|pool:code|>": 3, "<|pool:german|>": 4}
    assert description["members"]["code"] == {
        "vocab_size": members()["code"].vocab_size,
        "encoder": "fewest",
        "tokenizer_sha256": members()["code"].sha256,
    }
    assert description["tokenizer_sha256"] == usual().sha256


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda root: root.update(format="tokenmill-pool-9"), f"its format is 'tokenmill-pool-9'; '{FORMAT}' is what"),
        (lambda root: root.pop("selector"), "not a pool.json: KeyError: 'selector'"),
        (lambda root: root.update(selector="most"), "selector is 'most'; one of fewest, bits"),
        (lambda root: root.update(selector=[]), r"selector is \[\]; one of"),
        (lambda root: root.update(selector="fewest"), "selector 'fewest' has counts of 3"),
        (lambda root: root.update(vocab_size=5), "its members have [0-9]+ tokens; 5 are expected"),
        (lambda root: root.update(members=[]), "has no members"),
        (lambda root: root.update(members={}), "has no members"),
        (lambda root: root.update(members=3), "TypeError"),
        (lambda root: root["members"].pop(), "its members have [0-9]+ tokens; [0-9]+ are expected"),
        (lambda root: root["members"][0].update(name="code"), "two members are named 'code', or that is no name"),
        (lambda root: root["members"][0].update(name=3), "two members are named 3, or that is no name"),
        (lambda root: root["members"][0].pop("name"), "KeyError: 'name'"),
        (
            lambda root: root["members"][1].update(encoder="best"),
            "its member 'code': its encoder is 'best'; one of merge, greedy,",
        ),
        (lambda root: root["members"][1].pop("tokenizer"), "KeyError: 'tokenizer'"),
        (
            lambda root: root["members"][1]["tokenizer"].pop("model"),
            "its member 'code': not a tokenizer.json: KeyError: 'model'",
        ),
        (lambda root: root["members"][1]["tokenizer"].update(normalizer={"type": "NFC"}), "normalizers 'none' and 'nfc'"),
        (lambda root: root["members"][2]["counts"].pop(), r"member 'german' are int64\[307\]; int64\[308\]"),
        (lambda root: root["members"][2].pop("counts"), "'bits' has counts of 2"),
        (lambda root: root["members"][2]["counts"].__setitem__(3, -1), "'german' are negative"),
        (lambda root: root["members"][2]["counts"].__setitem__(3, 1.5), "counts are whole numbers"),
        (lambda root: root["members"][2]["counts"].__setitem__(3, True), "counts are whole numbers"),
        (lambda root: root["members"][2]["counts"].__setitem__(3, 1 << 70), "OverflowError"),
        (lambda root: root["members"][2].update(counts=None), "TypeError"),
    ],
)
def test_damaged_files_are_refused(change: Callable[[dict[str, Any]], Any], named: str, tmp_path: Path) -> None:
    root = json.loads(usual("bits").to_json())
    change(root)
    text = json.dumps(root, ensure_ascii=False, separators=(",", ":"))
    with pytest.raises(ArtifactError, match=named):
        parse_tokenizer(text)
    usual("bits").save(tmp_path)
    (tmp_path / "pool.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"pool\.json: "):
        Tokenizer.load(tmp_path)
    with pytest.raises(ArtifactError, match=r"pool\.json: "):
        inspect(str(tmp_path))


@pytest.mark.parametrize("text", ["{", '{"format":"tokenmill-pool-1"}', '{"format":"tokenmill-pool-1","members":[{}]}'])
def test_what_is_no_pool_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="not a "):
        parse_tokenizer(text)
    with pytest.raises(ArtifactError, match=r"some\.json: not a "):
        load_tokenizer(text.encode(), "some.json")


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    usual("bits").save(tmp_path)
    content = (tmp_path / "pool.json").read_bytes()
    for length in (0, 10, 40, 200, len(content) // 2, len(content) - 3):
        (tmp_path / "pool.json").write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=r"pool\.json: "):
            Tokenizer.load(tmp_path)


# --- threads and processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", ["fewest", "bits"])
def test_threads_may_share_a_pool(selector: str) -> None:
    """Nothing is there before the threads ask for it."""
    chance = random.Random(0)
    words = " ".join(TEXTS).split(" ")
    batches = [[" ".join(chance.choices(words, k=60)) for _ in range(5)] for _ in range(16)]
    expected = [usual(selector).encode_batch(batch).to_pylist() for batch in batches]
    shared = dataclasses.replace(
        usual(selector), members={name: dataclasses.replace(member) for name, member in members().items()}
    )
    start = threading.Barrier(4)

    def encode(part: int) -> list[Any]:
        start.wait()
        return [shared.encode_batch(batch).to_pylist() for batch in batches[part::4]]

    with ThreadPoolExecutor(4) as workers:
        found = list(workers.map(encode, range(4)))
    assert found == [expected[part::4] for part in range(4)]
    assert [[shared.decode(ids) for ids in rows] for rows in expected] == batches


def test_a_used_pool_can_be_pickled() -> None:
    pool = usual("bits")
    ids = pool.encode_batch(TEXTS)
    content = pickle.dumps(pool)
    assert len(content) < 100_000  # caches and tables stay behind
    copy = pickle.loads(content)
    assert copy.encode_batch(TEXTS).equals(ids)
    assert copy.files() == pool.files()


# --- the commands -----------------------------------------------------------------------------------------------------


def test_inspect(tmp_path: Path) -> None:
    usual("bits").save(tmp_path)
    for path in (tmp_path, tmp_path / "pool.json"):
        facts = inspect(str(path))
        assert facts["what"] == "a pool of tokenizers, one of them for each document"
        assert facts["vocab_size"] == usual().vocab_size
        assert list(facts["members"]) == ["prose", "code", "german"]


def test_compare(tmp_path: Path) -> None:
    usual().save(tmp_path / "pool")
    members()["prose"].save(tmp_path / "prose")
    files = []
    for name, text in CORPORA.items():
        files.append(str(tmp_path / f"{name}.txt"))
        (tmp_path / f"{name}.txt").write_text(text)
    pool, prose = compare([str(tmp_path / "pool"), str(tmp_path / "prose")], files)
    assert pool["vocab_size"] == usual().vocab_size
    assert pool["tokens"] == sum(1 + len(members()[name].encode(text)) for name, text in CORPORA.items())
    assert pool["text_bytes"] == prose["text_bytes"]
    assert pool["tokens"] < prose["tokens"]


def test_a_pool_is_measured_and_cut() -> None:
    sums, id_counts = measure(usual(), pa.array(list(CORPORA.values())))
    assert id_counts[:5].tolist() == [0, 0, 1, 1, 1]
    assert id_counts.sum() == sums.tokens
    ids, parts = cut(usual(), " the self")
    assert parts[0] == b""
    assert b"".join(parts) == b" the self"
    assert len(ids) == len(parts)
    assert [token_text(usual(), token) for token in (0, 2, ids[-1])] == ["<|end|>", "", parts[-1].decode()]


def test_morphology_sees_a_pool_of_one_as_its_member() -> None:
    gold = (("theself", ["the", "self"]), ("end", ["end"]), ("heres", ["here", "s"]), ("größere", ["größ", "ere"]))
    yardstick = Yardstick(None, gold)
    one = members()["prose"]
    assert measure_morphology(PoolTokenizer({"one": one}), None, yardstick) == measure_morphology(one, None, yardstick)

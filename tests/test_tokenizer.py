"""The tokenizer against `tokenizers` on its own tokenizer.json, and against its own bytes."""

from __future__ import annotations

import dataclasses
import functools
import json
import pickle
import random
import subprocess
import sys
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
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as OutsideTokenizer

from pipeline import encoding
from pipeline import tokenizer as tokenizer_module
from pipeline.arrow import rows_of
from pipeline.errors import ArtifactError
from pipeline.normalizer import NORMALIZERS
from pipeline.pretokenizer import DIGITS, PRESETS, Pretokenizer
from pipeline.tokenizer import ForeignTokenizer, Tokenizer, load_tokenizer
from pipeline.trainers.bpe import BpeOptions, train_bpe
from tests import reference, strategies

CORPUS = [
    "The quick brown fox isn't here; the 1234567 lazy dogs aren't either.\n\n  The end, the very end of the THE.",
    "def the(self, other):\n\treturn self.the == other.the  # 3.14159 and 2.71828, then then then",
    "Die Straße wäre größer, naïve café déjà-vu; 中文字符中文 한국어 한국어 😀😀😀 ééé e\u0301e\u0301",
    "aaaaaaaaaaaaaaaa abababababababab ababab abcabcabc aaaa bbbb    \n\n\n\t\t",
]
SPECIALS = ("<|endoftext|>", "<pad>")
ENCODERS = ["merge", "greedy", "fewest"]


def train(
    preset: str = "gpt4o",
    digits: str | None = None,
    normalizer: str = "none",
    alphabet: Any = "bytes",
    vocab_size: int = 420,
    corpus: list[str] = CORPUS,
) -> Tokenizer:
    pretokenizer = Pretokenizer.named(preset, digits)
    words = reference.count_words(w.encode() for text in corpus for w in reference.split(text, pretokenizer.patterns))
    trained = train_bpe(
        rows_of(pa.array(list(words), type=pa.large_binary())),
        np.array(list(words.values()), dtype=np.int64),
        BpeOptions(vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=SPECIALS),
    )
    return Tokenizer(trained.vocab, trained.merges, SPECIALS, pretokenizer, normalizer)


train_once = functools.cache(train)


@functools.cache
def train_on(text: str, preset: str, alphabet: Any) -> Tokenizer:
    return train(preset, alphabet=alphabet, corpus=[text], vocab_size=300)


def fresh(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with a cache of its own."""
    return Tokenizer(tokenizer.vocab, tokenizer.merges, SPECIALS, tokenizer.pretokenizer, tokenizer.normalizer)


@functools.cache
def with_encoder(encoder: Any) -> Tokenizer:
    """A tokenizer of which each encoder makes something else."""
    return dataclasses.replace(train_once(), encoder=encoder)


def by_merges(merges: list[tuple[str, str]]) -> Tokenizer:
    """All of a document is one word over the letters a, b and c."""
    vocab = {token: n for n, token in enumerate(dict.fromkeys([*"abc", *(a + b for a, b in merges)]))}
    return Tokenizer(vocab, tuple(merges), pretokenizer=Pretokenizer.named("none"))


def outside_of(tokenizer: Tokenizer) -> OutsideTokenizer:
    outside = OutsideTokenizer.from_str(tokenizer.to_json())
    outside.encode_special_tokens = True
    return outside


def outside_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [e.ids for e in outside_of(tokenizer).encode_batch(texts, add_special_tokens=False)]


def long_words() -> dict[str, str]:
    rng = random.Random(0)
    return {
        "run": "a" * 20_001,
        "pairs": "ab" * 12_000,
        "random": "".join(rng.choices("ab", k=50_000)),
        "letters": "".join(rng.choices("abcde", k=30_000)),
        "blocks": "".join(rng.choice("abc") * rng.randint(1, 3_000) for _ in range(25)),
        "words": "".join(rng.choices(["the", "end", "Straße", "中文", "e\u0301", "a"], k=8_000)),
        "bytes": "".join(map(chr, rng.choices(range(0x4E00, 0x9FFF), k=9_000))),
    }


# --- encode -----------------------------------------------------------------------------------------------------------


@given(strategies.text)
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = train_once()
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == text.encode()
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(text=strategies.text)
def test_decoding_gives_the_normalized_text_back(normalizer: str, text: str) -> None:
    tokenizer = train_once(normalizer=normalizer)
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == tokenizer.normalize(text).encode()


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("digits", [None, *DIGITS])
def test_ids_are_those_of_tokenizers_for_every_preset(preset: str, digits: str | None) -> None:
    tokenizer = train(preset, digits)
    assert tokenizer.encode_batch(CORPUS).to_pylist() == outside_ids(tokenizer, CORPUS)


@given(strategies.texts)
def test_ids_are_those_of_tokenizers(texts: list[str]) -> None:
    tokenizer = train_once()
    assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(texts=strategies.texts)
def test_ids_are_those_of_tokenizers_with_a_normalizer(normalizer: str, texts: list[str]) -> None:
    tokenizer = train_once(normalizer=normalizer)
    assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


@given(strategies.texts)
def test_bytes_outside_the_alphabet_are_left_out_as_by_tokenizers(texts: list[str]) -> None:
    tokenizer = train_on("the end e\u0301 the bend of the trend", "gpt4o", "seen")
    assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


@given(st.lists(st.text("ab", max_size=400), max_size=5))
def test_words_longer_than_the_cache_holds(texts: list[str]) -> None:
    tokenizer = train_once("none")
    assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


@pytest.mark.parametrize("name", list(long_words()))
@pytest.mark.parametrize("preset", ["gpt4o", "none"])
def test_words_of_many_chunks_are_exact(name: str, preset: str) -> None:
    tokenizer = train_once(preset)
    word = long_words()[name]
    assert tokenizer.encode(word) == outside_ids(tokenizer, [word])[0]


@pytest.mark.parametrize("name", ["run", "random", "blocks"])
def test_words_of_many_chunks_with_long_tokens(name: str) -> None:
    """Tokens of up to thousands of bytes: no seam is far from one that must move."""
    tokenizer = train_on("a" * 5_000 + long_words()["blocks"][:20_000], "none", "bytes")
    word = long_words()[name]
    assert max(map(len, tokenizer.vocab)) > 1_000
    assert tokenizer.encode(word) == outside_ids(tokenizer, [word])[0]


@given(st.lists(strategies.text, max_size=20), st.sampled_from([2, 4, 64]), st.sampled_from([256, 700]))
def test_a_small_cache_does_not_change_a_result(texts: list[str], entries: int, room: int) -> None:
    texts = texts + texts[::-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "FIRST_CACHE_ENTRIES", 2)
        patch.setattr(encoding, "CACHE_ENTRIES", entries)
        patch.setattr(encoding, "CACHE_BYTES", room)
        patch.setattr(encoding, "CACHE_IDS", room)
        small = fresh(train_once())
        with small._caches.cache() as cache:
            assert len(cache.ids) == room
        ids = small.encode_batch(texts).to_pylist()
    assert ids == train_once().encode_batch(texts).to_pylist()


@given(strategies.texts, st.sampled_from([4, 5, 100]))
def test_the_size_of_a_chunk_of_words_does_not_matter(texts: list[str], words_at_once: int) -> None:
    whole = train_once().encode_batch(texts).to_pylist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.pretokenizer.WORDS_AT_ONCE", words_at_once)
        assert train_once().encode_batch(texts).to_pylist() == whole


@pytest.mark.parametrize("encoder", ENCODERS)
@given(texts=strategies.texts, num_bytes=st.sampled_from([1, 10, 100]))
def test_the_size_of_a_slice_of_texts_does_not_matter(encoder: Any, texts: list[str], num_bytes: int) -> None:
    tokenizer = with_encoder(encoder)
    whole = tokenizer.encode_batch(texts).to_pylist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "ENCODE_BYTES", num_bytes)
        assert tokenizer.encode_batch(texts).to_pylist() == whole


LONG_DOCUMENT = """
import re, sys
from pathlib import Path
import pyarrow as pa
from pipeline.tokenizer import Tokenizer

def memory(field):
    return int(re.search(rf"{field}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

tokenizer = Tokenizer.load(sys.argv[1])
sentence = "The end of the bend:   12345 is more than 678, says nobody.\\n"
tokenizer.encode_batch([sentence * 20_000])
texts = pa.array([sentence * 1_700_000], type=pa.large_string())
before = memory("VmRSS")
ids = tokenizer.encode_batch(texts)
print(texts.nbytes, memory("VmHWM") - before, ids.nbytes)
"""


def test_a_document_of_100_megabytes_needs_little_more_than_itself_and_its_ids(tmp_path: Path) -> None:
    """One copy with padding behind it, and the ids. A list of symbols or of words would be many times as much."""
    train_once().save(tmp_path)
    command = [sys.executable, "-c", LONG_DOCUMENT, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    text_bytes, extra_bytes, id_bytes = map(int, ended.stdout.split())
    assert text_bytes > 100_000_000
    assert extra_bytes < 1.1 * text_bytes + 2 * id_bytes + (32 << 20)


def test_a_normalizer_that_lengthens_slices() -> None:
    """Room for the ids is made by the normalized text, which may be several times the given one."""
    tokenizer = train_once(normalizer="nfkc")
    texts = ["\ufdfa" * 50, "", "\ufdfa", "a\ufdfab" * 30]  # 3 bytes become 33
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "ENCODE_BYTES", 40)
        assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


@given(strategies.texts)
def test_a_batch_is_its_texts_one_by_one(texts: list[str]) -> None:
    tokenizer = train_once()
    assert tokenizer.encode_batch(texts).to_pylist() == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize(
    "convert",
    [
        lambda texts: pa.array(texts),
        lambda texts: pa.array(["x", *texts], type=pa.large_string()).slice(1),
        lambda texts: pa.chunked_array([texts[:1], texts[1:]], type=pa.string()),
        lambda texts: pa.array(texts, type=pa.string_view()),
        tuple,
    ],
)
def test_any_kind_of_texts(convert: Callable[[list[str]], Any]) -> None:
    tokenizer = train_once()
    ids = tokenizer.encode_batch(convert(CORPUS))
    assert ids.type == pa.large_list(pa.uint16())
    assert ids.to_pylist() == tokenizer.encode_batch(CORPUS).to_pylist()


@pytest.mark.parametrize("texts", [[], [""], ["", ""], pa.chunked_array([], type=pa.string())])
def test_no_text_has_no_ids(texts: Any) -> None:
    assert train_once().encode_batch(texts).to_pylist() == [[] for _ in texts]


@pytest.mark.parametrize("normalizer", ["none", "nfc", "lowercase"])
def test_nulls_are_refused(normalizer: str) -> None:
    with pytest.raises(ValueError, match="1 of the texts are null"):
        train_once(normalizer=normalizer).encode_batch(pa.array(["a", None, "é"]))


@pytest.mark.parametrize("text", ["\ud800", "a\udcff", "\ud83d\ude00"])
def test_surrogates_are_refused(text: str) -> None:
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        train_once().encode(text)
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        train_once().encode_batch([text])


@pytest.mark.parametrize("special", SPECIALS)
def test_text_that_looks_like_a_special_token_is_text(special: str) -> None:
    tokenizer = train_once()
    ids = tokenizer.encode(f"the{special} end{special}")
    assert tokenizer.id_of(special) not in ids
    assert tokenizer.decode(ids) == f"the{special} end{special}"
    assert tokenizer.decode([tokenizer.id_of(special)]) == special


@pytest.mark.parametrize(("special", "text"), [("ab", "ab"), ("Ġa", " a"), ("é", "\u9000"), ("Ċ", "\n")])
def test_a_special_token_that_merges_spell_does_not_corrupt_text(special: str, text: str) -> None:
    """Such a token shares its id with the bytes it spells; where these occur in a text, they must come back."""
    words = rows_of(pa.array([b"ab", b" a"], type=pa.large_binary()))
    trained = train_bpe(words, np.ones(2, dtype=np.int64), BpeOptions(vocab_size=300, special_tokens=(special,)))
    tokenizer = Tokenizer(trained.vocab, trained.merges, (special,))
    assert tokenizer.decode(tokenizer.encode(text)) == text


# --- encoders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
@given(text=strategies.text)
def test_every_encoder_gives_the_text_back(encoder: Any, text: str) -> None:
    tokenizer = with_encoder(encoder)
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert not {tokenizer.id_of(special) for special in SPECIALS} & set(ids)


@given(strategies.texts)
def test_the_fewest_tokens_are_no_more_than_those_of_other_encoders(texts: list[str]) -> None:
    merge, greedy, fewest = (with_encoder(encoder).encode_batch(texts).to_pylist() for encoder in ENCODERS)
    for of_merges, of_longest, of_fewest in zip(merge, greedy, fewest, strict=True):
        assert len(of_fewest) <= min(len(of_merges), len(of_longest))


@pytest.mark.parametrize("encoder", ENCODERS)
@given(texts=st.lists(strategies.typical_text, max_size=4))
def test_words_without_merges_are_those_of_the_reference(encoder: Any, texts: list[str]) -> None:
    """Word by word: the longest token first as the reference does it, and as few tokens as it finds there are."""
    tokenizer = with_encoder(encoder)
    tokens = tokenizer._spellings
    ids = reference.ids_of_tokens(tokens, [n >= len(SPECIALS) for n in range(len(tokens))])
    for text in texts:
        words = [word.encode() for word in reference.split(text, tokenizer.pretokenizer.patterns)]
        if encoder == "greedy":
            assert tokenizer.encode(text) == [i for word in words for i in reference.greedy(word, ids)]
        elif encoder == "fewest":
            assert len(tokenizer.encode(text)) == sum(reference.num_fewest(word, ids)[1] for word in words)


@pytest.mark.parametrize("special", ["ab", "a", "Ġa"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_special_token_that_text_can_spell_loses_no_text(encoder: Any, special: str) -> None:
    words = rows_of(pa.array([b"ab", b" a"], type=pa.large_binary()))
    trained = train_bpe(words, np.ones(2, dtype=np.int64), BpeOptions(vocab_size=300, special_tokens=(special,)))
    tokenizer = Tokenizer(trained.vocab, trained.merges, (special,), encoder=encoder)
    assert tokenizer.decode(tokenizer.encode("ab a abba")) == "ab a abba"
    merged = dataclasses.replace(tokenizer, encoder="merge")
    for text in ("ab", "abab", " a", "ab a abba"):
        fewest = dataclasses.replace(tokenizer, encoder="fewest").encode(text)
        assert len(fewest) <= min(len(tokenizer.encode(text)), len(merged.encode(text)))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_bytes_outside_the_alphabet_are_left_out_by_every_encoder(encoder: Any) -> None:
    base = train_on("the end the bend of the trend", "gpt4o", "seen")
    tokenizer = dataclasses.replace(base, encoder=encoder)
    text = "the \x00eXnd\U0001f600"
    assert tokenizer.decode(tokenizer.encode(text)) == "the end"
    assert tokenizer.num_unknown_bytes([text]) == len(text.encode()) - len("the end")


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_encoder_is_written_down_and_read_again(tmp_path: Path, encoder: Any) -> None:
    tokenizer = with_encoder(encoder)
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / "tokenmill.json").read_text())["encoder"] == encoder
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encoder == encoder
    assert loaded.encode_batch(CORPUS).to_pylist() == tokenizer.encode_batch(CORPUS).to_pylist()


# --- threads and processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
def test_threads_may_share_a_tokenizer(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small caches, which overflow all the time; and nothing is there before the threads ask for it."""
    monkeypatch.setattr(encoding, "FIRST_CACHE_ENTRIES", 4)
    monkeypatch.setattr(encoding, "CACHE_ENTRIES", 256)
    monkeypatch.setattr(encoding, "CACHE_BYTES", 700)
    monkeypatch.setattr(encoding, "CACHE_IDS", 700)
    chance = random.Random(0)
    batches = [[" ".join(chance.choices([*CORPUS, *long_words()["words"][:4_000].split("e")], k=40))] for _ in range(24)]
    expected = [with_encoder(encoder).encode_batch(batch).to_pylist() for batch in batches]
    shared = dataclasses.replace(with_encoder(encoder))
    start = threading.Barrier(4)

    def encode(part: int) -> list[Any]:
        start.wait()
        return [shared.encode_batch(batch).to_pylist() for batch in batches[part::4]]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encode, range(4)))
    assert found == [expected[part::4] for part in range(4)]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_used_tokenizer_can_be_pickled(encoder: Any) -> None:
    tokenizer = with_encoder(encoder)
    ids = tokenizer.encode_batch(CORPUS)
    content = pickle.dumps(tokenizer)
    assert len(content) < 100_000  # caches stay behind
    copy = pickle.loads(content)
    assert copy.encode_batch(CORPUS).equals(ids)
    assert copy.files() == tokenizer.files()


# --- decode -----------------------------------------------------------------------------------------------------------


def test_a_cut_off_character_becomes_a_replacement() -> None:
    tokenizer = train_once()
    ids = tokenizer.encode("\U000e0001")
    assert len(ids) > 1
    assert tokenizer.decode(ids[:-1]) == "\ufffd"


def test_an_id_beyond_the_vocabulary_cannot_be_decoded() -> None:
    tokenizer = train_once()
    with pytest.raises(IndexError):
        tokenizer.decode([tokenizer.vocab_size])


@given(st.lists(st.integers(2, 419), max_size=30))
def test_ids_decode_as_by_tokenizers(ids: list[int]) -> None:
    tokenizer = train_once()
    assert tokenizer.decode(ids) == outside_of(tokenizer).decode(ids)


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_535, np.uint16), (65_536, np.uint16), (65_537, np.uint32)])
def test_two_bytes_an_id_as_long_as_they_hold(vocab_size: int, dtype: type) -> None:
    tokenizer = Tokenizer({str(n): n for n in range(vocab_size)}, ())
    assert tokenizer.vocab_size == vocab_size
    assert tokenizer.dtype is dtype
    assert np.iinfo(dtype).max >= vocab_size - 1


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("normalizer", ["none", "nfkc", "lowercase"])
def test_a_saved_tokenizer_is_the_same(tmp_path: Path, preset: str, normalizer: str) -> None:
    tokenizer = train_once(preset, normalizer=normalizer)
    tokenizer.save(tmp_path / "deep" / "er")
    loaded = Tokenizer.load(tmp_path / "deep" / "er")
    assert loaded.files() == tokenizer.files()
    assert loaded.vocab == tokenizer.vocab
    assert loaded.merges == tokenizer.merges
    assert loaded.special_tokens == SPECIALS
    assert loaded.pretokenizer == tokenizer.pretokenizer
    assert loaded.normalizer == normalizer
    assert loaded.encode_batch(CORPUS).to_pylist() == tokenizer.encode_batch(CORPUS).to_pylist()
    assert Tokenizer.load(tmp_path / "deep" / "er" / "tokenizer.json").sha256 == tokenizer.sha256


def test_options_are_kept(tmp_path: Path) -> None:
    base = train_once()
    options = {"eos_token": SPECIALS[0], "note": "é"}
    Tokenizer(base.vocab, base.merges, SPECIALS, base.pretokenizer, options=options).save(tmp_path)
    assert Tokenizer.load(tmp_path).options == options
    description = json.loads((tmp_path / "tokenmill.json").read_text())
    assert description["special_tokens"] == {"<|endoftext|>": 0, "<pad>": 1}
    assert description["vocab_size"] == base.vocab_size
    assert description["num_merges"] == len(base.merges)


def test_transformers_loads_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    base = train_once()
    Tokenizer(base.vocab, base.merges, SPECIALS, base.pretokenizer, options={"eos_token": SPECIALS[0]}).save(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert [loaded(text)["input_ids"] for text in CORPUS] == base.encode_batch(CORPUS).to_pylist()
    assert loaded.eos_token_id == base.id_of(SPECIALS[0])
    assert len(loaded) == base.vocab_size
    assert [loaded.decode(loaded(text)["input_ids"]) for text in CORPUS] == CORPUS


def test_the_id_of_an_unknown_token() -> None:
    assert train_once().id_of("<pad>") == 1
    with pytest.raises(KeyError):
        train_once().id_of("<bos>")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda root: root["model"].update(type="WordPiece"), "its model is WordPiece, not BPE"),
        (lambda root: root["model"].update(ignore_merges=True), "sets ignore_merges"),
        (lambda root: root["model"].update(unk_token="a"), "sets unk_token"),
        (lambda root: root["model"].update(byte_fallback=True), "sets byte_fallback"),
        (lambda root: root["model"].update(continuing_subword_prefix="##"), "sets continuing_subword_prefix"),
        (lambda root: root.update(normalizer={"type": "Strip"}), "normalizer Strip"),
        (lambda root: root.update(pre_tokenizer={"type": "Whitespace"}), "does not end in ByteLevel"),
        (lambda root: root["model"]["vocab"].update(a=100_000), "without a gap"),
        (lambda root: root.pop("model"), "not a tokenizer.json"),
    ],
)
def test_what_our_kernels_do_not_run_is_refused(change: Callable[[dict[str, Any]], None], named: str) -> None:
    root = json.loads(train_once().to_json())
    change(root)
    with pytest.raises(ArtifactError, match=named):
        Tokenizer.from_json(json.dumps(root))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"model": null}', '{"model": []}'])
def test_what_is_no_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        Tokenizer.from_json(text)
    with pytest.raises(ArtifactError, match="that `tokenizers` can load"):
        load_tokenizer(text.encode(), "some.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: cannot be read"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: cannot be read"):
        Tokenizer.load(tmp_path)


def test_texts_that_are_no_strings_are_refused() -> None:
    with pytest.raises(TypeError, match="of the type int64"):
        train_once().encode_batch(pa.array([1, 2]))


@pytest.mark.parametrize(("most", "kind"), [(420, Tokenizer), (419, ForeignTokenizer)])
def test_a_vocabulary_beyond_the_limit_runs_in_tokenizers(most: int, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    content = train_once().to_json()
    monkeypatch.setattr(tokenizer_module, "MOST_IDS", most)
    loaded = load_tokenizer(content.encode(), "some.json")
    assert type(loaded) is kind
    assert loaded.encode_batch(CORPUS).to_pylist() == train_once().encode_batch(CORPUS).to_pylist()
    if kind is ForeignTokenizer:
        with pytest.raises(ArtifactError, match="more than 419 ids or merges"):
            Tokenizer.from_json(content)


@pytest.mark.parametrize("times", [1, 2, 3, 50, 300])
def test_the_first_id_beside_itself(times: int) -> None:
    """Without special tokens the pair (0, 0) occurs in text, and may be merged or not."""
    letters = [*sorted(reference.CHAR_OF_BYTE.values())]
    for merges in [[("a", "b")], [("a", "b"), ("!", "!")], [("!", "!"), ("!!", "!!")]]:
        vocab = {token: n for n, token in enumerate([*letters, *(a + b for a, b in merges)])}
        tokenizer = Tokenizer(vocab, tuple(merges), pretokenizer=Pretokenizer.named("none"))
        text = "ab" + "!" * times
        assert tokenizer.encode(text) == outside_ids(tokenizer, [text])[0]
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_merges_may_be_spelled_with_a_blank() -> None:
    root = json.loads(train_once().to_json())
    root["model"]["merges"] = [" ".join(pair) for pair in root["model"]["merges"]]
    assert Tokenizer.from_json(json.dumps(root)).merges == train_once().merges


def test_our_own_file_is_run_by_our_kernels() -> None:
    loaded = load_tokenizer(train_once().to_json().encode(), "some.json")
    assert isinstance(loaded, Tokenizer)
    assert loaded.encode_batch(CORPUS).to_pylist() == train_once().encode_batch(CORPUS).to_pylist()


@given(strategies.merge_lists(), st.lists(st.text("abc", max_size=60), max_size=5))
def test_merges_in_any_order_are_those_of_tokenizers(pairs: list[tuple[int, int]], texts: list[str]) -> None:
    """Not as training makes them: tokens of several derivations, and ranks below those of their parts."""
    spellings = ["a", "b", "c"]
    for a, b in pairs:
        spellings.append(spellings[a] + spellings[b])
    merges = [(spellings[a], spellings[b]) for a, b in pairs][::-1]
    tokenizer = by_merges(merges)
    assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


@pytest.mark.parametrize(
    "merges",
    [
        [("b", "c"), ("ab", "c"), ("a", "b"), ("bc", "a")],
        [("ab", "ab"), ("a", "b"), ("b", "a"), ("ba", "b")],
        [("a", "ab"), ("b", "b"), ("a", "b"), ("bb", "a"), ("aab", "bb")],
        [("aa", "a"), ("aaa", "aa"), ("a", "a")],
    ],
)
def test_long_words_with_ranks_below_those_of_their_parts(merges: list[tuple[str, str]]) -> None:
    tokenizer = by_merges(merges)
    texts = ["".join(random.Random(seed).choices("abc" if seed else "a", k=20_000)) for seed in range(4)]
    assert tokenizer.encode_batch(texts).to_pylist() == outside_ids(tokenizer, texts)


# --- other tokenizers -------------------------------------------------------------------------------------------------


def wordpiece() -> OutsideTokenizer:
    words = ["[UNK]", "the", "end", "##s", "quick", "a"]
    outside = OutsideTokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    outside.pre_tokenizer = pre_tokenizers.Whitespace()
    outside.normalizer = normalizers.Lowercase()
    outside.add_special_tokens([AddedToken("[CLS]", special=True)])
    return outside


def unigram() -> OutsideTokenizer:
    outside = OutsideTokenizer(models.Unigram([("<unk>", 0.0), ("the", -1.0), (" ", -2.0), ("e", -3.0), ("nd", -3.5)], 0))
    outside.add_special_tokens([AddedToken("[CLS]", special=True)])
    return outside


@pytest.mark.parametrize("make", [wordpiece, unigram])
def test_other_models_run_in_tokenizers(make: Callable[[], OutsideTokenizer]) -> None:
    outside = make()
    foreign = load_tokenizer(outside.to_str().encode(), "some.json")
    assert isinstance(foreign, ForeignTokenizer)
    assert foreign.vocab_size == outside.get_vocab_size()
    texts = ["The ends", "", "the quick end of a", "zzz"]
    ids = foreign.encode_batch(texts)
    assert ids.type == pa.large_list(pa.uint32())
    assert ids.to_pylist() == [outside.encode(text, add_special_tokens=False).ids for text in texts]


@pytest.mark.parametrize("make", [wordpiece, unigram])
def test_special_tokens_in_text_are_text_to_other_models(make: Callable[[], OutsideTokenizer]) -> None:
    outside = make()
    ids = load_tokenizer(outside.to_str().encode(), "some.json").encode_batch(pa.array(["the [CLS] end"])).to_pylist()[0]
    assert outside.token_to_id("[CLS]") in outside.encode("the [CLS] end").ids
    assert outside.token_to_id("[CLS]") not in ids

"""The morphology-hybrid tokenizer from outside: Arrow, files, `transformers`, threads, and every character there is."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import encoding
from pipeline.errors import ArtifactError
from pipeline.morph import FORMAT, MARKERS, MorphTokenizer
from pipeline.normalizer import NORMALIZERS
from pipeline.pretokenizer import Pretokenizer
from pipeline.tokenizer import Tokenizer, load_tokenizer, parse_tokenizer
from tests import strategies
from tests.languages import packs
from tests.languages.packs import SPECIALS, tokenizer_of, usual

TEXTS = [
    " kitabı evlerde okudum; Ahmedi, İZMİR'DE da.\n\nSaatte 3 oda mı? Işığı Ali de gitmek.",
    "",
    "Die Straße: 中文, 12345 ağızda\trengine  soyı   😀 e\u0301",
    " oda da da da ev mi",
    " mı",
    " ",
]


SIZE = usual().vocab_size


# --- encode -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_arrays_of_any_kind(kind: pa.DataType) -> None:
    array = pa.array(TEXTS, type=kind)
    expected = [usual().encode(text) for text in TEXTS]
    ids = usual().encode_batch(array)
    assert ids.type == pa.large_list(pa.uint16())
    assert ids.to_pylist() == expected
    assert usual().encode_batch(array.slice(2, 3)).to_pylist() == expected[2:5]
    assert usual().encode_batch(array.slice(6)).to_pylist() == []
    chunked = pa.chunked_array([array.slice(4), array.slice(0, 0), array.slice(1, 4)], type=kind)
    assert usual().encode_batch(chunked).to_pylist() == expected[4:] + expected[1:5]
    assert usual().encode_batch(pa.chunked_array([], type=kind)).to_pylist() == []


@given(strategies.arrow_texts().filter(lambda array: not pa.types.is_binary(array.type) and "binary" not in str(array.type)))
def test_slices_of_arrays(array: pa.Array) -> None:
    assert usual().encode_batch(array).to_pylist() == [usual().encode(text) for text in array.to_pylist()]


def test_no_texts() -> None:
    for texts in ([], [""], ["", ""]):
        assert usual().encode_batch(texts).to_pylist() == [[]] * len(texts)
    assert usual().encode_batch([]).type == pa.large_list(pa.uint16())


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="the texts are of the type int64; strings are expected"):
        usual().encode_batch(pa.array([1]))
    with pytest.raises(ValueError, match="1 of the texts are null; drop them first"):
        usual().encode_batch(pa.array(["a", None]))
    with pytest.raises(UnicodeEncodeError):
        usual().encode("\ud800")


def test_special_tokens_in_text_are_text() -> None:
    ids = usual().encode("<|end|> <pad>")
    assert min(ids) >= len(SPECIALS)
    assert usual().decode(ids) == "<|end|> <pad>"
    assert usual().num_unknown_bytes(["\x00\U0010ffff"]) == 0


@pytest.mark.parametrize(("vocab_size", "kind"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_two_bytes_an_id_as_long_as_they_hold(vocab_size: int, kind: type) -> None:
    more = vocab_size - usual().vocab_size
    pieces = [bytes(piece) for piece in itertools.islice(itertools.product(b"\xf9\xfa\xfb\xfcqwx", repeat=6), more)]
    tokenizer = tokenizer_of([*packs.PIECES, *pieces])
    assert tokenizer.vocab_size == vocab_size
    assert tokenizer.dtype is kind
    last = pieces[-1]
    tokenizer = dataclasses.replace(tokenizer, pieces=(*tokenizer.pieces[:-1], b"\xf0\x9f\x98\x80"))
    assert last != tokenizer.pieces[-1]
    ids = tokenizer.encode_batch([" oda 😀", "😀"])
    assert ids.type == pa.large_list(pa.from_numpy_dtype(kind))
    assert ids.to_pylist()[1] == [vocab_size - 1]
    assert [tokenizer.decode(row) for row in ids.to_pylist()] == [" oda 😀", "😀"]


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(text=packs.text)
def test_decoding_gives_the_normalized_text_back(normalizer: str, text: str) -> None:
    tokenizer = _with_normalizer(normalizer)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.normalize(text)
    assert ids == usual().encode(tokenizer.normalize(text))


def _with_normalizer(normalizer: str) -> MorphTokenizer:
    return dataclasses.replace(usual(), normalizer=normalizer)


@pytest.mark.parametrize("preset", ["gpt2", "gpt4o", "whitespace", "none"])
@given(texts=st.lists(packs.text, max_size=3))
def test_text_comes_back_however_it_is_cut(preset: str, texts: list[str]) -> None:
    tokenizer = usual(pretokenizer=preset)
    assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(texts).to_pylist()] == texts


def one_of_each_block() -> list[str]:
    """A character of each 256 code points of every plane, and the first and last ones that take another byte."""
    chance = random.Random(0)
    blocks = range(0, 0x110000, 0x100)
    found = [chr(block + chance.randrange(0x100)) for block in blocks if not 0xD800 <= block < 0xE000]
    return found + [chr(code) for code in (0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF)]


@pytest.mark.parametrize("segmentation", ["viterbi", "longest"])
def test_every_plane(segmentation: str) -> None:
    """By themselves, in words, before affixes, and in a row."""
    tokenizer = usual(segmentation)
    chars = one_of_each_block()
    assert len(chars) == 17 * 256 - 8 + 10
    texts = [*chars, *(f" ev{char}lerde" for char in chars), *(f"{char}kitabı{char}" for char in chars), "".join(chars)]
    ids = tokenizer.encode_batch(texts)
    assert [tokenizer.decode_bytes(row) for row in ids.to_pylist()] == [text.encode() for text in texts]


# --- names ------------------------------------------------------------------------------------------------------------


def test_every_id_has_a_name() -> None:
    tokenizer = usual()
    names = list(tokenizer.vocab)
    assert list(tokenizer.vocab.values()) == list(range(tokenizer.vocab_size))
    assert names[:2] == list(SPECIALS)
    assert names[2:7] == list(MARKERS)
    assert names[7:9] == ["-DA", "-MI"]
    assert names[19:21] == ["kitap", "renk"]
    assert "'ÄŁ'" not in names  # no piece of it
    assert names[-1] == "'vler'"
    assert tokenizer.id_of("<pad>") == 1
    assert tokenizer.decode([tokenizer.id_of("'Ġk'")]) == " k"
    with pytest.raises(KeyError):
        tokenizer.id_of("kitab")


@pytest.mark.parametrize(
    ("roots", "specials"),
    [("<pad> noun -\n", ("<pad>",)), ("-pl noun -\n", ()), ("'a' noun -\n", ()), ("ev noun -\n", ("<|join|>",))],
)
def test_every_id_has_a_name_of_its_own(roots: str, specials: tuple[str, ...]) -> None:
    """A root, a special token or a piece may be written as another's name is; ``transformers`` goes by names."""
    morphology = packs.morphology_of("vowel letters ae -\n", "pl noun lar * -\n", roots)
    tokenizer = tokenizer_of([], morphology=morphology, special_tokens=specials)
    assert len(tokenizer.vocab) == tokenizer.vocab_size
    assert [tokenizer.id_of(special) for special in specials] == list(range(len(specials)))


# --- decode -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-1, SIZE, 10**6, -(2**31), 2**32])
def test_an_id_beyond_the_vocabulary_cannot_be_decoded(wrong: int) -> None:
    for decode in (usual().decode, usual().decode_bytes, usual().decode_parts):
        with pytest.raises(IndexError, match=f"^{wrong} is not an id$"):
            decode([19, wrong, 20])


def test_ids_may_come_in_any_form() -> None:
    ids = usual().encode(TEXTS[0])
    for same in (
        tuple(ids),
        iter(ids),
        np.array(ids, dtype=np.uint16),
        np.array(ids, dtype=np.int64),
        pa.array(ids).to_numpy(),
    ):
        assert usual().decode(same) == TEXTS[0]
    assert usual().decode([]) == ""
    assert usual().decode_parts([]) == []


def test_a_cut_off_character_becomes_a_replacement() -> None:
    ids = usual().encode("\U000e0001")
    assert usual().decode(ids[:-1]) == "\ufffd"
    assert usual().decode_bytes(ids[:-1]) == "\U000e0001".encode()[:-1]


def test_capitals_may_be_longer_than_their_letters() -> None:
    """There was once too little room for them."""
    morphology = packs.morphology_of(packs.HARMONY + "z upper z \U00010400\n", roots="zzzzzzzz noun -\n")
    tokenizer = packs.tokenizer_of(morphology=morphology)
    text = 200 * (" " + 8 * "\U00010400")
    ids = tokenizer.encode(text)
    assert ids == 200 * [tokenizer.id_of("<|caps|>"), tokenizer.id_of("zzzzzzzz")]
    assert tokenizer.decode(ids) == text


def test_special_tokens_read_as_their_own_text() -> None:
    ids = [0, *usual().encode(" ev"), 1, usual().id_of("-PL")]
    assert usual().decode_parts(ids) == [b"<|end|>", b" ev", b"<pad>", b"lar"]  # an affix that hears nothing


# --- files ------------------------------------------------------------------------------------------------------------


def full(segmentation: str = "viterbi", normalizer: str = "nfc", preset: str = "gpt4o") -> MorphTokenizer:
    """With nothing as it is by default."""
    return tokenizer_of(
        costs=random.Random(3),
        literal_cost=7,
        segmentation=segmentation,
        normalizer=normalizer,
        pretokenizer=Pretokenizer.named(preset),
        options={"eos_token": "<|end|>", "note": "é"},
    )


@pytest.mark.parametrize("segmentation", ["viterbi", "longest"])
@pytest.mark.parametrize("normalizer", ["nfc", "lowercase"])
def test_a_saved_tokenizer_is_the_same(tmp_path: Path, segmentation: str, normalizer: str) -> None:
    tokenizer = full(segmentation, normalizer)
    tokenizer.save(tmp_path / "deep" / "er")
    loaded = Tokenizer.load(tmp_path / "deep" / "er")
    assert isinstance(loaded, MorphTokenizer)
    for field in dataclasses.fields(MorphTokenizer):
        assert getattr(loaded, field.name) == getattr(tokenizer, field.name), field.name
    assert loaded.files() == tokenizer.files()
    assert loaded.vocab == tokenizer.vocab
    assert loaded.encode_batch(TEXTS).equals(tokenizer.encode_batch(TEXTS))
    assert Tokenizer.load(tmp_path / "deep" / "er" / "morph.json").sha256 == tokenizer.sha256
    for name, content in tokenizer.files().items():
        assert (tmp_path / "deep" / "er" / name).read_bytes() == content


def test_the_same_tokenizer_gives_the_same_bytes() -> None:
    assert full().files() == full().files()
    assert full().sha256 != full("longest").sha256
    assert full().files()["morph.json"] == full().to_json().encode()


def test_the_description() -> None:
    description = full().description()
    assert json.loads(full().files()["tokenmill.json"]) == description
    assert description["kind"] == "morph"
    assert description["vocab_size"] == full().vocab_size
    assert (description["num_affixes"], description["num_roots"], description["num_pieces"]) == (
        12,
        len(packs.morphology_of().roots),
        len(packs.PIECES),
    )
    assert description["special_tokens"] == {"<|end|>": 0, "<pad>": 1}
    assert description["tokenizer_sha256"] == full().sha256
    assert description["options"] == {"eos_token": "<|end|>", "note": "é"}


def test_json_alone_is_enough() -> None:
    text = full().to_json()
    for loaded in (MorphTokenizer.from_json(text), parse_tokenizer(text), load_tokenizer(text.encode(), "some.json")):
        assert isinstance(loaded, MorphTokenizer)
        assert loaded.to_json() == text
        assert loaded.encode_batch(TEXTS).equals(full().encode_batch(TEXTS))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda root: root.update(format="tokenmill-morph-9"), f"its format is 'tokenmill-morph-9'; '{FORMAT}' is what"),
        (lambda root: root.pop("format"), "KeyError: 'format'"),
        (lambda root: root.pop("costs"), "KeyError: 'costs'"),
        (lambda root: root["costs"].pop(), f"{SIZE} tokens, and {SIZE - 1} costs; {SIZE} of each"),
        (lambda root: root["pieces"].pop(), f"{SIZE - 1} tokens, and {SIZE} costs; {SIZE} of each"),
        (lambda root: root["morphology"]["roots"].pop(), f"{SIZE - 1} tokens, and {SIZE} costs; {SIZE} of each"),
        (lambda root: root["special_tokens"].append("x"), f"{SIZE + 1} tokens, and {SIZE} costs; {SIZE} of each"),
        (lambda root: root.update(vocab_size=SIZE + 1), f"{SIZE} tokens, and {SIZE} costs; {SIZE + 1} of each"),
        (lambda root: root["costs"].__setitem__(3, "x"), "invalid literal"),
        (lambda root: root.update(literal_cost=None), "TypeError"),
        (lambda root: root["pieces"].__setitem__(3, "中"), "KeyError: '中'"),
        (lambda root: root.update(morphology=[]), "TypeError"),
        (lambda root: root["morphology"].pop("step"), "KeyError: 'step'"),
        (lambda root: root["morphology"]["affixes"][0].pop("asks"), "KeyError: 'asks'"),
        (lambda root: root["morphology"]["letters"][0].pop(), "ValueError: not enough values"),
        (lambda root: root.update(pretokenizer=3), "TypeError"),
    ],
)
def test_damaged_files_are_refused(change: Callable[[dict[str, Any]], Any], named: str, tmp_path: Path) -> None:
    root = json.loads(usual().to_json())
    change(root)
    with pytest.raises(ArtifactError, match=named):
        MorphTokenizer.from_json(json.dumps(root))
    usual().save(tmp_path)
    (tmp_path / "morph.json").write_text(json.dumps(root, ensure_ascii=False, separators=(",", ":")))
    with pytest.raises(ArtifactError, match=r"morph\.json: "):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda root, language: root.update(segmentation="best"),
        lambda root, language: root.update(normalizer="upper"),
        lambda root, language: root.update(pretokenizer=["("]),
        lambda root, language: language["step"].pop(),
        lambda root, language: language["step"][1].pop(),
        lambda root, language: language["step"][1].__setitem__(0, len(language["step"])),
        lambda root, language: language["step"][1].__setitem__(0, -1),
        lambda root, language: language["letters"].__setitem__(0, ["ab", "", 0]),
        lambda root, language: language["letters"].__setitem__(0, ["a", "AB", 0]),
        lambda root, language: language["letters"].__setitem__(0, ["a", "", 99]),
        lambda root, language: language["stems"].append("more"),
        lambda root, language: language["kinds"].clear(),
        lambda root, language: language["roots"][0]["forms"].pop(),
        lambda root, language: language["roots"][0]["forms"].__setitem__(0, ""),
        lambda root, language: language["affixes"][0]["surface"].pop(),
        lambda root, language: language["affixes"][0]["surface"][0].pop(),
        lambda root, language: language["affixes"][0]["surface"][0].__setitem__(0, 9),
        lambda root, language: language["affixes"][0]["surface"][0].__setitem__(0, -9),
        lambda root, language: language["affixes"][0]["surfaces"].clear(),
        lambda root, language: language["affixes"][0]["asks"].pop(),
        lambda root, language: language["affixes"][0]["asks"].__setitem__(0, 4),
        lambda root, language: language["affixes"][0].update(kind=62),
        lambda root, language: language["affixes"].reverse(),  # clitics are first
    ],
)
def test_what_cannot_work_is_refused_when_it_is_loaded(change: Callable[[Any, Any], Any]) -> None:
    """Not by a KeyError, or by a look-up that goes astray, when it is first used."""
    root = json.loads(usual().to_json())
    change(root, root["morphology"])
    with pytest.raises(ArtifactError):
        MorphTokenizer.from_json(json.dumps(root))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '"x"', '{"format":"tokenmill-morph-1"}'])
def test_what_is_no_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        MorphTokenizer.from_json(text)
    with pytest.raises(ArtifactError):
        parse_tokenizer(text)


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    usual().save(tmp_path)
    content = (tmp_path / "morph.json").read_bytes()
    for length in (0, 10, 40, 200, len(content) // 2, len(content) - 3):
        (tmp_path / "morph.json").write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=r"morph\.json: "):
            Tokenizer.load(tmp_path)
    (tmp_path / "morph.json").write_bytes(b"\xff" + content)
    with pytest.raises(ArtifactError, match=r"morph\.json: cannot be read"):
        Tokenizer.load(tmp_path)


# --- transformers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own for the code that tokenizers bring along, and nothing of it left behind."""
    from transformers import dynamic_module_utils

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]


def load_outside(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(("segmentation", "normalizer"), [("viterbi", "none"), ("longest", "lowercase")])
def test_transformers_loads_the_directory(tmp_path: Path, segmentation: str, normalizer: str) -> None:
    tokenizer = full(segmentation, normalizer)
    tokenizer.save(tmp_path / "saved")
    loaded = load_outside(tmp_path / "saved")
    expected = tokenizer.encode_batch(TEXTS).to_pylist()
    for outside in (loaded, _saved_again(loaded, tmp_path / "again"), pickle.loads(pickle.dumps(loaded))):
        assert len(outside) == outside.vocab_size == tokenizer.vocab_size
        assert outside.get_vocab() == tokenizer.vocab
        assert outside.eos_token_id == 0
        assert [outside(text)["input_ids"] for text in TEXTS] == expected
        assert outside(TEXTS)["input_ids"] == expected
        assert [outside.decode(ids) for ids in expected] == [tokenizer.normalize(text) for text in TEXTS]
        assert [outside.encode(text) for text in TEXTS] == expected
        names = {token_id: name for name, token_id in tokenizer.vocab.items()}
        assert outside.tokenize(TEXTS[0]) == [names[token_id] for token_id in expected[0]]


def _saved_again(outside: Any, folder: Path) -> Any:
    outside.save_pretrained(folder)
    assert (folder / "morph.json").is_file()
    assert (folder / "tokenization_morph.py").is_file()
    return load_outside(folder)


@pytest.mark.usefixtures("modules")
def test_transformers_takes_special_tokens_out_of_text(tmp_path: Path) -> None:
    """As it does for every tokenizer; ours leaves them text."""
    full().save(tmp_path)
    outside = load_outside(tmp_path)
    ids = outside("<|end|> kitabı<pad> ev")["input_ids"]
    assert ids == [0, *full().encode(" kitabı"), 1, *full().encode(" ev")]
    assert outside.decode(ids) == full().decode(ids) == "<|end|> kitabı<pad> ev"
    assert outside.decode(ids, skip_special_tokens=True) == " kitabı ev"
    assert outside.all_special_tokens == list(SPECIALS)


@pytest.mark.usefixtures("modules")
def test_transformers_keeps_tokens_that_are_added_later(tmp_path: Path) -> None:
    """A pad token, say; it reads as its own text, as that of every tokenizer does."""
    full().save(tmp_path)
    outside = load_outside(tmp_path)
    assert outside.add_special_tokens({"pad_token": "<new>"}) == 1
    ids = outside(" kitabı<new> ev")["input_ids"]
    assert ids == [*full().encode(" kitabı"), full().vocab_size, *full().encode(" ev")]
    assert outside.decode(ids) == " kitabı<new> ev"
    assert outside.decode(ids, skip_special_tokens=True) == " kitabı ev"


@pytest.mark.usefixtures("modules")
def test_any_text_in_transformers(tmp_path: Path) -> None:
    """It cleans nothing up, and strips nothing."""
    tokenizer = dataclasses.replace(full(), normalizer="none")
    tokenizer.save(tmp_path)
    outside = load_outside(tmp_path)

    @given(st.one_of(packs.text, strategies.text))
    def check(text: str) -> None:
        if any(special in text for special in SPECIALS):
            return
        ids = tokenizer.encode(text)
        assert outside(text)["input_ids"] == ids
        assert outside.decode(ids) == text

    check()


# --- threads and processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segmentation", ["viterbi", "longest"])
def test_threads_may_share_a_tokenizer(segmentation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small caches, which overflow all the time; and nothing is there before the threads ask for it."""
    monkeypatch.setattr(encoding, "FIRST_CACHE_ENTRIES", 4)
    monkeypatch.setattr(encoding, "CACHE_ENTRIES", 256)
    monkeypatch.setattr(encoding, "CACHE_BYTES", 700)
    monkeypatch.setattr(encoding, "CACHE_IDS", 700)
    chance = random.Random(0)
    words = [*" ".join(TEXTS).split(" "), *packs.FORMS]
    batches = [[" ".join(chance.choices(words, k=400)) for _ in range(3)] for _ in range(20)]
    expected = [dataclasses.replace(usual(segmentation)).encode_batch(batch).to_pylist() for batch in batches]
    shared = dataclasses.replace(usual(segmentation))
    start = threading.Barrier(2)

    def encode(part: int) -> list[Any]:
        start.wait()
        return [shared.encode_batch(batch).to_pylist() for batch in batches[part::2]]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(encode, range(2)))
    assert found == [expected[part::2] for part in range(2)]
    assert [[shared.decode(ids) for ids in rows] for rows in expected] == batches


def test_a_used_tokenizer_can_be_pickled() -> None:
    tokenizer = full()
    ids = tokenizer.encode_batch(TEXTS)
    content = pickle.dumps(tokenizer)
    assert len(content) < 50_000  # caches and tables stay behind
    copy = pickle.loads(content)
    assert copy.encode_batch(TEXTS).equals(ids)
    assert copy.files() == tokenizer.files()

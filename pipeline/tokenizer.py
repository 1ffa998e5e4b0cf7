"""The tokenizer: text to ids and back, and its files.

``Tokenizer`` runs byte-level BPE with our kernels; ``morph.py`` has the kind that goes by morphemes, ``pool.py`` the one
that picks among several. ``ForeignTokenizer`` gives any other tokenizer.json the same face, on top of ``tokenizers``, so
that it can be compared with ours. ``load_tokenizer`` picks one.

Added tokens are cut out of the text before all else; see ``added.py``. Text that looks like a special token is ordinary
text here. (``tokenizers`` does the same when its property ``encode_special_tokens`` is True; by default it turns such text
into the special's id.)
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.added import AddedCutter, AddedToken, check_added_tokens
from pipeline.arrow import Rows, iter_slices, rows_of, text_array
from pipeline.byte_level import ALPHABET, BYTE_OF_CHAR, CHAR_OF_BYTE, to_bytes, to_chars
from pipeline.encoding import ENCODE_BYTES, Texts, TokenizerBase, WordCaches, Words, as_array, encode_between, encode_texts
from pipeline.errors import ArtifactError
from pipeline.kernels.encode import FEWEST, GREEDY, MERGE, Encoder, encode_words
from pipeline.kernels.ranks import MOST_IDS, MergeTables, mark_met, pair_table, ranks_of_bytes
from pipeline.kernels.vocabulary import VocabularyTrie, build_trie
from pipeline.morph import FORMAT as MORPH_FORMAT
from pipeline.morph import MorphTokenizer
from pipeline.normalizer import from_json as normalizer_from_json
from pipeline.normalizer import normalize
from pipeline.normalizer import to_tokenizers as normalizer_to_tokenizers
from pipeline.pool import FORMAT as POOL_FORMAT
from pipeline.pool import PoolTokenizer
from pipeline.pretokenizer import Pretokenizer
from pipeline.superwords import SuperwordEncoder, has_superwords, superword_encoder
from pipeline.turkish_tokenizer import FORMAT as TURKISH_FORMAT
from pipeline.turkish_tokenizer import TurkishTokenizer02

EncoderName: TypeAlias = Literal["merge", "greedy", "fewest"]
_MODES: dict[EncoderName, int] = {"merge": MERGE, "greedy": GREEDY, "fewest": FEWEST}

AROUND = ("post_processor", "padding", "truncation")
"""Keys of a tokenizer.json: what is put before, behind and between ids, and how many there may be."""


@dataclass(frozen=True, eq=False)
class Tokenizer(TokenizerBase):
    """Byte-level BPE.

    Parameters
    ----------
    vocab
        Spelling of each token in byte-level characters (special and added tokens: as they are) to its id; ids are 0, 1, 2,
        …. A token with other characters stands for no text, and no merge may use it.
    merges
        Pairs of spellings in the order of their ranks.
    special_tokens
        Those of the vocabulary that stand for no text, in the order of their ids.
    pretokenizer, normalizer
        What is done to text before the merges.
    encoder
        How words become ids: by the ranks of the ``merges`` (what a tokenizer.json means), the longest token first, or
        the fewest tokens.
    options
        What the tokenizer was made with, for its own description; see ``description``.
    added_tokens
        Those that are cut out of the text before it is normalized or cut into words.
    around
        What a tokenizer.json says of the ids besides, by its own keys (``AROUND``): written again, and not run here.

    Raises
    ------
    ArtifactError
        An added token cannot be told from another token.
    """

    vocab: dict[str, int]
    merges: tuple[tuple[str, str], ...]
    special_tokens: tuple[str, ...] = ()
    pretokenizer: Pretokenizer = field(default_factory=lambda: Pretokenizer.named("gpt2"))
    normalizer: str = "none"
    encoder: EncoderName = "merge"
    options: dict[str, Any] = field(default_factory=dict)
    added_tokens: tuple[AddedToken, ...] = ()
    around: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_added_tokens(self.added_tokens, self.special_tokens, self.normalizer)
        for token in self.added_tokens:
            if token.content not in self.vocab:
                raise ArtifactError(f"the added token {token.content!r} is not in the vocabulary")
            if not token.content.isascii() and token.content in self._made:
                raise ArtifactError(
                    f"the added token {token.content!r} is spelled like the token of other bytes, "
                    f"{to_bytes(token.content)!r}, and would share its id"
                )

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.vocab)

    def id_of(self, token: str) -> int:
        """The id of a special token or a spelling; KeyError if there is none."""
        return self.vocab[token]

    # --- encode ---

    @functools.cached_property
    def _made(self) -> set[str]:
        """Spellings of the tokens that text gives: of a byte, or made by a merge."""
        return {a + b for a, b in self.merges} | set(CHAR_OF_BYTE.values())

    @functools.cached_property
    def _apart(self) -> set[str]:
        """Special and added tokens that text cannot give otherwise."""
        return {*self.special_tokens, *(token.content for token in self.added_tokens)} - self._made

    @functools.cached_property
    def _texts(self) -> list[bytes]:
        """The bytes of each id, as far as text can give it."""
        texts = [b""] * len(self.vocab)
        for chars, token_id in self.vocab.items():
            if all(c in BYTE_OF_CHAR for c in chars):
                texts[token_id] = to_bytes(chars)
        return texts

    @functools.cached_property
    def _merge_ids(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The two sides of each merge, by rank."""
        ids = [(self.vocab[a], self.vocab[b]) for a, b in self.merges]
        left, right = np.array(ids, dtype=np.int64).reshape(-1, 2).T.copy()
        return left, right

    @functools.cached_property
    def _merge_tables(self) -> MergeTables:
        if len(self.vocab) > MOST_IDS or len(self.merges) > MOST_IDS:
            raise ArtifactError(f"{len(self.vocab):,} ids and {len(self.merges):,} merges; {MOST_IDS:,} are possible")
        byte_ids = np.full(256, -1, dtype=np.int32)
        for byte in ALPHABET:
            byte_ids[byte] = self.vocab.get(to_chars(bytes([byte])), -1)
        pairs = pair_table(*self._merge_ids, np.arange(len(self.merges)))
        return MergeTables(
            byte_ids,
            pairs,
            ranks_of_bytes(pairs, byte_ids),
            np.array([self.vocab[a + b] for a, b in self.merges], dtype=np.int32),
            np.frombuffer(b"".join(self._texts) + b"\0", dtype=np.uint8),
            np.cumsum([0, *map(len, self._texts)], dtype=np.int64),
        )

    @functools.cached_property
    def _superwords(self) -> SuperwordEncoder | None:
        """What encodes long chunks: whole documents, or what superwords are for; None if words are short anyway."""
        if self.encoder != "merge" or (self.pretokenizer.patterns and not has_superwords(self._texts)):
            return None
        return superword_encoder(self._merge_tables, *self._merge_ids, self._texts)

    @functools.cached_property
    def _encoder(self) -> Encoder:
        merges = self._merge_tables
        if self.encoder == "merge":
            return Encoder(MERGE, merges, VocabularyTrie(np.zeros((0, 4), dtype=np.int32), 0))
        is_text = np.ones(len(self.vocab), dtype=bool)
        is_text[[self.vocab[token] for token in self._apart]] = False
        return Encoder(_MODES[self.encoder], merges, build_trie(merges.token_values, merges.token_offsets, is_text))

    @functools.cached_property
    def _caches(self) -> WordCaches:
        return WordCaches()

    def encode_batch(self, texts: Texts) -> pa.LargeListArray:
        """The ids of each text, one row a text, as a large list of ``dtype``; no special token is added.

        Threads may call it at the same time: each has a word cache of its own, of at most 100 MB. Beyond it and the result
        the memory is that of a slice: 8 MB or one document, which may be copied once. A long word needs 4 bytes more for
        each of its ids (``fewest``: of its bytes); of a vocabulary with superwords a long chunk, such as a line, needs about
        16 bytes more for each of its bytes. With added tokens a slice is copied once more.

        Raises
        ------
        TypeError, ValueError
            The texts are no strings, or hold nulls.
        """
        if self._added is None:
            return encode_texts(as_array(texts), self.normalizer, self.pretokenizer, self.dtype, self._encode_some)
        return encode_between(as_array(texts), self._added.cut, self._added_ids, self.pretokenizer, self._encode_some)

    @functools.cached_property
    def _added(self) -> AddedCutter | None:
        return AddedCutter(self.added_tokens, self.special_tokens, self.normalizer) if self.added_tokens else None

    @functools.cached_property
    def _added_ids(self) -> NDArray[np.uint16 | np.uint32]:
        return np.array([self.vocab[token.content] for token in self.added_tokens], dtype=self.dtype)

    def _rows(self, texts: pa.LargeStringArray) -> Rows:
        """Normalized texts, or the pieces of them between added tokens."""
        return rows_of(normalize(texts, self.normalizer)) if self._added is None else self._added.cut(texts).pieces

    def normalize(self, text: str) -> str:
        """The text that ``decode(encode(text))`` gives back: an added token as it is, the rest normalized."""
        if self._added is None:
            return super().normalize(text)
        cut = self._added.cut(as_array([text]))
        pieces = text_array(cut.pieces).to_pylist()
        tokens = [self.added_tokens[token].content for token in cut.tokens]
        return "".join(itertools.chain(*itertools.zip_longest(pieces, tokens, fillvalue="")))

    def _encode_some(self, words: Words, num_before: int, ids: NDArray[np.int32], sizes: NDArray[np.int64]) -> int:
        with self._caches.cache() as cache:
            if self._superwords is None:
                return int(encode_words(*words, self._encoder, cache, ids, sizes))
            return self._superwords.encode(*words, cache, ids, sizes)

    def num_unknown_bytes(self, texts: Texts) -> int:
        """How many bytes of the texts have no id, so that encoding leaves them out (``initial_alphabet: seen``)."""
        is_unknown = self._merge_tables.byte_ids < 0
        if not is_unknown.any():
            return 0
        rows = self._rows(as_array(texts))
        return int(is_unknown[rows.values[: rows.num_bytes]].sum())

    def merges_met(self, texts: Texts) -> NDArray[np.bool_]:
        """Of each merge, whether its pair ever stands side by side while words are merged: ``[shape=(n,), dtype=bool]``.

        That is, when all merges before some rank are done, and none from there on. Slow: a heap for each word.
        """
        met = np.zeros(len(self.merges), dtype=np.bool_)
        for piece in iter_slices(as_array(texts), ENCODE_BYTES):
            rows = self._rows(piece)
            for start, stops in self.pretokenizer.iter_words(rows):
                mark_met(rows.values, start, stops, self._merge_tables, met)
        return met

    # --- decode ---

    @functools.cached_property
    def _spellings(self) -> list[bytes]:
        # A special token that text can spell (a merge makes it, or it is a byte) stands for that text.
        tokens = [b""] * len(self.vocab)
        for chars, token_id in self.vocab.items():
            is_bytes = chars not in self._apart and all(c in BYTE_OF_CHAR for c in chars)
            tokens[token_id] = to_bytes(chars) if is_bytes else chars.encode()
        return tokens

    def decode_parts(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes of each id, special and added tokens as their own text; IndexError for an id beyond the vocabulary."""
        ids = list(ids)
        if ids and min(ids) < 0:
            raise IndexError(f"{min(ids)} is not an id")
        return [self._spellings[token_id] for token_id in ids]

    # --- files ---

    def to_json(self) -> str:
        """The tokenizer.json, written by ``tokenizers`` itself."""
        return self._json

    @functools.cached_property
    def _json(self) -> str:
        from tokenizers import AddedToken as OutsideAddedToken
        from tokenizers import Tokenizer as OutsideTokenizer
        from tokenizers import decoders, models

        outside = OutsideTokenizer(models.BPE(vocab=self.vocab, merges=list(self.merges)))
        if self.normalizer != "none":
            outside.normalizer = normalizer_to_tokenizers(self.normalizer)
        outside.pre_tokenizer = self.pretokenizer.to_tokenizers()
        outside.decoder = decoders.ByteLevel()
        specials = [OutsideAddedToken(token, special=True, normalized=False) for token in self.special_tokens]
        outside.add_special_tokens(specials)
        outside.add_tokens([OutsideAddedToken(**vars(token), special=False) for token in self.added_tokens])
        written = outside.to_str(pretty=True)
        if self.around:
            written = OutsideTokenizer.from_str(json.dumps(json.loads(written) | self.around)).to_str(pretty=True)
        return str(written)

    @functools.cached_property
    def sha256(self) -> str:
        """Of the tokenizer.json; stands in every packed shard."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        """The content of tokenmill.json."""
        return {
            "format_version": 1,
            "tokenmill_version": __version__,
            "kind": self.options.get("kind", "bpe"),
            **({"stage": self.options["stage"]} if "stage" in self.options else {}),
            "vocab_size": self.vocab_size,
            "num_merges": len(self.merges),
            "special_tokens": {token: self.vocab[token] for token in self.special_tokens},
            **({"num_added_tokens": len(self.added_tokens)} if self.added_tokens else {}),
            "normalizer": self.normalizer,
            "pretokenizer": list(self.pretokenizer.patterns),
            "encoder": self.encoder,
            "tokenizer_sha256": self.sha256,
            "options": self.options,
        }

    def files(self) -> dict[str, bytes]:
        """Name and content of every file of the tokenizer's directory; the same tokenizer gives the same bytes."""
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": int(1e30),
        }
        if "eos_token" in self.options:
            config["eos_token"] = self.options["eos_token"]
        return {
            "tokenizer.json": self.to_json().encode(),
            "tokenizer_config.json": _json_bytes(config),
            "tokenmill.json": _json_bytes(self.description()),
        }

    @staticmethod
    def from_json(text: str, options: dict[str, Any] | None = None, encoder: EncoderName = "merge") -> Tokenizer:
        """From the text of a tokenizer.json, which says nothing of the encoder. What is ``AROUND`` ids is kept, and not run.

        Raises
        ------
        ArtifactError
            It is not JSON, or not a byte-level BPE that our kernels run exactly; says which part is not.
        """
        try:
            return _parse(json.loads(text), options or {}, encoder)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ArtifactError(f"not a tokenizer.json: {type(error).__name__}: {error}") from error

    @staticmethod
    def load(path: str | Path) -> OwnTokenizer:
        """From a directory that ``save`` or a run left, or from a tokenizer.json, morph.json or pool.json.

        Raises
        ------
        ArtifactError
            There is no such file, or it is none that we run exactly.
        """
        file = Path(path)
        if file.is_dir():
            file = next((file / name for name in MODEL_FILES if (file / name).is_file()), file / MODEL_FILES[0])
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{file}: cannot be read as a tokenizer: {error}") from error
        own = file.with_name("tokenmill.json")
        try:
            root = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else {"options": {}}
            options, encoder = root["options"], root.get("encoder", "merge")
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{own}: damaged: {error}") from error
        if encoder not in _MODES:
            raise ArtifactError(f"{own}: the encoder is {encoder!r}; one of {', '.join(_MODES)} is expected")
        try:
            return parse_tokenizer(text, options, encoder)
        except ArtifactError as error:
            raise ArtifactError(f"{file}: {error}") from error


OwnTokenizer: TypeAlias = Tokenizer | MorphTokenizer | TurkishTokenizer02 | PoolTokenizer
"""What our own code encodes with."""

MODEL_FILES = ("tokenizer.json", "morph.json", "pool.json")
"""Of a tokenizer's directory: the file that is the model."""


def parse_tokenizer(text: str, options: dict[str, Any] | None = None, encoder: EncoderName = "merge") -> OwnTokenizer:
    """A tokenizer from its model file; ArtifactError if it is none that we run exactly."""
    start = text[:100]
    if f'"format":"{MORPH_FORMAT}"' in start:
        return MorphTokenizer.from_json(text, options)
    if f'"format": "{TURKISH_FORMAT}"' in start or f'"format":"{TURKISH_FORMAT}"' in start:
        return TurkishTokenizer02.from_json(text)
    if f'"format":"{POOL_FORMAT[:-1]}' in start:  # of any version
        return PoolTokenizer.from_json(text, _parse_member, options)
    return Tokenizer.from_json(text, options, encoder)


def _parse_member(text: str, encoder: str) -> Tokenizer:
    if encoder not in _MODES:
        raise ArtifactError(f"its encoder is {encoder!r}; one of {', '.join(_MODES)} is expected")
    return Tokenizer.from_json(text, encoder=encoder)


def _parse(root: dict[str, Any], options: dict[str, Any], encoder: EncoderName) -> Tokenizer:
    """The tokenizer of a tokenizer.json's content; ArtifactError if our kernels do not run it exactly."""
    model = root["model"]
    if model.get("type", "BPE") != "BPE":
        raise ArtifactError(f"its model is {model['type']}, not BPE")
    for name in (
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "dropout",
        "byte_fallback",
        "ignore_merges",
    ):
        if model.get(name):
            raise ArtifactError(f"its model sets {name}, which changes the merging")
    merges = tuple((m[0], m[1]) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"])
    vocab = dict(model["vocab"])
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise ArtifactError("its ids are not 0, 1, 2, … without a gap")
    for left, right in merges:
        if not {left, right, left + right} <= vocab.keys():
            raise ArtifactError(f"its merge of {left!r} and {right!r} uses or makes a token that is not in its vocabulary")
    strange = {t for t in vocab if not all(c in BYTE_OF_CHAR for c in t)}  # no text gives them, unless a merge uses one
    if used := [t for merge in merges for t in merge if t in strange]:
        raise ArtifactError(f"its merges use the token {used[0]!r}, which is not spelled in byte-level characters")
    specials, added = _added_tokens(root.get("added_tokens", []), vocab)
    if len(vocab) > MOST_IDS or len(merges) > MOST_IDS:
        raise ArtifactError(f"it has more than {MOST_IDS:,} ids or merges")
    pretokenizer = Pretokenizer.from_json(root.get("pre_tokenizer"))
    normalizer = normalizer_from_json(root.get("normalizer"))
    around = {key: root[key] for key in AROUND if root.get(key) is not None}
    return Tokenizer(vocab, merges, specials, pretokenizer, normalizer, encoder, options, added, around)


def _added_tokens(nodes: list[dict[str, Any]], vocab: dict[str, int]) -> tuple[tuple[str, ...], tuple[AddedToken, ...]]:
    """The special and the added tokens of a tokenizer.json, in the order of their ids; ``vocab`` gets those it lacks."""
    for node in nodes:
        content = node["content"]
        if content not in vocab:
            if content in BYTE_OF_CHAR:
                raise ArtifactError(f"its added token {content!r} is spelled like a byte that its model has no token for")
            vocab[content] = len(vocab)  # whatever id the file says: `tokenizers` gives them out in the file's order
    specials, added = list[str](), list[AddedToken]()
    normalized = ""
    for node in sorted(nodes, key=lambda node: vocab[node["content"]]):
        content = node["content"]
        if node["special"]:
            specials.append(content)
            normalized = content if node.get("normalized") else normalized
            continue
        for name in ("lstrip", "rstrip"):
            if node[name]:
                raise ArtifactError(f"its added token {content!r} sets {name}, which takes blanks out of the text")
        added.append(AddedToken(content, node["single_word"], node["normalized"]))
    if normalized and any(token.normalized for token in added):
        raise ArtifactError(
            f"its special token {normalized!r} is normalized, so that it hides added tokens in the normalized text"
        )
    return tuple(specials), tuple(added)


@dataclass(frozen=True, eq=False)
class ForeignTokenizer:
    """Any tokenizer.json, run by ``tokenizers``; the slow way, for comparisons only."""

    outside: Any

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: some vocabularies have gaps."""
        return max(self.outside.get_vocab().values(), default=-1) + 1

    def encode_batch(self, texts: Texts) -> pa.LargeListArray:
        """As ``Tokenizer.encode_batch``."""
        encoded = self.outside.encode_batch_fast(as_array(texts).to_pylist(), add_special_tokens=False)
        return pa.array([e.ids for e in encoded], type=pa.large_list(pa.uint32()))


def load_tokenizer(content: bytes, uri: str) -> OwnTokenizer | ForeignTokenizer:
    """A tokenizer from the content of a model file: ours if we run it exactly, else the foreign one.

    Raises
    ------
    ArtifactError
        ``tokenizers`` cannot load it either, or it is one of our own kinds and damaged; names ``uri``.
    """
    text = content.decode(errors="replace")
    try:
        return parse_tokenizer(text)
    except ArtifactError as error:
        if '"format"' in text[:100]:  # a damaged file of ours
            raise ArtifactError(f"{uri}: {error}") from error
        from tokenizers import Tokenizer as OutsideTokenizer

        try:
            outside = OutsideTokenizer.from_str(text)
        except Exception as error:  # tokenizers raises plain Exception
            raise ArtifactError(f"{uri}: not a tokenizer.json that `tokenizers` can load: {error}") from error
        outside.encode_special_tokens = True
        outside.no_truncation()
        outside.no_padding()
        return ForeignTokenizer(outside)


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()

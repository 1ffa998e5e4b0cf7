"""The morphology-hybrid tokenizer: roots, affixes, and pieces of bytes for the rest; lossless for every text.

After Bayram et al. (2025), "Tokens with Meaning: A Hybrid Tokenization Approach" (arXiv 2508.14292): all forms of a root
share an id, and so do all that harmony makes of an affix; case is marked by tokens. Unlike there, an id is used only where
it reads as the very text, no text is unknown, and a blank before a root is part of it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.byte_level import to_bytes, to_chars
from pipeline.encoding import Texts, TokenizerBase, WordCaches, Words, as_array, encode_texts
from pipeline.errors import ArtifactError, SpecError
from pipeline.kernels.morph import (
    AFFIX,
    LITERAL,
    LONGEST,
    MARKER,
    NUM_MARKERS,
    ROOT,
    VITERBI,
    WINDOW,
    MorphTables,
    decode_ids,
    encode_morph_words,
)
from pipeline.kernels.vocabulary import build_trie
from pipeline.morphology import Morphology, joined, text_tables
from pipeline.normalizer import NORMALIZERS
from pipeline.pretokenizer import Pretokenizer

MARKERS = ("<|join|>", "<|upper|>", "<|upper_join|>", "<|caps|>", "<|caps_join|>")
"""Before a root: no blank before it; capitalized; both; in capitals; both."""

NUM_BYTES = 256

Segmentation: TypeAlias = Literal["viterbi", "longest"]
_MODES: dict[Segmentation, int] = {"viterbi": VITERBI, "longest": LONGEST}

FORMAT = "tokenmill-morph-1"


@dataclass(frozen=True, eq=False)
class MorphTokenizer(TokenizerBase):
    """Ids are, in this order: special tokens, markers, clitics, suffixes, roots, the 256 bytes, other literal pieces.

    Parameters
    ----------
    morphology
        Affixes, roots, and how they sound.
    pieces
        Literal pieces beyond the bytes.
    costs
        Of each id, in 1/256 bit; of bytes that stand for text, all that matters is that there is a path.
    literal_cost
        What going over from roots or affixes to literal pieces costs besides.
    segmentation
        The cheapest path, or the longest root or affix each time.
    """

    morphology: Morphology
    pieces: tuple[bytes, ...]
    costs: tuple[int, ...]
    literal_cost: int = 0
    special_tokens: tuple[str, ...] = ()
    pretokenizer: Pretokenizer = field(default_factory=lambda: Pretokenizer.named("words"))
    normalizer: str = "none"
    segmentation: Segmentation = "viterbi"
    options: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def tables_starts(self) -> NDArray[np.int64]:
        """The first id of markers, affixes, suffixes, roots, literal pieces; the number of ids."""
        affixes = self.morphology.affixes
        num_clitics = sum(affix.is_clitic for affix in affixes)
        sizes = (
            len(self.special_tokens), NUM_MARKERS, num_clitics, len(affixes) - num_clitics, len(self.morphology.roots),
            NUM_BYTES + len(self.pieces),
        )  # fmt: skip
        return np.cumsum(sizes, dtype=np.int64)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return int(self.tables_starts[-1])

    @functools.cached_property
    def vocab(self) -> dict[str, int]:
        """A name for each id: ``kitap`` for a root, ``-PL`` for an affix, byte-level characters in quotes for a piece.

        A name that another id has already is followed by # and the id.
        """
        names = [
            *self.special_tokens,
            *MARKERS,
            *(f"-{affix.name}" for affix in self.morphology.affixes),
            *(root.forms[0] for root in self.morphology.roots),
            *(f"'{to_chars(piece)}'" for piece in self._literals),
        ]
        vocab: dict[str, int] = {}
        for token_id, name in enumerate(names):
            vocab[name if name not in vocab else f"{name}#{token_id}"] = token_id
        return vocab

    @property
    def _literals(self) -> list[bytes]:
        return [bytes([byte]) for byte in range(NUM_BYTES)] + list(self.pieces)

    def id_of(self, token: str) -> int:
        """The id of a special token, or of another by its name in ``vocab``; KeyError if there is none."""
        return self.vocab[token]

    @functools.cached_property
    def tables(self) -> MorphTables:
        """What the kernels need."""
        literals = joined(self._literals)
        specials = joined([token.encode() for token in self.special_tokens])
        first, stop = self.tables_starts[ROOT], self.tables_starts[LITERAL]
        texts = text_tables(self.morphology, self.costs[first:stop])
        trie = build_trie(*literals, np.ones(NUM_BYTES + len(self.pieces), dtype=np.bool_))
        lengths = [
            int(np.diff(offsets).max(initial=0))
            for offsets in (texts["root_value_offsets"], texts["affix_value_offsets"], literals[1], specials[1])
        ]
        most_roots = int(np.bincount(np.cumsum(texts["root_rows"][:, -1] == 0)).max(initial=0)) + 1
        most_affixes = int(np.diff(texts["affix_offsets"]).max(initial=0))
        return MorphTables(
            starts=self.tables_starts,
            mode=_MODES[self.segmentation],
            literal_cost=self.literal_cost,
            most_arcs=most_roots * texts["roots"].longest + 2 * most_affixes * texts["affixes"].longest + trie.longest,
            literals=trie,
            literal_values=literals[0],
            literal_offsets=literals[1],
            special_values=specials[0],
            special_offsets=specials[1],
            costs=np.array(self.costs, dtype=np.int64),
            longest=max(lengths) + 1,
            **texts,
        )

    @functools.cached_property
    def _caches(self) -> WordCaches:
        return WordCaches()

    # --- encode ---

    def encode_batch(self, texts: Texts) -> pa.LargeListArray:
        """As ``Tokenizer.encode_batch``."""
        return encode_texts(as_array(texts), self.normalizer, self.pretokenizer, self.dtype, self._encode_some, WINDOW)

    def _encode_some(self, words: Words, num_before: int, ids: NDArray[np.int32], sizes: NDArray[np.int64]) -> int:
        values, start, stops, doc_stops = words
        with self._caches.cache() as cache:
            return int(encode_morph_words(values, start, stops, doc_stops, self.tables, cache, ids, num_before, sizes))

    def num_unknown_bytes(self, texts: Texts) -> int:
        """None: every byte has an id."""
        return 0

    # --- decode ---

    @functools.cached_property
    def _most_bytes(self) -> NDArray[np.int64]:
        """What each id reads as, at most: a root with a blank before it. ``[shape=(vocab_size,), dtype=int64]``"""
        tables, starts = self.tables, self.tables_starts
        num_stems = len(self.morphology.stems)
        of_surfaces = np.diff(tables.affix_value_offsets).reshape(-1, 2).max(axis=1)
        surfaces = np.where(tables.affix_surfaces < 0, ~tables.affix_surfaces, tables.affix_surfaces)
        sizes = np.zeros(self.vocab_size, dtype=np.int64)
        sizes[: starts[MARKER]] = np.diff(tables.special_offsets)
        sizes[starts[AFFIX] : starts[ROOT]] = of_surfaces[surfaces].max(axis=(1, 2))
        sizes[starts[ROOT] : starts[LITERAL]] = 1 + np.diff(tables.root_value_offsets).reshape(-1, 3 * num_stems).max(axis=1)
        sizes[starts[LITERAL] :] = np.diff(tables.literal_offsets)
        return sizes

    def _read(self, ids: Iterable[int]) -> tuple[bytes, list[int]]:
        """The bytes of ids, and where those of each stop."""
        array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
        if len(array) and not 0 <= array.min() <= array.max() < self.vocab_size:
            raise IndexError(f"{array.min() if array.min() < 0 else array.max()} is not an id")
        text = np.empty(int(self._most_bytes[array].sum()) + 8, dtype=np.uint8)
        stops = np.zeros(len(array), dtype=np.int64)
        decode_ids(array.astype(np.int32), self.tables, text, stops)
        return text[: stops[-1] if len(stops) else 0].tobytes(), stops.tolist()

    def decode_parts(self, ids: Iterable[int]) -> list[bytes]:
        """What each id reads as in its context; IndexError for an id beyond the vocabulary. Markers read as nothing."""
        text, stops = self._read(ids)
        return [text[start:stop] for start, stop in itertools.pairwise([0, *stops])]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """As ``Tokenizer.decode_bytes``; special tokens as their own text."""
        return self._read(ids)[0]

    # --- files ---

    def to_json(self) -> str:
        """The content of morph.json: the model, whole."""
        return self._json

    @functools.cached_property
    def _json(self) -> str:
        fields = {
            "format": FORMAT,
            "vocab_size": self.vocab_size,
            "normalizer": self.normalizer,
            "pretokenizer": list(self.pretokenizer.patterns),
            "segmentation": self.segmentation,
            "special_tokens": list(self.special_tokens),
            "markers": list(MARKERS),
            "literal_cost": self.literal_cost,
            "costs": list(self.costs),
            "pieces": [to_chars(piece) for piece in self.pieces],
            "morphology": self.morphology.to_json(),
        }
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"

    @functools.cached_property
    def sha256(self) -> str:
        """Of morph.json; stands in every packed shard."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        """The content of tokenmill.json."""
        starts = self.tables_starts.tolist()
        return {
            "format_version": 1,
            "tokenmill_version": __version__,
            "kind": "morph",
            "vocab_size": self.vocab_size,
            "num_affixes": starts[3] - starts[1],
            "num_roots": starts[4] - starts[3],
            "num_pieces": len(self.pieces),
            "special_tokens": {token: token_id for token_id, token in enumerate(self.special_tokens)},
            "normalizer": self.normalizer,
            "pretokenizer": list(self.pretokenizer.patterns),
            "segmentation": self.segmentation,
            "tokenizer_sha256": self.sha256,
            "options": self.options,
        }

    def files(self) -> dict[str, bytes]:
        """Name and content of every file of the tokenizer's directory; the same tokenizer gives the same bytes."""
        config: dict[str, Any] = {
            "tokenizer_class": "MorphTokenizer",
            "auto_map": {"AutoTokenizer": ["tokenization_morph.MorphTokenizer", None]},
            "clean_up_tokenization_spaces": False,
            "model_max_length": int(1e30),
        }
        if "eos_token" in self.options:
            config["eos_token"] = self.options["eos_token"]
        return {
            "morph.json": self.to_json().encode(),
            "tokenizer_config.json": _json_bytes(config),
            "tokenization_morph.py": (resources.files("pipeline") / "exports" / "tokenization_morph.py").read_bytes(),
            "tokenmill.json": _json_bytes(self.description()),
        }

    @staticmethod
    def from_json(text: str, options: dict[str, Any] | None = None) -> MorphTokenizer:
        """From the text of a morph.json.

        Raises
        ------
        ArtifactError
            It is none, or damaged.
        """
        try:
            root = json.loads(text)
            if root["format"] != FORMAT:
                raise ArtifactError(f"its format is {root['format']!r}; {FORMAT!r} is what this version reads")
            loaded = MorphTokenizer(
                morphology=Morphology.from_json(root["morphology"]),
                pieces=tuple(to_bytes(piece) for piece in root["pieces"]),
                costs=tuple(map(int, root["costs"])),
                literal_cost=int(root["literal_cost"]),
                special_tokens=tuple(root["special_tokens"]),
                pretokenizer=Pretokenizer(tuple(root["pretokenizer"])),
                normalizer=root["normalizer"],
                segmentation=root["segmentation"],
                options=options or {},
            )
            if loaded.segmentation not in _MODES or loaded.normalizer not in NORMALIZERS:
                raise ValueError(f"its segmentation is {loaded.segmentation!r} and its normalizer {loaded.normalizer!r}")
            loaded.morphology.check()
            for pattern in loaded.pretokenizer.patterns:
                Pretokenizer.custom(pattern)
            if loaded.vocab_size != root["vocab_size"] or len(loaded.costs) != loaded.vocab_size:
                raise ValueError(f"{loaded.vocab_size} tokens, and {len(loaded.costs)} costs; {root['vocab_size']} of each")
            return loaded
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, SpecError) as error:
            raise ArtifactError(f"not a morph.json: {type(error).__name__}: {error}") from error


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()

"""Texts to ids, batch by batch: what every kind of tokenizer shares. How words become ids is for each to say."""

from __future__ import annotations

import dataclasses
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.added import Cut
from pipeline.arrow import iter_slices, list_array, list_rows, rows_of, text_array
from pipeline.kernels.encode import WordCache, move_entries
from pipeline.normalizer import normalize, normalize_text
from pipeline.pretokenizer import Pretokenizer
from pipeline.schema import id_type

ENCODE_BYTES = 1 << 23
"""Bytes of text that are normalized and cut at a time."""

FIRST_CACHE_ENTRIES = 1 << 15
CACHE_ENTRIES = 1 << 21
CACHE_BYTES = 1 << 24
CACHE_IDS = 1 << 22

Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray


class Words(NamedTuple):
    """Words of a padded text: where the first starts, where each stops, and where documents do, among them."""

    values: NDArray[np.uint8]
    start: int
    stops: NDArray[np.int64]
    doc_stops: NDArray[np.int64]


EncodeSome: TypeAlias = Callable[[Words, int, NDArray[np.int32], NDArray[np.int64]], int]
"""Fills ids, and their number up to the end of each document, from the given number of ids on, which came before."""


class TokenizerBase(ABC):
    """What tokenizers of every kind can do in the same way. A dataclass; its fields are all there is to it."""

    normalizer: str = "none"

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The type of ids: uint16 if every id is at most 65,535, else uint32."""
        return id_type(self.vocab_size)

    @abstractmethod
    def encode_batch(self, texts: Texts) -> pa.LargeListArray:
        """The ids of each text, one row a text, as a large list of ``dtype``; no special token is added."""

    def encode(self, text: str) -> list[int]:
        """The ids of one text.

        Raises
        ------
        UnicodeEncodeError
            The text holds a lone surrogate, which no UTF-8 can hold.
        """
        text.encode()
        ids: list[int] = self.encode_batch([text])[0].as_py()
        return ids

    def normalize(self, text: str) -> str:
        """The text that ``decode(encode(text))`` gives back."""
        return normalize_text(text, self.normalizer)

    @abstractmethod
    def decode_parts(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes that each id stands for where it stands; special tokens as their own text.

        Raises
        ------
        IndexError
            An id is beyond the vocabulary.
        """

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """All of ``decode_parts`` together."""
        return b"".join(self.decode_parts(ids))

    def decode(self, ids: Iterable[int]) -> str:
        """As ``decode_bytes``, as text; a cut-off character becomes U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """Name and content of every file of the tokenizer's directory; the same tokenizer gives the same bytes."""

    def save(self, directory: str | Path) -> None:
        """Write the files into a directory, which is made if it is not there."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            (folder / name).write_bytes(content)

    def __getstate__(self) -> dict[str, Any]:
        names = [part.name for part in dataclasses.fields(self)]  # type: ignore[arg-type]  # each subclass is one
        return {name: getattr(self, name) for name in names}  # without what was made of them


class WordCaches:
    """A word cache for each thread; it grows with the words it holds, up to 100 MB."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextmanager
    def cache(self) -> Iterator[WordCache]:
        """The cache of the calling thread; forgotten should what is done with it raise."""
        cache: WordCache | None = getattr(self._local, "words", None)
        self._local.words = None
        if cache is None:
            cache = WordCache(
                np.zeros((FIRST_CACHE_ENTRIES, 4), dtype=np.uint64),
                np.zeros(CACHE_BYTES, dtype=np.uint8),
                np.zeros(CACHE_IDS, dtype=np.int32),
                np.zeros(4, dtype=np.int64),
            )
        elif (3 * cache.used[0] >= len(cache.entries) or cache.used[3]) and len(cache.entries) < CACHE_ENTRIES:
            factor = 4 if 4 * len(cache.entries) < CACHE_ENTRIES else 2  # seldom copied, never much larger than needed
            entries = np.zeros((factor * len(cache.entries), 4), dtype=np.uint64)
            move_entries(cache.entries, entries)
            cache.used[3] = 0
            cache = cache._replace(entries=entries)
        yield cache
        self._local.words = cache


def encode_texts(
    array: pa.LargeStringArray,
    normalizer: str,
    pretokenizer: Pretokenizer,
    dtype: type[np.uint16] | type[np.uint32],
    encode_some: EncodeSome,
    window: int = 0,
) -> pa.LargeListArray:
    """The ids of each text, one row a text; ``window``: ids of a document that words must be told of that come before."""
    id_stops = np.zeros(len(array) + 1, dtype=np.int64)
    ids = np.empty(0, dtype=dtype)
    some_ids = np.empty(0, dtype=np.int32)  # of the words at hand: they stay in the second-level cache
    size = doc = 0
    for piece in iter_slices(array, ENCODE_BYTES):
        rows = rows_of(normalize(piece, normalizer))
        doc_stops = rows.offsets[1:]
        first_doc = doc
        for start, stops in pretokenizer.iter_words(rows):
            room = int(stops[-1]) - start + 4 + window
            if room > len(some_ids):
                some_ids = np.empty(room, dtype=np.int32)
            while doc < first_doc + len(piece) and doc_stops[doc - first_doc] <= start:  # empty, or ended before
                doc += 1
                id_stops[doc] = size
            next_doc = first_doc + int(np.searchsorted(doc_stops, stops[-1], side="right"))
            sizes = id_stops[doc + 1 : next_doc + 1]
            ended = doc_stops[doc - first_doc : next_doc - first_doc]
            before = min(window, size - int(id_stops[doc]))
            some_ids[:before] = ids[size - before : size]
            some = encode_some(Words(rows.values, start, stops, ended), before, some_ids, sizes) - before
            sizes += size - before
            if size + some > len(ids):  # one id in three bytes is more than most text needs
                wanted = pc.sum(pc.binary_length(array)).as_py() // 3
                ids = _grown(ids, size, max(size + some, len(ids) * 3 // 2, wanted))
            ids[size : size + some] = some_ids[before : before + some]
            size += some
            doc = next_doc
        id_stops[doc + 1 : first_doc + len(piece) + 1] = size
        doc = first_doc + len(piece)
    return list_array(pa.array(ids[:size]), id_stops)


def encode_between(
    array: pa.LargeStringArray,
    cut: Callable[[pa.LargeStringArray], Cut],
    token_ids: NDArray[Any],
    pretokenizer: Pretokenizer,
    encode_some: EncodeSome,
) -> pa.LargeListArray:
    """The ids of each text, one row a text; those of its added tokens stand where ``cut`` takes them out.

    ``token_ids [shape=(n_added,), dtype=uint16 or uint32]``: the id of each added token.
    """
    id_stops = np.zeros(len(array) + 1, dtype=np.int64)
    ids = np.empty(0, dtype=token_ids.dtype)
    size = doc = 0
    for texts in iter_slices(array, ENCODE_BYTES):
        found = cut(texts)
        pieces = encode_texts(text_array(found.pieces), "none", pretokenizer, token_ids.dtype.type, encode_some)
        offsets, of_pieces = list_rows(pieces)
        some, stops = found.join(of_pieces, offsets, token_ids)
        id_stops[doc + 1 : doc + len(stops)] = stops[1:] + size
        if size + len(some) > len(ids):
            wanted = pc.sum(pc.binary_length(array)).as_py() // 3
            ids = _grown(ids, size, max(size + len(some), len(ids) * 3 // 2, wanted))
        ids[size : size + len(some)] = some
        size += len(some)
        doc += len(texts)
    return list_array(pa.array(ids[:size]), id_stops)


def _grown(ids: NDArray[Any], size: int, room: int) -> NDArray[Any]:
    larger = np.empty(room, dtype=ids.dtype)
    larger[:size] = ids[:size]
    return larger


def as_array(texts: Texts) -> pa.LargeStringArray:
    """Texts as one Arrow array; TypeError or ValueError if they are no strings, or hold nulls."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if not isinstance(texts, pa.Array):
        texts = pa.array(texts, type=pa.large_string())
    kind = texts.type.value_type if pa.types.is_dictionary(texts.type) else texts.type
    if not any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise TypeError(f"the texts are of the type {texts.type}; strings are expected")
    if texts.null_count:
        raise ValueError(f"{texts.null_count} of the texts are null; drop them first")
    return texts.cast(pa.large_string())

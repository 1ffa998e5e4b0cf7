"""Added tokens: strings that are cut out of the text before all else, each of them one id.

Exactly as ``tokenizers`` (0.23) does it with the added tokens of a tokenizer.json. Those that are not ``normalized`` are
looked for in the text as it is; what is between them is normalized, and the others, normalized too, are looked for there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.arrow import Rows, rows_of, text_array
from pipeline.errors import ArtifactError
from pipeline.kernels.added import HIDDEN, SINGLE_WORD, added_tables, find_added, put_between, take_out
from pipeline.normalizer import normalize, normalize_text
from pipeline.unicode import word_chars

FOUND_AT_ONCE = 1 << 14
"""Tokens that are found before they are put away: they stay in the second-level cache."""


@dataclass(frozen=True)
class AddedToken:
    """A string that is one token wherever it stands.

    Parameters
    ----------
    content
        The string; also its spelling in the vocabulary.
    single_word
        Only where no letter, digit or other character of a word touches it.
    normalized
        Look for it, normalized, in the normalized text; else as it is in the text as it is, before all that are normalized.
    """

    content: str
    single_word: bool = False
    normalized: bool = True


class Cut(NamedTuple):
    """Documents without their added tokens. A document with m of them has m + 1 pieces; a piece may be empty.

    ``pieces``: the pieces of all documents, in order. ``piece_docs [shape=(n_pieces,), dtype=int64]``: their documents.
    ``tokens [shape=(n_tokens,), dtype=int64]``: number of each token that was cut out, in order, and ``token_docs``: their
    documents. Token k, in document d, stands behind piece k + d.

    Examples
    --------
    Token 0 is ``ab``. The documents ``xabab`` and ``y`` have the pieces x, nothing, nothing, y of the documents 0, 0, 0, 1,
    and the tokens 0, 0 of the documents 0, 0.
    """

    pieces: Rows
    piece_docs: NDArray[np.int64]
    tokens: NDArray[np.int64]
    token_docs: NDArray[np.int64]

    def join(
        self, values: NDArray[Any], offsets: NDArray[np.int64], of_tokens: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Something of each piece, such as its ids, with one value for each token between them, as rows of documents.

        ``values``, ``offsets [shape=(n_pieces + 1,)]``: rows of the pieces. ``of_tokens``: the value of each token number.
        Returns values and offsets.
        """
        joined: tuple[NDArray[Any], NDArray[np.int64]] = put_between(
            values, offsets, self.piece_docs, of_tokens[self.tokens]
        )
        return joined


class AddedFinder:
    """Finds some tokens in text as it is: ``normalized`` is for ``AddedCutter``. Threads may use it at the same time.

    Parameters
    ----------
    tokens
        No two with the same content, none without any.
    hiding
        Other strings, which stay text but hide the tokens they overlap: where one is found, the search goes on behind it.
    """

    def __init__(self, tokens: Sequence[AddedToken], hiding: Sequence[str] = ()) -> None:
        contents = [*(token.content for token in tokens), *hiding]
        spelled = rows_of(pa.array(contents, type=pa.large_string()))
        self._lengths = np.diff(spelled.offsets)
        flags = [SINGLE_WORD * token.single_word for token in tokens] + [HIDDEN] * len(hiding)
        self._tables = added_tables(spelled.values, spelled.offsets, np.array(flags, dtype=np.uint8), word_chars())

    def _find(self, rows: Rows) -> NDArray[np.int64]:
        """Document, start and number of each token. ``[shape=(n_tokens, 3), dtype=int64]``"""
        parts, doc, at = [], 0, 0
        while doc < len(rows.offsets) - 1:
            some = np.empty((FOUND_AT_ONCE, 3), dtype=np.int64)
            num, doc, at = find_added(rows.values, rows.offsets, self._tables, doc, at, some)
            parts.append(some[:num])
        return np.concatenate([np.empty((0, 3), dtype=np.int64), *parts])

    def cut(self, rows: Rows) -> Cut:
        """Cut the tokens out of documents, which are UTF-8. Without any, the pieces are ``rows`` themselves."""
        num_docs = len(rows.offsets) - 1
        found = self._find(rows)
        docs, tokens = found[:, 0].copy(), found[:, 2].copy()
        if len(found) == 0:
            return Cut(rows, np.arange(num_docs), tokens, docs)
        values, offsets, piece_docs = take_out(rows.values, rows.offsets, found, self._lengths)
        values.setflags(write=False)
        return Cut(Rows(values, offsets), piece_docs, tokens, docs)


class AddedCutter:
    """Cuts added tokens out of texts and normalizes what is between them. Threads may use it at the same time.

    Parameters
    ----------
    tokens
        See ``check_added_tokens``.
    special_tokens
        They stay text, but hide tokens that are not ``normalized``.
    normalizer
        One of ``NORMALIZERS``.
    """

    def __init__(self, tokens: Sequence[AddedToken], special_tokens: Sequence[str], normalizer: str) -> None:
        self._normalizer = normalizer
        self._first = np.array([i for i, token in enumerate(tokens) if not token.normalized], dtype=np.int64)
        self._second = np.array([i for i, token in enumerate(tokens) if token.normalized], dtype=np.int64)
        self._raw = AddedFinder([tokens[i] for i in self._first], special_tokens) if len(self._first) else None
        normalized = [
            dataclasses.replace(tokens[i], content=normalize_text(tokens[i].content, normalizer)) for i in self._second
        ]
        self._normalized = AddedFinder(normalized) if normalized else None

    def cut(self, texts: pa.LargeStringArray) -> Cut:
        """The tokens of texts and the normalized pieces between them."""
        if self._raw is None:
            return self._cut_normalized(texts)
        outer = self._raw.cut(rows_of(texts))
        inner = self._cut_normalized(text_array(outer.pieces))
        # A token of the first search stands behind those of the second in the piece before it.
        before = np.arange(len(outer.tokens)) + outer.token_docs
        order = np.argsort(np.concatenate((2 * inner.token_docs, 2 * before + 1)), kind="stable")
        return Cut(
            inner.pieces,
            outer.piece_docs[inner.piece_docs],
            np.concatenate((inner.tokens, self._first[outer.tokens]))[order],
            np.concatenate((outer.piece_docs[inner.token_docs], outer.token_docs))[order],
        )

    def _cut_normalized(self, texts: pa.LargeStringArray) -> Cut:
        rows = rows_of(normalize(texts, self._normalizer))
        if self._normalized is None:
            nothing = np.empty(0, dtype=np.int64)
            return Cut(rows, np.arange(len(texts)), nothing, nothing)
        cut = self._normalized.cut(rows)
        return cut._replace(tokens=self._second[cut.tokens])


def check_added_tokens(tokens: Sequence[AddedToken], special_tokens: Sequence[str], normalizer: str) -> None:
    """See that tokens can be told apart.

    Raises
    ------
    ArtifactError
        A token is empty, given twice, no text or a special token; or two are the same once they are normalized.
    """
    contents = set[str]()
    normalized: dict[str, str] = {}
    for token in tokens:
        what = f"the added token {token.content!r}"
        if not token.content:
            raise ArtifactError("an added token is empty")
        if any("\ud800" <= char <= "\udfff" for char in token.content):
            raise ArtifactError(f"{what} holds a lone surrogate, which no UTF-8 can hold")
        if token.content in special_tokens:
            raise ArtifactError(f"{what} is a special token too; it can be only one of the two")
        if token.content in contents:
            raise ArtifactError(f"{what} is given twice")
        contents.add(token.content)
        if token.normalized:
            pattern = normalize_text(token.content, normalizer)
            if pattern in normalized:
                raise ArtifactError(
                    f"{what} and {normalized[pattern]!r} are both {pattern!r} in the normalized text; leave one out, or "
                    "set normalized: false"
                )
            normalized[pattern] = token.content

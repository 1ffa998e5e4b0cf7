"""A domain's terms in a vocabulary: as tokens for certain, or as words that count for more.

Bommarito, Katz and Bommarito (2025), "KL3M Tokenizers", arXiv 2503.17247, section 3, train what the terms leave room for and
append those that training has not found. What it has found is one token only where the merges come to it: ``creditor`` is,
and still ``(creditor`` may be ``(c|redit|or``. So here every term that is matched ``whole`` is an added token. One that the
merges spell alike has the same id. Terms that are matched ``anywhere``, runs of blanks, brackets, mark-up, are appended as
in the paper: cut out although merges make them, two line breaks would be taken from the full stop they make a token with.
What is trained is as much of the merges as there is room for beside what is appended, so that each place is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.added import AddedToken
from pipeline.arrow import Rows, binary_array, rows_of
from pipeline.byte_level import BYTE_OF_CHAR, to_bytes, to_chars
from pipeline.pretokenizer import Pretokenizer
from pipeline.terms import Term, reserved, term_words
from pipeline.trainers.bpe import TrainedBpe
from pipeline.trainers.superbpe import first_tokens, num_initial


def can_be_added(content: str) -> bool:
    """Whether a tokenizer.json can have a text as a token: one that is spelled like other bytes would come back as those.

    Examples
    --------
    ``§§`` is four bytes, and at the same time how two other bytes are spelled.
    """
    return not all(char in BYTE_OF_CHAR for char in content) or to_bytes(content) == content.encode()


def reserve_terms(
    whole: TrainedBpe, terms: Sequence[Term], vocab_size: int
) -> tuple[TrainedBpe, tuple[AddedToken, ...], tuple[str, ...]]:
    """As many of the first merges as there is room for, and behind them the terms that they do not make.

    Parameters
    ----------
    whole
        Merges for a vocabulary of ``vocab_size`` or more.
    terms
        Those to reserve; each may be several tokens, see ``terms.reserved``.
    vocab_size
        Ids, if there are merges for so many.

    Returns
    -------
    (trained, added_tokens, left_out)
        The vocabulary with the terms in it; their tokens, but those of one byte and those matched ``anywhere`` that the
        merges make, by themselves or behind a blank; and texts that no tokenizer.json can have as a token.

    Examples
    --------
    Room for two, the merges (a, b) and (ab, c), the terms ``ab`` and ``x y``: of the merges alone, ``ab`` and ``abc`` would
    be the two; with ``x y`` reserved there is room for one merge, which makes ``ab``. So ``x y`` is what is appended. If
    ``ab`` is matched whole, it is an added token with the id that it has; if anywhere, it is none.
    """
    contents = reserved(terms)
    left_out = tuple(content for content, _ in contents if not can_be_added(content))
    tokens = [
        AddedToken(content, single_word)
        for content, single_word in contents
        if can_be_added(content) and not (len(content) == 1 and content in whole.vocab)
    ]
    anywhere = {term.text for term in terms if term.match == "anywhere"}
    made_at = np.array(
        [_made_at(whole, token.content, token.content in anywhere, vocab_size) for token in tokens], dtype=np.int64
    )
    sizes = np.arange(num_initial(whole), max(min(len(whole.vocab), vocab_size), num_initial(whole)) + 1)
    missing = len(made_at) - np.searchsorted(np.sort(made_at), sizes)  # of the terms, at each size
    fitting = sizes[sizes + missing <= vocab_size]
    trained = first_tokens(whole, int(fitting[-1] if len(fitting) else sizes[0]))
    added = tuple(
        token
        for token, place in zip(tokens, made_at.tolist(), strict=True)
        if token.content not in anywhere or place >= len(trained.vocab)
    )
    vocab = dict(trained.vocab)
    for token in added:
        vocab.setdefault(token.content, len(vocab))
    return TrainedBpe(vocab, trained.merges, trained.merge_counts), added, left_out


def _made_at(whole: TrainedBpe, content: str, is_anywhere: bool, never: int) -> int:
    """From which id on a term needs no place of its own; ``never`` if the merges do not make it.

    One matched whole shares an id only if the merges spell it alike: ASCII, without a blank.
    """
    if not is_anywhere:
        return whole.vocab.get(content, never)
    return min(whole.vocab.get(to_chars(text.encode()), never) for text in (content, f" {content}"))


def count_terms(
    words: Rows,
    counts: NDArray[np.int64],
    terms: Sequence[Term],
    weight: int,
    pretokenizer: Pretokenizer,
    normalizer: str,
) -> tuple[Rows, NDArray[np.int64]]:
    """Words and their counts, with those of the terms added: each as often as it occurs in them, times ``weight``."""
    more, more_counts = term_words(terms, pretokenizer, normalizer)
    tables = [
        pa.table({"word": binary_array(*rows), "count": pa.array(numbers)})
        for rows, numbers in ((words, counts), (more, more_counts * weight))
    ]
    table = pa.concat_tables(tables).group_by("word").aggregate([("count", "sum")]).combine_chunks()
    return rows_of(table.column("word").combine_chunks()), table.column("count_sum").to_numpy()


def padding(trained: TrainedBpe, special_tokens: tuple[str, ...], size: int) -> tuple[TrainedBpe, tuple[str, ...]]:
    """A vocabulary of ``size`` ids: what is missing are special tokens ``<|reserved_0|>``, ``<|reserved_1|>``, …"""
    vocab = dict(trained.vocab)
    more: list[str] = []
    number = 0
    while len(vocab) < size:
        token = f"<|reserved_{number}|>"
        number += 1
        if token not in vocab:
            more.append(token)
            vocab[token] = len(vocab)
    return TrainedBpe(vocab, trained.merges, trained.merge_counts), (*special_tokens, *more)

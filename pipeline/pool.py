"""A pool of tokenizers over one id space: each document goes to the member that says it in the fewest tokens or bits.

After K-Tokeniser (arXiv 2406.14312), which picks among the vocabularies of clinical domains; of it the
part that needs no ontology: the choice by sequence. A document's ids start with the switch token of its member. Tokens of
the same bytes have the same id, whichever member they come from, so what the members share is learned once.

Members, of the special tokens ``<pad>``: ``law`` with the bytes a, b, c and ``ab``; ``code`` with the bytes and ``bc``.

===  ==============  ===========================
id   stands for
===  ==============  ===========================
0    <pad>           special tokens
1    <|pool:law|>    a switch token a member
2    <|pool:code|>
3-5  a b c           what the first member knows
6    ab
7    bc              what the second knows besides
===  ==============  ===========================

The text ``abab`` is 1 6 6, for ``law`` needs two tokens and ``code`` four; ``abc`` is 1 6 5: both need two, the first wins.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.arrow import iter_slices, list_array, list_rows
from pipeline.byte_level import CHAR_OF_BYTE
from pipeline.encoding import ENCODE_BYTES, Texts, TokenizerBase, as_array
from pipeline.errors import ArtifactError
from pipeline.kernels.ragged import gather_ranges
from pipeline.schema import id_type

Selector: TypeAlias = Literal["fewest", "bits"]
SELECTORS: tuple[Selector, ...] = ("fewest", "bits")

FORMAT = "tokenmill-pool-1"

_UNIT_BITS = 16
"""Code lengths are counted in 1/65,536 bit: whole numbers, so that every machine picks the same member."""

_MOST_COUNTED = 1 << 62


class Member(Protocol):
    """What a pool asks of its members: ``Tokenizer`` is one."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Those that stand for no text."""

    @property
    def vocab(self) -> dict[str, int]:
        """Ids by spelling, special tokens by their content."""

    @property
    def merges(self) -> tuple[tuple[str, str], ...]:
        """Pairs of spellings; what they make stands for text, be it a special token or not."""

    @property
    def normalizer(self) -> str:
        """What is done to text first."""

    @property
    def encoder(self) -> str:
        """How words become ids; not in its JSON."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    @property
    def sha256(self) -> str:
        """Of its JSON."""

    def encode_batch(self, texts: Texts) -> pa.LargeListArray:
        """The ids of each text."""

    def num_unknown_bytes(self, texts: Texts) -> int:
        """How many bytes encoding leaves out."""

    def decode_parts(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes of each id."""

    def to_json(self) -> str:
        """All there is to it but the encoder."""


ParseMember: TypeAlias = Callable[[str, str], Member]
"""A member from its JSON and its encoder; ArtifactError if there is none in it."""


class _Chosen(NamedTuple):
    """A slice of texts: the switch tokens and the ids of all members, end to end, and where in them each text's own are."""

    ids: NDArray[Any]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    members: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PoolTokenizer(TokenizerBase):
    """Ids are, in this order: special tokens, switch tokens, the tokens of the first member, what each further one adds.

    Parameters
    ----------
    members
        By name. Of one normalizer, and of the same special tokens in the same order.
    selector
        ``fewest``: the member that leaves out the fewest bytes (none, mostly), then the one of the fewest tokens;
        ``bits``: then the one of the shortest code, each token taking -log2 of its share. Of equals the first.
    counts
        For ``bits``, of each member: how often each of its ids occurs in text that it is meant for, ``[shape=(vocab_size,),
        dtype=int64]``. A token's share is (its count + 1) / (all counts + vocab_size).
    options
        What the tokenizer was made with, for its own description.

    Raises
    ------
    ArtifactError
        The members do not go together, or the counts are not theirs.
    """

    members: dict[str, Member]
    selector: Selector = "fewest"
    counts: tuple[NDArray[np.int64], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.members:
            raise ArtifactError("a pool has no members; at least one is needed")
        first_name, first = next(iter(self.members.items()))
        for name, member in self.members.items():
            if member.normalizer != first.normalizer:
                raise ArtifactError(
                    f"members {first_name!r} and {name!r} of a pool have the normalizers {first.normalizer!r} and "
                    f"{member.normalizer!r}; they must be the same, or a text would read differently by the member"
                )
            if tuple(member.special_tokens) != tuple(first.special_tokens):
                raise ArtifactError(
                    f"members {first_name!r} and {name!r} of a pool have the special tokens {list(first.special_tokens)} "
                    f"and {list(member.special_tokens)}; they must be the same, in the same order"
                )
        if taken := [token for token in self.switch_tokens if token in first.special_tokens]:
            raise ArtifactError(f"{taken[0]!r} is a special token and would be a pool's switch token; rename one")
        if self.selector not in SELECTORS:
            raise ArtifactError(f"a pool's selector is {self.selector!r}; one of {', '.join(SELECTORS)} is expected")
        self._check_counts()

    def _check_counts(self) -> None:
        if len(self.counts) != (len(self.members) if self.selector == "bits" else 0):
            raise ArtifactError(
                f"a pool of {len(self.members)} members with the selector {self.selector!r} has counts of "
                f"{len(self.counts)}; 'bits' needs those of every member, 'fewest' none"
            )
        for (name, member), counts in zip(self.members.items(), self.counts, strict=False):
            if counts.dtype != np.int64 or counts.shape != (member.vocab_size,):
                raise ArtifactError(
                    f"the counts of a pool's member {name!r} are {counts.dtype}{list(counts.shape)}; "
                    f"int64[{member.vocab_size}] is expected, one for each of its ids"
                )
            if counts.min(initial=0) < 0 or counts.sum(dtype=np.float64) >= _MOST_COUNTED:
                raise ArtifactError(f"the counts of a pool's member {name!r} are negative, or 2^62 and more together")

    # --- ids ---

    @functools.cached_property
    def normalizer(self) -> str:  # type: ignore[override]
        """That of every member."""
        return self._first.normalizer

    @property
    def _first(self) -> Member:
        return next(iter(self.members.values()))

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Those of every member; their ids are 0, 1, 2, …."""
        return tuple(self._first.special_tokens)

    @property
    def switch_tokens(self) -> tuple[str, ...]:
        """One for each member; their ids come after those of the special tokens."""
        return tuple(f"<|pool:{name}|>" for name in self.members)

    @functools.cached_property
    def _tables(self) -> tuple[list[bytes], list[NDArray[Any]]]:
        """The bytes of each id, and for each member the ids here of its own.

        A special token that a member's text can spell (a merge makes it, or it is a byte) is a token like others when it
        comes from there, and has an id by its bytes.
        """
        num_named = len(self.special_tokens) + len(self.members)
        ids_of_bytes: dict[bytes, int] = {}
        maps = []
        for member in self.members.values():
            parts = member.decode_parts(range(member.vocab_size))
            made = {left + right for left, right in member.merges} | set(CHAR_OF_BYTE.values())
            named = {member.vocab[token]: n for n, token in enumerate(self.special_tokens) if token not in made}
            for own_id, part in enumerate(parts):
                if own_id not in named:
                    ids_of_bytes.setdefault(part, num_named + len(ids_of_bytes))
            maps.append([named[own_id] if own_id in named else ids_of_bytes[part] for own_id, part in enumerate(parts)])
        texts = [*(token.encode() for token in self.special_tokens), *(b"" for _ in self.members), *ids_of_bytes]
        return texts, [np.array(ids, dtype=id_type(len(texts))) for ids in maps]

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens and switch tokens included."""
        return len(self._tables[0])

    def id_of(self, token: str) -> int:
        """The id of a special token or a switch token; KeyError if there is none."""
        named = (*self.special_tokens, *self.switch_tokens)
        if token not in named:
            raise KeyError(token)
        return named.index(token)

    # --- encode ---

    @functools.cached_property
    def _sizes(self) -> list[NDArray[np.int64] | None]:
        """For each member, how many bytes each of its ids stands for; None if all members know all bytes."""
        texts, maps = self._tables
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        is_byte = sizes == 1
        is_byte[: len(self.special_tokens)] = False
        if all(len(np.unique(ids[is_byte[ids]])) == 256 for ids in maps):
            return [None] * len(maps)
        return [sizes[ids] for ids in maps]

    @functools.cached_property
    def _costs(self) -> list[NDArray[np.int64] | None]:
        """For each member, what each of its ids costs; None if each costs the same."""
        if self.selector == "fewest":
            return [None] * len(self.members)
        return [code_lengths(counts) for counts in self.counts]

    def _choices(self, texts: Texts) -> Iterator[_Chosen]:
        """Every member encodes every slice; then the rows are compared as arrays."""
        switches = np.arange(len(self.special_tokens), len(self.special_tokens) + len(self.members), dtype=self.dtype)
        for piece in iter_slices(as_array(texts), ENCODE_BYTES):
            ids, size = [switches], len(switches)
            chosen, starts, stops, kept = np.zeros((4, len(piece)), dtype=np.int64)
            cost = np.full(len(piece), np.iinfo(np.int64).max)
            for number, member in enumerate(self.members.values()):
                offsets, own = list_rows(member.encode_batch(piece))
                own_cost, sizes = _sums(self._costs[number], own, offsets), self._sizes[number]
                own_kept = kept if sizes is None else _sums(sizes, own, offsets)
                is_better = (own_kept > kept) | ((own_kept == kept) & (own_cost < cost))
                for best, found in (
                    (chosen, np.int64(number)),
                    (starts, size + offsets[:-1]),
                    (stops, size + offsets[1:]),
                    (kept, own_kept),
                    (cost, own_cost),
                ):
                    np.copyto(best, found, where=is_better)
                ids.append(self._tables[1][number][own])
                size += len(own)
            yield _Chosen(np.concatenate(ids), starts, stops, chosen)

    def encode_batch(self, texts: Texts) -> pa.LargeListArray:
        """The ids of each text, one row a text: the switch token of the member that wins, and what it makes.

        An empty text has no ids. As fast as all members one after the other: the rest is a few passes over arrays. Memory
        beyond theirs and the result, which is copied once, is what all members make of a slice: 8 MB or one document.

        Raises
        ------
        TypeError, ValueError
            The texts are no strings, or hold nulls.
        """
        values, lengths = [np.empty(0, dtype=self.dtype)], [np.zeros(1, dtype=np.int64)]
        for ids, starts, stops, chosen in self._choices(texts):
            # A row is two ranges: that of its switch token, and that of what its member made.
            first = np.stack([chosen, starts], axis=1).ravel()
            last = np.stack([chosen + (starts < stops), stops], axis=1).ravel()
            row_ids, offsets = gather_ranges(ids, first, last)
            values.append(row_ids)
            lengths.append(np.diff(offsets[::2]))
        return list_array(pa.array(np.concatenate(values)), np.cumsum(np.concatenate(lengths)))

    def selected(self, texts: Texts) -> NDArray[np.int32]:
        """Which member each text goes to, by its place: ``[shape=(n,), dtype=int32]``; an empty text to the first.

        Raises
        ------
        TypeError, ValueError
            The texts are no strings, or hold nulls.
        """
        chosen = [piece.members.astype(np.int32) for piece in self._choices(texts)]
        return np.concatenate([np.empty(0, dtype=np.int32), *chosen])

    def num_unknown_bytes(self, texts: Texts) -> int:
        """How many bytes of the texts encoding leaves out: those that a text's own member does not know."""
        if self._sizes[0] is None:
            return 0
        array = as_array(texts)
        selected = self.selected(array)
        return sum(
            member.num_unknown_bytes(array.filter(pa.array(selected == number)))
            for number, member in enumerate(self.members.values())
        )

    # --- decode ---

    def decode_parts(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes of each id, whatever came before it: switch tokens as nothing, special tokens as their own text.

        Raises
        ------
        IndexError
            An id is beyond the vocabulary.
        """
        ids = list(ids)
        texts = self._tables[0]
        if ids and not 0 <= min(ids) <= max(ids) < len(texts):
            raise IndexError(f"{min(ids) if min(ids) < 0 else max(ids)} is not an id")
        return [texts[token_id] for token_id in ids]

    # --- files ---

    def to_json(self) -> str:
        """The content of pool.json: the model, whole."""
        return self._json

    @functools.cached_property
    def _json(self) -> str:
        members = [
            {
                "name": name,
                "encoder": member.encoder,
                **({"counts": self.counts[number].tolist()} if self.selector == "bits" else {}),
                "tokenizer": json.loads(member.to_json()),
            }
            for number, (name, member) in enumerate(self.members.items())
        ]
        fields = {"format": FORMAT, "vocab_size": self.vocab_size, "selector": self.selector, "members": members}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"

    @functools.cached_property
    def sha256(self) -> str:
        """Of pool.json; stands in every packed shard."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        """The content of tokenmill.json."""
        return {
            "format_version": 1,
            "tokenmill_version": __version__,
            "kind": "pool",
            "vocab_size": self.vocab_size,
            "selector": self.selector,
            "members": {
                name: {"vocab_size": member.vocab_size, "encoder": member.encoder, "tokenizer_sha256": member.sha256}
                for name, member in self.members.items()
            },
            "special_tokens": {token: self.id_of(token) for token in self.special_tokens},
            "switch_tokens": {token: self.id_of(token) for token in self.switch_tokens},
            "normalizer": self.normalizer,
            "tokenizer_sha256": self.sha256,
            "options": self.options,
        }

    def files(self) -> dict[str, bytes]:
        """Name and content of every file of the tokenizer's directory; the same tokenizer gives the same bytes."""
        description = json.dumps(self.description(), indent=2, ensure_ascii=False) + "\n"
        return {"pool.json": self.to_json().encode(), "tokenmill.json": description.encode()}

    @staticmethod
    def from_json(text: str, parse_member: ParseMember, options: dict[str, Any] | None = None) -> PoolTokenizer:
        """From the text of a pool.json; ``parse_tokenizer`` (pipeline/tokenizer.py) knows how to parse members.

        Raises
        ------
        ArtifactError
            It is none, or damaged; says which part is.
        """
        try:
            root = json.loads(text)
            if root["format"] != FORMAT:
                raise ArtifactError(f"its format is {root['format']!r}; {FORMAT!r} is what this version reads")
            members: dict[str, Member] = {}
            for entry in root["members"]:
                if not isinstance(entry["name"], str) or entry["name"] in members:
                    raise ValueError(f"two members are named {entry['name']!r}, or that is no name")
                try:
                    members[entry["name"]] = parse_member(json.dumps(entry["tokenizer"]), entry["encoder"])
                except ArtifactError as error:
                    raise ArtifactError(f"its member {entry['name']!r}: {error}") from error
            counts = [_counts(entry["counts"]) for entry in root["members"] if "counts" in entry]
            loaded = PoolTokenizer(members, root["selector"], tuple(counts), options or {})
            if loaded.vocab_size != root["vocab_size"]:
                raise ValueError(f"its members have {loaded.vocab_size} tokens; {root['vocab_size']!r} are expected")
            return loaded
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ArtifactError(f"not a pool.json: {type(error).__name__}: {error}") from error


def _counts(values: list[int]) -> NDArray[np.int64]:
    if not all(type(value) is int for value in values):
        raise ValueError("counts are whole numbers")
    return np.array(values, dtype=np.int64)


def _sums(worth: NDArray[np.int64] | None, ids: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the ids of each row are worth together; one each without ``worth``."""
    if worth is None:
        return np.diff(offsets)
    sums = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum(worth[ids], out=sums[1:])
    return np.diff(sums[offsets])


def code_lengths(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bits of each id, -log2 of its share, in 1/65,536: ``[shape=(n,), dtype=int64]``.

    The share is (count + 1) / (sum of counts + n). Both logarithms are rounded down, and so exact to a unit.

    Examples
    --------
    Of the counts 3, 1, 0, 0 the shares are 1/2, 1/4, 1/8, 1/8: 65,536, 131,072, and 196,608 twice.
    """
    distinct, places = np.unique(counts, return_inverse=True)
    logs = np.array([_log2(int(count) + 1) for count in distinct], dtype=np.int64)
    return (_log2(int(counts.sum()) + len(counts)) - logs)[places]


def _log2(value: int) -> int:
    """log2, in units, rounded down: in whole numbers, for libraries differ in the last bit of a float.

    The whole part is the place of the first bit. Each further bit: square what is left, from 1 to below 2; 2 or more is a 1.
    """
    precision = 96
    log = value.bit_length() - 1
    rest = (value << precision) >> log
    for _ in range(_UNIT_BITS):
        rest = (rest * rest) >> precision
        bit = rest >> (precision + 1)
        log, rest = 2 * log + bit, rest >> bit
    return log

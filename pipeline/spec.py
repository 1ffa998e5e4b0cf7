"""The job spec as plain frozen classes. ``jobs.load`` reads YAML into them; tests build them directly.

Two halves: what determines the output, and ``ExecutionSpec``, which never changes a byte of it and is in no fingerprint.
Checks raise ValueError whose message starts with the field's name; ``jobs.load`` puts the path in front.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from pipeline.kernels.ranks import MOST_IDS
from pipeline.normalizer import NORMALIZERS
from pipeline.pretokenizer import PRESETS, Pretokenizer

Errors = Literal["stop", "replace", "skip"]

LEAST_TASK_MEMORY = 512 << 20
"""Half of it is the program itself."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint for a misspelt name, or the list of what is allowed."""
    options = sorted(allowed)
    close = difflib.get_close_matches(name, options, n=1)
    return f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(options)}"


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} is {name!r}; up to 100 letters, digits, '.', '_' and '-' are allowed, for it names files")


def _check_distinct(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} {name!r} is used {names.count(name)} times; names must differ")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed}; 0 to {2**63 - 1} is allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Files of documents."""

    name: str
    uris: tuple[str, ...]  # paths, globs, any fsspec URI
    exclude: tuple[str, ...] = ()  # patterns of names to leave out, below the fixed part of the glob; * matches / too
    format: Literal["auto", "jsonl", "parquet", "arrow", "txt"] = "auto"  # auto: by the file's ending
    text_column: str = "text"
    id_column: str | None = None  # default: the file's name and the row (for lines: the byte where it starts)
    documents: Literal["file", "line"] = "file"  # txt only: what is a document
    weight: float = 1.0  # in training counts
    errors: Errors | None = None  # invalid UTF-8; default: the job's

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        if not self.uris:
            raise ValueError("uris is empty; at least one path or glob is needed")
        if not 0 < self.weight <= 1_000_000 or Fraction(str(self.weight)).denominator > 1_000_000:
            raise ValueError(f"weight is {self.weight}; a number above 0 with at most 6 decimals is allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSpec:
    """Drop documents by rule, counted as ``filter:NAME``."""

    name: Literal["length"]
    min_bytes: int = 0
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.min_bytes < 0 or (self.max_bytes is not None and self.max_bytes < self.min_bytes):
            raise ValueError(f"min_bytes is {self.min_bytes} and max_bytes {self.max_bytes}; 0 <= min <= max is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutSpec:
    """Documents kept out of training, chosen by the hash of their id."""

    fraction: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        if not 0 <= self.fraction < 1:
            raise ValueError(f"fraction is {self.fraction}; a number from 0 to below 1 is allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretokenizerSpec:
    """A preset or a regex."""

    preset: str | None = None
    regex: str | None = None
    digits: Literal["l2r", "r2l", "single"] | None = None

    def __post_init__(self) -> None:
        if (self.preset is None) == (self.regex is None):
            raise ValueError("pretokenizer needs a preset's name or {regex: …}, one of the two")
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; {nearest(self.preset, PRESETS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSpec:
    """A tokenizer to train."""

    name: str
    kind: Literal["bpe"] = "bpe"
    vocab_size: int  # all ids: special tokens, alphabet, merges
    normalizer: str = "none"
    pretokenizer: PretokenizerSpec = field(default_factory=lambda: PretokenizerSpec(preset="gpt4o"))
    digits: Literal["l2r", "r2l", "single"] | None = None  # in place of the preset's own rule
    min_count: int = 1  # a pair rarer than this is not merged
    min_word_count: int = 1  # a word rarer than this, in all sources together, is left out of training
    max_token_length: int | None = None  # as in `tokenizers`: merges of merges stay *below* it, in bytes
    initial_alphabet: Literal["bytes", "seen"] = "bytes"  # all 256 bytes, or those in the corpus
    encoder: Literal["merge", "greedy", "fewest"] = "merge"  # by the merges | longest token first | fewest tokens
    special_tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        if self.normalizer not in NORMALIZERS:
            raise ValueError(f"normalizer is {self.normalizer!r}; {nearest(self.normalizer, NORMALIZERS)}")
        if self.digits and self.pretokenizer.digits:
            raise ValueError("digits is given twice, beside the pretokenizer and inside it")
        for token in self.special_tokens:
            if not token:
                raise ValueError("special_tokens holds an empty string")
        _check_distinct("special_tokens: the token", list(self.special_tokens))
        alphabet = 256 if self.initial_alphabet == "bytes" else 1
        needed = alphabet + len(self.special_tokens)
        if not needed <= self.vocab_size <= MOST_IDS:
            raise ValueError(
                f"vocab_size is {self.vocab_size}; a byte-level vocabulary needs at least {needed} "
                f"({alphabet} for the bytes, {len(self.special_tokens)} for special tokens) and at most {MOST_IDS}"
            )
        if self.min_count < 0:
            raise ValueError(f"min_count is {self.min_count}; 0 or more is allowed")
        if self.min_word_count < 1:
            raise ValueError(f"min_word_count is {self.min_word_count}; 1 or more is allowed")
        if self.max_token_length is not None and self.max_token_length < 1:
            raise ValueError(f"max_token_length is {self.max_token_length}; 1 or more is allowed")

    def make_pretokenizer(self) -> Pretokenizer:
        """The pretokenizer the spec describes; SpecError if ``tokenizers`` refuses its regex."""
        digits = self.digits or self.pretokenizer.digits
        if self.pretokenizer.preset is not None:
            return Pretokenizer.named(self.pretokenizer.preset, digits)
        return Pretokenizer.custom(self.pretokenizer.regex or "", digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSpec:
    """What to put beside our tokenizers."""

    compare: tuple[str, ...] = ()  # tokenizer.json files


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleSpec:
    """The order of the packed documents."""

    seed: int = 0

    def __post_init__(self) -> None:
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSpec:
    """Packed data sets, one for each tokenizer named."""

    tokenizers: tuple[str, ...]
    sequence_length: int = 2048
    strategy: Literal["best_fit", "concat"] = "best_fit"
    overflow: Literal["split", "truncate", "drop"] = "split"  # documents longer than a sequence
    shuffle: ShuffleSpec | None = field(default_factory=ShuffleSpec)  # none: source, file and row order
    append: str | None = None  # a special token after each document

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= 1 << 24:
            raise ValueError(f"sequence_length is {self.sequence_length}; 1 to {1 << 24} is allowed")
        if not self.tokenizers:
            raise ValueError("tokenizers is empty; name at least one, or leave pack out")
        _check_distinct("tokenizers: the name", list(self.tokenizers))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSpec:
    """How to run. Never changes a byte of the output; in no fingerprint."""

    address: str = "auto"  # auto: a running Ray cluster, else Ray starts here; local: no Ray; else a cluster's address
    max_in_flight: int | None = None  # tasks submitted at once; default: twice the CPUs there are by then
    retries: int = 3  # after storage trouble or a lost worker
    shard_bytes: int | None = None  # input per task; default: 128 MiB, less for little input; a resume keeps the plan's
    task_memory_bytes: int | None = (
        None  # of a task, about, and reserved for it on the cluster; default: 2 GiB, not reserved
    )
    train_workers: int | None = None  # that share the words of a tokenizer; default: as many as they need, mostly 1
    storage_options: dict[str, Any] = field(
        default_factory=dict, repr=False
    )  # of fsspec: endpoint_url, key, secret, anon, …

    def __post_init__(self) -> None:
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise ValueError(f"max_in_flight is {self.max_in_flight}; 1 or more is allowed")
        if self.train_workers is not None and self.train_workers < 1:
            raise ValueError(f"train_workers is {self.train_workers}; 1 or more is allowed")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; 0 or more is allowed")
        if self.shard_bytes is not None and self.shard_bytes < 1:
            raise ValueError(f"shard_bytes is {self.shard_bytes}; 1 or more is allowed")
        if self.task_memory_bytes is not None and self.task_memory_bytes < LEAST_TASK_MEMORY:
            raise ValueError(
                f"task_memory_bytes is {self.task_memory_bytes}; {LEAST_TASK_MEMORY} (512 MiB) or more is allowed"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A whole job."""

    name: str
    output: str
    sources: tuple[SourceSpec, ...]
    tokenizers: tuple[TokenizerSpec, ...]
    filters: tuple[FilterSpec, ...] = ()
    errors: Errors = "stop"  # invalid UTF-8: stop, put U+FFFD, or skip the document and count it
    holdout: HoldoutSpec = field(default_factory=HoldoutSpec)
    evaluate: EvaluateSpec = field(default_factory=EvaluateSpec)
    pack: PackSpec | None = None
    execution: ExecutionSpec = field(default_factory=ExecutionSpec)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty; at least one is needed")
        if not self.tokenizers:
            raise ValueError("tokenizers is empty; at least one is needed")
        if not self.output:
            raise ValueError("output is empty; a directory or URI is needed")
        _check_distinct("sources: the name", [source.name for source in self.sources])
        _check_distinct("tokenizers: the name", [tokenizer.name for tokenizer in self.tokenizers])
        if self.pack is not None:
            self._check_pack(self.pack)

    def _check_pack(self, pack: PackSpec) -> None:
        by_name = {tokenizer.name: tokenizer for tokenizer in self.tokenizers}
        for name in pack.tokenizers:
            if name not in by_name:
                raise ValueError(f"pack.tokenizers names {name!r}; {nearest(name, by_name)}")
            if pack.append is not None and pack.append not in by_name[name].special_tokens:
                raise ValueError(
                    f"pack.append is {pack.append!r}, which is not a special token of tokenizer {name!r}; "
                    "add it to that tokenizer's special_tokens"
                )

"""The job spec as plain frozen classes. ``jobs.load`` reads YAML into them; tests build them directly.

Two halves: what determines the output, and ``ExecutionSpec``, which never changes a byte of it and is in no fingerprint.
Checks raise ValueError whose message starts with the field's name; ``jobs.load`` puts the path in front.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.checks import check_distinct, check_name, check_seed, check_weight, nearest
from pipeline.tokenizer_spec import AnySpec, ExtendSpec, MorphSpec, PoolSpec, TrainedSpec

Errors = Literal["stop", "replace", "skip"]

LEAST_TASK_MEMORY = 512 << 20
"""Half of it is the program itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Files of documents."""

    name: str
    uris: tuple[str, ...]  # paths, globs, any fsspec URI
    exclude: tuple[str, ...] = ()  # patterns of names to leave out, below the fixed part of the glob; * matches / too
    format: Literal["auto", "jsonl", "parquet", "arrow", "txt", "fasta"] = "auto"  # auto: by the file's ending
    text_column: str = "text"
    id_column: str | None = None  # default: the file's name and the row (for lines: the byte where it starts)
    documents: Literal["file", "line"] = "file"  # txt only: what is a document
    weight: float = 1.0  # in training counts
    errors: Errors | None = None  # invalid UTF-8, letters that are not allowed; default: the job's
    letters: Literal["dna", "iupac", "protein", "any"] = "dna"  # fasta only: what a sequence is made of
    case: Literal["upper", "keep"] = "upper"  # fasta only: small letters, of masked repeats, become capitals

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if not self.uris:
            raise ValueError("uris is empty; at least one path or glob is needed")
        if self.format != "auto":
            self.check_format(self.format)
        check_weight("weight", self.weight, "above 0")

    def check_format(self, found: str) -> None:
        """ValueError if a field does not go with the format that the files have."""
        if found != "fasta":
            for name, value, default in (("letters", self.letters, "dna"), ("case", self.case, "upper")):
                if value != default:
                    raise ValueError(f"{name} is {value!r}, which goes with the format fasta; the format is {found}")
        elif self.id_column not in (None, "name"):
            raise ValueError(
                f"id_column is {self.id_column!r}; of a FASTA file 'name' is allowed, the first word of a header, or none"
            )


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
        check_seed(self.seed)
        if not 0 <= self.fraction < 1:
            raise ValueError(f"fraction is {self.fraction}; a number from 0 to below 1 is allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class MorphologySpec:
    """What tokens are measured by: the roots and affixes of a language, words that are valid besides, cut words."""

    language: str | None = None  # tr, or a folder with harmony.tsv, affixes.tsv and roots.tsv: what is valid, and pure
    roots: str | None = None  # a table of roots in place of the language's own
    words: tuple[str, ...] = ()  # files of words that are valid besides, one a line
    gold: str | None = None  # a file of words and their morphemes: evlerde, a tab, ev ler de

    def __post_init__(self) -> None:
        if not self.language and not self.gold:
            raise ValueError("language and gold are both missing; at least one of them is needed")
        if not self.language and (self.roots or self.words):
            raise ValueError("roots and words are given without language, which they go with")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelSpec:
    """The same text in several languages: rows of one group say the same."""

    uris: tuple[str, ...]  # paths or globs; jsonl, jsonl.gz, jsonl.zst, parquet
    reference: str  # the language that the others are measured against
    group_column: str = "align"
    language_column: str = "lang"
    text_column: str = "text"
    target: float = 1.0  # of the sizes planned: tokens a language may need, for each of the reference's at the middle size

    def __post_init__(self) -> None:
        if not self.uris:
            raise ValueError("uris is empty; at least one path or glob is needed")
        if not self.reference:
            raise ValueError("reference is empty; a language of the files is needed")
        check_distinct(
            "group_column, language_column, text_column: the name",
            [
                self.group_column,
                self.language_column,
                self.text_column,
            ],
        )
        if not 0 < self.target <= 1000:
            raise ValueError(f"target is {self.target}; a number above 0, up to 1000, is allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseSpec:
    """Errors as of optical character recognition, put into held-out text."""

    rate: float = 0.1  # of the characters, those that are hit
    seed: int = 0
    sample_bytes: int = 4_000_000  # of held-out text: documents chosen by the hashes of their texts

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is {self.rate}; a share from 0 to 1 is allowed")
        if self.sample_bytes < 1:
            raise ValueError(f"sample_bytes is {self.sample_bytes}; 1 or more is allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSpec:
    """What to put beside our tokenizers."""

    compare: tuple[str, ...] = ()  # tokenizer.json files
    morphology: MorphologySpec | None = None  # whether tokens are morphemes
    terms: tuple[str, ...] = ()  # files of a domain's terms, one a line
    parallel: ParallelSpec | None = None  # what a language pays in tokens, and which vocabulary would be fair
    noise: NoiseSpec | None = None  # whether tokens stay where they are when text is misread

    def __post_init__(self) -> None:
        check_distinct("terms: the file", list(self.terms))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleSpec:
    """The order of the packed documents."""

    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)


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
        check_distinct("tokenizers: the name", list(self.tokenizers))


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
    tokenizers: tuple[AnySpec, ...]
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
        check_distinct("sources: the name", [source.name for source in self.sources])
        check_distinct("tokenizers: the name", [tokenizer.name for tokenizer in self.tokenizers])
        for index, tokenizer in enumerate(self.trained):
            self._check_sources(f"tokenizers: {tokenizer.name!r}: ", index)
        for pool in self.pools:
            self._check_pool(pool)
        if self.pack is not None:
            self._check_pack(self.pack)

    @property
    def trained(self) -> tuple[TrainedSpec, ...]:
        """The tokenizers that are trained on the corpus."""
        return tuple(tokenizer for tokenizer in self.tokenizers if not isinstance(tokenizer, PoolSpec))

    @property
    def pools(self) -> tuple[PoolSpec, ...]:
        """The tokenizers that are made of others."""
        return tuple(tokenizer for tokenizer in self.tokenizers if isinstance(tokenizer, PoolSpec))

    def weights_of(self, tokenizer: TrainedSpec) -> dict[str, float]:
        """By source: how much it counts in the training of a tokenizer; 0: not at all."""
        chosen = {source.name for source in self.sources} if tokenizer.sources is None else set(tokenizer.sources)
        weights = {source.name: tokenizer.weights.get(source.name, source.weight) for source in self.sources}
        return {name: weight if name in chosen else 0.0 for name, weight in weights.items()}

    def special_tokens_of(self, tokenizer: AnySpec) -> tuple[str, ...]:
        """Those of a tokenizer; of a pool, those of its members."""
        if not isinstance(tokenizer, PoolSpec):
            return tokenizer.special_tokens
        return next(member.special_tokens for member in self.trained if member.name == tokenizer.members[0])

    def _check_sources(self, where: str, index: int) -> None:
        tokenizer = self.trained[index]
        known = [source.name for source in self.sources]
        for name in (*(tokenizer.sources or ()), *tokenizer.weights):
            if name not in known:
                raise ValueError(f"{where}sources or weights name {name!r}; {nearest(name, known)}")
        for name in tokenizer.weights:
            if tokenizer.sources is not None and name not in tokenizer.sources:
                raise ValueError(
                    f"{where}weights names {name!r}, which its sources leave out; take it out of one of the two"
                )
        weights = self.weights_of(tokenizer)
        if not any(weights.values()):
            raise ValueError(f"{where}the weights of its sources sum to zero ({weights}); nothing is left to train on")

    def _check_pool(self, pool: PoolSpec) -> None:
        by_name = {t.name: t for t in self.trained if not isinstance(t, MorphSpec | ExtendSpec)}
        for name in pool.members:
            if name not in by_name:
                others = {tokenizer.name: tokenizer.kind for tokenizer in self.tokenizers}
                what = f", which is of kind {others[name]} and cannot be a member" if name in others else ""
                hint = nearest(name, by_name) if by_name else "there are no others"
                raise ValueError(f"tokenizers: {pool.name!r}: members names {name!r}{what}; {hint}")
            if getattr(by_name[name], "pad_to", None) is not None:
                raise ValueError(
                    f"tokenizers: {pool.name!r}: its member {name!r} has pad_to, so special tokens that the others "
                    "have not; leave pad_to out"
                )
        for field_name in ("text_normalizer", "special_tokens"):
            values = [getattr(by_name[name], field_name) for name in pool.members]
            if any(value != values[0] for value in values):
                raise ValueError(
                    f"tokenizers: {pool.name!r}: its members differ in {field_name.replace('text_', '')} ({values}); "
                    "a pool needs the same of all"
                )
        for name in pool.members:
            if f"<|pool:{name}|>" in self.special_tokens_of(pool):
                raise ValueError(
                    f"tokenizers: {pool.name!r}: its member {name!r} gives it the switch token '<|pool:{name}|>', which "
                    "is a special token already; rename one of them"
                )

    def _check_pack(self, pack: PackSpec) -> None:
        by_name = {tokenizer.name: tokenizer for tokenizer in self.tokenizers}
        for name in pack.tokenizers:
            if name not in by_name:
                raise ValueError(f"pack.tokenizers names {name!r}; {nearest(name, by_name)}")
            if pack.append is not None and pack.append not in self.special_tokens_of(by_name[name]):
                raise ValueError(
                    f"pack.append is {pack.append!r}, which is not a special token of tokenizer {name!r}; "
                    "add it to that tokenizer's special_tokens"
                )

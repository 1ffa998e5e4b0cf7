"""List once, decide everything, write it down: ``plan.json`` is what every later step and every resume goes by."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import itertools
import json
import logging
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import __version__, storage
from pipeline.errors import ArtifactError, DataError, SpecError
from pipeline.jobs.load import to_dict
from pipeline.jobs.packs import pack_of, publish_packs
from pipeline.jobs.passes import CountingPass, needs_of
from pipeline.jobs.yardstick import hash_yardsticks
from pipeline.spec import JobSpec, SourceSpec
from pipeline.stages.shard import FileRange, Format, ListedFile, ReadOptions, Shard, plan_shards, usual_shard_bytes
from pipeline.tokenizer import MODEL_FILES, Tokenizer, load_tokenizer
from pipeline.tokenizer_spec import ExtendSpec, SuperBpeSpec

logger = logging.getLogger(__name__)

REVISION = 6
"""Raised whenever the same spec over the same input would give other bytes."""

FORMAT_VERSION = 5
"""Of plan.json."""

_PARTITION_BYTES = 16 << 20
_MAX_PARTITIONS = 256
_LARGE_PARTITION_BYTES = 4 << 30
_MAX_LARGE_PARTITIONS = 1024

_FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow",
    ".feather": "arrow", ".ipc": "arrow", ".txt": "txt", ".text": "txt", ".fa": "fasta", ".fasta": "fasta", ".fna": "fasta",
    ".ffn": "fasta", ".faa": "fasta", ".frn": "fasta",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``inputs``: every file with name, size and version; ``compare``: hash of each tokenizer to compare with; ``bases``: by
    tokenizer, of the one it starts from; ``packs``: of the language, or terms, it needs; ``yardsticks``: of what the report
    measures by, for each field of ``evaluate`` that names files; ``trained_on`` and ``subwords``: see ``passes.Needs``;
    ``conditional``: whether the output's store can create a file only if it is absent, as tried when the plan was made.
    """

    fingerprint: str
    spec: dict[str, Any]
    inputs: list[list[dict[str, Any]]]
    compare: list[str]
    bases: dict[str, str]
    packs: dict[str, str]
    yardsticks: dict[str, str]
    read_options: tuple[ReadOptions, ...]
    shards: tuple[Shard, ...]
    passes: tuple[CountingPass, ...]
    trained_on: dict[str, list[str]]
    subwords: dict[str, str]
    num_partitions: int
    conditional: bool = True

    @property
    def num_bytes(self) -> int:
        """Bytes of text in all shards, about."""
        return sum(shard.num_bytes for shard in self.shards)


def make_plan(spec: JobSpec) -> Plan:
    """List the inputs and cut them into shards.

    Raises
    ------
    SpecError
        A glob matches nothing, or a file's format is not told by its ending.
    DataError
        A parquet file has no footer.
    """
    storage.configure(spec.execution.storage_options)
    output = storage.absolute(spec.output)
    listed = [_list_source(source, index, output) for index, source in enumerate(spec.sources)]
    options = tuple(
        _read_options(source, files, index, spec)
        for index, (source, files) in enumerate(zip(spec.sources, listed, strict=True))
    )
    total = sum(file.num_bytes for files in listed for file in files)
    shard_bytes = spec.execution.shard_bytes or usual_shard_bytes(total)
    shards = plan_shards(
        [
            ([_with_row_groups(file, source, option, shard_bytes) for file in files], option)
            for source, files, option in zip(spec.sources, listed, options, strict=True)
        ],
        shard_bytes,
    )
    inputs = [[{"name": f.name, "bytes": f.num_bytes, "version": f.version} for f in files] for files in listed]
    compare = [_hash_tokenizer(model_file(uri)) for uri in spec.evaluate.compare]
    yardsticks = hash_yardsticks(spec.evaluate)
    bases = _read_bases(spec)
    hashes = {name: sha256 for name, (sha256, _) in bases.items()}
    needs = needs_of(spec, {name: base for name, (_, base) in bases.items()})
    packs = {name: hashlib.sha256(content).hexdigest() for name, content in _packs_of(spec).items()}
    identity = {
        "spec": to_dict(spec),
        "inputs": inputs,
        "compare": compare,
        **({"bases": hashes} if hashes else {}),
        **({"packs": packs} if packs else {}),
        **({"yardsticks": yardsticks} if yardsticks else {}),
        "revision": REVISION,
        "version": __version__,
    }
    return Plan(
        fingerprint=_sha256(identity),
        spec=to_dict(spec),
        inputs=inputs,
        compare=compare,
        bases=hashes,
        packs=packs,
        yardsticks=yardsticks,
        read_options=options,
        shards=shards,
        passes=needs.passes,
        trained_on=needs.trained_on,
        subwords=needs.subwords,
        num_partitions=_num_partitions(total),
    )


def _num_partitions(total: int) -> int:
    """Of the words: one for each 16 MiB of input, up to 256; from 1 TiB on one for each 4 GiB, up to 1024."""
    few = min(_MAX_PARTITIONS, max(1, -(-total // _PARTITION_BYTES)))
    return max(few, min(_MAX_LARGE_PARTITIONS, total // _LARGE_PARTITION_BYTES))


def settle_plan(spec: JobSpec) -> Plan:
    """The plan of the output directory: the stored one if it fits the spec and the inputs, else a new one, stored.

    Raises
    ------
    SpecError
        The directory belongs to another spec, input or version, or to something else altogether.
    """
    plan = make_plan(spec)
    output = storage.absolute(spec.output)
    uri = storage.join(output, "plan.json")
    if not storage.exists(uri):
        found = storage.list_names(output)
        if found and "plan.json" not in found:  # else another driver has just stored it
            raise SpecError(
                f"output is {spec.output}, which has no plan.json but holds {found[0]!r}; name an empty or new directory"
            )
        if not found:
            plan = dataclasses.replace(plan, conditional=_is_conditional(output))
            storage.create_first(uri, to_json(plan), conditional=plan.conditional)
    stored = read_plan(output)
    if stored.fingerprint != plan.fingerprint:
        raise SpecError(
            f"output is {spec.output}, which belongs to another job: {_difference(stored, plan)}. "
            "Name another output, or delete that directory to start again"
        )
    publish_packs(output, _packs_of(spec).values())
    # The same files may lie elsewhere by now: they are read where they were just listed.
    uris = {(shard.source, part.name): part.uri for shard in plan.shards for part in shard.parts}
    return dataclasses.replace(stored, shards=tuple(_relocated(shard, uris) for shard in stored.shards))


def _is_conditional(output: str) -> bool:
    if storage.honours_conditions(output):
        return True
    logger.warning(
        "%s: the store does not keep to `create only if absent` (S3: If-None-Match). Receipts are claimed before they are "
        "written, and compared: as safe, but slower",
        output,
    )
    return False


def _relocated(shard: Shard, uris: dict[tuple[int, str], str]) -> Shard:
    parts = (dataclasses.replace(part, uri=uris[shard.source, part.name]) for part in shard.parts)
    return dataclasses.replace(shard, parts=tuple(parts))


def to_json(plan: Plan) -> bytes:
    """The content of plan.json."""
    fields = {
        "format_version": FORMAT_VERSION,
        "tokenmill_version": __version__,
        "revision": REVISION,
        **dataclasses.asdict(plan),
    }
    fields["sha256"] = _sha256(fields)
    return (json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def read_plan(output: str) -> Plan:
    """The stored plan.

    Raises
    ------
    ArtifactError
        There is none, or it is damaged.
    """
    uri = storage.join(output, "plan.json")
    content = storage.read_bytes(uri)
    try:
        root = json.loads(content)
        if root["format_version"] != FORMAT_VERSION:
            raise ArtifactError(
                f"{uri}: made by tokenmill {root['tokenmill_version']}, whose plans this version does not read; "
                "name another output, or delete that directory to start again"
            )
        if root.pop("sha256") != _sha256(root):
            raise ValueError("its content has changed")
        return Plan(
            fingerprint=root["fingerprint"],
            spec=root["spec"],
            inputs=root["inputs"],
            compare=root["compare"],
            bases=root["bases"],
            packs=root["packs"],
            yardsticks=root["yardsticks"],
            read_options=tuple(ReadOptions(**options) for options in root["read_options"]),
            shards=tuple(
                Shard(**{**shard, "parts": tuple(FileRange(**part) for part in shard["parts"])}) for shard in root["shards"]
            ),
            passes=tuple(CountingPass.from_dict(fields) for fields in root["passes"]),
            trained_on=root["trained_on"],
            subwords=root["subwords"],
            num_partitions=root["num_partitions"],
            conditional=root["conditional"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{uri}: damaged: {error}; delete the output directory to start again") from error


# --- listing ----------------------------------------------------------------------------------------------------------


def _list_source(source: SourceSpec, index: int, output: str) -> list[storage.StoredFile]:
    found: dict[str, storage.StoredFile] = {}
    # Names start below what all patterns of a source have in common, so that a/1.jsonl and b/1.jsonl stay apart, and the
    # same files elsewhere have the same names.
    folders = [storage.fixed_part(storage.absolute(uri))[:-1].split("/") for uri in source.uris]
    common = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    root = "".join(f"{parts[0]}/" for parts in common)
    for number, uri in enumerate(source.uris):
        files = storage.list_files(storage.absolute(uri))
        files = [dataclasses.replace(file, name=file.uri.removeprefix(root)) for file in files]
        files = [file for file in files if not file.uri.startswith(output + "/") and not _is_excluded(file.name, source)]
        if not files:
            raise SpecError(f"sources[{index}].uris[{number}] is {uri!r}, which matches no file outside the output")
        for file in files:
            if not _is_encodable(file.uri):
                raise SpecError(f"sources[{index}].uris[{number}] matches {file.uri!r}, whose name is not UTF-8; rename it")
        found |= {file.uri: file for file in files}
    return sorted(found.values(), key=lambda file: (file.name, file.uri))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def model_file(uri: str) -> str:
    """The model that a path means: itself, or the one of MODEL_FILES in a directory."""
    path = storage.absolute(uri).rstrip("/")
    if path.endswith(".json"):
        return path
    files = [storage.join(path, name) for name in MODEL_FILES]
    return next((file for file in files[1:] if storage.exists(file)), files[0])


def _hash_tokenizer(uri: str) -> str:
    content = storage.read_bytes(uri)
    load_tokenizer(content, uri)
    return hashlib.sha256(content).hexdigest()


def _read_bases(spec: JobSpec) -> dict[str, tuple[str, Tokenizer]]:
    """By tokenizer: the one it starts from, and the sha256 of that.

    Raises
    ------
    SpecError
        It is no byte-level BPE tokenizer, or does not fit.
    """
    bases = {}
    for tokenizer in spec.tokenizers:
        if isinstance(tokenizer, SuperBpeSpec | ExtendSpec) and tokenizer.base:
            try:
                bases[tokenizer.name] = _read_base(tokenizer, tokenizer.base)
            except SpecError as error:
                raise SpecError(f"tokenizer {tokenizer.name!r}: {error}") from None
    return bases


def _read_base(tokenizer: SuperBpeSpec | ExtendSpec, uri: str) -> tuple[str, Tokenizer]:
    try:
        content = storage.read_bytes(model_file(uri))
    except ArtifactError as error:
        raise SpecError(f"base is {uri!r}, which cannot be read: {error}") from None
    try:
        base = Tokenizer.from_json(content.decode(errors="replace"))
    except ArtifactError as error:
        raise SpecError(f"base is {uri!r}, which is no byte-level BPE tokenizer that is run exactly here: {error}") from None
    if isinstance(tokenizer, ExtendSpec) and (encoder := _encoder_beside(model_file(uri))) != "merge":
        raise SpecError(
            f"base is {uri!r}, whose encoder is {encoder!r}; new merges go on from encoder: merge only, and text would "
            "be encoded otherwise than before"
        )
    if isinstance(tokenizer, SuperBpeSpec):
        if base.normalizer != tokenizer.normalizer:
            raise SpecError(f"normalizer is {tokenizer.normalizer!r}; that of the base is {base.normalizer!r}")
        if base.added_tokens:
            raise SpecError(
                f"base is {uri!r}, which cuts {len(base.added_tokens)} added tokens such as "
                f"{base.added_tokens[0].content!r} out of the text; only kind: extend goes on from such a tokenizer"
            )
    if base.vocab_size > tokenizer.vocab_size:
        raise SpecError(f"vocab_size is {tokenizer.vocab_size}; the base has {base.vocab_size} tokens already")
    for token in tokenizer.special_tokens:
        if token not in base.special_tokens:
            raise SpecError(
                f"special_tokens holds {token!r}, which is no special token of the base; it has "
                f"{', '.join(map(repr, base.special_tokens)) or 'none'}, and they are kept"
            )
    return hashlib.sha256(content).hexdigest(), base


def _encoder_beside(uri: str) -> str:
    """How a tokenizer encodes: tokenmill.json says so, beside a tokenizer.json of ours."""
    own = storage.join(uri.rsplit("/", 1)[0], "tokenmill.json")
    if not storage.exists(own):
        return "merge"
    try:
        return str(json.loads(storage.read_bytes(own)).get("encoder", "merge"))
    except (ValueError, AttributeError) as error:
        raise SpecError(f"base has {own} beside it, which is damaged: {error}") from None


def _packs_of(spec: JobSpec) -> dict[str, bytes]:
    """What each tokenizer needs of its language; SpecError if a table is not as it should be."""
    packs = {}
    for tokenizer in spec.tokenizers:
        try:
            pack = pack_of(tokenizer)
        except SpecError as error:
            raise SpecError(f"tokenizer {tokenizer.name!r}: {error}") from None
        if pack is not None:
            packs[tokenizer.name] = pack
    return packs


def _is_excluded(name: str, source: SourceSpec) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in source.exclude)


def _read_options(source: SourceSpec, files: list[storage.StoredFile], index: int, spec: JobSpec) -> ReadOptions:
    formats = {_format_of(file.uri, index) for file in files} if source.format == "auto" else {source.format}
    if len(formats) > 1:
        raise SpecError(
            f"sources[{index}].uris match files of several formats ({', '.join(sorted(formats))}); make a source of each"
        )
    found = formats.pop()
    try:
        source.check_format(found)
    except ValueError as error:
        raise SpecError(f"sources[{index}].{error}") from error
    return ReadOptions(
        format=found,
        text_column=source.text_column,
        id_column=source.id_column,
        documents=source.documents,
        errors=source.errors or spec.errors,
        letters=source.letters,
        case=source.case,
    )


def _ending(uri: str) -> str:
    plain = uri.removesuffix(".gz").removesuffix(".zst")
    return plain[plain.rfind(".") :] if "." in plain.rsplit("/", 1)[-1] else ""


def format_of(uri: str) -> Format | None:
    """The format that a file's ending tells, or None if it tells none."""
    return _FORMATS.get(_ending(uri))


def _format_of(uri: str, index: int) -> Format:
    ending = _ending(uri)
    if ending not in _FORMATS:
        raise SpecError(
            f"sources[{index}].uris match {uri}, whose ending {ending!r} tells no format; "
            "set the source's format to jsonl, parquet, arrow, txt or fasta"
        )
    return _FORMATS[ending]


def _with_row_groups(file: storage.StoredFile, source: SourceSpec, options: ReadOptions, shard_bytes: int) -> ListedFile:
    """Only parquet files larger than a shard are opened: the others are not cut. Ids start with the source's name."""
    groups: tuple[int, ...] = ()
    if options.format == "parquet" and file.num_bytes > shard_bytes:
        with storage.open_input(file.uri) as opened:
            try:
                footer = pq.ParquetFile(opened).metadata
            except pa.ArrowInvalid as error:
                raise DataError(f"{file.uri}: cannot be read as parquet: {error}") from error
            groups = tuple(footer.row_group(g).total_byte_size for g in range(footer.num_row_groups))
    return ListedFile(
        uri=file.uri, name=f"{source.name}/{file.name}", num_bytes=file.num_bytes, version=file.version, row_groups=groups
    )


# --- identity ---------------------------------------------------------------------------------------------------------


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _difference(stored: Plan, wanted: Plan) -> str:
    """What differs between two plans, in words."""
    if changes := _changes(stored.spec, wanted.spec, ""):
        return "its spec differs in " + "; ".join(changes[:3])
    for old_files, new_files in zip(stored.inputs, wanted.inputs, strict=True):
        old, new = ({file["name"]: file for file in files} for files in (old_files, new_files))
        for name in sorted(old.keys() | new.keys()):
            if name not in new:
                return f"the input {name} is gone"
            if name not in old:
                return f"the input {name} is new"
            if old[name] != new[name]:
                return f"the input {name} has changed since the plan was made"
    if stored.compare != wanted.compare:
        return "a tokenizer in evaluate.compare has changed since the plan was made"
    if stored.bases != wanted.bases:
        return "a tokenizer that is the base of another has changed since the plan was made"
    for name in sorted(stored.packs.keys() | wanted.packs.keys()):
        if stored.packs.get(name) != wanted.packs.get(name):
            return f"the tables of tokenizer {name!r} have changed since the plan was made"
    for name in wanted.yardsticks:
        if stored.yardsticks.get(name) != wanted.yardsticks[name]:
            return f"what evaluate.{name} reads has changed since the plan was made"
    return "it was made by another version of tokenmill"


def _changes(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [c for key in keys for c in _changes(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [c for i, (a, b) in enumerate(zip(old, new, strict=True)) for c in _changes(a, b, f"{path}[{i}]")]
    return [] if old == new else [f"{path} ({json.dumps(old)} there, {json.dumps(new)} here)"]

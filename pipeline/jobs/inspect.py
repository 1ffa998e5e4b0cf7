"""Say in a few lines what a path of ours is: a run, a tokenizer, a packed data set, or one Arrow file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.errors import ArtifactError
from pipeline.jobs.manifest import read_manifest
from pipeline.jobs.plan import model_file
from pipeline.jobs.progress import human_bytes
from pipeline.morph import MorphTokenizer
from pipeline.pool import PoolTokenizer
from pipeline.tokenizer import MODEL_FILES, ForeignTokenizer, load_tokenizer
from pipeline.turkish_tokenizer import TurkishTokenizer02

Facts = dict[str, Any]

_SAMPLE_ROWS = 2
_SAMPLE_IDS = 24


def inspect(uri: str) -> Facts:
    """What is there, as names and values.

    Raises
    ------
    ArtifactError
        Nothing that tokenmill knows.
    """
    path = storage.absolute(uri).rstrip("/")
    if not storage.exists(path):
        raise ArtifactError(f"{uri}: not found")
    if path.endswith(".arrow"):
        return _arrow_file(path)
    if path.endswith(".json"):
        return _tokenizer(path)
    readers: list[tuple[str, Callable[[str], Facts]]] = [
        ("manifest.json", _run),
        ("plan.json", _unfinished),
        *((name, lambda folder: _tokenizer(model_file(folder))) for name in MODEL_FILES),
        ("state.json", _data_set),
    ]
    for name, reader in readers:
        if storage.exists(storage.join(path, name)):
            return reader(path)
    raise ArtifactError(
        f"{uri}: not a run's output, a tokenizer, a packed data set or an .arrow file; "
        "name one of those, for instance OUTPUT, OUTPUT/tokenizers/NAME or OUTPUT/packed/NAME/train"
    )


def _run(path: str) -> Facts:
    manifest = read_manifest(path)
    return {
        "what": "a finished run",
        "name": manifest["name"],
        "fingerprint": manifest["fingerprint"],
        "documents": manifest["accounting"]["kept"],
        "artifacts": [f"{entry['path']} ({human_bytes(entry['bytes'])})" for entry in manifest["artifacts"]],
    }


def _unfinished(path: str) -> Facts:
    return {"what": "a run that has not finished", "next": f"tokenmill status {path}"}


def _tokenizer(path: str) -> Facts:
    tokenizer = load_tokenizer(storage.read_bytes(path), path)
    if isinstance(tokenizer, ForeignTokenizer):
        return {"what": "a tokenizer that `tokenizers` runs", "vocab_size": tokenizer.vocab_size}
    if isinstance(tokenizer, TurkishTokenizer02):
        return {"what": "the published hybrid tokenizer for Turkish, as it is", "vocab_size": tokenizer.vocab_size}
    if isinstance(tokenizer, MorphTokenizer):
        return {"what": "a morphology-hybrid tokenizer", **tokenizer.description()}
    if isinstance(tokenizer, PoolTokenizer):
        return {"what": "a pool of tokenizers, one of them for each document", **tokenizer.description()}
    added = [token.content for token in tokenizer.added_tokens]
    longest = sorted(set(tokenizer.vocab) - {*tokenizer.special_tokens, *added}, key=len, reverse=True)[:8]
    return {
        "what": "a byte-level BPE tokenizer",
        "vocab_size": tokenizer.vocab_size,
        "merges": len(tokenizer.merges),
        "special_tokens": {token: tokenizer.id_of(token) for token in tokenizer.special_tokens},
        **({"added_tokens": len(added)} if added else {}),
        "normalizer": tokenizer.normalizer,
        "pretokenizer": list(tokenizer.pretokenizer.patterns),
        "first_merges": ["".join(pair) for pair in tokenizer.merges[:16]],
        "longest_tokens": longest,
    }


def _data_set(path: str) -> Facts:
    state = storage.join(path, "state.json")
    try:
        files = [storage.join(path, entry["filename"]) for entry in json.loads(storage.read_bytes(state))["_data_files"]]
        if not files:
            raise ValueError("it names no files")
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{state}: damaged: {error}") from error
    return {"what": f"a packed data set of {len(files)} file(s)", "first_file": _arrow_file(files[0])}


def _arrow_file(path: str) -> Facts:
    with storage.open_input(path) as file:
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        try:
            table = (pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)).read_all()
        except pa.ArrowInvalid as error:
            raise ArtifactError(f"{path}: not an Arrow file: {error}") from error
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    facts: Facts = {
        "what": f"an Arrow IPC {'file' if is_file else 'stream'}",
        "rows": table.num_rows,
        "columns": {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)},
        "metadata": metadata,
    }
    if "tokenizer" in metadata:
        facts["sample"] = _sample(path, table, metadata["tokenizer"])
    return facts


def _sample(path: str, table: pa.Table, name: str) -> list[Any]:
    """The first ids of the first rows, and their text if the tokenizer lies where a run puts it."""
    rows = [row[:_SAMPLE_IDS] for row in table.column("input_ids").slice(0, _SAMPLE_ROWS).to_pylist()]
    uri = model_file(storage.join(path.rsplit("/packed/", 1)[0], "tokenizers", name))
    if not storage.exists(uri):
        return rows
    tokenizer = load_tokenizer(storage.read_bytes(uri), uri)
    if isinstance(tokenizer, ForeignTokenizer):
        return rows
    return [{"ids": row, "text": tokenizer.decode(row)} for row in rows]

"""From YAML and ``--set`` to a ``JobSpec``; the only home of pydantic.

Unknown keys, wrong types and impossible values end in a SpecError that names the field, what was found, what is allowed,
and the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sysconfig
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.checks import nearest
from pipeline.errors import SpecError
from pipeline.jobs.sweeps import SWEEPS, expand_sweeps
from pipeline.spec import (
    EvaluateSpec,
    ExecutionSpec,
    FilterSpec,
    HoldoutSpec,
    JobSpec,
    MorphologySpec,
    NoiseSpec,
    PackSpec,
    ParallelSpec,
    ShuffleSpec,
    SourceSpec,
)
from pipeline.tokenizer_spec import (
    AnySpec,
    BpeSpec,
    CharSpec,
    DnaSpec,
    DomainSpec,
    ExtendSpec,
    MorphSpec,
    PoolSpec,
    PretokenizerSpec,
    SuperBpeSpec,
)

_CLASSES = (
    BpeSpec, CharSpec, DnaSpec, DomainSpec, EvaluateSpec, ExecutionSpec, ExtendSpec, FilterSpec, HoldoutSpec, JobSpec,
    MorphSpec, MorphologySpec, NoiseSpec, PackSpec, ParallelSpec, PoolSpec, PretokenizerSpec, ShuffleSpec, SourceSpec,
    SuperBpeSpec,
)  # fmt: skip
for _class in _CLASSES:
    setattr(_class, "__pydantic_config__", {"extra": "forbid"})  # noqa: B010  (no such attribute, to a type checker)

_KINDS: dict[str, type[AnySpec]] = {
    "bpe": BpeSpec, "char": CharSpec, "domain": DomainSpec, "dna": DnaSpec, "extend": ExtendSpec, "superbpe": SuperBpeSpec,
    "morph": MorphSpec, "pool": PoolSpec,
}  # fmt: skip

_BY_NAME = {kind.__name__: kind for kind in _KINDS.values()}

_ADAPTER = TypeAdapter(JobSpec)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_spec(path: str, overrides: Sequence[str] = (), *, allow_many: bool = False) -> JobSpec:
    """Read a spec file and apply ``a.b=c`` overrides (list items by number: ``tokenizers.0.vocab_size=1000``).

    ``${NAME}`` in the output and in URIs is an environment variable; ``${PYTHON_STDLIB}`` the folder of the standard
    library of the running Python. ``allow_many``: that sweeps may make more than ``sweeps.MOST_CELLS`` tokenizers.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    try:
        root = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem).split("\n")[0]
        raise SpecError(f"{path}{line}: not valid YAML: {problem}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(root, dict):
        raise SpecError(f"{path}: a mapping with name, output, sources and tokenizers is expected")
    for override in overrides:
        _apply(root, override)
    return parse_spec(root, allow_many=allow_many)


def parse_spec(root: dict[str, Any], *, allow_many: bool = False) -> JobSpec:
    """Check a spec that is already a mapping."""
    try:
        root = json.loads(json.dumps(root, default=str))
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"the spec is not made of names, values and lists: {error}") from error
    root, places = expand_sweeps(_without_nulls(root), allow_many=allow_many)
    _expand_shorthands(root)
    for place, item in zip(places, root["tokenizers"] if places else [], strict=True):
        usual = "pool" if isinstance(item, dict) and item.get("encoder") == "pool" else "bpe"
        if isinstance(item, dict) and str(item.setdefault("kind", usual)) not in _KINDS:
            raise SpecError(f"tokenizers[{place}].kind is {item['kind']!r}; {nearest(str(item['kind']), _KINDS)}")
    try:
        spec = _ADAPTER.validate_json(json.dumps(root), strict=True)
    except ValidationError as error:
        messages = [_explain(dict(e), root, places) for e in error.errors() if _is_meant(e["loc"], root)]
        raise SpecError("\n".join(dict.fromkeys(messages))) from error
    for place, tokenizer in zip(places, spec.tokenizers, strict=True):
        if isinstance(tokenizer, ExtendSpec | PoolSpec):  # which cut as others do
            continue
        where = f"tokenizers[{place}].{'unit_' if isinstance(tokenizer, SuperBpeSpec) else ''}"
        try:
            tokenizer.make_pretokenizer()
            where = f"tokenizers[{place}]."
            tokenizer.make_word_pretokenizer()
        except SpecError as error:
            raise SpecError(f"{where}{error}") from error
    output = _expand(spec.output, "output")
    if not output:
        raise SpecError(f"output is {spec.output!r}, which is empty here; a directory or URI is needed")
    return dataclasses.replace(
        spec,
        output=output,
        sources=tuple(
            dataclasses.replace(source, uris=tuple(_expand(uri, f"sources[{i}].uris") for uri in source.uris))
            for i, source in enumerate(spec.sources)
        ),
        tokenizers=tuple(
            _expand_paths(tokenizer, f"tokenizers[{place}]")
            for place, tokenizer in zip(places, spec.tokenizers, strict=True)
        ),
        evaluate=dataclasses.replace(
            spec.evaluate,
            compare=tuple(_expand(uri, "evaluate.compare") for uri in spec.evaluate.compare),
            morphology=_expand_morphology(spec.evaluate.morphology),
            terms=tuple(_expand(uri, "evaluate.terms") for uri in spec.evaluate.terms),
            parallel=_expand_parallel(spec.evaluate.parallel),
        ),
    )


def to_dict(spec: JobSpec) -> dict[str, Any]:
    """The part of a spec that determines the output, as JSON values: without ``output`` and ``execution``."""
    fields = dataclasses.asdict(spec)
    del fields["execution"], fields["output"]
    result: dict[str, Any] = json.loads(json.dumps(fields))
    result["tokenizers"] = [without_paths(tokenizer) for tokenizer in result["tokenizers"]]
    return result


def _expand_morphology(spec: MorphologySpec | None) -> MorphologySpec | None:
    if spec is None:
        return None
    where = "evaluate.morphology"
    return dataclasses.replace(
        spec,
        language=_expand(spec.language, f"{where}.language") if spec.language else None,
        roots=_expand(spec.roots, f"{where}.roots") if spec.roots else None,
        words=tuple(_expand(uri, f"{where}.words") for uri in spec.words),
        gold=_expand(spec.gold, f"{where}.gold") if spec.gold else None,
    )


def _expand_parallel(spec: ParallelSpec | None) -> ParallelSpec | None:
    if spec is None:
        return None
    return dataclasses.replace(spec, uris=tuple(_expand(uri, "evaluate.parallel.uris") for uri in spec.uris))


PATHS = ("base", "language", "roots", "morphemes", "terms")
"""Fields of tokenizers that may be paths."""


def _expand_paths(tokenizer: AnySpec, where: str) -> AnySpec:
    paths = {name: path for name in PATHS if isinstance(path := getattr(tokenizer, name, None), str) and path}
    expanded: dict[str, Any] = {name: _expand(path, f"{where}.{name}") for name, path in paths.items()}
    return dataclasses.replace(tokenizer, **expanded)


def without_paths(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The fields of a tokenizer's spec without where files lie, which determines nothing: their hashes do."""
    return tokenizer | {name: "given" for name in PATHS if tokenizer.get(name) and tokenizer[name] != "morfessor"}


def without_secrets(override: str) -> str:
    """What was given with ``--set``, as it may be shown."""
    path, equals, _ = override.partition("=")
    keys = _keys(path)
    return f"{path}=***" if equals and _may_be_secret(keys) else override


def _keys(path: str) -> list[str]:
    return [key for key in re.split(r"[.\[\]]+", path) if key]


def _may_be_secret(keys: Sequence[int | str]) -> bool:
    return list(keys[:2]) in (["execution"], ["execution", "storage_options"])


def _apply(root: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = _keys(path)
    override = without_secrets(override)
    if not equals or not keys:
        raise SpecError(f"--set {override!r}: a.b=value is expected")
    node: Any = root
    for key in keys[:-1]:
        if isinstance(node, list):
            node = node[_index(node, key, override)]
        else:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
        if not isinstance(node, dict | list):
            raise SpecError(f"--set {override!r}: {key!r} is a value, nothing can be set inside it")
    try:
        parsed = YAML(typ="safe", pure=True).load(value)
    except (YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"--set {override!r}: the value is not valid YAML; put it in quotes") from error
    if isinstance(node, list):
        node[_index(node, keys[-1], override)] = parsed
    else:
        node[keys[-1]] = parsed


def _index(node: list[Any], key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(node):
        raise SpecError(f"--set {override!r}: {key!r} is not an item; the list has {len(node)}, counted from 0")
    return int(key)


def _expand_shorthands(root: dict[str, Any]) -> None:
    """``pretokenizer: gpt2`` for ``{preset: gpt2}``, ``shuffle: none`` for null, one URI for a list of one."""
    for tokenizer in _items(root, "tokenizers"):
        for field in ("pretokenizer", "unit_pretokenizer"):
            if isinstance(tokenizer.get(field), str):
                tokenizer[field] = {"preset": tokenizer[field]}
    for source in _items(root, "sources"):
        if isinstance(source.get("uris"), str):
            source["uris"] = [source["uris"]]
    evaluate = root.get("evaluate")
    for owner, field in ((evaluate, "terms"), (evaluate.get("parallel") if isinstance(evaluate, dict) else None, "uris")):
        if isinstance(owner, dict) and isinstance(owner.get(field), str):
            owner[field] = [owner[field]]
    pack = root.get("pack")
    if isinstance(pack, dict) and pack.get("shuffle") == "none":
        pack["shuffle"] = None


def _without_nulls(value: Any) -> Any:
    """A key without a value (``filters:``) is as good as none; only ``shuffle`` means something by it."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None or k == "shuffle"}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _items(root: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = root.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _expand(value: str, where: str) -> str:
    def variable(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "PYTHON_STDLIB":
            return sysconfig.get_paths()["stdlib"]
        if name not in os.environ:
            raise SpecError(f"{where}: ${{{name}}} is not set in the environment; only PYTHON_STDLIB is always there")
        return os.environ[name]

    return _VARIABLE.sub(variable, value)


# --- messages ---------------------------------------------------------------------------------------------------------


def _is_meant(loc: Sequence[int | str], root: dict[str, Any]) -> bool:
    """Whether an error is about what a user meant: pydantic tries all kinds of tokenizers, and of numbers."""
    if loc and loc[-1] == "int":
        return False
    if len(loc) < 3 or loc[0] != "tokenizers":
        return True
    tokenizer = root["tokenizers"][loc[1]]
    kind = tokenizer["kind"] if isinstance(tokenizer, dict) else "bpe"
    return loc[2] == _KINDS[kind].__name__


def _is_branch(key: int | str) -> bool:
    """Whether it names a type that was tried, of several that are allowed."""
    return isinstance(key, str) and key.startswith(("float", "str", "tuple["))


def _path(loc: Sequence[int | str]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in loc).lstrip(".")


def _class_at(loc: Sequence[int | str]) -> Any:
    """The spec class whose field the last item of ``loc`` is; None if there is none."""
    current: Any = JobSpec
    for key in loc[:-1]:
        if isinstance(key, int):
            continue
        if key in _BY_NAME:  # which of the kinds was tried
            current = _BY_NAME[key]
            continue
        hints = typing.get_type_hints(current) if dataclasses.is_dataclass(current) else {}
        current = next(filter(dataclasses.is_dataclass, _leaves(hints.get(key))), None)
    return current


def _leaves(hint: Any) -> list[Any]:
    args = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union, tuple):
        return [leaf for arg in args for leaf in _leaves(arg)]
    return [hint]


class _Hidden:
    """Stands for a value that may hold credentials."""

    def __init__(self, value: object) -> None:
        self._type = type(value).__name__

    def __repr__(self) -> str:
        return f"<{self._type}>"


_EXPECTED = {
    "string_type": "a string", "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
    "bool_type": "true or false", "tuple_type": "a list", "list_type": "a list", "dataclass_type": "a mapping",
    "dataclass_exact_type": "a mapping",
}  # fmt: skip


def _explain(error: dict[str, Any], root: dict[str, Any], places: list[int]) -> str:
    loc, kind = error["loc"], error["type"]
    owner = _class_at(loc)
    if len(loc) >= 3 and loc[0] == "tokenizers":
        loc = (loc[0], places[loc[1]], *(key for key in loc[3:] if not _is_branch(key)))  # without what was tried
    path = _path(loc)
    found = _Hidden(error["input"]) if _may_be_secret(loc) else error["input"]
    if not loc and kind != "value_error":
        return f"the spec is no valid JSON: {error['msg']}"
    if kind == "unexpected_keyword_argument":
        names = [f.name for f in dataclasses.fields(owner)] if owner else []
        names += [name for name in SWEEPS if owner in _BY_NAME.values() and name != "transitions"]
        return f"{path} is not a field of the spec; {nearest(str(loc[-1]), names)}"
    if kind in ("missing", "missing_argument"):
        return f"{path} is missing"
    if kind == "value_error":
        prefix = f"{path}." if path else ""
        return prefix + str(error["ctx"]["error"])
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        hint = nearest(str(found), allowed)
        return f"{path} is {found!r}; {hint}" + ("" if hint.startswith("allowed") else f" (allowed: {', '.join(allowed)})")
    if kind in _EXPECTED:
        return f"{path} is {found!r}; {_EXPECTED[kind]} is expected"
    return f"{path} is {found!r}: {error['msg']}"

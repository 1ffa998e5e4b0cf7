"""Files, local or behind any fsspec URI: listing, reading, and publishing all or nothing.

The only home of fsspec. Trouble of the store becomes ``StorageError``, which is retried; a file that is not there
becomes ``ArtifactError``.

Credentials and endpoints come from the environment (``AWS_…``) or from ``configure``. They are kept in this process and the
environment of those it starts, and cut out of every message.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from fsspec.config import conf as fsspec_settings
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import ArtifactError, SpecError, StorageError

_TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<process>\d+)\.[0-9a-f]{32}\.tmp", re.DOTALL)

_MAGIC = set("*?[")

_HERE = {"file", "local", "memory", "zip", "tar"}
"""Protocols without a store behind them: they take no options."""

_STORE_PACKAGES = {"botocore", "aiobotocore", "s3fs", "aiohttp", "urllib3", "gcsfs", "adlfs", "azure", "google"}
"""Whose errors are the store's, though they are no OSError."""

OPTIONS_VARIABLE = "TOKENMILL_STORAGE_OPTIONS"
"""Environment variable that holds what ``configure`` was given, as JSON: processes that start here get it from there."""

_before_configured: list[str | None] = []
"""What the user had set in that variable, while a job's own options are there."""

_PATIENT = {"retries": {"mode": "standard", "total_max_attempts": 3}, "connect_timeout": 5, "read_timeout": 20}
"""For S3, where neither fsspec's settings nor ours say otherwise. A store that resets or stalls is asked again; one
that says 503, fifteen times in ten seconds, for s3fs asks too. Then it is an error, and the task is tried again.
"""

_SECRET_OPTION = re.compile(r"key|secret|token|pass|credential|endpoint|url|host|account|connection", re.IGNORECASE)

_SECRET_VARIABLE = re.compile(r"AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|ENDPOINT_URL\w*)")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file is larger than this system allows",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system is read-only",
}


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as listed. ``name``: its path below the fixed part of the pattern. ``version``: etag or mtime. ``modified``:
    when it was last written, by the store's clock, in seconds; 0 if unknown.
    """

    uri: str
    name: str
    num_bytes: int
    version: str
    modified: float = 0


def join(root: str, *parts: str) -> str:
    """A path below a root, local or URI."""
    return "/".join([root.rstrip("/"), *parts])


def configure(options: Mapping[str, Any]) -> None:
    """Options of the file systems behind URIs (``endpoint_url``, ``key``, ``anon``, … of s3fs), from here on in this process
    and in those it starts. ``${NAME}`` is an environment variable.

    Raises
    ------
    SpecError
        A variable is not set.
    """
    if options:
        if not _before_configured:
            _before_configured.append(os.environ.get(OPTIONS_VARIABLE))
        os.environ[OPTIONS_VARIABLE] = json.dumps(_expanded(options))
    elif _before_configured:  # for another job in this process: as the user had it
        os.environ.pop(OPTIONS_VARIABLE, None)
        if (before := _before_configured.pop()) is not None:
            os.environ[OPTIONS_VARIABLE] = before


def _expanded(value: Any) -> Any:
    def variable(match: re.Match[str]) -> str:
        if (name := match.group(1)) not in os.environ:
            raise SpecError(f"execution.storage_options: ${{{name}}} is not set in the environment")
        return os.environ[name]

    if isinstance(value, Mapping):
        return {key: _expanded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item) for item in value]
    return _VARIABLE.sub(variable, value) if isinstance(value, str) else value


def _given_options() -> dict[str, Any]:
    """What ``configure`` or the user has put into the environment; SpecError if that is no JSON object."""
    try:
        found = json.loads(os.environ.get(OPTIONS_VARIABLE) or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SpecError(f'{OPTIONS_VARIABLE} is set, but holds no JSON object; {{"key": "…", "secret": "…"}} is expected')
    for name in ("config_kwargs", "client_kwargs"):
        if not isinstance(found.get(name, {}), dict):
            raise SpecError(f"storage options: {name} is {type(found[name]).__name__}; a mapping is expected")
    return found


def _options(protocol: str) -> dict[str, Any]:
    """What a file system is made with."""
    found = _given_options()
    if protocol in ("s3", "s3a"):
        usual: dict[str, Any] = fsspec_settings.get(protocol, {}).get("config_kwargs", {})
        found["config_kwargs"] = {**_PATIENT, **usual, **found.get("config_kwargs", {})}
    return found


def _without_secrets(message: str) -> str:
    """A message as it may be logged: of the options and of the environment's credentials nothing is left."""
    found = set(_secrets(_given_options(), is_secret=False))
    found |= {value for name, value in os.environ.items() if _SECRET_VARIABLE.fullmatch(name)}
    found |= {
        text.split("://", 1)[1].rstrip("/") for text in found if "://" in text
    }  # an endpoint's host, however it is put
    for secret in sorted((text for text in found if len(text) > 3), key=len, reverse=True):
        message = message.replace(secret, "***")
    return message


def _secrets(value: Any, is_secret: bool) -> Iterator[str]:
    """The texts inside options whose names say that they are nobody's business."""
    if isinstance(value, str) and is_secret:
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secrets(item, is_secret or _SECRET_OPTION.search(str(name)) is not None)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, is_secret)


def _storage_error(uri: str, action: str, error: OSError) -> StorageError:
    remedy = _REMEDIES.get(error.errno or 0, str(error) or type(error).__name__)
    return StorageError(_without_secrets(f"{uri}: cannot {action}: {remedy}"))


@contextlib.contextmanager
def _mapped(uri: str, action: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if action == "write":
            raise StorageError(f"{uri}: cannot write: no such folder or bucket, and it cannot be made") from error
        raise ArtifactError(f"{uri}: not found") from error
    except OSError as error:
        raise _storage_error(uri, action, error) from None  # the cause holds what is cut out of the message
    except Exception as error:
        if type(error).__module__.split(".")[0] in _STORE_PACKAGES:
            message = f"{uri}: cannot {action}: {type(error).__name__}: {error}"
            raise StorageError(_without_secrets(message)) from None
        if isinstance(error, ValueError | TypeError | AttributeError) and _raised_in(error) in _STORE_PACKAGES:
            raise _wrong_options(uri, error) from None
        raise


def _raised_in(error: BaseException) -> str:
    """The package whose code raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0]


def _wrong_options(uri: str, error: Exception) -> SpecError:
    """What a store's package cannot be started with: options, or variables of the environment."""
    return SpecError(
        _without_secrets(f"{uri}: the store cannot be used with these options: {error}. ")
        + f"They come from execution.storage_options, {OPTIONS_VARIABLE} and the environment (AWS_…); an endpoint_url "
        "begins with http:// or https://"
    )


def _filesystem(uri: str) -> tuple[Any, str]:
    if "\0" in uri:
        raise SpecError(f"{uri!r}: a path cannot hold a NUL")
    options = {protocol: _options(protocol) for protocol in re.findall(r"([a-z0-9]+)://", uri) if protocol not in _HERE}
    try:
        fs, path = url_to_fs(uri, use_listings_cache=False, **options)
    except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
        raise SpecError(_without_secrets(f"{uri}: {error}")) from None
    except (TypeError, AttributeError) as error:
        raise _wrong_options(uri, error) from None
    return fs, path


def fixed_part(pattern: str) -> str:
    """The folder of a path or glob that holds no wildcard, with its closing slash."""
    first = min((pattern.index(c) for c in _MAGIC if c in pattern), default=len(pattern))
    return pattern[: pattern.rfind("/", 0, first) + 1]


def list_files(pattern: str) -> list[StoredFile]:
    """The files a path or glob names, sorted by URI; hidden files and folders only if the pattern names hidden ones."""
    with _mapped(pattern, "list"):
        fs, path = _filesystem(pattern)
        is_pattern = bool(_MAGIC & set(path)) and not fs.exists(path)
        try:
            found = fs.glob(path, detail=True) if is_pattern else {path: fs.info(path)}
        except FileNotFoundError:
            found = {}
    prefix = fixed_part(path) if is_pattern else path[: path.rfind("/") + 1]
    is_local = isinstance(fs, LocalFileSystem)
    wants_hidden = any(part.startswith(".") for part in path[len(prefix) :].split("/"))
    chain = pattern[pattern.index("::") :] if "::" in pattern else ""  # zip://*.txt::archive.zip
    files = []
    for full, info in found.items():
        name = full[len(prefix) :]
        is_file = os.path.isfile(full) if is_local else info["type"] == "file"  # through symbolic links too
        if not is_file or (not wants_hidden and any(part.startswith(".") for part in name.split("/"))):
            continue
        uri = full if is_local else fs.unstrip_protocol(full) + chain
        files.append(dataclasses.replace(_stat_local(full) if is_local else _stored(uri, info), uri=uri, name=name))
    return sorted(files, key=lambda file: file.uri)


def _stored(uri: str, info: dict[str, Any]) -> StoredFile:
    modified = _seconds(info.get("LastModified") or info.get("mtime") or info.get("created") or 0)
    version = info.get("ETag") or info.get("etag") or modified or ""
    return StoredFile(uri, uri.rsplit("/", 1)[-1], int(info["size"]), str(version), modified)


def _seconds(time: Any) -> float:
    """Some stores give a time as a date, some as text, and some the one when they list and the other when asked."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return float(time.timestamp() if isinstance(time, datetime) else time)


def stat(uri: str) -> StoredFile:
    """A file as it is now, through symbolic links."""
    with _mapped(uri, "look up"):
        fs, path = _filesystem(uri)
        if isinstance(fs, LocalFileSystem):
            return _stored_local(uri, os.stat(path))
        return _stored(uri, fs.info(path))


def _stat_local(path: str) -> StoredFile:
    with _mapped(path, "look up"):
        return _stored_local(path, os.stat(path))


def _stored_local(uri: str, found: os.stat_result) -> StoredFile:
    return StoredFile(uri, uri.rsplit("/", 1)[-1], found.st_size, str(found.st_mtime_ns), found.st_mtime_ns / 1e9)


@contextlib.contextmanager
def open_input(uri: str) -> Iterator[IO[bytes]]:
    """A file to read and seek in."""
    with _mapped(uri, "read"):
        fs, path = _filesystem(uri)
        with open(path, "rb") if isinstance(fs, LocalFileSystem) else fs.open(path, "rb") as file:
            yield file


def read_bytes(uri: str) -> bytes:
    """A whole, small file."""
    with open_input(uri) as file:
        return file.read()


def read_all(uris: Sequence[str]) -> list[bytes]:
    """Whole, small files, many at a time where the store allows it."""
    return read_ranges([(uri, None, None) for uri in uris])


def read_ranges(ranges: Sequence[tuple[str, int | None, int | None]]) -> list[bytes]:
    """Bytes ``[start, stop)`` of files of one store, many at a time where the store allows it; fewer where a file ends."""
    if not ranges:
        return []
    with _mapped(ranges[0][0], "read"):
        fs, _ = _filesystem(ranges[0][0])
        paths, starts, stops = zip(*((fs._strip_protocol(uri), start, stop) for uri, start, stop in ranges), strict=True)
        if isinstance(fs, LocalFileSystem):
            return [_read_local(path, start, stop) for path, start, stop in zip(paths, starts, stops, strict=True)]
        # From 0, not from nowhere: for a whole file s3fs would ask for its size first, a request more.
        found = list(fs.cat_ranges(list(paths), [start or 0 for start in starts], list(stops), on_error="return"))
    for index, ((uri, _, _), content) in enumerate(zip(ranges, found, strict=True)):
        with _mapped(uri, "read"):
            if isinstance(content, BaseException):
                if _code(content) not in ("InvalidRange", "416"):
                    raise content
                found[index] = b""  # the file ends before
    return found


def _read_local(path: str, start: int | None, stop: int | None) -> bytes:
    with _mapped(path, "read"), open(path, "rb") as file:
        file.seek(start or 0)
        return file.read() if stop is None else file.read(stop - (start or 0))


def list_stored(folder: str) -> dict[str, StoredFile]:
    """The files below a folder by their path relative to it; none if there is no such folder; no hidden files."""
    with _mapped(folder, "list"):
        fs, path = _filesystem(folder)
        if isinstance(fs, LocalFileSystem):
            return {name: _stored_local(join(folder, name), found) for name, found in _iter_local(path, "", frozenset())}
        try:
            found = fs.find(path, detail=True)
        except FileNotFoundError:
            found = {}
    files = {}
    for full, info in found.items():
        name = str(full)[len(path.rstrip("/")) + 1 :]
        if name and not name.rsplit("/", 1)[-1].startswith("."):
            files[name] = _stored(join(folder, name), info)
    return files


def _iter_local(folder: str, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Files below a local folder: path relative to it, and what the system knows of them. Links are followed, but not in
    circles: ``above`` are the real paths of the folders that this one is in.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir():
            yield from _iter_local(entry.path, f"{prefix}{entry.name}/", above | {real})
        elif not entry.name.startswith("."):
            with contextlib.suppress(FileNotFoundError):  # a driver elsewhere has just deleted it
                yield prefix + entry.name, entry.stat()


def list_names(folder: str) -> list[str]:
    """The files below a folder, as paths relative to it, sorted; none if there is no such folder; no hidden files."""
    return sorted(list_stored(folder))


def remove(uri: str) -> None:
    """Delete a file."""
    with _mapped(uri, "delete"):
        fs, path = _filesystem(uri)
        fs.rm_file(path)


def exists(uri: str) -> bool:
    """Whether there is a file or folder."""
    with _mapped(uri, "look up"):
        fs, path = _filesystem(uri)
        return bool(fs.exists(path))


def absolute(uri: str) -> str:
    """The URI as any process on this machine understands it, whatever its working directory; one spelling for each."""
    plain = uri.removeprefix("file://")
    return plain if "://" in plain else os.path.abspath(os.path.expanduser(plain))


class Sink:
    """Where a file is written before it is published; knows its size and hash."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.num_bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Add bytes, or any buffer."""
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._hash.update(view)
        self.num_bytes += len(view)
        return len(view)

    def flush(self) -> None:
        """Nothing to do: the file is flushed when it is published."""

    def tell(self) -> int:
        """How many bytes were written."""
        return self.num_bytes

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()


@contextlib.contextmanager
def publish(uri: str, *, durable: bool = True) -> Iterator[Sink]:
    """Write a file that becomes visible all at once when the block ends, or, if it raises, not at all.

    ``durable``: it outlives a loss of power. Without, the disk may take its time, and whoever reads it must check it.
    """
    with _mapped(uri, "write"):
        fs, path = _filesystem(uri)
        if isinstance(fs, LocalFileSystem):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = _temporary(path)
            try:
                with open(temporary, "xb") as file:
                    yield Sink(file)
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
                os.replace(temporary, path)
                if durable:
                    _sync_folder(path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            return
        target = fs.open(path, "wb", autocommit=False)
        try:
            yield Sink(target)
            target.close()
            target.commit()
        except BaseException:
            with contextlib.suppress(Exception):  # the first error tells more
                target.discard()
            with contextlib.suppress(AttributeError):  # else the collector closes it, which begins an upload anew
                target.closed = True
            raise


def publish_bytes(uri: str, content: bytes, *, durable: bool = True) -> dict[str, Any]:
    """Publish a small file; returns its entry for a receipt or manifest without the path."""
    fs, path = _filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        with publish(uri, durable=durable) as sink:
            sink.write(content)
    else:
        with _mapped(uri, "write"):  # one request, where a file that is written piece by piece takes three
            fs.pipe_file(path, content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def honours_conditions(root: str) -> bool:
    """Whether the store can create a file only if it is absent (S3: ``If-None-Match``; local: hard links): tried out."""
    probe = join(root, f".probe.{uuid.uuid4().hex}")
    publish_bytes(probe, b"")
    try:
        return not create_if_absent(probe, b"")
    except ConditionUnknown:
        return False
    finally:
        remove(probe)


class ConditionUnknown(StorageError):
    """The store does not know how to create a file only if it is absent."""


def create_first(uri: str, content: bytes, *, conditional: bool) -> list[bytes]:
    """Create a small file unless there is one; whole or not at all. Returns what others had put there: nothing if this is
    the first.

    Without ``conditional`` the store cannot tell who is first. Then each writer lays down a claim of its own, *after* that
    looks for the claims of others, and writes the file only if it is not there. Of two that write at once, one at least
    finds the other's claim, so that nobody's differing content goes unseen; whose content the file has is left open.
    """
    if conditional:
        if create_if_absent(uri, content):
            return []
        found = read_bytes(uri)
        return [] if found == content else [found]  # it may be ours: the store did it, and its answer was lost
    if exists(uri):
        return [read_bytes(uri)]
    folder, name = uri.rsplit("/", 1)
    claim = join(folder, f".{name}.{uuid.uuid4().hex}.claim")
    publish_bytes(claim, content)
    with _mapped(uri, "list"):
        fs, path = _filesystem(folder)
        claims = sorted(str(found) for found in fs.ls(path, detail=False))
    others = [join(folder, found.rsplit("/", 1)[-1]) for found in claims if found.rsplit("/", 1)[-1].startswith(f".{name}.")]
    others = [other for other in others if other.endswith(".claim") and other != claim]
    if not exists(uri):
        publish_bytes(uri, content)
    return read_all(others)


def create_if_absent(uri: str, content: bytes) -> bool:
    """Create a small file, whole or not at all; False if there is one, and the store says so.

    Raises
    ------
    ConditionUnknown
        The store cannot do that at all.
    """
    with _mapped(uri, "write"):
        fs, path = _filesystem(uri)
        if isinstance(fs, LocalFileSystem):
            return _link(uri, path, content)
        for pause in (0.1, 0.4, 1.6, None):
            try:
                fs.pipe_file(path, content, mode="create")
            except OSError as error:
                code = _code(error)
                if isinstance(error, FileExistsError) or code in _THERE_ALREADY:  # s3fs does not know all stores
                    return False
                if code in _CONDITION_UNKNOWN:
                    raise ConditionUnknown(f"{uri}: {code}") from None
                if code != _JUST_NOW or pause is None:
                    raise
                time.sleep(pause)
            else:
                return True
    raise AssertionError("unreachable")


def _code(error: BaseException) -> str:
    """What S3 calls an error; empty if it is none of its."""
    answer = getattr(error.__cause__, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


_THERE_ALREADY = ("PreconditionFailed", "412")
_CONDITION_UNKNOWN = ("NotImplemented", "InvalidArgument", "501")
_JUST_NOW = "ConditionalRequestConflict"
"""Somebody else creates the file at this moment: who asks again hears how that ended."""


def _link(uri: str, path: str, content: bytes) -> bool:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise ConditionUnknown(f"{uri}: this file system has no hard links") from None
            raise
        _sync_folder(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return True


def remove_temporaries(root: str) -> None:
    """Delete what killed attempts left unpublished below a local folder; elsewhere nothing is visible before it is whole."""
    fs, path = _filesystem(root)
    if isinstance(fs, LocalFileSystem):
        with _mapped(root, "clean up"):
            for temporary in Path(path).rglob(".*.tmp"):
                if _is_abandoned(temporary):
                    temporary.unlink(missing_ok=True)


def sha256_of(uri: str) -> tuple[int, str]:
    """Size and hash of a file, read in blocks."""
    digest = hashlib.sha256()
    num_bytes = 0
    with open_input(uri) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            num_bytes += len(block)
    return num_bytes, digest.hexdigest()


def _temporary(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{_host()}.{os.getpid()}.{uuid.uuid4().hex}.tmp")


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def _is_abandoned(temporary: Path) -> bool:
    """Whether a file is ours and the process that was writing it has ended: known if it ran here; elsewhere, after a day."""
    match = _TEMPORARY.fullmatch(temporary.name)
    if match is None:
        return False
    if match["host"] != _host():
        with contextlib.suppress(FileNotFoundError):  # published meanwhile
            return time.time() - temporary.stat().st_mtime > 86_400
        return False
    try:
        os.kill(int(match["process"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(match["process"]) == os.getpid()


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

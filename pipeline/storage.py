"""Files, local or behind any fsspec URI: listing, reading, and publishing all or nothing.

The only home of fsspec. Trouble of the store becomes ``StorageError``, which is retried; a file that is not there
becomes ``ArtifactError``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import ArtifactError, SpecError, StorageError

_MAGIC = set("*?[")

_STORE_PACKAGES = {"botocore", "aiobotocore", "s3fs", "aiohttp", "gcsfs", "adlfs", "azure", "google"}
"""Whose errors are the store's, though they are no OSError."""

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
    """A file as listed. ``name``: its path below the fixed part of the pattern. ``version``: etag or mtime."""

    uri: str
    name: str
    num_bytes: int
    version: str


def join(root: str, *parts: str) -> str:
    """A path below a root, local or URI."""
    return "/".join([root.rstrip("/"), *parts])


def _storage_error(uri: str, action: str, error: OSError) -> StorageError:
    remedy = _REMEDIES.get(error.errno or 0, str(error))
    return StorageError(f"{uri}: cannot {action}: {remedy}")


@contextlib.contextmanager
def _mapped(uri: str, action: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if action == "write":
            raise StorageError(f"{uri}: cannot write: no such folder, and it cannot be made") from error
        raise ArtifactError(f"{uri}: not found") from error
    except OSError as error:
        raise _storage_error(uri, action, error) from error
    except Exception as error:
        if type(error).__module__.split(".")[0] in _STORE_PACKAGES:
            raise StorageError(f"{uri}: cannot {action}: {type(error).__name__}: {error}") from error
        raise


def _filesystem(uri: str) -> tuple[Any, str]:
    if "\0" in uri:
        raise SpecError(f"{uri!r}: a path cannot hold a NUL")
    try:
        fs, path = url_to_fs(uri, use_listings_cache=False)
    except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
        raise SpecError(f"{uri}: {error}") from error
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
        files.append(dataclasses.replace(stat(full) if is_local else _stored(uri, info), uri=uri, name=name))
    return sorted(files, key=lambda file: file.uri)


def _stored(uri: str, info: dict[str, Any]) -> StoredFile:
    version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or ""
    if isinstance(version, datetime):  # some stores give the same time as a number when they list
        version = version.timestamp()
    return StoredFile(uri, uri.rsplit("/", 1)[-1], int(info["size"]), str(version))


def stat(uri: str) -> StoredFile:
    """A file as it is now, through symbolic links."""
    with _mapped(uri, "look up"):
        fs, path = _filesystem(uri)
        if isinstance(fs, LocalFileSystem):
            found = os.stat(path)
            return StoredFile(uri, os.path.basename(path), found.st_size, str(found.st_mtime_ns))
        return _stored(uri, fs.info(path))


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


def list_names(folder: str) -> list[str]:
    """The files below a folder, as paths relative to it, sorted; none if there is no such folder; no temporary files."""
    with _mapped(folder, "list"):
        fs, path = _filesystem(folder)
        found = fs.find(path) if fs.exists(path) else []
    names = (str(full)[len(path.rstrip("/")) + 1 :] for full in found)
    return sorted(name for name in names if not name.rsplit("/", 1)[-1].startswith("."))


def size_of(uri: str) -> int | None:
    """Bytes of a file; None if there is none."""
    with _mapped(uri, "look up"):
        fs, path = _filesystem(uri)
        return int(fs.size(path)) if fs.exists(path) else None


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
def publish(uri: str) -> Iterator[Sink]:
    """Write a file that becomes visible all at once when the block ends, or, if it raises, not at all."""
    with _mapped(uri, "write"):
        fs, path = _filesystem(uri)
        if isinstance(fs, LocalFileSystem):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = _temporary(path)
            try:
                with open(temporary, "xb") as file:
                    yield Sink(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
                _sync_folder(path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            return
        target = fs.open(path, "wb", autocommit=False)
        try:
            yield Sink(target)
            target.close()
        except BaseException:
            target.discard()
            raise
        target.commit()


def publish_bytes(uri: str, content: bytes) -> dict[str, Any]:
    """Publish a small file; returns its entry for a receipt or manifest without the path."""
    with publish(uri) as sink:
        sink.write(content)
    return {"bytes": sink.num_bytes, "sha256": sink.sha256}


def create_if_absent(uri: str, content: bytes) -> bool:
    """Create a small file unless there is one; whole or not at all. False if there was one."""
    with _mapped(uri, "write"):
        fs, path = _filesystem(uri)
        if not isinstance(fs, LocalFileSystem):
            try:
                fs.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            return True
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = _temporary(path)
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
            _sync_folder(path)
        except FileExistsError:
            return False
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
    return os.path.join(folder, f".{name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex}.tmp")


def _is_abandoned(temporary: Path) -> bool:
    """Whether the process that was writing has ended: known if it ran here; elsewhere, after a day."""
    *_, host, process, _, _ = temporary.name.split(".")
    if host != socket.gethostname().split(".")[-1]:
        return time.time() - temporary.stat().st_mtime > 86_400
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(process) == os.getpid()


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

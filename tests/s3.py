"""An S3 server for tests, and a proxy before it that does what networks and stores do: refuse, hang up, stall, kill.

``python -m tests.s3`` is the server: it prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import botocore.session
import psutil
from botocore.config import Config

_ROOT = Path(__file__).parents[1]
_HOST = "127.0.0.1"

# --- the server -------------------------------------------------------------------------------------------------------


def _serve() -> None:
    """Moto as a server, one request at a time: its check of ``If-None-Match`` and its write are two steps."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):  # type: ignore[misc]
        def log_request(self, *_: Any) -> None:
            pass

    moto = DomainDispatcherApplication(create_backend_app)
    lock = threading.Lock()

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        with lock:
            answer = moto(environ, start_response)
            content = list(answer)
            getattr(answer, "close", lambda: None)()
        return content

    server = make_server(_HOST, 0, application, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)  # noqa: T201
    sys.stdin.read()
    os._exit(0)


def environment(port: int) -> dict[str, str]:
    """What makes any client of this machine use the server, or proxy, at a port."""
    return {
        "AWS_ENDPOINT_URL": f"http://{_HOST}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Server:
    """A real S3 server in a process of its own, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.s3"], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())  # comes when the server listens
        # Not the client under test, and never through a proxy.
        self.client: Any = botocore.session.Session().create_client(
            "s3",
            endpoint_url=f"http://{_HOST}:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(read_timeout=60),
        )

    @property
    def env(self) -> dict[str, str]:
        """For clients that use the server directly."""
        return environment(self.port)

    def make_bucket(self) -> Bucket:
        """A new, empty bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return Bucket(name, self.client)

    def stop(self) -> None:
        """End the server's process."""
        self.client.close()
        self._process.communicate(timeout=30)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as it is on the server, whatever the client under test makes of it."""

    name: str
    client: Any = field(repr=False)

    @property
    def uri(self) -> str:
        """Its URI, without a slash."""
        return f"s3://{self.name}"

    def keys(self, prefix: str = "") -> list[str]:
        """The keys of all objects, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def uploads(self) -> list[str]:
        """The keys of multipart uploads that were begun and neither completed nor aborted: they cost money, unseen."""
        return [entry["Key"] for entry in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])]

    def read(self, key: str) -> bytes:
        """The content of an object."""
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def put(self, key: str, content: bytes) -> None:
        """Make or replace an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def clear(self) -> None:
        """Delete all objects."""
        keys = self.keys()
        for first in range(0, len(keys), 1000):
            objects = [{"Key": key} for key in keys[first : first + 1000]]
            self.client.delete_objects(Bucket=self.name, Delete={"Objects": objects})


# --- the proxy --------------------------------------------------------------------------------------------------------


class Fault(enum.Enum):
    """What the proxy can do to a request. ``_AFTER``: the server has done it, but the client never hears of it."""

    SLOW_DOWN = "503"
    RESET = "reset before the server sees it"
    RESET_AFTER = "reset after the server has done it"
    CUT = "reset in the middle of the answer"
    STALL = "no answer for some time, then the end of the connection"
    STRIP = "the server does not see If-None-Match"
    KILL = "the client is killed before the server sees it"
    KILL_AFTER = "the client is killed after the server has done it"


def _socket_name(local: tuple[str, int], remote: tuple[str, int]) -> str | None:
    """What ``/proc/PID/fd`` calls a socket of this machine: found in milliseconds among many thousands of closed ones."""

    def spelled(address: tuple[str, int]) -> str:
        return f"{int.from_bytes(socket.inet_aton(address[0]), 'little'):08X}:{address[1]:04X}"

    table = Path("/proc/net/tcp").read_text()
    found = re.search(rf"{spelled(local)} {spelled(remote)} \w\w(?: \S+){{2}} +\S+ +\S+ +\S+ (\d+)", table)
    return f"socket:[{found[1]}]" if found else None


@dataclass(frozen=True)
class Request:
    """A request as the client sent it. ``path`` is decoded and without its query; ``headers`` have lower-case names."""

    number: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    client: tuple[str, int] = field(repr=False)
    proxy: tuple[str, int] = field(repr=False)

    @cached_property
    def pid(self) -> int | None:
        """The process that holds the connection; None if it has ended."""
        socket_name = _socket_name(self.client, self.proxy)
        for link in Path("/proc").glob("[0-9]*/fd/*") if socket_name else ():
            with contextlib.suppress(OSError):  # the file, or the process, has gone meanwhile
                if os.readlink(link) == socket_name:
                    return int(link.parts[2])
        return None

    @property
    def is_foreign(self) -> bool:
        """Whether it came from another process than this one, which is still there."""
        return self.pid not in (None, os.getpid())

    @property
    def operation(self) -> str:
        """What it asks for, as far as tests tell requests apart."""
        if "uploads" in self.query.split("&"):
            return "begin upload" if self.method == "POST" else "list uploads"
        if "uploadId=" in self.query:
            return {"PUT": "upload part", "POST": "complete upload", "DELETE": "abort upload"}.get(self.method, self.method)
        return {"PUT": "put", "GET": "list" if "list-type=" in self.query else "get"}.get(self.method, self.method.lower())


@dataclass(frozen=True, slots=True)
class Seen:
    """A request, what was done to it, and the status of the answer the client was sent; None if there was none."""

    request: Request
    fault: Fault | None
    status: int | None
    num_bytes: int


Rule = Callable[[Request], Fault | None]


def no_faults(_: Request) -> Fault | None:
    """The rule of a good day."""
    return None


def some_faults(share: float, faults: tuple[Fault, ...], seed: int = 0) -> Rule:
    """A rule: the n-th request has a fault or not, and which, whatever it asks for."""

    def decide(request: Request) -> Fault | None:
        chance = random.Random(f"{seed} {request.number}")
        return chance.choice(faults) if chance.random() < share else None

    return decide


class Proxy:
    """Forwards to a server on this machine, and records what it saw. ``decide`` may be replaced at any time."""

    def __init__(self, server_port: int, decide: Rule = no_faults, stall_seconds: float = 5.0) -> None:
        self.decide = decide
        self.seen: list[Seen] = []
        self._stall_seconds = stall_seconds
        self._server_port = server_port
        self._count = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._clients: set[socket.socket] = set()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy._serve(self.request, self.client_address)

        class Listener(socketserver.ThreadingTCPServer):
            request_queue_size = 128

        self._listener = Listener((_HOST, 0), Handler)
        self.port = int(self._listener.server_address[1])
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def env(self) -> dict[str, str]:
        """For clients that are to go through the proxy."""
        return environment(self.port)

    def faults(self) -> Counter[Fault]:
        """How often each fault really happened."""
        return Counter(seen.fault for seen in list(self.seen) if seen.fault is not None)

    def operations(self) -> Counter[str]:
        """How often each operation was asked for."""
        return Counter(seen.request.operation for seen in list(self.seen))

    def stop(self) -> None:
        """Close every connection; returns when no thread is left."""
        self._stopped.set()
        self._listener.shutdown()
        with self._lock:
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.server_close()  # waits for the connections' threads

    def _serve(self, client: socket.socket, address: tuple[str, int]) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._clients.add(client)
        try:
            with client.makefile("rb") as reader:
                while self._serve_one(client, reader, address):
                    pass
        except (ConnectionError, TimeoutError):
            pass  # the client has gone; it may have been killed
        finally:
            with self._lock:
                self._clients.discard(client)

    def _serve_one(self, client: socket.socket, reader: Any, address: tuple[str, int]) -> bool:
        """Whether the connection may be used for another request."""
        line = reader.readline()
        if not line.endswith(b"\r\n"):
            return False
        method, target, _ = line.decode("latin-1").split()
        message = http.client.parse_headers(reader)
        headers = {name.lower(): value for name, value in message.items()}
        if headers.pop("expect", "").lower() == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _read_body(reader, headers)
        if body is None:
            return False
        parts = urlsplit(target)
        with self._lock:
            number, self._count = self._count, self._count + 1
        request = Request(number, method, unquote(parts.path), parts.query, headers, address, (_HOST, self.port))
        fault = self.decide(request)
        if fault in (Fault.KILL, Fault.KILL_AFTER) and not request.is_foreign:
            if request.pid is None:
                return False  # a client that has gone, or has asked again: the network lost this one
            fault = None
        answer = None
        if fault in (None, Fault.STRIP, Fault.CUT, Fault.RESET_AFTER, Fault.KILL_AFTER):
            answer = self._forward(method, target, headers, body, strip=fault is Fault.STRIP)
        elif fault is Fault.SLOW_DOWN:
            answer = _slow_down(method)
        is_sent = fault in (None, Fault.STRIP, Fault.SLOW_DOWN)
        status = answer.status if answer is not None and is_sent else None
        with self._lock:
            self.seen.append(Seen(request, fault, status, len(body)))
        if answer is not None and is_sent:
            client.sendall(answer.content)
            return headers.get("connection", "").lower() != "close"
        if answer is not None and fault is Fault.CUT:
            client.sendall(answer.content[: max(1, len(answer.content) - answer.body_bytes // 2 - 1)])
        if fault is Fault.STALL:
            self._stopped.wait(self._stall_seconds)
            return False
        if fault in (Fault.KILL, Fault.KILL_AFTER):
            assert request.pid is not None
            _kill(request.pid)
        reader.close()
        _reset(client)
        return False

    def _forward(self, method: str, target: str, headers: dict[str, str], body: bytes, *, strip: bool) -> _Answer:
        connection = http.client.HTTPConnection(_HOST, self._server_port, timeout=60)
        dropped = {"connection", "content-length", "transfer-encoding"} | ({"if-none-match"} if strip else set())
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name not in dropped:
                    connection.putheader(name, value)
            if body or method in ("PUT", "POST"):
                connection.putheader("Content-Length", str(len(body)))
            connection.putheader("Connection", "close")
            connection.endheaders(body)
            response = connection.getresponse()
            fields = [(name, value) for name, value in response.getheaders() if name.lower() not in dropped]
            content = response.read()
            length = response.getheader("Content-Length") if method == "HEAD" else str(len(content))
            return _Answer.make(response.status, response.reason, fields, length, content)
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content: bytes
    body_bytes: int

    @classmethod
    def make(cls, status: int, reason: str, fields: list[tuple[str, str]], length: str | None, body: bytes) -> _Answer:
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
        if length is not None and status not in (204, 304):
            lines.append(f"Content-Length: {length}")
        return cls(status, "\r\n".join([*lines, "", ""]).encode("latin-1") + body, len(body))


def _slow_down(method: str) -> _Answer:
    body = (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code>'
        b"<Message>Please reduce your request rate.</Message><RequestId>0</RequestId></Error>"
    )
    fields = [("Content-Type", "application/xml")]
    return _Answer.make(503, "Slow Down", fields, str(len(body)), b"" if method == "HEAD" else body)


def _read_body(reader: Any, headers: dict[str, str]) -> bytes | None:
    """The body of a request, taken out of its chunks; None if the client went away meanwhile."""
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        size = int(headers.get("content-length", 0))
        body: bytes = reader.read(size)
        return body if len(body) == size else None
    chunks = []
    while line := reader.readline():
        if (size := int(line.split(b";")[0], 16)) == 0:
            while reader.readline().strip():
                pass  # trailers
            return b"".join(chunks)
        chunks.append(reader.read(size))
        reader.readline()
    return None


def _reset(client: socket.socket) -> None:
    """Close so that the other side sees "connection reset", not an orderly end."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _kill(pid: int) -> None:
    """SIGKILL a process; returns when it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.002)


@contextlib.contextmanager
def proxy_before(server: Server, decide: Rule = no_faults, stall_seconds: float = 5.0) -> Iterator[Proxy]:
    """A proxy for as long as the block lasts."""
    proxy = Proxy(server.port, decide, stall_seconds)
    try:
        yield proxy
    finally:
        proxy.stop()


# --- clients ----------------------------------------------------------------------------------------------------------


_PART_BYTES = 5 << 20
"""The smallest part that S3 takes: a few MiB are enough to be a multipart upload."""


def patient() -> dict[str, str]:
    """Settings of s3fs as they are, but for the size of parts."""
    return {"FSSPEC_S3": json.dumps({"default_block_size": _PART_BYTES})}


def impatient(read_timeout: float = 1.0, attempts: int = 6) -> dict[str, str]:
    """To wait no longer than tests can; ``attempts`` in all, times five by s3fs after some errors."""
    config = {
        "read_timeout": read_timeout,
        "connect_timeout": 2,
        "retries": {"mode": "standard", "total_max_attempts": attempts},
    }
    return {"FSSPEC_S3": json.dumps({"default_block_size": _PART_BYTES, "config_kwargs": config})}


def use(env: dict[str, str], monkeypatch: Any) -> None:
    """Make this process, and those it starts from now on, clients of ``env``."""
    import fsspec.config
    import s3fs

    for name in [name for name in os.environ if re.match("AWS_|FSSPEC_S3", name)]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "s3", json.loads(env.get("FSSPEC_S3", "{}")))  # read from there only at import
    s3fs.S3FileSystem.clear_instance_cache()  # instances keep the endpoint they were made with


if __name__ == "__main__":
    _serve()

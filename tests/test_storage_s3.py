"""Storage on S3: a real server, and a proxy before it that makes things go wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.errors import ArtifactError, StorageError
from tests.s3 import Bucket, Fault, Proxy, Request, Rule, Server, impatient, some_faults, use

MIB = 1 << 20


def fill(bucket: Bucket, *names: str) -> None:
    """Objects that hold their own names."""
    for name in names:
        bucket.put(name, name.encode())


def once(operation: str, fault: Fault) -> Rule:
    """A rule: a fault for the first request of an operation, and never again."""
    lock, done = threading.Lock(), list[int]()

    def decide(request: Request) -> Fault | None:
        with lock:
            if request.operation == operation and not done:
                done.append(request.number)
                return fault
        return None

    return decide


# --- listing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "d/c.txt", "d/e/f.txt"]),
        ("d/**/*.txt", ["c.txt", "e/f.txt"]),
        ("d/*", ["c.txt"]),
        ("[b-z].txt", ["b.txt"]),
        ("*/*.txt", ["d/c.txt"]),
        ("a.txt", ["a.txt"]),
        (".*.txt", [".hidden.txt"]),
        ("d", []),
        ("nothing.txt", []),
        ("a.tx", []),
        ("nowhere/*.txt", []),
    ],
)
def test_list_files(bucket: Bucket, pattern: str, expected: list[str]) -> None:
    fill(bucket, "r/b.txt", "r/a.txt", "r/x.log", "r/d/c.txt", "r/d/e/f.txt", "r/dir.txt/inner", "r/.hidden.txt")
    fill(bucket, "r/d/.cache/x.txt", "rr/a.txt")
    found = storage.list_files(f"{bucket.uri}/r/{pattern}")
    assert [file.name for file in found] == expected
    for file in found:
        key = file.uri.removeprefix(f"{bucket.uri}/")
        assert key.endswith(file.name)
        assert bucket.read(key) == key.encode() == storage.read_bytes(file.uri)
        assert file.num_bytes == len(key)


def size_of(uri: str) -> int | None:
    return storage.stat(uri).num_bytes if storage.exists(uri) else None


def test_list_names_exists_size_and_remove(bucket: Bucket) -> None:
    fill(bucket, "f/b", "f/a", "f/.a.123.tmp", "f/c/d", "ff")
    assert storage.list_names(f"{bucket.uri}/f") == ["a", "b", "c/d"]
    assert storage.list_names(f"{bucket.uri}/f/") == ["a", "b", "c/d"]
    assert storage.list_names(f"{bucket.uri}/nowhere") == []
    assert all(storage.exists(f"{bucket.uri}/{name}") for name in ("f/a", "f", "f/c"))
    assert not any(storage.exists(f"{bucket.uri}/{name}") for name in ("f/none", "fff"))
    assert [size_of(f"{bucket.uri}/{name}") for name in ("f/a", "ff", "f/none")] == [3, 2, None]
    storage.remove(f"{bucket.uri}/f/a")
    assert storage.exists(f"{bucket.uri}/f/a") is False
    assert bucket.keys() == ["f/.a.123.tmp", "f/b", "f/c/d", "ff"]


def test_nothing_remembers_a_listing(bucket: Bucket) -> None:
    folder = f"{bucket.uri}/f"
    assert (storage.list_names(folder), storage.exists(f"{folder}/a"), size_of(f"{folder}/a")) == ([], False, None)
    bucket.put("f/a", b"1")  # by someone else
    assert (storage.list_names(folder), storage.exists(f"{folder}/a"), size_of(f"{folder}/a")) == (["a"], True, 1)
    bucket.put("f/a", b"22")
    assert (size_of(f"{folder}/a"), storage.read_bytes(f"{folder}/a")) == (2, b"22")
    bucket.clear()
    assert (storage.list_names(folder), storage.exists(f"{folder}/a"), size_of(f"{folder}/a")) == ([], False, None)


def test_more_objects_than_a_page_holds(proxy: Proxy, bucket: Bucket) -> None:
    names = [f"{i:04d}.txt" for i in range(1100)]
    for name in names:
        bucket.put(f"many/{name}", b"")
    proxy.seen.clear()
    assert [file.name for file in storage.list_files(f"{bucket.uri}/many/*.txt")] == names
    assert storage.list_names(f"{bucket.uri}/many") == names
    assert any("continuation-token" in seen.request.query for seen in proxy.seen)


@pytest.mark.parametrize(
    "name",
    [
        *("with blank.txt", "ünïcode.txt", "e\u0301.txt", "a#b.txt", "a%20b.txt", "a+b.txt", "a{b}.txt", "a:b.txt"),
        *("a&b=c.txt", "a[b].txt", "a*b.txt", "a?b.txt", "quote'\".txt", "back\\slash.txt", "trailing .txt", "~.txt"),
    ],
)
def test_unusual_names(bucket: Bucket, name: str) -> None:
    uri = f"{bucket.uri}/f/{name}"
    storage.publish_bytes(uri, name.encode())
    assert bucket.keys() == [f"f/{name}"]
    assert storage.create_if_absent(uri, b"other") is False
    for pattern in (f"{bucket.uri}/f/*.txt", f"{bucket.uri}/**/*.txt", uri):
        (file,) = storage.list_files(pattern)
        assert file == dataclasses.replace(storage.stat(uri), name=file.name)
        assert (file.uri, file.num_bytes) == (uri, len(name.encode()))
        assert f"f/{name}".endswith(file.name)
        assert storage.read_bytes(file.uri) == name.encode()
    assert storage.list_names(f"{bucket.uri}/f") == [name]


def test_version_is_of_the_content_however_it_is_looked_up(bucket: Bucket) -> None:
    def versions() -> set[str]:
        listed = [file for glob in ("*.txt", "**", "a.txt") for file in storage.list_files(f"{bucket.uri}/{glob}")]
        assert len(listed) == 3
        return {file.version for file in listed} | {storage.stat(f"{bucket.uri}/a.txt").version}

    bucket.put("a.txt", b"one")
    (first,) = versions()
    bucket.put("a.txt", b"two")
    (second,) = versions()
    assert first
    assert first != second
    bucket.put("a.txt", b"one")
    assert versions() == {first}


# --- publishing -------------------------------------------------------------------------------------------------------

SIZES = [0, 1000, 12 * MIB]  # nothing, less than the smallest part, three parts


@pytest.mark.parametrize("num_bytes", SIZES)
def test_publish_is_seen_only_at_the_end(bucket: Bucket, num_bytes: int) -> None:
    uri = f"{bucket.uri}/new/file"
    content = os.urandom(1000) * (num_bytes // 1000 + 1)
    with storage.publish(uri) as sink:
        for start in range(0, num_bytes, MIB):
            sink.write(memoryview(content)[start : min(start + MIB, num_bytes)])
        assert bucket.keys() == []
        assert storage.exists(uri) is False
    assert bucket.keys() == ["new/file"]
    assert bucket.uploads() == []
    expected = hashlib.sha256(content[:num_bytes]).hexdigest()
    assert (sink.num_bytes, sink.sha256) == (num_bytes, expected) == storage.sha256_of(uri)


@pytest.mark.parametrize("num_bytes", SIZES)
@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_publish_is_all_or_nothing(bucket: Bucket, num_bytes: int, error: BaseException) -> None:
    bucket.put("old", b"old")

    def write(name: str) -> None:
        with storage.publish(f"{bucket.uri}/{name}") as sink:
            for _ in range(0, num_bytes, MIB):
                sink.write(bytes(MIB))
            raise error

    for name in ("old", "new"):
        with pytest.raises(type(error)):
            write(name)
    assert bucket.keys() == ["old"]
    assert bucket.read("old") == b"old"
    assert bucket.uploads() == []


@pytest.mark.parametrize("num_bytes", SIZES)
def test_what_was_given_up_is_not_taken_up_by_the_collector(proxy: Proxy, bucket: Bucket, num_bytes: int) -> None:
    """A file of s3fs that is collected unclosed begins an upload that nobody ends."""
    with contextlib.suppress(ValueError), storage.publish(f"{bucket.uri}/file") as sink:
        sink.write(b"x")
        for _ in range(0, num_bytes, MIB):
            sink.write(bytes(MIB))
        raise ValueError
    before = len(proxy.seen)
    del sink
    gc.collect()
    assert len(proxy.seen) == before
    assert (bucket.keys(), bucket.uploads()) == ([], [])


def test_publish_with_parts_of_the_usual_size(s3_server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    use(s3_server.env, monkeypatch)
    with storage.publish(f"{bucket.uri}/large") as sink:
        for i in range(60):
            sink.write(bytes([i]) * MIB)
        assert bucket.keys() == []
    assert bucket.uploads() == []
    assert storage.sha256_of(f"{bucket.uri}/large") == (60 * MIB, sink.sha256)


def test_two_attempts_at_one_object_do_not_mix(bucket: Bucket) -> None:
    uri = f"{bucket.uri}/file"
    with storage.publish(uri) as first:
        first.write(b"first, part one; ")
        with storage.publish(uri) as second:
            second.write(b"second")
        assert bucket.read("file") == b"second"
        first.write(b"part two")
    assert bucket.read("file") == b"first, part one; part two"
    assert bucket.uploads() == []


@pytest.mark.parametrize("num_bytes", [0, 1000, 6 * MIB])
def test_a_small_file_is_one_request(proxy: Proxy, bucket: Bucket, num_bytes: int) -> None:
    content = os.urandom(num_bytes)
    entry = storage.publish_bytes(f"{bucket.uri}/new/file", content)
    assert entry == {"bytes": num_bytes, "sha256": hashlib.sha256(content).hexdigest()}
    assert [(seen.request.method, seen.num_bytes) for seen in proxy.seen] == [("PUT", num_bytes)]
    assert bucket.read("new/file") == content
    storage.publish_bytes(f"{bucket.uri}/new/file", b"newer")
    assert bucket.read("new/file") == b"newer"


def test_a_killed_writer_leaves_nothing_visible(bucket: Bucket) -> None:
    code = (
        "import os, sys\nfrom pipeline import storage\n"
        "with storage.publish(sys.argv[1]) as sink:\n    sink.write(bytes(12 << 20))\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, f"{bucket.uri}/f/file"], check=False).returncode == 9
    assert bucket.keys() == []
    assert storage.list_names(f"{bucket.uri}/f") == []
    assert storage.list_files(f"{bucket.uri}/f/*") == []


def test_create_if_absent(bucket: Bucket) -> None:
    uri = f"{bucket.uri}/new/receipt"
    assert storage.create_if_absent(uri, b"first") is True
    assert storage.create_if_absent(uri, b"second") is False
    assert storage.create_if_absent(uri, b"first") is False
    assert bucket.read("new/receipt") == b"first"
    assert storage.create_if_absent(f"{bucket.uri}/new/empty", b"") is True
    assert storage.create_if_absent(f"{bucket.uri}/new/empty", b"x") is False
    assert bucket.read("new/empty") == b""


_RACE = """
import sys, time
from pipeline import storage
uri, who = sys.argv[1:]
storage.publish_bytes(f"{uri}/ready/{who}", b"")
while len(storage.list_names(f"{uri}/ready")) < 2:
    time.sleep(0.001)
wins = [storage.create_if_absent(f"{uri}/race/{i}", who.encode() * 1000) for i in range(50)]
print("".join("1" if win else "0" for win in wins))
"""


def test_of_two_processes_exactly_one_creates(bucket: Bucket) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACE, bucket.uri, who], stdout=subprocess.PIPE, text=True) for who in "ab"
    ]
    wins = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert [len(win) for win in wins] == [50, 50]
    for i, (a, b) in enumerate(zip(*wins, strict=True)):
        assert {a, b} == {"0", "1"}
        assert bucket.read(f"race/{i}") == (b"a" if a == "1" else b"b") * 1000


# --- who is first -----------------------------------------------------------------------------------------------------


def writers(number: int, create: Callable[[int], list[bytes]]) -> list[list[bytes]]:
    """What each of some writers that start together is told of the others."""
    meeting = threading.Barrier(number)

    def write(who: int) -> list[bytes]:
        meeting.wait()
        return create(who)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(write, range(number)))


def strip(request: Request) -> Fault | None:
    """The rule of a store that does not know conditions."""
    return Fault.STRIP if "if-none-match" in request.headers else None


def test_the_first_of_many_threads_is_one(bucket: Bucket) -> None:
    for round_ in range(10):
        uri = f"{bucket.uri}/race/{round_}"
        told = writers(8, lambda who, uri=uri: storage.create_first(uri, b"by %d" % who, conditional=True))
        (first,) = [who for who, others in enumerate(told) if not others]
        assert bucket.read(f"race/{round_}") == b"by %d" % first
        assert [others for who, others in enumerate(told) if who != first] == [[b"by %d" % first]] * 7
    assert len(bucket.keys()) == 10  # nothing beside the files


def test_the_same_content_is_nobody_elses(bucket: Bucket) -> None:
    """Of two that write the same it does not matter who was first."""
    uri = f"{bucket.uri}/file"
    assert writers(4, lambda _: storage.create_first(uri, b"same", conditional=True)) == [[]] * 4
    assert storage.create_first(uri, b"other", conditional=True) == [b"same"]
    assert bucket.read("file") == b"same"


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.RESET_AFTER, Fault.SLOW_DOWN], ids=lambda fault: fault.name)
def test_ones_own_file_is_not_taken_for_anothers(proxy: Proxy, bucket: Bucket, fault: Fault) -> None:
    """The store has created it, and the answer is lost; asked again, it says that there is one."""
    proxy.decide = once("put", fault)
    assert storage.create_first(f"{bucket.uri}/file", b"mine", conditional=True) == []
    assert proxy.faults() == {fault: 1}
    if fault is Fault.RESET_AFTER:
        assert 412 in [seen.status for seen in proxy.seen]
    assert bucket.read("file") == b"mine"
    assert storage.create_first(f"{bucket.uri}/file", b"another's", conditional=True) == [b"mine"]


def test_a_store_without_conditions_is_found_out(proxy: Proxy, bucket: Bucket) -> None:
    assert storage.honours_conditions(f"{bucket.uri}/out") is True
    proxy.decide = strip
    assert storage.honours_conditions(f"{bucket.uri}/out") is False
    assert proxy.faults()[Fault.STRIP] == 1
    proxy.decide = once("put", Fault.RESET_AFTER)
    storage.honours_conditions(f"{bucket.uri}/out")
    assert bucket.keys() == []  # of trying it out nothing is left


def test_without_conditions_no_two_writers_are_both_unaware(proxy: Proxy, bucket: Bucket) -> None:
    proxy.decide = strip
    overlaps = 0
    for round_ in range(40):
        uri = f"{bucket.uri}/race-{round_ % 2}/{round_}"
        contents = [b"%d by %d" % (round_, who) for who in range(3)]
        told = writers(3, lambda who, uri=uri, c=contents: storage.create_first(uri, c[who], conditional=False))
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert contents[b] in told[a] or contents[a] in told[b]
        assert sum(not others for others in told) <= 1
        for who, others in enumerate(told):
            assert set(others) <= set(contents) - {contents[who]}  # no claims to another file, and never one's own
        overlaps += all(told)
        assert bucket.read(f"race-{round_ % 2}/{round_}") in contents
        assert storage.create_first(uri, b"late", conditional=False) == [bucket.read(f"race-{round_ % 2}/{round_}")]
    assert storage.list_names(bucket.uri) == sorted(f"race-{n % 2}/{n}" for n in range(40))
    assert overlaps > 0  # or the rounds were no race


_RACE_WITHOUT_CONDITIONS = """
import json, sys, time
from pipeline import storage
uri, who = sys.argv[1:]
storage.publish_bytes(f"{uri}/ready/{who}", b"")
while len(storage.list_names(f"{uri}/ready")) < 2:
    time.sleep(0.001)
told = [storage.create_first(f"{uri}/race/{i}", f"{who} {i}".encode(), conditional=False) for i in range(30)]
print(json.dumps([[other.decode() for other in others] for others in told]))
"""


def test_without_conditions_of_two_processes_one_sees_the_other(proxy: Proxy, bucket: Bucket) -> None:
    proxy.decide = strip
    command = [sys.executable, "-c", _RACE_WITHOUT_CONDITIONS, bucket.uri]
    racers = [subprocess.Popen([*command, who], stdout=subprocess.PIPE, text=True) for who in "ab"]
    a, b = [json.loads(racer.communicate(timeout=100)[0]) for racer in racers]
    for i in range(30):
        assert a[i] == [f"b {i}"] or b[i] == [f"a {i}"]
        assert a[i] in ([], [f"b {i}"])
        assert b[i] in ([], [f"a {i}"])
        assert bucket.read(f"race/{i}") in (f"a {i}".encode(), f"b {i}".encode())


# --- reading ----------------------------------------------------------------------------------------------------------


def test_arrow_reads_and_seeks(bucket: Bucket) -> None:
    schema = pa.schema([("x", pa.int64())])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for i in range(20):
            writer.write_batch(pa.record_batch([pa.array([i] * 1000)], schema=schema))
    bucket.put("file.arrow", sink.getvalue().to_pybytes())
    with storage.open_input(f"{bucket.uri}/file.arrow") as file:
        reader = pa.ipc.open_file(file)
        for i in (7, 0, 19, 7):
            assert reader.get_batch(i).column(0).to_pylist() == [i] * 1000


def test_threads_share_the_store(bucket: Bucket) -> None:
    def work(worker: int) -> None:
        for i in range(10):
            uri, content = f"{bucket.uri}/t/{worker}/{i}", f"{worker} {i} ".encode() * 1000
            assert storage.publish_bytes(uri, content)["bytes"] == len(content)
            assert storage.read_bytes(uri) == content
            assert size_of(uri) == len(content)
        assert storage.list_names(f"{bucket.uri}/t/{worker}") == [str(i) for i in range(10)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(bucket.keys()) == 80


def test_list_stored(bucket: Bucket) -> None:
    before = time.time()
    for name in ("f/b", "f/a", "f/.a.123.tmp", "f/c/d", "f/.c/e", "ff", "f/é ü"):
        bucket.put(name, name.encode() * 3)
    for folder in (f"{bucket.uri}/f", f"{bucket.uri}/f/"):
        found = storage.list_stored(folder)
        assert {"a", "b", "c/d", "é ü"} <= set(found)
        assert not {".a.123.tmp", "ff"} & set(found)
        for name, file in found.items():
            assert file == dataclasses.replace(storage.stat(f"{bucket.uri}/f/{name}"), name=file.name)
            assert (file.uri, file.num_bytes) == (f"{bucket.uri}/f/{name}", 3 * len(f"f/{name}".encode()))
            assert before - 2 < file.modified < time.time() + 2  # the store knows whole seconds
    assert storage.list_stored(f"{bucket.uri}/nowhere") == {}
    assert list(storage.list_stored(bucket.uri)) == storage.list_names(bucket.uri)


def test_when_a_file_was_written_is_the_same_however_it_is_looked_up(bucket: Bucket) -> None:
    fill(bucket, "f/a.txt")
    (globbed,) = storage.list_files(f"{bucket.uri}/f/*.txt")
    (named,) = storage.list_files(f"{bucket.uri}/f/a.txt")
    looked_up, listed = storage.stat(f"{bucket.uri}/f/a.txt"), storage.list_stored(f"{bucket.uri}/f")["a.txt"]
    (server,) = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    whole_seconds = {int(file.modified) for file in (globbed, named, looked_up, listed)}
    assert whole_seconds == {int(server["LastModified"].timestamp())}


def test_many_small_files_at_once(proxy: Proxy, bucket: Bucket) -> None:
    names = [f"f/{i:03d}" for i in range(300)]
    fill(bucket, *names)
    bucket.put("f/empty", b"")
    order = [*names[::-1], "f/empty", "f/007", "f/007"]
    proxy.seen.clear()
    assert storage.read_all([f"{bucket.uri}/{name}" for name in order]) == [
        b"" if name == "f/empty" else name.encode() for name in order
    ]
    assert proxy.operations() == {"get": 303}
    assert storage.read_all([]) == []


def test_ranges_of_many_files(proxy: Proxy, bucket: Bucket) -> None:
    contents = {f"f/{i}": os.urandom(1000 + i) for i in range(40)}
    for name, content in contents.items():
        bucket.put(name, content)
    chance = random.Random(1)
    wanted: list[tuple[str, int | None, int | None]] = [("f/3", None, None), ("f/4", 5, None), ("f/5", 0, 1), ("f/5", 1, 2)]
    for _ in range(100):
        start = chance.randrange(1000)
        wanted.append((f"f/{chance.randrange(40)}", start, chance.randint(start + 1, 1000)))
    found = storage.read_ranges([(f"{bucket.uri}/{name}", start, stop) for name, start, stop in wanted])
    assert found == [contents[name][slice(start, stop)] for name, start, stop in wanted]
    assert sum(seen.request.operation == "get" for seen in proxy.seen) == len(wanted)


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_where_a_file_ends_a_range_ends(where: str, bucket: Bucket, tmp_path: Path) -> None:
    uri = f"{tmp_path}/file" if where == "disk" else f"{bucket.uri}/file"
    storage.publish_bytes(uri, b"0123456789")
    storage.publish_bytes(f"{uri}-empty", b"")
    ranges = [
        (uri, 8, 12),
        (uri, 10, 12),
        (uri, 100, 200),
        (uri, 9, 10),
        (f"{uri}-empty", 0, 5),
        (f"{uri}-empty", None, None),
    ]
    assert storage.read_ranges(ranges) == [b"89", b"", b"", b"9", b"", b""]


def test_the_file_that_is_not_there_is_named_among_many(bucket: Bucket) -> None:
    fill(bucket, *(f"f/{i}" for i in range(20)))
    storage.remove(f"{bucket.uri}/f/13")
    uris = [f"{bucket.uri}/f/{i}" for i in range(20)]
    for read in (storage.read_all, lambda uris: storage.read_ranges([(uri, 0, 2) for uri in uris])):
        with pytest.raises(ArtifactError, match=f"{bucket.uri}/f/13: not found"):
            read(uris)


def test_reading_many_at_once_through_trouble(proxy: Proxy, bucket: Bucket) -> None:
    names = [f"f/{i:03d}" for i in range(200)]
    fill(bucket, *names)
    proxy.decide = some_faults(0.05, (Fault.SLOW_DOWN, Fault.RESET, Fault.CUT), seed=3)
    assert storage.read_all([f"{bucket.uri}/{name}" for name in names]) == [name.encode() for name in names]
    assert set(proxy.faults()) == {Fault.SLOW_DOWN, Fault.RESET, Fault.CUT}


def test_a_store_that_is_down_while_many_are_read(proxy: Proxy, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bucket, "f/a", "f/b")
    use(proxy.env | impatient(read_timeout=0.2, attempts=1), monkeypatch)
    proxy.decide = lambda _: Fault.RESET
    with pytest.raises(StorageError, match=f"{bucket.uri}/f/a: cannot read: "):
        storage.read_all([f"{bucket.uri}/f/a", f"{bucket.uri}/f/b"])
    with pytest.raises(StorageError, match=f"{bucket.uri}/f: cannot list: "):
        storage.list_stored(f"{bucket.uri}/f")


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_what_is_not_there(bucket: Bucket) -> None:
    for action in (storage.read_bytes, storage.sha256_of, storage.stat):
        for uri in (f"{bucket.uri}/none", "s3://no-such-bucket-here/none"):
            with pytest.raises(ArtifactError, match=f"{uri}: not found"):
                action(uri)


@pytest.mark.parametrize("write", [storage.publish_bytes, storage.create_if_absent])
def test_a_bucket_that_is_not_there_is_trouble_with_a_name(bucket: Bucket, write: Callable[[str, bytes], Any]) -> None:
    for content in (b"", b"x"):
        with pytest.raises(StorageError, match="s3://no-such-bucket-here/key: cannot write"):
            write("s3://no-such-bucket-here/key", content)


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.RESET, Fault.STALL], ids=lambda fault: fault.name)
def test_a_store_that_is_down_is_storage_trouble(
    fault: Fault, s3_server: Server, bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(proxy.env | impatient(read_timeout=0.2, attempts=1), monkeypatch)
    bucket.put("there", b"x" * 1000)
    actions: dict[str, Callable[[], Any]] = {
        "list": lambda: storage.list_files(f"{bucket.uri}/*"),
        "look up": lambda: storage.stat(f"{bucket.uri}/there"),
        "read": lambda: storage.read_bytes(f"{bucket.uri}/there"),
        "write": lambda: storage.publish_bytes(f"{bucket.uri}/new", b"x"),
        "write ": lambda: storage.create_if_absent(f"{bucket.uri}/new", b"x"),
        "delete": lambda: storage.remove(f"{bucket.uri}/there"),
    }

    def attempt(action: str) -> None:
        with pytest.raises(StorageError, match=f"{bucket.uri}/.*: cannot {action.strip()}: "):
            actions[action]()

    proxy.decide = lambda _: fault
    with ThreadPoolExecutor(len(actions)) as pool:
        list(pool.map(attempt, actions))
    assert proxy.faults()[fault] >= len(actions)
    proxy.decide = lambda _: None
    assert storage.read_bytes(f"{bucket.uri}/there") == b"x" * 1000
    assert bucket.keys() == ["there"]


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.RESET_AFTER, Fault.SLOW_DOWN], ids=lambda fault: fault.name)
@pytest.mark.parametrize(
    ("operation", "num_bytes"),
    [
        ("begin upload", 6 * MIB),
        ("upload part", 6 * MIB),
        ("complete upload", 6 * MIB),
        ("put", 1000),
        ("put", 0),
    ],
)
def test_a_request_that_fails_once_is_repeated(
    proxy: Proxy, bucket: Bucket, fault: Fault, operation: str, num_bytes: int
) -> None:
    proxy.decide = once(operation, fault)
    with storage.publish(f"{bucket.uri}/published") as sink:
        sink.write(bytes(num_bytes))
    created = storage.create_if_absent(f"{bucket.uri}/created", bytes(num_bytes))
    assert bucket.keys() == ["created", "published"]
    assert [len(bucket.read(key)) for key in ("created", "published")] == [num_bytes] * 2
    if fault is not Fault.RESET_AFTER:  # then the client finds its own object in its way
        assert created is True
    assert proxy.faults()[fault] == 1


FAULTS = (Fault.SLOW_DOWN, Fault.RESET, Fault.RESET_AFTER, Fault.CUT, Fault.STALL)


def test_one_call_of_twenty_fails_and_nothing_is_lost(proxy: Proxy, bucket: Bucket) -> None:
    proxy.decide = some_faults(0.05, FAULTS, seed=1)

    def work(worker: int) -> int:
        created = 0
        for i in range(12):
            content = f"{worker} {i} ".encode() * 500
            folder = f"{bucket.uri}/{worker}"
            storage.publish_bytes(f"{folder}/published/{i}", content)
            assert storage.read_bytes(f"{folder}/published/{i}") == content
            assert size_of(f"{folder}/published/{i}") == len(content)
            assert size_of(f"{folder}/published/{i + 1}") is None
            assert storage.list_names(f"{folder}/published") == sorted(map(str, range(i + 1)))
            created += storage.create_if_absent(f"{bucket.uri}/shared/{i}", content)
            assert storage.read_bytes(f"{bucket.uri}/shared/{i}").endswith(f" {i} ".encode())
        return created

    with ThreadPoolExecutor(6) as pool:
        created = sum(pool.map(work, range(6)))
    assert len(bucket.keys()) == 6 * 12 + 12
    assert 12 - proxy.faults()[Fault.RESET_AFTER] <= created <= 12
    for i in range(12):
        (worker,) = {bucket.read(f"shared/{i}")[:1]}
        assert bucket.read(f"shared/{i}") == worker + f" {i} ".encode() + (worker + f" {i} ".encode()) * 499
    assert set(proxy.faults()) == set(FAULTS)
    assert sum(proxy.faults().values()) > len(proxy.seen) / 40 > 10


# --- the rig ----------------------------------------------------------------------------------------------------------

_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}


def test_the_proxy_can_hide_the_condition(proxy: Proxy, bucket: Bucket) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port)
    with contextlib.closing(connection):
        statuses = []
        for fault in (None, None, Fault.STRIP):
            proxy.decide = lambda _, fault=fault: fault
            connection.request("PUT", f"/{bucket.name}/key", b"x", {"If-None-Match": "*", **_SIGNED})
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
    assert statuses == [200, 412, 200]
    assert [seen.fault for seen in proxy.seen] == [None, None, Fault.STRIP]


def test_the_proxy_keeps_connections_and_reads_chunks_and_expectations(proxy: Proxy, bucket: Bucket) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as client, client.makefile("rb") as reader:

        def ask(method: str, key: str, headers: dict[str, str]) -> None:
            lines = [f"{method} /{bucket.name}/{key} HTTP/1.1", *(f"{n}: {v}" for n, v in (_SIGNED | headers).items())]
            client.sendall("\r\n".join([*lines, "Host: x", "", ""]).encode())

        def answer() -> tuple[bytes, bytes]:
            status = reader.readline()
            headers = http.client.parse_headers(reader)
            return status.split()[1], reader.read(int(headers.get("Content-Length", 0)))

        ask("PUT", "a", {"Transfer-Encoding": "chunked"})
        client.sendall(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        assert answer()[0] == b"200"
        ask("PUT", "b", {"Expect": "100-continue", "Content-Length": "3"})
        assert answer() == (b"100", b"")
        client.sendall(b"one")
        assert answer()[0] == b"200"
        ask("GET", "a", {})
        assert answer() == (b"200", b"hello world")
    assert bucket.read("b") == b"one"
    assert [seen.request.operation for seen in proxy.seen] == ["put", "put", "get"]
    assert [seen.num_bytes for seen in proxy.seen] == [11, 3, 0]


_VICTIM = "import sys\nfrom pipeline import storage\nstorage.create_if_absent(sys.argv[1], b'x')\nprint('alive')\n"


@pytest.mark.parametrize(("fault", "keys"), [(Fault.KILL, []), (Fault.KILL_AFTER, ["key"])])
def test_the_proxy_kills_the_client_that_asked(proxy: Proxy, bucket: Bucket, fault: Fault, keys: list[str]) -> None:
    proxy.decide = lambda _: fault
    victim = subprocess.run([sys.executable, "-c", _VICTIM, f"{bucket.uri}/key"], capture_output=True, check=False)
    assert (victim.returncode, victim.stdout) == (-9, b"")
    assert bucket.keys() == keys
    assert [seen.fault for seen in proxy.seen] == [fault]
    storage.exists(f"{bucket.uri}/key")  # never this process
    assert proxy.seen[-1].fault is None

"""Storage: listing, reading, and publishing all or nothing."""

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import fsspec
import pytest

from pipeline import storage
from pipeline.errors import ArtifactError, StorageError
from pipeline.jobs.cli import main
from tests.corpus import documents, job, published, write_jsonl


def tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def everything_in(folder: Path) -> list[str]:
    """Also hidden and temporary files."""
    return sorted(os.listdir(folder))


# --- listing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "d/c.txt", "d/e/f.txt"]),
        ("d/**/*.txt", ["c.txt", "e/f.txt"]),
        ("d/*", ["c.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("[b-z].txt", ["b.txt"]),
        ("*/*.txt", ["d/c.txt"]),
        ("a.txt", ["a.txt"]),
        ("d/e/f.txt", ["f.txt"]),
        ("d", []),
        ("nothing.txt", []),
        ("nowhere/*.txt", []),
        ("*.parquet", []),
    ],
)
def test_list_files(tmp_path, pattern, expected):
    tree(tmp_path, "b.txt", "a.txt", "x.log", "d/c.txt", "d/e/f.txt", "dir.txt/inner")
    found = storage.list_files(f"{tmp_path}/{pattern}")
    assert [file.name for file in found] == expected
    assert [file.uri for file in found] == sorted(file.uri for file in found)
    for file in found:
        assert file.uri.endswith(file.name)
        assert file.num_bytes == os.path.getsize(file.uri)
        assert storage.read_bytes(file.uri) == Path(file.uri).read_bytes()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["a.txt"]),
        ("**/*.txt", ["a.txt", "d/b.txt"]),
        (".hidden.txt", [".hidden.txt"]),
        (".secret/*.txt", ["c.txt"]),
        (".*.txt", [".hidden.txt"]),
        (".s*/*.txt", [".secret/c.txt"]),
    ],
)
def test_hidden_files_and_folders_only_if_the_pattern_names_them(tmp_path, pattern, expected):
    tree(tmp_path, "a.txt", ".hidden.txt", ".secret/c.txt", "d/b.txt", "d/.cache/x.txt", "d/.a.txt.tmp.txt")
    assert [file.name for file in storage.list_files(f"{tmp_path}/{pattern}")] == expected


def test_a_hidden_folder_above_the_pattern_hides_nothing(tmp_path):
    tree(tmp_path, ".home/corpus/a.txt")
    assert [f.name for f in storage.list_files(f"{tmp_path}/.home/corpus/*.txt")] == ["a.txt"]


@pytest.mark.parametrize("pattern", ["*.txt", "link.txt", "**/*.txt"])
def test_a_link_to_a_file_is_a_file(tmp_path, pattern):
    tree(tmp_path, "elsewhere/data")
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "link.txt").symlink_to(tmp_path / "elsewhere" / "data")
    found = storage.list_files(f"{folder}/{pattern}")
    assert [(file.name, file.num_bytes) for file in found] == [("link.txt", len("elsewhere/data"))]


@pytest.mark.parametrize("name", ["with blank.txt", "ünïcode.txt", "a#b.txt", "a%20b.txt", "a{b}.txt", "a:b.txt"])
def test_unusual_names(tmp_path, name):
    tree(tmp_path, name)
    for pattern in (f"{tmp_path}/*.txt", f"{tmp_path}/{name}"):
        assert [(f.name, storage.read_bytes(f.uri)) for f in storage.list_files(pattern)] == [(name, name.encode())]


def test_version_changes_with_the_file(tmp_path):
    tree(tmp_path, "a.txt")
    before = storage.list_files(f"{tmp_path}/a.txt")[0]
    os.utime(tmp_path / "a.txt", ns=(10**18, 10**18))
    after = storage.list_files(f"{tmp_path}/a.txt")[0]
    assert (before.name, before.num_bytes) == (after.name, after.num_bytes)
    assert before.version != after.version


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("/a/b/*.txt", "/a/b/"), ("/a/b*/c.txt", "/a/"), ("/a/b.txt", "/a/"), ("/a/[b]/?", "/a/"), ("*.txt", "")],
)
def test_fixed_part(pattern, expected):
    assert storage.fixed_part(pattern) == expected


def test_list_names(tmp_path):
    tree(tmp_path, "b", "a", ".a.123.tmp", "c/d")
    assert storage.list_names(str(tmp_path)) == ["a", "b", "c/d"]
    assert storage.list_names(f"{tmp_path}/") == ["a", "b", "c/d"]
    assert storage.list_names(f"{tmp_path}/nowhere") == []


# --- URIs -------------------------------------------------------------------------------------------------------------


def test_a_linked_folder_is_listed_once_and_never_in_circles(tmp_path):
    (tmp_path / "elsewhere/a").mkdir(parents=True)
    (tmp_path / "elsewhere/a/x").write_bytes(b"x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/packed").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/a/round").symlink_to(tmp_path / "elsewhere")
    assert storage.list_names(str(tmp_path / "out")) == ["packed/a/x"]


def test_temporary_files_of_others_are_left_alone(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    ours = [f".x.{socket.gethostname().replace('.', '-')}.{process}.{'0' * 32}.tmp" for process in (ended.pid, os.getppid())]
    foreign = [".foo.tmp", ".a.b.c.d.tmp", f".x.elsewhere.1.{'0' * 32}.tmp"]
    for name in [*ours, *foreign]:
        (tmp_path / name).touch()
    os.utime(tmp_path / foreign[1], (0, 0))
    storage.remove_temporaries(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ours[1], *foreign])


def test_file_uris(tmp_path):
    tree(tmp_path, "a.txt", "d/b.txt")
    found = storage.list_files(f"file://{tmp_path}/**/*.txt")
    assert [(file.name, storage.read_bytes(file.uri)) for file in found] == [("a.txt", b"a.txt"), ("d/b.txt", b"d/b.txt")]
    storage.publish_bytes(f"file://{tmp_path}/new/c.txt", b"c")
    assert (tmp_path / "new/c.txt").read_bytes() == b"c"
    assert storage.create_if_absent(f"file://{tmp_path}/new/c.txt", b"d") is False
    assert storage.exists(f"file://{tmp_path}/new")
    assert storage.list_names(f"file://{tmp_path}/new") == ["c.txt"]


def test_memory_uris():
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/test-storage/a.txt", b"one")
    memory.pipe_file("/test-storage/d/b.txt", b"two")
    try:
        found = storage.list_files("memory://test-storage/**/*.txt")
        assert [(f.name, storage.read_bytes(f.uri)) for f in found] == [("a.txt", b"one"), ("d/b.txt", b"two")]
        assert storage.publish_bytes("memory://test-storage/new/c", b"c")["bytes"] == 1
        assert storage.read_bytes("memory://test-storage/new/c") == b"c"
        assert storage.create_if_absent("memory://test-storage/new/d", b"1") is True
        assert storage.create_if_absent("memory://test-storage/new/d", b"2") is False
        assert storage.read_bytes("memory://test-storage/new/d") == b"1"
        assert storage.list_names("memory://test-storage/new") == ["c", "d"]
        with pytest.raises(ArtifactError, match="memory://test-storage/none: not found"):
            storage.read_bytes("memory://test-storage/none")
    finally:
        memory.rm("/test-storage", recursive=True)


def test_a_chained_uri_is_read_from_where_it_was_listed(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a.txt", "one")
        archive.writestr("x/b.txt", "two")
    found = storage.list_files(f"zip://x/*.txt::{tmp_path}/a.zip")
    assert [file.name for file in found] == ["a.txt", "b.txt"]
    assert [storage.read_bytes(file.uri) for file in found] == [b"one", b"two"]


@pytest.mark.parametrize(
    ("uri", "expected"), [("s3://b/x", "s3://b/x"), ("/a/b/", "/a/b"), ("a//b", "{cwd}/a/b"), ("./a", "{cwd}/a")]
)
def test_absolute(uri, expected):
    assert storage.absolute(uri) == expected.format(cwd=os.getcwd())


def test_join():
    assert storage.join("/a/", "b", "c.txt") == "/a/b/c.txt"
    assert storage.join("s3://bucket", "b") == "s3://bucket/b"


# --- publishing -------------------------------------------------------------------------------------------------------


def test_publish_writes_makes_folders_and_hashes(tmp_path):
    target = tmp_path / "new" / "folder" / "file"
    with storage.publish(str(target)) as sink:
        assert not target.exists()
        sink.write(b"abc")
        sink.write(memoryview(b"defg")[::1])
        sink.write(bytearray(b"h"))
        assert sink.tell() == 8
        assert not target.exists()
    assert target.read_bytes() == b"abcdefgh"
    assert sink.sha256 == hashlib.sha256(b"abcdefgh").hexdigest()
    assert sink.num_bytes == 8
    assert storage.sha256_of(str(target)) == (8, sink.sha256)
    assert everything_in(target.parent) == ["file"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), StorageError("y"), SystemExit(3)])
@pytest.mark.parametrize("old", [None, b"old"])
def test_publish_is_all_or_nothing(tmp_path, error, old):
    target = tmp_path / "file"
    if old is not None:
        target.write_bytes(old)

    def write_half() -> None:
        with storage.publish(str(target)) as sink:
            sink.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert everything_in(tmp_path) == ([] if old is None else ["file"])
    if old is not None:
        assert target.read_bytes() == old


def test_publish_replaces_at_once(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old content")
    with open(target, "rb") as reader, storage.publish(str(target)) as sink:
        sink.write(b"new")
        assert reader.read() == b"old content"
    assert target.read_bytes() == b"new"


def test_two_attempts_at_one_file_do_not_mix(tmp_path):
    target = tmp_path / "file"
    with storage.publish(str(target)) as first:
        first.write(b"first, part one; ")
        with storage.publish(str(target)) as second:
            second.write(b"second")
        assert target.read_bytes() == b"second"
        first.write(b"part two")
    assert target.read_bytes() == b"first, part one; part two"
    assert everything_in(tmp_path) == ["file"]


def test_a_killed_writer_leaves_nothing_visible(tmp_path):
    code = (
        "import os, sys\nfrom pipeline import storage\n"
        "with storage.publish(sys.argv[1]) as sink:\n    sink.write(b'half')\n    os._exit(9)\n"
    )
    target = tmp_path / "folder" / "file"
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False).returncode == 9
    assert not target.exists()
    assert storage.list_names(str(target.parent)) == []
    assert storage.list_files(f"{target.parent}/*") == []


def test_create_if_absent(tmp_path):
    uri = f"{tmp_path}/new/folder/receipt"
    assert storage.create_if_absent(uri, b"first") is True
    assert storage.create_if_absent(uri, b"second") is False
    assert storage.read_bytes(uri) == b"first"
    assert everything_in(tmp_path / "new/folder") == ["receipt"]


_RACE = """
import sys, time
from pipeline import storage
storage.create_if_absent(sys.argv[1] + f"/ready-{sys.argv[2]}", b"")
while len(storage.list_names(sys.argv[1])) < 2:
    time.sleep(0.001)
wins = [storage.create_if_absent(f"{sys.argv[1]}/race/{i}", sys.argv[2].encode() * 1000) for i in range(100)]
print("".join("1" if win else "0" for win in wins))
"""


def test_of_two_processes_exactly_one_creates(tmp_path):
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACE, str(tmp_path), who], stdout=subprocess.PIPE, text=True)
        for who in "ab"
    ]
    wins = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    for i, (a, b) in enumerate(zip(*wins, strict=True)):
        assert {a, b} == {"0", "1"}
        assert (tmp_path / "race" / str(i)).read_bytes() == (b"a" if a == "1" else b"b") * 1000
    assert len(everything_in(tmp_path / "race")) == 100


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_what_is_not_there(tmp_path):
    for action in (storage.read_bytes, storage.sha256_of):
        with pytest.raises(ArtifactError, match=f"{tmp_path}/none: not found"):
            action(f"{tmp_path}/none")
    assert storage.exists(f"{tmp_path}/none") is False
    assert storage.exists(str(tmp_path)) is True


def test_reading_a_folder_is_trouble_with_a_name(tmp_path):
    with pytest.raises(StorageError, match=f"{tmp_path}: cannot read"):
        storage.read_bytes(str(tmp_path))


@pytest.mark.parametrize("write", [storage.publish_bytes, storage.create_if_absent])
def test_writing_below_a_file_is_trouble_with_a_name(tmp_path, write):
    tree(tmp_path, "file")
    with pytest.raises(StorageError, match=f"{tmp_path}/file/below: cannot write"):
        write(f"{tmp_path}/file/below", b"x")
    assert (tmp_path / "file").read_text() == "file"


@pytest.mark.parametrize("write", [storage.publish_bytes, storage.create_if_absent])
def test_writing_where_nothing_can_be_made_is_trouble_with_a_name(write):
    with pytest.raises(StorageError, match="/proc/tokenmill/file: cannot write"):
        write("/proc/tokenmill/file", b"x")


_LIMITED = """
import resource, signal, sys
from pipeline import storage
from pipeline.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    getattr(storage, sys.argv[1])(sys.argv[2], b"x" * 1_000_000)
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("write", ["publish_bytes", "create_if_absent"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_file_that_cannot_be_finished_is_not_seen(tmp_path, write, old):
    target = tmp_path / "folder" / "file"
    target.parent.mkdir()
    if old is not None:
        target.write_bytes(old)
    result = subprocess.run([sys.executable, "-c", _LIMITED, write, str(target)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{target}: cannot write: the file is larger than this system allows"
    assert everything_in(target.parent) == ([] if old is None else ["file"])
    if old is not None:
        assert target.read_bytes() == old


# --- file systems without hard links ----------------------------------------------------------------------------------

_WITHOUT_LINKS = """
import ctypes, errno, struct, sys
# The kernel refuses link(2) and linkat(2) to this process from here on, as it does where a file system knows none.
LOAD, JUMP_IF_EQUAL, RETURN, ALLOW, REFUSE = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000 | errno.EPERM
program = [
    (LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 2, 0, 86), (JUMP_IF_EQUAL, 1, 0, 265), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
prctl = ctypes.CDLL(None, use_errno=True).prctl
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
if prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or prctl(
    SECCOMP, FILTER, ctypes.byref(Filter(len(program), ctypes.addressof(code))), 0, 0
):
    sys.exit(77)
"""

_CREATE = """
from pipeline import storage
from pipeline.errors import StorageError
folder = sys.argv[1]
print(storage.honours_conditions(folder))
try:
    storage.create_if_absent(f"{folder}/file", b"x")
except StorageError as error:
    print(error)
print([storage.create_first(f"{folder}/file", content, conditional=False) for content in (b"one", b"two", b"one")])
"""

_RUN = """
from pipeline.jobs.cli import main
sys.exit(main(["run", sys.argv[1]]))
"""


def without_links(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    if platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("the numbers of the system calls are those of Linux on x86-64")
    command = [sys.executable, "-c", _WITHOUT_LINKS + code, *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 77:
        pytest.skip("seccomp is not allowed here")
    return result


def test_where_there_are_no_hard_links_it_is_found_out(tmp_path):
    assert storage.honours_conditions(str(tmp_path)) is True
    assert everything_in(tmp_path) == []
    result = without_links(_CREATE, tmp_path)
    assert result.stdout.splitlines() == [
        "False",
        f"{tmp_path}/file: this file system has no hard links",
        "[[], [b'one'], [b'one']]",
    ], result.stderr
    assert (tmp_path / "file").read_bytes() == b"one"
    assert storage.list_names(str(tmp_path)) == ["file"]
    assert not [name for name in everything_in(tmp_path) if name.endswith(".tmp")]


def test_a_job_where_there_are_no_hard_links(tmp_path):
    write_jsonl(tmp_path / "corpus/a/all.jsonl", documents(20))
    write_jsonl(tmp_path / "corpus/b/all.jsonl", documents(20, seed=1))
    for name in ("with", "without"):
        (tmp_path / f"{name}.json").write_text(json.dumps(job(tmp_path / "corpus", tmp_path / name)))
    result = without_links(_RUN, tmp_path / "without.json")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("does not keep to `create only if absent`") == 1
    assert main(["run", str(tmp_path / "with.json")]) == 0
    assert published(tmp_path / "without") == published(tmp_path / "with")
    plans = [json.loads((tmp_path / name / "plan.json").read_bytes()) for name in ("with", "without")]
    assert [plan["conditional"] for plan in plans] == [True, False]
    assert main(["verify", str(tmp_path / "without")]) == 0

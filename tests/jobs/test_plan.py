"""The plan: which files, in which order, in which shards, and whether a directory belongs to the job."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from tokenizers import Tokenizer, models

from pipeline import storage
from pipeline.errors import ArtifactError, DataError, SpecError
from pipeline.jobs.load import parse_spec
from pipeline.jobs.plan import Plan, make_plan, read_plan, settle_plan, to_json

LINE = '{"text": "some words", "id": "x"}\n'


@pytest.fixture
def plan(fields, lay_over) -> Callable[..., Plan]:
    """Plan the small job with changes to its spec, storing nothing."""
    return lambda changes=None: make_plan(parse_spec(lay_over(fields, changes or {})))


@pytest.fixture
def settle(fields, lay_over) -> Callable[..., Plan]:
    return lambda changes=None: settle_plan(parse_spec(lay_over(fields, changes or {})))


def source(*uris: object, **options) -> dict:
    return {"sources": [{"name": "main", "uris": [str(uri) for uri in uris], **options}]}


def names(plan: Plan) -> list[str]:
    return [file["name"] for file in plan.inputs[0]]


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(LINE)
    return root


# --- listing ----------------------------------------------------------------------------------------------------------


def test_a_glob_without_a_match(plan, corpus):
    with pytest.raises(SpecError, match=rf"sources\[0\]\.uris\[1\] is '{corpus}/\*\.txt', which matches no file"):
        plan(source(f"{corpus}/*.jsonl", f"{corpus}/*.txt"))
    with pytest.raises(SpecError, match=rf"sources\[0\]\.uris\[0\] is '{corpus}', which matches no file"):
        plan(source(corpus))
    with pytest.raises(SpecError, match=r"sources\[0\]\.uris\[0\] is '.*', which matches no file"):
        plan(source(f"{corpus}/*.jsonl", exclude=["*"]))


def test_an_unknown_ending(plan, tmp_path):
    root = tree(tmp_path / "in", "a.csv", "noending", "b.d/noending")
    for name, ending in [("a.csv", r"\.csv"), ("noending", ""), ("b.d/noending", "")]:
        with pytest.raises(SpecError, match=rf"sources\[0\]\.uris match {root}/{name}, whose ending '{ending}' tells no"):
            plan(source(root / name))
        assert plan(source(root / name, format="jsonl")).read_options[0].format == "jsonl"


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.jsonl", "jsonl"), ("a.ndjson", "jsonl"), ("a.json.gz", "jsonl"), ("a.jsonl.zst", "jsonl"), ("a.txt", "txt"),
     ("a.txt.gz", "txt"), ("a.txt.zst", "txt"), ("a.b.parquet", "parquet"), ("a.arrow", "arrow"), ("a.feather", "arrow"),
     ("a.fa", "fasta"), ("a.fasta.gz", "fasta"), ("a.fna.zst", "fasta"), ("a.ffn", "fasta"), ("a.faa", "fasta"),
     ("a.frn", "fasta")],
)  # fmt: skip
def test_the_format_of_an_ending(plan, tmp_path, name, format):
    root = tree(tmp_path / "in", name)
    assert plan(source(root / name)).read_options[0].format == format


def test_files_of_several_formats_in_one_source(plan, tmp_path):
    root = tree(tmp_path / "in", "a.jsonl", "b.txt", "c.jsonl.gz")
    with pytest.raises(SpecError, match=r"sources\[0\]\.uris match files of several formats \(jsonl, txt\)"):
        plan(source(f"{root}/*"))
    assert plan(source(f"{root}/*.jsonl*")).read_options[0].format == "jsonl"


def test_letters_and_case_go_with_fasta(plan, tmp_path):
    root = tree(tmp_path / "in", "a.jsonl", "b.fa")
    fasta = plan(source(root / "b.fa", letters="protein", case="keep", id_column="name")).read_options[0]
    assert (fasta.format, fasta.letters, fasta.case, fasta.id_column) == ("fasta", "protein", "keep", "name")
    with pytest.raises(
        SpecError, match=r"sources\[0\]\.letters is 'iupac', which goes with the format fasta; the .* is jsonl"
    ):
        plan(source(root / "a.jsonl", letters="iupac"))
    with pytest.raises(SpecError, match=r"sources\[0\]\.id_column is 'id'; of a FASTA file 'name' is allowed"):
        plan(source(root / "b.fa", id_column="id"))


def test_exclude(plan, tmp_path):
    root = tree(tmp_path / "in", "a.txt", "b.txt", "skip/c.txt", "skip/deep/d.txt", "keep/e.txt", "keep/A.txt")
    assert names(plan(source(f"{root}/**/*.txt", exclude=["skip/*", "b.*"]))) == ["a.txt", "keep/A.txt", "keep/e.txt"]
    assert names(plan(source(f"{root}/**/*.txt", exclude=["*/[a-z].txt"]))) == ["a.txt", "b.txt", "keep/A.txt"]
    assert len(names(plan(source(f"{root}/**/*.txt", exclude=["nothing*", "A.txt"])))) == 6


def test_the_order_of_files_is_that_of_their_names(plan, tmp_path):
    root = tree(tmp_path / "in", "b.txt", "a/z.txt", "a.txt", "B.txt", "a/b/c.txt", "10.txt", "9.txt")
    expected = ["10.txt", "9.txt", "B.txt", "a.txt", "a/b/c.txt", "a/z.txt", "b.txt"]
    found = plan(source(f"{root}/**/*.txt"))
    assert names(found) == expected
    assert [part.name for shard in found.shards for part in shard.parts] == [f"main/{name}" for name in expected]


def test_a_file_that_two_globs_match_is_read_once(plan, corpus):
    assert names(plan(source(f"{corpus}/*.jsonl", f"{corpus}/a*", f"{corpus}/b.jsonl"))) == ["a.jsonl", "b.jsonl"]


def test_the_order_of_globs_does_not_matter_for_the_order_of_files(plan, tmp_path):
    root = tree(tmp_path / "in", "x/2.txt", "y/1.txt")
    one = plan(source(f"{root}/x/*.txt", f"{root}/y/*.txt"))
    other = plan(source(f"{root}/y/*.txt", f"{root}/x/*.txt"))
    assert names(one) == names(other) == ["x/2.txt", "y/1.txt"]


@pytest.mark.parametrize("spelling", ["{root}/out", "{root}/out/", "{root}/x/../out", "file://{root}/out", "out"])
def test_the_output_is_not_read_even_if_the_glob_covers_it(settle, tmp_path, monkeypatch, spelling):
    tree(tmp_path, "a.jsonl", "x/b.jsonl")
    monkeypatch.chdir(tmp_path)
    changes = {**source(f"{tmp_path}/**/*.jsonl", exclude=["corpus/*"]), "output": spelling.format(root=tmp_path)}
    assert names(settle(changes)) == ["a.jsonl", "x/b.jsonl"]
    tree(tmp_path / "out", "z.jsonl", "packed/y.jsonl")
    assert names(settle(changes)) == ["a.jsonl", "x/b.jsonl"]


def test_a_folder_that_only_begins_like_the_output_is_read(plan, tmp_path):
    tree(tmp_path, "output-of-others/a.txt", "out.txt")
    assert names(plan(source(f"{tmp_path}/**/*.txt"))) == ["out.txt", "output-of-others/a.txt"]


def test_names_and_sizes_are_those_of_the_files(plan, corpus):
    found = plan().inputs[0]
    assert [(f["name"], f["bytes"]) for f in found] == [(n, (corpus / n).stat().st_size) for n in ("a.jsonl", "b.jsonl")]


# --- shards -----------------------------------------------------------------------------------------------------------


def ranges(plan: Plan) -> dict[str, list[tuple]]:
    found: dict[str, list[tuple]] = {}
    for shard in plan.shards:
        for part in shard.parts:
            found.setdefault(part.name, []).append((part.start, part.stop))
    return found


def test_lines_are_cut_by_bytes_without_gap_or_overlap(plan, corpus):
    size = (corpus / "a.jsonl").stat().st_size
    found = ranges(plan({"execution": {"shard_bytes": 700}}))["main/a.jsonl"]
    assert len(found) == -(-size // 700)
    assert found[0][0] == 0
    assert found[-1][1] == size
    assert [stop for _, stop in found[:-1]] == [start for start, _ in found[1:]]
    assert all(0 < stop - start <= 700 for start, stop in found)


def test_small_files_share_a_shard_and_sources_do_not(plan, tmp_path):
    root = tree(tmp_path / "in", *[f"{i}.jsonl" for i in range(10)])
    spec = {"sources": [{"name": n, "uris": [f"{root}/*.jsonl"]} for n in ("one", "two")]}
    found = plan({**spec, "execution": {"shard_bytes": 3 * len(LINE)}})
    assert [(shard.source, len(shard.parts)) for shard in found.shards] == [
        (0, 3), (0, 3), (0, 3), (0, 1), (1, 3), (1, 3), (1, 3), (1, 1),
    ]  # fmt: skip
    assert [shard.index for shard in found.shards] == list(range(8))


def test_parquet_is_cut_by_row_groups(plan, tmp_path):
    table = pa.table({"text": [f"row {i} {i * i}" for i in range(1000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    found = plan({**source(tmp_path / "a.parquet"), "execution": {"shard_bytes": 4000}})
    groups = ranges(found)["main/a.parquet"]
    assert len(found.shards) > 2
    assert groups[0][0] == 0
    assert groups[-1][1] == 10
    assert [stop for _, stop in groups[:-1]] == [start for start, _ in groups[1:]]
    assert ranges(plan(source(tmp_path / "a.parquet"))) == {"main/a.parquet": [(None, None)]}


def test_a_damaged_parquet_footer_is_named_at_once(plan, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(5000))
    with pytest.raises(DataError, match=rf"{tmp_path}/a\.parquet: cannot be read as parquet"):
        plan({**source(tmp_path / "a.parquet"), "execution": {"shard_bytes": 100}})


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.txt"])
def test_what_cannot_be_cut_stays_whole(plan, tmp_path, name):
    content = LINE.encode() * 2000
    pack = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}.get(name.rsplit(".", 1)[1], lambda c: c)
    (tmp_path / name).write_bytes(pack(content))
    found = plan({**source(tmp_path / name), "execution": {"shard_bytes": 10}})
    assert ranges(found) == {f"main/{name}": [(None, None)]}


# --- plan.json --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard_bytes", [None, 500])
def test_plan_json_round_trip(plan, settle, tmp_path, shard_bytes):
    own = {"pretokenizer": {"regex": "\\w+|'\"\u2028|\\W", "digits": "r2l"}, "normalizer": "nfc"}
    kinds = [
        {"name": "tok", "vocab_size": 330, "special_tokens": ["<|endoftext|>"]},
        {"name": "own", "vocab_size": 300, **own},
    ]
    changes = {"execution": {"shard_bytes": shard_bytes}, "tokenizers": kinds}
    made = plan(changes)
    stored = settle(changes)
    read = read_plan(str(tmp_path / "out"))
    assert made == stored == read
    assert to_json(made) == to_json(read) == (tmp_path / "out" / "plan.json").read_bytes()
    assert len(read.passes) == 2
    assert len(read.shards) > 1 or shard_bytes is None


def test_settling_again_changes_nothing(settle, tmp_path):
    settle()
    before = (tmp_path / "out" / "plan.json").stat()
    settle()
    after = (tmp_path / "out" / "plan.json").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert os.listdir(tmp_path / "out") == ["plan.json"]


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"[]", lambda c: b'{"a": 1}'])
def test_a_damaged_plan_is_named(settle, tmp_path, damage):
    settle()
    path = tmp_path / "out" / "plan.json"
    path.write_bytes(damage(path.read_bytes()))
    for read in (settle, lambda: read_plan(str(tmp_path / "out"))):
        with pytest.raises(ArtifactError, match=rf"{path}: damaged: .*delete the output directory"):
            read()


def test_no_plan(tmp_path):
    with pytest.raises(ArtifactError, match=rf"{tmp_path}/plan\.json: not found"):
        read_plan(str(tmp_path))


# --- whose directory is it? -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"holdout": {"seed": 2}}, r"its spec differs in holdout\.seed \(1 there, 2 here\)"),
        ({"name": "other"}, r'its spec differs in name \("small" there, "other" here\)'),
        ({"pack": None}, r"its spec differs in pack \(\{.*\} there, null here\)"),
        ({"pack": {"append": None}}, r'pack\.append \("<\|endoftext\|>" there, null here\)'),
        ({"filters": [{"name": "length"}]}, r"filters \(\[\] there, \[\{.*\}\] here\)"),
        ({"errors": "skip"}, r'errors \("stop" there, "skip" here\)'),
        (
            {"tokenizers": [{"name": "tok", "vocab_size": 331, "special_tokens": ["<|endoftext|>"]}]},
            r"tokenizers\[0\]\.vocab_size \(330 there, 331 here\)",
        ),
    ],
)
def test_another_spec_is_refused_by_field(settle, tmp_path, changes, message):
    settle()
    with pytest.raises(SpecError, match=rf"output is {tmp_path}/out, which belongs to another job: .*{message}"):
        settle(changes)


def test_another_input_is_refused_by_name(settle, corpus, jsonl):
    settle()
    (corpus / "c.jsonl").write_text(LINE)
    with pytest.raises(SpecError, match=r"belongs to another job: the input c\.jsonl is new"):
        settle()
    (corpus / "c.jsonl").unlink()
    settle()
    content, times = (corpus / "b.jsonl").read_bytes(), (corpus / "b.jsonl").stat()
    (corpus / "b.jsonl").write_bytes(content + LINE.encode())
    with pytest.raises(SpecError, match=r"the input b\.jsonl has changed since the plan was made"):
        settle()
    (corpus / "b.jsonl").write_bytes(content.replace(b"the", b"thy"))
    with pytest.raises(SpecError, match=r"the input b\.jsonl has changed"):
        settle()
    (corpus / "b.jsonl").unlink()
    with pytest.raises(SpecError, match=r"the input b\.jsonl is gone"):
        settle()
    (corpus / "b.jsonl").write_bytes(content)
    os.utime(corpus / "b.jsonl", ns=(times.st_atime_ns, times.st_mtime_ns))
    settle()


def test_a_changed_file_to_compare_with_is_refused(settle, tmp_path):
    content = Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str()
    (tmp_path / "t.json").write_text(content)
    changes = {"evaluate": {"compare": [str(tmp_path / "t.json")]}}
    settle(changes)
    (tmp_path / "t.json").write_text(content + " ")
    with pytest.raises(SpecError, match=r"a tokenizer in evaluate\.compare has changed"):
        settle(changes)
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ArtifactError, match=rf"{tmp_path}/t\.json: not a tokenizer\.json"):
        settle(changes)
    (tmp_path / "t.json").unlink()
    with pytest.raises(ArtifactError, match=rf"{tmp_path}/t\.json: not found"):
        settle(changes)


def test_a_directory_with_foreign_files_is_refused_and_left_alone(settle, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(SpecError, match=rf"output is {tmp_path}/out, .*holds 'thesis\.tex'; name an empty or new directory"):
        settle()
    assert os.listdir(tmp_path / "out") == ["thesis.tex"]


def test_an_empty_directory_is_welcome(settle, tmp_path):
    (tmp_path / "out").mkdir()
    assert settle() == read_plan(str(tmp_path / "out"))


def test_an_output_that_is_a_file_is_refused(settle, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises((SpecError, storage.StorageError), match=rf"{tmp_path}/out"):
        settle()
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize(
    "execution", [{"address": "auto"}, {"max_in_flight": 3, "retries": 9}, {"shard_bytes": 321}, {"shard_bytes": 10**9}]
)
def test_another_execution_is_not_refused_and_the_stored_shards_stay(settle, execution):
    first = settle({"execution": {"shard_bytes": 900}})
    again = settle({"execution": execution})
    assert again == first


@pytest.mark.parametrize("execution", [{"address": "auto"}, {"max_in_flight": 3}, {"retries": 0}])
def test_execution_changes_nothing_in_the_plan(plan, execution):
    assert to_json(plan({"execution": execution})) == to_json(plan())


def test_shard_bytes_changes_the_shards_and_not_the_fingerprint(plan):
    one, other = plan({"execution": {"shard_bytes": 500}}), plan()
    assert one.fingerprint == other.fingerprint
    assert len(one.shards) > len(other.shards) == 1
    fields = [json.loads(to_json(p)) for p in (one, other)]
    for found in fields:
        del found["shards"], found["sha256"]
    assert fields[0] == fields[1]


def test_tokenizers_that_cut_alike_share_a_counting_pass(plan):
    kinds = [
        {"pretokenizer": {"preset": "gpt4"}},
        {"pretokenizer": {"preset": "llama3"}},
        {"pretokenizer": {"preset": "qwen2"}},
        {"pretokenizer": {"preset": "gpt4"}, "digits": "single"},
        {"pretokenizer": {"preset": "gpt4"}, "normalizer": "nfc"},
        {"pretokenizer": {"preset": "gpt4"}, "min_count": 5, "special_tokens": ["x"]},
    ]
    found = plan({"pack": None, "tokenizers": [{"name": f"t{i}", "vocab_size": 300, **k} for i, k in enumerate(kinds)]})
    assert len(found.passes) == 3
    assert len({p.name for p in found.passes}) == 3

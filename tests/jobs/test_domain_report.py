"""The report on domains, from a spec to the page: what it measures, what it checks, what goes wrong."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline import storage
from pipeline.errors import DataError, PipelineError, SpecError
from pipeline.jobs.domain_report import describe_domains
from pipeline.jobs.finished import iter_tokenizers
from pipeline.jobs.load import parse_spec
from pipeline.jobs.plan import make_plan, read_plan, settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import make_job, run_job
from pipeline.jobs.tasks import read_receipts
from pipeline.spec import EvaluateSpec
from pipeline.stages.domains import measure_digits
from pipeline.stages.noise import Agreement
from pipeline.stages.parallel import ParallelColumns, ParallelRow, read_parallel
from pipeline.tokenizer import Tokenizer
from tests.corpus import documents, write_jsonl

SIZES = (280, 320, 380, 450)
ROWS = [
    {"align": group, "lang": language, "text": f"{text} {group}"}
    for group in range(6)
    for language, text in (
        ("eng", "the mill and the wheel ground the grain"),
        ("tur", "değirmen öğütmek değirmen öğütmek taşı"),
        ("rus", "мельница русский мельница русский"),
    )
]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row | {"align": str(row["align"])} for row in rows]), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    elif path.suffix == ".zst":
        path.write_bytes(zstandard.ZstdCompressor().compress(content))
    else:
        path.write_bytes(content)
    return str(path)


@pytest.fixture
def fields(tmp_path: Path) -> dict[str, Any]:
    """A ladder of four, one that differs, and all four parts of the evaluation."""
    write_jsonl(tmp_path / "text/a.jsonl", documents(120, seed=5))
    write_jsonl(tmp_path / "more/b.jsonl", documents(60, seed=6), 500)
    (tmp_path / "terms.txt").write_text("# terms of the mill\nthe mill\ngrain\ngrain\n\n  değirmen \nxylophone\n")
    return {
        "name": "domains",
        "output": str(tmp_path / "out"),
        "sources": [
            {"name": "one", "uris": [f"{tmp_path}/text/*.jsonl"], "id_column": "id"},
            {"name": "two", "uris": [f"{tmp_path}/more/*.jsonl"], "id_column": "id"},
        ],
        "holdout": {"fraction": 0.3, "seed": 2},
        "tokenizers": [
            *({"name": f"bpe-{size}", "vocab_size": size} for size in reversed(SIZES)),
            {"name": "fewest", "vocab_size": 320, "encoder": "fewest", "digits": "single"},
        ],
        "evaluate": {
            "terms": f"{tmp_path}/terms.txt",
            "parallel": {"uris": write_rows(tmp_path / "rows.jsonl", ROWS), "reference": "eng"},
            "noise": {"rate": 0.1, "seed": 7},
        },
        "execution": {"address": "local", "retries": 0},
    }


def run(fields: dict[str, Any]) -> dict[str, Any]:
    run_job(parse_spec(fields), Progress(io.StringIO()))
    report: dict[str, Any] = json.loads(Path(fields["output"], "report/report.json").read_text())
    return report


def load(fields: dict[str, Any], name: str) -> Any:
    return Tokenizer.load(Path(fields["output"], "tokenizers", name))


def test_all_four_parts(fields: dict[str, Any], tmp_path: Path) -> None:
    report = run(fields)
    domains = report["domains"]
    names = [*(f"bpe-{size}" for size in reversed(SIZES)), "fewest"]
    assert list(domains) == ["digits", "terms", "parallel", "sizes", "noise"]

    assert list(domains["digits"]) == names
    assert domains["digits"]["fewest"]["single"] == 1.0
    assert domains["digits"] == {name: measure_digits(load(fields, name)) for name in names}

    assert list(domains["terms"]) == [f"{tmp_path}/terms.txt"]
    rows = domains["terms"][f"{tmp_path}/terms.txt"]
    assert list(rows) == names
    terms = ["the mill", "grain", "değirmen", "xylophone"]
    for name, row in rows.items():
        tokenizer = load(fields, name)
        counts = {term: len(tokenizer.encode(" " + term)) for term in terms}
        assert row["terms"] == 4
        assert row["behind_blank"]["tokens"] == sum(counts.values())
        assert row["at_start"]["tokens"] == sum(len(tokenizer.encode(term)) for term in terms)
        assert row["worst"] == [list(item) for item in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]

    parallel = domains["parallel"]
    assert parallel["reference"] == "eng"
    for name, row in parallel["tokenizers"].items():
        tokenizer = load(fields, name)
        tokens = {
            language: sum(len(tokenizer.encode(row["text"])) for row in ROWS if row["lang"] == language)
            for language in ("eng", "rus", "tur")
        }
        assert row["languages"] == {
            language: {
                "groups": 6, "tokens": count, "reference_tokens": tokens["eng"], "premium": round(count / tokens["eng"], 6),
            }
            for language, count in tokens.items()
        }  # fmt: skip
        paid = [tokens[language] / tokens["eng"] for language in ("rus", "tur")]
        assert row["spread"]["mean"] == pytest.approx(sum(paid) / 2, abs=1e-5)
        assert row["spread"]["standard_deviation"] == pytest.approx(abs(paid[0] - paid[1]) / 2, abs=1e-5)

    (ladder,) = domains["sizes"]
    assert ladder["tokenizers"] == [f"bpe-{size}" for size in SIZES]
    assert ladder["vocab_sizes"] == list(SIZES)
    assert ladder["middle"] == "bpe-380"
    wanted = parallel["tokenizers"]["bpe-380"]["languages"]["eng"]["tokens"]
    assert {row["target_tokens"] for row in ladder["languages"].values()} == {wanted}
    for row in ladder["languages"].values():
        if row["vocab_size"] is not None:
            reached = row["a"] * row["vocab_size"] ** -row["b"] + row["c"]
            assert reached == pytest.approx(wanted, rel=0.02)
            assert row["extrapolated"] == (not SIZES[0] <= row["vocab_size"] <= SIZES[-1])

    noise = domains["noise"]
    assert (noise["rate"], noise["seed"], noise["sample_bytes"]) == (0.1, 7, 4_000_000)
    for name in names:
        one, two, both = (noise["tokenizers"][name][key] for key in ("one", "two", "all sources"))
        assert (
            both["documents"]
            == one["documents"] + two["documents"]
            == report["evaluation"][name]["all sources"]["documents"]
        )
        assert both["hits"] == one["hits"] + two["hits"]
        assert both["tokens"] == report["evaluation"][name]["all sources"]["tokens"]
        assert 0.3 < both["boundary_f1"] < 1
        assert 0.05 < both["changed_fraction"] < 0.1
        assert both["token_growth"] > 1
    page = Path(fields["output"], "report/report.html").read_text()
    for part in ("Numbers", "Terms of ", "The same text in other languages", "Sizes: bpe-280, ", "Misread text"):
        assert f"<h3>{part}" in page
    assert "<code>xylophone</code>" in page


def test_the_figures_do_not_depend_on_the_shards(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["tokenizers"] = fields["tokenizers"][:1]
    fields["evaluate"]["noise"]["sample_bytes"] = 15_000
    first = run(fields)
    fields |= {"output": str(tmp_path / "other"), "execution": {"address": "local", "shard_bytes": 5_000}}
    assert run(fields)["domains"] == first["domains"]
    sampled = first["domains"]["noise"]["tokenizers"]["bpe-450"]["all sources"]
    everything = first["evaluation"]["bpe-450"]["all sources"]
    assert 0 < sampled["documents"] < everything["documents"]
    assert 5_000 < sampled["chars"] < 25_000


def test_without_any_part_there_are_still_numbers(fields: dict[str, Any]) -> None:
    del fields["evaluate"]
    fields["tokenizers"] = fields["tokenizers"][-1:]
    fields["holdout"] = {"fraction": 0}
    domains = run(fields)["domains"]
    assert list(domains["digits"]) == ["fewest"]
    assert domains | {"digits": {}} == {"digits": {}, "terms": {}, "parallel": {}, "sizes": [], "noise": {}}
    page = Path(fields["output"], "report/report.html").read_text()
    assert "<h3>Numbers" in page
    assert "<h3>Terms" not in page
    assert "Misread" not in page


def test_tokenizers_to_compare_with_are_measured_too(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["tokenizers"] = fields["tokenizers"][:1]
    run(fields)
    other = f"{fields['output']}/tokenizers/bpe-450/tokenizer.json"
    fields["output"] = str(tmp_path / "second")
    fields["evaluate"]["compare"] = [other]
    domains = run(fields)["domains"]
    for rows in (
        domains["digits"],
        *domains["terms"].values(),
        domains["parallel"]["tokenizers"],
        domains["noise"]["tokenizers"],
    ):
        assert list(rows) == ["bpe-450", other]
        assert rows["bpe-450"] == rows[other]
    assert domains["sizes"] == []  # no ladder: one size, and what is compared is no part of any


def test_tokenizers_have_the_encoder_of_their_spec(fields: dict[str, Any]) -> None:
    run(fields)
    spec = parse_spec(fields)
    plan = read_plan(fields["output"])
    receipts = {"train": read_receipts(fields["output"], "train")}
    found = dict(iter_tokenizers(make_job(spec, plan), plan, receipts))
    assert {name: tokenizer.encoder for name, tokenizer in found.items() if isinstance(tokenizer, Tokenizer)} == {
        **{f"bpe-{size}": "merge" for size in SIZES}, "fewest": "fewest",
    }  # fmt: skip


def test_a_target_of_ones_own(fields: dict[str, Any]) -> None:
    fields["evaluate"] = {"parallel": fields["evaluate"]["parallel"] | {"target": 1.5}}
    (ladder,) = run(fields)["domains"]["sizes"]
    wanted = ladder["languages"]["eng"]["target_tokens"]
    assert ladder["target"] == 1.5
    assert ladder["languages"]["rus"]["target_tokens"] == wanted
    assert ladder["languages"]["eng"]["vocab_size"] < 380


def test_a_tokenizer_of_the_size_that_was_planned_has_the_tokens_that_were_wanted(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    texts = {"eng": documents(30, seed=8), "all": documents(30, seed=9)}
    rows = [{"align": n, "lang": language, "text": text} for language in texts for n, text in enumerate(texts[language])]
    fields["evaluate"] = {"parallel": {"uris": [write_rows(tmp_path / "many.jsonl", rows)], "reference": "eng"}}
    found = run(fields)["domains"]["parallel"]["tokenizers"]
    small, large = (found[f"bpe-{size}"]["languages"]["all"]["tokens"] for size in (320, 380))
    fields["evaluate"]["parallel"]["target"] = (small + large) / 2 / found["bpe-380"]["languages"]["eng"]["tokens"]
    fields["output"] += "-planned"
    planned = run(fields)["domains"]["sizes"][0]["languages"]["all"]
    assert 320 < planned["vocab_size"] < 380
    assert not planned["extrapolated"]
    fields["tokenizers"] = [{"name": "planned", "vocab_size": planned["vocab_size"]}]
    fields["output"] += "-made"
    tokens = run(fields)["domains"]["parallel"]["tokenizers"]["planned"]["languages"]["all"]["tokens"]
    assert large < tokens < small
    assert tokens == pytest.approx(planned["target_tokens"], rel=0.12)  # 46 words fall in jumps; real text comes within 1 %


def test_groups_that_only_one_has_are_left_out(fields: dict[str, Any], tmp_path: Path) -> None:
    rows = [row for row in ROWS if row["lang"] != "tur" or row["align"] < 2] + [
        {"align": 99, "lang": "deu", "text": "Mühle"}
    ]
    fields["tokenizers"] = fields["tokenizers"][:1]
    fields["evaluate"] = {"parallel": {"uris": [write_rows(tmp_path / "some.jsonl", rows)], "reference": "eng"}}
    found = run(fields)["domains"]["parallel"]["tokenizers"]["bpe-450"]["languages"]
    assert {language: row["groups"] for language, row in found.items()} == {"eng": 6, "rus": 6, "tur": 2}
    assert found["tur"]["reference_tokens"] * 3 == found["eng"]["tokens"]


# --- reading parallel text --------------------------------------------------------------------------------------------

COLUMNS = ParallelColumns(group="align", language="lang", text="text")
EXPECTED = [ParallelRow(str(row["align"]), row["lang"], row["text"]) for row in ROWS]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_formats(name: str, tmp_path: Path) -> None:
    uri = write_rows(tmp_path / name, ROWS)
    with storage.open_input(uri) as file:
        found = read_parallel(file, uri, "parquet" if name.endswith("parquet") else "jsonl", COLUMNS)
        assert [row for rows in found for row in rows] == EXPECTED


def test_blank_lines_marks_and_other_names(tmp_path: Path) -> None:
    lines = [b"\xef\xbb\xbf" + b'{"g": "x", "l": "en", "t": "a", "more": [1]}', b"", b'{"l": "en", "g": 2, "t": ""}', b"  "]
    (tmp_path / "a.jsonl").write_bytes(b"\r\n".join(lines))
    with storage.open_input(str(tmp_path / "a.jsonl")) as file:
        rows = list(read_parallel(file, "a.jsonl", "jsonl", ParallelColumns(group="g", language="l", text="t")))
    assert [row for some in rows for row in some] == [ParallelRow("x", "en", "a"), ParallelRow("2", "en", "")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"align": 1, "lang": "en"}', r"the line at byte 40: no 'text'; it has 'align', 'lang'\. Set group_column"),
        ('{"align": 1, "lang": "en", "text": null}', r"the line at byte 40: 'text' is None; text is expected"),
        ('{"align": true, "lang": "en", "text": "a"}', r"'align' is True; text is expected"),
        ('{"align": 1.5, "lang": "en", "text": "a"}', r"'align' is 1.5; text is expected"),
        ('{"align": 1, "lang": 3, "text": "a"}', r"'lang' is 3; text is expected"),
        ('{"align": 1, "lang": "en", "text": "\\ud800"}', r"'text' holds half of a surrogate pair"),
        ("[1]", r"a JSON object is expected, not list"),
        ('{"align": ', r"the line at byte 40: not JSON in UTF-8: "),
        ('{"align": 1, "lang": "en", "text": "\udcff"}', r"not JSON in UTF-8: .*can't decode byte"),
    ],
)
def test_bad_lines(line: str, message: str, tmp_path: Path) -> None:
    content = '{"align": 1, "lang": "eng", "text": ""}\n' + line + "\n"
    (tmp_path / "a.jsonl").write_bytes(content.encode(errors="surrogateescape"))
    with storage.open_input(str(tmp_path / "a.jsonl")) as file, pytest.raises(DataError, match=rf"^a\.jsonl: .*{message}"):
        list(read_parallel(file, "a.jsonl", "jsonl", COLUMNS))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"align": ["1"], "text": ["a"]}, r"no column 'lang'; its columns are align, text\. Set group_column"),
        ({"align": ["1", "2"], "lang": ["en", "en"], "text": ["a", None]}, r"row 1: 'text' is null; text is expected"),
        ({"align": ["1"], "lang": ["en"], "text": [["a"]]}, r"column 'text' is list<.*>; text is expected"),
    ],
)
def test_bad_tables(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with storage.open_input(str(tmp_path / "a.parquet")) as file, pytest.raises(DataError, match=message):
        list(read_parallel(file, "a.parquet", "parquet", COLUMNS))


def test_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no table")
    with (
        storage.open_input(str(tmp_path / "a.parquet")) as file,
        pytest.raises(DataError, match="cannot be read as parquet"),
    ):
        list(read_parallel(file, "a.parquet", "parquet", COLUMNS))


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"terms": "nowhere.txt"}, r"evaluate\.terms: nowhere.txt cannot be read: "),
        ({"terms": ["{}/empty.txt"]}, r"evaluate\.terms: .*/empty.txt holds no term; one a line is expected"),
        ({"terms": ["{}/latin.txt"]}, r"latin.txt, line 2: byte 1 is not UTF-8; save the file as UTF-8"),
        ({"terms": ["a", "b", "a"]}, r"evaluate\.terms: the file 'a' is used 2 times"),
        ({"terms": 3}, r"evaluate\.terms is 3; a list is expected"),
        ({"parallel": {"uris": [], "reference": "en"}}, r"evaluate\.parallel\.uris is empty"),
        ({"parallel": {"uris": ["x"], "reference": ""}}, r"evaluate\.parallel\.reference is empty"),
        ({"parallel": {"uris": ["x"]}}, r"evaluate\.parallel\.reference is missing"),
        (
            {"parallel": {"uris": ["x"], "reference": "e", "target": 0}},
            r"evaluate\.parallel\.target is 0(\.0)?; a number above",
        ),
        ({"parallel": {"uris": ["x"], "reference": "e", "txt": "a"}}, r"parallel\.txt is not a field .* text_column, uris"),
        (
            {"parallel": {"uris": ["nowhere/*.jsonl"], "reference": "e"}},
            r"evaluate\.parallel\.uris\[0\] is 'nowhere/\*\.jsonl', which matches no file",
        ),
        (
            {"parallel": {"uris": ["{}/empty.txt"], "reference": "e"}},
            r"empty.txt; jsonl, jsonl.gz, jsonl.zst and parquet can",
        ),
        (
            {"parallel": {"uris": ["{}/rows.jsonl"], "reference": "eng", "text_column": "t"}},
            r"rows.jsonl: .* no 't'; it has",
        ),
        (
            {"parallel": {"uris": ["{}/rows.jsonl"], "reference": "emg"}},
            r"evaluate\.parallel\.reference is 'emg', a language without a row; did you mean 'eng'\?",
        ),
        ({"parallel": {"uris": ["{}/none.jsonl"], "reference": "eng"}}, r"without a row; the files hold no rows"),
        ({"noise": {"rate": 1.5}}, r"evaluate\.noise\.rate is 1\.5; a share from 0 to 1 is allowed"),
        ({"noise": {"rate": -0.1}}, r"evaluate\.noise\.rate is -0\.1"),
        ({"noise": {"seed": -1}}, r"evaluate\.noise\.seed is -1; 0 to"),
        ({"noise": {"sample_bytes": 0}}, r"evaluate\.noise\.sample_bytes is 0; 1 or more is allowed"),
        ({"nosie": {}}, r"evaluate\.nosie is not a field of the spec; did you mean 'noise'"),
    ],
)
def test_bad_specs(evaluate: dict[str, Any], message: str, fields: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "latin.txt").write_bytes("one\nmühle\n".encode("latin-1"))
    filled = json.loads(json.dumps(evaluate).replace("{}/", f"{tmp_path}/"))
    with pytest.raises(PipelineError, match=message):
        make_plan(parse_spec(fields | {"evaluate": filled}))


CHANGES: dict[str, Callable[[Path], object]] = {
    "terms": lambda folder: (folder / "terms.txt").write_text("other\n"),
    "parallel": lambda folder: write_rows(folder / "rows.jsonl", ROWS[:-1]),
}


@pytest.mark.parametrize("part", CHANGES)
def test_a_file_that_changed_after_planning(part: str, fields: dict[str, Any], tmp_path: Path) -> None:
    fields["tokenizers"] = fields["tokenizers"][:1]
    spec = parse_spec(fields)
    plan = settle_plan(spec)
    assert set(plan.yardsticks) == {"terms", "parallel"}
    run(fields)
    CHANGES[part](tmp_path)
    with pytest.raises(SpecError, match=rf"another job: what evaluate\.{part} reads has changed since the plan was made"):
        settle_plan(spec)
    receipts = {step: read_receipts(fields["output"], step) for step in ("train", "evaluate")}
    with pytest.raises(
        DataError, match=rf"what evaluate\.{part} reads has changed since the plan .* put the old files back"
    ):
        describe_domains(make_job(spec, plan), plan, receipts)


def test_a_tokenizer_to_compare_with_that_changed(fields: dict[str, Any], tmp_path: Path) -> None:
    fields["tokenizers"] = fields["tokenizers"][:1]
    run(fields)
    other = tmp_path / "other.json"
    other.write_bytes(Path(fields["output"], "tokenizers/bpe-450/tokenizer.json").read_bytes())
    fields |= {"output": str(tmp_path / "second"), "evaluate": {"compare": [str(other)]}}
    run(fields)
    spec, plan = parse_spec(fields), read_plan(fields["output"])
    other.write_bytes(other.read_bytes() + b"\n")
    receipts = {step: read_receipts(fields["output"], step) for step in ("train", "evaluate")}
    with pytest.raises(DataError, match=r"other.json: has changed since the plan was made; put the old file back"):
        describe_domains(make_job(spec, plan), plan, receipts)


def test_paths_may_hold_variables(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    fields["evaluate"] = {"terms": "${DATA}/t.txt", "parallel": {"uris": "${DATA}/*.jsonl", "reference": "en"}}
    spec = parse_spec(fields)
    assert spec.evaluate.terms == ("/data/t.txt",)
    assert spec.evaluate.parallel is not None
    assert spec.evaluate.parallel.uris == ("/data/*.jsonl",)
    assert EvaluateSpec().noise is None
    assert Agreement().documents == 0

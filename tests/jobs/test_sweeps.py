"""One entry of ``tokenizers:`` for several: which are made, what they are called, and every mistake named."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SpecError
from pipeline.jobs.load import load_spec, parse_spec, to_dict
from pipeline.jobs.report import _MOST_BARS
from pipeline.jobs.submit import write_package
from pipeline.jobs.sweeps import MOST_CELLS, expand_sweeps
from pipeline.spec import JobSpec
from pipeline.tokenizer_spec import AnySpec, SuperBpeSpec

EOS = "<|endoftext|>"
BASE: dict[str, Any] = {"name": "job", "output": "out", "sources": [{"name": "web", "uris": ["a.jsonl"]}]}


def root_of(*entries: Any, **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(BASE), "tokenizers": list(entries), **fields}


def made_of(**fields: Any) -> tuple[AnySpec, ...]:
    """The tokenizers of one entry called ``t``, behind a plain one."""
    return parse_spec(root_of({"name": "plain", "vocab_size": 300}, {"name": "t", **fields})).tokenizers[1:]


def message_of(root: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(root)
    return str(caught.value)


# --- the ladder -------------------------------------------------------------------------------------------------------


def test_a_ladder_is_a_tokenizer_for_each_size() -> None:
    found = made_of(ladder=[8192, 300, 65536], min_count=3)
    assert [(one.name, one.vocab_size, one.min_count) for one in found] == [
        ("t-8192", 8192, 3), ("t-300", 300, 3), ("t-65536", 65536, 3),
    ]  # fmt: skip


def test_a_ladder_of_every_kind() -> None:
    found = made_of(kind="superbpe", ladder=[400, 500], transition=350)
    assert [(one.name, one.num_first) for one in found if isinstance(one, SuperBpeSpec)] == [("t-400", 350), ("t-500", 350)]
    assert [one.name for one in made_of(kind="morph", language="tr", ladder=[9000])] == ["t-9000"]


def test_what_a_ladder_makes_is_what_would_be_written_out() -> None:
    ladder = root_of({"name": "t", "ladder": [300, 400], "digits": "r2l"}, {"name": "z", "vocab_size": 500})
    plain = root_of(
        {"name": "t-300", "vocab_size": 300, "digits": "r2l"},
        {"name": "t-400", "vocab_size": 400, "digits": "r2l"},
        {"name": "z", "vocab_size": 500},
    )
    assert to_dict(parse_spec(ladder)) == to_dict(parse_spec(plain))


# --- the matrix -------------------------------------------------------------------------------------------------------


def test_a_matrix_is_a_tokenizer_for_each_cell_the_last_field_fastest() -> None:
    found = made_of(
        matrix={"vocab_size": [8192, 16384], "pretokenizer": ["gpt4o", "gpt2"], "min_count": [1, 2]}, digits="r2l"
    )
    expected = list(itertools.product([8192, 16384], ["gpt4o", "gpt2"], [1, 2]))
    assert [one.name for one in found] == ["t-" + "-".join(map(str, cell)) for cell in expected]
    assert [(one.vocab_size, one.pretokenizer.preset, one.min_count, one.digits) for one in found] == [  # type: ignore[union-attr]
        (*cell, "r2l") for cell in expected
    ]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True), min_size=1)
)
def test_any_matrix_against_the_product(matrix: dict[str, list[int]]) -> None:
    found, places = expand_sweeps({"tokenizers": [{"name": "x"}, {"name": "t", "matrix": matrix, "z": 1}]})
    cells = [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]
    names = [{"name": "-".join(["t", *(str(cell[field]) for field in matrix)])} for cell in cells]
    assert found["tokenizers"] == [
        {"name": "x"},
        *({**cell, **name, "z": 1} for cell, name in zip(cells, names, strict=True)),
    ]
    assert places == [0] + [1] * len(cells)


@pytest.mark.parametrize(
    ("field", "values", "texts"),
    [
        ("special_tokens", [[], ["<|a|>"]], ["special_tokens1", "special_tokens2"]),
        ("pretokenizer", ["gpt2", {"regex": "x+"}, {"preset": "gpt2"}], ["gpt2", "pretokenizer2", "pretokenizer3"]),
        ("initial_alphabet", ["bytes", "seen"], ["bytes", "seen"]),
        ("max_token_length", [None, 8], ["null", "8"]),
        (
            "morphemes",
            ["tr", "tables/fi", "${LANG}/fi", "a b", "日本"],
            ["tr", "morphemes2", "morphemes3", "a-b", "morphemes5"],
        ),
    ],
)
def test_what_values_are_called(field: str, values: list[Any], texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "/somewhere")
    assert [one.name for one in made_of(vocab_size=300, matrix={field: values})] == [f"t-{text}" for text in texts]


def test_names_of_numbers_and_truths() -> None:
    matrix = {"allow_smaller": [True, False], "probability": [0.4, 1e-05, 1]}
    names = [one.name for one in made_of(kind="superbpe", stage="random_whitespace", vocab_size=300, matrix=matrix)]
    assert names == [f"t-{a}-{b}" for a in ("true", "false") for b in ("0.4", "1e-05", "1")]
    found, _ = expand_sweeps({"tokenizers": [{"name": "t", "matrix": {"x": [1e20, 1e-20, -1]}}]})
    assert [one["name"] for one in found["tokenizers"]] == ["t-1e20", "t-1e-20", "t--1"]


def test_null_in_a_matrix_is_the_default() -> None:
    unset, given_ = made_of(vocab_size=300, max_token_length=None, matrix={"max_token_length": [None, 8]})
    assert (unset.max_token_length, given_.max_token_length) == (None, 8)


def test_a_kind_in_a_matrix_is_that_of_its_cells() -> None:
    found = made_of(vocab_size=300, matrix={"kind": ["superbpe"]}, transitions=[0.9, 1.0])
    assert [(one.name, one.kind) for one in found] == [("t-superbpe-t90", "superbpe"), ("t-superbpe-t100", "superbpe")]
    cells, _ = expand_sweeps({"tokenizers": [{"name": "t", "matrix": {"kind": ["bpe", "superbpe"]}, "transitions": [0.9]}]})
    assert [one["name"] for one in cells["tokenizers"]] == ["t-bpe", "t-superbpe-t90"]


def test_a_matrix_then_a_ladder_then_transitions() -> None:
    found = made_of(kind="superbpe", matrix={"recipe": ["paper", "recommended"]}, ladder=[600, 500], transitions=[0.6, 300])
    cells = list(itertools.product(["paper", "recommended"], [600, 500], [("60", 0.6), ("300", 300)]))
    assert [one.name for one in found] == [f"t-{recipe}-{size}-t{share}" for recipe, size, (share, _) in cells]
    assert [(one.recipe, one.vocab_size, one.transition) for one in found if isinstance(one, SuperBpeSpec)] == [
        (recipe, size, transition) for recipe, size, (_, transition) in cells
    ]


def test_ladders_and_transitions_inside_a_matrix() -> None:
    found = made_of(kind="superbpe", matrix={"ladder": [[400, 500], [600]], "transitions": [[0.9], [300, 350]]})
    assert [one.name for one in found] == [
        f"t-ladder{i}-transitions{j}-{size}-t{share}"
        for (i, sizes), (j, shares) in itertools.product([(1, (400, 500)), (2, (600,))], [(1, (90,)), (2, (300, 350))])
        for size in sizes
        for share in shares
    ]


def test_the_mapping_that_is_given_stays_as_it_is() -> None:
    root = root_of({"name": "t", "matrix": {"pretokenizer": ["gpt2", {"regex": "x"}]}, "ladder": [300]})
    root["pack"] = {"tokenizers": ["t"]}
    before = copy.deepcopy(root)
    parse_spec(root)
    expand_sweeps(root)
    assert root == before


def test_set_reaches_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(root_of({"name": "t", "ladder": [300, 400]})), encoding="utf-8")
    names = [
        one.name
        for one in load_spec(str(path), ["tokenizers.0.ladder.1=500", "tokenizers.0.matrix.digits=[r2l]"]).tokenizers
    ]
    assert names == ["t-r2l-300", "t-r2l-500"]


# --- packs ------------------------------------------------------------------------------------------------------------


def packed(root: dict[str, Any], *names: str) -> tuple[str, ...]:
    pack = parse_spec({**root, "pack": {"tokenizers": list(names)}}).pack
    assert pack is not None
    return pack.tokenizers


def test_packs_name_an_entry_or_what_it_made() -> None:
    root = root_of({"name": "plain", "vocab_size": 300}, {"name": "t", "ladder": [300, 400]}, {"name": "t", "ladder": [500]})
    assert packed(root, "t") == ("t-300", "t-400", "t-500")
    assert packed(root, "t-400", "plain") == ("t-400", "plain")
    found = message_of({**root, "pack": {"tokenizers": ["t", "t-400"]}})
    assert found == "pack.tokenizers: the name 't-400' is used 2 times; names must differ"


def test_the_name_of_a_tokenizer_is_that_one_alone() -> None:
    root = root_of({"name": "t", "ladder": [300]}, {"name": "t-300", "ladder": [300]}, {"name": "plain", "vocab_size": 300})
    assert packed(root, "t-300") == ("t-300",)
    assert packed(root_of({"name": "t", "ladder": [300]}, {"name": "t", "vocab_size": 300}), "t") == ("t",)


def test_packs_that_name_nothing_list_what_is_there() -> None:
    root = root_of({"name": "t", "ladder": [300, 400]})
    assert message_of({**root, "pack": {"tokenizers": ["zzz"]}}) == "pack.tokenizers names 'zzz'; allowed: t-300, t-400"
    assert message_of({**root, "pack": {"tokenizers": [5]}}) == "pack.tokenizers[0] is 5; a string is expected"
    assert message_of({**root, "pack": {"tokenizers": "t"}}) == "pack.tokenizers is 't'; a list is expected"


# --- mistakes ---------------------------------------------------------------------------------------------------------

MATRIX_SHAPE = "fields with lists of their values, such as {min_count: [1, 2]}, are expected"
LADDER_SHAPE = "a list of vocabulary sizes, such as [8192, 16384], is expected"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ladder": 300}, f".ladder is 300; {LADDER_SHAPE}"),
        ({"ladder": []}, f".ladder is []; {LADDER_SHAPE}"),
        ({"ladder": [300, "400"]}, ".ladder[1] is '400'; a whole number is expected"),
        ({"ladder": [300.0]}, ".ladder[0] is 300.0; a whole number is expected"),
        ({"ladder": [True]}, ".ladder[0] is True; a whole number is expected"),
        ({"ladder": [None]}, ".ladder[0] is None; a whole number is expected"),
        ({"ladder": [300, 400, 300]}, ".ladder holds 300 twice; values must differ"),
        ({"ladder": [300], "vocab_size": 300}, ".ladder is given beside vocab_size; one of the two is allowed"),
        (
            {"ladder": [300], "matrix": {"vocab_size": [300]}},
            ".ladder is given beside vocab_size; one of the two is allowed",
        ),
        ({"ladder": [5, 300]}, ".vocab_size is 5; a byte-level vocabulary needs at least 256"),
        ({"ladder": [300], "min_count": "many"}, ".min_count is 'many'; a whole number is expected"),
        ({"ladder": [300], "name": None}, ".name is missing"),
        ({"ladder": [300], "name": 7}, ".name is 7; a string is expected"),
        ({"ladder": [300], "name": "a/b"}, ".name is 'a/b-300'; up to 100 letters"),
        ({"ladder": [300, 400], "pretokenizer": {"regex": "("}}, ".pretokenizer.regex is '('"),
        (
            {"ladder": [300, 400], "kind": "superbpe", "transition": 350},
            ".transition is 350, 350 tokens; 256 (special tokens and",
        ),
        ({"laddr": [300], "vocab_size": 300}, ".laddr is not a field of the spec; did you mean 'ladder'?"),
        ({"matrx": {}, "vocab_size": 300}, ".matrx is not a field of the spec; did you mean 'matrix'?"),
        ({"matrix": [300]}, f".matrix is [300]; {MATRIX_SHAPE}"),
        ({"matrix": {}}, f".matrix is {{}}; {MATRIX_SHAPE}"),
        ({"matrix": {"vocab_size": []}}, ".matrix.vocab_size is []; a list of at least one value is expected"),
        ({"matrix": {"vocab_size": 300}}, ".matrix.vocab_size is 300; a list of at least one value is expected"),
        ({"matrix": {"vocab_size": [300, 300]}}, ".matrix.vocab_size holds 300 twice; values must differ"),
        ({"matrix": {"pretokenizer": [{"regex": "x"}, {"regex": "x"}]}}, ".matrix.pretokenizer holds {'regex': 'x'} twice"),
        (
            {"matrix": {"vocab_size": [300]}, "vocab_size": 300},
            ".vocab_size is given beside matrix.vocab_size; one of the two",
        ),
        ({"matrix": {"ladder": [[300]]}, "ladder": [300]}, ".ladder is given beside matrix.ladder; one of the two"),
        ({"matrix": {"ladder": [300]}}, f".ladder is 300; {LADDER_SHAPE}"),
        ({"matrix": {"name": ["a"]}}, ".matrix.name is given; a matrix is of other fields, and makes the names itself"),
        ({"matrix": {"matrix": [{}]}}, ".matrix.matrix is given; a matrix is of other fields"),
        ({"matrix": {"vocab_size": [300]}, "name": None}, ".name is missing"),
        ({"matrix": {"kind": ["bpe", "bp"]}, "vocab_size": 300}, ".kind is 'bp'; did you mean 'bpe'?"),
        ({"kind": ["bpe", "superbpe"], "vocab_size": 300}, ".kind is ['bpe', 'superbpe']; "),
        (
            {"matrix": {"vocabsize": [300]}, "ladder": [300]},
            ".vocabsize is not a field of the spec; did you mean 'vocab_size'?",
        ),
        ({"matrix": {"encoder": ["greedy", "greed"]}, "ladder": [300]}, ".encoder is 'greed'; did you mean 'greedy'?"),
        ({"matrix": {"pretokenizer": ["gpt2", "gpt-2"]}, "ladder": [300]}, ".pretokenizer.preset is 'gpt-2'; did you mean"),
        ({"matrix": {"min_count": [1, 2]}}, ".vocab_size is missing"),
        (
            {"matrix": {"morphemes": ["a b", "a-b"]}, "ladder": [300]},
            ": the name 't-a-b-300' is used 2 times; names must differ",
        ),
    ],
)
def test_mistakes_name_the_entry_of_the_file(fields: dict[str, Any], message: str) -> None:
    """The wrong entry stands behind one that is made into several, so that its number is not that of its tokenizers."""
    found = message_of(root_of({"name": "first", "ladder": [300, 400, 500]}, {"name": "t", **fields}))
    assert found.startswith(("tokenizers: " if message.startswith(":") else "tokenizers[1]") + message.removeprefix(": "))
    assert "\n" not in found


def test_names_of_two_sweeps_that_meet() -> None:
    found = message_of(root_of({"name": "t", "ladder": [300]}, {"name": "t", "matrix": {"vocab_size": [300]}}))
    assert found == "tokenizers: the name 't-300' is used 2 times; names must differ"


# --- very many --------------------------------------------------------------------------------------------------------


def many(number: int) -> dict[str, Any]:
    return root_of(
        {"name": "plain", "vocab_size": 300}, {"name": "t", "vocab_size": 300, "matrix": {"min_count": list(range(number))}}
    )


def test_as_many_as_are_allowed_besides_what_is_written_out() -> None:
    assert len(parse_spec(many(MOST_CELLS)).tokenizers) == MOST_CELLS + 1


@pytest.mark.parametrize(
    ("entries", "total", "each"),
    [
        ([{"name": "t", "vocab_size": 300, "matrix": {"min_count": list(range(257))}}], "257", "tokenizers[0]: 257"),
        ([{"name": a, "ladder": list(range(300, 500))} for a in "ab"], "400", "tokenizers[0]: 200, tokenizers[1]: 200"),
        (
            [{"name": "p", "vocab_size": 300}, {"name": "t", "matrix": {field: list(range(10**3)) for field in "abcdefg"}}],
            f"{10**21:,}", f"tokenizers[1]: {10**21:,}",
        ),
        (
            [
                {"name": "t", "kind": "superbpe", "transitions": [0.5] * 50}
                | {"matrix": {"ladder": [[300, 400], [500]], "seed": [1, 2]}}
            ],
            "300", "tokenizers[0]: 300",
        ),
    ],
)  # fmt: skip
def test_more_are_refused_before_they_are_made(entries: list[Any], total: str, each: str) -> None:
    assert message_of(root_of(*entries)) == (
        f"matrix, ladder and transitions make {total} tokenizers ({each}); more than 256 are made only with --yes: give it, "
        "or fewer values"
    )


def test_ten_thousand_if_so_said(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(many(10_000)), encoding="utf-8")
    with pytest.raises(SpecError, match="make 10,000 tokenizers"):
        load_spec(str(path))
    spec = load_spec(str(path), allow_many=True)
    assert [one.name for one in spec.tokenizers] == ["plain", *(f"t-{count}" for count in range(10_000))]


def test_what_is_sent_to_a_cluster_is_written_out_and_asks_nobody(tmp_path: Path) -> None:
    spec = parse_spec(many(300) | {"output": "/out", "pack": {"tokenizers": ["t"]}}, allow_many=True)
    write_package(spec, tmp_path)
    there: JobSpec = load_spec(str(tmp_path / "spec.json"))
    assert (there.tokenizers, there.pack) == (spec.tokenizers, spec.pack)


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_of_many(run: Callable[..., SimpleNamespace]) -> None:
    """What was made of an entry is trained, packed and reported like any other; no plot has room for so many bars."""
    sizes = range(264, 264 + _MOST_BARS)
    entries = [{"name": "one", "vocab_size": 300, "special_tokens": [EOS]}, {"name": "t", "ladder": list(sizes)}]
    few = [{"name": "p", "special_tokens": [EOS], "matrix": {"vocab_size": [300, 280]}}]
    result = run({"tokenizers": entries + few, "pack": {"tokenizers": ["p"]}})
    names = ["one", *(f"t-{size}" for size in sizes), "p-300", "p-280"]
    report = json.loads((result.out / "report/report.json").read_bytes())
    assert list(report["evaluation"]) == names
    assert [report["tokenizers"][name]["vocab_size"] for name in names] == [300, *sizes, 300, 280]
    assert sorted(path.name for path in (result.out / "packed").iterdir()) == ["p-280", "p-300"]
    one, same = (result.out / "tokenizers" / name / "tokenizer.json" for name in ("one", "p-300"))
    assert one.read_bytes() == same.read_bytes()
    page = (result.out / "report/report.html").read_text(encoding="utf-8")
    assert "<svg" not in page
    assert all(f"t-{size}" in page for size in sizes)

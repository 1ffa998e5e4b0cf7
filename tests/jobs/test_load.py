"""From YAML and --set to a spec: every mistake is named with its field, what was found, and what is allowed."""

import copy
import re
import sysconfig

import pytest

from pipeline.errors import SpecError
from pipeline.jobs.load import load_spec, parse_spec, to_dict
from pipeline.pretokenizer import DIGITS

BASE = {
    "name": "job",
    "output": "out",
    "sources": [{"name": "web", "uris": ["a.jsonl"]}, {"name": "books", "uris": ["b.jsonl"]}],
    "filters": [{"name": "length", "min_bytes": 1}],
    "holdout": {"fraction": 0.1, "seed": 0},
    "evaluate": {"compare": []},
    "tokenizers": [
        {"name": "one", "vocab_size": 300, "special_tokens": ["<|e|>"], "pretokenizer": {"preset": "gpt2"}},
        {"name": "two", "vocab_size": 400, "special_tokens": ["<|e|>"]},
    ],
    "pack": {"tokenizers": ["one"], "sequence_length": 16, "append": "<|e|>", "shuffle": {"seed": 0}},
    "execution": {"address": "local"},
}


def changed(path: str, value: object) -> dict:
    """``BASE`` with one field set."""
    root = copy.deepcopy(BASE)
    *keys, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
    node = root
    for key in keys:
        node = node[key]
    node[last] = value
    return root


def message_of(root: dict) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(root)
    return str(caught.value)


def test_the_base_is_right_and_has_its_defaults():
    spec = parse_spec(copy.deepcopy(BASE))
    assert spec.sources[1].text_column == "text"
    assert spec.sources[0].weight == 1.0
    assert spec.tokenizers[1].pretokenizer.preset == "gpt4o"
    assert spec.pack.overflow == "split"
    assert spec.pack.strategy == "best_fit"
    assert spec.errors == "stop"
    assert spec.execution.retries == 3


def test_parsing_leaves_the_mapping_as_it_was():
    root = changed("tokenizers.0.pretokenizer", "gpt2")
    before = copy.deepcopy(root)
    parse_spec(root)
    assert root == before


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("tokenizer", "did you mean 'tokenizers'?"),
        ("zzz", "allowed: errors, evaluate, execution, filters, holdout, name, output, pack, sources, tokenizers"),
        ("sources.1.text_colum", "did you mean 'text_column'?"),
        ("filters.0.min_byte", "did you mean 'min_bytes'?"),
        ("holdout.fractoin", "did you mean 'fraction'?"),
        ("tokenizers.1.vocabsize", "did you mean 'vocab_size'?"),
        ("tokenizers.0.pretokenizer.regexp", "did you mean 'regex'?"),
        ("evaluate.compares", "did you mean 'compare'?"),
        ("pack.seq_length", "did you mean 'sequence_length'?"),
        ("pack.shuffle.sed", "did you mean 'seed'?"),
        ("execution.adress", "did you mean 'address'?"),
    ],
)
def test_an_unknown_key_at_each_level(path, hint):
    shown = re.sub(r"\.(\d+)", r"[\1]", path)
    assert message_of(changed(path, 1)) == f"{shown} is not a field of the spec; {hint}"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", 5, "name is 5; a string is expected"),
        ("name", None, "name is missing"),
        ("output", ["a"], "output is ['a']; a string is expected"),
        ("sources", "web", "sources is 'web'; a list is expected"),
        ("sources", {"name": "web"}, "sources is {'name': 'web'}; a list is expected"),
        ("sources.1", "web", "sources[1] is 'web'; a mapping is expected"),
        ("sources.0.uris", 5, "sources[0].uris is 5; a list is expected"),
        ("sources.0.uris.0", 5, "sources[0].uris[0] is 5; a string is expected"),
        ("sources.0.weight", "2", "sources[0].weight is '2'; a number is expected"),
        ("sources.0.weight", True, "sources[0].weight is True; a number is expected"),
        ("sources.0.text_column", 1, "sources[0].text_column is 1; a string is expected"),
        ("tokenizers.0.vocab_size", "300", "tokenizers[0].vocab_size is '300'; a whole number is expected"),
        ("tokenizers.0.vocab_size", 300.5, "tokenizers[0].vocab_size is 300.5; a whole number is expected"),
        ("tokenizers.0.special_tokens", "<|e|>", "tokenizers[0].special_tokens is '<|e|>'; a list is expected"),
        ("tokenizers.1.special_tokens", [1], "tokenizers[1].special_tokens[0] is 1; a string is expected"),
        ("tokenizers.1.pretokenizer", 7, "tokenizers[1].pretokenizer is 7; a mapping is expected"),
        ("filters", "length", "filters is 'length'; a list is expected"),
        ("filters.0.max_bytes", "9", "filters[0].max_bytes is '9'; a whole number is expected"),
        ("holdout", 0.1, "holdout is 0.1; a mapping is expected"),
        ("holdout.seed", 0.5, "holdout.seed is 0.5; a whole number is expected"),
        ("evaluate.compare", "x.json", "evaluate.compare is 'x.json'; a list is expected"),
        ("pack", "one", "pack is 'one'; a mapping is expected"),
        ("pack.tokenizers", "one", "pack.tokenizers is 'one'; a list is expected"),
        ("pack.sequence_length", "16", "pack.sequence_length is '16'; a whole number is expected"),
        ("pack.shuffle", 3, "pack.shuffle is 3; a mapping is expected"),
        ("execution.retries", "3", "execution.retries is '3'; a whole number is expected"),
    ],
)
def test_wrong_types(path, value, message):
    assert message_of(changed(path, value)) == message


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("sources.0.format", "jsonll", ["sources[0].format is 'jsonll'", "did you mean 'jsonl'?", "parquet", "auto"]),
        ("sources.0.documents", "row", ["sources[0].documents is 'row'", "file", "line"]),
        ("sources.0.errors", "ignore", ["sources[0].errors is 'ignore'", "stop", "replace", "skip"]),
        ("errors", "skp", ["errors is 'skp'", "did you mean 'skip'?"]),
        ("tokenizers.0.kind", "wordpiece", ["tokenizers[0].kind is 'wordpiece'", "bpe"]),
        ("tokenizers.0.digits", "rtl", ["tokenizers[0].digits is 'rtl'", "l2r", "r2l", "single"]),
        ("tokenizers.0.initial_alphabet", "byte", ["tokenizers[0].initial_alphabet is 'byte'", "did you mean 'bytes'?"]),
        ("tokenizers.0.encoder", "greed", ["tokenizers[0].encoder is 'greed'", "did you mean 'greedy'?"]),
        ("tokenizers.0.pretokenizer", "gpt-2", ["tokenizers[0].pretokenizer.preset is 'gpt-2'", "did you mean 'gpt2'?"]),
        ("tokenizers.0.normalizer", "NFC", ["tokenizers[0].normalizer is 'NFC'", "nfc"]),
        ("pack.strategy", "bestfit", ["pack.strategy is 'bestfit'", "did you mean 'best_fit'?", "concat"]),
        ("pack.overflow", "truncated", ["pack.overflow is 'truncated'", "did you mean 'truncate'?"]),
        ("filters.0.name", "lenght", ["filters[0].name is 'lenght'", "length"]),
    ],
)  # fmt: skip
def test_a_word_that_is_not_allowed(path, value, parts):
    message = message_of(changed(path, value))
    for part in parts:
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("tokenizers.1.vocab_size", 256, ["tokenizers[1].vocab_size is 256", "at least 257", "1 for special tokens"]),
        ("tokenizers.1.vocab_size", 0, ["tokenizers[1].vocab_size is 0", "at least 257"]),
        ("tokenizers.1.vocab_size", 2**21, ["tokenizers[1].vocab_size is 2097152", "at most 2097151"]),
        ("tokenizers.1.vocab_size", 2**31, ["tokenizers[1].vocab_size is 2147483648", "at most 2097151"]),
        ("tokenizers.1.min_count", -1, ["tokenizers[1].min_count is -1", "0 to"]),
        ("tokenizers.1.max_token_length", 0, ["tokenizers[1].max_token_length is 0", "1 to"]),
        ("tokenizers.1.name", "a/b", ["tokenizers[1].name is 'a/b'", "letters"]),
        ("tokenizers.1.name", "", ["tokenizers[1].name is ''", "letters"]),
        ("tokenizers.1.name", "..", ["tokenizers[1].name is '..'", "letters"]),
        ("tokenizers.1.name", "one", ["tokenizers: the name 'one' is used 2 times"]),
        ("tokenizers.1.special_tokens", [""], ["tokenizers[1].special_tokens", "empty"]),
        ("tokenizers.1.special_tokens", ["a", "a"], ["tokenizers[1].special_tokens", "'a'", "2 times"]),
        ("tokenizers.1.pretokenizer", {}, ["tokenizers[1].pretokenizer", "preset", "regex"]),
        ("tokenizers.1.pretokenizer", {"preset": "gpt2", "regex": "a"}, ["tokenizers[1].pretokenizer", "one of the two"]),
        ("tokenizers.1.pretokenizer", {"regex": "("}, ["tokenizers[1].pretokenizer.regex is '('", "refuses"]),
        ("tokenizers.1.pretokenizer", {"regex": "[z-a]"}, ["tokenizers[1].pretokenizer.regex is '[z-a]'"]),
        ("tokenizers", [], ["tokenizers is empty"]),
        ("sources", [], ["sources is empty"]),
        ("sources.1.uris", [], ["sources[1].uris is empty"]),
        ("sources.1.name", "web", ["sources: the name 'web' is used 2 times"]),
        ("sources.1.name", "a b", ["sources[1].name is 'a b'", "letters"]),
        ("sources.1.weight", 0, ["sources[1].weight is 0", "above 0"]),
        ("sources.1.weight", -1.5, ["sources[1].weight is -1.5", "above 0"]),
        ("sources.1.weight", 0.1234567, ["sources[1].weight is 0.1234567", "6 decimals"]),
        ("sources.1.weight", float("inf"), ["sources[1].weight is inf"]),
        ("sources.1.weight", float("nan"), ["sources[1].weight is nan"]),
        ("sources.1", {"name": "s", "uris": ["a"], "format": "jsonl", "letters": "protein"},
         ["sources[1].letters is 'protein', which goes with the format fasta; the format is jsonl"]),
        ("sources.1", {"name": "s", "uris": ["a"], "format": "txt", "case": "keep"}, ["case is 'keep'", "is txt"]),
        ("sources.1", {"name": "s", "uris": ["a"], "format": "fasta", "id_column": "id"},
         ["sources[1].id_column is 'id'; of a FASTA file 'name' is allowed, the first word of a header, or none"]),
        ("filters.0", {"name": "length", "min_bytes": 5, "max_bytes": 4}, ["filters[0].min_bytes is 5", "max_bytes 4"]),
        ("filters.0.min_bytes", -1, ["filters[0].min_bytes is -1"]),
        ("holdout.fraction", 1, ["holdout.fraction is 1", "from 0 to below 1"]),
        ("holdout.fraction", -0.1, ["holdout.fraction is -0.1"]),
        ("pack.tokenizers", [], ["pack.tokenizers is empty"]),
        ("pack.tokenizers", ["onne"], ["pack.tokenizers names 'onne'", "did you mean 'one'?"]),
        ("pack.tokenizers", ["one", "one"], ["pack.tokenizers", "'one'", "2 times"]),
        ("pack.append", "<|x|>", ["pack.append is '<|x|>'", "special token of tokenizer 'one'", "special_tokens"]),
        ("pack.sequence_length", 0, ["pack.sequence_length is 0", "1 to 16777216"]),
        ("pack.sequence_length", 1 << 25, ["pack.sequence_length is 33554432"]),
        ("execution.max_in_flight", 0, ["execution.max_in_flight is 0", "1 or more"]),
        ("execution.retries", -1, ["execution.retries is -1", "0 or more"]),
        ("execution.shard_bytes", 0, ["execution.shard_bytes is 0", "1 or more"]),
        ("output", "", ["output is empty"]),
    ],
)  # fmt: skip
def test_impossible_values(path, value, parts):
    message = message_of(changed(path, value))
    for part in parts:
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("", "name"),
        ("", "sources"),
        ("", "tokenizers"),
        ("", "output"),
        ("sources.1", "uris"),
        ("tokenizers.0", "vocab_size"),
        ("pack", "tokenizers"),
        ("filters.0", "name"),
    ],
)
def test_a_missing_field(path, missing):
    root = copy.deepcopy(BASE)
    node = root
    for key in path.split(".") if path else []:
        node = node[int(key) if key.isdecimal() else key]
    del node[missing]
    prefix = re.sub(r"\.(\d+)", r"[\1]", path) + "." if path else ""
    assert message_of(root) == f"{prefix}{missing} is missing"


def test_every_mistake_is_told_at_once():
    root = changed("tokenizers.1.vocab_size", 3)
    root["sources"][0]["wieght"] = 2
    root["pack"]["strategy"] = "best"
    lines = message_of(root).split("\n")
    assert len(lines) == 3
    assert {line.split(" is ")[0] for line in lines} == {"tokenizers[1].vocab_size", "sources[0].wieght", "pack.strategy"}


def test_digits_twice():
    root = changed("tokenizers.0.digits", "r2l")
    root["tokenizers"][0]["pretokenizer"] = {"preset": "gpt2", "digits": "l2r"}
    assert message_of(root).startswith("tokenizers[0].digits is given twice")


# --- shorthands -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "short", "long"),
    [
        ("tokenizers.0.pretokenizer", "llama3", {"preset": "llama3"}),
        ("sources.0.uris", "x/*.jsonl", ["x/*.jsonl"]),
        ("pack.shuffle", "none", None),
        ("sources.0.weight", 2, 2.0),
        ("holdout.fraction", 0, 0.0),
        ("pack", None, None),
    ],
)
def test_shorthands(path, short, long):
    assert parse_spec(changed(path, short)) == parse_spec(changed(path, long))


def test_shuffle_none_and_a_weight_without_a_point_mean_what_they_say():
    assert parse_spec(changed("pack.shuffle", "none")).pack.shuffle is None
    assert parse_spec(changed("sources.0.weight", 2)).sources[0].weight == 2.0
    assert to_dict(parse_spec(changed("sources.0.weight", 2))) == to_dict(parse_spec(changed("sources.0.weight", 2.0)))


def test_a_regex_with_digits_from_the_right():
    spec = parse_spec(changed("tokenizers.0.pretokenizer", {"regex": r"\w+|\W", "digits": "r2l"}))
    assert spec.tokenizers[0].make_pretokenizer().patterns == (DIGITS["r2l"], r"\w+|\W")


def test_digits_beside_a_preset_and_inside_it_are_the_same():
    beside = changed("tokenizers.1.digits", "single")
    inside = changed("tokenizers.1.pretokenizer", {"preset": "gpt4o", "digits": "single"})
    patterns = [parse_spec(root).tokenizers[1].make_pretokenizer().patterns for root in (beside, inside)]
    assert patterns[0] == patterns[1]
    assert DIGITS["single"] in patterns[0][0]
    assert DIGITS["l2r"] not in patterns[0][0]


# --- files ------------------------------------------------------------------------------------------------------------

YAML = """\
name: job
output: out
sources:
  - {name: web, uris: "a.jsonl"}
tokenizers:
  - name: one
    vocab_size: 300
    special_tokens: ["<|e|>"]
"""


@pytest.fixture
def write(tmp_path):
    def write_text(text: str | bytes) -> str:
        path = tmp_path / "job.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write_text


def test_a_file(write):
    spec = load_spec(write(YAML))
    assert (spec.name, spec.sources[0].uris, spec.tokenizers[0].vocab_size) == ("job", ("a.jsonl",), 300)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", r"job\.yaml, line \d+: not valid YAML: "),
        ("name: a\n\tb: c\n", r"job\.yaml, line 2: not valid YAML: "),
        ("name: a\nname: b\n", r"job\.yaml, line 2: not valid YAML: .*duplicate key \"name\""),
        (YAML + "holdout:\n  seed: 1\n  seed: 2\n", r"job\.yaml, line 11: not valid YAML: .*duplicate key \"seed\""),
        ("a: &x 1\nb: *y\n", r"job\.yaml, line 2: not valid YAML: .*undefined alias"),
        ("--- 1\n--- 2\n", r"job\.yaml.*: not valid YAML"),
        ("a: !!python/object:os.system x\n", r"job\.yaml.*: not valid YAML"),
        ("", r"job\.yaml: a mapping with name, output"),
        ("- a\n- b\n", r"job\.yaml: a mapping with name, output"),
        ("just words", r"job\.yaml: a mapping with name, output"),
        (b"name: \xff\xfe", r"job\.yaml: cannot be read"),
        ("name: a\x00b", r"job\.yaml.*: not valid YAML"),
        ("a: &x [*x]\n", r"not made of names, values and lists: Circular"),
        ("? [a, b]\n: c\n", r"not made of names, values and lists: keys"),
        ("1: x\n", r"1 is not a field of the spec"),
        ("name: 2024-01-01\n" + YAML.split("\n", 1)[1].replace("300", "2001-12-14"), r"tokenizers\[0\]\.vocab_size is "),
    ],
)  # fmt: skip
def test_a_file_that_is_no_spec(write, text, message):
    with pytest.raises(SpecError, match=message):
        load_spec(write(text))


def test_no_file(tmp_path):
    with pytest.raises(SpecError, match=rf"{tmp_path}/none\.yaml: cannot be read: .*No such file"):
        load_spec(f"{tmp_path}/none.yaml")
    with pytest.raises(SpecError, match=rf"{tmp_path}: cannot be read: .*directory"):
        load_spec(str(tmp_path))


def test_environment_variables(write, monkeypatch):
    monkeypatch.setenv("CORPUS_HOME", "/data/x")
    monkeypatch.delenv("NOWHERE_SET", raising=False)
    text = YAML.replace("output: out", "output: ${CORPUS_HOME}/out").replace(
        "a.jsonl", "${PYTHON_STDLIB}/${CORPUS_HOME}/*.py"
    )
    spec = load_spec(write(text))
    assert spec.output == "/data/x/out"
    assert spec.sources[0].uris == (f"{sysconfig.get_paths()['stdlib']}//data/x/*.py",)
    with pytest.raises(SpecError, match=r"sources\[0\]\.uris: \$\{NOWHERE_SET\} is not set in the environment"):
        load_spec(write(YAML.replace("a.jsonl", "${NOWHERE_SET}/a.jsonl")))
    with pytest.raises(SpecError, match=r"output: \$\{NOWHERE_SET\} is not set in the environment"):
        load_spec(write(YAML.replace("output: out", "output: ${NOWHERE_SET}")))
    with pytest.raises(SpecError, match=r"evaluate\.compare: \$\{NOWHERE_SET\} is not set"):
        load_spec(write(YAML + 'evaluate: {compare: ["${NOWHERE_SET}/t.json"]}\n'))


def test_an_output_that_a_variable_empties(write, monkeypatch):
    monkeypatch.setenv("EMPTY_VARIABLE", "")
    with pytest.raises(SpecError, match=r"output is .*, which is empty here"):
        load_spec(write(YAML.replace("output: out", "output: ${EMPTY_VARIABLE}")))


# --- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "look", "expected"),
    [
        ("name=other", lambda s: s.name, "other"),
        ("output=/x/y=z", lambda s: s.output, "/x/y=z"),
        ("tokenizers.0.vocab_size=1000", lambda s: s.tokenizers[0].vocab_size, 1000),
        ("tokenizers[0].vocab_size=1000", lambda s: s.tokenizers[0].vocab_size, 1000),
        ("tokenizers.0.pretokenizer=gpt2", lambda s: s.tokenizers[0].pretokenizer.preset, "gpt2"),
        ("tokenizers.0.pretokenizer={regex: 'a.b', digits: r2l}", lambda s: s.tokenizers[0].pretokenizer.regex, "a.b"),
        ("tokenizers.0.special_tokens.0=<|x|>", lambda s: s.tokenizers[0].special_tokens, ("<|x|>",)),
        ("tokenizers.0.special_tokens=[a, b]", lambda s: s.tokenizers[0].special_tokens, ("a", "b")),
        ("sources.0.uris=x/*.txt", lambda s: s.sources[0].uris, ("x/*.txt",)),
        ("sources.0.weight=2.5", lambda s: s.sources[0].weight, 2.5),
        ("holdout.fraction=0.25", lambda s: s.holdout.fraction, 0.25),
        ("execution.address=local", lambda s: s.execution.address, "local"),
        ("pack.tokenizers=[one]", lambda s: s.pack.tokenizers, ("one",)),
        ("sources.0.id_column=null", lambda s: s.sources[0].id_column, None),
    ],
)
def test_set(write, override, look, expected):
    assert look(load_spec(write(YAML), [override])) == expected


def test_overrides_are_applied_in_order(write):
    spec = load_spec(write(YAML), ["pack.tokenizers=[one]", "pack.sequence_length=8", "pack.sequence_length=9", "name=1x"])
    assert (spec.pack.sequence_length, spec.name) == (9, "1x")


def test_set_below_what_the_file_leaves_empty(write):
    """``pack:`` with nothing behind it is null in YAML."""
    assert load_spec(write(YAML + "holdout:\n"), ["holdout.fraction=0.5"]).holdout.fraction == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name", r"--set 'name': a\.b=value is expected"),
        ("=x", r"--set '=x': a\.b=value is expected"),
        ("name.first=x", r"--set 'name\.first=x': 'name' is a value"),
        ("tokenizers.1.vocab_size=5", r"--set .*: '1' is not an item; the list has 1, counted from 0"),
        ("tokenizers.one.vocab_size=5", r"--set .*: 'one' is not an item; the list has 1"),
        ("tokenizers.-1.vocab_size=5", r"--set .*: '-1' is not an item"),
        ("tokenizers.0.special_tokens.3=x", r"--set .*: '3' is not an item"),
        ("tokenizers.0.vocab_size=many", r"tokenizers\[0\]\.vocab_size is 'many'; a whole number is expected"),
        ("tokenizers.0.vocabsize=5", r"tokenizers\[0\]\.vocabsize is not a field of the spec; did you mean 'vocab_size'"),
        ("exection.address=local", r"exection is not a field of the spec; did you mean 'execution'"),
        ("name=[a", r"--set 'name=\[a'"),
        ("name={a: 1, a: 2}", r"--set 'name=\{a: 1, a: 2\}'"),
        ("name=a: b: c", r"--set 'name=a: b: c'"),
        ("name=*x", r"--set 'name=\*x'"),
    ],
)
def test_set_mistakes(write, override, message):
    with pytest.raises(SpecError, match=message):
        load_spec(write(YAML), [override])


def test_the_output_and_execution_are_no_part_of_what_determines_the_result():
    one = parse_spec(copy.deepcopy(BASE))
    other = parse_spec({**copy.deepcopy(BASE), "output": "elsewhere", "execution": {"address": "auto", "retries": 9}})
    assert to_dict(one) == to_dict(other)
    assert to_dict(one) != to_dict(parse_spec(changed("holdout.seed", 1)))


def test_the_example_of_two_stages_is_a_spec(pytestconfig):
    spec = load_spec(str(pytestconfig.rootpath / "examples" / "superbpe.yaml"))
    assert [t.name for t in spec.tokenizers] == ["bpe", *(f"superbpe-t{share}" for share in (40, 60, 80, 90))]
    assert spec.tokenizers[0].make_pretokenizer() == spec.tokenizers[1].make_word_pretokenizer()


def test_the_example_is_a_spec(pytestconfig):
    spec = load_spec(str(pytestconfig.rootpath / "examples" / "quickstart.yaml"))
    assert [t.name for t in spec.tokenizers] == ["code-8k", "code-16k"]
    assert spec.sources[0].uris == (f"{sysconfig.get_paths()['stdlib']}/**/*.py",)

"""The spec of tokenizers of two stages: sweeps, defaults, and every mistake named."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipeline.errors import SpecError
from pipeline.jobs.load import parse_spec
from pipeline.pretokenizer import LINES, PARAGRAPHS, RECIPES
from pipeline.tokenizer_spec import SuperBpeSpec

BASE: dict[str, Any] = {
    "name": "job",
    "output": "out",
    "sources": [{"name": "web", "uris": ["a.jsonl"]}],
    "tokenizers": [
        {"name": "plain", "vocab_size": 300},
        {"name": "super", "kind": "superbpe", "vocab_size": 1000, "transition": 0.8},
    ],
}


def parsed(**fields: Any) -> list[SuperBpeSpec]:
    """The second tokenizer, or tokenizers, of ``BASE`` with some fields; None takes one away."""
    root = copy.deepcopy(BASE)
    root["tokenizers"][1] |= fields
    return [tokenizer for tokenizer in parse_spec(root).tokenizers if isinstance(tokenizer, SuperBpeSpec)]


def message_of(**fields: Any) -> str:
    with pytest.raises(SpecError) as caught:
        parsed(**fields)
    return str(caught.value)


def test_defaults() -> None:
    (spec,) = parsed()
    assert (spec.num_first, spec.most_words, spec.forbidden_texts) == (800, 4, (": ",))
    assert spec.make_pretokenizer().patterns == RECIPES["recommended"][1]
    assert spec.make_word_pretokenizer().patterns == RECIPES["recommended"][0]
    assert spec.make_unit_pretokenizer().patterns == (PARAGRAPHS, *RECIPES["recommended"][1])


def test_what_is_given_counts() -> None:
    (spec,) = parsed(
        recipe="paper", transition=700, max_words=0, forbidden=[], newlines="free", unit_pretokenizer={"regex": "x+"}
    )
    assert (spec.num_first, spec.most_words, spec.forbidden_texts) == (700, 0, ())
    assert spec.make_word_pretokenizer().patterns == RECIPES["paper"][0]
    assert spec.make_unit_pretokenizer().patterns == spec.make_pretokenizer().patterns == ("x+",)


def test_the_original_reads_lines_in_both_stages() -> None:
    (spec,) = parsed(compat="reference", initial_alphabet="seen")
    assert spec.make_word_pretokenizer().patterns == (LINES, *RECIPES["recommended"][0])
    assert spec.make_unit_pretokenizer().patterns == (LINES, *RECIPES["recommended"][1])


@pytest.mark.parametrize("stage", ["random_chunks", "random_whitespace"])
def test_what_is_cut_at_random_has_no_first_stage_and_no_vetoes_unless_they_are_given(stage: str) -> None:
    (spec,) = parsed(stage=stage, transition=None)
    assert (spec.num_first, spec.most_words, spec.forbidden_texts) == (256, 0, ())
    assert spec.make_pretokenizer().patterns == ()
    (spec,) = parsed(stage=stage, transition=300, max_words=3, forbidden=["."])
    assert (spec.num_first, spec.most_words, spec.forbidden_texts) == (300, 3, (".",))


def test_a_sweep_is_a_tokenizer_for_each_transition() -> None:
    specs = parsed(transition=None, transitions=[0.4, 0.925, 999, 1.0])
    assert [spec.name for spec in specs] == ["super-t40", "super-t92.5", "super-t999", "super-t100"]
    assert [spec.num_first for spec in specs] == [400, 925, 999, 1000]
    assert len({spec.transitions for spec in specs}) == 1


def test_packs_name_the_tokenizers_of_a_sweep() -> None:
    root = copy.deepcopy(BASE)
    del root["tokenizers"][1]["transition"]
    root["tokenizers"][1]["transitions"] = [0.5, 0.9]
    for names, meant in (["super-t90"], ("super-t90",)), (["super", "plain"], ("super-t50", "super-t90", "plain")):
        pack = parse_spec({**root, "pack": {"tokenizers": names}}).pack
        assert pack is not None
        assert pack.tokenizers == meant
    with pytest.raises(SpecError, match=r"^pack\.tokenizers names 'supe'; did you mean"):
        parse_spec({**root, "pack": {"tokenizers": ["supe"]}})


def test_mistakes_behind_a_sweep_keep_their_place() -> None:
    root = copy.deepcopy(BASE)
    del root["tokenizers"][1]["transition"]
    root["tokenizers"][1]["transitions"] = [0.5, 0.9]
    root["tokenizers"].append({"name": "x", "vocab_size": 300, "min_count": "many", "pretokenizer": {"regex": "("}})
    with pytest.raises(SpecError, match=r"^tokenizers\[2\].min_count is 'many'; a whole number is expected$"):
        parse_spec(root)
    root["tokenizers"][2]["min_count"] = 2
    with pytest.raises(SpecError, match=r"^tokenizers\[2\]\.pretokenizer\.regex is '\('"):
        parse_spec(root)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"transition": 1001}, "tokenizers[1].transition is 1001, 1001 tokens; 256 (special tokens and bytes, no merge) to"),
        ({"transition": 255}, "tokenizers[1].transition is 255, 255 tokens; 256"),
        ({"transition": 0.2}, "tokenizers[1].transition is 0.2, 200 tokens; 256"),
        ({"transition": 1.5}, "tokenizers[1].transition is 1.5; a whole number of tokens, or a share from 0 to 1"),
        ({"transition": None}, "tokenizers[1].transition is missing"),
        ({"transition": "most"}, "tokenizers[1].transition is 'most'; a number is expected"),
        ({"transitions": [0.5]}, "tokenizers[1].transitions is given beside transition"),
        ({"transition": None, "transitions": ["a"]}, "tokenizers[1].transitions[0] is 'a'; a number is expected"),
        ({"stage": "chunks"}, "tokenizers[1].stage is 'chunks'; did you mean 'random_chunks'?"),
        ({"recipe": "papers"}, "tokenizers[1].recipe is 'papers'; did you mean 'paper'?"),
        ({"max_words": -1}, "tokenizers[1].max_words is -1; 0 (any number) to"),
        ({"forbidden": [""]}, "tokenizers[1].forbidden holds an empty string"),
        ({"sample_bytes": 0}, "tokenizers[1].sample_bytes is 0; 1 or more is allowed"),
        ({"chunk_chars": [9, 3]}, "tokenizers[1].chunk_chars is [9, 3]; [fewest, most], with"),
        ({"chunk_chars": [5]}, "tokenizers[1].chunk_chars is [5]; [fewest, most], with"),
        ({"max_words": 2**70}, f"tokenizers[1].max_words is {2**70}; 0 (any number) to"),
        ({"min_count": 2**70}, f"tokenizers[1].min_count is {2**70}; 0 to"),
        ({"base": "", "transition": None}, "tokenizers[1].base is empty"),
        ({"base": "x", "transition": None, "pretokenizer": "gpt2"}, "tokenizers[1].base is given"),
        ({"name": None, "transition": None, "transitions": [0.5]}, "tokenizers[1].name is missing"),
        ({"probability": 0.0}, "tokenizers[1].probability is 0.0; a number above 0, up to 1, is allowed"),
        ({"seed": -1}, "tokenizers[1].seed is -1; 0 to"),
        ({"base": "x"}, "tokenizers[1].base is given: its tokens are the first stage; transition and compat"),
        ({"compat": "reference"}, "tokenizers[1].compat is 'reference', which is trained with initial_alphabet: seen"),
        ({"digits": "r2l"}, "tokenizers[1].digits is not a field of the spec"),
        ({"encoder": "greedy"}, "tokenizers[1].encoder is not a field of the spec"),
        ({"transitoin": 2}, "tokenizers[1].transitoin is not a field of the spec; did you mean 'transition'?"),
        ({"kind": "superbp"}, "tokenizers[1].kind is 'superbp'; did you mean 'superbpe'?"),
        ({"kind": "bpe"}, "tokenizers[1].transition is not a field of the spec"),
        ({"unit_pretokenizer": {"regex": "("}}, "tokenizers[1].unit_pretokenizer.regex is '('"),
        ({"pretokenizer": {"regex": "("}}, "tokenizers[1].pretokenizer.regex is '('"),
        ({"vocab_size": 100}, "tokenizers[1].vocab_size is 100; a byte-level vocabulary needs at least 256"),
    ],
)
def test_mistakes(fields: dict[str, Any], message: str) -> None:
    found = message_of(**fields)
    assert message in found
    assert "\n" not in found


def test_base_takes_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASES", "/somewhere")
    (spec,) = parsed(base="${BASES}/tokenizer.json", transition=None)
    assert spec.base == "/somewhere/tokenizer.json"

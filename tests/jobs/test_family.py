"""Many tokenizers from one pass: each is what it is alone, and what they share is done once."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from pipeline.errors import DataError, SpecError
from pipeline.jobs.cli import main
from pipeline.jobs.load import parse_spec
from pipeline.jobs.plan import make_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.pool import PoolTokenizer
from pipeline.pretokenizer import Pretokenizer
from pipeline.tokenizer import Tokenizer
from tests import reference
from tests.corpus import documents, write_jsonl

LAW = [f"{text} The court held, see 42 U.S.C. § 1983 (1994), that res judicata binds." for text in documents(60)]
CODE = [f"def grind_{n}(mill: Mill, speed={n}):\n    return mill.grind(speed) + {n * 7}\n" for n in range(90)]
MADE_WITH = ("tokenizer.json", "training.json")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "text/law.jsonl", LAW)
    write_jsonl(tmp_path / "text/code.jsonl", CODE, 1000)
    return tmp_path / "text"


def spec(corpus: Path, output: Path, *some: dict[str, Any], **fields: Any) -> dict[str, Any]:
    common = {"vocab_size": 400}
    return {
        "name": "family",
        "output": str(output),
        "sources": [{"name": name, "uris": [f"{corpus}/{name}.jsonl"], "id_column": "id"} for name in ("law", "code")],
        "holdout": {"fraction": 0},
        "tokenizers": [
            ({} if one.get("kind") == "pool" else common) | {"name": f"t{number}"} | one for number, one in enumerate(some)
        ],
        "execution": {"address": "local"},
    } | fields


def run(corpus: Path, output: Path, *some: dict[str, Any], **fields: Any) -> dict[str, Any]:
    run_job(parse_spec(spec(corpus, output, *some, **fields)), Progress(io.StringIO()))
    report: dict[str, Any] = json.loads((output / "report/report.json").read_text())
    return report


def model(output: Path, name: str = "t0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / f"tokenizers/{name}/tokenizer.json").read_text())
    return found


FAMILY = (
    {"vocab_size": 300},
    {"vocab_size": 420},
    {"vocab_size": 350, "encoder": "fewest"},
    {"kind": "domain", "terms": ["res judicata", "1983"], "pad_to": 64},
    {"kind": "char", "vocab_size": 320},
    {"kind": "char", "vocab_size": 390, "max_chars": 3},
    {"kind": "superbpe", "transition": 0.8, "pretokenizer": "gpt4o"},
    {"vocab_size": 410, "sources": ["law"]},
    {"vocab_size": 380, "weights": {"code": 0}},
    {"vocab_size": 380, "weights": {"law": 2.5}},
    {"vocab_size": 340, "pretokenizer": "gpt2"},
    {"kind": "domain", "terms": ["estoppel"], "use_terms": "count", "term_weight": 50},
    {"kind": "dna", "kmer": 6},
)


def test_each_of_a_family_is_what_it_is_alone(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "all", *FAMILY)
    for number, one in enumerate(FAMILY):
        run(corpus, tmp_path / f"alone{number}", one)
        for name in MADE_WITH:
            together = tmp_path / f"all/tokenizers/t{number}" / name
            alone = tmp_path / f"alone{number}/tokenizers/t0" / name
            assert together.read_bytes() == alone.read_bytes(), (one, name)


def test_what_is_shared_is_done_once(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "all", *FAMILY)
    plan = make_plan(parse_spec(spec(corpus, tmp_path / "all", *FAMILY)))
    assert [counting.step for counting in plan.passes].count("count") == 3  # gpt4o, gpt2, k-mers
    shared = {key: [name for name in plan.subwords if plan.subwords[name] == key] for key in plan.subwords.values()}
    assert sorted(shared.values()) == [["t0", "t1", "t2", "t3", "t6"], ["t4", "t5"], ["t7", "t8"]]
    assert len(list((tmp_path / "all/_work/subwords").iterdir())) == 3
    # t7 and t8 name the same words in two ways; what they are trained on is the same.
    assert model(tmp_path / "all", "t8")["model"]["merges"] == model(tmp_path / "all", "t7")["model"]["merges"][: 380 - 256]


def test_weights_and_sources(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out", {"weights": {"law": 2.5, "code": 0.5}}, {"sources": ["code"]})
    patterns = Pretokenizer.named("gpt4o").patterns
    law, code = (
        reference.count_words(word.encode() for text in texts for word in reference.split(text, patterns))
        for texts in (LAW, CODE)
    )
    _, both, _ = reference.train_bpe(reference.merge_counts([law, code], [5, 1]), 400)
    _, alone, _ = reference.train_bpe(code, 400)
    assert [tuple(m) for m in model(tmp_path / "out", "t0")["model"]["merges"]] == both
    assert [tuple(m) for m in model(tmp_path / "out", "t1")["model"]["merges"]] == alone
    described = json.loads((tmp_path / "out/tokenizers/t0/tokenmill.json").read_text())["options"]
    assert described["weights"] == {"law": 2.5, "code": 0.5}


def test_a_rare_word_is_rare_in_the_sources_that_are_trained_on(corpus: Path, tmp_path: Path) -> None:
    write_jsonl(corpus / "law.jsonl", ["rare rare often often often"])
    write_jsonl(corpus / "code.jsonl", ["rare"], 10)
    one = {"min_word_count": 3, "pretokenizer": "whitespace", "initial_alphabet": "seen", "vocab_size": 60}
    report = run(corpus, tmp_path / "out", one, one | {"sources": ["law"]}, one | {"sources": ["code"], "min_word_count": 2})
    pruned = [report["tokenizers"][f"t{n}"] for n in range(3)]
    assert [row["pruned_words"] for row in pruned] == [2, 2, 1]  # `rare` with and without a blank; once each
    assert [row["distinct_words"] for row in pruned] == [1, 1, 0]
    assert " often" in Tokenizer.load(tmp_path / "out/tokenizers/t1").decode(range(11))


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ({"weights": {"law": 0, "code": 0}}, "'t0': the weights of its sources sum to zero"),
        ({"sources": ["law"], "weights": {"law": 0}}, "'t0': the weights of its sources sum to zero"),
        ({"sources": ["lore"]}, "'t0': sources or weights name 'lore'; allowed: code, law"),
        ({"weights": {"lore": 1}}, "'t0': sources or weights name 'lore'; allowed: code, law"),
        ({"sources": ["law"], "weights": {"code": 2}}, "'t0': weights names 'code', which its sources leave out"),
        ({"sources": []}, "tokenizers[0].sources is empty; name at least one"),
        ({"sources": ["law", "law"]}, "tokenizers[0].sources: the name 'law' is used 2 times"),
        ({"weights": {"law": -1}}, "tokenizers[0].weights.law is -1.0; a number from 0 on with at most 6 decimals"),
        ({"weights": {"law": 1e-7}}, "tokenizers[0].weights.law is 1e-07; a number from 0 on"),
    ],
)
def test_mistakes_in_weights(corpus: Path, tmp_path: Path, one: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_spec(spec(corpus, tmp_path / "out", one))
    assert message in str(error.value)


# --- kinds ------------------------------------------------------------------------------------------------------------


def test_char(corpus: Path, tmp_path: Path) -> None:
    write_jsonl(corpus / "law.jsonl", ["fünf Häuser über Bäche, größte Mühe 日本語 日本 mille" for _ in range(9)])
    run(corpus, tmp_path / "out", {"kind": "char"}, {"kind": "char", "max_chars": 2, "vocab_size": 350})
    for name, most in (("t0", 3), ("t1", 2)):
        tokenizer = Tokenizer.load(tmp_path / f"out/tokenizers/{name}")
        texts = [tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size)]
        lengths = [len(text.decode(errors="ignore")) for text in texts]
        assert max(lengths) == most
        assert "ü".encode() in texts
        assert tokenizer.decode(tokenizer.encode("über größte Mühe 日本語")) == "über größte Mühe 日本語"


def test_dna_has_no_words_unless_it_has_kmers(corpus: Path, tmp_path: Path) -> None:
    write_jsonl(corpus / "law.jsonl", ["ACGTTGCA" * 30 + "TATAAT" * 20])
    run(corpus, tmp_path / "out", {"kind": "dna", "vocab_size": 270}, {"kind": "dna", "kmer": 3, "vocab_size": 270})
    whole, kmers = (Tokenizer.load(tmp_path / f"out/tokenizers/t{n}") for n in range(2))
    assert whole.pretokenizer.patterns == ()
    assert max(map(len, kmers.decode_parts(range(270)))) == 3
    assert kmers.decode_parts(kmers.encode("ACGTT")) != []
    assert parse_spec(spec(corpus, tmp_path / "x", {"kind": "dna", "vocab_size": 4096})).tokenizers[0].vocab_size == 4096
    fields = spec(corpus, tmp_path / "x", {"kind": "dna"})
    del fields["tokenizers"][0]["vocab_size"]
    assert parse_spec(fields).tokenizers[0].vocab_size == 4096


def test_reserved_terms_are_tokens_in_tokenizers_too(corpus: Path, tmp_path: Path) -> None:
    report = run(
        corpus,
        tmp_path / "out",
        {
            "kind": "domain",
            "packs": ["years"],
            "terms": ["res judicata", "U.S.C."],
            "vocab_size": 1000,
            "pad_to": "power_of_two",
        },
    )
    tokenizer = Tokenizer.load(tmp_path / "out/tokenizers/t0")
    outside = tokenizers.Tokenizer.from_file(str(tmp_path / "out/tokenizers/t0/tokenizer.json"))
    assert tokenizer.vocab_size == 1024
    row = report["tokenizers"]["t0"]
    assert row["padding_tokens"] >= 24
    assert row["reserved_terms"] == len(tokenizer.added_tokens) == 275 + 4
    assert tokenizer.special_tokens == tuple(f"<|reserved_{n}|>" for n in range(row["padding_tokens"]))
    text = "the res judicata of 1984, not 19845; 42 U.S.C. 7"
    ids = tokenizer.encode(text)
    assert ids == outside.encode(text, add_special_tokens=False).ids
    parts = tokenizer.decode_parts(ids)
    assert b" res judicata" in parts
    assert b"1984" in parts
    assert b"198" in parts  # of 19845, by the pretokenizer
    assert tokenizer.decode(ids) == text


def test_a_special_token_is_none_of_a_packs_terms(corpus: Path, tmp_path: Path) -> None:
    """<s> is HTML, too."""
    run(corpus, tmp_path / "out", {"kind": "domain", "packs": ["html"], "special_tokens": ["<s>"], "vocab_size": 1200})
    tokenizer = Tokenizer.load(tmp_path / "out/tokenizers/t0")
    assert tokenizer.special_tokens == ("<s>",)
    assert "</s>" in [token.content for token in tokenizer.added_tokens]
    outside = tokenizers.Tokenizer.from_file(str(tmp_path / "out/tokenizers/t0/tokenizer.json"))
    outside.encode_special_tokens = True
    assert tokenizer.encode("a <s>b</s>") == outside.encode("a <s>b</s>", add_special_tokens=False).ids


def test_terms_that_count(corpus: Path, tmp_path: Path) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("estoppel\nhabeas\n")
    one = {"kind": "domain", "terms": str(terms), "use_terms": "count"}
    run(corpus, tmp_path / "out", one | {"term_weight": 1000}, {"kind": "bpe"})
    counted, plain = (Tokenizer.load(tmp_path / f"out/tokenizers/t{n}") for n in range(2))
    assert len(counted.encode(" estoppel habeas")) == 2 < len(plain.encode(" estoppel habeas"))
    assert not counted.added_tokens
    run(corpus, tmp_path / "half", *({**one, "term_weight": weight} for weight in (0.5, 0.25)))
    half, quarter = (json.loads((tmp_path / f"half/tokenizers/t{n}/training.json").read_text()) for n in range(2))
    assert (half["count_scale"], quarter["count_scale"]) == (2, 4)
    terms.write_text("estoppel\nmandamus\n")
    with pytest.raises(SpecError, match="the tables of tokenizer 't0' have changed since the plan was made"):
        run(corpus, tmp_path / "out", one | {"term_weight": 1000}, {"kind": "bpe"})


def test_what_reserving_does_not_do_is_told(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = spec(corpus, tmp_path / "out", {"kind": "domain", "terms": ["U.S.C.", "art", "res judicata", "§§", "¶"]})
    (tmp_path / "job.json").write_text(json.dumps(fields))
    assert main(["run", str(tmp_path / "job.json"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "note: tokenizer t0: 1 of its terms are plain words, such as 'art'; reserved, they are cut out of longer" in told
    assert "note: tokenizer t0: 2 of its terms, such as '§§', are how a tokenizer.json spells other bytes" in told
    fields["tokenizers"][0]["use_terms"] = "count"
    (tmp_path / "job.json").write_text(json.dumps(fields))
    assert main(["run", str(tmp_path / "job.json"), "--dry-run"]) == 0
    assert "of its terms" not in capsys.readouterr().out


def test_the_plan_shows_what_is_shared(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = spec(corpus, tmp_path / "out", *FAMILY)
    (tmp_path / "job.json").write_text(json.dumps(fields))
    assert main(["run", str(tmp_path / "job.json"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "one counting pass for: t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t11\n" in told
    assert "one training, of which each has a part, for: t0, t1, t2, t3, t6\n" in told
    assert main(["run", str(tmp_path / "job.json"), "--dry-run", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert sorted(facts["shared_trainings"].values()) == [["t0", "t1", "t2", "t3", "t6"], ["t4", "t5"], ["t7", "t8"]]


def test_uncased(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out", {"kind": "domain", "case": "uncased", "terms": ["res judicata"]})
    tokenizer = Tokenizer.load(tmp_path / "out/tokenizers/t0")
    assert tokenizer.normalizer == "lowercase"
    assert tokenizer.encode("THE COURT") == tokenizer.encode("the court")


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ({"packs": ["year"]}, "tokenizers[0].packs holds 'year'; did you mean 'years'?"),
        ({"packs": ["years", "years"]}, "tokenizers[0].packs: the name 'years' is used 2 times"),
        ({"terms": []}, "tokenizers[0].terms is empty"),
        ({"terms": "nowhere.txt"}, "tokenizer 't0': terms is 'nowhere.txt', which cannot be read"),
        ({"terms": ["a\nb"]}, "terms[0]"),
        ({"terms": ["Court"], "case": "uncased"}, "terms[0]"),
        ({"case": "uncased", "normalizer": "nfd"}, "tokenizers[0].case is 'uncased', and normalizer 'nfd'"),
        ({"packs": ["years"], "vocab_size": 300}, "tokenizer 't0': vocab_size is 300; 275 terms to reserve are 275 tokens"),
        (
            {"terms": ["U.S.C."], "special_tokens": ["U.S.C."]},
            "tokenizer 't0': special_tokens holds 'U.S.C.', which is a term to reserve as well",
        ),
        ({"pad_to": 0}, "tokenizers[0].pad_to is 0; 1 to"),
        ({"pad_to": "power"}, "tokenizers[0].pad_to is 'power'"),
        ({"pad_to": "power_of_two", "vocab_size": 1_500_000}, "that is 2097152 ids; at most 2097151 are possible"),
        ({"term_weight": 2}, "tokenizers[0].term_weight is 2.0, which goes with use_terms: count"),
        ({"use_terms": "count"}, "tokenizers[0].use_terms is 'count', but there are no terms"),
        ({"term_weight": 0}, "tokenizers[0].term_weight is 0.0; a number above 0"),
    ],
)
def test_mistakes_in_terms(corpus: Path, tmp_path: Path, one: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        make_plan(parse_spec(spec(corpus, tmp_path / "out", {"kind": "domain"} | one)))
    assert message in str(error.value)


# --- a tokenizer that goes on -----------------------------------------------------------------------------------------


@pytest.fixture
def base(corpus: Path, tmp_path: Path) -> Path:
    run(corpus, tmp_path / "base", {"vocab_size": 330, "sources": ["code"], "special_tokens": ["<s>"]})
    return tmp_path / "base/tokenizers/t0"


def test_extend_appends_and_changes_nothing(corpus: Path, base: Path, tmp_path: Path) -> None:
    sizes = (330, 331, 340, 360, 420)
    some = [{"kind": "extend", "base": str(base), "vocab_size": size, "sources": ["law"]} for size in sizes]
    report = run(corpus, tmp_path / "out", *some)
    old = Tokenizer.load(base)
    before = [len(old.encode(text)) for text in LAW]
    for number, size in enumerate(sizes):
        new = Tokenizer.load(tmp_path / f"out/tokenizers/t{number}")
        assert new.vocab_size == size
        assert {chars: new.vocab[chars] for chars in old.vocab} == old.vocab
        assert new.merges[: len(old.merges)] == old.merges
        assert new.special_tokens == ("<s>",)
        after = [len(new.encode(text)) for text in LAW]
        assert all(a <= b for a, b in zip(after, before, strict=True))
        assert number == 0 or sum(after) < sum(before)  # with every step
        before = after
        fresh = set(range(old.vocab_size, size))
        for text in [*CODE, *LAW]:
            ids = new.encode(text)
            assert new.decode(ids) == text
            assert fresh & {*ids} or ids == old.encode(text)
        assert report["tokenizers"][f"t{number}"]["new_tokens"] == size - 330
        told = json.loads((tmp_path / f"out/tokenizers/t{number}/training.json").read_text())
        assert told["new_token_texts"] == [new.decode([token]) for token in range(330, size)]


def test_extend_is_what_the_naive_twin_gives(corpus: Path, base: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out", {"kind": "extend", "base": str(base), "vocab_size": 380, "sources": ["law"]})
    old = Tokenizer.load(base)
    words = reference.count_words(word.encode() for text in LAW for word in reference.split(text, old.pretokenizer.patterns))
    ranks = {(old.vocab[a], old.vocab[b]): (rank, old.vocab[a + b]) for rank, (a, b) in enumerate(old.merges)}
    sequences: dict[tuple[int, ...], int] = {}
    for word, count in words.items():
        ids = tuple(reference.encode([old.vocab[char] for char in reference.spell(word)], ranks))
        sequences[ids] = sequences.get(ids, 0) + count
    spellings = sorted(old.vocab, key=lambda chars: old.vocab[chars])
    vocab, merges, _ = reference.train_sequences(sequences, spellings, 380)
    new = Tokenizer.load(tmp_path / "out/tokenizers/t0")
    assert (new.vocab, new.merges) == (vocab, (*old.merges, *merges))


def test_extend_counts_between_added_tokens(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "base", {"kind": "domain", "terms": ["The court held"], "sources": ["code"]})
    base = tmp_path / "base/tokenizers/t0"
    one = {"kind": "extend", "base": str(base), "vocab_size": 440, "sources": ["law"]}
    run(corpus, tmp_path / "out", one, {"vocab_size": 300})
    old, new = Tokenizer.load(base), Tokenizer.load(tmp_path / "out/tokenizers/t0")
    assert new.added_tokens == old.added_tokens
    assert new.encode(" The court held") == old.encode(" The court held") == [old.vocab[" The court held"]]
    assert " held" not in [new.decode([token]) for token in range(400, 440)]  # it never stands outside that term
    outside = tokenizers.Tokenizer.from_file(str(tmp_path / "out/tokenizers/t0/tokenizer.json"))
    for text in LAW[:10]:
        assert outside.encode(text, add_special_tokens=False).ids == new.encode(text)


def test_extend_keeps_what_the_base_puts_around_ids(corpus: Path, base: Path, tmp_path: Path) -> None:
    outside = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    begins = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", outside.token_to_id("<s>"))])
    outside.post_processor = begins
    outside.enable_padding(pad_token="<s>")
    outside.enable_truncation(50)
    outside.save(str(tmp_path / "begins.json"))
    run(corpus, tmp_path / "out", {"kind": "extend", "base": str(tmp_path / "begins.json"), "vocab_size": 400})
    new = tokenizers.Tokenizer.from_file(str(tmp_path / "out/tokenizers/t0/tokenizer.json"))
    assert (new.padding, new.truncation) == (outside.padding, outside.truncation)
    assert new.encode("\t").ids == outside.encode("\t").ids == [0, *Tokenizer.load(base).encode("\t")]
    assert [len(one.ids) for one in new.encode_batch(["a", "b c d", "é" * 99])] == [50, 50, 50]


def test_extend_with_tokens_of_few_characters(corpus: Path, base: Path, tmp_path: Path) -> None:
    one = {"kind": "extend", "base": str(base), "vocab_size": 380, "sources": ["law"], "allow_smaller": True}
    run(corpus, tmp_path / "out", one | {"max_chars": 3}, one)
    few, any_number = (Tokenizer.load(tmp_path / f"out/tokenizers/t{n}") for n in range(2))
    assert max(len(few.decode([token])) for token in range(330, few.vocab_size)) == 3
    assert max(len(any_number.decode([token])) for token in range(330, 380)) > 3
    assert few.vocab_size > 340


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ({"max_chars": 0}, "tokenizers[0].max_chars is 0; 1 to 100 is allowed"),
        ({"vocab_size": 300}, "tokenizer 't0': vocab_size is 300; the base has 330 tokens already"),
        (
            {"special_tokens": ["<t>"]},
            "tokenizer 't0': special_tokens holds '<t>', which is no special token of the base; it has '<s>'",
        ),
        ({"base": "nowhere"}, "tokenizer 't0': base is 'nowhere', which cannot be read"),
        ({"base": ""}, "tokenizers[0].base is empty"),
        ({"normalizer": "nfc"}, "tokenizers[0].normalizer and initial_alphabet are those of the base"),
        ({"pretokenizer": "gpt2"}, "tokenizers[0].pretokenizer is not a field of the spec"),
    ],
)
def test_mistakes_in_extend(corpus: Path, base: Path, tmp_path: Path, one: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        make_plan(parse_spec(spec(corpus, tmp_path / "out", {"kind": "extend", "base": str(base)} | one)))
    assert message in str(error.value)


def test_a_base_of_another_encoder(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "base", {"encoder": "fewest"})
    one = {"kind": "extend", "base": str(tmp_path / "base/tokenizers/t0"), "vocab_size": 440}
    with pytest.raises(SpecError, match=r"tokenizer 't0': base is '.*', whose encoder is 'fewest'; new merges go on from"):
        make_plan(parse_spec(spec(corpus, tmp_path / "out", one)))


def test_a_base_that_is_not_byte_level(corpus: Path, tmp_path: Path) -> None:
    outside = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    outside.save(str(tmp_path / "tokenizer.json"))
    one = {"kind": "extend", "base": str(tmp_path / "tokenizer.json")}
    with pytest.raises(
        SpecError, match=r"which is no byte-level BPE tokenizer that is run exactly here: its model is WordPiece, not BPE"
    ):
        make_plan(parse_spec(spec(corpus, tmp_path / "out", one)))


def test_a_base_with_added_tokens_is_for_extend_only(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "base", {"kind": "domain", "terms": ["The court held"]})
    one = {"kind": "superbpe", "base": str(tmp_path / "base/tokenizers/t0"), "vocab_size": 500}
    with pytest.raises(SpecError, match=r"cuts 2 added tokens such as .* out of the text; only kind: extend"):
        make_plan(parse_spec(spec(corpus, tmp_path / "out", one)))


def test_a_base_that_has_changed(corpus: Path, base: Path, tmp_path: Path) -> None:
    one = {"kind": "extend", "base": str(base), "sources": ["law"]}
    run(corpus, tmp_path / "out", one)
    tokenizer = base / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    with pytest.raises(SpecError, match="a tokenizer that is the base of another has changed"):
        run(corpus, tmp_path / "out", one)


def test_no_merges_are_left(corpus: Path, base: Path, tmp_path: Path) -> None:
    one = {"kind": "extend", "base": str(base), "vocab_size": 300_000}
    with pytest.raises(DataError, match=r"tokenizer 't0': nothing is left to merge at \d+ tokens, and vocab_size is 300000"):
        run(corpus, tmp_path / "out", one)
    run(corpus, tmp_path / "more", one | {"allow_smaller": True})
    assert Tokenizer.load(tmp_path / "more/tokenizers/t0").vocab_size < 300_000


# --- pools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", ["fewest", "bits"])
def test_a_pool_is_packed_and_measured_as_any_other(corpus: Path, tmp_path: Path, selector: str) -> None:
    eos = "<|endoftext|>"
    report = run(
        corpus,
        tmp_path / "out",
        {"sources": ["law"], "special_tokens": [eos]},
        {"sources": ["code"], "special_tokens": [eos]},
        {"kind": "pool", "members": ["t0", "t1"], "selector": selector},
        holdout={"fraction": 0.2},
        pack={"tokenizers": ["t2"], "sequence_length": 64, "append": eos},
    )
    folder = tmp_path / "out/tokenizers/t2"
    pool = Tokenizer.load(folder)
    assert isinstance(pool, PoolTokenizer)
    assert report["tokenizers"]["t2"]["vocab_size"] == pool.vocab_size
    members = [Tokenizer.load(tmp_path / f"out/tokenizers/t{n}") for n in range(2)]
    for texts, member in ((LAW, 0), (CODE, 1)):
        for text in texts:
            ids = pool.encode(text)
            assert pool.decode(ids) == text
            assert len(ids) == 1 + len(members[member].encode(text))
    rows = report["evaluation"]
    for source, member in (("law", "t0"), ("code", "t1")):
        row = rows["t2"][source]
        assert row["tokens"] == rows[member][source]["tokens"] + row["documents"]
    packed = report["accounting"]["packed"]["t2"]["train"]
    assert packed["tokens_packed"] > 0


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ({"members": ["t0"]}, "tokenizers[2].members has 1; name two or more"),
        ({"members": ["t0", "t0"]}, "tokenizers[2].members: the name 't0' is used 2 times"),
        ({"members": ["t0", "t7"]}, "'t2': members names 't7'; allowed: t0, t1, t3, t4, t5"),
        ({"members": ["t0", "t1"]}, "'t2': its members differ in normalizer"),
        ({"members": ["t0", "t3"]}, "'t2': its member 't3' has pad_to"),
        (
            {"members": ["t0", "t2"]},
            "'t2': members names 't2', which is of kind pool and cannot be a member; allowed: t0, t1",
        ),
        ({"members": ["t0", "t4"]}, "'t2': its members differ in special_tokens"),
        (
            {"members": ["t5", "t4"]},
            "'t2': its member 't4' gives it the switch token '<|pool:t4|>', which is a special token",
        ),
        ({"members": ["t0", "t1"], "vocab_size": 7}, "tokenizers[2].vocab_size is not a field of the spec"),
    ],
)
def test_mistakes_in_pools(corpus: Path, tmp_path: Path, pool: dict[str, Any], message: str) -> None:
    padded, switching = {"kind": "domain", "pad_to": 64}, {"special_tokens": ["<|pool:t4|>"]}
    some = ({}, {"normalizer": "nfc"}, {"kind": "pool"} | pool, padded, switching, switching)
    with pytest.raises(SpecError) as error:
        parse_spec(spec(corpus, tmp_path / "out", *some))
    assert message in str(error.value)


def test_encoder_pool_is_a_pool(corpus: Path, tmp_path: Path) -> None:
    fields = spec(corpus, tmp_path / "out", {}, {}, {"kind": "pool", "members": ["t0", "t1"]})
    expected = parse_spec(fields)
    del fields["tokenizers"][2]["kind"]
    fields["tokenizers"][2]["encoder"] = "pool"
    assert parse_spec(fields) == expected


# --- how much there is ------------------------------------------------------------------------------------------------


def test_weights_that_64_bits_do_not_hold(corpus: Path, tmp_path: Path) -> None:
    """One word of 200,000 letters, each weighing a million millionths of a million."""
    write_jsonl(corpus / "law.jsonl", ["ACGT" * 50_000])
    weights = {"law": 1_000_000, "code": 0.000001}
    with pytest.raises(SpecError, match="the weighted counts exceed 64 bits; use smaller weights"):
        run(corpus, tmp_path / "out", {"kind": "dna", "vocab_size": 270, "weights": weights})


def test_a_vocabulary_that_the_text_cannot_fill_is_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = spec(corpus, tmp_path / "out", {"ladder": [300, 60_000]})
    del fields["tokenizers"][0]["vocab_size"]
    (tmp_path / "job.json").write_text(json.dumps(fields))
    assert main(["run", str(tmp_path / "job.json")]) == 0
    told = capsys.readouterr().out
    assert "t0-300: " not in told
    assert re.search(r"\nt0-60000: [\d,]{3,5} ids, and 60,000 were asked for: nothing was left to merge\n", told)

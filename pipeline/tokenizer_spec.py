"""The kinds of tokenizers that a job may ask for, as plain frozen classes: the part of ``pipeline.spec`` about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.checks import check_distinct, check_name, check_seed, check_weight, nearest
from pipeline.kernels.ranks import MOST_IDS
from pipeline.normalizer import NORMALIZERS, UNCASED
from pipeline.pretokenizer import LINES, LONGEST_KMER, PARAGRAPHS, PRESETS, RECIPES, Pretokenizer
from pipeline.terms import PACKS

ROOT_SHARE = 0.96
"""Of a morphology-hybrid vocabulary, for roots: measured, see docs/morphology.md."""

_MOST_COUNT = 10**12
_MOST_CHUNK_CHARS = 1 << 20
_MOST_CHARS = 100


def _check_max_chars(number: int) -> None:
    if not 1 <= number <= _MOST_CHARS:
        raise ValueError(f"max_chars is {number}; 1 to {_MOST_CHARS} is allowed")


def padded_size(size: int, pad_to: str | int | None) -> int:
    """A vocabulary's size, padded: to the next power of two, or multiple of a number."""
    if pad_to == "power_of_two":
        return 1 << (size - 1).bit_length()
    return size if pad_to is None else -(-size // int(pad_to)) * int(pad_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretokenizerSpec:
    """A preset or a regex."""

    preset: str | None = None
    regex: str | None = None
    digits: Literal["l2r", "r2l", "single"] | None = None

    def __post_init__(self) -> None:
        if (self.preset is None) == (self.regex is None):
            raise ValueError("pretokenizer needs a preset's name or {regex: …}, one of the two")
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; {nearest(self.preset, PRESETS)}")

    def make(self, digits: str | None = None) -> Pretokenizer:
        """The pretokenizer, ``digits`` in place of its own; SpecError if ``tokenizers`` refuses its regex."""
        digits = digits or self.digits
        if self.preset is not None:
            return Pretokenizer.named(self.preset, digits)
        return Pretokenizer.custom(self.regex or "", digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSpec:
    """A tokenizer to train: what those of every kind have."""

    name: str
    vocab_size: int  # all ids: special tokens, alphabet, merges
    normalizer: str = "none"
    min_count: int = 1  # a pair rarer than this is not merged
    min_word_count: int = 1  # a word rarer than this, in all sources together, is left out of training
    max_token_length: int | None = None  # as in `tokenizers`: merges of merges stay *below* it, in bytes
    initial_alphabet: Literal["bytes", "seen"] = "bytes"  # all 256 bytes, or those in the corpus
    special_tokens: tuple[str, ...] = ()
    sources: tuple[str, ...] | None = None  # those to train on; default: all
    weights: dict[str, float] = field(default_factory=dict)  # of sources, in place of their own; 0: not trained on

    def __post_init__(self) -> None:
        check_name("name", self.name)
        for source, weight in self.weights.items():
            check_weight(f"weights.{source}", weight, "from 0 on")
        if self.sources is not None:
            if not self.sources:
                raise ValueError("sources is empty; name at least one, or leave it out to train on all")
            check_distinct("sources: the name", list(self.sources))
        if self.normalizer not in NORMALIZERS:
            raise ValueError(f"normalizer is {self.normalizer!r}; {nearest(self.normalizer, NORMALIZERS)}")
        for token in self.special_tokens:
            if not token:
                raise ValueError("special_tokens holds an empty string")
        check_distinct("special_tokens: the token", list(self.special_tokens))
        if not self.least_size <= self.vocab_size <= MOST_IDS:
            raise ValueError(
                f"vocab_size is {self.vocab_size}; a byte-level vocabulary needs at least {self.least_size} "
                f"({self.least_size - len(self.special_tokens)} for the bytes, {len(self.special_tokens)} for special "
                f"tokens) and at most {MOST_IDS}"
            )
        if not 0 <= self.min_count <= _MOST_COUNT:
            raise ValueError(f"min_count is {self.min_count}; 0 to {_MOST_COUNT} is allowed")
        if not 1 <= self.min_word_count <= _MOST_COUNT:
            raise ValueError(f"min_word_count is {self.min_word_count}; 1 to {_MOST_COUNT} is allowed")
        if self.max_token_length is not None and not 1 <= self.max_token_length <= _MOST_COUNT:
            raise ValueError(f"max_token_length is {self.max_token_length}; 1 to {_MOST_COUNT} is allowed")

    @property
    def least_size(self) -> int:
        """Ids that there are before the first merge, at least."""
        return (256 if self.initial_alphabet == "bytes" else 1) + len(self.special_tokens)

    @property
    def model_file(self) -> str:
        """The file of the tokenizer's directory that is the model."""
        return "tokenizer.json"

    @property
    def text_normalizer(self) -> str:
        """What is done to text first: the name of a normalizer."""
        return self.normalizer

    @property
    def most_chars(self) -> int:
        """Characters in a token; 0: any number."""
        return 0

    def make_pretokenizer(self) -> Pretokenizer:
        """How the tokenizer cuts text; SpecError if ``tokenizers`` refuses a regex."""
        raise NotImplementedError

    def make_word_pretokenizer(self) -> Pretokenizer:
        """How text is cut into the words that are counted; SpecError if ``tokenizers`` refuses a regex."""
        return self.make_pretokenizer()


@dataclass(frozen=True, slots=True, kw_only=True)
class WordBpeSpec(TokenizerSpec):
    """What kinds have in common that merge inside words."""

    pretokenizer: PretokenizerSpec = field(default_factory=lambda: PretokenizerSpec(preset="gpt4o"))
    digits: Literal["l2r", "r2l", "single"] | None = None  # in place of the preset's own rule
    encoder: Literal["merge", "greedy", "fewest"] = "merge"  # by the merges | longest token first | fewest tokens

    def __post_init__(self) -> None:
        TokenizerSpec.__post_init__(self)
        if self.digits and self.pretokenizer.digits:
            raise ValueError("digits is given twice, beside the pretokenizer and inside it")

    def make_pretokenizer(self) -> Pretokenizer:
        """As ``TokenizerSpec``."""
        return self.pretokenizer.make(self.digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class BpeSpec(WordBpeSpec):
    """A plain BPE tokenizer to train."""

    kind: Literal["bpe"] = "bpe"
    morphemes: str | None = None  # merge inside these only: a language (tr, or the folder of one), or morfessor

    def __post_init__(self) -> None:
        WordBpeSpec.__post_init__(self)
        if self.morphemes == "":
            raise ValueError("morphemes is empty; a language, the folder of one, or morfessor is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class CharSpec(WordBpeSpec):
    """BPE whose tokens have a few characters at most, so that an error in the text changes few of them.

    The character tokenizers of KL3M: Bommarito, Katz and Bommarito (2025), arXiv 2503.17247, section 3.
    """

    kind: Literal["char"] = "char"
    max_chars: int = 3  # in a token, a blank before it included

    def __post_init__(self) -> None:
        WordBpeSpec.__post_init__(self)
        _check_max_chars(self.max_chars)

    @property
    def most_chars(self) -> int:
        """As ``TokenizerSpec``."""
        return self.max_chars


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSpec(WordBpeSpec):
    """BPE for a domain: its terms are tokens for certain, or count for more in training.

    The recipe of KL3M: Bommarito, Katz and Bommarito (2025), arXiv 2503.17247, section 3.
    """

    kind: Literal["domain"] = "domain"
    packs: tuple[str, ...] = ()  # of terms: those of ``terms.PACKS``
    terms: str | tuple[str, ...] | None = None  # a file with one term a line, or the terms themselves
    use_terms: Literal["reserve", "count"] = "reserve"  # each is a token, cut out of the text | each is counted as words
    term_weight: float = 1.0  # count: how often each term is counted
    case: Literal["cased", "uncased"] = "cased"
    pad_to: str | int | None = None  # power_of_two, or a number: ids are a multiple of it, with reserved special tokens

    def __post_init__(self) -> None:
        WordBpeSpec.__post_init__(self)
        for name in self.packs:
            if name not in PACKS:
                raise ValueError(f"packs holds {name!r}; {nearest(name, PACKS)}")
        check_distinct("packs: the name", list(self.packs))
        if not self.terms and self.terms is not None:
            raise ValueError("terms is empty; a file, or a list of terms, is needed, or leave it out")
        check_weight("term_weight", self.term_weight, "above 0")
        if self.use_terms == "reserve" and self.term_weight != 1:
            raise ValueError(f"term_weight is {self.term_weight}, which goes with use_terms: count; here it is reserve")
        if self.use_terms == "count" and not self.packs and self.terms is None:
            raise ValueError("use_terms is 'count', but there are no terms; give packs or terms")
        is_right = 1 <= self.pad_to <= MOST_IDS if isinstance(self.pad_to, int) else self.pad_to in (None, "power_of_two")
        if not is_right:
            raise ValueError(f"pad_to is {self.pad_to!r}; 1 to {MOST_IDS}, or power_of_two, is allowed")
        if (size := padded_size(self.vocab_size, self.pad_to)) > MOST_IDS:
            raise ValueError(
                f"pad_to is {self.pad_to}, vocab_size {self.vocab_size}: that is {size} ids; at most {MOST_IDS} are possible"
            )
        if self.case == "uncased" and self.normalizer not in UNCASED:
            raise ValueError(
                f"case is 'uncased', and normalizer {self.normalizer!r}, which does not go with it; "
                f"allowed: {', '.join(UNCASED)}"
            )

    @property
    def text_normalizer(self) -> str:
        """As ``TokenizerSpec``."""
        return UNCASED[self.normalizer] if self.case == "uncased" else self.normalizer


@dataclass(frozen=True, slots=True, kw_only=True)
class DnaSpec(TokenizerSpec):
    """BPE over sequences of letters that have no words: on whole documents, or inside k-mers.

    As DNABERT-2: Zhou et al. (2023), arXiv 2306.15006, section 3.1.
    """

    kind: Literal["dna"] = "dna"
    vocab_size: int = 4096
    kmer: int | None = None  # letters of a word; default: a document is one word
    encoder: Literal["merge", "greedy", "fewest"] = "merge"  # as ``WordBpeSpec``

    def __post_init__(self) -> None:
        TokenizerSpec.__post_init__(self)
        if self.kmer is not None and not 1 <= self.kmer <= LONGEST_KMER:
            raise ValueError(f"kmer is {self.kmer}; 1 to {LONGEST_KMER} is allowed")

    def make_pretokenizer(self) -> Pretokenizer:
        """As ``TokenizerSpec``."""
        return Pretokenizer(()) if self.kmer is None else Pretokenizer.kmers(self.kmer)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendSpec(TokenizerSpec):
    """A tokenizer that goes on where another ends: its ids and merges as they are, and more of them behind.

    Normalizer, pretokenizer, alphabet and special tokens are those of ``base``. Cabrita: Larcher et al. (2023), arXiv
    2308.11878, extends a vocabulary so, by another trainer.
    """

    kind: Literal["extend"] = "extend"
    base: str  # a byte-level tokenizer.json, or a folder with one
    max_chars: int | None = None  # in a new token, a blank before it included; default: any number
    allow_smaller: bool = False  # whether the vocabulary may end up below vocab_size, for want of merges

    def __post_init__(self) -> None:
        TokenizerSpec.__post_init__(self)
        if self.max_chars is not None:
            _check_max_chars(self.max_chars)
        if not self.base:
            raise ValueError("base is empty; a tokenizer.json, or a folder with one, is needed")
        if self.normalizer != "none" or self.initial_alphabet != "bytes":
            raise ValueError("normalizer and initial_alphabet are those of the base; leave them out")

    @property
    def most_chars(self) -> int:
        """As ``TokenizerSpec``."""
        return self.max_chars or 0

    @property
    def encoder(self) -> Literal["merge"]:
        """As ``WordBpeSpec.encoder``."""
        return "merge"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Tokenizers of this job over one id space; each document is encoded by the one that serves it best.

    K-Tokeniser: Ji et al. (2024), arXiv 2406.14312.
    """

    name: str
    kind: Literal["pool"] = "pool"
    encoder: Literal["pool"] = "pool"
    members: tuple[str, ...]
    selector: Literal["fewest", "bits"] = "fewest"  # tokens | bits, each token by its share in what the member trained on

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if len(self.members) < 2:
            raise ValueError(f"members has {len(self.members)}; name two or more tokenizers of this job")
        check_distinct("members: the name", list(self.members))

    @property
    def model_file(self) -> str:
        """As ``TokenizerSpec``."""
        return "pool.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MorphSpec(TokenizerSpec):
    """A morphology-hybrid tokenizer to train: roots and affixes of a language, and pieces of bytes for the rest.

    ``compat: turkish-tokenizer-0.2`` is that published tokenizer as it is; ``language`` is the folder of its dictionaries.
    """

    kind: Literal["morph"] = "morph"
    language: str | None = None  # tr, or a folder with harmony.tsv, affixes.tsv and roots.tsv
    roots: str | None = None  # a table of roots in place of the language's own
    segmenter: Literal["language", "morfessor"] = "language"  # morfessor: learned from the words, for want of tables
    segmentation: Literal["viterbi", "longest"] = "viterbi"  # the cheapest path, or the longest morpheme each time
    morphotactics: bool = True  # whether affixes keep to the classes they may follow
    root_share: float = ROOT_SHARE  # of what the vocabulary has room for; literal pieces have the rest
    pretokenizer: PretokenizerSpec = field(default_factory=lambda: PretokenizerSpec(preset="words"))
    digits: Literal["l2r", "r2l", "single"] | None = None  # in place of the preset's own rule
    compat: Literal["none", "turkish-tokenizer-0.2"] = "none"

    def __post_init__(self) -> None:
        TokenizerSpec.__post_init__(self)
        if self.digits and self.pretokenizer.digits:
            raise ValueError("digits is given twice, beside the pretokenizer and inside it")
        if self.segmenter == "morfessor" and (self.language is not None or self.roots is not None):
            raise ValueError("segmenter is 'morfessor', which learns from the words; language and roots do not go with it")
        if self.segmenter == "language" and not self.language:
            raise ValueError(
                "language is missing: tr, or a folder with harmony.tsv, affixes.tsv and roots.tsv; or segmenter: morfessor"
            )
        if not 0 <= self.root_share <= 1:
            raise ValueError(f"root_share is {self.root_share}; a share from 0 to 1 is allowed")
        if self.initial_alphabet != "bytes":
            raise ValueError(f"initial_alphabet is {self.initial_alphabet!r}; a tokenizer of this kind always has all bytes")
        if self.compat != "none" and (self.roots is not None or self.normalizer != "none" or self.segmenter != "language"):
            raise ValueError(
                f"compat is {self.compat!r}, which goes with language: FOLDER only, without roots or a normalizer"
            )

    @property
    def encoder(self) -> Literal["merge"]:
        """As ``BpeSpec.encoder``."""
        return "merge"

    @property
    def model_file(self) -> str:
        """As ``TokenizerSpec``."""
        return "morph.json"

    def make_pretokenizer(self) -> Pretokenizer:
        """As ``TokenizerSpec``."""
        return self.pretokenizer.make(self.digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperBpeSpec(TokenizerSpec):
    """A tokenizer to train in two stages: subwords, then merges across blanks.

    ``stage`` says what the second is trained on. ``superwords``: all that stands between cuts of ``unit_pretokenizer``; this
    is SuperBPE. The others give other tokenizers. ``word_runs``: runs of words that are one token each, as BoundlessBPE.
    ``random_chunks``: chunks of a random number of characters, as Supertokens. ``random_whitespace``: text that is cut
    before each white space with some probability, as KL3M-005.
    """

    kind: Literal["superbpe"] = "superbpe"
    recipe: Literal["paper", "recommended"] = "recommended"  # how both stages cut text, if nothing else is said
    pretokenizer: PretokenizerSpec | None = None  # of the first stage
    unit_pretokenizer: PretokenizerSpec | None = None  # of the second stage, and of the tokenizer
    transition: int | float | None = None  # tokens from the first stage: their number, or their share of vocab_size
    transitions: tuple[int | float, ...] = ()  # a tokenizer for each of them: jobs.load makes them, named NAME-tXX
    stage: Literal["superwords", "word_runs", "random_chunks", "random_whitespace"] = "superwords"
    max_words: int | None = None  # in a token of the second stage, 0: any number; default: superwords 4, else 0
    forbidden: tuple[str, ...] | None = None  # texts no token of the second stage has in it; default: superwords ": "
    newlines: Literal["end", "free"] = "end"  # only at the end of a superword, or anywhere in it
    sample_bytes: int | None = None  # of text for the second stage: documents chosen by their ids; default: all
    chunk_chars: tuple[int, ...] = (16, 64)  # random_chunks: the fewest and the most characters
    probability: float = 0.4  # random_whitespace: that text is cut before a white space
    seed: int = 0  # of random_chunks and random_whitespace
    base: str | None = None  # a tokenizer.json in place of the first stage
    allow_smaller: bool = False  # whether the vocabulary may end up below vocab_size, for want of merges
    compat: Literal["none", "reference"] = "none"  # reference: the corner cases of the original implementation

    def __post_init__(self) -> None:
        TokenizerSpec.__post_init__(self)
        if self.transitions:
            raise ValueError("transitions is given beside transition; one of the two is allowed")
        self._check_transition()
        if self.max_words is not None and not 0 <= self.max_words <= _MOST_COUNT:
            raise ValueError(f"max_words is {self.max_words}; 0 (any number) to {_MOST_COUNT} is allowed")
        if self.forbidden is not None and "" in self.forbidden:
            raise ValueError("forbidden holds an empty string")
        if self.sample_bytes is not None and self.sample_bytes < 1:
            raise ValueError(f"sample_bytes is {self.sample_bytes}; 1 or more is allowed")
        if len(self.chunk_chars) != 2 or not 1 <= self.chunk_chars[0] <= self.chunk_chars[1] <= _MOST_CHUNK_CHARS:
            raise ValueError(
                f"chunk_chars is {list(self.chunk_chars)}; [fewest, most], with 1 <= fewest <= most <= {_MOST_CHUNK_CHARS} "
                "is allowed"
            )
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability is {self.probability}; a number above 0, up to 1, is allowed")
        check_seed(self.seed)
        if self.compat == "reference" and (self.initial_alphabet, self.stage, self.newlines) != (
            "seen", "superwords", "end",
        ):  # fmt: skip
            raise ValueError(
                "compat is 'reference', which is trained with initial_alphabet: seen, stage: superwords and newlines: end; "
                f"found {self.initial_alphabet}, {self.stage} and {self.newlines}"
            )

    def _check_transition(self) -> None:
        transition = self.transition
        if self.base is not None:
            if not self.base:
                raise ValueError("base is empty; a tokenizer.json, or a folder with one, is needed")
            if self.pretokenizer is not None and self.stage != "word_runs":
                raise ValueError(
                    "base is given: its tokens are the first stage; a pretokenizer for that does not go with it"
                )
            if transition is not None or self.compat == "reference":
                raise ValueError("base is given: its tokens are the first stage; transition and compat do not go with it")
            return
        if transition is None:
            if not self.is_random:
                raise ValueError(
                    "transition is missing: how many tokens come from the first stage, as a number or as a share of "
                    "vocab_size, such as 0.8; or transitions, a list of such, or base"
                )
            return
        if isinstance(transition, float) and not 0 < transition <= 1:
            raise ValueError(f"transition is {transition}; a whole number of tokens, or a share from 0 to 1, is allowed")
        least = 1 if self.compat == "reference" else self.least_size
        if not least <= self.num_first <= self.vocab_size:
            raise ValueError(
                f"transition is {transition}, {self.num_first} tokens; {least} (special tokens and bytes, no merge) to "
                f"{self.vocab_size} (vocab_size, no second stage) are allowed"
            )

    @property
    def encoder(self) -> Literal["merge"]:
        """As ``BpeSpec.encoder``."""
        return "merge"

    @property
    def is_random(self) -> bool:
        """Whether chance has a part in how text is cut for the second stage."""
        return self.stage in ("random_chunks", "random_whitespace")

    @property
    def num_first(self) -> int:
        """Tokens when the second stage begins. As the original counts (``compat``), lines of its merges file."""
        if self.transition is None:
            return self.least_size
        return round(self.transition * self.vocab_size) if isinstance(self.transition, float) else self.transition

    @property
    def most_words(self) -> int:
        """In a token of the second stage; 0: any number."""
        return self.max_words if self.max_words is not None else 4 if self.stage == "superwords" else 0

    @property
    def forbidden_texts(self) -> tuple[str, ...]:
        """Texts that no token of the second stage has in it."""
        return self.forbidden if self.forbidden is not None else (": ",) if self.stage == "superwords" else ()

    def make_pretokenizer(self) -> Pretokenizer:
        """As ``TokenizerSpec``. What is random in training cannot be done again: such a tokenizer does not cut at all."""
        if self.unit_pretokenizer is not None:
            return self.unit_pretokenizer.make()
        return Pretokenizer(() if self.is_random else RECIPES[self.recipe][1])

    def make_word_pretokenizer(self) -> Pretokenizer:
        """As ``TokenizerSpec``; of the first stage."""
        first = self.pretokenizer.make() if self.pretokenizer else Pretokenizer(RECIPES[self.recipe][0])
        return Pretokenizer((LINES, *first.patterns)) if self.compat == "reference" else first

    def make_unit_pretokenizer(self) -> Pretokenizer:
        """How text is cut into what the second stage is trained on."""
        lines = {"end": (LINES if self.compat == "reference" else PARAGRAPHS,), "free": ()}[self.newlines]
        return Pretokenizer((*lines, *self.make_pretokenizer().patterns))


TrainedSpec = BpeSpec | CharSpec | DomainSpec | DnaSpec | ExtendSpec | SuperBpeSpec | MorphSpec
"""What is trained on the corpus."""

AnySpec = TrainedSpec | PoolSpec
"""What may stand under ``tokenizers``."""


def encoder_of(tokenizer: AnySpec) -> Literal["merge", "greedy", "fewest"]:
    """How words become ids; a pool's members have encoders of their own."""
    return "merge" if isinstance(tokenizer, PoolSpec) else tokenizer.encoder

"""What tokenizers share: the passes that count their words and units, and the merges they take a part of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.added import AddedToken
from pipeline.pretokenizer import Pretokenizer
from pipeline.spec import JobSpec
from pipeline.stages.units import RandomCut
from pipeline.tokenizer import Tokenizer
from pipeline.tokenizer_spec import BpeSpec, CharSpec, DnaSpec, DomainSpec, ExtendSpec, SuperBpeSpec, TrainedSpec

# --- counting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingPass:
    """Tokenizers with the same normalizer and pretokenizer share one count of the words.

    So do those whose second stage is trained on the same units, which are counted like words: of a sample of the documents,
    ``sample_bytes`` of text, or of all, and perhaps cut at random first. ``added``: tokens that are cut out of the text
    before anything else, and are no words; ``hiding``: special tokens, see ``AddedCutter``.
    """

    name: str
    normalizer: str
    pretokenizer: Pretokenizer
    sample_bytes: int | None = None
    random_cut: RandomCut | None = None
    added: tuple[AddedToken, ...] = ()
    hiding: tuple[str, ...] = ()

    @property
    def step(self) -> str:
        """Which step counts."""
        return "units" if self.name.startswith("units") else "count"

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> CountingPass:
        """Back from ``dataclasses.asdict`` and JSON."""
        return CountingPass(
            name=fields["name"],
            normalizer=fields["normalizer"],
            pretokenizer=Pretokenizer(tuple(fields["pretokenizer"]["patterns"])),
            sample_bytes=fields["sample_bytes"],
            random_cut=RandomCut.from_dict(fields["random_cut"]) if fields["random_cut"] else None,
            added=tuple(AddedToken(**token) for token in fields["added"]),
            hiding=tuple(fields["hiding"]),
        )


def counting_pass(tokenizer: TrainedSpec, base: Tokenizer | None = None) -> CountingPass:
    """The pass a tokenizer's words come from; named by what determines the words.

    ``base``: of a tokenizer that extends it, which cuts text as it does.
    """
    if isinstance(tokenizer, ExtendSpec):
        assert base is not None
        hiding = base.special_tokens if base.added_tokens else ()
        normalizer, pretokenizer, added = base.normalizer, base.pretokenizer, base.added_tokens
    else:
        normalizer, pretokenizer, added, hiding = tokenizer.text_normalizer, tokenizer.make_word_pretokenizer(), (), ()
    key: dict[str, Any] = {"normalizer": normalizer, "patterns": list(pretokenizer.patterns)}
    key |= {"added": [dataclasses.asdict(token) for token in added], "hiding": hiding} if added else {}
    return CountingPass(
        name=f"words-{_key(key)}", normalizer=normalizer, pretokenizer=pretokenizer, added=added, hiding=hiding
    )


def unit_pass(tokenizer: SuperBpeSpec) -> CountingPass:
    """The pass the units of a second stage come from; named by what determines them."""
    cut = None
    if tokenizer.stage == "random_chunks":
        cut = RandomCut(seed=tokenizer.seed, chars=(tokenizer.chunk_chars[0], tokenizer.chunk_chars[1]))
    elif tokenizer.stage == "random_whitespace":
        cut = RandomCut(seed=tokenizer.seed, probability=tokenizer.probability)
    found = CountingPass(
        name="units",
        normalizer=tokenizer.text_normalizer,
        pretokenizer=tokenizer.make_unit_pretokenizer(),
        sample_bytes=tokenizer.sample_bytes,
        random_cut=cut,
    )
    return dataclasses.replace(found, name=f"units-{_key(dataclasses.asdict(found))}")


@dataclass(frozen=True, slots=True)
class Needs:
    """What each tokenizer is made of. ``passes``: all of them, each once. By tokenizer: ``trained_on``, its passes, the last
    of which its own training reads; ``subwords``, the name of the merges it takes a part of, or goes on from, if those are
    a training of their own.
    """

    passes: tuple[CountingPass, ...]
    trained_on: dict[str, list[str]]
    subwords: dict[str, str]


def needs_of(spec: JobSpec, bases: Mapping[str, Tokenizer]) -> Needs:
    """What the tokenizers of a job need, and so what they share. ``bases``: by tokenizer, the one it starts from."""
    passes: dict[str, CountingPass] = {}
    trained_on: dict[str, list[str]] = {}
    keys: dict[str, str] = {}
    for tokenizer in spec.trained:
        found = _passes_of(tokenizer, bases.get(tokenizer.name))
        passes |= {counting.name: counting for counting in found}
        trained_on[tokenizer.name] = [counting.name for counting in found]
        if found[0].step == "count" and _has_plain_merges(tokenizer):
            keys[tokenizer.name] = _subwords_key(spec, tokenizer, found[0].name)
    times = Counter(keys.values())
    superwords = {tokenizer.name for tokenizer in spec.trained if isinstance(tokenizer, SuperBpeSpec)}
    subwords = {name: key for name, key in keys.items() if times[key] > 1 or name in superwords}
    return Needs(tuple(passes.values()), trained_on, subwords)


def _passes_of(tokenizer: TrainedSpec, base: Tokenizer | None) -> list[CountingPass]:
    if not isinstance(tokenizer, SuperBpeSpec):
        return [counting_pass(tokenizer, base)]
    return [*([] if tokenizer.base else [counting_pass(tokenizer)]), unit_pass(tokenizer)]


# --- training ---------------------------------------------------------------------------------------------------------


def _has_plain_merges(tokenizer: TrainedSpec) -> bool:
    """Whether its merges, or those of its first stage, are those of the words alone: a smaller vocabulary has the first."""
    match tokenizer:
        case BpeSpec():
            return tokenizer.morphemes is None
        case DomainSpec():
            return tokenizer.use_terms == "reserve"
        case CharSpec() | DnaSpec() | SuperBpeSpec():
            return True
        case _:
            return False


def _subwords_key(spec: JobSpec, tokenizer: TrainedSpec, words: str) -> str:
    """Of trainings that differ only in how far they go."""
    weights = list(spec.weights_of(tokenizer).values())
    fields = (
        words, tokenizer.min_count, tokenizer.min_word_count, tokenizer.max_token_length, tokenizer.initial_alphabet,
        tokenizer.special_tokens, tokenizer.most_chars, weights,
    )  # fmt: skip
    return _key(fields)


def _key(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]

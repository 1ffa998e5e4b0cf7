"""The terms that a domain tokenizer asks for, in one file: read once, by the driver, and published for the tasks."""

from __future__ import annotations

import json

from pipeline import storage
from pipeline.errors import ArtifactError, SpecError, StorageError
from pipeline.terms import Term, list_terms, normalized, parse_terms, read_pack, reserved
from pipeline.tokenizer_spec import DomainSpec
from pipeline.trainers.domain import can_be_added


def terms_pack(tokenizer: DomainSpec) -> bytes:
    """A tokenizer's own terms, then those of its packs, as its normalizer leaves them; each once.

    Raises
    ------
    SpecError
        The file cannot be read, a term is none or is not as the normalizer leaves it, or there are more than the vocabulary
        has room for.
    """
    packs = [term for name in tokenizer.packs for term in read_pack(name)]
    given = [term for term in packs if term.text not in tokenizer.special_tokens]  # <s> is HTML, too
    terms = normalized([*_own_terms(tokenizer), *given], tokenizer.text_normalizer)
    if tokenizer.use_terms == "reserve":
        _check_room(tokenizer, terms)
    return json.dumps([[term.text, term.match] for term in terms], ensure_ascii=False).encode()


def parse_terms_pack(content: str) -> tuple[Term, ...]:
    """The terms in a pack."""
    return tuple(Term(text, match) for text, match in json.loads(content))


def messages(tokenizer: DomainSpec) -> list[str]:
    """What a user may not expect of his own terms if they are reserved."""
    if tokenizer.use_terms != "reserve":
        return []
    found = []
    terms = [term.text for term in _own_terms(tokenizer)]
    if words := [text for text in terms if text.isalpha()]:
        found.append(
            f"{len(words)} of its terms are plain words, such as {words[0]!r}; reserved, they are cut out of longer words "
            "that begin so, too; use_terms: count is meant for them"
        )
    if spelled := [text for text in terms if not can_be_added(text)]:
        found.append(
            f"{len(spelled)} of its terms, such as {spelled[0]!r}, are how a tokenizer.json spells other bytes: words are "
            "reserved behind a blank only, signs not at all; training may learn them"
        )
    return found


def _own_terms(tokenizer: DomainSpec) -> tuple[Term, ...]:
    if tokenizer.terms is None:
        return ()
    if not isinstance(tokenizer.terms, str):
        return list_terms(tokenizer.terms, "terms")
    try:
        content = storage.read_bytes(storage.absolute(tokenizer.terms))
    except (ArtifactError, StorageError) as error:
        raise SpecError(f"terms is {tokenizer.terms!r}, which cannot be read: {error}") from None
    return parse_terms(content, tokenizer.terms)


def _check_room(tokenizer: DomainSpec, terms: tuple[Term, ...]) -> None:
    contents = [content for content, _ in reserved(terms)]
    for token in tokenizer.special_tokens:
        if token in contents:
            raise SpecError(
                f"special_tokens holds {token!r}, which is a term to reserve as well; it can be only one of the two"
            )
    num_tokens = sum(map(can_be_added, contents))
    if num_tokens + tokenizer.least_size > tokenizer.vocab_size:
        raise SpecError(
            f"vocab_size is {tokenizer.vocab_size}; {len(terms)} terms to reserve are {num_tokens} tokens, behind a blank "
            f"and without, and with {tokenizer.least_size} for bytes and special tokens that is "
            f"{num_tokens + tokenizer.least_size}; use a larger one, fewer terms, or use_terms: count"
        )

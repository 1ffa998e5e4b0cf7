"""Terms in a vocabulary."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.added import AddedToken
from pipeline.byte_level import to_chars
from pipeline.pretokenizer import Pretokenizer
from pipeline.terms import Term, reserved
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, train_bpe
from pipeline.trainers.domain import can_be_added, count_terms, padding, reserve_terms
from tests.trainers.test_superbpe import rows_and_counts

texts = st.text("abcé1 ", min_size=2, max_size=5).map(str.strip).filter(lambda text: len(text) > 1)
terms = st.lists(st.builds(Term, texts, st.sampled_from(["whole", "anywhere"])), max_size=6, unique_by=lambda t: t.text)
word_counts = st.dictionaries(
    st.text("abc é1", min_size=1, max_size=6).map(str.encode), st.integers(1, 9), min_size=1, max_size=12
)


def train(counts: dict[bytes, int], vocab_size: int, **more: object) -> TrainedBpe:
    return train_bpe(*rows_and_counts(counts), BpeOptions(vocab_size=vocab_size, **more))  # type: ignore[arg-type]


@given(word_counts, terms, st.integers(280, 320))
def test_every_place_is_used_and_every_term_is_there(counts: dict[bytes, int], some: list[Term], vocab_size: int) -> None:
    whole = train(counts, 340, special_tokens=("<s>",))
    trained, added, left_out = reserve_terms(whole, some, vocab_size)
    contents = [content for content, _ in reserved(some)]
    anywhere = {term.text for term in some if term.match == "anywhere"}
    spelled = {content: {to_chars(content.encode()), to_chars(b" " + content.encode())} for content in contents}
    new = list(trained.vocab)[256 + 1 + len(trained.merges) :]
    assert set(left_out) == {content for content in contents if not can_be_added(content)}
    assert list(trained.vocab.values()) == list(range(len(trained.vocab)))
    merged = list(trained.vocab)[: 256 + 1 + len(trained.merges)]
    assert new == [token.content for token in added if token.content not in merged]  # at the end, in the order of the terms
    glue = [content for content in contents if content in anywhere and spelled[content] & {*merged}]
    assert [token.content for token in added] == [c for c in contents if c not in (*left_out, *glue)]
    assert len(trained.vocab) <= vocab_size
    # What training alone gives at the size that is left, and one merge more would be one id too many.
    size = len(trained.vocab) - len(new)
    assert trained.merges == train(counts, size, special_tokens=("<s>",)).merges
    if size < len(whole.vocab):
        larger = train(counts, size + 1, special_tokens=("<s>",)).vocab
        missing = [c for c in contents if c not in (*left_out, *larger)]
        missing = [c for c in missing if c not in anywhere or not spelled[c] & {*larger}]
        assert len(larger) + len(missing) > vocab_size


def test_docstring_example() -> None:
    whole = train({b"abc": 5, b"ab": 4}, 258)
    assert whole.merges == (("a", "b"), ("ab", "c"))
    trained, added, left_out = reserve_terms(whole, [Term("ab", "anywhere"), Term("x y", "anywhere")], 258)
    assert trained.merges == (("a", "b"),)
    assert added == (AddedToken("x y"),)
    assert list(trained.vocab)[256:] == ["ab", "x y"]
    assert left_out == ()
    trained, added, _ = reserve_terms(whole, [Term("ab", "whole"), Term("x y", "anywhere")], 259)
    assert added == (AddedToken(" ab"), AddedToken("ab", True), AddedToken("x y"))
    assert list(trained.vocab)[256:] == ["ab", " ab", "x y"]


def test_a_term_that_is_spelled_like_other_bytes_is_left_out_and_told() -> None:
    assert not can_be_added("§§")
    assert can_be_added(" §§")
    assert can_be_added("§ 7")
    trained, added, left_out = reserve_terms(train({b"a": 1}, 256), [Term("§§", "anywhere"), Term("Bürge", "whole")], 300)
    assert left_out == ("§§", "Bürge")
    assert added == (AddedToken(" Bürge"),)
    assert len(trained.vocab) == 257


def test_a_term_that_is_learned_is_a_token_all_the_same() -> None:
    """By itself it has the id of the merges; behind a blank it is spelled otherwise."""
    whole = train({b"supra": 9, b" supra": 9}, 261)
    assert list(whole.vocab)[259:] == ["supra", "Ġsupra"]
    for size, last in ((262, ["supra", "Ġsupra", " supra"]), (261, ["supra", " supra"]), (260, [" supra", "supra"])):
        trained, added, _ = reserve_terms(whole, [Term("supra", "whole")], size)
        assert added == (AddedToken(" supra"), AddedToken("supra", True))
        assert len(trained.vocab) == size
        assert list(trained.vocab)[-len(last) :] == last


def test_a_byte_is_a_token_anyway_unless_the_alphabet_lacks_it() -> None:
    some = [Term("~", "whole"), Term("a", "anywhere")]
    assert reserve_terms(train({b"ab": 1}, 260), some, 300)[1] == ()
    trained, added, _ = reserve_terms(train({b"ab": 1}, 260, initial_alphabet="seen"), some, 300)
    assert added == (AddedToken("~"),)
    assert trained.vocab == {"a": 0, "b": 1, "ab": 2, "~": 3}


def test_terms_are_counted_as_the_words_they_are() -> None:
    words, counts = rows_and_counts({b" estoppel": 3, b" the": 7})
    some = [Term("estoppel", "whole"), Term("res judicata", "whole")]
    more, more_counts = count_terms(words, counts, some, 10, Pretokenizer.named("gpt2"), "none")
    found = {
        more.values[start:stop].tobytes(): count
        for start, stop, count in zip(more.offsets[:-1], more.offsets[1:], more_counts.tolist(), strict=True)
    }
    assert found == {
        b" estoppel": 13, b"estoppel": 10, b" the": 7, b" res": 10, b"res": 10, b" judicata": 20,
    }  # fmt: skip


@given(word_counts, st.integers(256, 300), st.integers(0, 40))
def test_padding(counts: dict[bytes, int], vocab_size: int, more: int) -> None:
    trained = train(counts, vocab_size, special_tokens=("<|reserved_1|>",))
    size = len(trained.vocab) + more
    padded, specials = padding(trained, ("<|reserved_1|>",), size)
    assert len(padded.vocab) == size
    assert list(padded.vocab)[: len(trained.vocab)] == list(trained.vocab)
    names = [f"<|reserved_{number}|>" for number in range(more + 1) if number != 1][:more]
    assert list(padded.vocab)[len(trained.vocab) :] == names
    assert specials == ("<|reserved_1|>", *names)

"""Naive twins of kernels, stages and trainers: short, slow, and independent of the package."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

Pair = tuple[int, int]

_M64 = (1 << 64) - 1

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
CHAR_OF_BYTE = {byte: chr(byte) for byte in _PRINTABLE}
for _byte in range(256):
    CHAR_OF_BYTE.setdefault(_byte, chr(256 + len(CHAR_OF_BYTE) - len(_PRINTABLE)))


def spell(token: bytes) -> str:
    """A token in the characters of GPT-2's alphabet."""
    return "".join(CHAR_OF_BYTE[byte] for byte in token)


# --- words ------------------------------------------------------------------------------------------------------------


def split(text: str, patterns: Sequence[str]) -> list[str]:
    """Cut by each regex in turn; what a regex leaves out stays as a piece."""
    pieces = [text] if text else []
    for pattern in patterns:
        cutter = Split(Regex(pattern), "isolated")
        pieces = [piece for whole in pieces for piece, _ in cutter.pre_tokenize_str(whole)]
    return pieces


def count_words(words: Iterable[bytes]) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


def merge_counts(parts: Sequence[Mapping[bytes, int]], weights: Sequence[int]) -> dict[bytes, int]:
    """Word counts of several sources as one, each count times its source's weight."""
    total: Counter[bytes] = Counter()
    for counts, weight in zip(parts, weights, strict=True):
        for word, count in counts.items():
            total[word] += count * weight
    return dict(total)


# --- added tokens -----------------------------------------------------------------------------------------------------

_WORD_CHARS = Split(Regex(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]"), "removed")


def is_word_char(char: str) -> bool:
    return not _WORD_CHARS.pre_tokenize_str(char)


def cut_added(text: str, tokens: Sequence[tuple[str, bool]], hiding: Sequence[str] = ()) -> tuple[list[str], list[int]]:
    """The pieces between added tokens, and the number of each token; ``tokens``: content, and whether it must be a word.

    The longest that starts at a position is found, and the search goes on behind it even if it is then dropped.
    """
    contents = [content for content, _ in tokens] + list(hiding)
    pieces, numbers, start, at = list[str](), list[int](), 0, 0
    while at < len(text):
        here = [content for content in contents if text.startswith(content, at)]
        if not here:
            at += 1
            continue
        longest = max(here, key=len)
        number, stop = contents.index(longest), at + len(longest)
        touches = (at > 0 and is_word_char(text[at - 1])) or (stop < len(text) and is_word_char(text[stop]))
        if number < len(tokens) and not (tokens[number][1] and touches):
            pieces.append(text[start:at])
            numbers.append(number)
            start = stop
        at = stop
    return [*pieces, text[start:]], numbers


# --- BPE --------------------------------------------------------------------------------------------------------------


def merge_all(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    """Every occurrence of a pair replaced, from the left."""
    out: list[int] = []
    at = 0
    while at < len(ids):
        is_pair = tuple(ids[at : at + 2]) == pair
        out.append(new if is_pair else ids[at])
        at += 2 if is_pair else 1
    return out


def best_pair(words: Iterable[tuple[Sequence[int], int]], is_allowed: Mapping[Pair, bool]) -> tuple[Pair, int] | None:
    """The pair with the highest count, then the smaller left id, then the smaller right id."""
    counts: Counter[Pair] = Counter()
    for ids, count in words:
        for pair in itertools.pairwise(ids):
            counts[pair] += count
    allowed = [(-count, pair) for pair, count in counts.items() if is_allowed.get(pair, True)]
    if not allowed:
        return None
    count, pair = min(allowed)
    return pair, -count


def train_bpe(
    counts: Mapping[bytes, int],
    vocab_size: int,
    *,
    min_count: int = 1,
    max_token_length: int | None = None,
    alphabet: str = "bytes",
    special_tokens: Sequence[str] = (),
) -> tuple[dict[str, int], list[tuple[str, str]], list[int]]:
    """Vocabulary, merges and their counts, counting every pair anew for every merge."""
    vocab: dict[str, int] = {}
    for token in special_tokens:
        vocab.setdefault(token, len(vocab))
    seen = {byte for word in counts for byte in word} if alphabet == "seen" else set(range(256))
    for char in sorted(CHAR_OF_BYTE[byte] for byte in seen):
        vocab.setdefault(char, len(vocab))
    spelling = {token_id: chars for chars, token_id in vocab.items()}
    initial = set(vocab.values())
    words = [([vocab[CHAR_OF_BYTE[byte]] for byte in word], count) for word, count in counts.items()]
    merges: list[tuple[str, str]] = []
    merge_counts: list[int] = []
    made: set[int] = set()  # ids that a merge has made, special ones too

    def is_allowed(pair: Pair) -> bool:
        is_initial = all(token in initial and token not in made for token in pair)
        length = sum(len(spelling[token]) for token in pair)
        return is_initial or max_token_length is None or length < max_token_length

    while len(vocab) < vocab_size:
        pairs = {pair for ids, _ in words for pair in itertools.pairwise(ids)}
        found = best_pair(words, {pair: is_allowed(pair) for pair in pairs})
        if found is None or found[1] < max(min_count, 1):
            break
        pair, count = found
        chars = spelling[pair[0]] + spelling[pair[1]]
        new = vocab.setdefault(chars, len(vocab))
        spelling[new] = chars
        made.add(new)
        merges.append((spelling[pair[0]], spelling[pair[1]]))
        merge_counts.append(count)
        words = [(merge_all(ids, pair, new), count) for ids, count in words]
    return vocab, merges, merge_counts


def num_chars(chars: str) -> int:
    """Characters of text in a token, in byte-level characters: whole ones and parts."""
    byte_of = {char: byte for byte, char in CHAR_OF_BYTE.items()}
    begins = [not 0x80 <= byte_of.get(char, 0) < 0xC0 for char in chars]
    return sum(begins) + (not begins[0])


def is_vetoed(chars: str, max_words: int, forbidden: Sequence[str], max_chars: int = 0) -> bool:
    """Whether a token, in byte-level characters, has too many words or characters or a forbidden text in it."""
    num_words = len([word for word in chars.split("Ġ") if word])
    is_long = 0 < max_words < num_words or 0 < max_chars < num_chars(chars)
    return is_long or any(text in chars for text in forbidden)


def train_sequences(
    sequences: Mapping[tuple[int, ...], int],
    spellings: Sequence[str],
    vocab_size: int,
    *,
    min_count: int = 1,
    max_token_length: int | None = None,
    max_words: int = 0,
    forbidden: Sequence[str] = (),
    max_chars: int = 0,
) -> tuple[dict[str, int], list[tuple[str, str]], list[int]]:
    """Merges of sequences of ids, counting every pair anew; ids of several characters are made by merges, earlier ones."""
    spellings = list(spellings)
    words = [(list(sequence), count) for sequence, count in sequences.items()]
    made = {token_id for token_id, chars in enumerate(spellings) if len(chars) > 1}
    merges, merge_counts = [], []

    def is_allowed(pair: Pair) -> bool:
        chars = spellings[pair[0]] + spellings[pair[1]]
        if is_vetoed(chars, max_words, forbidden, max_chars):
            return False
        return max_token_length is None or not made & set(pair) or len(chars) < max_token_length

    while len(spellings) < vocab_size:
        pairs = {pair for ids, _ in words for pair in itertools.pairwise(ids)}
        found = best_pair(words, {pair: is_allowed(pair) for pair in pairs})
        if found is None or found[1] < max(min_count, 1):
            break
        pair, count = found
        chars = spellings[pair[0]] + spellings[pair[1]]
        if chars not in spellings:
            spellings.append(chars)
        new = spellings.index(chars)
        made.add(new)
        merges.append((spellings[pair[0]], spellings[pair[1]]))
        merge_counts.append(count)
        words = [(merge_all(ids, pair, new), count) for ids, count in words]
    return {chars: token_id for token_id, chars in enumerate(spellings)}, merges, merge_counts


def extend_merges(
    units: Mapping[bytes, int],
    merges_txt: Sequence[str],
    num_lines: int,
    vocab_size: int,
    *,
    max_words: int = 4,
    forbidden: Sequence[str] = (":Ġ",),
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The second stage of the original SuperBPE, step by step.

    ``merges_txt``: the file of the first stage, its version in the first line; the first ``num_lines`` of it are taken, and
    their first is skipped. Vocabulary and merges of both stages.
    """
    inherited = [tuple(line.split(" ")) for line in merges_txt[:num_lines][1:]]
    vocab = {char: number for number, char in enumerate(sorted({CHAR_OF_BYTE[byte] for unit in units for byte in unit}))}
    words = [([vocab[CHAR_OF_BYTE[byte]] for byte in unit], count) for unit, count in units.items()]
    merges = []
    queue = {pair for ids, _ in words for pair in itertools.pairwise(ids)}
    for left, right in inherited:
        if left not in vocab or right not in vocab or (vocab[left], vocab[right]) not in queue:
            continue
        pair = vocab[left], vocab[right]
        new = vocab.setdefault(left + right, len(vocab))
        merges.append((left, right))
        words = [(merge_all(ids, pair, new), count) for ids, count in words]
        queue.remove(pair)
        queue |= {pair for ids, _ in words for pair in itertools.pairwise(ids)}
    sequences: dict[tuple[int, ...], int] = {}
    for ids, count in words:
        sequences[tuple(ids)] = sequences.get(tuple(ids), 0) + count
    vocab, more, _ = train_sequences(sequences, list(vocab), vocab_size, max_words=max_words, forbidden=forbidden)
    return vocab, merges + more


def encode(ids: Sequence[int], merges: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Merge the pair of lowest rank, leftmost first, until none is left. ``merges``: pair to (rank, id)."""
    out = list(ids)
    while True:
        ranked = [(merges[pair][0], at) for at, pair in enumerate(itertools.pairwise(out)) if pair in merges]
        if not ranked:
            return out
        _, at = min(ranked)
        out[at : at + 2] = [merges[out[at], out[at + 1]][1]]


# --- the mixture behind merges ----------------------------------------------------------------------------------------

PairCounts = dict[Pair, tuple[int, ...]]


def replay_merges(
    words: Sequence[tuple[Sequence[int], tuple[int, ...]]], merges: Sequence[Pair], results: Sequence[int]
) -> list[PairCounts]:
    """The counts of all pairs by category, of words with theirs: before each merge and after the last, all counted anew."""
    tables: list[PairCounts] = []
    now = [(list(ids), counts) for ids, counts in words]
    for step in range(len(merges) + 1):
        table: PairCounts = {}
        for ids, counts in now:
            for pair in itertools.pairwise(ids):
                table[pair] = tuple(a + b for a, b in zip(table.get(pair, (0,) * len(counts)), counts, strict=True))
        tables.append({pair: counts for pair, counts in table.items() if any(counts)})
        if step < len(merges):
            now = [(merge_all(ids, merges[step], results[step]), counts) for ids, counts in now]
    return tables


def find_rivals(
    tables: Sequence[PairCounts],
    merges: Sequence[Pair],
    weights: Sequence[float],
    levels: Sequence[float],
    slacks: Mapping[Pair, float],
) -> dict[Pair, list[float]]:
    """By how much each pair is above the level at each step; far below where it does not stand or is merged."""
    excesses: dict[Pair, list[float]] = {}
    for step, level in enumerate(levels):
        for pair, counts in tables[step].items():
            mixed = sum(count * weight for count, weight in zip(counts, weights, strict=True))
            if pair != merges[step]:
                excesses.setdefault(pair, [-math.inf] * len(levels))[step] = mixed - level - slacks.get(pair, 0.0)
    return excesses


def least_slack(tables: Sequence[PairCounts], merges: Sequence[Pair], weights: Sequence[float], *, falls: bool) -> float:
    """The least sum of slacks over all mixtures: the whole linear program of Hayase et al. (2024), every row of it.

    One row for each merge and each other pair at its step. ``falls``: also that levels between them never rise.
    """
    from scipy.optimize import linprog

    pairs = sorted({pair for table in tables for pair in table})
    num_shares, num_steps = len(weights), len(merges)
    num_columns = num_shares + len(pairs) + 2 * num_steps  # shares, slacks of pairs, slacks of merges, levels
    rows = []

    def row(share_counts: Sequence[int], sign: int, others: Mapping[int, int]) -> None:
        values = [sign * count * weight for count, weight in zip(share_counts, weights, strict=True)]
        values += [0.0] * (num_columns - num_shares)
        for column, value in others.items():
            values[column] = value
        rows.append(values)

    none = (0,) * num_shares
    for step, merge in enumerate(merges):
        merge_slack = num_shares + len(pairs) + step
        level = merge_slack + num_steps
        row(tables[step].get(merge, none), -1, {merge_slack: -1, level: 1})
        if falls and step:
            row(none, 1, {level: 1, level - 1: -1})
        for pair, counts in tables[step].items():
            if pair != merge:
                row(counts, 1, {num_shares + pairs.index(pair): -1, level: -1})
    costs = [0.0] * num_shares + [1.0] * (len(pairs) + num_steps) + [0.0] * num_steps
    ones = [1.0] * num_shares + [0.0] * (num_columns - num_shares)
    result = linprog(costs, A_ub=rows, b_ub=[0.0] * len(rows), A_eq=[ones], b_eq=[1.0])
    assert result.status == 0, result.message
    return float(result.fun)


# --- packing and planning ---------------------------------------------------------------------------------------------


def best_fit(lengths: Sequence[int], sequence_length: int) -> list[int]:
    """The sequence of each piece: longest first, into the least room that suffices, of equals the one changed last."""
    rooms: list[tuple[int, int]] = []  # room and when it was last changed, of each sequence
    sequence_of = [-1] * len(lengths)
    for now, piece in enumerate(sorted(range(len(lengths)), key=lambda piece: -lengths[piece])):
        length = lengths[piece]
        fitting = [(room, -changed, sequence) for sequence, (room, changed) in enumerate(rooms) if room >= length]
        if not fitting:
            fitting = [(sequence_length, 0, len(rooms))]
            rooms.append((sequence_length, now))
        room, _, sequence = min(fitting)
        rooms[sequence] = (room - length, now)
        sequence_of[piece] = sequence
    return sequence_of


def cut_documents(documents: Sequence[Sequence[int]], length: int, overflow: str) -> list[list[int]]:
    """Documents as pieces no longer than ``length``; never empty."""
    pieces: list[list[int]] = []
    for document in documents:
        chunks = [list(document[at : at + length]) for at in range(0, len(document), length)]
        if overflow == "truncate":
            chunks = chunks[:1]
        if overflow == "drop" and len(chunks) > 1:
            chunks = []
        pieces += chunks
    return pieces


def concat_rows(pieces: Sequence[Sequence[int]], length: int) -> list[list[list[int]]]:
    """Rows of parts: the pieces end to end, cut at every ``length`` ids."""
    stream = [(number, value) for number, piece in enumerate(pieces) for value in piece]
    rows = [stream[at : at + length] for at in range(0, len(stream), length)]
    return [[[v for _, v in part] for _, part in itertools.groupby(row, key=lambda item: item[0])] for row in rows]


def best_fit_rows(pieces: Sequence[Sequence[int]], length: int) -> list[list[list[int]]]:
    """Rows of parts by ``best_fit``, in the order of each row's first piece."""
    rows: dict[int, list[list[int]]] = {}
    for piece, sequence in zip(pieces, best_fit([len(piece) for piece in pieces], length), strict=True):
        rows.setdefault(sequence, []).append(list(piece))
    return list(rows.values())


def group_greedily(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Consecutive sizes in groups that stay at or below ``most`` where they can."""
    groups: list[list[int]] = []
    for size in sizes:
        if groups and sum(groups[-1]) + size <= most:
            groups[-1].append(size)
        else:
            groups.append([size])
    return groups


# --- hashes -----------------------------------------------------------------------------------------------------------


def mix(value: int) -> int:
    """Finalizer of splitmix64."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _M64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _M64
    return value ^ value >> 31


def unmix(value: int) -> int:
    """What ``mix`` made ``value`` of."""
    value ^= value >> 31 ^ value >> 62
    value = value * pow(0x94D049BB133111EB, -1, 1 << 64) & _M64
    value ^= value >> 27 ^ value >> 54
    value = value * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & _M64
    return value ^ value >> 30 ^ value >> 60


def words_of_one_hash(count: int) -> list[bytes]:
    """Different words of 16 and 24 bytes with the same ``LONG`` key: the last eight bytes make up for the others."""
    words = []
    for number in range(count):
        start = b"%08d" % number * (1 + number % 2)
        state = (len(start) + 8) * 0x9E3779B97F4A7C15 & _M64
        for at in range(0, len(start), 8):
            state = mix(state ^ int.from_bytes(start[at : at + 8], "little"))
        words.append(start + (unmix(7) ^ state).to_bytes(8, "little"))
    return words


# --- encoding with the vocabulary alone -------------------------------------------------------------------------------


def ids_of_tokens(tokens: Sequence[bytes], is_text: Sequence[bool]) -> dict[bytes, int]:
    """The smallest id of each token that may be used and stands for something."""
    ids: dict[bytes, int] = {}
    for token_id, token in enumerate(tokens):
        if is_text[token_id] and token:
            ids.setdefault(token, token_id)
    return ids


def greedy(word: bytes, ids: Mapping[bytes, int]) -> list[int]:
    """The longest token that the rest starts with, again and again; a byte that no token starts at is left out."""
    out: list[int] = []
    while word:
        prefixes = [word[:length] for length in range(len(word), 0, -1) if word[:length] in ids]
        out += [ids[prefix] for prefix in prefixes[:1]]
        word = word[len(prefixes[0]) if prefixes else 1 :]
    return out


def all_segmentations(word: bytes, ids: Mapping[bytes, int]) -> list[list[bytes]]:
    """Every way to cut a word into tokens and left-out bytes; an empty piece stands for a left-out byte."""
    if not word:
        return [[]]
    ways = [[b"", *rest] for rest in all_segmentations(word[1:], ids)]
    for length in range(1, len(word) + 1):
        if word[:length] in ids:
            ways += [[word[:length], *rest] for rest in all_segmentations(word[length:], ids)]
    return ways


def fewest(word: bytes, ids: Mapping[bytes, int]) -> list[int]:
    """Of all ways: fewest left-out bytes, then fewest tokens, then the longest first piece, second piece, ….

    For tiny words.
    """
    ways = all_segmentations(word, ids)
    best = min(ways, key=lambda way: (way.count(b""), len(way), [-len(piece) for piece in way]))
    return [ids[piece] for piece in best if piece]


def num_fewest(word: bytes, ids: Mapping[bytes, int]) -> tuple[int, int]:
    """How many bytes are left out at least, and how many tokens there are then at least; for words of any length."""
    best = [(0, 0)]  # of each prefix
    for stop in range(1, len(word) + 1):
        left_out, tokens = best[stop - 1]
        ways = [(left_out + 1, tokens)]
        ways += [(best[start][0], best[start][1] + 1) for start in range(stop) if word[start:stop] in ids]
        best.append(min(ways))
    return best[-1]


# --- a pool of tokenizers ---------------------------------------------------------------------------------------------


@functools.cache
def _log2(value: int) -> int:
    return int((value**65_536).bit_length() - 1)


def code_length(ids: Iterable[int], counts: Sequence[int]) -> int:
    """In 1/65,536 bit: of each id the logarithm of all counts less that of its own, all of them one higher, rounded down."""
    total = _log2(sum(counts) + len(counts))
    return sum(total - _log2(counts[token_id] + 1) for token_id in ids)


def pool_encode(
    named: Sequence[str],
    tokens: Sequence[Sequence[bytes | str]],
    encoded: Sequence[Sequence[int]],
    counts: Sequence[Sequence[int]] | None = None,
) -> list[int]:
    """The ids in a pool of a text, as each member encodes it.

    ``named``: special tokens, then a switch token for each member; ``tokens``: of each member the bytes of its ids, or the
    name of a special token.
    """
    order = list(dict.fromkeys([*named, *(token for own in tokens for token in own)]))
    ranks = []
    for member, ids in enumerate(encoded):
        num_bytes = sum(len(tokens[member][token_id]) for token_id in ids)
        ranks.append((-num_bytes, code_length(ids, counts[member]) if counts else len(ids), member))
    best = min(ranks)[-1]
    switch = len(named) - len(tokens) + best
    return [switch, *(order.index(tokens[best][token_id]) for token_id in encoded[best])] if encoded[best] else []


# --- FASTA ------------------------------------------------------------------------------------------------------------


def fasta_records(content: bytes) -> list[tuple[int, bytes, bytes]]:
    """Of each record: where its header starts, the header without the mark, and the sequence without white space."""
    records: list[tuple[int, bytes, bytes]] = []
    at = 0
    for line in content.split(b"\n"):
        if line.startswith(b">"):
            records.append((at, line[1:].rstrip(b"\r"), b""))
        elif not line.startswith(b";"):
            letters = b"".join(line.split())
            if records:
                start, header, sequence = records[-1]
                records[-1] = (start, header, sequence + letters)
            else:
                assert not letters
        at += len(line) + 1
    return records


# --- noise ------------------------------------------------------------------------------------------------------------

NoiseTables = tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]]


def misread(text: str, chances: Sequence[int], rate: float, tables: NoiseTables, letters: str) -> list[tuple[str, int, int]]:
    """A text with noise, character by character: each with its place in the clean text, -1 if it is another there, and the
    place of the character it was made of.

    ``chances``: a number of 64 bits for each character; ``tables``: from one character to one, from two to one, from one to
    two; ``letters``: those of the text, in order.
    """
    to_one, from_two, to_two = tables
    out: list[tuple[str, int, int]] = []
    at = 0
    while at < len(text):
        char, chance, here = text[at], chances[at], at
        at += 1
        if rate == 0 or chance > min(int(rate * 2.0**64), _M64):
            out.append((char, here, here))
        elif char == " ":
            pass
        elif chance % 256 < 32 and here and not char.isspace() and not text[here - 1].isspace():
            out += [(" ", -1, here), (char, here, here)]
        elif chance // 256 % 256 < 192 and text[here : here + 2] in from_two:
            out.append((from_two[text[here : here + 2]], -1, here))
            at += 1
        elif chance // 256 % 256 < 192 and char in to_two:
            out += [(seen, here if seen == char else -1, here) for seen in to_two[char]]
        elif chance // 256 % 256 < 192 and char in to_one:
            out.append((to_one[char], -1, here))
        elif char in letters:
            other = letters[(chance >> 16) % 2**32 % len(letters)]
            out.append((other, here if other == char else -1, here))
        else:
            out.append((char, here, here))
    return out

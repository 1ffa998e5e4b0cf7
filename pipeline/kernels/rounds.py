"""The coordinator's side of training in rounds: propose the next merges, and keep those that are the next indeed.

Between rounds, the count of every pair that may be merged is known exactly. The best ``k`` are proposed in their order and
applied by all partitions, whose answers say for each member what then stands beside its token. The review goes through the
members in order, bringing the counts up to date after each. A member is kept if it is the best pair of all. The review ends
where another pair is better, one that came up in the round. What is kept is what one merge at a time would have given.

Mostly a member is not the next because its own count fell: an earlier one took some of its places. Then it is skipped and
the review goes on, for a member after it whose places cannot overlap those of the skipped one was applied as if the skipped
one had not been. Only where the skipped one's token is its neighbour, it is in truth the part of it on that side. What is
not kept is taken back, and the ids of those after a skipped one move up.

Only new neighbours are told. What is lost follows: if x stands before the new token of (a, b), an x stands no longer before
an a; if y stands after it, a y no longer after a b; and where the new token stands beside itself, an a no longer after
a b. A pair's count never rises once the step that made it is over, so pairs rarer than ``min_count`` can be forgotten.

The heap holds bounds, as in ``merges.py``; the index holds counts, one cache line to each, fetched ahead.

A merge that spells a token that is there already gives this token, as in ``tokenizers``: a special token, or, in sequences
of tokens, one that is made of different tokens elsewhere. Tokens are found by a hash of their characters, made of the hashes
of their parts; where hashes are equal, characters are compared.

Proposing many merges for one pass over a corpus is the idea of BatchBPE (Morgan 2024, arXiv 2408.04653), where a batch
is what is independent of each other; here the order decides, so that the result is that of one merge at a time.

Examples
--------
The words ``abcd``, ``bc``, ``ab`` and ``ef``, 5, 4, 3 and 6 times. In order: (b, c) with 9, (a, b) with 8, (e, f) with 6,
(c, d) with 5. After (b, c), ``a`` stands before its token 5 times and ``d`` after it 5 times: (a, bc) and (bc, d) have 5,
(a, b) has 3 left, (c, d) none. So (a, b) is not the next and is skipped; (e, f) is, with 6, and no ``ef`` overlaps an
``ab``; (c, d) is skipped too. Two of four are kept. In the next round (a, bc) comes first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels.arena import grown
from pipeline.kernels.pair_heap import is_before, sift_down, sift_up
from pipeline.kernels.pair_index import (
    NO_PLACE,
    drop_key,
    fetch_key,
    find_again,
    find_key,
    new_index,
    pair_key,
    put_key,
    with_room,
)

_AHEAD = 8
"""Look-ups between the one that is made and the one whose place is fetched."""

_BASE = np.uint64(0x9E3779B97F4A7C15)  # of the hash, which is a polynomial in it, modulo 2**64
_MIX = np.uint64(0xD6E8FEB86659FD93)


class Pairs(NamedTuple):
    """The pairs that may be merged, by number.

    ``left``, ``right [dtype=int32]``; ``heap_counts [dtype=int64]``, ``heap_pairs [dtype=int32]``: a heap of upper bounds;
    ``table``: the exact counts, see ``pair_index.py``; ``sizes [shape=(2,), dtype=int64]``: pairs there are, entries of the
    heap.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    heap_counts: NDArray[np.int64]
    heap_pairs: NDArray[np.int32]
    table: NDArray[np.uint64]
    sizes: NDArray[np.int64]


class Tokens(NamedTuple):
    """What is known of each id.

    ``left``, ``right [dtype=int32]``: what it was merged of first, or -1. ``lengths [dtype=int64]``: characters, each for a
    byte. ``hashes``, ``powers [dtype=uint64]``: of the characters, and the base to the power of their number. ``in_text``,
    ``is_made [dtype=bool]``: whether it stands beside another token in the text, or did; whether a merge made it.
    ``values [dtype=uint32]``, ``offsets [dtype=int64]``: the characters of the ids that are there before the first merge.
    ``table``: hash to id. ``num_ids [shape=(1,), dtype=int64]``: ids there are.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    lengths: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    powers: NDArray[np.uint64]
    in_text: NDArray[np.bool_]
    is_made: NDArray[np.bool_]
    values: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    table: NDArray[np.uint64]
    num_ids: NDArray[np.int64]


class Limits(NamedTuple):
    """What may be merged.

    ``vocab_size``, ``min_count`` and ``max_length`` as in ``learn_merges``. Vetoes, on what a merge would spell: more than
    ``max_words`` words (0: any number), which stand between ``blank`` characters, or one of the forbidden texts inside:
    ``forbidden_values [dtype=uint32]``, ``forbidden_offsets [shape=(n + 1,), dtype=int64]``; or more than ``max_chars``
    characters of text (0: any number), each begun where ``begins [dtype=bool]``, by what spells a byte, is True.
    """

    vocab_size: int
    min_count: int
    max_length: int
    max_words: int
    blank: int
    forbidden_values: NDArray[np.uint32]
    forbidden_offsets: NDArray[np.int64]
    max_chars: int
    begins: NDArray[np.bool_]


@leaf
def _mixed(value):
    value = (value ^ value >> np.uint64(32)) * _MIX
    return value ^ value >> np.uint64(32)


@njit
def hash_spellings(symbols, offsets, lengths, hashes, powers):
    """Lengths and hashes of the spellings of rows of symbols, from what ``Tokens`` knows of each symbol.

    Parameters
    ----------
    symbols, offsets
        ``[dtype=uint8]`` or ``[dtype=int32]``, ``[shape=(n + 1,), dtype=int64]``
    lengths, hashes, powers
        By symbol. ``[dtype=int64]``, ``[dtype=uint64]``, ``[dtype=uint64]``

    Returns
    -------
    (row_lengths, row_hashes)
        ``[shape=(n,)]`` each, int64 and uint64. The hash is that of the characters, however they are cut into symbols.
    """
    num_rows = len(offsets) - 1
    row_lengths = np.zeros(num_rows, dtype=np.int64)
    row_hashes = np.zeros(num_rows, dtype=np.uint64)
    for row in range(num_rows):
        for at in range(offsets[row], offsets[row + 1]):
            symbol = symbols[at]
            row_lengths[row] += lengths[symbol]
            row_hashes[row] = row_hashes[row] * powers[symbol] + hashes[symbol]
    return row_lengths, row_hashes


@njit
def _spelling(token, tokens):
    """The characters of a token."""
    result = np.empty(tokens.lengths[token], dtype=np.uint32)
    stack = np.empty(tokens.lengths[token] + 1, dtype=np.int64)
    stack[0] = token
    depth = 1
    size = 0
    while depth > 0:
        depth -= 1
        token = stack[depth]
        if tokens.left[token] >= 0:
            stack[depth] = tokens.right[token]
            stack[depth + 1] = tokens.left[token]
            depth += 2
        else:
            for at in range(tokens.offsets[token], tokens.offsets[token + 1]):
                result[size] = tokens.values[at]
                size += 1
    return result


@njit
def _spells(tokens, token, a, b):
    """Whether a token is spelled as two others, one after the other."""
    length = tokens.lengths[a]
    if tokens.lengths[token] != length + tokens.lengths[b]:
        return False
    spelling = _spelling(token, tokens)
    for i, char in enumerate(_spelling(a, tokens)):
        if spelling[i] != char:
            return False
    for i, char in enumerate(_spelling(b, tokens)):
        if spelling[length + i] != char:
            return False
    return True


@njit
def _made_of(tokens, a, b):
    """The id that a merge makes: one that is there already, or the next; and where the next was put into the index."""
    key = tokens.hashes[a] * tokens.powers[b] + tokens.hashes[b]
    place = find_key(tokens.table, key)
    while place != NO_PLACE:
        if _spells(tokens, np.int64(tokens.table[place]), a, b):
            return np.int64(tokens.table[place]), NO_PLACE
        place = find_again(tokens.table, key, place)
    new = tokens.num_ids[0]
    tokens.num_ids[0] += 1
    place = put_key(tokens.table, key)
    tokens.table[place] = np.uint64(new)
    tokens.left[new] = a
    tokens.right[new] = b
    tokens.lengths[new] = tokens.lengths[a] + tokens.lengths[b]
    tokens.hashes[new] = key
    tokens.powers[new] = tokens.powers[a] * tokens.powers[b]
    return new, place


@njit
def add_initial_tokens(tokens):
    """Fill in what is known of the ids that ``values`` and ``offsets`` spell."""
    for token in range(len(tokens.offsets) - 1):
        value = np.uint64(0)
        power = np.uint64(1)
        for at in range(tokens.offsets[token], tokens.offsets[token + 1]):
            value = value * _BASE + _mixed(np.uint64(tokens.values[at]))
            power *= _BASE
        tokens.lengths[token] = tokens.offsets[token + 1] - tokens.offsets[token]
        tokens.hashes[token] = value
        tokens.powers[token] = power
        tokens.table[put_key(tokens.table, value)] = np.uint64(token)
    tokens.num_ids[0] = len(tokens.offsets) - 1


@njit
def add_merges(tokens, left, right, results, vocab_size):
    """Make the tokens of merges that are settled already, until the vocabulary is full.

    Returns
    -------
    (num_merges, is_valid)
        How many there are, and whether the next one, if any is left, makes another id than it must.
    """
    for i in range(len(left)):
        num_ids = tokens.num_ids[0]
        if num_ids >= vocab_size:
            return i, True
        if not (0 <= left[i] < num_ids and 0 <= right[i] < num_ids):
            return i, False
        made, _ = _made_of(tokens, left[i], right[i])
        if made != results[i]:
            return i, False
        tokens.is_made[made] = True
    return len(left), True


@leaf
def _may_merge(tokens, left, right, max_length):
    """Whether the length of a pair allows a merge: of initial tokens, always."""
    if max_length == 0 or not (tokens.is_made[left] or tokens.is_made[right]):
        return True
    return tokens.lengths[left] + tokens.lengths[right] < max_length


@leaf
def _num_chars(chars, begins):
    """Characters of text, all or a part of each, in what some characters spell byte by byte."""
    num = np.int64(0)
    for i in range(len(chars)):
        num += i == 0 or chars[i] >= len(begins) or begins[chars[i]]
    return num


@njit
def _is_vetoed(tokens, left, right, limits):
    """Whether what a pair spells may be no token."""
    num_forbidden = len(limits.forbidden_offsets) - 1
    if limits.max_words == 0 and num_forbidden == 0 and limits.max_chars == 0:
        return False
    chars = np.concatenate((_spelling(left, tokens), _spelling(right, tokens)))
    if limits.max_chars > 0 and _num_chars(chars, limits.begins) > limits.max_chars:
        return True
    num_words = 0
    for i in range(len(chars)):
        num_words += chars[i] != limits.blank and (i == 0 or chars[i - 1] == limits.blank)
    if 0 < limits.max_words < num_words:
        return True
    for text in range(num_forbidden):
        first = limits.forbidden_offsets[text]
        length = limits.forbidden_offsets[text + 1] - first
        for at in range(len(chars) - length + 1):
            same = np.int64(0)
            while same < length and chars[at + same] == limits.forbidden_values[first + same]:
                same += 1
            if same == length:
                return True
    return False


@njit
def sum_pairs(left, right, weights):
    """Each pair once, with its whole weight, from what several partitions found, one behind the other."""
    index = new_index(len(left))
    size = 0
    for i in range(len(left)):
        key = pair_key(left[i], right[i])
        place = find_key(index, key)
        if place == NO_PLACE:
            index[put_key(index, key)] = np.uint64(size)
            left[size] = left[i]
            right[size] = right[i]
            weights[size] = weights[i]
            size += 1
        else:
            weights[np.int64(index[place])] += weights[i]
    return left[:size].copy(), right[:size].copy(), weights[:size].copy()


@njit
def gather_pairs(left, right, weights, tokens, limits):
    """``Pairs`` of those that may be merged; each pair is given once."""
    num = len(left)
    kept_left = np.empty(num + 1, dtype=np.int32)
    kept_right = np.empty(num + 1, dtype=np.int32)
    heap_counts = np.empty(num + 1, dtype=np.int64)
    heap_pairs = np.empty(num + 1, dtype=np.int32)
    index = new_index(num + 1)
    size = 0
    for i in range(num):
        if weights[i] < limits.min_count or not _may_merge(tokens, left[i], right[i], limits.max_length):
            continue
        kept_left[size] = left[i]
        kept_right[size] = right[i]
        heap_counts[size] = weights[i]
        heap_pairs[size] = size
        index[put_key(index, pair_key(left[i], right[i]))] = np.uint64(weights[i])
        size += 1
        sift_up(heap_counts, heap_pairs, size - 1, kept_left, kept_right)
    return Pairs(kept_left, kept_right, heap_counts, heap_pairs, index, np.array([size, size], dtype=np.int64))


@leaf
def count_of(pairs, pair):
    """The exact count of a pair, by its number."""
    return np.int64(pairs.table[find_key(pairs.table, pair_key(pairs.left[pair], pairs.right[pair]))])


@leaf
def _drop_top(pairs):
    pairs.sizes[1] -= 1
    size = pairs.sizes[1]
    pairs.heap_counts[0] = pairs.heap_counts[size]
    pairs.heap_pairs[0] = pairs.heap_pairs[size]
    if size > 0:
        sift_down(pairs.heap_counts, pairs.heap_pairs, 0, size, pairs.left, pairs.right)


@leaf
def _refresh_top(pairs, min_count):
    """Make the count on top of the heap exact; False if no pair is frequent enough."""
    while pairs.sizes[1] > 0:
        count = count_of(pairs, pairs.heap_pairs[0])
        if count == pairs.heap_counts[0]:
            return True
        if count < min_count:
            _drop_top(pairs)
        else:
            pairs.heap_counts[0] = count
            sift_down(pairs.heap_counts, pairs.heap_pairs, 0, pairs.sizes[1], pairs.left, pairs.right)
    return False


@leaf
def _push(pairs, pair, count):
    size = pairs.sizes[1]
    pairs.heap_counts[size] = count
    pairs.heap_pairs[size] = pair
    pairs.sizes[1] = size + 1
    sift_up(pairs.heap_counts, pairs.heap_pairs, size, pairs.left, pairs.right)


@njit
def propose(pairs, tokens, limits, most):
    """The best pairs, in order, at most ``most``.

    Returns
    -------
    (members, results, places)
        Pair numbers and the ids they are to make, ``[shape=(k,), dtype=int32]``; where each id was put into the index of
        tokens, ``[shape=(k,), dtype=int64]``. A merge that makes a token of the text once more is proposed alone. Nothing is
        proposed when the vocabulary is full or no pair is frequent enough. What is vetoed leaves the heap: it stays so.
    """
    members = np.empty(most, dtype=np.int32)
    results = np.empty(most, dtype=np.int32)
    places = np.empty(most, dtype=np.int64)
    size = 0
    while size < most and tokens.num_ids[0] < limits.vocab_size and _refresh_top(pairs, limits.min_count):
        pair = pairs.heap_pairs[0]
        if _is_vetoed(tokens, pairs.left[pair], pairs.right[pair], limits):
            _drop_top(pairs)
            continue
        new, place = _made_of(tokens, pairs.left[pair], pairs.right[pair])
        if place == NO_PLACE and size > 0 and (tokens.in_text[new] or (results[:size] == new).any()):
            break
        _drop_top(pairs)
        members[size] = pair
        results[size] = new
        places[size] = place
        size += 1
        if tokens.in_text[new]:
            break
    return members[:size], results[:size], places[:size]


@leaf
def _subtract(index, key, weight):
    place = find_key(index, key)
    if place != NO_PLACE:
        index[place] -= np.uint64(weight)


@leaf
def _lost_key(side, neighbour, a, b, new):
    """The pair that was where a new token's neighbour is now."""
    if neighbour == new:
        return pair_key(b, a)
    return pair_key(b, neighbour) if side == 0 else pair_key(neighbour, a)


@leaf
def _is_next(pairs, members, first_counts, j, min_count):
    """Whether member ``j`` is the best pair of all that are left."""
    pair = members[j]
    count = count_of(pairs, pair)
    if count < min_count:
        return False
    if _refresh_top(pairs, min_count) and is_before(
        pairs.heap_counts[0], pairs.heap_pairs[0], count, pair, pairs.left, pairs.right
    ):
        return False
    if count < first_counts[j]:  # else it is before the members after it as it was, for their counts do not rise
        for other in members[j + 1 :]:
            if is_before(count_of(pairs, other), other, count, pair, pairs.left, pairs.right):
                return False
    return True


@leaf
def _sum_neighbours(ids, weights, starts, stops, aliases, totals, touched):
    """Add up the answers of partitions. ``touched`` is filled with the neighbours, whose number is returned."""
    size = 0
    for part in range(len(starts)):
        for i in range(starts[part], stops[part]):
            neighbour = aliases[ids[i]]
            if totals[neighbour] == 0:
                touched[size] = neighbour
                size += 1
            totals[neighbour] += weights[i]
    return size


@leaf
def _rename_token(tokens, old, new):
    tokens.left[new] = tokens.left[old]
    tokens.right[new] = tokens.right[old]
    tokens.lengths[new] = tokens.lengths[old]
    tokens.hashes[new] = tokens.hashes[old]
    tokens.powers[new] = tokens.powers[old]


@njit
def _with_room(pairs, extra, extra_of_heap):
    num_pairs = pairs.sizes[0]
    return Pairs(
        grown(pairs.left, num_pairs, extra),
        grown(pairs.right, num_pairs, extra),
        grown(pairs.heap_counts, pairs.sizes[1], extra_of_heap),
        grown(pairs.heap_pairs, pairs.sizes[1], extra_of_heap),
        with_room(pairs.table, num_pairs, extra),
        pairs.sizes,
    )


@njit
def review(pairs, tokens, limits, members, results, places, ids, weights, offsets, totals, aliases):
    """Keep the members that one merge at a time would give, in its order, as far as the round knows it.

    Parameters
    ----------
    pairs, tokens
        Brought up to date.
    limits
        As for ``propose``.
    members, results, places
        Of ``propose``.
    ids, weights
        The ``Neighbours`` of all partitions, one behind the other.
    offsets
        Their offsets, beginning where the partition's ids do. ``[shape=(n_partitions, 2 * k + 1), dtype=int64]``
    totals
        Zero for each id. ``[dtype=int64]``
    aliases
        For each side, each id itself. ``[shape=(2, n_ids), dtype=int32]``

    Returns
    -------
    (pairs, num_reviewed, kept, kept_results, counts, new_ids, new_offsets)
        ``Pairs``, with more room where needed; the number of the member at which the review ended; of the members that are
        kept, which they are, the ids they make and their counts, ``[shape=(m,)]``, int32, int32, int64; the neighbours whose
        pairs with these ids are listed from now on, as ``settle_members`` reads them.
    """
    num_members = len(members)
    first_counts = np.empty(num_members, dtype=np.int64)
    first_id = tokens.num_ids[0]
    for j in range(num_members):
        first_counts[j] = count_of(pairs, members[j])
        first_id -= places[j] != NO_PLACE
    next_id = first_id
    kept = np.empty(num_members, dtype=np.int32)
    kept_results = np.empty(num_members, dtype=np.int32)
    counts = np.empty(num_members, dtype=np.int64)
    skipped = np.empty(num_members, dtype=np.int32)
    new_ids = np.empty(256, dtype=np.int32)
    new_offsets = np.empty(2 * num_members + 1, dtype=np.int64)
    new_offsets[0] = pairs.sizes[0]
    touched = np.empty(1024, dtype=np.int32)
    size = 0
    num_kept = 0
    num_skipped = 0
    j = 0
    while j < num_members:
        pair = members[j]
        a = pairs.left[pair]
        b = pairs.right[pair]
        count = count_of(pairs, pair)
        is_next = j == 0 or _is_next(pairs, members, first_counts, j, limits.min_count)
        if not is_next and count == first_counts[j]:
            break
        if not is_next:  # its count fell: it comes later, and what follows may be next
            skipped[num_skipped] = pair
            num_skipped += 1
            aliases[0, results[j]] = a
            aliases[1, results[j]] = b
            if count >= limits.min_count:
                _push(pairs, pair, count)
            j += 1
            continue
        if _overlaps(pairs, skipped[:num_skipped], a, b):
            break
        new = results[j]
        if places[j] != NO_PLACE:
            new = next_id
            next_id += 1
            _rename_token(tokens, results[j], new)
        aliases[:, results[j]] = new
        kept[num_kept] = j
        kept_results[num_kept] = new
        counts[num_kept] = count
        tokens.is_made[new] = True
        tokens.in_text[new] = True
        for side in range(2):
            starts = offsets[:, 2 * j + side]
            stops = offsets[:, 2 * j + side + 1]
            extra = np.int64(0)
            for part in range(len(starts)):
                extra += stops[part] - starts[part]
            touched = grown(touched, 0, extra)
            num_touched = _sum_neighbours(ids, weights, starts, stops, aliases[side], totals, touched)
            new_ids = grown(new_ids, size, num_touched)
            pairs = _with_room(pairs, num_touched, num_touched + num_members)
            size += _add_pairs(pairs, tokens, limits, side, a, b, new, touched, num_touched, totals, new_ids, size)
            new_offsets[2 * num_kept + side + 1] = pairs.sizes[0]
        pairs.table[find_key(pairs.table, pair_key(a, b))] = 0
        num_kept += 1
        j += 1
    for other in members[j:]:
        count = count_of(pairs, other)
        if count >= limits.min_count:
            _push(pairs, other, count)
    for i in range(num_members - 1, -1, -1):
        aliases[:, results[i]] = results[i]
        if places[i] != NO_PLACE:
            drop_key(tokens.table, places[i])
    for i in range(num_kept):
        if places[kept[i]] != NO_PLACE:
            tokens.table[put_key(tokens.table, tokens.hashes[kept_results[i]])] = np.uint64(kept_results[i])
    tokens.num_ids[0] = next_id
    return (
        pairs,
        j,
        kept[:num_kept].copy(),
        kept_results[:num_kept].copy(),
        counts[:num_kept].copy(),
        new_ids[:size].copy(),
        new_offsets[: 2 * num_kept + 1].copy(),
    )


@leaf
def _overlaps(pairs, others, a, b):
    """Whether a place of the pair (a, b) can overlap one of another pair."""
    for other in others:
        if pairs.right[other] == a or pairs.left[other] == b:
            return True
    return False


@leaf
def _add_pairs(pairs, tokens, limits, side, a, b, new, touched, num_touched, totals, new_ids, size):
    """Bring the counts up to date with one side of a new token, leaving ``totals`` zero; returns how many pairs are new."""
    index = pairs.table
    for i in range(num_touched):
        if i + _AHEAD < num_touched:
            fetch_key(index, _lost_key(side, touched[i + _AHEAD], a, b, new))
        _subtract(index, _lost_key(side, touched[i], a, b, new), totals[touched[i]])
    first = size
    for i in range(num_touched):
        neighbour = touched[i]
        count = totals[neighbour]
        totals[neighbour] = 0
        left = new if side == 0 else neighbour
        right = neighbour if side == 0 else new
        if count < limits.min_count or not _may_merge(tokens, left, right, limits.max_length):
            continue
        pair = pairs.sizes[0]
        pairs.left[pair] = left
        pairs.right[pair] = right
        index[put_key(index, pair_key(left, right))] = np.uint64(count)
        pairs.sizes[0] += 1
        _push(pairs, pair, count)
        new_ids[size] = neighbour
        size += 1
    return size - first

"""Words to ids with the vocabulary alone, without merges: the longest token first, or the fewest tokens.

Sawada and Goyal (2025), "Train It and Forget It: Merge Lists are Unnecessary for BPE Inference in Language Models",
arXiv 2508.06621, compare both with merging. Where every byte has an id, the fewest tokens are never more than the longest
token first or the merges give, and the bytes of the ids are the bytes of the word whichever way they were found.

The vocabulary is a trie of bytes in a double array (Aoe 1989, "An Efficient Digital Search Algorithm by Using a
Double-Array Structure"): the child of a node for a byte is in the slot ``base ^ byte`` if that slot names the node as
its parent, so that a step costs one look at memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit

_PARENT, _BASE, _ID, _DEPTH = 0, 1, 2, 3
_NEXT, _PREVIOUS = 1, 2  # what the columns of a free slot hold while the trie is built: a circle of all free slots
_FREE = -1
_ROOT = 0
_NO_PARENT = -2
NO_NODE = -1
_NO_ID = -1
_BLOCK = 256  # a base is any slot of a block, and then its children are in that block: XOR changes the low eight bits
_TRIES = 64  # free slots looked at for a node's children before a new block is made for them

_LEFT_OUT = np.int64(1 << 32)  # the cost of a byte left out: more than the tokens of any word


class VocabularyTrie(NamedTuple):
    """The tokens of a vocabulary that stand for text; made by ``build_trie``.

    ``nodes [shape=(n_slots, 4), dtype=int32]``: slot of the parent (negative: the root or no node), base of the
    children's slots, id of the token that ends here (or -1), number of bytes from the root. The root is in slot 0; what
    a slot without a node holds behind its parent means nothing.
    ``longest``: length of the longest token in bytes.
    """

    nodes: NDArray[np.int32]
    longest: int


# --- build ---


@njit
def _with_room(nodes, num_slots):
    """``nodes`` with room for one more block after ``num_slots``."""
    if num_slots + _BLOCK <= len(nodes):
        return nodes
    larger = np.empty((2 * len(nodes), 4), dtype=np.int32)
    larger[:num_slots] = nodes[:num_slots]
    return larger


@njit
def _add_block(nodes, num_slots, free):
    """Put the slots of a new block into the circle, before ``free`` (-1 if it is empty)."""
    for slot in range(num_slots, num_slots + _BLOCK):
        nodes[slot, _PARENT] = _FREE
        nodes[slot, _NEXT] = slot + 1
        nodes[slot, _PREVIOUS] = slot - 1
        nodes[slot, _DEPTH] = 0
    first = num_slots
    last = num_slots + _BLOCK - 1
    before = last if free < 0 else nodes[free, _PREVIOUS]
    after = first if free < 0 else free
    nodes[first, _PREVIOUS] = before
    nodes[before, _NEXT] = first
    nodes[last, _NEXT] = after
    nodes[after, _PREVIOUS] = last


@njit
def _take(nodes, slot, parent, depth):
    """Make a node of a free slot; returns the free slot after it, or -1 if there is none."""
    after = np.int64(nodes[slot, _NEXT])
    before = nodes[slot, _PREVIOUS]
    nodes[before, _NEXT] = after
    nodes[after, _PREVIOUS] = before
    nodes[slot, _PARENT] = parent
    nodes[slot, _BASE] = 0  # of a leaf: none of the slots there has it as parent
    nodes[slot, _ID] = _NO_ID
    nodes[slot, _DEPTH] = depth
    return -1 if after == slot else after


@njit
def _find_base(nodes, free, labels, num_labels):
    """A base whose slots for all ``labels`` are free, or -1 if none of the next free slots gives one."""
    if free < 0:
        return -1
    slot = free
    for _ in range(_TRIES):
        base = slot ^ labels[0]
        fits = True
        for i in range(1, num_labels):
            if nodes[base ^ labels[i], _PARENT] != _FREE:
                fits = False
                break
        if fits:
            return base
        slot = np.int64(nodes[slot, _NEXT])
        if slot == free:
            break
    return -1


@njit
def build_trie(token_values, token_offsets, is_text):
    """The trie of a vocabulary.

    Parameters
    ----------
    token_values, token_offsets
        The bytes of each id. ``[dtype=uint8]``; ``[shape=(n_ids + 1,), dtype=int64]``, less than 2**30 at the end.
    is_text
        Which ids may be used. ``[shape=(n_ids,), dtype=bool]``; special tokens may not, and an id without bytes never is.

    Returns
    -------
    VocabularyTrie
        Of ids with the same bytes it holds the smallest.

    Notes
    -----
    A radix sort from the first byte on, level by level: the ids below a node are grouped by their next byte, and each
    group is a child. Linear in the number of bytes, and shallow nodes, which are used most, come to lie side by side.
    """
    num_ids = len(is_text)
    order = np.empty(num_ids, dtype=np.int32)  # ids; those below a node are neighbours, ascending
    num_tokens = 0
    longest = 0
    for token in range(num_ids):
        if is_text[token] and token_offsets[token + 1] > token_offsets[token]:
            order[num_tokens] = token
            num_tokens += 1
            longest = max(longest, token_offsets[token + 1] - token_offsets[token])
    grouped = np.empty(num_tokens, dtype=np.int32)
    labels = np.empty(256, dtype=np.int64)
    counts = np.zeros(256, dtype=np.int64)

    nodes = np.empty((4 * _BLOCK, 4), dtype=np.int32)
    _add_block(nodes, 0, -1)
    num_slots = _BLOCK
    free = _take(nodes, _ROOT, _NO_PARENT, 0)
    level = np.empty((num_tokens + 1, 3), dtype=np.int64)  # slot of a node, and where its ids start and stop in ``order``
    next_level = np.empty((num_tokens + 1, 3), dtype=np.int64)
    level[0] = (_ROOT, 0, num_tokens)
    num_nodes = 1
    depth = 0
    while num_nodes > 0:
        num_children = 0
        for i in range(num_nodes):
            node, start, stop = level[i]
            num_labels = 0
            for j in range(start, stop):
                at = token_offsets[order[j]] + depth
                if at == token_offsets[order[j] + 1]:
                    if nodes[node, _ID] == _NO_ID:
                        nodes[node, _ID] = order[j]
                else:
                    byte = token_values[at]
                    if counts[byte] == 0:
                        labels[num_labels] = byte
                        num_labels += 1
                    counts[byte] += 1
            if num_labels == 0:
                continue
            base = _find_base(nodes, free, labels, num_labels)
            if base < 0:
                nodes = _with_room(nodes, num_slots)
                _add_block(nodes, num_slots, free)
                base = num_slots
                num_slots += _BLOCK
            nodes[node, _BASE] = base
            place = start
            for k in range(num_labels):
                byte = labels[k]
                free = _take(nodes, base ^ byte, node, depth + 1)
                next_level[num_children] = (base ^ byte, place, place + counts[byte])
                num_children += 1
                place += counts[byte]
                counts[byte] = place - counts[byte]  # from now on: where the next id of this byte goes
            for j in range(start, stop):
                at = token_offsets[order[j]] + depth
                if at < token_offsets[order[j] + 1]:
                    byte = token_values[at]
                    grouped[counts[byte]] = order[j]
                    counts[byte] += 1
            order[start:place] = grouped[start:place]
            for k in range(num_labels):
                counts[labels[k]] = 0
        level, next_level = next_level, level
        num_nodes = num_children
        depth += 1
    return VocabularyTrie(nodes[:num_slots].copy(), longest)


# --- encode ---


@leaf
def step_trie(nodes, node, byte):
    """The node that a byte leads to, or ``NO_NODE``."""
    child = np.int64(nodes[node, _BASE] ^ byte)
    return child if nodes[child, _PARENT] == node else np.int64(NO_NODE)


@leaf
def greedy_word(text, start, stop, trie, ids, size):
    """Append the ids of one word, each the longest token that starts where the one before it stops.

    A byte that no token starts at is left out.

    Parameters
    ----------
    text
        The word is ``text[start:stop]``. ``[dtype=uint8]``
    trie
        The vocabulary.
    ids
        The ids are written from ``size`` on, where there is room for one a byte. ``[dtype=int32]``

    Returns
    -------
    int
        The new size.

    Notes
    -----
    Time O(bytes of the word x longest token).

    Examples
    --------
    Tokens a, b, c, d, ab, abc and bcd: ``abcd`` is abc, d, and ``ababcd`` is ab, abc, d.
    """
    nodes = trie.nodes
    at = start
    while at < stop:
        node = np.int64(_ROOT)
        token = _NO_ID
        token_stop = at + 1
        for i in range(at, stop):
            node = step_trie(nodes, node, text[i])
            if node == NO_NODE:
                break
            if nodes[node, _ID] != _NO_ID:
                token = nodes[node, _ID]
                token_stop = i + 1
        if token != _NO_ID:
            ids[size] = token
            size += 1
        at = token_stop
    return size


@njit
def fewest_word(text, start, stop, trie, ids, size):
    """Append the ids of one word, as few as there can be.

    Any byte may be left out, but as few bytes are as there can be; that goes before the number of ids, and is none where
    every byte has an id. **Ties**: of all ways that are equal in both, the one whose first token is the longest, then
    whose second token is the longest, and so on; to leave a byte out is shorter than any token.

    Parameters
    ----------
    text
        The word is ``text[start:stop]``, less than 2**32 bytes. ``[dtype=uint8]``
    trie
        The vocabulary.
    ids
        The ids are written from ``size`` on, where there is room for one a byte. ``[dtype=int32]``

    Returns
    -------
    int
        The new size.

    Notes
    -----
    Dynamic programming from the end of the word: the cost of what is left from a position on is that of the best token
    there plus the cost from where that token stops. Only the costs of the next ``longest`` positions are kept, and the
    choice at each position waits in ``ids`` until the ids take its place, so all other memory is that of the longest token.
    Time O(bytes of the word x longest token).

    Examples
    --------
    Tokens a, b, c, d, ab, abc and bcd: ``abcd`` is abc, d (as few as a, bcd, but longer first), and ``ababcd`` is
    ab, abc, d (as few as ab, a, bcd). Without a and d, ``abcd`` is abc and leaves d out.
    """
    nodes = trie.nodes
    node = np.int64(_ROOT)
    at = start
    while at < stop:
        node = step_trie(nodes, node, text[at])
        if node == NO_NODE:
            break
        at += 1
    if at == stop and nodes[node, _ID] != _NO_ID:  # most words of a trained vocabulary are one token
        ids[size] = nodes[node, _ID]
        return size + 1
    ring = 1
    while ring <= min(trie.longest, stop - start):
        ring *= 2
    mask = ring - 1
    costs = np.empty(ring, dtype=np.int64)  # of the text from a position on, in the slot ``position & mask``
    costs[stop & mask] = 0
    shift = size - start
    for at in range(stop - 1, start - 1, -1):
        best = costs[(at + 1) & mask] + _LEFT_OUT
        choice = np.int64(_ROOT)
        node = np.int64(_ROOT)
        for i in range(at, stop):
            node = step_trie(nodes, node, text[i])
            if node == NO_NODE:
                break
            if nodes[node, _ID] != _NO_ID:
                cost = costs[(i + 1) & mask] + 1
                if cost <= best:
                    best = cost
                    choice = node
        costs[at & mask] = best
        ids[shift + at] = choice
    at = start
    while at < stop:
        choice = np.int64(ids[shift + at])
        if choice == _ROOT:
            at += 1
        else:
            ids[size] = nodes[choice, _ID]
            size += 1
            at += nodes[choice, _DEPTH]
    return size

"""Words to ids by morphemes and back: roots and affixes where they give the very text, pieces of bytes where they do not.

A word is cut along the cheapest path through a lattice. An arc is a root (in one of its forms, perhaps after a marker for
its case), an affix, or a literal piece. What an affix reads as depends on the state that the arcs before it leave, and a
form of a root may need an affix after it that asks for it; so a node of the lattice is a place in the word *and* all that
decides what may follow. Every arc reads as the text it stands over, whatever follows: **decoding a path gives the word**,
by construction. There is always a path, for each byte is a literal piece.

An affix is used only where its surface is certain from the word's own letters; then it does not matter what stands before
the word, nor how text was cut into words. Only a clitic (a word of its own, such as Turkish ``de``) hears the word before
it: whether it may stand there is looked up each time, and if not, the word is encoded without it.

Times and memory are linear in the word; a word of more than ``LONGEST_WORD`` bytes is cut.

Examples
--------
``" kitabı"`` is the root ``kitap``, which is ``kitab`` before affixes that start with a vowel, and the accusative, ``ı``
after ``a``: two ids. ``"Kitabı"`` has a marker before them: capitalized, no blank. Of ``" kitapı"``, which is no Turkish,
``kitap`` cannot be the root before ``ı``: literal pieces stand for the end of it, or for all of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels.encode import FETCHED, GROUP, UNCACHED, copy_ids, forget, look_up, remember
from pipeline.kernels.vocabulary import NO_NODE, VocabularyTrie, step_trie

LONGEST_WORD = 1024

JOIN, UPPER, UPPER_JOIN, CAPS, CAPS_JOIN = range(5)
"""Markers before a root: without a blank before it, capitalized, in capitals up to its last affix."""

NUM_MARKERS = 5

AS_IS, CAPITALIZED, CAPITALS = range(3)
"""How a text is written."""

MARKER, AFFIX, SUFFIX, ROOT, LITERAL, END = range(6)
"""Of ``MorphTables.starts``: the first id of each kind; affixes are clitics first, then suffixes."""

VITERBI, LONGEST = range(2)
"""Modes: the cheapest path, or the longest morpheme first."""

WINDOW = 6
"""Ids before a clitic that are looked at."""

_PLAIN = np.int64(1)  # the bit of the plain stem
_ANY_STEM = np.int64(255)  # of literal pieces, which read the same whatever is asked of them
_OTHER = np.int64(1)  # the bit of the class of what is neither root nor affix
_ONE = np.int64(1)
_NONE = np.int64(-1)

# columns of nodes and arcs
_PLACE, _COST, _ID, _MARKER, _STEMS, _STATE, _BASE, _KINDS, _CAPS = range(9)
_NEXT, _BACK = 9, 10  # of nodes only: the next at the same place, and the one before in the best path
_NODE_COLUMNS = 11

# columns of root_rows
_ROOT, _ROOT_STEMS, _ROOT_STATE, _ROOT_BASE, _ROOT_KINDS, _IS_NAME, _ROOT_COST, _FOLLOWS = range(8)
_ARC_COLUMNS = 9


class MorphTables(NamedTuple):
    """All of a model; made by ``pipeline.morph``.

    ``starts [shape=(6,), dtype=int64]``: the first id of markers, affixes, suffixes, roots, literal pieces; all ids.
    ``mode``: ``VITERBI`` or ``LONGEST``. ``literal_cost``: of going over to literal pieces. ``most_arcs``: from one node.
    ``letter_of [shape=(n_code_points,), dtype=int32]``: twice the number of a letter, one more in upper case; -1: none.
    ``letter_values``, ``letter_offsets``: each letter in lower case. ``letter_sounds``: its class. ``letter_cased``.
    ``step [shape=(n_states, n_classes), dtype=int32]``: the state after a character.
    ``roots``: the forms of all roots in lower case; its ids are rows of ``root_rows [shape=(n, 8), dtype=int64]``, the first
    of those that have the form: root, stems as bits, state after it, state if plain, classes as bits, whether it is
    capitalized by itself, cost, and whether another row follows. ``root_states [shape=(n_roots, n_stems)]``.
    ``affixes``: all surfaces; ``affix_offsets``, ``affix_entries``: of each, the affixes that may have it.
    ``affix_surfaces``, ``affix_states [shape=(n_affixes, n_states, n_stems)]``: surface, ``~surface`` if not certain, and
    the state after it. ``affix_asks [shape=(n_affixes, n_states)]``: stem asked for, or -1.
    ``affix_after``, ``affix_kinds``.
    ``literals``: the pieces; ``literal_values``, ``literal_offsets``: their bytes;
    ``special_values``, ``special_offsets``: those of special tokens.
    ``root_values``, ``root_value_offsets``: forms by root, stem and case; ``affix_values``, ``affix_value_offsets``: by
    surface and whether in capitals. ``costs [shape=(n_ids,), dtype=int64]``.
    ``longest``: bytes that an id reads as, at most.
    """

    starts: NDArray[np.int64]
    mode: int
    literal_cost: int
    most_arcs: int
    letter_of: NDArray[np.int32]
    letter_values: NDArray[np.uint8]
    letter_offsets: NDArray[np.int64]
    letter_sounds: NDArray[np.int32]
    letter_cased: NDArray[np.bool_]
    step: NDArray[np.int32]
    roots: VocabularyTrie
    root_rows: NDArray[np.int64]
    root_states: NDArray[np.int16]
    affixes: VocabularyTrie
    affix_offsets: NDArray[np.int64]
    affix_entries: NDArray[np.int32]
    affix_surfaces: NDArray[np.int16]
    affix_states: NDArray[np.int16]
    affix_asks: NDArray[np.int8]
    affix_after: NDArray[np.int64]
    affix_kinds: NDArray[np.int64]
    literals: VocabularyTrie
    literal_values: NDArray[np.uint8]
    literal_offsets: NDArray[np.int64]
    special_values: NDArray[np.uint8]
    special_offsets: NDArray[np.int64]
    root_values: NDArray[np.uint8]
    root_value_offsets: NDArray[np.int64]
    affix_values: NDArray[np.uint8]
    affix_value_offsets: NDArray[np.int64]
    costs: NDArray[np.int64]
    longest: int


# --- the characters of a word -----------------------------------------------------------------------------------------

_RAW, _LOW, _UPPERS, _LOWERS = range(4)


class _Word(NamedTuple):
    """A word at hand: ``chars`` (where each starts, in the text and in lower case; upper and lower case letters before it),
    its text in lower case, the character at each byte of both (-1 inside one), and the class of the one that ends there.
    ``low_bytes [shape=(1,)]``: of the text in lower case. ``surfaces``: of affixes, and the
    character after each. The rest is room for nodes, arcs and a path.
    """

    chars: NDArray[np.int32]
    lowered: NDArray[np.uint8]
    char_at: NDArray[np.int32]
    char_at_low: NDArray[np.int32]
    sounds: NDArray[np.int32]
    low_bytes: NDArray[np.int64]
    surfaces: NDArray[np.int64]
    heads: NDArray[np.int64]
    literals: NDArray[np.int64]
    tails: NDArray[np.int64]
    arcs: NDArray[np.int64]
    path: NDArray[np.int64]


@njit
def _new_word(tables):
    room = LONGEST_WORD + 8
    return _Word(
        np.empty((room, 4), dtype=np.int32),
        np.empty(4 * room, dtype=np.uint8),
        np.empty(room, dtype=np.int32),
        np.empty(4 * room, dtype=np.int32),
        np.empty(room, dtype=np.int32),
        np.empty(1, dtype=np.int64),
        np.empty((room, 2), dtype=np.int64),
        np.empty(room, dtype=np.int64),
        np.empty(room, dtype=np.int64),
        np.empty(room, dtype=np.int64),
        np.empty((2 * tables.most_arcs, _ARC_COLUMNS), dtype=np.int64),
        np.empty(room, dtype=np.int64),
    )


@leaf
def _num_bytes(first):
    """Of a character, by its first byte; of one that starts no character, 1."""
    if first < 0xC0:
        return np.int64(1)
    if first < 0xE0:
        return np.int64(2)
    return np.int64(3) if first < 0xF0 else np.int64(4)


@leaf
def _code_point(text, at, num_bytes):
    first = np.int64(text[at])
    if num_bytes == 1:
        return first
    code = first & (0x7F >> num_bytes)
    for i in range(1, num_bytes):
        code = code << 6 | np.int64(text[at + i]) & 0x3F
    return code


@leaf
def _letter(text, at, num_bytes, tables):
    """Twice the number of a letter, one more in upper case; -1 for another character."""
    code = _code_point(text, at, num_bytes)
    return np.int64(tables.letter_of[code]) if code < len(tables.letter_of) else _NONE


@leaf
def _read(text, start, stop, tables, word):
    """Fill ``word``."""
    num = 0
    low = 0
    uppers = 0
    lowers = 0
    at = start
    while at < stop:
        length = min(_num_bytes(text[at]), stop - at)
        letter = _letter(text, at, length, tables)
        place = at - start
        word.chars[num, _RAW] = place
        word.chars[num, _LOW] = low
        word.chars[num, _UPPERS] = uppers
        word.chars[num, _LOWERS] = lowers
        word.char_at[place] = num
        word.char_at_low[low] = num
        first_low = low
        if letter < 0:
            for i in range(length):
                word.lowered[low] = text[at + i]
                low += 1
            sound = 0
        else:
            number = letter >> 1
            for i in range(tables.letter_offsets[number], tables.letter_offsets[number + 1]):
                word.lowered[low] = tables.letter_values[i]
                low += 1
            sound = tables.letter_sounds[number]
            if letter & 1:
                uppers += 1
            elif tables.letter_cased[number]:
                lowers += 1
        for i in range(1, length):
            word.char_at[place + i] = -1
            word.sounds[place + i] = -1
        for i in range(first_low + 1, low):
            word.char_at_low[i] = -1
        word.sounds[place + length] = sound
        at += length
        num += 1
    word.chars[num, _RAW] = stop - start
    word.chars[num, _LOW] = low
    word.chars[num, _UPPERS] = uppers
    word.chars[num, _LOWERS] = lowers
    word.char_at[stop - start] = num
    word.char_at_low[low] = num
    word.low_bytes[0] = low


# --- arcs -------------------------------------------------------------------------------------------------------------


@leaf
def _put(arcs, num, place, cost, token, marker, stems, state, base, kinds, caps):
    arcs[num, _PLACE] = place
    arcs[num, _COST] = cost
    arcs[num, _ID] = token
    arcs[num, _MARKER] = marker
    arcs[num, _STEMS] = stems
    arcs[num, _STATE] = state
    arcs[num, _BASE] = base
    arcs[num, _KINDS] = kinds
    arcs[num, _CAPS] = caps
    return num + 1


@leaf
def _first_bit(bits):
    stem = 0
    while not bits >> stem & 1:
        stem += 1
    return stem


@leaf
def _root_marker(is_name, has_blank, uppers, lowers, first_is_upper):
    """The marker of a root written with so many upper and lower case letters: its number, -1: none, -2: there is none."""
    case = np.int64(-2)
    if uppers == 0:
        case = np.int64(-2 if is_name else AS_IS)
    elif first_is_upper and uppers == 1:
        case = np.int64(AS_IS if is_name else CAPITALIZED)
    elif lowers == 0:
        case = np.int64(CAPITALS)
    if case == -2:
        return case
    if case == AS_IS:
        return np.int64(-1 if has_blank else JOIN)
    if case == CAPITALIZED:
        return np.int64(UPPER if has_blank else UPPER_JOIN)
    return np.int64(CAPS if has_blank else CAPS_JOIN)


@leaf
def _root_arcs(word, tables, first, has_blank, arcs, num):
    """Roots that start with the character ``first``."""
    nodes = tables.roots.nodes
    chars = word.chars
    node = np.int64(0)
    first_is_upper = chars[first + 1, _UPPERS] > chars[first, _UPPERS]
    for at in range(chars[first, _LOW], word.low_bytes[0]):
        node = step_trie(nodes, node, word.lowered[at])
        if node == NO_NODE:
            break
        row = np.int64(nodes[node, 2])
        last = word.char_at_low[at + 1]
        if row < 0 or last < 0:
            continue
        uppers = chars[last, _UPPERS] - chars[first, _UPPERS]
        lowers = chars[last, _LOWERS] - chars[first, _LOWERS]
        num_bytes = chars[last, _RAW] - chars[first, _RAW] + has_blank
        follows = True
        while follows:
            root = tables.root_rows[row]
            row += 1
            follows = root[_FOLLOWS] != 0
            marker = _root_marker(root[_IS_NAME], has_blank, uppers, lowers, first_is_upper)
            if marker == -2 or (marker >= 0 and num_bytes < 2):  # never more ids than bytes
                continue
            cost = root[_ROOT_COST]
            caps = np.int64(marker >= CAPS)
            if marker >= 0:
                marker += tables.starts[MARKER]
                cost += tables.costs[marker]
            token = tables.starts[ROOT] + root[_ROOT]
            num = _put(
                arcs, num, chars[last, _RAW], cost, token, marker, root[_ROOT_STEMS], root[_ROOT_STATE], root[_ROOT_BASE],
                root[_ROOT_KINDS], caps,
            )  # fmt: skip
    return num


@leaf
def _find_surfaces(word, tables, first):
    """Surfaces of affixes that start with the character ``first``, the same for all nodes there; returns their number."""
    trie = tables.affixes.nodes
    step = np.int64(0)
    num = 0
    for at in range(word.chars[first, _LOW], word.low_bytes[0]):
        step = step_trie(trie, step, word.lowered[at])
        if step == NO_NODE:
            break
        last = word.char_at_low[at + 1]
        if trie[step, 2] >= 0 and last >= 0:
            word.surfaces[num, 0] = trie[step, 2]
            word.surfaces[num, 1] = last
            num += 1
    return num


@leaf
def _affix_arcs(word, tables, node, first, num_surfaces, arcs, num):
    """Suffixes that may follow a node, which is at the character ``first``, where some surfaces were found."""
    chars = word.chars
    state = node[_STATE]
    base = node[_BASE]
    wrong = _LOWERS if node[_CAPS] else _UPPERS
    for found in range(num_surfaces):
        surface = word.surfaces[found, 0]
        last = word.surfaces[found, 1]
        if chars[last, wrong] > chars[first, wrong]:
            break
        for entry in range(tables.affix_offsets[surface], tables.affix_offsets[surface + 1]):
            affix = np.int64(tables.affix_entries[entry])
            if tables.affix_after[affix] & node[_KINDS] == 0 or tables.starts[AFFIX] + affix < tables.starts[SUFFIX]:
                continue
            asked = np.int64(tables.affix_asks[affix, base])
            if asked < 0 or not node[_STEMS] >> asked & 1 or tables.affix_surfaces[affix, state, 0] < 0:
                continue
            stems = np.int64(0)
            for stem in range(tables.affix_surfaces.shape[2]):
                if tables.affix_surfaces[affix, state, stem] == surface:
                    stems |= _ONE << stem
            if stems == 0:
                continue
            token = tables.starts[AFFIX] + affix
            new_state = np.int64(tables.affix_states[affix, state, _first_bit(stems)])
            new_base = np.int64(tables.affix_states[affix, state, 0])
            num = _put(
                arcs, num, chars[last, _RAW], tables.costs[token], token, _NONE, stems, new_state, new_base,
                tables.affix_kinds[affix], node[_CAPS],
            )  # fmt: skip
    return num


@leaf
def _clitic_arcs(word, tables, arcs, num):
    """Clitics that the word starts with, if a state before it may give them."""
    trie = tables.affixes.nodes
    chars = word.chars
    step = np.int64(0)
    state = np.int64(0)
    stop = word.low_bytes[0]
    for at in range(stop):
        step = step_trie(trie, step, word.lowered[at])
        if step == NO_NODE:
            break
        last = word.char_at_low[at + 1]
        if last < 0:
            continue
        if chars[last, _UPPERS] > 0:
            break
        state = np.int64(tables.step[state, word.sounds[chars[last, _RAW]]])
        surface = trie[step, 2]
        if surface < 0:
            continue
        for entry in range(tables.affix_offsets[surface], tables.affix_offsets[surface + 1]):
            affix = np.int64(tables.affix_entries[entry])
            token = tables.starts[AFFIX] + affix
            if token < tables.starts[SUFFIX]:
                num = _put(
                    arcs, num, chars[last, _RAW], tables.costs[token], token, _NONE, _PLAIN, state, state,
                    tables.affix_kinds[affix], 0,
                )  # fmt: skip
    return num


@leaf
def _literal_arcs(text, start, word, tables, node, num_bytes, arcs, num):
    trie = tables.literals.nodes
    step = np.int64(0)
    place = node[_PLACE]
    state = node[_STATE]
    extra = np.int64(0) if node[_ID] >= tables.starts[LITERAL] else np.int64(tables.literal_cost)
    for at in range(place, num_bytes):
        step = step_trie(trie, step, text[start + at])
        if step == NO_NODE:
            break
        sound = word.sounds[at + 1]
        if sound >= 0:
            state = np.int64(tables.step[state, sound])
        piece = trie[step, 2]
        if piece >= 0:
            token = tables.starts[LITERAL] + piece
            num = _put(arcs, num, at + 1, tables.costs[token] + extra, token, _NONE, _ANY_STEM, state, state, _OTHER, 0)
    return num


@leaf
def _first_arcs(text, start, num_bytes, word, tables, may_be_clitic):
    """Roots and clitics that the word starts with."""
    has_blank = text[start] == 32
    num = 0
    if num_bytes > has_blank:
        num = _root_arcs(word, tables, 1 if has_blank else 0, has_blank, word.arcs, 0)
    if has_blank and may_be_clitic:
        num = _clitic_arcs(word, tables, word.arcs, num)
    return num


@leaf
def _find_arcs(text, start, word, tables, node, num_bytes, may_be_clitic):
    """All that may follow a node; returns how many arcs there are."""
    num = 0
    first = np.int64(word.char_at[node[_PLACE]])
    is_plain = node[_STEMS] & _PLAIN != 0
    if node[_PLACE] == 0:
        num = _first_arcs(text, start, num_bytes, word, tables, may_be_clitic)
    elif first >= 0:
        num = _affix_arcs(word, tables, node, first, _find_surfaces(word, tables, first), word.arcs, num)
    if is_plain:
        num = _literal_arcs(text, start, word, tables, node, num_bytes, word.arcs, num)
    return num


# --- paths ------------------------------------------------------------------------------------------------------------


@leaf
def _start(nodes):
    for column in range(_NODE_COLUMNS):
        nodes[0, column] = 0
    nodes[0, _ID] = -1
    nodes[0, _MARKER] = -1
    nodes[0, _STEMS] = _PLAIN
    nodes[0, _NEXT] = -1
    nodes[0, _BACK] = -1


@leaf
def _relax(at, num_arcs, word, tables, nodes, num_nodes):
    """Follow roots or affixes from the node ``at``; returns the new number of nodes, for which there is room."""
    first_literal = tables.starts[LITERAL]
    for i in range(num_arcs):
        arc = word.arcs[i]
        cost = nodes[at, _COST] + arc[_COST]
        found = word.heads[arc[_PLACE]]
        while found >= 0:
            if (
                nodes[found, _STATE] == arc[_STATE]
                and nodes[found, _KINDS] == arc[_KINDS]
                and nodes[found, _STEMS] == arc[_STEMS]
                and nodes[found, _BASE] == arc[_BASE]
                and nodes[found, _CAPS] == arc[_CAPS]
                and nodes[found, _ID] < first_literal
            ):
                break
            found = nodes[found, _NEXT]
        if found < 0:
            found = num_nodes
            num_nodes += 1
            _append(found, arc[_PLACE], word, nodes)
        elif nodes[found, _COST] <= cost:
            continue
        for column in range(_ARC_COLUMNS):
            nodes[found, column] = arc[column]
        nodes[found, _COST] = cost
        nodes[found, _BACK] = at
    return num_nodes


@leaf
def _relax_literals(text, start, at, num_bytes, word, tables, nodes, num_nodes):
    """As ``_relax`` along ``_literal_arcs``, which are the most: at a place they lead to one node, but for its state."""
    trie = tables.literals.nodes
    first_literal = tables.starts[LITERAL]
    step = np.int64(0)
    state = nodes[at, _STATE]
    so_far = nodes[at, _COST] + (0 if nodes[at, _ID] >= first_literal else tables.literal_cost)
    for place in range(nodes[at, _PLACE] + 1, num_bytes + 1):
        step = step_trie(trie, step, text[start + place - 1])
        if step == NO_NODE:
            break
        sound = word.sounds[place]
        if sound >= 0:
            state = np.int64(tables.step[state, sound])
        piece = np.int64(trie[step, 2])
        if piece < 0:
            continue
        cost = so_far + tables.costs[first_literal + piece]
        found = word.literals[place]
        while found >= 0 and (nodes[found, _STATE] != state or nodes[found, _ID] < first_literal):
            found = nodes[found, _NEXT]
        if found < 0:
            found = num_nodes
            num_nodes += 1
            _append(found, place, word, nodes)
            if word.literals[place] < 0:
                word.literals[place] = found
            nodes[found, _PLACE] = place
            nodes[found, _MARKER] = -1
            nodes[found, _STEMS] = _ANY_STEM
            nodes[found, _STATE] = state
            nodes[found, _BASE] = state
            nodes[found, _KINDS] = _OTHER
            nodes[found, _CAPS] = 0
        elif nodes[found, _COST] <= cost:
            continue
        nodes[found, _COST] = cost
        nodes[found, _ID] = first_literal + piece
        nodes[found, _BACK] = at
    return num_nodes


@leaf
def _append(node, place, word, nodes):
    """Put a new node behind the others at its place."""
    nodes[node, _NEXT] = -1
    if word.heads[place] < 0:
        word.heads[place] = node
    else:
        nodes[word.tails[place], _NEXT] = node
    word.tails[place] = node


@leaf
def _cheapest_of(head, nodes, first_literal, literal_cost, state):
    """Of the nodes at a place from which literal pieces may follow in ``state``, the first of the cheapest."""
    best = _NONE
    least = np.int64(0)
    at = head
    while at >= 0:
        if nodes[at, _STEMS] & _PLAIN and nodes[at, _STATE] == state:
            cost = nodes[at, _COST] + (0 if nodes[at, _ID] >= first_literal else literal_cost)
            if best < 0 or cost < least:
                best = at
                least = cost
        at = nodes[at, _NEXT]
    return best


@leaf
def _cheapest(text, start, num_bytes, word, tables, may_be_clitic, nodes):
    """The last node of the cheapest path, or -1 if ``nodes`` has no room.

    Places go from left to right. At each, first the affixes after each node, in the order in which these were found; then
    literal pieces. What these give depends on the node only by its state, and cost, so they follow the cheapest of each
    state. The arcs of a node are in the order of their lengths.

    **Ties**: of two ways to the same node the one found first, and of two last nodes too.
    """
    heads = word.heads
    for place in range(num_bytes + 1):
        heads[place] = -1
        word.literals[place] = -1
    _start(nodes)
    heads[0] = 0
    first_literal = tables.starts[LITERAL]
    num_nodes = 1
    for place in range(num_bytes):
        if heads[place] < 0:
            continue
        first = np.int64(word.char_at[place])
        at = heads[place]
        num_surfaces = _find_surfaces(word, tables, first) if place > 0 and first >= 0 else 0
        while at >= 0 and first >= 0:
            if len(nodes) < num_nodes + tables.most_arcs:
                return _NONE
            if place == 0:
                num_nodes = _relax(
                    at, _first_arcs(text, start, num_bytes, word, tables, may_be_clitic), word, tables, nodes, num_nodes
                )
            elif num_surfaces > 0:
                num_arcs = _affix_arcs(word, tables, nodes[at], first, num_surfaces, word.arcs, 0)
                num_nodes = _relax(at, num_arcs, word, tables, nodes, num_nodes)
            at = nodes[at, _NEXT]
        at = heads[place]
        while at >= 0:
            if nodes[at, _STEMS] & _PLAIN:
                state = nodes[at, _STATE]
                before = heads[place]  # whether a node before it has the same state, and was the first of these
                while before != at and not (nodes[before, _STEMS] & _PLAIN and nodes[before, _STATE] == state):
                    before = nodes[before, _NEXT]
                if before == at:
                    if len(nodes) < num_nodes + tables.most_arcs:
                        return _NONE
                    best = _cheapest_of(at, nodes, first_literal, tables.literal_cost, state)
                    num_nodes = _relax_literals(text, start, best, num_bytes, word, tables, nodes, num_nodes)
            at = nodes[at, _NEXT]
    best = _NONE
    at = heads[num_bytes]
    while at >= 0:
        if nodes[at, _STEMS] & _PLAIN and (best < 0 or nodes[at, _COST] < nodes[best, _COST]):
            best = at
        at = nodes[at, _NEXT]
    return best


@leaf
def _can_end(text, start, word, tables, node, num_bytes, spare):
    """Whether some affix may follow that needs nothing behind it; ``word.arcs`` is used up to ``spare``."""
    first = np.int64(word.char_at[node[_PLACE]])
    if first < 0 or node[_PLACE] == num_bytes:
        return False
    num = _affix_arcs(word, tables, node, first, _find_surfaces(word, tables, first), word.arcs[spare:], 0)
    for i in range(num):
        if word.arcs[spare + i, _STEMS] & _PLAIN:
            return True
    return False


@leaf
def _longest(text, start, num_bytes, word, tables, may_be_clitic, nodes):
    """The last node of the path that takes the longest root or affix each time, a literal piece if there is none.

    One that needs an affix behind it is taken only if there is one that needs none. **Ties**: the first of the arcs.
    """
    _start(nodes)
    at = np.int64(0)
    while nodes[at, _PLACE] < num_bytes:
        if at + 1 == len(nodes):
            return _NONE
        num_arcs = _find_arcs(text, start, word, tables, nodes[at], num_bytes, may_be_clitic)
        best = -1
        for i in range(num_arcs):
            arc = word.arcs[i]
            is_literal = arc[_ID] >= tables.starts[LITERAL]
            if best >= 0:
                other_is_literal = word.arcs[best, _ID] >= tables.starts[LITERAL]
                if is_literal and not other_is_literal:
                    continue
                if is_literal == other_is_literal and arc[_PLACE] <= word.arcs[best, _PLACE]:
                    continue
            if arc[_STEMS] & _PLAIN or _can_end(text, start, word, tables, arc, num_bytes, num_arcs):
                best = i
        for column in range(_ARC_COLUMNS):
            nodes[at + 1, column] = word.arcs[best, column]
        nodes[at + 1, _BACK] = at
        at += 1
    return at


@leaf
def _write_path(nodes, last, word, ids, size):
    num = 0
    at = last
    while nodes[at, _BACK] >= 0:
        word.path[num] = at
        num += 1
        at = nodes[at, _BACK]
    for i in range(num - 1, -1, -1):
        if nodes[word.path[i], _MARKER] >= 0:
            ids[size] = nodes[word.path[i], _MARKER]
            size += 1
        ids[size] = nodes[word.path[i], _ID]
        size += 1
    return size


@leaf
def _encode_word(text, start, stop, word, tables, may_be_clitic, nodes, ids, size):
    """Append the ids of a word; returns the new size, or -1 if ``nodes`` has no room."""
    while start < stop:
        end = stop
        if stop - start > LONGEST_WORD:
            end = start + LONGEST_WORD
            while text[end] & 0xC0 == 0x80 and end > start + LONGEST_WORD - 4:
                end -= 1
        _read(text, start, end, tables, word)
        if tables.mode == VITERBI:
            last = _cheapest(text, start, end - start, word, tables, may_be_clitic, nodes)
        else:
            last = _longest(text, start, end - start, word, tables, may_be_clitic, nodes)
        if last < 0:
            return _NONE
        size = np.int64(_write_path(nodes, last, word, ids, size))
        may_be_clitic = False
        start = end
    return size


@njit
def _larger(nodes):
    return np.empty((2 * len(nodes), _NODE_COLUMNS), dtype=np.int64)


@njit
def _new_nodes(tables):
    return np.empty((2 * tables.most_arcs + 4096, _NODE_COLUMNS), dtype=np.int64)


@njit
def segment_words(text, start, stops, tables, clitics, ids, sizes):
    """The ids of distinct words, each by itself; for training.

    Parameters
    ----------
    text
        Padded text. ``[dtype=uint8]``
    start
        Where the first word starts.
    stops
        Where each word stops and the next starts. ``[shape=(n,), dtype=int64]``
    tables
        The model.
    clitics
        Whether a word may be a clitic, whatever stands before it.
    ids
        Filled with the ids; has room for one a byte. ``[dtype=int32]``
    sizes
        Filled with the number of ids up to the end of each word. ``[shape=(n,), dtype=int64]``
    """
    word = _new_word(tables)
    nodes = _new_nodes(tables)
    size = 0
    for i in range(len(stops)):
        new_size = _encode_word(text, start, stops[i], word, tables, clitics, nodes, ids, size)
        while new_size < 0:
            nodes = _larger(nodes)
            new_size = _encode_word(text, start, stops[i], word, tables, clitics, nodes, ids, size)
        size = new_size
        sizes[i] = size
        start = stops[i]


# --- back -------------------------------------------------------------------------------------------------------------


@leaf
def _stem_before(following, base, tables):
    """The stem that an id asks for of what stands before it, which leaves the state ``base`` if it is plain; -1: unknown."""
    if following < tables.starts[SUFFIX] or following >= tables.starts[ROOT]:
        return np.int64(0)
    return np.int64(tables.affix_asks[following - tables.starts[AFFIX], base])


@leaf
def _hear(text, heard, stop, state, tables):
    """The state after the characters of ``text[heard:stop]``, and up to where they are whole."""
    while heard < stop:
        length = _num_bytes(text[heard])
        if heard + length > stop:
            break
        if length == 1 and text[heard] >= 0x80:  # the end of a character whose start we have not seen
            state = np.int64(0)
        else:
            letter = _letter(text, heard, length, tables)
            sound = 0 if letter < 0 else tables.letter_sounds[letter >> 1]
            state = np.int64(tables.step[state, sound])
        heard += length
    return state, heard


@leaf
def decode_ids(ids, tables, text, stops):
    """What ids read as, in their context.

    If ids before them are left out, what depends on those reads as some form, and the state says what is certain even so.

    Parameters
    ----------
    ids
        Any. ``[shape=(n,), dtype=int32]``
    tables
        The model.
    text
        Filled with the bytes; has room for the longest of each id. ``[dtype=uint8]``
    stops
        Filled with where each id's bytes stop. ``[shape=(n,), dtype=int64]``

    Returns
    -------
    int
        The state in the end: what a clitic behind them would hear.
    """
    starts = tables.starts
    num_stems = tables.affix_surfaces.shape[2]
    state = np.int64(0)
    heard = np.int64(0)
    size = np.int64(0)
    marker = _NONE
    caps = False
    for i in range(len(ids)):
        token = np.int64(ids[i])
        following = np.int64(ids[i + 1]) if i + 1 < len(ids) else _NONE
        if starts[MARKER] <= token < starts[AFFIX]:
            marker = token - starts[MARKER]
        elif starts[AFFIX] <= token < starts[ROOT]:
            affix = token - starts[AFFIX]
            state, heard = _hear(text, heard, size, state, tables)
            asked = _stem_before(following, np.int64(tables.affix_states[affix, state, 0]), tables)
            stem = max(asked, 0)
            surface = np.int64(tables.affix_surfaces[affix, state, stem])
            if surface < 0:
                surface = ~surface
            if token < starts[SUFFIX]:
                caps = False
            at = 2 * surface + caps
            for j in range(tables.affix_value_offsets[at], tables.affix_value_offsets[at + 1]):
                text[size] = tables.affix_values[j]
                size += 1
            state = np.int64(tables.affix_states[affix, state, stem]) if asked >= 0 else np.int64(0)
            heard = size
            marker = _NONE
        elif starts[ROOT] <= token < starts[LITERAL]:
            root = token - starts[ROOT]
            asked = _stem_before(following, np.int64(tables.root_states[root, 0]), tables)
            stem = max(asked, 0)
            case = np.int64(AS_IS)
            if marker in (UPPER, UPPER_JOIN):
                case = np.int64(CAPITALIZED)
            caps = marker in (CAPS, CAPS_JOIN)
            if caps:
                case = np.int64(CAPITALS)
            if marker in (_NONE, UPPER, CAPS):
                text[size] = 32
                size += 1
            at = 3 * (root * num_stems + stem) + case
            for j in range(tables.root_value_offsets[at], tables.root_value_offsets[at + 1]):
                text[size] = tables.root_values[j]
                size += 1
            state = np.int64(tables.root_states[root, stem]) if asked >= 0 else np.int64(0)
            heard = size
            marker = _NONE
        elif starts[LITERAL] <= token:
            piece = token - starts[LITERAL]
            for j in range(tables.literal_offsets[piece], tables.literal_offsets[piece + 1]):
                text[size] = tables.literal_values[j]
                size += 1
            marker = _NONE
            caps = False
        else:
            for j in range(tables.special_offsets[token], tables.special_offsets[token + 1]):
                text[size] = tables.special_values[j]
                size += 1
            marker = _NONE
            caps = False
            state = np.int64(0)
            heard = size
        stops[i] = size
    state, heard = _hear(text, heard, size, state, tables)
    return state


# --- documents --------------------------------------------------------------------------------------------------------


@leaf
def _is_heard(text, start, stop, ids, tables, spare, spare_stops):
    """Whether a clitic, the last of ``ids``, reads as the word from ``start`` on after the ids before it."""
    state = decode_ids(ids[: len(ids) - 1], tables, spare, spare_stops)
    surface = np.int64(tables.affix_surfaces[ids[len(ids) - 1] - tables.starts[AFFIX], state, 0])
    if surface < 0:
        return False
    first = tables.affix_value_offsets[2 * surface]
    length = tables.affix_value_offsets[2 * surface + 1] - first
    if length > stop - start:
        return False
    for i in range(length):
        if tables.affix_values[first + i] != text[start + i]:
            return False
    return True


@njit
def encode_morph_words(text, start, stops, doc_stops, tables, cache, ids, num_before, doc_sizes):
    """As ``encode_words`` of ``encode.py``, by morphemes.

    Words are encoded once and remembered. Of a word that starts with a clitic, the ids before it in its document decide
    whether it can be one there; where it cannot, the word is encoded anew. So ``ids[:num_before]`` are the last ids of the
    same document, ``WINDOW`` of them or all; they count in ``doc_sizes``, and in what is returned.
    """
    slots = np.empty(GROUP, dtype=np.uint64)
    missing = np.empty(GROUP, dtype=np.int64)
    lows = np.empty(FETCHED, dtype=np.uint64)
    highs = np.empty(FETCHED, dtype=np.uint64)
    word = _new_word(tables)
    nodes = _new_nodes(tables)
    spare = np.empty((WINDOW + 1) * tables.longest, dtype=np.uint8)
    spare_stops = np.empty(WINDOW + 1, dtype=np.int64)
    entries = cache.entries
    size = num_before
    doc = 0
    doc_first = 0
    at = 0
    while at < len(stops):
        group = stops[at : at + GROUP]
        num_words, num_missing = look_up(text, start, group, cache, slots, missing, lows, highs)
        if num_words == 0:
            forget(cache)
        rest = ids[size:]
        for i in range(num_missing):
            begin = start if missing[i] == 0 else group[missing[i] - 1]
            some = _encode_word(text, begin, group[missing[i]], word, tables, True, nodes, rest, 0)
            while some < 0:
                nodes = _larger(nodes)
                some = _encode_word(text, begin, group[missing[i]], word, tables, True, nodes, rest, 0)
            remember(cache, slots[missing[i]], rest, some)
        for i in range(num_words):
            while doc < len(doc_stops) and doc_stops[doc] <= start:
                doc_sizes[doc] = size
                doc_first = size
                doc += 1
            stop = group[i]
            slot = slots[i]
            first = size
            if slot == UNCACHED:
                size = _encode_word(text, start, stop, word, tables, True, nodes, ids, first)
                while size < 0:
                    nodes = _larger(nodes)
                    size = _encode_word(text, start, stop, word, tables, True, nodes, ids, first)
            else:
                size = copy_ids(entries, cache.ids, slot, ids, size)
            if tables.starts[AFFIX] <= ids[first] < tables.starts[SUFFIX]:
                before = ids[max(doc_first, first - WINDOW) : first + 1]
                if not _is_heard(text, start, stop, before, tables, spare, spare_stops):
                    size = _encode_word(text, start, stop, word, tables, False, nodes, ids, first)
                    while size < 0:
                        nodes = _larger(nodes)
                        size = _encode_word(text, start, stop, word, tables, False, nodes, ids, first)
            start = stop
        at += num_words
    while doc < len(doc_stops):
        doc_sizes[doc] = size
        doc += 1
    return size

"""A morphology-hybrid tokenizer made by tokenmill, for `transformers`: everything is in morph.json beside this file.

Needs `transformers` and `tokenizers` only. Slow, a page of plain Python: where tokenmill is installed,
``pipeline.tokenizer.Tokenizer.load`` gives the same ids hundreds of times as fast.
"""

from __future__ import annotations

import json
import os
import shutil

import tokenizers
from transformers import PreTrainedTokenizer

WINDOW = 6
LONGEST_WORD = 1024

# of a node: stems that may be asked for (bits), state, state if plain, classes (bits), in capitals, literal
START = (1, 0, 0, 0, False, False)


def to_chars(content):
    """Bytes as GPT-2 writes them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    chars = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return "".join(chars[byte] for byte in content)


class Model:
    """Text to ids and back; how is told in tokenmill's documentation, ``pipeline/kernels/morph.py``."""

    def __init__(self, root):
        morphology = root["morphology"]
        self.costs = root["costs"]
        self.literal_cost = root["literal_cost"]
        self.is_longest = root["segmentation"] == "longest"
        self.specials = root["special_tokens"]
        self.affixes = morphology["affixes"]
        self.roots = morphology["roots"]
        self.first_marker = len(self.specials)
        self.first_affix = self.first_marker + len(root["markers"])
        self.first_suffix = self.first_affix + sum(affix["is_clitic"] for affix in self.affixes)
        self.first_root = self.first_affix + len(self.affixes)
        self.first_literal = self.first_root + len(self.roots)
        self.literals = [bytes([byte]) for byte in range(256)]
        byte_of = {to_chars([byte]): byte for byte in range(256)}
        self.literals += [bytes(byte_of[char] for char in piece) for piece in root["pieces"]]
        self.literal_ids = {}
        for number, piece in enumerate(self.literals):
            self.literal_ids.setdefault(piece, self.first_literal + number)
        self.longest_literal = max(map(len, self.literals))
        self.step = morphology["step"]
        self.lower_of = {upper: lower for lower, upper, _ in morphology["letters"] if upper}
        self.upper_of = {lower: upper for upper, lower in self.lower_of.items()}
        self.sounds = {char: sound for lower, upper, sound in morphology["letters"] for char in (lower, upper) if char}
        self.splits = [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in root["pretokenizer"]
        ]
        self.normalizer = None
        if root["normalizer"] != "none":
            classes = [{"lowercase": "Lowercase"}.get(part, part.upper()) for part in root["normalizer"].split("_")]
            self.normalizer = tokenizers.normalizers.Sequence([getattr(tokenizers.normalizers, c)() for c in classes])
        names = [
            *self.specials,
            *root["markers"],
            *(f"-{affix['name']}" for affix in self.affixes),
            *(item["forms"][0] for item in self.roots),
            *(f"'{to_chars(piece)}'" for piece in self.literals),
        ]
        self.names = []
        seen = set()
        for token, name in enumerate(names):
            self.names.append(name if name not in seen else f"{name}#{token}")
            seen.add(self.names[-1])
        self._index()

    def _index(self):
        """Forms of roots, and surfaces of affixes, in lower case, to what has them."""
        self.root_states = [[self.hear(0, item["sounds"] or form) for form in item["forms"]] for item in self.roots]
        self.forms = {}
        for number, item in enumerate(self.roots):
            of_root = {}
            for stem, form in enumerate(item["forms"]):
                of_root[self.lower(form)] = of_root.get(self.lower(form), 0) | 1 << stem
            for form, stems in of_root.items():
                self.forms.setdefault(form, []).append((number, stems))
        self.longest_form = max(map(len, self.forms), default=0)
        self.surfaces = {}
        for number, affix in enumerate(self.affixes):
            for surface in affix["surfaces"]:
                self.surfaces.setdefault(surface, []).append(number)
        self.longest_surface = max(map(len, self.surfaces), default=0)

    def lower(self, text):
        return "".join(self.lower_of.get(char, char) for char in text)

    def upper(self, text):
        return "".join(self.upper_of.get(char, char) for char in text)

    def hear(self, state, text):
        """The state after some more text."""
        for char in text:
            state = self.step[state][self.sounds.get(char, 0)]
        return state

    # --- text to ids ---

    def encode(self, text):
        """The ids of a text."""
        if self.normalizer is not None:
            text = self.normalizer.normalize_str(text)
        ids = []
        for word in self.words(text):
            found = self.encode_word(word, True)
            if self.first_affix <= found[0] < self.first_suffix:
                _, state = self.read(ids[-WINDOW:])
                surface = self.surface(found[0] - self.first_affix, state, 0)
                if surface is None or not word.startswith(surface):
                    found = self.encode_word(word, False)
            ids += found
        return ids

    def words(self, text):
        words = [text] if text else []
        for split in self.splits:
            words = [piece for word in words for piece, _ in split.pre_tokenize_str(word)]
        return words

    def encode_word(self, word, may_be_clitic):
        ids = []
        content = word.encode()
        while content:
            stop = LONGEST_WORD
            while stop < len(content) and content[stop] & 0xC0 == 0x80:
                stop -= 1
            path = self.longest_path if self.is_longest else self.cheapest_path
            ids += path(content[:stop].decode(), may_be_clitic)
            content = content[stop:]
            may_be_clitic = False
        return ids

    def cheapest_path(self, word, may_be_clitic):
        content = word.encode()
        num_bytes = len(content)
        best = [{} for _ in range(num_bytes + 1)]  # at each place: node to cost, place and node before, and ids
        best[0][START] = (0, None, None, [])

        def relax(place, node, arcs):
            for end, ids, more, following in arcs:
                cost = best[place][node][0] + more
                if following not in best[end] or cost < best[end][following][0]:
                    best[end][following] = (cost, place, node, ids)

        for place in range(num_bytes):
            nodes = best[place]
            rest = content[place:].decode() if content[place] & 0xC0 != 0x80 else ""
            for node in nodes if rest else ():
                arcs = self.affix_arcs(place, node, rest) if place else self.first_arcs(rest, may_be_clitic)
                relax(place, node, arcs)
            ready = [node for node in nodes if node[0] & 1]
            following = {}
            for node in ready:
                following.setdefault(node[1], []).append(node)
            for alike in following.values():
                node = min(alike, key=lambda node: nodes[node][0] + (0 if node[5] else self.literal_cost))
                relax(place, node, self.literal_arcs(content, place, node))
        ends = [node for node in best[num_bytes] if node[0] & 1]
        node, place = min(ends, key=lambda node: best[num_bytes][node][0]), num_bytes
        path = []
        while place is not None:
            _, before, previous, ids = best[place][node]
            path.append(ids)
            place, node = before, previous
        return [token for ids in reversed(path) for token in ids]

    def longest_path(self, word, may_be_clitic):
        num_bytes = len(word.encode())
        place, node, path = 0, START, []
        while place < num_bytes:
            arcs = self.arcs(word, place, node, may_be_clitic)
            arcs = [arc for arc in arcs if arc[3][0] & 1 or self.can_end(word, arc)]
            place, ids, _, node = max(arcs, key=lambda arc: (not arc[3][5], arc[0]))
            path += ids
        return path

    def can_end(self, word, arc):
        end, _, _, node = arc
        rest = word.encode()[end:].decode(errors="replace")
        return any(following[0] & 1 for *_, following in self.affix_arcs(end, node, rest))

    def arcs(self, word, place, node, may_be_clitic):
        """All that may follow: where it ends, its ids, its cost, the node then."""
        stems = node[0]
        content = word.encode()
        found = []
        if place == len(content):
            return found
        if content[place] & 0xC0 != 0x80:
            rest = content[place:].decode()
            if place == 0:
                found += self.first_arcs(rest, may_be_clitic)
            else:
                found += self.affix_arcs(place, node, rest)
        if stems & 1:
            found += self.literal_arcs(content, place, node)
        return found

    def first_arcs(self, rest, may_be_clitic):
        blank = rest[0] == " "
        found = self.root_arcs(1 if blank else 0, blank, rest[1:] if blank else rest)
        return found + (self.clitic_arcs(rest) if blank and may_be_clitic else [])

    def root_arcs(self, place, blank, rest):
        found = []
        for length in range(1, min(len(rest), self.longest_form) + 1):
            text = rest[:length]
            for number, stems in self.forms.get(self.lower(text), ()):
                marker = self.marker(text, self.roots[number]["forms"][0], blank)
                num_bytes = len(text.encode())
                if marker is None or (marker >= 0 and num_bytes + blank < 2):
                    continue
                token = self.first_root + number
                ids = [self.first_marker + marker, token] if marker >= 0 else [token]
                state = self.root_states[number][next(stem for stem in range(8) if stems >> stem & 1)]
                node = (stems, state, self.root_states[number][0], self.roots[number]["kinds"], marker >= 3, False)
                found.append((place + num_bytes, ids, sum(self.costs[i] for i in ids), node))
        return found

    def marker(self, text, root, blank):
        """0 join, 1 upper, 2 upper and join, 3 capitals, 4 capitals and join; -1: none is needed, None: none is right."""
        uppers = [char in self.lower_of for char in text]
        is_name = self.lower(root) != root
        if not any(uppers):
            return None if is_name else -1 if blank else 0
        if uppers[0] and sum(uppers) == 1:
            if is_name:
                return -1 if blank else 0
            return 1 if blank else 2
        return None if any(char in self.upper_of for char in text) else 3 if blank else 4

    def affix_arcs(self, place, node, rest):
        stems, state, base, kinds, caps, _ = node
        found = []
        for length in range(1, min(len(rest), self.longest_surface) + 1):
            text = rest[:length]
            if any(char in (self.upper_of if caps else self.lower_of) for char in text):
                break
            for number in self.surfaces.get(self.lower(text), ()):
                affix = self.affixes[number]
                asked = affix["asks"][base]
                if affix["is_clitic"] or not affix["after"] & kinds or asked < 0 or not stems >> asked & 1:
                    continue
                row = affix["surface"][state]
                fits = sum(1 << i for i, s in enumerate(row) if s >= 0 and affix["surfaces"][s] == self.lower(text))
                if row[0] < 0 or not fits:
                    continue
                plain = self.hear(state, affix["surfaces"][row[0]])
                following = (fits, self.hear(state, self.lower(text)), plain, 1 << affix["kind"], caps, False)
                token = self.first_affix + number
                found.append((place + len(text.encode()), [token], self.costs[token], following))
        return found

    def clitic_arcs(self, rest):
        found = []
        for length in range(1, min(len(rest), self.longest_surface) + 1):
            text = rest[:length]
            if any(char in self.lower_of for char in text):
                break
            for number in self.surfaces.get(text, ()):
                if self.affixes[number]["is_clitic"]:
                    state, token = self.hear(0, text), self.first_affix + number
                    node = (1, state, state, 1 << self.affixes[number]["kind"], False, False)
                    found.append((len(text.encode()), [token], self.costs[token], node))
        return found

    def literal_arcs(self, content, place, node):
        found = []
        _, state, _, _, _, is_literal = node
        heard = place
        while content[heard] & 0xC0 == 0x80:
            heard -= 1  # the character that we are inside
        for end in range(place + 1, min(len(content), place + self.longest_literal) + 1):
            token = self.literal_ids.get(content[place:end])
            if token is None:
                continue
            whole = end
            while whole < len(content) and content[whole] & 0xC0 == 0x80:
                whole -= 1
            after = self.hear(state, content[heard : max(whole, heard)].decode())
            cost = self.costs[token] + (0 if is_literal else self.literal_cost)
            found.append((end, [token], cost, (255, after, after, 1, False, True)))
        return found

    # --- ids to text ---

    def surface(self, affix, state, stem):
        """What an affix reads as; None if what is not known might change that."""
        number = self.affixes[affix]["surface"][state][stem]
        return self.affixes[affix]["surfaces"][number] if number >= 0 else None

    def asked(self, following, base):
        if following is None or not self.first_suffix <= following < self.first_root:
            return 0
        return self.affixes[following - self.first_affix]["asks"][base]

    def read(self, ids):
        """The bytes of ids, and the state in the end."""
        text, heard, state, marker, caps = b"", 0, 0, -1, False

        def catch_up():
            nonlocal heard, state
            while heard < len(text):
                first = text[heard]
                length = 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
                if heard + length > len(text):
                    break
                code = first if length == 1 else first & (0x7F >> length)
                for byte in text[heard + 1 : heard + length]:
                    code = code << 6 | byte & 0x3F
                char = chr(code) if code < 0x110000 else ""
                state = 0 if length == 1 and first >= 0x80 else self.step[state][self.sounds.get(char, 0)]
                heard += length

        for i, token in enumerate(ids):
            following = ids[i + 1] if i + 1 < len(ids) else None
            if self.first_marker <= token < self.first_affix:
                marker = token - self.first_marker
                continue
            if self.first_affix <= token < self.first_root:
                catch_up()
                affix = token - self.first_affix
                row = self.affixes[affix]["surface"][state]
                plain = self.affixes[affix]["surfaces"][row[0]] if row[0] >= 0 else None
                asked = self.asked(following, 0 if plain is None else self.hear(state, plain))
                number = row[max(asked, 0)]
                surface = self.affixes[affix]["surfaces"][number if number >= 0 else ~number]
                caps = caps and token >= self.first_suffix
                text += (self.upper(surface) if caps else surface).encode()
                state = self.hear(state, surface) if number >= 0 and asked >= 0 else 0
                heard = len(text)
            elif self.first_root <= token < self.first_literal:
                root = self.roots[token - self.first_root]
                asked = self.asked(following, self.root_states[token - self.first_root][0])
                form = root["forms"][max(asked, 0)]
                caps = marker in (3, 4)
                if marker in (1, 2):
                    form = self.upper(form[:1]) + form[1:]
                text += (" " if marker in (-1, 1, 3) else "").encode() + (self.upper(form) if caps else form).encode()
                state = self.root_states[token - self.first_root][max(asked, 0)] if asked >= 0 else 0
                heard = len(text)
            elif token >= self.first_literal:
                text += self.literals[token - self.first_literal]
                caps = False
            else:
                text += self.specials[token].encode()
                state, heard, caps = 0, len(text), False
            marker = -1
        catch_up()
        return text, state


class MorphTokenizer(PreTrainedTokenizer):
    """The tokenizer in morph.json."""

    vocab_files_names = {"vocab_file": "morph.json"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, vocab_file, **kwargs):
        with open(vocab_file, encoding="utf-8") as file:
            self.model = Model(json.load(file))
        self.vocab_file = vocab_file
        self.ids = {name: token for token, name in enumerate(self.model.names)}
        kwargs.setdefault("extra_special_tokens", [t for t in self.model.specials if t != kwargs.get("eos_token")])
        kwargs.setdefault("token_type_ids_pattern", "all_zeros")
        kwargs.setdefault("special_tokens_pattern", "none")
        super().__init__(**kwargs)

    @property
    def vocab_size(self):
        return len(self.model.names)

    def get_vocab(self):
        return {**self.ids, **self.added_tokens_encoder}

    def _tokenize(self, text, **kwargs):
        return [self.model.names[token] for token in self.model.encode(text)]

    def _convert_token_to_id(self, token):
        return self.ids.get(token)

    def _convert_id_to_token(self, index):
        return self.model.names[index]

    def convert_tokens_to_string(self, tokens):
        text, known = "", []
        for token in [*tokens, None]:
            if token in self.ids:
                known.append(self.ids[token])
            else:  # one that was added later reads as itself
                text += self.model.read(known)[0].decode(errors="replace") + (token or "")
                known = []
        return text

    def save_vocabulary(self, save_directory, filename_prefix=None):
        name = os.path.join(save_directory, (f"{filename_prefix}-" if filename_prefix else "") + "morph.json")
        if os.path.abspath(name) != os.path.abspath(self.vocab_file):
            shutil.copyfile(self.vocab_file, name)
        return (name,)

"""placeholder"""

from __future__ import annotations

from dataclasses import dataclass

PACKS = ("whitespace", "markdown", "html", "json", "xml", "uri", "years", "enumerations", "citations", "legal")


@dataclass(frozen=True, slots=True)
class Term:
    text: str
    match: str = "whole"


def reserved(terms):
    out = []
    for t in terms:
        if t.match == "whole" and not t.text.isdigit():
            out.append((" " + t.text, False))
        out.append((t.text, t.match == "whole"))
    return tuple(out)


def check_term(*a):
    return Term(a[0])


def normalized(terms, n):
    return terms


def parse_terms(*a):
    return ()


def read_pack(n):
    return ()


def term_words(*a):
    raise NotImplementedError

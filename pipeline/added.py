"""placeholder until the branch is merged"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AddedToken:
    content: str
    single_word: bool = False
    normalized: bool = False

"""The GPT-2 alphabet: a printable character for each byte, as tokenizer.json files spell byte-level tokens.

Printable Latin-1 characters stand for themselves; the other 68 bytes get U+0100 and following, in order. The *order* of
an alphabet is that of these characters, not of the bytes: ties between merges depend on it.
"""

from __future__ import annotations

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]

CHAR_OF_BYTE = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(256 + n) for n, byte in enumerate(_OTHERS)}
BYTE_OF_CHAR = {char: byte for byte, char in CHAR_OF_BYTE.items()}

BLANK = CHAR_OF_BYTE[ord(" ")]

ALPHABET = tuple(byte for _, byte in sorted((char, byte) for byte, char in CHAR_OF_BYTE.items()))
"""All 256 bytes in the order of their characters."""


def to_chars(token: bytes) -> str:
    """The spelling of a token: ``b" the"`` is ``"Ġthe"``."""
    return "".join(CHAR_OF_BYTE[byte] for byte in token)


def to_bytes(chars: str) -> bytes:
    """The bytes of a spelling; KeyError if a character is not of the alphabet."""
    return bytes(BYTE_OF_CHAR[char] for char in chars)

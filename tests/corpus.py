"""Small corpora that tests make, and what they compare: the hashes of everything published."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

WORDS = [
    *("the", "of", "and", "to", "in", "mill", "grain", "stone", "wheel", "water", "flour", "ground", "bread", "token"),
    *("merge", "shard", "byte", "word", "count", "rank", "naïve", "café", "straße", "größer", "Ünïcode", "中文", "字符"),
    *("日本語", "русский", "мельница", "değirmen", "öğütmek", "12", "345", "6789", "x=1", "foo(bar)", "{}"),
]


def documents(num_documents: int, seed: int = 0) -> list[str]:
    """Pseudo-random documents of 1 to 200 words, the same for the same seed."""
    chance = random.Random(seed)
    return [
        "".join(
            chance.choice(WORDS) + chance.choice([" ", " ", " ", "\n", ", ", ".\n\n", "  "])
            for _ in range(chance.randint(1, 200))
        )
        for _ in range(num_documents)
    ]


def write_jsonl(path: Path, texts: list[str], first_id: int = 0) -> None:
    """One object a line, with ``id`` and ``text``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": f"doc-{first_id + i}", "text": text}) for i, text in enumerate(texts)]
    path.write_text("\n".join(lines) + "\n")


def job(root: Path, output: Path, **execution: Any) -> dict[str, Any]:
    """A job with two sources, three tokenizers over four passes, one of two stages, a pool, and two of them packed."""
    return {
        "name": "test",
        "output": str(output),
        "sources": [
            {"name": "a", "uris": [str(root / "a/*.jsonl")], "id_column": "id"},
            {"name": "b", "uris": [str(root / "b/*.jsonl")], "weight": 2.0},
        ],
        "holdout": {"fraction": 0.1, "seed": 3},
        "tokenizers": [
            {"name": "one", "vocab_size": 400, "pretokenizer": "gpt4o", "special_tokens": ["<|endoftext|>"]},
            {
                "name": "three",
                "kind": "superbpe",
                "vocab_size": 420,
                "transition": 0.85,
                "sample_bytes": 30_000,
                "special_tokens": ["<|endoftext|>"],
            },
            {
                "name": "two",
                "vocab_size": 350,
                "pretokenizer": "gpt2",
                "digits": "r2l",
                "normalizer": "nfkc",
                "special_tokens": ["<|endoftext|>", "<|pad|>"],
            },
            {"name": "zero", "kind": "pool", "members": ["one", "three"], "selector": "bits"},
        ],
        "pack": {"tokenizers": ["one", "two"], "sequence_length": 128, "append": "<|endoftext|>"},
        "execution": {"address": "local", "shard_bytes": 20_000, **execution},
    }


def published(output: Path) -> dict[str, str]:
    """sha256 of every file that must be the same for any way of running the job."""
    files = [path for folder in ("tokenizers", "packed") for path in (output / folder).rglob("*") if path.is_file()]
    assert files
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}

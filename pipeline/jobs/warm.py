"""Compile every kernel once, by running a tiny job: ``python -m pipeline.jobs.warm``, part of an installation.

The machine code is cached beside the package, so that workers load it instead of compiling it side by side.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.arrow import rows_of
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.spec import ExecutionSpec, HoldoutSpec, JobSpec, PackSpec, SourceSpec
from pipeline.stages.mixture import infer_mixture, replay
from pipeline.tokenizer import Tokenizer
from pipeline.tokenizer_spec import BpeSpec, CharSpec, DomainSpec, MorphSpec, PoolSpec, PretokenizerSpec, SuperBpeSpec

_LANGUAGE = {
    "harmony.tsv": "rule\tlooks\tletters\tbecomes\nvowel\tletters\taeiou\t-\n",
    "affixes.tsv": "affix\tclass\tform\tafter\tstem\n-\tnoun\t-\t-\t-\nPL\tplural\ts\tnoun\t-\n",
    "roots.tsv": "root\tclass\tforms\nword\tnoun\t-\n",
}


def main() -> None:
    """Compile and leave nothing else behind."""
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(f"document {i}: some words, 12345, and a longer_word_than_fifteen_bytes" for i in range(64))
        Path(folder, "corpus.txt").write_text(text)
        for name, table in _LANGUAGE.items():
            Path(folder, name).write_text(table)
        tokenizers = (
            BpeSpec(name="plain", vocab_size=300, pretokenizer=PretokenizerSpec(preset="gpt2")),
            BpeSpec(name="digits", vocab_size=300, pretokenizer=PretokenizerSpec(preset="gpt2", digits="r2l")),
            SuperBpeSpec(name="superwords", vocab_size=320, transition=270),
            SuperBpeSpec(name="chunks", vocab_size=270, stage="random_chunks"),
            MorphSpec(name="morphemes", vocab_size=280, language=folder),
            BpeSpec(name="inside", vocab_size=280, morphemes=folder),
            CharSpec(name="chars", vocab_size=280),
            DomainSpec(name="terms", vocab_size=280, terms=("longer word", "12345")),
            PoolSpec(name="pool", members=("plain", "terms")),
        )
        packs = (
            PackSpec(tokenizers=("plain",), sequence_length=64, strategy="best_fit"),
            PackSpec(tokenizers=("digits",), sequence_length=64, strategy="concat"),
        )
        for num_workers, pack in enumerate(packs, start=1):
            spec = JobSpec(
                name="warm",
                output=f"{folder}/{pack.strategy}",
                sources=(SourceSpec(name="corpus", uris=(f"{folder}/corpus.txt",), documents="line"),),
                tokenizers=tokenizers,
                holdout=HoldoutSpec(fraction=0.2),
                pack=pack,
                execution=ExecutionSpec(address="local", train_workers=num_workers),
            )
            run_job(spec, Progress(io.StringIO()))
        plain = Tokenizer.load(f"{folder}/best_fit/tokenizers/plain")
        assert isinstance(plain, Tokenizer)
        _infer(plain)


def _infer(tokenizer: Tokenizer) -> None:
    """What infer-mixture runs, but for its solver."""
    words = rows_of(pa.array(["some", " words", " document"]))
    counts = np.array([[2, 1], [1, 3], [1, 1]])
    infer_mixture(replay(tokenizer, 20, words, counts), np.array([20, 30]), most_rounds=0)


if __name__ == "__main__":
    main()

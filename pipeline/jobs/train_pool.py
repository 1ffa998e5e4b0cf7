"""The step that puts trained tokenizers into one id space."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import list_rows, text_array
from pipeline.jobs.tasks import Job, Outputs, Report
from pipeline.jobs.train import word_files
from pipeline.jobs.training import WordFiles, WordParts, read_words
from pipeline.pool import PoolTokenizer
from pipeline.tokenizer import Tokenizer
from pipeline.tokenizer_spec import PoolSpec


def publish_pool(
    job: Job, outputs: Outputs, pool: PoolSpec, members: Mapping[str, Tokenizer], words: Mapping[str, WordParts]
) -> Report:
    """Publish the directory of a pool. ``words``: by member, what it was trained on."""
    specs = {tokenizer.name: tokenizer for tokenizer in job.spec.trained}
    counts: tuple[NDArray[np.int64], ...] = ()
    if pool.selector == "bits":
        files = (word_files(job, specs[name], words[name]) for name in members)
        counts = tuple(count_tokens(some, member) for some, member in zip(files, members.values(), strict=True))
    described = json.loads(json.dumps(dataclasses.asdict(pool)))
    result = PoolTokenizer(dict(members), pool.selector, counts, described)
    for name, content in result.files().items():
        outputs.write_bytes(f"tokenizers/{pool.name}/{name}", content)
    return {"vocab_size": result.vocab_size, "members": list(pool.members), "sha256": result.sha256}


def count_tokens(files: WordFiles, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """How often each id occurs in the words that a tokenizer was trained on: ``[shape=(vocab_size,), dtype=int64]``."""
    totals = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for part in files.parts:  # one at a time: there may be many words
        words, counts, _ = read_words(dataclasses.replace(files, parts=[part]))
        offsets, ids = list_rows(tokenizer.encode_batch(text_array(words)))
        np.add.at(totals, ids.astype(np.int64), np.repeat(counts, np.diff(offsets)))
    return totals

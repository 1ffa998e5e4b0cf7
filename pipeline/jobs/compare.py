"""Measure any tokenizers on any text files, without a job."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.errors import DataError
from pipeline.jobs.plan import model_file
from pipeline.stages.evaluate import Measure, describe, measure
from pipeline.tokenizer import load_tokenizer


def compare(tokenizers: list[str], files: list[str]) -> list[dict[str, Any]]:
    """A row of sums and ratios for each tokenizer, over all files; each file is a document.

    Raises
    ------
    ArtifactError
        A tokenizer is not there or cannot be loaded.
    DataError
        A file is not UTF-8.
    """
    loaded = []
    for name in tokenizers:
        uri = model_file(name)
        loaded.append((name, load_tokenizer(storage.read_bytes(uri), uri)))
    sums = [Measure() for _ in loaded]
    counts = [np.zeros(tokenizer.vocab_size, dtype=np.int64) for _, tokenizer in loaded]
    for uri in files:
        try:
            text = storage.read_bytes(storage.absolute(uri)).decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{uri}: invalid UTF-8 at byte {error.start}; compare takes plain UTF-8 text") from error
        document = pa.array([text], type=pa.large_string())
        for index, (_, tokenizer) in enumerate(loaded):
            more, used = measure(tokenizer, document)
            sums[index] += more
            counts[index] += used
    return [{"tokenizer": name, **describe(s, c)} for (name, _), s, c in zip(loaded, sums, counts, strict=True)]

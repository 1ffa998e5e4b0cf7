"""The work of the other side, each with the fastest call its documentation has for the task. Outputs are not converted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.corpus import read_documents, text_bytes
from benchmarks.outcome import ids_of, ids_of_lists, merges_of
from benchmarks.probe import memory_bytes

TINY = "a few words, 12345 of them, so that threads and tables are there\n"
SEPARATOR = "<|endoftext|>"


def num_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def _train_to_file(train: Callable[[str, int, str], None], file: str, vocab_size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        tiny, output = Path(folder, "tiny.txt"), str(Path(folder, "tokenizer.json"))
        tiny.write_text(TINY)
        train(str(tiny), 300, output)
        before = memory_bytes("VmRSS")
        started = time.perf_counter()
        train(file, vocab_size, output)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "rss_before_bytes": before, **merges_of(Path(output).read_text())}


def gigabpe_train(file: str, vocab_size: int) -> dict[str, Any]:
    """File to tokenizer.json."""
    import gigabpe

    def train(file: str, vocab_size: int, output: str) -> None:
        gigabpe.train_tokenizer([file], vocab_size, output, pretokenizer="bytelevel", threads=num_cores())

    return _train_to_file(train, file, vocab_size)


def gigabpe_command(file: str, vocab_size: int) -> dict[str, Any]:
    """The same as a command, from the start of Python."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder, "tokenizer.json"))
        call = f"train_tokenizer([{file!r}], {vocab_size}, {output!r}, pretokenizer='bytelevel', threads={num_cores()})"
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import gigabpe; gigabpe.{call}"], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, **merges_of(Path(output).read_text())}


def tokenizers_train(file: str, vocab_size: int) -> dict[str, Any]:
    """File to tokenizer.json."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def train(file: str, vocab_size: int, output: str) -> None:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.train([file], trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[], show_progress=False))
        tokenizer.save(output)

    return _train_to_file(train, file, vocab_size)


def tokenizers_count(file: str, patterns: list[str], max_bytes: int, train_to: int) -> dict[str, Any]:
    """Documents in memory to a tokenizer of hardly more than the bytes: splitting and counting is nearly all of it."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    texts = read_documents(file, max_bytes)
    documents = texts.to_pylist()
    tokenizer = Tokenizer(models.BPE())
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    to_chars = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_chars])
    trainer = trainers.BpeTrainer(vocab_size=train_to, show_progress=False)
    tokenizer.train_from_iterator([TINY], trainer)
    started = time.perf_counter()
    tokenizer.train_from_iterator(documents, trainer)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "text_bytes": text_bytes(texts), **merges_of(tokenizer.to_str())}


def tokenizers_whole_job(file: str, vocab_size: int) -> dict[str, Any]:
    """Documents in memory: ``train_from_iterator``, then ``encode_batch_fast``. Nothing is written."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    documents = read_documents(file).to_pylist()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    started = time.perf_counter()
    tokenizer.train_from_iterator(documents, trainer)
    trained = time.perf_counter()
    for start in range(0, len(documents), 1000):
        tokenizer.encode_batch_fast(documents[start : start + 1000])
    ended = time.perf_counter()
    return {"seconds": ended - started, "steps": {"train": trained - started, "encode": ended - trained}}


def gigatoken_count(file: str) -> dict[str, Any]:
    """Documents in memory to word counts: what its trainer reports as the time of its first phase."""
    from gigatoken import train_bpe

    texts = read_documents(file)
    documents = texts.to_pylist()
    data = SEPARATOR.join(documents).encode()
    assert data.count(SEPARATOR.encode()) == len(documents) - 1, f"{SEPARATOR} occurs in the text"
    train_bpe(TINY.encode(), 260, [], separator=SEPARATOR.encode())
    with tempfile.TemporaryFile() as printed:
        kept = os.dup(1), os.dup(2)
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        train_bpe(data, 257, [], separator=SEPARATOR.encode())
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        printed.seek(0)
        report = printed.read().decode()
    took = re.search(r"Pretokenization took ([\d.]+)(s|ms|µs)", report)
    words = re.search(r"(\d+) unique words", report)
    if not took or not words:
        raise RuntimeError(f"gigatoken prints something else now: {report}")
    seconds = float(took[1]) * {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[took[2]]
    return {"seconds": seconds, "text_bytes": text_bytes(texts), "distinct_words": int(words[1])}


def gigatoken_encode(tokenizer: str, file: str, max_bytes: int | None = None) -> dict[str, Any]:
    """Awkward strings to awkward lists: the first call of a tokenizer that has seen the text ``x``, and the second."""
    import awkward as ak
    from gigatoken.gigatoken_rs import BPETokenizer

    texts = read_documents(file, max_bytes)
    array = ak.from_arrow(texts)
    theirs = BPETokenizer.from_hf(tokenizer)
    theirs.encode_batch(ak.Array(["x"]), parallel=False)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        encoded = theirs.encode_batch(array, parallel=False)
        seconds.append(time.perf_counter() - started)
    agreed = ids_of(ak.to_numpy(ak.flatten(encoded)), ak.to_numpy(ak.num(encoded)))
    return {"seconds": seconds[0], "warm_seconds": seconds[1], "text_bytes": text_bytes(texts), **agreed}


def tokenizers_encode(tokenizer: str, file: str, max_bytes: int) -> dict[str, Any]:
    """A list of ``str`` to a list of ``Encoding``; taking the ids out is not timed."""
    from tokenizers import Tokenizer

    texts = read_documents(file, max_bytes)
    documents = texts.to_pylist()
    theirs = Tokenizer.from_file(tokenizer)
    theirs.encode_batch_fast(["x"])
    started = time.perf_counter()
    encoded = theirs.encode_batch_fast(documents)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "text_bytes": text_bytes(texts), **ids_of_lists([e.ids for e in encoded])}


def tiktoken_encode(tokenizer: str, file: str, max_bytes: int) -> dict[str, Any]:
    """A list of ``str`` to a list of lists, ``encode_ordinary`` document by document. Its ranks are our ids."""
    import tiktoken

    from pipeline.pretokenizer import GPT2_REGEX
    from pipeline.tokenizer import Tokenizer

    texts = read_documents(file, max_bytes)
    documents = texts.to_pylist()
    ours = Tokenizer.load(tokenizer)
    ranks = {ours.decode_bytes([token_id]): token_id for token_id in range(ours.vocab_size)}
    theirs = tiktoken.Encoding("ours", pat_str=GPT2_REGEX, mergeable_ranks=ranks, special_tokens={})
    theirs.encode_ordinary("x")
    started = time.perf_counter()
    encoded = [theirs.encode_ordinary(document) for document in documents]
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "text_bytes": text_bytes(texts), **ids_of_lists(encoded)}

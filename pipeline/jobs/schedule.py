"""Which tasks a step has: from the plan, and the receipts of the steps before."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.jobs.plan import Plan, model_file
from pipeline.jobs.steps import PROGRAM_BYTES, STEPS, Buckets, ShardInput, TokenizerRef
from pipeline.jobs.tasks import SPLITS, Job, Receipt, Task, shard_name
from pipeline.jobs.train import Origin
from pipeline.jobs.training import BYTES_PER_SYMBOL, SYMBOLS_PER_WORKER, WordParts
from pipeline.kernels.ranks import MOST_IDS
from pipeline.stages.shard import Shard
from pipeline.stages.shuffle import num_buckets
from pipeline.tokenizer_spec import BpeSpec, DomainSpec, MorphSpec, SuperBpeSpec, TrainedSpec

Receipts = dict[str, dict[str, Receipt]]

EVALUATE_SHARDS = 64
"""Shards whose held-out documents one evaluation task takes: they are a small part of each."""


PLAIN_STEPS = tuple(step for step in STEPS if step not in ("units", "subwords", "pool"))
"""Of a job whose tokenizers have one stage, and share no merges."""


def steps_of(plan: Plan) -> tuple[str, ...]:
    """The steps of a job, in order."""
    is_needed = {
        "units": any(counting.step == "units" for counting in plan.passes),
        "subwords": bool(plan.subwords),
        "pool": any(tokenizer["kind"] == "pool" for tokenizer in plan.spec["tokenizers"]),
    }
    return tuple(step for step in STEPS if is_needed.get(step, True))


def step_tasks(step: str, job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    """Every task of a step, done or not; needs the receipts of the steps before."""
    return _MAKERS[step](job, plan, receipts)


def _shard_input(plan: Plan, shard: Shard) -> ShardInput:
    return ShardInput(shard, len(plan.shards), plan.read_options[shard.source])


def _files_of(shard: Shard) -> str:
    """The files of a shard, in words."""
    first, more = shard.parts[0], len(shard.parts) - 1
    place = "" if first.start is None else f" from {first.start} to {first.stop}"
    return f"{first.uri}{place}" + (f" and {more} more" if more else "")


def tokenizer_receipts(receipts: Receipts) -> dict[str, Receipt]:
    """By tokenizer: the receipt of the task that published it."""
    return receipts["train"] | receipts.get("pool", {})


def _trained(name: str, receipts: Receipts) -> TokenizerRef:
    receipt = tokenizer_receipts(receipts)[name]
    return TokenizerRef(name, receipt.report["sha256"], step=receipt.step)


def _count_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    return [
        Task(
            step="count",
            name=shard_name(shard.index),
            num_bytes=shard.num_bytes,
            params={
                "source": _shard_input(plan, shard),
                "passes": tuple(counting for counting in plan.passes if counting.step == "count"),
                "num_partitions": plan.num_partitions,
            },
            reads=_files_of(shard),
        )
        for shard in plan.shards
    ]


def _units_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    passes = tuple(counting for counting in plan.passes if counting.step == "units")
    train_bytes = sum(receipt.report["text_bytes"]["train"] for receipt in receipts["count"].values())
    return [
        Task(
            step="units",
            name=shard_name(shard.index),
            num_bytes=shard.num_bytes,
            params={
                "source": _shard_input(plan, shard),
                "passes": passes,
                "num_partitions": plan.num_partitions,
                "train_bytes": train_bytes,
            },
            reads=_files_of(shard),
        )
        for shard in plan.shards
        if passes
    ]


def _outputs_in(receipts: Iterable[Receipt], folder: str) -> list[tuple[str, dict[str, Any]]]:
    """What tasks published in a folder, each with the task's name."""
    return [(r.name, entry) for r in receipts for entry in r.outputs if entry["path"].startswith(folder + "/")]


def _bytes_in(receipts: Iterable[Receipt], folder: str) -> int:
    return sum(entry["bytes"] for _, entry in _outputs_in(receipts, folder))


def _merge_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    tasks = []
    by_source = Counter(shard.source for shard in plan.shards)
    shards = tuple(by_source[source] for source in range(len(job.spec.sources)))
    for counting in plan.passes:
        counted = receipts[counting.step].values()
        num_bytes = _bytes_in(counted, f"_work/{counting.step}/{counting.name}") // plan.num_partitions
        for partition in range(plan.num_partitions):
            tasks.append(
                Task(
                    step="merge",
                    name=f"{counting.name}/{partition:05d}",
                    num_bytes=num_bytes,
                    params={
                        "counting": counting.name,
                        "step": counting.step,
                        "partition": partition,
                        "num_partitions": plan.num_partitions,
                        "shards": shards,
                    },
                )
            )
    return tasks


def _subwords_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    longest: dict[str, TrainedSpec] = {}
    for tokenizer in job.spec.trained:
        key = plan.subwords.get(tokenizer.name)
        if key is not None and (key not in longest or _first_size(tokenizer) > _first_size(longest[key])):
            longest[key] = tokenizer
    tasks = []
    for key, tokenizer in longest.items():
        words, num_bytes, memory = _words_of(job, receipts, plan.trained_on[tokenizer.name][0])
        params = {"words": words, "key": key, "tokenizer": tokenizer, "vocab_size": _first_size(tokenizer)}
        memory = _memory_of(tokenizer, words, memory)
        tasks.append(Task(step="subwords", name=key, num_bytes=num_bytes, params=params, memory_bytes=memory))
    return tasks


def _first_size(tokenizer: TrainedSpec) -> int:
    """As many tokens as it may need of the merges that are shared.

    Of a first stage, the original counts merges, and those come after at most all bytes.
    """
    if not isinstance(tokenizer, SuperBpeSpec):
        return tokenizer.vocab_size
    if tokenizer.compat == "reference":
        return min(tokenizer.num_first + len(tokenizer.special_tokens) + 256, MOST_IDS)
    return tokenizer.num_first


def _words_of(job: Job, receipts: Receipts, counting: str) -> tuple[WordParts, int, int]:
    """What a training reads, how many bytes that is, and how many it takes in the memory of a single worker."""
    parts = _outputs_in(receipts["merge"].values(), f"_work/words/{counting}")
    reports = [receipt.report for receipt in receipts["merge"].values() if receipt.name.startswith(f"{counting}/")]
    num_symbols = sum(int(report["word_bytes"] + report["distinct_words"]) for report in reports)
    num_workers = _num_workers(job, num_symbols)
    memory_bytes = PROGRAM_BYTES + BYTES_PER_SYMBOL * num_symbols
    return WordParts(parts=parts, num_workers=num_workers), sum(entry["bytes"] for _, entry in parts), memory_bytes


def _memory_of(tokenizer: TrainedSpec, words: WordParts, memory_bytes: int) -> int:
    """Of the task that trains; 0 if several workers share the words. Some kinds are trained by one, whatever there is."""
    is_alone = (
        isinstance(tokenizer, MorphSpec)
        or (isinstance(tokenizer, BpeSpec) and tokenizer.morphemes is not None)
        or (isinstance(tokenizer, DomainSpec) and tokenizer.use_terms == "count")
    )
    return memory_bytes if is_alone or words.num_workers == 1 else 0


def _train_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    words = functools.cache(lambda counting: _words_of(job, receipts, counting))  # alike for all tokenizers of a pass
    tasks = []
    for tokenizer in job.spec.trained:
        read, num_bytes, memory = words(plan.trained_on[tokenizer.name][-1])
        base = plan.bases.get(tokenizer.name)
        shared = receipts["subwords"][plan.subwords[tokenizer.name]] if tokenizer.name in plan.subwords else None
        origin = Origin(
            subwords=None if shared is None else (shared.name, shared.outputs[0]),
            base=None if base is None else (model_file(str(tokenizer.base)), base),  # type: ignore[union-attr]
            pack=plan.packs.get(tokenizer.name),
        )
        params = {"words": read, "tokenizer": tokenizer, "origin": origin}
        memory = _memory_of(tokenizer, read, memory)
        tasks.append(Task(step="train", name=tokenizer.name, num_bytes=num_bytes, params=params, memory_bytes=memory))
    return tasks


def _pool_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    tasks = []
    for pool in job.spec.pools:
        words = [_words_of(job, receipts, plan.trained_on[name][-1]) for name in pool.members]
        params = {
            "pool": pool,
            "members": [_trained(name, receipts) for name in pool.members],
            "words": [parts for parts, _, _ in words],
        }
        num_bytes = sum(num_bytes for _, num_bytes, _ in words)
        tasks.append(Task(step="pool", name=pool.name, num_bytes=num_bytes, params=params))
    return tasks


def _num_workers(job: Job, num_symbols: int) -> int:
    """As many as the words of a counting pass need, if the spec does not say."""
    execution = job.spec.execution
    if execution.train_workers is not None:
        return execution.train_workers
    most = SYMBOLS_PER_WORKER
    if execution.task_memory_bytes is not None:
        most = min(most, execution.task_memory_bytes // BYTES_PER_SYMBOL)
    return max(1, -(-num_symbols // most))


def _evaluate_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    trained = [_trained(tokenizer.name, receipts) for tokenizer in job.spec.tokenizers]
    others = [
        TokenizerRef(f"compare/{index}", plan.compare[index], model_file(uri))
        for index, uri in enumerate(job.spec.evaluate.compare)
    ]
    holdout_bytes = sum(receipt.report["text_bytes"]["holdout"] for receipt in receipts["count"].values())
    tasks = []
    for index, source in enumerate(job.spec.sources):
        shards = [shard for shard in plan.shards if shard.source == index]
        held_out = [receipts["count"][shard_name(shard.index)] for shard in shards]
        held_out = [receipt for receipt in held_out if receipt.report["documents"]["holdout"]]
        for group, start in enumerate(range(0, len(held_out), EVALUATE_SHARDS)):
            chosen = held_out[start : start + EVALUATE_SHARDS]
            num_bytes = sum(receipt.report["text_bytes"]["holdout"] for receipt in chosen)
            parts = _outputs_in(chosen, "_work/holdout")  # one list for the tasks of all tokenizers
            for tokenizer in [*trained, *others]:
                tasks.append(
                    Task(
                        step="evaluate",
                        name=f"{tokenizer.name}/{source.name}/{group:05d}",
                        num_bytes=num_bytes,
                        params={
                            "tokenizer": tokenizer,
                            "source": source.name,
                            "group": group,
                            "parts": parts,
                            "holdout_bytes": holdout_bytes,
                        },
                    )
                )
    return tasks


def _splits(job: Job) -> tuple[str, ...]:
    return SPLITS if job.spec.holdout.fraction else ("train",)


def _buckets(receipts: Receipts) -> tuple[dict[str, int], dict[str, int]]:
    """Text bytes and number of buckets of each split."""
    total = {s: sum(r.report["text_bytes"][s] for r in receipts["count"].values()) for s in SPLITS}
    return total, {split: num_buckets(total[split]) for split in SPLITS}


def _encode_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    if job.spec.pack is None:
        return []
    total, counts = _buckets(receipts)
    tasks = []
    for name in job.spec.pack.tokenizers:
        first = dict.fromkeys(SPLITS, 0)
        for shard in plan.shards:
            tasks.append(
                Task(
                    step="encode",
                    name=f"{name}/{shard_name(shard.index)}",
                    num_bytes=shard.num_bytes,
                    params={
                        "source": _shard_input(plan, shard),
                        "tokenizer": _trained(name, receipts),
                        "buckets": {split: Buckets(counts[split], total[split], first[split]) for split in SPLITS},
                    },
                    reads=_files_of(shard),
                )
            )
            text_bytes = receipts["count"][shard_name(shard.index)].report["text_bytes"]
            first = {split: first[split] + text_bytes[split] for split in SPLITS}
    return tasks


def _pack_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    if job.spec.pack is None:
        return []
    _, buckets = _buckets(receipts)
    tasks = []
    for name in job.spec.pack.tokenizers:
        encoded = [receipts["encode"][f"{name}/{shard_name(shard.index)}"] for shard in plan.shards]
        for split in _splits(job):
            num_bytes = _bytes_in(encoded, f"_work/encode/{name}/{split}") // buckets[split]
            for bucket in range(buckets[split]):
                tasks.append(
                    Task(
                        step="pack",
                        name=f"{name}/{split}/{bucket:05d}",
                        num_bytes=num_bytes,
                        params={
                            "tokenizer": _trained(name, receipts),
                            "split": split,
                            "bucket": bucket,
                            "buckets": buckets[split],
                            "num_shards": len(plan.shards),
                        },
                    )
                )
    return tasks


_MAKERS: dict[str, Callable[[Job, Plan, Receipts], list[Task]]] = {
    "count": _count_tasks,
    "units": _units_tasks,
    "merge": _merge_tasks,
    "subwords": _subwords_tasks,
    "train": _train_tasks,
    "pool": _pool_tasks,
    "evaluate": _evaluate_tasks,
    "encode": _encode_tasks,
    "pack": _pack_tasks,
}

"""What the report says of domains: their numbers, their terms, the same text in other languages, and misread text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.jobs.finished import AnyTokenizer, iter_tokenizers
from pipeline.jobs.plan import Plan
from pipeline.jobs.schedule import Receipts
from pipeline.jobs.tasks import ALL, Job
from pipeline.jobs.yardstick import check_yardstick, hash_parallel, hash_terms, iter_parallel, read_terms
from pipeline.kernels.ranks import MOST_IDS
from pipeline.spec import ParallelSpec
from pipeline.stages.domains import Premium, measure_digits, measure_terms, num_tokens, premiums, spread
from pipeline.stages.noise import Agreement
from pipeline.stages.sizes import fit_sizes
from pipeline.tokenizer_spec import TokenizerSpec


def describe_domains(job: Job, plan: Plan, receipts: Receipts) -> dict[str, Any]:
    """As report.json has it: ``digits`` always; ``terms``, ``parallel``, ``sizes``, ``noise`` if the spec asks for them.

    Raises
    ------
    DataError
        A file has changed since the plan was made.
    """
    spec = job.spec.evaluate
    terms = read_terms(spec.terms)
    if spec.terms:
        check_yardstick(plan.yardsticks, "terms", hash_terms(terms))
    if spec.parallel is not None:
        check_yardstick(plan.yardsticks, "parallel", hash_parallel(spec.parallel))
    digits: dict[str, Any] = {}
    of_terms: dict[str, dict[str, Any]] = {uri: {} for uri in terms}
    paid: dict[str, dict[str, Premium]] = {}
    lost: dict[str, int] = {}
    vocab_sizes = {}
    for name, tokenizer in iter_tokenizers(job, plan, receipts):
        vocab_sizes[name] = tokenizer.vocab_size
        digits[name] = measure_digits(tokenizer)
        for uri, some in terms.items():
            of_terms[uri][name] = measure_terms(tokenizer, some)
        if spec.parallel is not None:
            paid[name], lost[name] = _premiums(tokenizer, spec.parallel)
    return {
        "digits": digits,
        "terms": of_terms,
        "parallel": {} if spec.parallel is None else _describe_premiums(spec.parallel, paid, lost),
        "sizes": [] if spec.parallel is None else _plan_sizes(job.spec.trained, spec.parallel, paid, vocab_sizes),
        "noise": _describe_noise(job, receipts),
    }


# --- premiums ---------------------------------------------------------------------------------------------------------


def _premiums(tokenizer: AnyTokenizer, spec: ParallelSpec) -> tuple[dict[str, Premium], int]:
    """The premiums, without groups of which a row does not come back from its tokens; and how many such rows there are."""
    tokens: dict[str, dict[str, int]] = {}
    lost: list[tuple[str, str]] = []
    for rows in iter_parallel(spec):
        counts = num_tokens(tokenizer, [row.text for row in rows]).tolist()
        for row, count in zip(rows, counts, strict=True):
            of_language = tokens.setdefault(row.language, {})
            of_language[row.group] = of_language.get(row.group, 0) + count
            if count < 0:
                lost.append((row.language, row.group))
    for language, group in set(lost):
        del tokens[language][group]
    return premiums(tokens, spec.reference), len(lost)


def _describe_premiums(
    spec: ParallelSpec, paid: Mapping[str, Mapping[str, Premium]], lost: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "reference": spec.reference,
        "tokenizers": {
            name: {
                "languages": {
                    language: {**dataclasses.asdict(premium), "premium": premium.premium}
                    for language, premium in rows.items()
                },
                "not_restored": lost[name],
                "spread": spread([p.premium for key, p in rows.items() if key != spec.reference and p.premium is not None]),
            }
            for name, rows in paid.items()
        },
    }


# --- sizes ------------------------------------------------------------------------------------------------------------


def _plan_sizes(
    tokenizers: Sequence[TokenizerSpec],
    spec: ParallelSpec,
    paid: Mapping[str, Mapping[str, Premium]],
    vocab_sizes: Mapping[str, int],
) -> list[dict[str, Any]]:
    """For each ladder of tokenizers: the curve of each language, and the vocabulary that would give it the target."""
    ladders: dict[str, list[str]] = {}
    least_sizes = {tokenizer.name: tokenizer.least_size for tokenizer in tokenizers}
    for tokenizer in tokenizers:
        rest = {**dataclasses.asdict(tokenizer), "name": "", "vocab_size": 0}
        ladders.setdefault(json.dumps(rest, sort_keys=True), []).append(tokenizer.name)
    planned = []
    for names in ladders.values():
        names = sorted(names, key=lambda name: (vocab_sizes[name], name))
        sizes = [vocab_sizes[name] for name in names]
        if len(set(sizes)) < 2:
            continue
        middle = names[len(names) // 2]
        rows = {}
        for language in paid[middle]:
            points = [paid[name][language].tokens for name in names]
            target = spec.target * paid[middle][language].reference_tokens
            if min(points) > 0 and target > 0:
                rows[language] = _plan_size(sizes, points, target, least_sizes[middle])
        planned.append(
            {"tokenizers": names, "vocab_sizes": sizes, "middle": middle, "target": spec.target, "languages": rows}
        )
    return planned


def _plan_size(sizes: Sequence[int], points: Sequence[int], target: float, least_size: int) -> dict[str, Any]:
    """``vocab_size`` is None if no vocabulary of a size that is possible gives as few tokens as that.

    ``extrapolated``: it is outside of the sizes that were measured, so the curve has to be believed.
    """
    curve = fit_sizes(sizes, points)
    size = curve.size(target)
    found = None if size is None or size > MOST_IDS else max(round(size), least_size)
    return {
        "a": float(np.format_float_positional(curve.a, 9, fractional=False)),
        "b": round(curve.b, 6),
        "c": round(curve.c, 3),
        "error": curve.error,
        "target_tokens": round(target, 3),
        "vocab_size": found,
        "extrapolated": found is not None and not sizes[0] <= found <= sizes[-1],
    }


# --- noise ------------------------------------------------------------------------------------------------------------


def _describe_noise(job: Job, receipts: Receipts) -> dict[str, Any]:
    """The evaluation's sums by tokenizer and source, and over all sources; empty if the spec does not ask for them."""
    spec = job.spec.evaluate.noise
    if spec is None:
        return {}
    shown = {f"compare/{i}": uri for i, uri in enumerate(job.spec.evaluate.compare)}
    sums: dict[str, dict[str, Agreement]] = {}
    for name in [*(tokenizer.name for tokenizer in job.spec.tokenizers), *shown.values()]:
        sums[name] = {}
    for receipt in receipts["evaluate"].values():
        measured: str = receipt.report["tokenizer"]
        rows = sums[shown.get(measured, measured)]
        for key in (receipt.report["source"], ALL):
            rows[key] = rows.get(key, Agreement()) + Agreement(**receipt.report["noise"])
    order = [*(source.name for source in job.spec.sources), ALL]
    return {
        "rate": spec.rate,
        "seed": spec.seed,
        "sample_bytes": spec.sample_bytes,
        "tokenizers": {
            name: {key: {**dataclasses.asdict(rows[key]), **rows[key].ratios()} for key in order if key in rows}
            for name, rows in sums.items()
            if rows
        },
    }

"""Hypothesis runs the same examples every time; TOKENMILL_MAX_EXAMPLES sets how many."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "tokenmill",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=int(os.environ.get("TOKENMILL_MAX_EXAMPLES", "50")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tokenmill")

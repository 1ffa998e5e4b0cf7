"""Hypothesis runs the same examples every time; TOKENMILL_MAX_EXAMPLES sets how many.

Also here: an S3 server for the tests that ask for one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.s3 import Bucket, Proxy, Server

settings.register_profile(
    "tokenmill",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=int(os.environ.get("TOKENMILL_MAX_EXAMPLES", "50")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tokenmill")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    from tests.s3 import Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A new bucket; this process is a client of the server itself."""
    from tests.s3 import patient, use

    use(s3_server.env | patient(), monkeypatch)
    made = s3_server.make_bucket()
    yield made
    made.clear()
    use({}, monkeypatch)


@pytest.fixture
def proxy(s3_server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server of ``bucket``; this process is its client, and does not wait long."""
    from tests.s3 import impatient, patient, proxy_before, use

    with proxy_before(s3_server) as made:
        use(made.env | impatient(), monkeypatch)
        yield made
        use(s3_server.env | patient(), monkeypatch)

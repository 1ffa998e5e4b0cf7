"""The page about superwords has the tables of the last measurement."""

from __future__ import annotations

import json

from benchmarks.markdown import with_tables
from benchmarks.superwords import DOCUMENT, RESULT, blocks_of


def test_the_document_has_the_tables_of_the_last_measurement() -> None:
    document = DOCUMENT.read_text()
    assert document == with_tables(document, blocks_of(json.loads(RESULT.read_text())))

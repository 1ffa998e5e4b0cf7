"""Pages with figures have the tables of the last measurement."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from benchmarks import dna, domains, mixtures, morphology, superwords
from benchmarks.markdown import with_tables


@pytest.mark.parametrize("page", [dna, domains, mixtures, morphology, superwords], ids=lambda page: page.__name__)
def test_a_document_has_the_tables_of_the_last_measurement(page: ModuleType) -> None:
    document = page.DOCUMENT.read_text()
    assert document == with_tables(document, page.blocks_of(json.loads(page.RESULT.read_text())))

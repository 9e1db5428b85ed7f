"""docs/decisions.md says what the code says."""

from __future__ import annotations

from tests.catalogue.table import TARGET, render


def test_the_table_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run: python -m tests.catalogue.table"

"""The manual tells the rules as they are."""

from __future__ import annotations

from tests.audit.page import PAGE, with_rules


def test_page_is_up_to_date() -> None:
    """``python -m tests.audit.page`` writes it."""
    text = PAGE.read_text()
    assert with_rules(text) == text

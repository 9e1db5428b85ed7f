"""docs/commands.md says what the commands say."""

from __future__ import annotations

from tests.cli.page import PAGE, text


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == text(), "write it again: python -m tests.cli.page"

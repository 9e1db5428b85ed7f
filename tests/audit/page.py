"""``python -m tests.audit.page`` writes the rules into docs/auditing.md, from what the rules say of themselves."""

from __future__ import annotations

from pathlib import Path

from cowcatcher.audit.rules import RULES

PAGE = Path(__file__).parents[2] / "docs" / "auditing.md"
_HEADING, _NEXT = "## Rules\n", "\n## "


def with_rules(page: str) -> str:
    """The page with the section of rules as it should be."""
    before, _, rest = page.partition(_HEADING)
    behind = rest[rest.index(_NEXT) :]
    return f"{before}{_HEADING}\n{_rules()}{behind}"


def _rules() -> str:
    parts = []
    for name, text in RULES.items():
        parts.append(f"**{name}**: {text.says} {text.matters} *({text.source})*\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(with_rules(PAGE.read_text()))

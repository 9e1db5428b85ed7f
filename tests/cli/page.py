"""``python -m tests.cli.page`` writes docs/commands.md from the commands' own help."""

from __future__ import annotations

import argparse
from pathlib import Path

import cowcatcher.cli
from cowcatcher.cli.parser import EXIT_STATUS, command_parser

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
_SAME_EVERYWHERE = ("help", "color", "width")


def text() -> str:
    """The page. Built from the parsers and not from their formatted help, which differs from one Python to the next."""
    parts = [
        "# Commands\n",
        "Written by `python -m tests.cli.page` from what `cowcatcher COMMAND --help` says.\n",
        f"```\n{(cowcatcher.cli.__doc__ or '').strip()}\n```\n",
        f"```\n{EXIT_STATUS}\n```\n",
        "Every command that prints text takes `--color auto|always|never` (`NO_COLOR` is respected) and `--width N`.\n",
    ]
    for name in cowcatcher.cli.COMMANDS:
        parser = command_parser(name)
        parts += [f"## cowcatcher {name}\n", f"```\n{parser.description}\n```\n", "| argument | meaning |\n|---|---|"]
        parts.append("\n".join(_row(a) for a in parser._actions if a.dest not in _SAME_EVERYWHERE) + "\n")
    return "\n".join(parts)


def _row(action: argparse.Action) -> str:
    metavar = str(action.metavar or "")
    name = ", ".join(action.option_strings)
    name = f"{name} {metavar}".strip()
    return f"| `{name}` | {action.help} |".replace("||", "|")


if __name__ == "__main__":
    PAGE.write_text(text())

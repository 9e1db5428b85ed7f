"""How words are set off on a terminal, and columns of plain text. Colour is never the only sign of anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SHORTEST = 12  # columns that a piece of a broken word may always take
_RESET = "\033[0m"
_ESCAPES = re.compile(r"\033\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Style:
    """With or without colour, and how wide a line may become: all that a reporter asks about where its text goes."""

    color: bool = False
    width: int = 100

    def _in(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}{_RESET}" if self.color and text.strip() else text

    def good(self, text: str) -> str:
        return self._in("32", text)

    def bad(self, text: str) -> str:
        return self._in("1;31", text)

    def known(self, text: str) -> str:
        """Bad, and expected to be."""
        return self._in("33", text)

    def unsure(self, text: str) -> str:
        return self._in("35", text)

    def strong(self, text: str) -> str:
        return self._in("1", text)

    def faint(self, text: str) -> str:
        return self._in("2", text)


PLAIN = Style()


def columns(rows: Iterable[Sequence[str]], gap: int = 2, right: frozenset[int] = frozenset()) -> list[str]:
    """Rows of cells, each column as wide as its widest; ``right`` are the columns aligned to the right."""
    table = [list(row) for row in rows]
    if not table:
        return []
    widths = [max(visible(row[i]) for row in table if i < len(row)) for i in range(max(len(row) for row in table))]

    def filled(i: int, cell: str) -> str:
        space = " " * (widths[i] - visible(cell))
        return space + cell if i in right else cell + space

    return [(" " * gap).join(filled(i, cell) for i, cell in enumerate(row)).rstrip() for row in table]


def _pieces(word: str, room: int) -> list[str]:
    """A word longer than ``room`` in parts, cut behind ``|`` or ``(``, before ``_``, or just anywhere."""
    pieces = []
    while visible(word) > room and "\033" not in word:
        joints = [i for i in range(2, room + 1) if word[i - 1] in "|(," or word[i] == "_"]
        cut = joints[-1] if joints else room
        pieces.append(word[:cut])
        word = word[cut:]
    return [*pieces, word]


def visible(text: str) -> int:
    """How many characters of a line are seen."""
    return len(_ESCAPES.sub("", text)) if "\033" in text else len(text)


def wrapped(text: str, width: int, indent: str = "", following: str | None = None) -> list[str]:
    """``text`` in lines of at most ``width``. A word that is too long for a line is broken where it is joined."""
    lines: list[str] = []
    line, empty = indent, True
    room = max(width - max(len(indent), len(following or "")), _SHORTEST)
    pieces = [(piece, i > 0) for whole in text.split() for i, piece in enumerate(_pieces(whole, room))]
    for word, broken in pieces:
        if broken or (not empty and visible(line) + 1 + visible(word) > width):
            lines.append(line)
            line, empty = indent if following is None else following, True
        line += word if empty else " " + word
        empty = False
    return [*lines, line] if not empty else lines


def counted(number: int, one: str, many: str = "") -> str:
    """``1 state``, ``3 states``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"

"""Standard output and standard error: data to the one, chatter to the other, progress only where somebody watches."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import IO, Any

from cowcatcher.cli.parser import INTERNAL, Problem
from cowcatcher.report.style import Style

_EVERY = 0.1  # seconds between two lines of progress


def style_of(args: argparse.Namespace, stream: IO[str] | None = None) -> Style:
    """Colour as asked for; ``auto`` is a terminal that is not dumb, and no NO_COLOR (https://no-color.org)."""
    color = args.color == "always"
    if args.color == "auto":
        color = (stream or sys.stdout).isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(color, args.width or Style().width)


def write(text: str, stream: IO[str] | None = None) -> None:
    """To standard output, or to ``stream``. Raises Problem if there is no room for it. A reader that went away is
    another matter (see ``main``).
    """
    out = stream or sys.stdout
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Problem(f"the output cannot be written: {error.strerror}", INTERNAL) from error


def write_json(doc: dict[str, Any]) -> None:
    import json

    write(json.dumps(doc, indent=2) + "\n")


def warn(text: str) -> None:
    """A remark that is neither data nor an error."""
    print(f"cowcatcher: {text}", file=sys.stderr)


class Progress:
    """One line that is written over again and again, on a terminal. Elsewhere nothing, or a line every so many seconds.

    May be shown by several threads.
    """

    def __init__(self, elsewhere: float = float("inf")) -> None:
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._every = _EVERY if self._terminal else elsewhere
        self._last = 0.0 if self._terminal else time.monotonic()
        self._length = 0

    def show(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        if self._terminal:
            text = text[:79]
            sys.stderr.write("\r" + text.ljust(self._length))
            sys.stderr.flush()
            self._length = len(text)
        else:
            warn(text)

    def clear(self) -> None:
        if self._length:
            sys.stderr.write("\r" + " " * self._length + "\r")
            sys.stderr.flush()
            self._length = 0

"""Mistakes in a test, and how they are shown.

A ``Diagnostic`` stands alone: it carries the line it points into, so that any room can make one, keep it and print it
later. A ``Report`` gathers them during one run; a ``LitmusError`` carries them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cowcatcher.litmus.ast import NOWHERE, Span, Test

#: Past this many mistakes the rest is only counted: the first ones are what a reader can use.
MAX_DIAGNOSTICS = 20
_WIDTH = 96  # columns of source text shown around the caret
_TAB = "    "
_CLIP = 40
_LONG_LIST = 6


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake: where it stands, what is wrong, what could stand there instead.

    ``span`` is ``NOWHERE`` for a mistake of the whole file. ``expected`` lists what could stand there, ``nearest`` is
    the known word closest to the one found, ``hint`` is one sentence of advice. ``source`` is the line itself.
    """

    path: str
    span: Span
    message: str
    expected: tuple[str, ...] = ()
    nearest: str | None = None
    hint: str | None = None
    source: str = ""

    @classmethod
    def of(
        cls,
        test: Test,
        span: Span,
        message: str,
        *,
        expected: Iterable[str] = (),
        nearest: str | None = None,
        hint: str | None = None,
    ) -> Diagnostic:
        """A diagnostic about a piece of ``test``, with the line taken from the test's own text."""
        return cls(test.path, span, message, tuple(expected), nearest, hint, source_line(test.text, span))

    def render(self, brief: bool = False) -> str:
        """``file:line:col: error: …``, the line with a caret, what could stand there, the nearest word.

        ``brief`` is for one that stands below another with the same list of what could stand there.
        """
        lines = [f"{self._where()}: error: {self.message}"]
        if self.span.line and self.source.strip():
            lines += _excerpt(self.source, self.span)
        if brief:
            lines.append("  expected one of those listed above")
        elif self.expected:
            lines += _wrapped("  expected ", _any_of(self.expected))
        if self.nearest is not None:
            lines.append(f"  did you mean '{self.nearest}'?")
        if self.hint is not None:
            lines += _wrapped("  hint: ", self.hint)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()

    def _where(self) -> str:
        path = printable(self.path)
        return f"{path}:{self.span.line}:{self.span.col}" if self.span.line else path


class LitmusError(Exception):
    """A test that cannot be used, with every mistake found in it (at least one); ``omitted`` more were only counted."""

    def __init__(self, diagnostics: Iterable[Diagnostic], omitted: int = 0) -> None:
        self.diagnostics = tuple(diagnostics)
        self.omitted = omitted
        super().__init__(self.diagnostics, omitted)

    def __str__(self) -> str:
        parts = [d.render(brief) for d, brief in zip(self.diagnostics, self._repeated(), strict=True)]
        if self.omitted:
            parts.append(f"and {self.omitted} more")
        return "\n".join(parts)

    def _repeated(self) -> Iterator[bool]:
        """For each diagnostic, whether its long list of what could stand there has been printed already."""
        seen: set[tuple[str, ...]] = set()
        for diagnostic in self.diagnostics:
            expected = diagnostic.expected
            yield len(expected) > _LONG_LIST and expected in seen
            seen.add(expected)


class Report:
    """The mistakes of one run over one text, in the order found."""

    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.omitted = 0
        self._lines = text.split("\n")
        self._found: list[Diagnostic] = []
        self._broken_lines: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._found)

    @property
    def broken_lines(self) -> set[int]:
        """Lines that already carry a mistake: what else is wrong with them is likely a consequence."""
        return self._broken_lines

    def error(
        self,
        span: Span,
        message: str,
        *,
        expected: Iterable[str] = (),
        word: str | None = None,
        known: Iterable[str] = (),
        hint: str | None = None,
    ) -> None:
        """Add a mistake. ``word`` is looked up among ``known`` for the nearest one."""
        if span.line:
            self._broken_lines.add(span.line)
        if len(self._found) >= MAX_DIAGNOSTICS:
            self.omitted += 1
            return
        near = nearest(word, known) if word is not None else None
        source = self.line(span.line)
        self._found.append(Diagnostic(self.path, span, message, tuple(expected), near, hint, source))

    def line(self, number: int) -> str:
        """Line ``number`` of the text, from 1; "" if there is none."""
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def raise_if_any(self) -> None:
        """Raise what was found, ordered by place in the file."""
        if self._found:
            found = sorted(self._found, key=lambda d: (d.span.line, d.span.col))
            raise LitmusError(found, self.omitted)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to ``word``, or None if nothing is close. Letter case alone never tells words apart."""
    if len(word) > _CLIP:
        return None
    by_folded: dict[str, str] = {}
    for candidate in known:
        by_folded.setdefault(candidate.lower(), candidate)
    if word.lower() in by_folded:
        same = by_folded[word.lower()]
        return same if same != word else None
    from difflib import get_close_matches  # not at import: only a mistake needs it

    close = get_close_matches(word.lower(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def quoted(text: str) -> str:
    """``text`` between single quotes, printable and cut to a readable length."""
    clipped = text if len(text) <= _CLIP else text[: _CLIP - 3] + "..."
    mark = '"' if "'" in clipped else "'"
    return f"{mark}{printable(clipped)}{mark}"


def printable(text: str) -> str:
    """``text`` with everything that is not plain printable ASCII escaped, safe for any terminal and any log."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def source_line(text: str, span: Span) -> str:
    """The line of ``text`` that ``span`` stands on, "" for a span outside of it."""
    if span == NOWHERE:
        return ""
    lines = text.split("\n")
    return lines[span.line - 1] if span.line <= len(lines) else ""


def _any_of(items: tuple[str, ...]) -> str:
    if len(items) == 1:
        return items[0]
    return ", ".join(items[:-1]) + " or " + items[-1]


def _wrapped(label: str, text: str) -> list[str]:
    from textwrap import wrap

    return wrap(text, width=_WIDTH, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False)


def _excerpt(source: str, span: Span) -> list[str]:
    """The source line, cut around the span if it is long, and a line with the caret under it."""
    start = min(max(span.col - 1, 0), len(source))
    stop = max(min(span.end - 1, len(source)), start + 1)
    left = 0 if len(source) <= _WIDTH else max(0, start - _WIDTH // 2)
    right = min(len(source), left + _WIDTH)
    before = ("..." if left else "") + _shown(source[left:start])
    marked = _shown(source[start : min(stop, right)])
    after = _shown(source[min(stop, right) : right]) + ("..." if right < len(source) else "")
    gutter = f"{span.line:>5} | "
    underline = "^" + "~" * (len(marked) - 1)
    return [(gutter + before + marked + after).rstrip(), " " * 5 + " | " + " " * len(before) + underline]


def _shown(text: str) -> str:
    """``text`` in plain characters, one column each (a tab is four), so that the caret stands where it should."""
    return "".join(c if " " <= c <= "~" else _TAB if c == "\t" else "?" for c in text)

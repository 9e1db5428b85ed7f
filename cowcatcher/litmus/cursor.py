"""A place among the tokens, and what to do when the grammar is broken there.

Recovery: a rule that fails reports and raises ``Failure``; the loop over items or statements catches it and goes on at
the line's end (behind the closing brace if a block was opened on the way). The words that were skipped are remembered:
a name that stands among them is not called unknown afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from cowcatcher.litmus.ast import Place, Span
from cowcatcher.litmus.errors import Report, quoted
from cowcatcher.litmus.layout import Node, Role, Unit
from cowcatcher.litmus.lexer import Kind, Token
from cowcatcher.litmus.statements import ERRORS

#: The words a top-level item starts with.
ITEMS: Final = (
    "source", "memory", "process", "thread", "device", "kernel", "always", "never", "sometimes", "unchecked", "expect",
)  # fmt: skip
CLAIMS: Final = ("always", "never", "sometimes")
#: The words of conditions, which name nothing.
CONNECTIVES: Final = ("and", "or", "not", "in")


class Failure(Exception):
    """A rule gave up; its mistake is already in the report."""


class Cursor:
    """Reads tokens one by one. Subclasses add the rules of the grammar."""

    def __init__(self, tokens: list[Token], report: Report) -> None:
        self.tokens = tokens
        self.report = report
        self.pos = 0
        self.units: list[Unit] = []
        self.skipped: set[str] = set()

    # --- tokens ---------------------------------------------------------------------------------------------------

    @property
    def here(self) -> Token:
        return self.tokens[self.pos]

    def next(self) -> Token:
        token = self.tokens[self.pos]
        if token.kind != "end":
            self.pos += 1
        return token

    def ahead(self, n: int = 1) -> Token:
        return self.tokens[min(self.pos + n, len(self.tokens) - 1)]

    def at(self, *texts: str) -> bool:
        token = self.here
        return token.text in texts and token.kind in ("name", "punct")

    def accept(self, text: str) -> bool:
        if self.at(text):
            self.pos += 1
            return True
        return False

    def expect(self, text: str, *also: str, hint: str | None = None) -> Token:
        if not self.at(text):
            self.fail(expected=[f"'{text}'", *also], hint=hint)
        return self.next()

    def expect_kind(self, kind: Kind, *what: str, hint: str | None = None) -> Token:
        if self.here.kind != kind:
            self.fail(expected=what, hint=hint)
        return self.next()

    def expect_name(self, what: str) -> Token:
        token = self.expect_kind("name", what)
        if token.text in CONNECTIVES or token.text in ERRORS:
            self.fail(f"{quoted(token.text)} is a word of the language, not {what}", at=token)
        return token

    def skip_eols(self) -> None:
        while self.here.kind == "eol":
            self.pos += 1

    def continue_line(self) -> None:
        """Go on to the next line, unless what is there can only be an item of its own: then this one is unfinished.

        A ``;`` always ends a statement.
        """
        start = self.pos
        while self.here.kind == "eol" and self.here.text == "\n":
            self.pos += 1
        if self.here.kind in ("eol", "end") or self.starts_item(self.here, self.ahead()):
            self.pos = start

    def through_newlines(self, *texts: str) -> None:
        """Skip line ends if one of ``texts`` stands behind them; else stay, so that a mistake is shown on this line."""
        start = self.pos
        while self.here.kind == "eol" and self.here.text == "\n":
            self.pos += 1
        if not self.at(*texts):
            self.pos = start

    def span_from(self, start: int) -> Span:
        """From the token at index ``start`` to the last one read, cut at the end of the first line."""
        first = self.tokens[start]
        last = max(start, self.pos - 1)
        while last > start and (self.tokens[last].line != first.line or self.tokens[last].kind == "eol"):
            last -= 1
        stop = self.tokens[last]
        return Span(first.line, first.col, stop.col + max(1, stop.stop - stop.start))

    # --- mistakes -------------------------------------------------------------------------------------------------

    def report_at(
        self,
        token: Token,
        message: str | None = None,
        *,
        expected: Iterable[str] = (),
        known: Iterable[str] | None = None,
        hint: str | None = None,
    ) -> None:
        """One mistake of form a line is enough: the rest of the line is usually its consequence."""
        if token.line in self.report.broken_lines:
            return
        self.report.error(
            token.span,
            message or f"found {found(token)}",
            expected=expected,
            word=None if known is None else token.text,
            known=known or (),
            hint=hint,
        )

    def fail(
        self,
        message: str | None = None,
        *,
        at: Token | None = None,
        expected: Iterable[str] = (),
        known: Iterable[str] | None = None,
        hint: str | None = None,
    ) -> NoReturn:
        self.report_at(at or self.here, message, expected=expected, known=known, hint=hint)
        raise Failure

    def guarded(self, rule: Callable[[], None], in_block: bool) -> None:
        """Run one rule to its line's end; after a failure, go on behind what it stands in."""
        start, units = self.pos, len(self.units)
        try:
            rule()
            self.end_of_line(in_block)
        except Failure:
            del self.units[units:]
            self.recover(start, in_block)

    def end_of_line(self, in_block: bool) -> None:
        if self.here.kind in ("eol", "end") or (in_block and self.at("}")):
            return
        self.fail(f"found {found(self.here)} behind a complete statement", expected=["the line's end", "';'"])

    def recover(self, start: int, in_block: bool) -> None:
        """Skip to the line's end; a block that opens on the line is skipped whole, as far as it is one."""
        self.skipped.update(t.text for t in self.tokens[start : self.pos] if t.kind == "name")
        depth = 0
        while self.here.kind != "end":
            if self.here.kind == "eol" and (depth == 0 or self.item_follows()):
                return
            if in_block and depth == 0 and self.at("}"):
                return
            if self.at("{"):
                depth += 1
            elif self.at("}"):
                depth = max(0, depth - 1)
            elif self.here.kind == "name":
                self.skipped.add(self.here.text)
            self.pos += 1

    def item_follows(self) -> bool:
        """Whether a top-level item starts right behind this line's end."""
        return self.ahead().text in ITEMS and self.starts_item(self.ahead(), self.ahead(2))

    @staticmethod
    def starts_item(first: Token, second: Token) -> bool:
        """Whether two tokens can only be the start of a top-level item, so that a block must have ended before."""
        if first.kind != "name" or first.text not in ITEMS:
            return False
        if first.text in CLAIMS:
            return second.text != "="
        return second.kind in ("name", "string") or (first.text == "memory" and second.text == "{")

    def unit(self, role: Role, node: Node, start: int) -> None:
        """Note what stands from token index ``start`` to the last token read."""
        first, last = self.tokens[start], self.tokens[max(start, self.pos - 1)]
        self.units.append(Unit(role, node, first.start, last.stop, first.line, last.line))

    # --- what every part of the grammar shares ----------------------------------------------------------------------

    def place(self, what: str) -> Place:
        """``NAME``, ``NAME[N]``, ``NAME.CELL`` or ``NAME[N].CELL``."""
        start = self.pos
        name = self.expect_name(what).text
        index = cell = None
        if self.accept("["):
            index = int(self.expect_kind("number", "a page's number, from 0").text)
            self.expect("]")
        if self.accept("."):
            cell = self.expect_name("a cell's name").text
        return Place(name, index, cell, self.span_from(start))


def found(token: Token) -> str:
    """How an error names the token it stumbled over."""
    if token.kind == "end":
        return "the end of the file"
    if token.kind == "eol":
        return "';'" if token.text == ";" else "the end of the line"
    if token.kind == "string":
        return f"the text {quoted(token.value)}"
    return {"number": "the number ", "punct": "", "name": "", "word": ""}[token.kind] + quoted(token.text)

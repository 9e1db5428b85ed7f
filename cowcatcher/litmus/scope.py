"""What every check of a test looks names up with, and reports through."""

from __future__ import annotations

from collections.abc import Iterable

from cowcatcher.litmus.ast import Mapping, Number, Place, Span, Test
from cowcatcher.litmus.errors import Report, quoted
from cowcatcher.litmus.names import names_of
from cowcatcher.litmus.statements import (
    ADVICES,
    FILESYSTEMS,
    GUP_FLAGS,
    MAX_PAGES,
    MAX_VALUE,
    SIGNATURES,
    ParamKind,
)

#: What can stand for a parameter of each kind, as the errors say it.
CAN_STAND: dict[ParamKind, str] = {
    "PLACE": "a mapping (buf), a page of it (buf[1]) or a cell (heap.a)",
    "PAGES": "a mapping (buf) or a page of it (buf[1])",
    "PIN": "a pin's name",
    "PIN_PLACE": "a pin (mr), a page of it (mr[1]) or a cell (mr.a)",
    "VALUE": f"a whole number 0..{MAX_VALUE}",
    "PROCESS": "a process's name",
    "EVENT": "an event's name",
    "PROT": "NONE, R or RW",
    "ADVICE": "one of " + ", ".join(ADVICES),
    "GUP_FLAGS": "flags such as WRITE|LONGTERM, out of " + ", ".join(GUP_FLAGS),
    "FILESYSTEM": ", ".join(FILESYSTEMS[:-1]) + " or " + FILESYSTEMS[-1],
    "READONLY": "READONLY",
}


class Scope:
    """The names of one test. Its methods report what is wrong with one use of a name, and return nothing.

    ``skipped`` are the words of the parts that could not be read: nothing is said about a name among them. Neither is
    anything said about a line whose form is wrong already.
    """

    def __init__(self, report: Report, test: Test, skipped: frozenset[str] = frozenset()) -> None:
        self.report = report
        self.test = test
        self.names = names_of(test)
        self.skipped = skipped
        self.incomplete = bool(report)
        self.broken_lines = frozenset(report.broken_lines)

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
        if span.line == 0 or span.line not in self.broken_lines:
            self.report.error(span, message, expected=expected, word=word, known=known, hint=hint)

    def value(self, number: Number) -> None:
        if not 0 <= number.value <= MAX_VALUE:
            self.error(number.span, f"the value {number.value} is too large", expected=[CAN_STAND["VALUE"]])

    def process_name(self, name: str, span: Span, what: str) -> None:
        actor = self.names.actors.get(name)
        if actor is not None and actor.kind == "process":
            return
        if actor is not None and actor.kind == "thread":
            shared = f"a thread shares the memory of its process: write {actor.process}"
            self.error(
                span,
                f"{what} must be a process: {quoted(name)} is a thread",
                hint=shared if actor.process in self.names.processes else None,
            )
        else:
            self.unknown(name, span, "a process", self.names.processes)

    def unknown(self, name: str, span: Span, wanted: str, known: Iterable[str], hint: str | None = None) -> None:
        """``name`` is not ``wanted`` (such as "a pin"): say what it is, if it is anything, and what there is."""
        kind = self.names.kind_of(name)
        if kind is None and (name in self.skipped or name in self.names.unsure):
            return
        known = list(known)
        noun = wanted.split(" ", 1)[1]
        message = f"{quoted(name)} is {kind}, not {wanted}" if kind else f"no {noun} is called {quoted(name)}"
        self.error(
            span,
            message,
            expected=known or [f"{wanted}, but the test has none"],
            word=None if kind else name,
            known=known,
            hint=hint,
        )

    def place(self, place: Place, *, moves_value: bool = False, cell_allowed: bool = True, whole: bool = True) -> None:
        """A piece of a mapping. Where a value moves, page and cell must be said if there are several; where a page is
        asked about, the page must (``whole`` is false)."""
        mapping = self.names.mappings.get(place.name)
        if mapping is None:
            self.unknown(place.name, place.span, "a mapping", self.names.mappings)
            return
        self.within(place, mapping.pages, whole and not moves_value)
        if not cell_allowed and place.cell is not None:
            self.error(place.span, "a cell cannot stand here: the page is the unit", expected=[CAN_STAND["PAGES"]])
        else:
            self.cell(place, mapping, needed=moves_value)

    def pin(self, place: Place, *, moves_value: bool = False) -> None:
        """A pin, or the piece of it that is read, written or asked about."""
        if place.name not in self.names.pins:
            self.unknown(place.name, place.span, "a pin", self.names.pins)
        elif pinned := self.names.pinned(place.name):
            mapping, pages = pinned
            self.within(place, pages, whole_allowed=False)
            self.cell(place, mapping, needed=moves_value)

    def whole_pin(self, place: Place) -> None:
        if place.name not in self.names.pins:
            self.unknown(place.name, place.span, "a pin", self.names.pins)
        elif place.index is not None or place.cell is not None:
            self.error(place.span, "a pin is released as a whole", expected=[place.name])

    def within(self, place: Place, pages: int, whole_allowed: bool) -> None:
        """The page's number: within the range, and said where only one page can be meant."""
        have = f"{quoted(place.name)} has {pages} page{'s' * (pages != 1)}"
        each = [f"{place.name}[{i}]" for i in range(min(pages, MAX_PAGES))]
        if place.index is not None and place.index >= pages:
            self.error(place.span, f"page {place.index} of {quoted(place.name)}: {have}", expected=each)
        elif place.index is None and pages > 1 and not whole_allowed:
            self.error(place.span, f"{have}: say which", expected=each)

    def cell(self, place: Place, mapping: Mapping, needed: bool) -> None:
        names = [name for name, _ in mapping.cells if name]
        shown = place.name if place.index is None else f"{place.name}[{place.index}]"
        if place.cell is not None and place.cell not in names:
            expected = [f"{shown}.{n}" for n in names] or [shown]
            self.error(
                place.span,
                f"{quoted(place.name)} has no cell called {quoted(place.cell)}",
                expected=expected,
                word=place.cell,
                known=names,
            )
        elif place.cell is None and names and needed:
            self.error(
                place.span,
                f"{quoted(place.name)} has the cells {', '.join(names)}: say which",
                expected=[f"{shown}.{n}" for n in names],
            )

    def word_span(self, span: Span, word: str) -> Span:
        """Where ``word`` stands within ``span``; all of ``span`` if it cannot be found."""
        at = self.report.line(span.line).find(word, max(0, span.col - 1))
        return span if at < 0 else Span(span.line, at + 1, at + 1 + len(word))


def usage(op: str) -> str | None:
    """How a statement is written: ``r = load(place)``, ``p = ibv_reg_mr(place[, access])``; None if nobody knows it."""
    signature = SIGNATURES.get(op)
    if signature is None:
        return None
    text = ""
    for i, param in enumerate(signature.params):
        item = (", " if i else "") + param.name
        text += f"[{item}]" if param.optional else item
    target = {"value": "r = ", "pin": "p = ", "status": ""}[signature.gives]
    return f"written {target}{op}({text})"

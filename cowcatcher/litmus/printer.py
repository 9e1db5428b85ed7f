"""Tree to text, and text to well-formed text.

``to_text`` prints a tree in canonical order. ``format_source`` prints a file in the order its author gave it, with
every comment kept: one behind a line stays behind it, one on a line of its own stays above what follows it, one inside
of something that is written on one line now moves above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise, zip_longest
from typing import Any

from cowcatcher.litmus.ast import (
    Actor,
    And,
    Arg,
    Claim,
    Compare,
    Cond,
    Expect,
    Flags,
    In,
    KernelMay,
    KernelRange,
    Located,
    Mapping,
    Name,
    Not,
    Number,
    Operand,
    Or,
    Place,
    Query,
    Statement,
    Test,
)
from cowcatcher.litmus.layout import Role, Unit
from cowcatcher.litmus.lexer import Comment
from cowcatcher.litmus.parser import parse_form

_INDENT = "    "
#: Roles of one section: no blank line stands between them unless the author wants one.
_SECTIONS: dict[Role, int] = {
    "test": 0, "description": 0, "source": 0, "kernel_may": 2, "claim": 3, "unchecked": 4, "expect": 5,
}  # fmt: skip
_OPENING: tuple[Role, ...] = ("memory", "actor")


def to_text(test: Test) -> str:
    """The canonical text of ``test``: ``parse(to_text(test)) == test`` for every test that ``parse`` can give."""
    return _printed(list(_units(test)), [])


def format_source(text: str, path: str = "<input>") -> str:
    """``text`` laid out canonically, nothing reordered, no comment lost. Raises ``LitmusError`` if it cannot be read.

    Only the form of the text matters: a test whose meaning has mistakes is laid out all the same.
    """
    parsed = parse_form(text, path)
    parsed.report.raise_if_any()
    return _printed(parsed.units, parsed.comments)


# --- lines --------------------------------------------------------------------------------------------------------


class _Page:
    """The text as it grows. A line is added with the source line it came from, so that blank lines can be kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.source_line = 0

    def add(self, text: str, level: int, line: int, last_line: int) -> None:
        self.lines.append(_INDENT * level + text)
        self.source_line = last_line or line

    def blank(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def had_blank(self, line: int) -> bool:
        """Whether the source has a blank line between what was added last and ``line``."""
        return self.source_line > 0 and line > self.source_line + 1


def _printed(units: list[Unit], comments: list[Comment]) -> str:
    page = _Page()
    waiting = list(reversed(comments))
    level = 0
    before: Unit | None = None
    for unit, following in zip_longest(units, units[1:]):
        level -= unit.role == "close"
        inner = level + (unit.role == "close")  # a comment in front of a brace belongs to the block
        leading = _leading(waiting, unit)
        _lead(page, leading, inner, before, unit)
        page.add(_text(unit), level, unit.line, unit.last_line)
        _trail(page, waiting, unit, following)
        level += unit.role in _OPENING
        before = unit
    for comment in reversed(waiting):
        if page.had_blank(comment.line):
            page.blank()
        page.add(comment.text, 0, comment.line, comment.line)
    return "\n".join(page.lines) + "\n" if page.lines else ""


def _leading(waiting: list[Comment], unit: Unit) -> list[Comment]:
    """Take the comments that stand before ``unit`` or inside of it."""
    taken = []
    while waiting and waiting[-1].start < unit.stop:
        taken.append(waiting.pop())
    return taken


def _lead(page: _Page, comments: list[Comment], level: int, before: Unit | None, unit: Unit) -> None:
    """Print the comments above ``unit`` and the blank lines around them."""
    starts = [min(c.line, unit.line) for c in comments] + [unit.line]
    kept = [page.had_blank(starts[0])] + [b > a + 1 for a, b in pairwise(starts)]
    if before is not None:
        if before.role in _OPENING:
            kept[0] = False
        if unit.role == "close":
            kept[-1] = False
        elif _new_section(before, unit) and not any(kept):
            kept[0] = True
    for comment, blank in zip(comments, kept, strict=False):
        if blank:
            page.blank()
        page.add(comment.text, level, min(comment.line, unit.line), min(comment.line, unit.line))
    if kept[-1]:
        page.blank()


def _new_section(before: Unit, unit: Unit) -> bool:
    if before.role in _OPENING or unit.role in ("mapping", "statement", "close"):
        return False
    return before.role == "close" or _SECTIONS.get(before.role) != _SECTIONS.get(unit.role)


def _trail(page: _Page, waiting: list[Comment], unit: Unit, following: Unit | None) -> None:
    """Put a comment behind ``unit`` if it stands there: on its last line, with nothing else in between."""
    if waiting and waiting[-1].line == unit.last_line and (following is None or following.start > waiting[-1].start):
        page.lines[-1] += "  " + waiting.pop().text


def _units(test: Test) -> Iterator[Unit]:
    """The lines of a tree in canonical order."""
    yield Unit("test", test.name)
    if test.description:
        for line in test.description.split("\n"):
            yield Unit("description", line)
    for source in test.sources:
        yield Unit("source", source)
    if test.memory:
        yield Unit("memory", "")
        for mapping in test.memory:
            yield Unit("mapping", mapping)
        yield Unit("close", "")
    for actor in test.actors:
        yield Unit("actor", replace(actor, body=()))
        for statement in actor.body:
            yield Unit("statement", statement)
        yield Unit("close", "")
    for action in test.kernel_may:
        yield Unit("kernel_may", action)
    for claim in test.claims:
        yield Unit("claim", claim)
    for name in test.unchecked:
        yield Unit("unchecked", name)
    for expect in test.expects:
        yield Unit("expect", expect)


# --- one thing each -----------------------------------------------------------------------------------------------


def _text(unit: Unit) -> str:
    return _PRINT[unit.role](unit.node)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _actor(actor: Actor) -> str:
    owner = f" of {actor.process}" if actor.kind == "thread" else ""
    iommu = " iommu" if actor.iommu else ""
    return f"{actor.kind} {actor.name}{owner}{iommu} {{"


def mapping_text(mapping: Mapping) -> str:
    """``buf = anon(1, pages=2)``: one mapping as it is written in a test."""
    options = [f"{name}={value}" if name else str(value) for name, value in mapping.cells]
    if mapping.pages != 1:
        options.append(f"pages={mapping.pages}")
    if mapping.prot != "RW":
        options.append(f"prot={mapping.prot}")
    return f"{mapping.name} = {mapping.kind}({', '.join([*options, *mapping.flags])})"


def statement_text(statement: Statement) -> str:
    """``r1 = load(buf)``: one statement as it is written in a test."""
    target = f"{statement.target} = " if statement.target is not None else ""
    return f"{target}{statement.op}({', '.join(map(_arg, statement.args))})"


def _arg(arg: Arg) -> str:
    if isinstance(arg, Place):
        return place_text(arg)
    if isinstance(arg, Name):
        return arg.text
    if isinstance(arg, Flags):
        return "|".join(arg.names)
    return str(arg.value)


def place_text(place: Place) -> str:
    """``buf[1].a``: one place as it is written in a test."""
    index = f"[{place.index}]" if place.index is not None else ""
    cell = f".{place.cell}" if place.cell is not None else ""
    return place.name + index + cell


def _kernel_may(action: KernelMay) -> str:
    place = f"({place_text(action.place)})" if action.place is not None else ""
    return f"kernel may {action.action}{place}"


def claim_text(claim: Claim) -> str:
    """``always r0 == 2``: one claim as it is written in a test."""
    return f"{claim.kind} {cond_text(claim.cond)}"


def cond_text(cond: Cond) -> str:
    """A condition with as few parentheses as it needs."""
    if isinstance(cond, Or):
        return " or ".join(_inside(c, Or) for c in cond.items)
    if isinstance(cond, And):
        return " and ".join(_inside(c, Or, And) for c in cond.items)
    if isinstance(cond, Not):
        return f"not {_inside(cond.item, Or, And)}"
    if isinstance(cond, Query):
        return f"{cond.op}({', '.join(map(_located, cond.args))})"
    return _comparison(cond)


def _comparison(cond: Compare | In) -> str:
    if isinstance(cond, In):
        return f"{_operand(cond.left)} in {{{', '.join(map(_operand, cond.values))}}}"
    return f"{_operand(cond.left)} {cond.op} {_operand(cond.right)}"


def _inside(cond: Cond, *weaker: type) -> str:
    return f"({cond_text(cond)})" if isinstance(cond, weaker) else cond_text(cond)


def _operand(operand: Operand) -> str:
    return str(operand.value) if isinstance(operand, Number) else operand.name


def _located(located: Located) -> str:
    return (f"{located.process}:" if located.process is not None else "") + place_text(located.place)


def expect_text(expect: Expect) -> str:
    """``expect holds on v5.9..``: one expectation as it is written in a test."""
    check = f" {expect.check}" if expect.check is not None else ""
    return f"expect {expect.verdict}{check} on {', '.join(map(_range, expect.ranges))}"


def _range(item: KernelRange) -> str:
    if item.single:
        return item.first or ""
    return f"{item.first or ''}..{item.last or ''}"


_PRINT: dict[Role, Callable[[Any], str]] = {
    "test": "test {}".format,
    "description": _quote,
    "source": lambda text: f"source {_quote(text)}",
    "memory": lambda _: "memory {",
    "actor": _actor,
    "close": lambda _: "}",
    "mapping": mapping_text,
    "statement": statement_text,
    "kernel_may": _kernel_may,
    "claim": claim_text,
    "unchecked": "unchecked {}".format,
    "expect": expect_text,
}

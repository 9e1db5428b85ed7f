"""The finding's test made small, with what it shows kept: the same claim violated, and not for a trivial reason."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Final

from cowcatcher.audit.finding import Question
from cowcatcher.explore.guards import nearest
from cowcatcher.explore.same import StillViolated, focused
from cowcatcher.explore.search import Limits
from cowcatcher.explore.shrink import shrink
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict, Violation
from cowcatcher.litmus.ast import Actor, Name, Place, Statement, Test
from cowcatcher.litmus.checks import check
from cowcatcher.litmus.order import NoOrder, ordered
from cowcatcher.litmus.printer import place_text, statement_text
from cowcatcher.litmus.rewrite import renamed, statements_of, takes_pin, tidied

_GIVES_BACK: Final = ("munmap", "DONTNEED", "FREE")
#: What is at fault, by question: the first of these sets that the test has anything of. Without it, all is to be well.
_AT_FAULT: Final[dict[Question, tuple[tuple[str, ...], ...]]] = {
    Question.DEVICE_AND_OWNER: (("fork",), ("store",)),
    Question.DEVICE_READS_FOREIGN: (("child's store",),),
    Question.CHILD_SEES_DEVICE: (("dma_write",),),
    Question.CHILD_READS_NEIGHBOUR: (("DONTFORK", "WIPEONFORK", "DONTNEED", "munmap"),),
    Question.CHILD_READS_BUFFER: (("DONTFORK", "WIPEONFORK", "DONTNEED", "munmap"),),
    Question.FREED_UNDER_DEVICE: (_GIVES_BACK, ("dma_write",)),
}


def smallest(test: Test, question: Question, result: CheckResult, limits: Limits, seconds: float) -> Test | None:
    """A smallest test that is violated as ``test`` is on the kernel of ``result``; None if nothing is kept by that.

    Names, interfaces and the parts of the page stay what they are: who reads it has the trace beside it.
    """
    violation = _to_keep(result)
    focus = focused(test, violation)
    near = nearest(focus, result.kernel, Verdict.HOLDS, limits) if violation.kind == "claim" else None
    holds_on = () if near is None else (near.kernel,)
    still = StillViolated(violation, result.kernel, holds_on, limits)
    keeps = _Keeps(still, focus, _at_fault(focus, question), time.monotonic() + seconds)
    if not keeps(focus):
        return None
    return _counted_anew(shrink(focus, keeps).test)


def _counted_anew(test: Test) -> Test:
    """child, child2, …; r0, r1, …: numbers without gaps, in the order in which a reader meets them."""
    names = dict.fromkeys(a.name for a in test.actors if a.kind != "device")
    for statement in statements_of(test):
        words = [statement.target] if statement.target else []
        words += [arg.text for arg in statement.args if isinstance(arg, Name) and statement.op in ("post", "await")]
        names.update(dict.fromkeys(words))
    counts: dict[str, int] = {}
    wanted = {}
    for name in names:
        base = name.rstrip("0123456789")
        number = counts.get(base, 0)
        counts[base] = number + 1
        first = {"r": "0", "step": "1"}.get(base, "")
        wanted[name] = f"{base}{number + bool(base != 'r')}" if number else base + first
    return renamed(test, wanted)


def _to_keep(result: CheckResult) -> Violation:
    """A claim rather than a standing check: a real kernel can be asked about it."""
    found = sorted(result.violations, key=lambda v: (v.kind != "claim", len(v.witness)))
    return found[0]


def _at_fault(test: Test, question: Question) -> tuple[str, ...]:
    for words in _AT_FAULT[question]:
        if _without(test, words) != test:
            return words
    return ()


def _says(test: Test, actor: Actor, statement: Statement, words: tuple[str, ...]) -> bool:
    said = {statement.op}
    if statement.op == "madvise" and isinstance(statement.args[1], Name):
        said.add(statement.args[1].text)
    if statement.op == "store" and actor.process != test.actors[0].process:
        said.add("child's store")
    return not said.isdisjoint(words)


@dataclass(slots=True)
class _Keeps:
    """Says yes to a test that is still violated, has an order, and holds without what is at fault."""

    still: StillViolated
    original: Test
    at_fault: tuple[str, ...]
    until: float
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = _names(self.original)

    def __call__(self, test: Test) -> bool:
        if time.monotonic() > self.until or not self._reads_the_same(test):
            return False
        return self.still(test) and self._is_to_blame(test) and _can_be_run(test)

    def _reads_the_same(self, test: Test) -> bool:
        cells = [m.cells for m in test.memory]
        return cells == [m.cells for m in self.original.memory] and _names(test) <= self.names

    def _is_to_blame(self, test: Test) -> bool:
        if not self.at_fault:
            return True
        mended = _without(test, self.at_fault)
        if not mended.claims or mended == test or check(mended, bounded=False):
            return False
        return Checker(mended, self.still.limits).check(self.still.kernel).verdict is Verdict.HOLDS


def _can_be_run(test: Test) -> bool:
    try:
        ordered(test)
    except NoOrder:
        return False
    return True


def _without(test: Test, words: tuple[str, ...]) -> Test:
    actors = (replace(a, body=tuple(s for s in a.body if not _says(test, a, s, words))) for a in test.actors)
    return tidied(replace(test, actors=tuple(actors)))


def _names(test: Test) -> frozenset[str]:
    """What the test calls things, how it takes its pins, and the numbers in it."""
    words = {a.name for a in test.actors} | {m.name for m in test.memory}
    for statement in statements_of(test):
        words |= {place_text(arg) if isinstance(arg, Place) else str(arg) for arg in statement.args}
        words |= {statement.target or ""} | ({statement_text(statement)} if takes_pin(statement) else set())
    return frozenset(words)

"""A test made smaller for as long as it shows what it is to show.

First the bold cuts: half of the statements, a quarter, and so on down to single ones (delta debugging: Zeller and
Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002), so that a recording of many thousand statements
takes hundreds of tries and not millions. Then every reduction there is, until a whole round brings nothing: the result
is minimal, in that nothing of what :mod:`reductions` knows can be done to it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from cowcatcher.explore.reductions import ByRule, Reduction, reductions, without_statements
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.checks import check
from cowcatcher.litmus.printer import to_text

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Size:
    """What a reduction is stated in."""

    statements: int
    processes: int
    pages: int


def size_of(test: Test) -> Size:
    return Size(
        sum(len(a.body) for a in test.actors),
        sum(a.kind == "process" for a in test.actors),
        sum(m.pages for m in test.memory),
    )


@dataclass(slots=True)
class Shrunk:
    """The smallest test found so far, and what it took.

    ``tried`` candidates were looked at and ``accepted`` of them kept; ``skipped`` ones made no sense as tests, and
    nobody was asked. ``minimal``: nothing can be taken away any more; false if it was interrupted.
    """

    original: Test
    test: Test
    tried: int = 0
    accepted: int = 0
    skipped: int = 0
    minimal: bool = False


def shrink(
    test: Test,
    keeps: Callable[[Test], bool],
    *,
    by_rule: ByRule | None = None,
    progress: Callable[[Shrunk], None] = lambda _: None,
) -> Shrunk:
    """The smallest test made from ``test`` that ``keeps`` still says yes to; ``test`` itself must be one.

    Deterministic if ``keeps`` is, which is asked about each candidate once. ``by_rule`` allows pins by interface to
    become pins by rule. Ctrl-C ends the search, not the report.
    """
    tries = _Tries(Shrunk(test, test), keeps, progress)
    try:
        _halve(tries)
        until_none_is_kept(test, lambda _: _round(tries, reductions(by_rule)))
        tries.found.minimal = True
    except KeyboardInterrupt:
        pass
    return tries.found


def until_none_is_kept(start: T, step: Callable[[T], T | None]) -> T:
    """``step`` gives something smaller that is kept, or None: then what it was given is as small as it gets."""
    while (smaller := step(start)) is not None:
        start = smaller
    return start


def part_sizes(number: int) -> Iterator[int]:
    """How many of so many things to leave out at once: half of them, a quarter, and so on down to one."""
    while number := number // 2:
        yield number


def candidates(test: Test, by_rule: ByRule | None = None) -> list[Test]:
    """Everything one reduction away from ``test`` that makes sense as a test."""
    found = (smaller for reduction in reductions(by_rule) for smaller in reduction(test))
    return [smaller for smaller in found if smaller != test and not check(smaller, bounded=False)]


@dataclass(slots=True)
class _Tries:
    found: Shrunk
    keeps: Callable[[Test], bool]
    progress: Callable[[Shrunk], None]
    known: set[str] = field(default_factory=set)

    def kept(self, candidate: Test) -> bool:
        """Is it smaller and still shows what it is to show? Then it is what is found."""
        if candidate == self.found.test:
            return False
        text = to_text(candidate)
        if text in self.known:
            return False
        self.known.add(text)
        if check(candidate, bounded=False):
            self.found.skipped += 1
            return False
        self.found.tried += 1
        kept = self.keeps(candidate)
        if kept:
            self.found.accepted += 1
            self.found.test = candidate
        self.progress(self.found)
        return kept


def _halve(tries: _Tries) -> None:
    """Parts of the statements, from halves down to single ones; a part that can go makes way for what comes behind."""
    for size in part_sizes(size_of(tries.found.test).statements):
        at = 0
        while at < size_of(tries.found.test).statements:
            if not tries.kept(without_statements(tries.found.test, at, at + size)):
                at += size


def _round(tries: _Tries, all_of_them: Sequence[Reduction]) -> Test | None:
    """Every reduction once, each until it brings nothing; None if none brought anything."""
    before = tries.found.test
    for reduction in all_of_them:
        until_none_is_kept(tries.found.test, partial(_first_kept, tries, reduction))
    return tries.found.test if tries.found.test != before else None


def _first_kept(tries: _Tries, reduction: Reduction, test: Test) -> Test | None:
    return next((candidate for candidate in reduction(test) if tries.kept(candidate)), None)

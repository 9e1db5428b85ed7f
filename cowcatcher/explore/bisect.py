"""Which decision is it? Verdicts before and after, with single answers exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from cowcatcher.explore.search import Limits, Searcher, interpreted
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict
from cowcatcher.kernels import LINE, Decision, Kernel, introduced_by
from cowcatcher.litmus.ast import Test


@dataclass(frozen=True, slots=True)
class Cure:
    """One answer that, exchanged alone, turns a violated test into one that holds.

    ``kernel`` is the first on the line that takes ``replaced_by``; None if none does (a proposal).
    """

    decision: Decision
    replaced_by: Decision
    kernel: Kernel | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Flip:
    """Two neighbours with different verdicts, and the smallest sets of new answers that make the difference alone.

    ``decisions`` is the first such set (fewest answers, in the order of the questions); ``others`` are equally small
    ones.
    """

    before: Kernel
    after: Kernel
    before_result: CheckResult
    after_result: CheckResult
    decisions: tuple[Decision, ...]
    others: tuple[tuple[Decision, ...], ...]
    direction: str  # "fixed" or "broken"


def cures(test: Test, kernel: Kernel, limits: Limits | None = None, search: Searcher = interpreted) -> list[Cure]:
    """Every single exchange of an answer that cures the test on this kernel: later answers first, then earlier ones."""
    checker = Checker(test, limits or Limits(), search)
    if checker.check(kernel).verdict is not Verdict.VIOLATED:
        return []
    found = []
    for candidate in other_answers(kernel):
        result = checker.check(kernel.with_decisions(candidate))
        if result.verdict is Verdict.HOLDS:
            found.append(
                Cure(kernel.decisions[candidate.question], candidate, introduced_by(candidate), result.verdict)
            )
    return found


def other_answers(kernel: Kernel) -> list[Decision]:
    """Answers of other kernels on the line that this one does not give: what came later first, then what was before."""
    place = kernel.place if kernel.place is not None else _branch_point(kernel)
    ordered = [*LINE[place + 1 :], *reversed(LINE[:place])]
    seen: dict[str, Decision] = {}
    for other in ordered:
        for mine, theirs in kernel.diff(other):
            if mine.name != theirs.name:
                seen.setdefault(theirs.name, theirs)
    return list(seen.values())


def _branch_point(kernel: Kernel) -> int:
    """Where on the line a kernel beside it stands: at the earliest entry with which it shares most answers."""
    return min(range(len(LINE)), key=lambda place: len(kernel.diff(LINE[place])))


def bisect(
    test: Test, kernels: Sequence[Kernel] = LINE, limits: Limits | None = None, search: Searcher = interpreted
) -> list[Flip]:
    """Every place along ``kernels`` where the verdict changes between *holds* and *violated*, and what changed it."""
    checker = Checker(test, limits or Limits(), search)
    flips = []
    known: tuple[Kernel, CheckResult] | None = None
    for kernel in kernels:
        result = checker.check(kernel)
        if result.verdict not in (Verdict.HOLDS, Verdict.VIOLATED):
            continue
        if known is not None and known[1].verdict is not result.verdict:
            flips.append(_flip(checker, *known, kernel, result))
        known = kernel, result
    return flips


def _flip(
    checker: Checker, before: Kernel, before_result: CheckResult, after: Kernel, after_result: CheckResult
) -> Flip:
    changed = [new for _, new in before.diff(after)]
    sets = _smallest(checker, before, changed, after_result.verdict)
    direction = "fixed" if after_result.verdict is Verdict.HOLDS else "broken"
    first = sets[0] if sets else tuple(changed)
    return Flip(before, after, before_result, after_result, first, tuple(sets[1:]), direction)


def _smallest(
    checker: Checker, before: Kernel, changed: Sequence[Decision], wanted: Verdict
) -> list[tuple[Decision, ...]]:
    """The sets of fewest changes that lead from ``before`` to the verdict after."""
    for size in range(1, len(changed) + 1):
        found = [c for c in combinations(changed, size) if checker.check(before.with_decisions(*c)).verdict is wanted]
        if found:
            return found
    return []

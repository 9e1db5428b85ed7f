"""Why a test holds: the answers without which, one at a time, it would not; and how far the next violation is."""

from __future__ import annotations

from dataclasses import dataclass

from cowcatcher.explore.bisect import other_answers
from cowcatcher.explore.search import Limits, Searcher, interpreted
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict
from cowcatcher.kernels import KERNELS, LINE, Decision, Kernel, introduced_by
from cowcatcher.litmus.ast import Test


@dataclass(frozen=True, slots=True)
class Guard:
    """``decision`` protects the test: with ``without`` in its place the test is violated, all else being equal."""

    decision: Decision
    without: Decision
    result: CheckResult


def guards(test: Test, kernel: Kernel, limits: Limits | None = None, search: Searcher = interpreted) -> list[Guard]:
    """Every single exchange of an answer that breaks a test which holds on ``kernel``; one for each answer of it."""
    checker = Checker(test, limits or Limits(), search)
    if checker.check(kernel).verdict is not Verdict.HOLDS:
        return []
    found: dict[str, Guard] = {}
    for candidate in sorted(other_answers(kernel), key=lambda d: _is_later(d, kernel)):
        decision = kernel.decisions[candidate.question]
        if decision.name not in found:
            result = checker.check(kernel.with_decisions(candidate))
            if result.verdict is Verdict.VIOLATED:
                found[decision.name] = Guard(decision, candidate, result)
    return list(found.values())


def _is_later(decision: Decision, kernel: Kernel) -> bool:
    """Did it come after this kernel? What was there before shows best what a guard is for."""
    first = introduced_by(decision)
    return first is not None and (first.place or 0) > _place(kernel)


def _place(kernel: Kernel) -> int:
    """Its place on the line, or that of the kernel it branches from."""
    while kernel.place is None and kernel.base in KERNELS:
        kernel = KERNELS[kernel.base]
    return kernel.place or 0


def nearest(
    test: Test, kernel: Kernel, verdict: Verdict, limits: Limits | None = None, search: Searcher = interpreted
) -> CheckResult | None:
    """The result on the closest kernel of the line that has this verdict, the earlier one of two; None if none has."""
    checker = Checker(test, limits or Limits(), search)
    here = _place(kernel)
    for other in sorted(LINE, key=lambda k: (abs((k.place or 0) - here), k.place)):
        result = checker.check(other)
        if result.verdict is verdict:
            return result
    return None

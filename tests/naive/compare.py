"""Engine against enumerator, one test on one kernel at a time."""

from __future__ import annotations

from dataclasses import dataclass

from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import CheckResult, Verdict, check
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import Test
from tests.naive.compiler import CannotDo
from tests.naive.enumerator import Outcome, TooLarge, enumerate_test
from tests.random_tests import random_kernel, random_test

#: States that the enumerator walks at most for one test.
MOST = 20_000


@dataclass(frozen=True, slots=True)
class Compared:
    """``status``: "same", "different", "too large" or "not modelled"; ``difference`` says what differs."""

    status: str
    difference: str = ""
    naive_states: int = 0
    engine_states: int = 0
    finals: int = 0
    violated: frozenset[str] = frozenset()


def compare(test: Test, kernel: Kernel, most: int = MOST) -> Compared:
    """The same outcomes, and the same claims and checks violated?"""
    try:
        found = enumerate_test(test, kernel, most)
    except CannotDo:
        verdict = check(test, kernel).verdict
        same = verdict is Verdict.NOT_APPLICABLE
        return Compared("not modelled" if same else "different", "" if same else f"only the engine: {verdict.value}")
    except TooLarge:
        return Compared("too large")
    result = check(test, kernel, Limits(seconds=3600))
    difference = differences(found.outcomes, found.violated, result)
    status = "different" if difference else "same"
    return Compared(status, difference, found.states, result.states, result.finals, frozenset(found.violated))


def differences(outcomes: set[Outcome], violated: set[str], result: CheckResult) -> str:
    if result.verdict in (Verdict.UNKNOWN, Verdict.NOT_APPLICABLE):
        return f"the engine: {result.verdict.value}, {result.reason}"
    said = []
    theirs: set[Outcome] = {
        (tuple(sorted(o.registers.items())), tuple(sorted(o.queries.items())), o.stuck) for o in result.outcomes
    }
    said += [f"only the engine sees {o}" for o in sorted(map(str, theirs - outcomes))]
    said += [f"only the enumerator sees {o}" for o in sorted(map(str, outcomes - theirs))]
    broken = {v.text if v.kind == "claim" else v.name for v in result.violations}
    said += [f"only the engine says violated: {v}" for v in sorted(broken - violated)]
    said += [f"only the enumerator says violated: {v}" for v in sorted(violated - broken)]
    if (result.verdict is Verdict.VIOLATED) != bool(violated):
        said.append(f"the engine's verdict is {result.verdict.value}")
    return "\n".join(said)


def compare_random(seed: int, most: int = MOST) -> Compared:
    return compare(random_test(seed), random_kernel(seed), most)

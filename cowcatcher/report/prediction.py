"""What the model says before a test is run on the real kernel, in the terms in which a real run is observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cowcatcher.explore.claims import Value
from cowcatcher.explore.ordered import predict
from cowcatcher.explore.program import NotModelled
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import Checker, Verdict
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.order import NoOrder
from cowcatcher.real.compare import agrees
from cowcatcher.real.host import OK, Observation

#: Every outcome of a test is worth this much work; without them only the ordered form is compared.
_LIMITS = Limits(states=200_000, seconds=10.0)


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a modelled kernel does with a test; plain values, so that it can be recorded beside what was seen.

    At the end of the ordered form: ``registers``, the answers to the claims' ``queries``, and in ``claims`` whether
    each claim's condition is true. ``outcomes``: every way in which any execution ends, each with registers, queries
    and who is stuck. All are None if not known; ``why_not`` says why those of the ordered form are not.
    ``searched``: all executions were asked for, whether they could be searched within the limits or not.
    """

    registers: dict[str, Value] | None = None
    queries: dict[str, bool] | None = None
    claims: list[bool] | None = None
    outcomes: list[dict[str, Any]] | None = None
    why_not: str = ""
    searched: bool = False

    def enough_for(self, runs: Sequence[Observation]) -> bool:
        """Does it say whether the model allows how these ended? The ordered form is an execution like any other."""
        if self.searched:
            return True
        if any(seen.outcomes for seen in runs):  # of a race
            return False
        if self.registers is None:
            return True
        return all(agrees(self.registers, seen) for seen in runs if seen.status == "ok")

    @property
    def allowed(self) -> list[dict[str, Value]] | None:
        """The registers at the end of any execution."""
        return None if self.outcomes is None else [outcome["registers"] for outcome in self.outcomes]


def prediction_for(
    test: Test, kernel: Kernel, runs: Sequence[Observation], checker: Checker | None = None
) -> Predicted:
    """As much as is needed to judge ``runs``: all executions, for a race or if one ended not as the ordered form.

    ``checker``: one for several kernels, which explores once for those that the test cannot tell apart.
    """
    try:
        said = predict(test, kernel)
        found = Predicted(_observable(said.registers), said.queries, list(said.claims))
    except NoOrder as error:
        found = Predicted(why_not=str(error))
    except NotModelled as error:
        return Predicted(why_not=str(error), searched=True)
    if found.enough_for(runs):
        return found
    result = (checker or checker_for(test)).check(kernel)
    finished = result.verdict is Verdict.HOLDS or (
        result.verdict is Verdict.VIOLATED and result.states < _LIMITS.states
    )
    if not finished:
        return replace(found, searched=True)
    outcomes = [
        {"registers": _observable(o.registers), "queries": o.queries, "stuck": sorted(o.stuck)} for o in result.outcomes
    ]
    return replace(found, outcomes=outcomes, searched=True)


def checker_for(test: Test) -> Checker:
    return Checker(test, _LIMITS)


def _observable(registers: dict[str, Value]) -> dict[str, Value]:
    return {name: OK if value == "ok" else value for name, value in registers.items()}

"""What the model says before a test is run on the real kernel, in the terms in which a real run is observed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

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

    ``registers`` at the end of the ordered form, ``claims`` whether each claim's condition is true there, ``allowed``
    the registers at the end of any execution; each is None if not known, ``why_not`` says why the first two are not.
    ``searched``: all executions were asked for, whether they could be searched within the limits or not.
    """

    registers: dict[str, Value] | None = None
    claims: list[bool] | None = None
    allowed: list[dict[str, Value]] | None = None
    why_not: str = ""
    searched: bool = False

    def enough_for(self, runs: Iterable[Observation]) -> bool:
        """Does it say whether the model allows how these ended? The ordered form is an execution like any other."""
        if self.searched or self.registers is None:
            return True
        return all(agrees(self.registers, seen) for seen in runs if seen.status == "ok")


def prediction_for(
    test: Test, kernel: Kernel, runs: Sequence[Observation], checker: Checker | None = None
) -> Predicted:
    """As much as is needed to judge ``runs``: every execution is searched only if one ended not as the ordered form.

    ``checker``: one for several kernels, which explores once for those that the test cannot tell apart.
    """
    try:
        prediction = predict(test, kernel)
    except (NotModelled, NoOrder) as error:
        return Predicted(why_not=str(error))
    found = Predicted(_observable(prediction.registers), list(prediction.claims))
    if found.enough_for(runs):
        return found
    result = (checker or checker_for(test)).check(kernel)
    finished = result.verdict is Verdict.HOLDS or (
        result.verdict is Verdict.VIOLATED and result.states < _LIMITS.states
    )
    allowed = [_observable(o.registers) for o in result.outcomes] if finished else None
    return replace(found, allowed=allowed, searched=True)


def checker_for(test: Test) -> Checker:
    return Checker(test, _LIMITS)


def _observable(registers: dict[str, Value]) -> dict[str, Value]:
    return {name: OK if value == "ok" else value for name, value in registers.items()}

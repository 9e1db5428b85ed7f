"""What the model says before a test is run on the real kernel, in the terms in which a real run is observed."""

from __future__ import annotations

from dataclasses import dataclass

from cowcatcher.explore.claims import Value
from cowcatcher.explore.ordered import predict
from cowcatcher.explore.program import NotModelled
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import Checker, Verdict
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.order import NoOrder
from cowcatcher.real.host import OK

#: Every outcome of a test is worth this much work; without them only the ordered form is compared.
_LIMITS = Limits(states=200_000, seconds=10.0)


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a modelled kernel does with a test; plain values, so that it can be recorded beside what was seen.

    ``registers`` at the end of the ordered form, ``claims`` whether each claim's condition is true there, ``allowed``
    the registers at the end of any execution; each is None if not known, ``why_not`` says why the first two are not.
    """

    registers: dict[str, Value] | None = None
    claims: list[bool] | None = None
    allowed: list[dict[str, Value]] | None = None
    why_not: str = ""


def prediction_for(test: Test, kernel: Kernel, checker: Checker | None = None) -> Predicted:
    """``checker``: one for several kernels, which explores once for those that the test cannot tell apart."""
    try:
        prediction = predict(test, kernel)
    except (NotModelled, NoOrder) as error:
        return Predicted(why_not=str(error))
    result = (checker or checker_for(test)).check(kernel)
    finished = result.verdict is Verdict.HOLDS or (
        result.verdict is Verdict.VIOLATED and result.states < _LIMITS.states
    )
    allowed = [_observable(o.registers) for o in result.outcomes] if finished else None
    return Predicted(_observable(prediction.registers), list(prediction.claims), allowed)


def checker_for(test: Test) -> Checker:
    return Checker(test, _LIMITS)


def _observable(registers: dict[str, Value]) -> dict[str, Value]:
    return {name: OK if value == "ok" else value for name, value in registers.items()}

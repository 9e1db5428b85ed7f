"""What the model says before a test is run on the real kernel, in the terms in which a real run is observed."""

from __future__ import annotations

from dataclasses import dataclass

from cowcatcher.explore.claims import Value
from cowcatcher.explore.ordered import Prediction, predict
from cowcatcher.explore.program import NotModelled
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import Verdict, check
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.order import NoOrder
from cowcatcher.real.host import OK

#: Every outcome of a test is worth this much work; without them only the ordered form is compared.
_LIMITS = Limits(states=200_000, seconds=10.0)


@dataclass(frozen=True, slots=True)
class Predicted:
    """``registers`` at the end of the ordered form, ``allowed`` at the end of any execution; None if not known."""

    prediction: Prediction | None
    registers: dict[str, Value] | None
    allowed: list[dict[str, Value]] | None
    why_not: str = ""


def prediction_for(test: Test, kernel: Kernel) -> Predicted:
    try:
        prediction = predict(test, kernel)
    except (NotModelled, NoOrder) as error:
        return Predicted(None, None, None, str(error))
    result = check(test, kernel, _LIMITS)
    finished = result.verdict is Verdict.HOLDS or (
        result.verdict is Verdict.VIOLATED and result.states < _LIMITS.states
    )
    allowed = [_observable(o.registers) for o in result.outcomes] if finished else None
    return Predicted(prediction, _observable(prediction.registers), allowed)


def _observable(registers: dict[str, Value]) -> dict[str, Value]:
    return {name: OK if value == "ok" else value for name, value in registers.items()}

"""What the model says of a test's ordered form: one actor at a time, each statement to its end, in one fixed order.

That is what a real kernel is asked to do, so this is the prediction that it is held against.
"""

from __future__ import annotations

from dataclasses import dataclass

from cowcatcher import state as st
from cowcatcher.explore import claims as cl
from cowcatcher.explore.claims import Value
from cowcatcher.explore.program import Program, compile_test, initial_state
from cowcatcher.explore.successors import Stepper
from cowcatcher.explore.verdict import Step, kernel_tasks
from cowcatcher.kernels import Kernel
from cowcatcher.litmus import cond_text
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.order import ordered
from cowcatcher.state import Machine


@dataclass(frozen=True, slots=True)
class Prediction:
    """How the ordered form ends on a modelled kernel.

    ``claims`` says per claim, in the test's order, whether its condition is true at the end (of ``sometimes`` and
    ``never`` as well: whether it *came* true). ``broken`` are the standing checks broken on the way.
    """

    kernel: Kernel
    registers: dict[str, Value]
    queries: dict[str, bool]
    claims: tuple[bool, ...]
    broken: frozenset[str]
    steps: tuple[Step, ...]


def predict(test: Test, kernel: Kernel) -> Prediction:
    """Run the ordered form. Raises NotModelled, and litmus.order's error if the test has no ordered form."""
    from cowcatcher.explore.checks import CHECK_BITS, broken_in_state

    program = compile_test(test)
    m = program.on(kernel.rules())
    stepper = Stepper(m, kernel_tasks(program))
    state = bytes(initial_state(program, m))
    index_of = {task.name: i for i, task in enumerate(program.tasks)}
    bits = 0
    steps: list[Step] = []
    suspended: dict[int, int] = {}  # task -> its vfork(), which returns as soon as the child lets go
    for order in ordered(test):
        now = index_of[order.actor]
        if order.statement.op == "vfork":
            suspended[now] = order.index
        for task, statement in ((now, order.index), *suspended.items()):
            been = {state}
            while True:
                moved = _advance(m, stepper, state, task, statement)
                if moved is None:
                    break
                broken, state = moved
                if state in been:
                    break  # answers that no kernel gives together can have a fault come back for ever
                been.add(state)
                steps.append(Step(task, state))
                bits |= broken | broken_in_state(m, state)
    return _judge(program, m, kernel, state, bits, CHECK_BITS, tuple(steps))


def _advance(m: Machine, stepper: Stepper, state: bytes, task: int, statement: int) -> tuple[int, bytes] | None:
    """One more step towards the end of this statement, or of the process; None when it is over, or has to wait."""
    t = m.tasks + task * st.TASK_SIZE
    exiting = state[t + st.T_PROC] and _process_state(m, state, t) == st.EXITING
    if state[t + st.T_PC] > statement and not exiting:
        return None
    for other, broken, following in stepper.successors(state):
        if other == task:
            return broken, following
    return None


def _process_state(m: Machine, state: bytes, t: int) -> int:
    return state[m.procs + (state[t + st.T_PROC] - 1) * st.PROC_SIZE + st.P_STATE]


def _judge(
    program: Program,
    m: Machine,
    kernel: Kernel,
    state: bytes,
    bits: int,
    names: dict[str, int],
    steps: tuple[Step, ...],
) -> Prediction:
    values = cl.register_values(program, m, state)
    queries = {
        cond_text(q): cl.holds(q, program, m, state, values) for c in program.test.claims for q in cl.queries_of(c.cond)
    }
    claims = tuple(cl.holds(c.cond, program, m, state, values) for c in program.test.claims)
    broken = frozenset(name for name, bit in names.items() if bits & bit)
    return Prediction(kernel, values, queries, claims, broken, steps)

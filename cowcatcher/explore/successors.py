"""What can happen next: every task that can take its next step, and the state it leads to."""

from __future__ import annotations

from collections.abc import Iterator

from cowcatcher.explore.canonical import canonicalize
from cowcatcher.explore.commuting import ALONE_PHASES, TOGETHER, goes_alone
from cowcatcher.explore.steps import OP_STEPS, PHASE_STEPS
from cowcatcher.mm.phases import START
from cowcatcher.state import (
    BROKEN,
    EXITING,
    P_STATE,
    PROC_SIZE,
    RUNNING,
    T_PC,
    T_PHASE,
    T_PROC,
    TASK_SIZE,
    Machine,
    State,
)


class Stepper:
    """The transition relation of one machine. ``kernel_tasks`` are the kernel's own, which may act or not, for ever.

    If the machine is ``reduced``, a step that commutes with whatever the others may yet do is the only one of its
    state, see ``explore.commuting``. ``alone`` counts these.
    """

    def __init__(self, m: Machine, kernel_tasks: frozenset[int]) -> None:
        self.m = m
        self.kernel_tasks = kernel_tasks
        self.program_length = tuple(len(p) for p in m.programs)
        self.alone = 0

    def successors(self, state: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(task, standing checks broken by the step as bits, next state), for every step that can happen.

        The kernel's own tasks choose what they do when they are idle, so one of them may give several.
        """
        if self.m.reduces:
            for index in self._candidates(state):
                for found in self._step(state, index):
                    self.alone += 1
                    yield found
                    return
        for index in range(self.m.n_tasks):
            yield from self._step(state, index)

    def _candidates(self, state: bytes) -> Iterator[int]:
        """Tasks whose next step is the only one that is looked at, if they can take it."""
        m = self.m
        for index in range(m.n_tasks):
            t = m.tasks + index * TASK_SIZE
            if index in self.kernel_tasks:
                continue
            # Most are ruled out by the statement alone.
            phase = state[t + T_PHASE]
            if m.alone[index][state[t + T_PC]] & 15 == TOGETHER if phase == START else phase not in ALONE_PHASES:
                continue
            if goes_alone(m, state, t):  # type: ignore[arg-type]  # it only reads
                yield index

    def _step(self, state: bytes, index: int) -> Iterator[tuple[int, int, bytes]]:
        m = self.m
        t = m.tasks + index * TASK_SIZE
        phase = state[t + T_PHASE]
        process = state[t + T_PROC]
        if process:
            running = state[m.procs + (process - 1) * PROC_SIZE + P_STATE]
            if running != RUNNING and not (running == EXITING and phase):
                return
        if index in self.kernel_tasks:
            yield from self._kernel_steps(state, index, t, phase)
            return
        if not phase and state[t + T_PC] >= self.program_length[index]:
            return
        s = list(state)
        step = PHASE_STEPS[phase] if phase else OP_STEPS[m.programs[index][s[t + T_PC]][0]]
        if step(m, s, t):
            yield index, s[BROKEN], self._store(s)

    def _kernel_steps(self, state: bytes, index: int, t: int, phase: int) -> Iterator[tuple[int, int, bytes]]:
        if phase:
            s = list(state)
            if PHASE_STEPS[phase](self.m, s, t):
                self._rest(s, t)
                yield index, s[BROKEN], self._store(s)
            return
        for pc, op in enumerate(self.m.programs[index]):
            s = list(state)
            s[t + T_PC] = pc
            if OP_STEPS[op[0]](self.m, s, t):
                self._rest(s, t)
                yield index, s[BROKEN], self._store(s)

    def _rest(self, s: State, t: int) -> None:
        """An idle kernel task has no memory of what it did last."""
        if not s[t + T_PHASE]:
            s[t + T_PC] = 0

    def _store(self, s: State) -> bytes:
        s[BROKEN] = 0
        canonicalize(self.m, s)
        return bytes(s)

    def is_final(self, state: bytes, moved: set[int]) -> bool:
        """Nobody but the idle kernel can act: the test is over. ``moved``: the tasks that have a successor."""
        if moved - self.kernel_tasks:
            return False
        return all(not state[self.m.tasks + k * TASK_SIZE + T_PHASE] for k in self.kernel_tasks)

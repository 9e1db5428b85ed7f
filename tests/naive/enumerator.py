"""Every interleaving, walked without any cleverness: whole states compared as they are, claims evaluated at the end.

No canonical form, no sharing between kernels, no memory of answers, no order of search that matters. Frames keep the
numbers they got, so the same situation is visited once for every way to number it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cowcatcher import state as st
from cowcatcher.kernels import Kernel
from cowcatcher.litmus import cond_text
from cowcatcher.litmus.ast import (
    And,
    Compare,
    Cond,
    In,
    Located,
    Not,
    Number,
    Operand,
    Or,
    Query,
    Register,
    Test,
)
from tests.naive.compiler import NEXT_STEP, STEP_OF, WHAT, Compiled, compile_naively
from tests.naive.ghosts import Onlooker, Vector, miscounted, no_ghosts

Value = int | str | None
#: (register, value)…, (question, answer)…, who is stuck
Outcome = tuple[tuple[tuple[str, Value], ...], tuple[tuple[str, bool], ...], tuple[str, ...]]


class TooLarge(Exception):
    """More states than the caller is willing to wait for."""


@dataclass(slots=True)
class Found:
    """What there is to be found."""

    outcomes: set[Outcome] = field(default_factory=set)
    violated: set[str] = field(default_factory=set)  # texts of claims, names of checks
    states: int = 0
    finals: int = 0


def enumerate_test(test: Test, kernel: Kernel, most: int = 100_000) -> Found:
    """Raises CannotDo for what the model does not have, TooLarge past ``most`` states."""
    c = compile_naively(test, kernel)
    onlooker = Onlooker(c)
    first = (c.initial, no_ghosts(c))
    seen = {first}
    to_do = [first]
    found = Found()
    broken = onlooker.broken_in(*first)
    truths: list[list[bool]] = []
    while to_do:
        state, ghosts = to_do.pop()
        somebody_acts = False
        for task, after in steps(c, state):
            if c.tasks[task].kind != "kernel":
                somebody_acts = True
            ghosts_after, broke = onlooker.see(ghosts, state, after, task)
            broken |= broke
            node = (after, ghosts_after)
            if node not in seen:
                if len(seen) >= most:
                    raise TooLarge(str(most))
                seen.add(node)
                to_do.append(node)
                broken |= onlooker.broken_in(after, ghosts_after)
        if not somebody_acts and not any(_phase(c, state, i) for i, t in enumerate(c.tasks) if t.kind == "kernel"):
            found.finals += 1
            registers = registers_of(c, state)
            found.outcomes.add(outcome(c, state, registers))
            truths.append([true(claim.cond, c, state, registers) for claim in test.claims])
            if not any(_phase(c, state, i) for i in range(len(c.tasks))) and miscounted(c, state):
                broken.add("balanced")
    found.states = len(seen)
    found.violated |= broken - set(test.unchecked)
    for i, claim in enumerate(test.claims):
        held = [t[i] for t in truths]
        if {"always": not all(held), "never": any(held), "sometimes": not any(held)}[claim.kind]:
            found.violated.add(f"{claim.kind} {cond_text(claim.cond)}")
    return found


def _phase(c: Compiled, s: Vector, task: int) -> int:
    return s[c.m.tasks + task * st.TASK_SIZE + st.T_PHASE]


def steps(c: Compiled, state: Vector) -> Iterator[tuple[int, Vector]]:
    """(task, state after) for everything that can happen next."""
    m = c.m
    for task, info in enumerate(c.tasks):
        t = m.tasks + task * st.TASK_SIZE
        if state[t + st.T_PHASE]:
            starts = [state[t + st.T_PC]]
        elif info.kind == "kernel":
            starts = list(range(len(info.what)))  # anything, whatever it did last
        else:
            starts = [pc for pc in [state[t + st.T_PC]] if pc < len(info.what)]
        if info.kind in ("process", "thread"):
            lives = state[m.procs + (state[t + st.T_PROC] - 1) * st.PROC_SIZE + st.P_STATE]
            if lives in (st.UNBORN, st.EXITED) or (lives == st.EXITING and not state[t + st.T_PHASE]):
                continue
        for pc in starts:
            s = list(state)
            s[t + st.T_PC] = pc
            step = NEXT_STEP[s[t + st.T_PHASE]] if s[t + st.T_PHASE] else STEP_OF[WHAT[m.programs[task][pc][0]]]
            if not step(m, s, t):
                continue
            s[st.BROKEN] = 0
            if info.kind == "kernel" and not s[t + st.T_PHASE]:
                s[t + st.T_PC] = 0
            yield task, tuple(s)


# --- what is seen at the end ------------------------------------------------------------------------------------------


def registers_of(c: Compiled, s: Vector) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, number in c.registers.items():
        code = s[c.m.regs + number]
        if code >= st.ERROR0:
            values[name] = st.ERRORS[code - st.ERROR0]
        else:
            values[name] = {st.UNSET: None, st.OK: "ok"}.get(code, code - st.VALUE0)
    return values


def outcome(c: Compiled, s: Vector, registers: dict[str, Value]) -> Outcome:
    asked = {cond_text(q): true(q, c, s, registers) for claim in c.test.claims for q in questions(claim.cond)}
    stuck = []
    for i, task in enumerate(c.tasks):
        t = c.m.tasks + i * st.TASK_SIZE
        there = True
        if task.kind in ("process", "thread"):
            lives = s[c.m.procs + (s[t + st.T_PROC] - 1) * st.PROC_SIZE + st.P_STATE]
            there = lives in (st.RUNNING, st.EXITING)
        if task.kind != "kernel" and there and (s[t + st.T_PHASE] or s[t + st.T_PC] != len(task.what)):
            stuck.append(task.name)
    return tuple(sorted(registers.items())), tuple(sorted(asked.items())), tuple(stuck)


def questions(cond: Cond) -> list[Query]:
    match cond:
        case Query():
            return [cond]
        case And(items=items) | Or(items=items):
            return [q for item in items for q in questions(item)]
        case Not(item=item):
            return questions(item)
        case _:
            return []


def true(cond: Cond, c: Compiled, s: Vector, registers: dict[str, Value]) -> bool:
    """An unset register equals nothing, not even another unset one."""
    match cond:
        case And(items=items):
            return not [i for i in items if not true(i, c, s, registers)]
        case Or(items=items):
            return [i for i in items if true(i, c, s, registers)] != []
        case Not(item=item):
            return not true(item, c, s, registers)
        case Compare(left=left, op=op, right=right):
            same = _same(left, right, registers)
            return same if op == "==" else not same
        case In(left=left, values=values):
            return any(_same(left, v, registers) for v in values)
        case Query(op="mapped", args=args):
            mm = _mm(c, s, args[0])
            return mm >= 0 and bool(s[st.vma_at(c.m, mm, _page(c, args[0]))] & st.VM_MAPPED)
        case Query(op="same_page", args=args):
            first, second = (frame(c, s, a) for a in args)
            return first == second != 0
        case Query(op="maybe_pinned", args=args):
            found = frame(c, s, args[0])
            folio = st.folio_at(c.m, found)
            count = s[folio + st.REFS] + 1024 * s[folio + st.PINS] + 1024 * s[folio + st.CROWD]
            return found != 0 and count >= 1024
    raise AssertionError(cond)


def _same(left: Operand, right: Operand, registers: dict[str, Value]) -> bool:
    a, b = (
        registers[o.name] if isinstance(o, Register) else o.value if isinstance(o, Number) else o.name
        for o in (left, right)
    )
    return a is not None and b is not None and a == b


def _mm(c: Compiled, s: Vector, where: Located) -> int:
    assert where.process is not None
    return s[c.m.procs + c.processes.index(where.process) * st.PROC_SIZE + st.P_MM] - 1


def _page(c: Compiled, where: Located) -> int:
    return c.page_of[where.place.name] + (where.place.index or 0)


def frame(c: Compiled, s: Vector, where: Located) -> int:
    """The frame behind a place of a process, or of a pin; 0 for none."""
    if where.process is None:
        return s[st.pin_page_at(c.m, c.pins[where.place.name].number, where.place.index or 0) + st.PIN_PFN]
    mm = _mm(c, s, where)
    return Onlooker(c).frame_of(s, mm, _page(c, where)) if mm >= 0 else 0

"""What compiled code makes of single states, and what the interpreter makes of them in the spaces of hunts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from cowcatcher import state as st
from cowcatcher.compiled.expand import IDLE
from cowcatcher.engine import core, search
from cowcatcher.engine.build import Namespace
from cowcatcher.engine.fingerprint import keys
from cowcatcher.engine.search import Space
from cowcatcher.explore.canonical import canonicalize
from cowcatcher.explore.checks import broken_in_state
from cowcatcher.explore.ordered import _advance
from cowcatcher.explore.steps import OP_STEPS, OPS, PHASE_STEPS
from cowcatcher.explore.successors import Stepper
from cowcatcher.mm.phases import VFORK_WAIT
from cowcatcher.state import Machine, State

#: (task, number of its statement, flags, next state)
Successor = tuple[int, int, int, bytes]


@cache
def _code(digest: str, width: int, space: _ByDigest) -> Namespace:
    code = search.compiled_for(space.space)
    code.compile(search._signatures(space.space.context))
    return code


@dataclass(frozen=True)
class _ByDigest:
    """A space, equal to every other one that is searched by the same compiled code."""

    digest: str
    space: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByDigest) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


class Driver:
    """Expands the states of one space, one at a time."""

    def __init__(self, space: Space) -> None:
        # Free steps are a matter of the search alone: the code is the same, and compiled already.
        space = Space(space.name, space.size, space.width, space.expand, space.context, space.initial, space.digest)
        self.size, self.context = space.size, space.context
        self.code = _code(space.digest, space.width, _ByDigest(space.digest, space))
        room = space.width + 2
        self.out = np.zeros(3 * room * space.size, dtype=np.uint8)
        self.labels, self.flags = np.zeros(room, dtype=np.int32), np.zeros(room, dtype=np.uint8)
        self._prints, self._keys = np.zeros(room, dtype=np.uint64), keys(1, space.size)
        self.g = np.zeros(core.G_COUNT, dtype=np.int64)
        self.g[core.G_SIZE], self.g[core.G_KEYS] = space.size, self._keys.ctypes.data
        self.row = np.zeros(core.T_COUNT, dtype=np.int64)
        parts = {core.T_OUT: self.out, core.T_FPS: self._prints, core.T_LABELS: self.labels, core.T_FLAGS: self.flags}
        for part, buffer in parts.items():
            self.row[part] = buffer.ctypes.data

    def successors(self, state: bytes) -> list[Successor]:
        given = np.frombuffer(state.ljust(self.size, b"\0"), dtype=np.uint8).copy()
        n = self.code.successors_of(self.context, self.g, self.row, int(given.ctypes.data))
        raw = self.out[: n * self.size].tobytes()
        found = [raw[i * self.size : i * self.size + max(len(state), 1)] for i in range(n)]
        labels, flags = self.labels[:n].tolist(), self.flags[:n].tolist()
        return [(label >> 8, label & 255, flag, s) for label, flag, s in zip(labels, flags, found, strict=True)]


# --- a hunt's spaces, interpreted -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HuntStepper:
    """Everybody may begin anything when idle; who is in the middle of something goes on."""

    m: Machine
    kernel_tasks: frozenset[int]

    def successors(self, state: bytes) -> Iterator[Successor]:
        """First whatever has begun goes on, then what may begin."""
        m = self.m
        before = broken_in_state(m, state)
        able = [i for i in range(m.n_tasks) if _can_act(m, state, m.tasks + i * st.TASK_SIZE)]
        for index in able:
            t = m.tasks + index * st.TASK_SIZE
            if self._has_begun(state, index):
                yield from self._step(state, index, t, state[t + st.T_PC], core.STAY, before)
        for index in able:
            t = m.tasks + index * st.TASK_SIZE
            idle = index in self.kernel_tasks or state[t + st.T_PC] == len(m.programs[index]) + IDLE
            if idle and not self._has_begun(state, index):
                for begun in range(len(m.programs[index])):
                    if can_begin(m, state, index, begun):
                        yield from self._step(state, index, t, begun, 0, before)

    def _has_begun(self, state: bytes, index: int) -> bool:
        t = self.m.tasks + index * st.TASK_SIZE
        somewhere = state[t + st.T_PC] < len(self.m.programs[index]) and index not in self.kernel_tasks
        return bool(state[t + st.T_PHASE]) or somewhere

    def _step(self, state: bytes, index: int, t: int, pc: int, stays: int, before: int) -> Iterator[Successor]:
        m, s = self.m, list(state)
        s[t + st.T_PC] = pc
        phase = s[t + st.T_PHASE]
        run = PHASE_STEPS[phase] if phase else OP_STEPS[m.programs[index][pc][0]]
        if not run(m, s, t):
            return
        if not s[t + st.T_PHASE]:
            if index in self.kernel_tasks:
                s[t + st.T_PC] = 0
            elif s[t + st.T_PC] == pc + 1 or has_exited(m, s, t):
                s[t + st.T_PC] = len(m.programs[index]) + IDLE
        flags = s[st.BROKEN] | stays
        named = _named(m, s)
        yield index, pc, flags | broken_in_state(m, named) & ~before, named


def _can_act(m: Machine, state: bytes, t: int) -> bool:
    process = state[t + st.T_PROC]
    running = state[m.procs + (process - 1) * st.PROC_SIZE + st.P_STATE] if process else st.RUNNING
    return running == st.RUNNING or bool(running == st.EXITING and state[t + st.T_PHASE])


def has_exited(m: Machine, s: State | bytes, t: int) -> bool:
    process = s[t + st.T_PROC]
    return bool(process) and s[m.procs + (process - 1) * st.PROC_SIZE + st.P_STATE] == st.EXITED


def _named(m: Machine, s: State) -> bytes:
    s[st.BROKEN] = 0
    s[m.regs : m.inherited] = [0] * (m.inherited - m.regs)
    canonicalize(m, s)
    return bytes(s)


_TAKES = {
    "pin", "ibv_reg_mr", "io_uring_register", "vfio_map", "xdp_umem", "vmsplice", "dio_block", "dio_nfs", "dio_fuse"
}  # fmt: skip


def can_begin(m: Machine, state: bytes, index: int, number: int) -> bool:
    """Could a test go on with this statement? Children are born, and pins taken, in the order of their names."""
    op = m.programs[index][number]
    name = OPS[op[0]][0]

    def born(child: int) -> bool:
        return state[m.procs + child * st.PROC_SIZE + st.P_STATE] != st.UNBORN

    def held(pin: int) -> int:
        return state[st.pin_at(m, pin) + st.PIN_HELD]

    what = op[st.OP_ARGS] if len(op) > st.OP_ARGS else 0
    if name in ("fork", "vfork"):
        under_way = any(state[st.mm_at(m, mm) + st.MM_FORKING] == what + 1 for mm in range(m.n_procs))
        return not born(what) and not under_way and all(born(child) for child in range(1, what))
    if name in _TAKES:
        return held(what) == st.NOT_TAKEN and all(held(pin) != st.NOT_TAKEN for pin in range(what))
    if name == "unpin":
        return held(what) == st.HELD
    if name == "dma":
        writes = op[st.OP_ARGS + 4]
        return held(what) == st.HELD and (not writes or bool(state[st.pin_at(m, what) + st.PIN_MODE] & st.MODE_WRITE))
    return True


# --- two kernels side by side, interpreted ----------------------------------------------------------------------------

REGISTERS, CHECKS, PAGES = 1, 2, 4


@dataclass(frozen=True)
class PairStepper:
    """Statements executed to their ends, as the ordered form of a test is executed, on each of two machines."""

    machines: tuple[Machine, Machine]

    def successors(self, states: tuple[bytes, bytes]) -> Iterator[tuple[int, int, int, tuple[bytes, bytes]]]:
        m = self.machines[0]
        pages_agree = _same_pages(m, states[0]) == _same_pages(m, states[1])
        checks_agree = broken_in_state(self.machines[0], states[0]) == broken_in_state(self.machines[1], states[1])
        for index, program in enumerate(m.programs):
            if not all(self._may_begin(s, index) for s in states):
                continue
            for number in range(len(program)):
                if not all(can_begin(m, s, index, number) for s in states):
                    continue
                one, other = (self._execute(mm, s, index, number) for mm, s in zip(self.machines, states, strict=True))
                if one[0] and other[0]:
                    in_state = [broken_in_state(mm, s[3]) for mm, s in zip(self.machines, (one, other), strict=True)]
                    differs = REGISTERS * (one[1] != other[1])
                    differs |= CHECKS * (one[2] != other[2] or (checks_agree and in_state[0] != in_state[1]))
                    differs |= PAGES * (pages_agree and _same_pages(m, one[3]) != _same_pages(m, other[3]))
                    yield index, number, differs, (one[3], other[3])

    def _may_begin(self, state: bytes, index: int) -> bool:
        m = self.machines[0]
        t = m.tasks + index * st.TASK_SIZE
        process = state[t + st.T_PROC]
        running = state[m.procs + (process - 1) * st.PROC_SIZE + st.P_STATE] if process else st.RUNNING
        return not state[t + st.T_PHASE] and running == st.RUNNING

    def _execute(self, m: Machine, state: bytes, index: int, number: int) -> tuple[bool, bytes, int, bytes]:
        """(is it over, or suspended; registers; checks broken by a step; next state)"""
        t = m.tasks + index * st.TASK_SIZE
        s = bytes(_with(state, {t + st.T_PC: number}))
        bits, s = self._advance(m, s, index, number)
        phase = s[t + st.T_PHASE]
        over = phase == VFORK_WAIT or (not phase and (s[t + st.T_PC] != number or has_exited(m, s, t)))
        for task in range(m.n_tasks):
            at = m.tasks + task * st.TASK_SIZE
            if s[at + st.T_PHASE] == VFORK_WAIT:
                more, s = self._advance(m, s, task, s[at + st.T_PC])
                bits |= more
            if not s[at + st.T_PHASE]:
                s = bytes(_with(s, {at + st.T_PC: 0}))
        registers = s[m.regs : m.inherited]
        named = _named(m, list(s))
        return over, registers, bits, named

    def _advance(self, m: Machine, s: bytes, task: int, number: int) -> tuple[int, bytes]:
        stepper, bits = Stepper(m, frozenset()), 0
        while (moved := _advance(m, stepper, s, task, number)) is not None:
            bits |= moved[0]
            s = moved[1]
        return bits, s


def _with(state: bytes, fields: dict[int, int]) -> list[int]:
    s = list(state)
    for place, value in fields.items():
        s[place] = value
    return s


def _same_pages(m: Machine, s: bytes) -> list[bool]:
    places = []
    for mm in range(m.n_procs):
        for page in range(m.n_pages):
            pte = st.pte_at(m, mm, page)
            slot = s[pte + st.PTE_SLOT]
            there = s[st.slot_at(m, slot - 1) + st.SLOT_PFN] if slot else s[pte + st.PTE_PFN]
            places.append(there if slot or s[pte + st.PTE_BITS] & st.PRESENT else 0)
    for pin in range(m.n_pins):
        per_pin = (m.pin_size - st.PIN_PAGES) // st.PIN_PAGE_SIZE
        places += [s[st.pin_page_at(m, pin, i) + st.PIN_PFN] for i in range(per_pin)]
    return [a != 0 and a == b for i, a in enumerate(places) for b in places[i + 1 :]]

"""What each statement of a program may do to others, and so what may yet be done from each of them on.

Written down once for each program, for :mod:`explore.commuting`. Rather too much than too little: a statement that is
said here to write to a page need not do so on every kernel, nor in every state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from cowcatcher.decision import Decisions
from cowcatcher.explore.commuting import (
    ALWAYS,
    DMA_READS,
    LOADS,
    PAGE_SHIFT,
    STORES,
    TOGETHER,
    WAITS_EVENT,
    WAITS_PROCESS,
    WAITS_SHIFT,
)
from cowcatcher.explore.steps import OPS
from cowcatcher.state import GUP_PIN_COUNTING_BIAS as BIAS
from cowcatcher.state import OP_ARGS, OP_REG, Machine, Op

#: Pages and tasks are told apart by the bits of one number.
MOST_PAGES, MOST_TASKS = 62, 60
#: Statements that take pages out of their own process's memory, or say that their contents are of no use.
_GIVES_UP = ("munmap", "madvise_dontneed", "madvise_free", "mremap")
_FAULTS_IN = ("mlock", "madvise_populate", "mprotect")
_TAKES_PIN = (
    "pin", "ibv_reg_mr", "odp_reg_mr", "io_uring_register", "vfio_map", "xdp_umem", "vmsplice", "dio_block", "dio_nfs",
    "dio_fuse",
)  # fmt: skip

Table = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Effects:
    """By task and statement. Masks are pages to which this may be done from the statement on, to the program's end.

    ``alone``: what the statement's own steps may be, see ``commuting``, and its page. ``may_write``: contents are
    written. ``may_reach``: a page table is changed or faulted in that is not the task's own. ``may_hold``: the frames
    of a pin are accessed or given back. ``may_unbind``: a page of the task's own process is given up, or a pin bound to
    it. ``may_unpin``: a pin is given back. ``may_count``: a write fault looks at the counts of the frame that the
    task's own process maps; ``may_weigh``: something else looks at them.

    ``waits``: for what the statement itself waits, and the tasks, a bit each, that can give it. ``born``: the tasks
    that may bring the task's process into being.
    """

    alone: Table
    may_write: Table
    may_reach: Table
    may_hold: Table
    may_unbind: Table
    may_unpin: Table
    may_count: Table
    may_weigh: Table
    waits: Table
    born: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Does:
    """What one statement does; pages as bits. ``kind`` and ``page`` are for ``Effects.alone``."""

    kind: int = TOGETHER
    page: int = 0
    writes: int = 0
    reaches: int = 0
    holds: int = 0
    unbinds: int = 0
    unpins: int = 0
    counts: int = 0
    weighs: int = 0


def effects(
    programs: Sequence[Sequence[Op]],
    processes: Sequence[int],
    kernel_tasks: Sequence[bool],
    pins: Sequence[tuple[int, int]],
    n_pages: int,
) -> Effects:
    """``processes``: each task's, -1 for none; ``pins``: the pages of each.

    The kernel's own tasks may do all that they can at any time.
    """
    whole = _Whole(programs, pins, n_pages)
    does = [[whole.does(op) for op in program] for program in programs]

    def table(what: Callable[[_Does], int]) -> Table:
        return tuple(_from_here(program, what, k) for program, k in zip(does, kernel_tasks, strict=True))

    return Effects(
        tuple((*(d.kind | d.page << PAGE_SHIFT for d in program), TOGETHER) for program in does),
        table(lambda d: d.writes), table(lambda d: d.reaches), table(lambda d: d.holds),
        table(lambda d: d.unbinds), table(lambda d: d.unpins), table(lambda d: d.counts), table(lambda d: d.weighs),
        tuple((*(_waits(op, programs, processes) for op in program), 0) for program in programs),
        tuple(_tasks_with(("fork", "vfork"), process, programs) for process in processes),
    )  # fmt: skip


def _tasks_with(names: Sequence[str], operand: int, programs: Sequence[Sequence[Op]]) -> int:
    """The tasks, a bit each, that have such a statement about this process or event."""
    return sum(
        1 << task
        for task, program in enumerate(programs)
        if any(OPS[op[0]][0] in names and op[OP_ARGS] == operand for op in program)
    )


def _waits(op: Op, programs: Sequence[Sequence[Op]], processes: Sequence[int]) -> int:
    name = OPS[op[0]][0]
    if name == "await":
        return WAITS_EVENT | _tasks_with(("post",), op[OP_ARGS], programs) << WAITS_SHIFT
    if name == "wait" and not any(OPS[other[0]][0] == "vfork" for program in programs for other in program):
        # With vfork, whoever lives in the same memory may end the process, too.
        tasks = sum(1 << task for task, process in enumerate(processes) if process == op[OP_ARGS])
        return WAITS_PROCESS | tasks << WAITS_SHIFT
    return 0


def _from_here(program: Sequence[_Does], what: Callable[[_Does], int], always: bool) -> tuple[int, ...]:
    masks = [0]
    for statement in reversed(program):
        masks.append(masks[-1] | what(statement))
    return (masks[-1],) * len(masks) if always else tuple(reversed(masks))


class _Whole:
    """What a statement does may depend on the others: who else awaits the event, who looks into the process."""

    def __init__(self, programs: Sequence[Sequence[Op]], pins: Sequence[tuple[int, int]], n_pages: int) -> None:
        self.pins = pins
        self.all_pages = (1 << n_pages) - 1
        named = [[(OPS[op[0]][0], op) for op in program] for program in programs]
        awaiting = [{op[OP_ARGS] for name, op in program if name == "await"} for program in named]
        events = {event for of_one in awaiting for event in of_one}
        self.contended = {event for event in events if sum(event in of_one for of_one in awaiting) > 1}
        flat = [op_of for program in named for op_of in program]
        self.looked_into = any(name in ("process_vm", "ptrace") for name, _ in flat)
        self.follows_page_tables = {op[OP_ARGS] for name, op in flat if name == "odp_reg_mr"}

    def does(self, op: Op) -> _Does:
        name = OPS[op[0]][0]
        if name in ("load", "store"):
            # Without a register for SIGSEGV the process dies of it.
            gone = 0 if op[OP_REG] else self.all_pages
            page = op[OP_ARGS]
            if name == "load":
                return _Does(LOADS, page, unbinds=gone)
            return _Does(STORES, page, writes=1 << page, unbinds=gone, counts=1 << page)
        if name in ("post", "wait"):
            return _Does(ALWAYS)
        if name == "await":
            return _Does(TOGETHER if op[OP_ARGS] in self.contended else ALWAYS)
        if name == "exit":
            return _Does(TOGETHER if self.looked_into else ALWAYS, unbinds=self.all_pages)
        if name == "exec":
            return _Does(unbinds=self.all_pages)
        if name in _GIVES_UP:
            pages = _pages(op[OP_ARGS], op[OP_ARGS + 1])
            return _Does(unbinds=pages, weighs=pages if name == "madvise_free" else 0)
        if name == "madvise_pageout":
            return _Does(weighs=_pages(op[OP_ARGS], op[OP_ARGS + 1]))
        if name in _FAULTS_IN:
            return _Does(counts=_pages(op[OP_ARGS], op[OP_ARGS + 1]))
        if name in _TAKES_PIN:
            pages = _pages(op[OP_ARGS + 1], op[OP_ARGS + 2])
            return _Does(unbinds=pages, counts=pages)
        if name == "unpin":
            pages = _pages(*self.pins[op[OP_ARGS]])
            return _Does(holds=pages, unpins=pages)
        if name == "dma":
            return self._dma(op)
        if name in ("process_vm", "ptrace"):
            page = 1 << op[OP_ARGS + 1]
            return _Does(writes=page if op[OP_ARGS + 4] else 0, reaches=page)
        if name == "kernel_reclaim":
            return _Does(reaches=1 << op[OP_ARGS + 1])
        return _Does()

    def _dma(self, op: Op) -> _Does:
        pin, write = op[OP_ARGS], op[OP_ARGS + 4]
        page = self.pins[pin][0] + op[OP_ARGS + 1]
        bit = 1 << page
        return _Does(
            TOGETHER if write else DMA_READS,
            page,
            writes=bit if write else 0,
            reaches=bit if pin in self.follows_page_tables else 0,
            holds=bit,
        )


def _pages(first: int, end: int) -> int:
    return (1 << end) - (1 << first)


def keeps(m: Machine, decisions: Decisions) -> tuple[int, int]:
    """Does this kernel leave a frame shared that others have, too, whatever else is so? And one that is pinned?

    That is, will a write fault on a private page copy it for certain if no marker says that it is exclusive and, first,
    two page tables name it; second, it is pinned; and does ``mprotect`` not make such an entry writable. Answers may be
    anybody's, so they are asked for all counts that this machine can come to.
    """
    most = 2 + m.n_procs + 2 * m.n_tasks + m.n_pins
    return _keeps(decisions.wp_can_reuse, decisions.mprotect_restores_write, most, m.n_procs, m.n_pins + m.n_tasks)


@cache
def _keeps(
    reuses: Callable[..., int], restores: Callable[..., int], most: int, most_maps: int, most_pins: int
) -> tuple[int, int]:
    if any(restores(0, dirty) for dirty in (0, 1)):
        return 0, 0

    def copies(refs: int, maps: int, pins: int) -> bool:
        return not reuses(0, refs + BIAS * pins, maps, 0, int(refs + BIAS * pins >= BIAS))

    shared = all(
        copies(refs, maps, pins)
        for maps in range(2, most_maps + 1)
        for refs in range(2, most + 1)
        for pins in range(most_pins + 1)
    )
    pinned = all(
        copies(refs, maps, pins)
        for maps in range(1, most_maps + 1)
        for refs in range(most + 1)
        for pins in range(1, most_pins + 1)
    )
    return int(shared), int(pinned)


def reduced(m: Machine, decisions: Decisions) -> Machine:
    """The same machine, searched with one order of steps that commute; as it is if it is too large for that.

    ``decisions`` are the kernel's own, of which nobody keeps a record: they are asked for more than happens.
    """
    if m.n_pages > MOST_PAGES or m.n_tasks > MOST_TASKS:
        return m
    shared, pinned = keeps(m, decisions)
    return m._replace(reduces=1, keeps_shared=shared, keeps_pinned=pinned)

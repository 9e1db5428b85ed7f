"""A test becomes a machine: programs of opcodes, the layout of the state, and the state in which everything begins."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from cowcatcher import state as st
from cowcatcher.decision import Decisions
from cowcatcher.explore.canonical import canonicalize
from cowcatcher.explore.effects import effects
from cowcatcher.explore.steps import OPCODES
from cowcatcher.litmus.ast import Actor, Flags, KernelMay, Mapping, Name, Number, Place, Statement, Test
from cowcatcher.litmus.printer import statement_text
from cowcatcher.state import Machine, Op, State

_FOLL = {
    "READ": 0,
    "WRITE": st.FOLL_WRITE,
    "FORCE": st.FOLL_FORCE,
    "LONGTERM": st.FOLL_LONGTERM,
    "FAST": st.FOLL_FAST,
}
_PROT = {"NONE": 0, "R": st.VM_READ, "RW": st.VM_READ | st.VM_WRITE}
#: madvise that only sets (first) or clears (second) VMA flags; none for advice without effect on small pages.
_ADVICE_FLAGS = {
    "DONTFORK": (st.VM_DONTCOPY, 0),
    "DOFORK": (0, st.VM_DONTCOPY),
    "WIPEONFORK": (st.VM_WIPEONFORK, 0),
    "KEEPONFORK": (0, st.VM_WIPEONFORK),
    "HUGEPAGE": (0, 0),
    "MERGEABLE": (0, 0),
    "UNMERGEABLE": (0, 0),
}
_RANGE_ADVICE = {"DONTNEED": "madvise_dontneed", "FREE": "madvise_free", "PAGEOUT": "madvise_pageout"}
_SHARED_KINDS = {"shared_anon", "file_shared", "memfd", "hugetlb"}
_ANON_KINDS = ("anon", "hugetlb_private")
_PIN_OPS = {
    "pin": "pin", "get": "pin", "ibv_reg_mr": "ibv_reg_mr", "odp_reg_mr": "odp_reg_mr", "vfio_map": "vfio_map",
    "io_uring_register": "io_uring_register", "xdp_umem": "xdp_umem", "vmsplice": "vmsplice",
    "dio_read": "dio_block", "dio_write": "dio_block",
}  # fmt: skip
_DIO = {"BLOCK": "dio_block", "NFS": "dio_nfs", "FUSE": "dio_fuse"}


class NotModelled(Exception):
    """The test uses something that this model does not have; the message names it. Not a mistake of the test."""


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """Who a task is, for people: the actor's name, and the statement behind each of its opcodes."""

    name: str
    kind: str  # "process", "thread", "device", "kernel"
    process: str
    statements: tuple[Statement | KernelMay, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers of a machine are called in the test."""

    processes: tuple[str, ...]
    pages: tuple[str, ...]
    page_of: dict[str, int]  # mapping -> first page
    cells: tuple[tuple[str, ...], ...]  # per page
    pins: tuple[str, ...]
    pin_range: tuple[tuple[int, int], ...]  # per pin: first page, end
    events: tuple[str, ...]
    registers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A test compiled. The machine is complete but for its kernel: see :meth:`on`."""

    test: Test
    names: Names
    tasks: tuple[TaskInfo, ...]
    layout: Machine

    def on(self, decisions: Decisions) -> Machine:
        """The machine that runs this program with these decisions."""
        return self.layout._replace(k=decisions)


def compile_test(test: Test) -> Program:
    """Raises NotModelled, naming what, if the model has no such thing."""
    return _Compiler(test).program()


class _Compiler:
    def __init__(self, test: Test) -> None:
        self.test = test
        self.processes = [a.name for a in test.actors if a.kind == "process"]
        self.pages: list[str] = []
        self.page_of: dict[str, int] = {}
        self.cells: list[tuple[str, ...]] = []
        for mapping in test.memory:
            _require_modelled(mapping)
            self.page_of[mapping.name] = len(self.pages)
            for i in range(mapping.pages):
                self.pages.append(mapping.name if mapping.pages == 1 else f"{mapping.name}[{i}]")
                self.cells.append(tuple(name for name, _ in mapping.cells) or ("",))
        self.pins: dict[str, int] = {}
        self.pin_range: list[tuple[int, int]] = []
        self.events: dict[str, int] = {}
        self.registers: dict[str, int] = {}
        self._collect_names()

    def _collect_names(self) -> None:
        for actor in self.test.actors:
            for index, statement in enumerate(actor.body):
                if statement.op in ("post", "await"):
                    self.events.setdefault(_word(statement, 0), len(self.events))
                if statement.op in _PIN_OPS:
                    name = statement.target or f"{actor.name}.{index + 1}"
                    if name not in self.pins:  # a hunt names several ways to take the same handle
                        self.pins[name] = len(self.pins)
                        self.pin_range.append(self._range(_place(statement, 0)))
                if statement.target is not None:
                    self.registers.setdefault(statement.target, len(self.registers))

    # --- program --------------------------------------------------------------------------------------------------

    def program(self) -> Program:
        tasks: list[TaskInfo] = []
        programs: list[tuple[Op, ...]] = []
        for actor in self.test.actors:
            tasks.append(TaskInfo(actor.name, actor.kind, actor.process, actor.body))
            programs.append(tuple(self._statement(actor, i, s) for i, s in enumerate(actor.body)))
        for may in self.test.kernel_may:
            ops = self._kernel_may(may)
            tasks.append(TaskInfo(f"kernel {may.action}", "kernel", "", (may,) * len(ops)))
            programs.append(ops)
        names = Names(
            tuple(self.processes), tuple(self.pages), dict(self.page_of), tuple(self.cells), tuple(self.pins),
            tuple(self.pin_range), tuple(self.events), tuple(self.registers),
        )  # fmt: skip
        return Program(self.test, names, tuple(tasks), _layout(self.test, names, tuple(programs)))

    def _statement(self, actor: Actor, index: int, statement: Statement) -> Op:
        register = self.registers[statement.target] + 1 if statement.target is not None else 0
        name, operands = self._operation(actor, index, statement)
        return (OPCODES[name], register, *operands)

    def _operation(self, actor: Actor, index: int, st_: Statement) -> tuple[str, tuple[int, ...]]:
        """The opcode's name and its operands."""
        op = st_.op
        self._require_modelled_there(st_)
        if op in _PIN_OPS:
            return self._pin(actor, index, st_)
        if op in ("load", "store"):
            page, cell = self._cell(_place(st_, 0))
            return op, (page, cell, _value(st_, 1)) if op == "store" else (page, cell)
        if op in ("fork", "vfork", "wait"):
            return op, (self.processes.index(_word(st_, 0)),)
        if op in ("exit", "exec", "clear_refs"):
            return op, ()
        if op in ("post", "await"):
            return op, (self.events[_word(st_, 0)],)
        if op in ("munmap", "mremap", "mlock"):
            return op, self._range(_place(st_, 0))
        if op in ("uffd_wp", "uffd_wp_resolve"):
            return "uffd_writeprotect", (*self._range(_place(st_, 0)), int(op == "uffd_wp"))
        if op == "mprotect":
            return op, (*self._range(_place(st_, 0)), _PROT[_word(st_, 1)])
        if op == "madvise":
            return self._madvise(st_)
        if op == "unpin":
            pin = self.pins[_place(st_, 0).name]
            first, end = self.pin_range[pin]
            return op, (pin, end - first)
        if op in ("process_vm_readv", "process_vm_writev", "peek", "poke"):
            page, cell = self._cell(_place(st_, 1))
            write = op in ("process_vm_writev", "poke")
            process = self.processes.index(_word(st_, 0))
            opcode = "process_vm" if op.startswith("process_vm") else "ptrace"
            return opcode, (process, page, cell, _value(st_, 2) if write else 0, int(write))
        if op in ("dma_read", "dma_write"):
            return "dma", self._dma(st_)
        raise NotModelled(f"the statement {op}() is not modelled")

    def _require_modelled_there(self, statement: Statement) -> None:
        """Of hugetlb memory, what is in mm/hugetlb.c only in part, or only in some releases, is left out.

        DOFORK is refused since v7.0 (docs/findings.md).
        """
        place = next((a for a in statement.args if isinstance(a, Place)), None)
        mapping = self.test.mapping(place.name) if place is not None else None
        if mapping is None or not mapping.kind.startswith("hugetlb"):
            return
        advice = _word(statement, 1) if statement.op == "madvise" else ""
        if statement.op in ("mremap", "mlock", "uffd_wp", "uffd_wp_resolve") or advice not in ("", "DONTFORK"):
            raise NotModelled(f"{statement_text(statement)}: not modelled for hugetlb memory")

    def _madvise(self, statement: Statement) -> tuple[str, tuple[int, ...]]:
        pages = self._range(_place(statement, 0))
        advice = _word(statement, 1)
        if advice in _ADVICE_FLAGS:
            return "madvise_vma", (*pages, *_ADVICE_FLAGS[advice])
        if advice in _RANGE_ADVICE:
            return _RANGE_ADVICE[advice], pages
        if advice in ("POPULATE_READ", "POPULATE_WRITE"):
            return "madvise_populate", (*pages, int(advice == "POPULATE_WRITE"))
        raise NotModelled(f"madvise({advice}) is not modelled")

    def _pin(self, actor: Actor, index: int, statement: Statement) -> tuple[str, tuple[int, ...]]:
        op = statement.op
        name = statement.target or f"{actor.name}.{index + 1}"
        opcode, argument = _PIN_OPS[op], 0
        if op in ("pin", "get"):
            flags = statement.args[1]
            assert isinstance(flags, Flags)
            argument = st.FOLL_PIN if op == "pin" else st.FOLL_GET
            for flag in flags.names:
                argument |= _FOLL[flag]
        elif op in ("ibv_reg_mr", "vfio_map"):
            argument = int(len(statement.args) > 1)
        elif op in ("dio_read", "dio_write"):
            opcode = _DIO[_word(statement, 1) if len(statement.args) > 1 else "BLOCK"]
            argument = int(op == "dio_read")  # a direct read makes the device write
        mode = st.MODE_IOMMU if self._behind_iommu(name) else 0
        return opcode, (self.pins[name], *self._range(_place(statement, 0)), argument, mode)

    def _behind_iommu(self, pin: str) -> bool:
        """Does any device with an IOMMU use this pin?"""
        return any(
            isinstance(arg, Place) and arg.name == pin
            for actor in self.test.actors
            if actor.iommu
            for statement in actor.body
            for arg in statement.args
        )

    def _dma(self, statement: Statement) -> tuple[int, ...]:
        place = _place(statement, 0)
        pin = self.pins[place.name]
        index = place.index or 0
        first, _ = self.pin_range[pin]
        write = statement.op == "dma_write"
        value = _value(statement, 1) if write else 0
        return (pin, index, self._cell_number(first + index, place.cell), value, int(write))

    def _kernel_may(self, may: KernelMay) -> tuple[Op, ...]:
        if may.action != "reclaim":
            raise NotModelled(f"'kernel may {may.action}' is not modelled")
        assert may.place is not None
        first, end = self._range(may.place)
        return tuple(
            (OPCODES["kernel_reclaim"], 0, mm, page) for mm in range(len(self.processes)) for page in range(first, end)
        )

    # --- places ---------------------------------------------------------------------------------------------------

    def _range(self, place: Place) -> tuple[int, int]:
        mapping = self.test.mapping(place.name)
        assert mapping is not None, place.name
        first = self.page_of[place.name]
        if place.index is not None:
            return first + place.index, first + place.index + 1
        return first, first + mapping.pages

    def _cell(self, place: Place) -> tuple[int, int]:
        page = self.page_of[place.name] + (place.index or 0)
        return page, self._cell_number(page, place.cell)

    def _cell_number(self, page: int, cell: str | None) -> int:
        return 0 if cell is None else self.cells[page].index(cell)


def _require_modelled(mapping: Mapping) -> None:
    if "thp" in mapping.flags:
        raise NotModelled(f"transparent huge pages ({mapping.name}) are not modelled")


def _place(statement: Statement, position: int) -> Place:
    arg = statement.args[position]
    assert isinstance(arg, Place), arg
    return arg


def _word(statement: Statement, position: int) -> str:
    arg = statement.args[position]
    if isinstance(arg, Flags):
        return arg.names[0]
    assert isinstance(arg, Name), arg
    return arg.text


def _value(statement: Statement, position: int) -> int:
    arg = statement.args[position]
    assert isinstance(arg, Number), arg
    return arg.value


# --- layout -----------------------------------------------------------------------------------------------------------


def _layout(test: Test, names: Names, programs: tuple[tuple[Op, ...], ...]) -> Machine:
    """Offsets, one part after another; frames enough for everything that can hold one at the same time."""
    n_procs, n_pages, n_pins = len(names.processes), len(names.pages), len(names.pins)
    n_tasks = len(programs)
    n_cells = max((len(c) for c in names.cells), default=1)
    pin_pages = max((end - first for first, end in names.pin_range), default=0)
    swaps = any(s.op == "madvise" and _word(s, 1) == "PAGEOUT" for a in test.actors for s in a.body)
    total_pinned = sum(end - first for first, end in names.pin_range)
    # A page in the swap cache keeps its slot for as long as a task holds it, even if it is nobody else's any more.
    n_slots = n_procs * n_pages + total_pinned + len(_faulting(test)) if swaps or test.kernel_may else 0
    n_cached = sum(mapping.pages for mapping in test.memory if mapping.kind not in _ANON_KINDS)
    n_pfns = st.FIRST_PFN + n_procs * n_pages + total_pinned + _held_meanwhile(test) + n_cached + n_slots

    folio_size = st.DATA + 2 * n_cells
    slot_size = st.SLOT_DATA + 2 * n_cells
    pin_size = st.PIN_PAGES + st.PIN_PAGE_SIZE * pin_pages
    sizes = {
        "procs": st.PROC_SIZE * n_procs,
        "mms": st.MM_SIZE * n_procs,
        "vmas": st.VMA_SIZE * n_procs * n_pages,
        "ptes": st.PTE_SIZE * n_procs * n_pages,
        "cache": n_pages,
        "slots": slot_size * n_slots,
        "tasks": st.TASK_SIZE * n_tasks,
        "pins": pin_size * n_pins,
        "events": len(names.events),
        "regs": len(names.registers),
        "inherited": n_procs * n_pages * n_cells,
        "folios": folio_size * n_pfns,
    }
    offsets: dict[str, Any] = {}
    at = st.HEADER_SIZE
    for part, size in sizes.items():
        offsets[part] = at
        at += size
    pfn_fields = [
        *(offsets["cache"] + page for page in range(n_pages)),
        *(offsets["ptes"] + i * st.PTE_SIZE + st.PTE_PFN for i in range(n_procs * n_pages)),
        *(
            offsets["pins"] + pin * pin_size + st.PIN_PAGES + i * st.PIN_PAGE_SIZE + st.PIN_PFN
            for pin in range(n_pins)
            for i in range(pin_pages)
        ),
        *(offsets["slots"] + i * slot_size + st.SLOT_PFN for i in range(n_slots)),
        *(
            offsets["tasks"] + t * st.TASK_SIZE + field
            for t in range(n_tasks)
            for field in (st.T_OLD, st.T_NEW, st.T_ORIG_PFN)
        ),
    ]
    return Machine(
        k=None,  # type: ignore[arg-type]  # Program.on() fills it in
        n_procs=n_procs, n_pages=n_pages, n_cells=n_cells, n_pfns=n_pfns, n_slots=n_slots,
        n_tasks=n_tasks, n_pins=n_pins,
        folio_size=folio_size, slot_size=slot_size, pin_size=pin_size, size=at,
        programs=programs, regions=_regions(test), cached=_cached(test), hugetlb=_hugetlb(test),
        pfn_fields=tuple(pfn_fields), **offsets, **_effects(test, names, programs),
    )  # fmt: skip


def _effects(test: Test, names: Names, programs: tuple[tuple[Op, ...], ...]) -> Any:
    """The kernel's own tasks come after the actors."""
    processes = [names.processes.index(a.process) if a.process else -1 for a in test.actors]
    processes += [-1] * len(test.kernel_may)
    kernel_tasks = [task >= len(test.actors) for task in range(len(programs))]
    found = effects(programs, processes, kernel_tasks, names.pin_range, len(names.pages))
    vforks = any(s.op == "vfork" for a in test.actors for s in a.body)
    return {"vforks": int(vforks)} | {table.name: getattr(found, table.name) for table in fields(found)}


def _held_meanwhile(test: Test) -> int:
    """Frames that tasks may hold on their own: an old and a new one in a fault, one in reclaim."""
    return 2 * len(_faulting(test)) + len(test.kernel_may)


def _faulting(test: Test) -> list[Actor]:
    """Whoever may take a fault: a device, too, if it follows page tables."""
    follows_page_tables = any(s.op == "odp_reg_mr" for a in test.actors for s in a.body)
    return [a for a in test.actors if a.kind != "device" or follows_page_tables]


def _regions(test: Test) -> tuple[tuple[int, int], ...]:
    """Per page, the pages of its mapping."""
    regions: list[tuple[int, int]] = []
    for mapping in test.memory:
        first = len(regions)
        regions += [(first, first + mapping.pages)] * mapping.pages
    return tuple(regions)


def _cached(test: Test) -> tuple[int, ...]:
    """Per page, whether the page cache has it from the start."""
    return tuple(
        int(bool(mapping.cells) and mapping.kind not in (*_ANON_KINDS, "anon_zero"))
        for mapping in test.memory
        for _ in range(mapping.pages)
    )


def _hugetlb(test: Test) -> tuple[int, ...]:
    """Per page, whether it is a huge page of the pool."""
    return tuple(int(mapping.kind.startswith("hugetlb")) for mapping in test.memory for _ in range(mapping.pages))


# --- the first state --------------------------------------------------------------------------------------------------


def initial_state(program: Program, m: Machine) -> State:
    """Every mapping made and touched as its kind says, in the first process; nothing has run."""
    s: State = [0] * m.size
    s[st.folio_at(m, st.ZERO_PFN) + st.KIND] = st.ZERO
    if m.n_procs:
        s[m.procs + st.P_STATE] = st.RUNNING
        s[m.procs + st.P_MM] = 1
    for index, task in enumerate(program.tasks):
        if task.process:
            s[m.tasks + index * st.TASK_SIZE + st.T_PROC] = program.names.processes.index(task.process) + 1
    pfn = st.FIRST_PFN
    for mapping in program.test.memory:
        for i in range(mapping.pages):
            pfn = _map_page(m, s, mapping, program.names.page_of[mapping.name] + i, pfn)
    canonicalize(m, s)
    return s


def _map_page(m: Machine, s: State, mapping: Mapping, page: int, pfn: int) -> int:
    """One page of the first process; returns the next free frame number."""
    shared = mapping.kind in _SHARED_KINDS
    vma = st.VM_MAPPED | st.VM_SOFTDIRTY | _PROT[mapping.prot] | (st.VM_SHARED if shared else 0)
    s[st.vma_at(m, 0, page)] = vma
    pte, folio = st.pte_at(m, 0, page), st.folio_at(m, pfn)
    if mapping.kind == "anon_zero":
        s[pte + st.PTE_PFN], s[pte + st.PTE_BITS] = st.ZERO_PFN, st.PRESENT
        return pfn
    if not mapping.cells:
        if mapping.kind not in _ANON_KINDS:  # an untouched page of a file is a page of zeroes in the page cache
            s[folio + st.KIND], s[folio + st.REFS] = st.FILE, 1
            s[m.cache + page] = pfn
            return pfn + 1
        return pfn
    for cell, (_, value) in enumerate(mapping.cells):
        s[folio + st.DATA + 2 * cell] = value
    s[folio + st.REFS] = 1
    s[folio + st.KIND] = st.ANON if mapping.kind in _ANON_KINDS else st.FILE
    if mapping.kind not in _ANON_KINDS:
        s[m.cache + page] = pfn
    if mapping.kind == "file_private":
        return pfn + 1  # in the page cache, not touched by the process yet
    writable = st.WRITE if mapping.prot == "RW" else 0
    s[pte + st.PTE_PFN] = pfn
    s[pte + st.PTE_BITS] = st.PRESENT | writable
    s[folio + st.MAPCOUNT] = 1
    if shared:
        s[folio + st.REFS] += 1
        return pfn + 1
    s[pte + st.PTE_BITS] |= st.DIRTY | st.SOFT_DIRTY
    s[folio + st.EXCLUSIVE] = m.k.tracks_exclusive()
    if "batched" in mapping.flags:
        s[folio + st.LRU_BATCH] = 1
        s[folio + st.REFS] += 1
    if "crowded" in mapping.flags:
        s[folio + st.CROWD] = 1
        s[folio + st.EXCLUSIVE] = 0
        s[pte + st.PTE_BITS] &= ~st.WRITE
    return pfn + 1

"""A syntax tree becomes a machine, a second time.

Shares nothing with ``cowcatcher.explore``: opcodes, layout, numbering of frames and first state are its own, so that a
mistake made on one side only shows as a difference. What it must know of the model is what the model's steps document:
the operands of every statement, and the fields of the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cowcatcher import state as st
from cowcatcher.decision import Decisions
from cowcatcher.device import dma, interfaces
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import Actor, Flags, Mapping, Name, Number, Place, Statement, Test
from cowcatcher.mm import fault, fork, gup, madvise, mlock, mprotect, reclaim, zap
from cowcatcher.mm import phases as ph
from cowcatcher.state import Machine, State

Step = Callable[[Machine, State, int], int]
Operands = tuple[int, ...]


class CannotDo(Exception):
    """The test has something that the model does not."""


def wait_until_gone(m: Machine, s: State, t: int) -> int:
    """The one statement that is not the model's own: nothing in memory happens."""
    op = st.current_op(m, s, t)
    if s[m.procs + op[st.OP_ARGS] * st.PROC_SIZE + st.P_STATE] != st.EXITED:
        return 0
    if op[st.OP_REG]:
        s[m.regs + op[st.OP_REG] - 1] = st.OK
    s[t + st.T_PC] += 1
    return 1


_NOT_CACHED = ("anon", "anon_zero", "hugetlb_private")

#: By the name of what is done; a program's opcodes are indices into the sorted names.
STEP_OF: dict[str, Step] = {
    "load": fault.load,
    "store": fault.store,
    "fork": fork.fork,
    "vfork": fork.vfork,
    "exit": zap.exit_statement,
    "exec": zap.exec_statement,
    "wait": wait_until_gone,
    "post": dma.post,
    "await": dma.await_event,
    "munmap": zap.munmap,
    "mprotect": mprotect.mprotect,
    "mremap": madvise.mremap,
    "mlock": mlock.mlock,
    "clear_refs": mprotect.clear_refs,
    "uffd_wp": mprotect.uffd_writeprotect,
    "advise": madvise.madvise_vma,
    "dontneed": zap.madvise_dontneed,
    "free": madvise.madvise_free,
    "pageout": reclaim.madvise_pageout,
    "populate": mlock.madvise_populate,
    "pin": interfaces.pin_by_rule,
    "get": interfaces.pin_by_rule,
    "unpin": gup.unpin,
    "ibv_reg_mr": interfaces.ibv_reg_mr,
    "odp_reg_mr": interfaces.odp_reg_mr,
    "io_uring_register": interfaces.io_uring_register,
    "vfio_map": interfaces.vfio_map,
    "xdp_umem": interfaces.xdp_umem,
    "vmsplice": interfaces.vmsplice,
    "dio BLOCK": interfaces.dio_block,
    "dio NFS": interfaces.dio_nfs,
    "dio FUSE": interfaces.dio_fuse,
    "process_vm": interfaces.process_vm,
    "ptrace": interfaces.ptrace,
    "dma": dma.dma,
    "reclaim": reclaim.kernel_reclaim,
}
WHAT = tuple(sorted(STEP_OF))

NEXT_STEP: dict[int, Step] = {
    ph.UNPIN_PAGE: gup.unpin_page,
    ph.WP_PAGE_COPY: fault.wp_page_copy,
    ph.WP_PAGE_COPY_INSTALL: fault.wp_page_copy_install,
    ph.DO_SWAP_PAGE_MAP: fault.do_swap_page_map,
    ph.GUP_FAST_READ_PTE: gup.gup_fast_read_pte,
    ph.GUP_FAST_GRAB: gup.gup_fast_grab,
    ph.GUP_FAST_RECHECK: gup.gup_fast_recheck,
    ph.GUP_LOCK: gup.gup_lock,
    ph.FOLLOW_PAGE_PTE: gup.follow_page_pte,
    ph.GUP_ACCESS: gup.gup_access,
    ph.POPULATE: mlock.populate,
    ph.COPY_PRESENT_PTE: fork.copy_present_pte,
    ph.COPY_PRESENT_PTE_SHARE: fork.copy_present_pte_share,
    ph.DUP_MMAP_END: fork.dup_mmap_end,
    ph.VFORK_WAIT: fork.vfork_wait,
    ph.ZAP_PTE: zap.zap_pte_range,
    ph.EXIT_MMAP: zap.exit_mmap,
    ph.EXEC_MMAP: zap.exec_mmap,
    ph.MPROTECT_PTE: mprotect.change_pte_range,
    ph.CLEAR_REFS_PTE: mprotect.clear_refs_pte,
    ph.CLEAR_REFS_PTE_WRPROTECT: mprotect.clear_refs_pte_wrprotect,
    ph.UFFD_WP_PTE: mprotect.uffd_wp_pte,
    ph.BIO_SET_PAGES_DIRTY: gup.bio_set_pages_dirty,
    ph.MADVISE_FREE_PTE: madvise.madvise_free_pte,
    ph.SHRINK_FOLIO: reclaim.shrink_next,
    ph.ADD_TO_SWAP: reclaim.add_to_swap,
    ph.TRY_TO_UNMAP: reclaim.try_to_unmap_one,
    ph.PAGEOUT: reclaim.pageout,
    ph.ODP_ACCESS: dma.odp_retry,
}

_SILENT_ADVICE = {"HUGEPAGE", "MERGEABLE", "UNMERGEABLE"}
_ADVICE = {
    "DONTFORK": (st.VM_DONTCOPY, 0),
    "DOFORK": (0, st.VM_DONTCOPY),
    "WIPEONFORK": (st.VM_WIPEONFORK, 0),
    "KEEPONFORK": (0, st.VM_WIPEONFORK),
}
_INTERFACES = ("ibv_reg_mr", "odp_reg_mr", "io_uring_register", "vfio_map", "xdp_umem", "vmsplice")
_TAKES_PIN = ("pin", "get", *_INTERFACES, "dio_read", "dio_write")


@dataclass(frozen=True, slots=True)
class Pin:
    """What a pin statement covers, and whether it promises that the page stays with its owner."""

    number: int
    first: int
    end: int
    promises: bool


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    kind: str
    what: tuple[str, ...]  # per statement: key of STEP_OF


@dataclass(frozen=True, slots=True)
class Compiled:
    test: Test
    m: Machine
    initial: tuple[int, ...]
    tasks: tuple[Task, ...]
    processes: tuple[str, ...]
    page_of: dict[str, int]
    pins: dict[str, Pin]
    registers: dict[str, int]


def place(arg: object) -> Place:
    assert isinstance(arg, Place), arg
    return arg


def word(arg: object) -> str:
    assert isinstance(arg, Name), arg
    return arg.text


def number(arg: object) -> int:
    assert isinstance(arg, Number), arg
    return arg.value


class _Names:
    """Numbers for everything that has a name."""

    def __init__(self, test: Test, k: Decisions) -> None:
        self.test = test
        self.processes = tuple(a.name for a in test.actors if a.kind == "process")
        self.page_of: dict[str, int] = {}
        pages = 0
        for mapping in test.memory:
            if "thp" in mapping.flags:
                raise CannotDo(mapping.name)
            self.page_of[mapping.name] = pages
            pages += mapping.pages
        self.n_pages = pages
        self.pins: dict[str, Pin] = {}
        self.events: dict[str, int] = {}
        self.registers: dict[str, int] = {}
        for actor in test.actors:
            for position, statement in enumerate(actor.body):
                if statement.op in _TAKES_PIN:
                    name = pin_name(actor, position)
                    first, end = self.span(place(statement.args[0]))
                    foll = foll_of(k, statement)
                    promises = bool(foll & (st.FOLL_WRITE | st.FOLL_LONGTERM))
                    self.pins[name] = Pin(len(self.pins), first, end, promises)
                if statement.op in ("post", "await") and word(statement.args[0]) not in self.events:
                    self.events[word(statement.args[0])] = len(self.events)
                if statement.target and statement.target not in self.registers:
                    self.registers[statement.target] = len(self.registers)

    def span(self, where: Place) -> tuple[int, int]:
        mapping = next(x for x in self.test.memory if x.name == where.name)
        first = self.page_of[where.name]
        return (first, first + mapping.pages) if where.index is None else (first + where.index, first + where.index + 1)

    def cell(self, mapping_name: str, cell: str | None) -> int:
        mapping = next(x for x in self.test.memory if x.name == mapping_name)
        return [name for name, _ in mapping.cells].index(cell) if cell else 0

    def page_and_cell(self, where: Place) -> tuple[int, int]:
        return self.page_of[where.name] + (where.index or 0), self.cell(where.name, where.cell)


def pin_name(actor: Actor, position: int) -> str:
    return actor.body[position].target or f"{actor.name} {position}"


def foll_of(k: Decisions, statement: Statement) -> int:
    """The request that a pin statement makes of GUP on this kernel."""
    extra = statement.args[1] if len(statement.args) > 1 else None
    readonly = 0 if extra is None else 1
    filesystem = extra.text if isinstance(extra, Name) else "BLOCK"
    if statement.op in ("pin", "get"):
        assert isinstance(extra, Flags)
        foll = st.FOLL_PIN if statement.op == "pin" else st.FOLL_GET
        for name in extra.names:
            foll |= {"READ": 0, "WRITE": 1, "FORCE": 2, "LONGTERM": 4, "FAST": 32}[name]
        return foll
    if statement.op in ("dio_read", "dio_write"):
        ask = {"BLOCK": k.foll_dio_block, "NFS": k.foll_dio_nfs, "FUSE": k.foll_dio_fuse}[filesystem]
        return ask(1 if statement.op == "dio_read" else 0)
    if statement.op == "ibv_reg_mr":
        return k.foll_rdma(readonly)
    if statement.op == "vfio_map":
        return k.foll_vfio(readonly)
    if statement.op == "io_uring_register":
        return k.foll_io_uring()
    if statement.op == "xdp_umem":
        return k.foll_xdp()
    if statement.op == "vmsplice":
        return k.foll_vmsplice()
    return 0  # on-demand paging takes nothing


def _what(n: _Names, actor: Actor, position: int) -> tuple[str, Operands]:
    """What a statement does and with what."""
    statement = actor.body[position]
    op, args = statement.op, statement.args
    match op:
        case "load":
            return op, n.page_and_cell(place(args[0]))
        case "store":
            return op, (*n.page_and_cell(place(args[0])), number(args[1]))
        case "fork" | "vfork" | "wait":
            return op, (n.processes.index(word(args[0])),)
        case "exit" | "exec" | "clear_refs":
            return op, ()
        case "post" | "await":
            return op, (n.events[word(args[0])],)
        case "munmap" | "mremap" | "mlock":
            return op, n.span(place(args[0]))
        case "uffd_wp" | "uffd_wp_resolve":
            return "uffd_wp", (*n.span(place(args[0])), int(op == "uffd_wp"))
        case "mprotect":
            prot = {"NONE": 0, "R": st.VM_READ, "RW": st.VM_READ | st.VM_WRITE}[word(args[1])]
            return op, (*n.span(place(args[0])), prot)
        case "madvise":
            return _advice(n.span(place(args[0])), word(args[1]))
        case "unpin":
            held = n.pins[place(args[0]).name]
            return op, (held.number, held.end - held.first)
        case "process_vm_readv" | "peek":
            who = n.processes.index(word(args[0]))
            return _remote(op), (who, *n.page_and_cell(place(args[1])), 0, 0)
        case "process_vm_writev" | "poke":
            who = n.processes.index(word(args[0]))
            return _remote(op), (who, *n.page_and_cell(place(args[1])), number(args[2]), 1)
        case "dma_read" | "dma_write":
            where = place(args[0])
            value = number(args[1]) if op == "dma_write" else 0
            mapping = _pinned_mapping(n.test, where.name)
            pin = n.pins[where.name].number
            return "dma", (pin, where.index or 0, n.cell(mapping, where.cell), value, int(op == "dma_write"))
    if op in _TAKES_PIN:
        return _take_pin(n, actor, position)
    raise CannotDo(op)


def _remote(op: str) -> str:
    return "process_vm" if "process_vm" in op else "ptrace"


def _advice(span: tuple[int, int], advice: str) -> tuple[str, Operands]:
    if advice in _ADVICE:
        return "advise", (*span, *_ADVICE[advice])
    if advice in _SILENT_ADVICE:
        return "advise", (*span, 0, 0)
    if advice in ("DONTNEED", "FREE", "PAGEOUT"):
        return advice.lower(), span
    if advice.startswith("POPULATE"):
        return "populate", (*span, 1 if advice.endswith("WRITE") else 0)
    raise CannotDo(advice)


def _take_pin(n: _Names, actor: Actor, position: int) -> tuple[str, Operands]:
    statement = actor.body[position]
    op, args = statement.op, statement.args
    name = pin_name(actor, position)
    pin = n.pins[name]
    what, argument = op, 0
    if op in ("pin", "get"):
        argument = foll_of(None, statement)  # type: ignore[arg-type]  # asks no kernel
    elif op in ("ibv_reg_mr", "vfio_map"):
        argument = len(args) - 1
    elif op in ("dio_read", "dio_write"):
        what = "dio " + (word(args[1]) if len(args) > 1 else "BLOCK")
        argument = 1 if op == "dio_read" else 0
    behind_iommu = any(
        isinstance(arg, Place) and arg.name == name
        for device in n.test.actors
        if device.kind == "device" and device.iommu
        for s in device.body
        for arg in s.args[:1]
    )
    return what, (pin.number, pin.first, pin.end, argument, st.MODE_IOMMU if behind_iommu else 0)


def _pinned_mapping(test: Test, pin: str) -> str:
    return next(place(s.args[0]).name for a in test.actors for s in a.body if s.target == pin and s.op in _TAKES_PIN)


# --- layout and first state -------------------------------------------------------------------------------------------


def compile_naively(test: Test, kernel: Kernel) -> Compiled:
    """Raises CannotDo."""
    k = kernel.rules()
    n = _Names(test, k)
    tasks, programs = [], []
    for actor in test.actors:
        done = [_what(n, actor, i) for i in range(len(actor.body))]
        tasks.append(Task(actor.name, actor.kind, tuple(what for what, _ in done)))
        programs.append(
            tuple(
                (WHAT.index(what), n.registers[s.target] + 1 if s.target else 0, *operands)
                for s, (what, operands) in zip(actor.body, done, strict=True)
            )
        )
    for may in test.kernel_may:
        if may.action != "reclaim" or may.place is None:
            raise CannotDo(f"kernel may {may.action}")
        first, end = n.span(may.place)
        choices = [(mm, page) for page in range(first, end) for mm in range(len(n.processes))]
        tasks.append(Task("", "kernel", ("reclaim",) * len(choices)))
        programs.append(tuple((WHAT.index("reclaim"), 0, mm, page) for mm, page in choices))
    m = _lay_out(n, k, tuple(programs))
    return Compiled(test, m, _first_state(n, m), tuple(tasks), n.processes, n.page_of, n.pins, n.registers)


def _lay_out(n: _Names, k: Decisions, programs: tuple[tuple[tuple[int, ...], ...], ...]) -> Machine:
    """Frames and slots in plenty, everything at a place of its own."""
    procs, pages, pins, tasks = len(n.processes), n.n_pages, len(n.pins), len(programs)
    cells = max(len(x.cells) for x in n.test.memory) if n.test.memory else 1
    cells = max(cells, 1)
    pin_pages = max((p.end - p.first for p in n.pins.values()), default=0)
    swapping = bool(n.test.kernel_may) or any(
        s.op == "madvise" and word(s.args[1]) == "PAGEOUT" for a in n.test.actors for s in a.body
    )
    slots = procs * pages + pins * pin_pages + 1 if swapping else 0
    frames = 2 + 3 * procs * pages + pins * pin_pages + 3 * tasks + slots
    folio, slot, pin = st.DATA + 2 * cells, st.SLOT_DATA + 2 * cells, st.PIN_PAGES + 2 * pin_pages
    at: dict[str, int] = {}
    end = 1
    for part, size in (
        ("regs", len(n.registers)), ("events", len(n.events)), ("tasks", tasks * st.TASK_SIZE), ("pins", pins * pin),
        ("ptes", procs * pages * 3), ("vmas", procs * pages), ("slots", slots * slot), ("folios", frames * folio),
        ("mms", procs * st.MM_SIZE), ("procs", procs * st.PROC_SIZE), ("cache", pages),
        ("inherited", procs * pages * cells),
    ):  # fmt: skip
        at[part] = end
        end += size
    names_a_frame = [at["ptes"] + 3 * i for i in range(procs * pages)]
    names_a_frame += [at["cache"] + i for i in range(pages)]
    names_a_frame += [at["slots"] + slot * i + st.SLOT_PFN for i in range(slots)]
    names_a_frame += [at["pins"] + pin * i + st.PIN_PAGES + 2 * j for i in range(pins) for j in range(pin_pages)]
    for t in range(at["tasks"], at["tasks"] + tasks * st.TASK_SIZE, st.TASK_SIZE):
        names_a_frame += [t + st.T_OLD, t + st.T_NEW, t + st.T_ORIG_PFN]
    return Machine(
        k=k, n_procs=procs, n_pages=pages, n_cells=cells, n_pfns=frames, n_slots=slots, n_tasks=tasks, n_pins=pins,
        folio_size=folio, slot_size=slot, pin_size=pin, size=end, programs=programs,
        regions=tuple(
            (n.page_of[x.name], n.page_of[x.name] + x.pages) for x in n.test.memory for _ in range(x.pages)
        ),
        hugetlb=tuple(1 if "hugetlb" in x.kind else 0 for x in n.test.memory for _ in range(x.pages)),
        cached=tuple(
            1 if x.cells and x.kind not in _NOT_CACHED else 0 for x in n.test.memory for _ in range(x.pages)
        ),
        pfn_fields=tuple(names_a_frame), **at,
    )  # fmt: skip


def _first_state(n: _Names, m: Machine) -> tuple[int, ...]:
    s = [0] * m.size
    s[st.folio_at(m, st.ZERO_PFN) + st.KIND] = st.ZERO
    s[m.procs + st.P_STATE] = st.RUNNING
    s[m.procs + st.P_MM] = 1
    for i, actor in enumerate(n.test.actors):
        if actor.kind != "device":
            s[m.tasks + i * st.TASK_SIZE + st.T_PROC] = n.processes.index(actor.process) + 1
    frame = st.FIRST_PFN
    for mapping in n.test.memory:
        for i in range(mapping.pages):
            _touch(m, s, mapping, n.page_of[mapping.name] + i, frame)
            frame += 1
    return tuple(s)


def _touch(m: Machine, s: State, mapping: Mapping, page: int, frame: int) -> None:
    """Map one page in the first process and touch it as its kind says; ``frame`` is there to be used."""
    private = mapping.kind in ("anon", "anon_zero", "file_private", "hugetlb_private")
    anonymous = mapping.kind in ("anon", "anon_zero", "hugetlb_private")
    readable = st.VM_MAPPED | st.VM_SOFTDIRTY | st.VM_READ
    s[st.vma_at(m, 0, page)] = (
        readable | (st.VM_WRITE if mapping.prot == "RW" else 0) | (0 if private else st.VM_SHARED)
    )
    pte, folio = st.pte_at(m, 0, page), st.folio_at(m, frame)
    touched = mapping.cells != () and (
        mapping.kind in ("memfd", "file_shared", "anon", "shared_anon", "hugetlb", "hugetlb_private")
    )
    if mapping.kind == "anon_zero":
        s[pte + st.PTE_PFN], s[pte + st.PTE_BITS] = st.ZERO_PFN, st.PRESENT
        return
    if anonymous and not touched:
        return
    s[folio + st.KIND] = st.ANON if anonymous else st.FILE
    for i, (_, value) in enumerate(mapping.cells):
        s[folio + st.DATA + 2 * i] = value
    if not anonymous:
        s[m.cache + page] = frame
        s[folio + st.REFS] += 1
    if not touched:
        return
    crowded, batched = "crowded" in mapping.flags and anonymous, "batched" in mapping.flags and anonymous
    s[folio + st.REFS] += 1
    s[folio + st.MAPCOUNT] += 1
    s[pte + st.PTE_PFN] = frame
    bits = st.PRESENT | (st.WRITE if mapping.prot == "RW" and not crowded else 0)
    if anonymous:
        bits |= st.DIRTY | st.SOFT_DIRTY
        s[folio + st.EXCLUSIVE] = 0 if crowded else m.k.tracks_exclusive()
        s[folio + st.CROWD] = int(crowded)
        s[folio + st.LRU_BATCH] = int(batched)
        s[folio + st.REFS] += int(batched)
    s[pte + st.PTE_BITS] = bits

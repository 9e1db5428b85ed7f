"""What an onlooker knows who sees every step, and what follows for the standing checks.

The model keeps ghosts of its own (signatures, inherited values, bound pins). These are others: sets of what every
address space may have seen, the contents of memory as a fork found it, pins whose range the owner gave up. They are
kept outside the state and follow from comparing it before and after a step.
"""

from __future__ import annotations

from typing import NamedTuple

from cowcatcher import state as st
from cowcatcher.mm import phases as ph
from tests.naive.compiler import Compiled

Vector = tuple[int, ...]
ANY = -1  # an expected value that is not known, or not binding


class Ghosts(NamedTuple):
    """``knows``: per mm, the signatures of everything stored for it, or for its ancestors until their fork.

    ``expects``: per mm, page and cell, what a read must find, or ANY. ``given_up``: (pin, page of the pin).
    """

    knows: tuple[frozenset[int], ...]
    expects: Vector
    given_up: frozenset[tuple[int, int]]


class Access(NamedTuple):
    """One value read or stored. ``page`` is ANY when the owner has given up the address that it was pinned at."""

    mm: int
    page: int
    cell: int
    frame: int
    write: bool


def no_ghosts(c: Compiled) -> Ghosts:
    m = c.m
    return Ghosts((frozenset(),) * m.n_procs, (ANY,) * (m.n_procs * m.n_pages * m.n_cells), frozenset())


class Onlooker:
    """Follows one step at a time: from the state before, the task that acted, and the state after."""

    def __init__(self, c: Compiled) -> None:
        self.c, self.m = c, c.m

    def see(self, ghosts: Ghosts, before: Vector, after: Vector, task: int) -> tuple[Ghosts, set[str]]:
        """The ghosts after the step, and the checks that the step itself broke."""
        m = self.m
        knows, expects, given_up = list(ghosts.knows), list(ghosts.expects), set(ghosts.given_up)
        broken: set[str] = set()
        what = self.what(before, task)
        t = m.tasks + task * st.TASK_SIZE

        if what == "fork" and not before[t + st.T_PHASE] and after[t + st.T_PHASE]:
            self.fork_begins(knows, expects, before, after, t, task)
        access = self.access(before, after, t, what, task, given_up)
        if access is not None:
            self.judge_access(access, knows, expects, before, after, broken)
        for mm, page in self.given_up_by(before, after, t, what, task):
            for cell in range(m.n_cells):
                expects[self.at(mm, page, cell)] = ANY
            if what != "free":
                given_up |= self.pins_on(before, mm, page)
        given_up = {(pin, i) for pin, i in given_up if after[st.pin_page_at(m, pin, i) + st.PIN_PFN]}
        return Ghosts(tuple(knows), tuple(expects), frozenset(given_up)), broken

    # --- what happened ------------------------------------------------------------------------------------------------

    def what(self, before: Vector, task: int) -> str:
        pc = before[self.m.tasks + task * st.TASK_SIZE + st.T_PC]
        done = self.c.tasks[task].what
        return done[pc] if pc < len(done) else ""

    def op(self, before: Vector, task: int) -> Vector:
        return self.m.programs[task][before[self.m.tasks + task * st.TASK_SIZE + st.T_PC]][st.OP_ARGS :]

    def at(self, mm: int, page: int, cell: int) -> int:
        return (mm * self.m.n_pages + page) * self.m.n_cells + cell

    def mm_of(self, s: Vector, t: int) -> int:
        return s[self.m.procs + (s[t + st.T_PROC] - 1) * st.PROC_SIZE + st.P_MM] - 1

    def access(
        self, before: Vector, after: Vector, t: int, what: str, task: int, given_up: set[tuple[int, int]]
    ) -> Access | None:
        """The value that the step moved, if it moved one."""
        m = self.m
        phase, done = before[t + st.T_PHASE], after[t + st.T_PC] > before[t + st.T_PC]
        if not done:
            return None
        args = self.op(before, task)
        if what in ("load", "store") and not phase:
            mm, page = self.mm_of(before, t), args[0]
            pte = st.pte_at(m, mm, page)
            needed = st.VM_WRITE if what == "store" else st.VM_READ
            if before[pte + st.PTE_BITS] & st.PRESENT and before[st.vma_at(m, mm, page)] & needed:
                return Access(mm, page, args[1], before[pte + st.PTE_PFN], what == "store")
        if what in ("process_vm", "ptrace") and phase == ph.GUP_ACCESS:
            return Access(before[t + st.T_MM] - 1, args[1], args[2], before[t + st.T_OLD], bool(args[4]))
        if what == "dma" and not phase:
            return self.dma(before, args, given_up)
        return None

    def dma(self, before: Vector, args: Vector, given_up: set[tuple[int, int]]) -> Access | None:
        m = self.m
        number, index, cell, _, write = args
        pin = next(p for p in self.c.pins.values() if p.number == number)
        handle = st.pin_at(m, number)
        mm, page = before[handle + st.PIN_MM] - 1, pin.first + index
        held = before[handle + st.PIN_HELD]
        if before[handle + st.PIN_MODE] & st.MODE_ODP:
            pte = st.pte_at(m, mm, page)
            bound = before[st.pin_page_at(m, number, index) + st.PIN_BOUND]
            allowed = before[st.vma_at(m, mm, page)] & st.VM_READ and before[pte + st.PTE_BITS] & st.PRESENT
            if held == st.HELD and bound and allowed and (not write or before[pte + st.PTE_BITS] & st.WRITE):
                return Access(mm, page, cell, before[pte + st.PTE_PFN], bool(write))
            return None
        frame = before[st.pin_page_at(m, number, index) + st.PIN_PFN]
        if held not in (st.HELD, st.RELEASED) or not frame:
            return None
        valid = held == st.HELD and (number, index) not in given_up
        return Access(mm, page if valid else ANY, cell, frame, bool(write))

    def judge_access(
        self,
        a: Access,
        knows: list[frozenset[int]],
        expects: list[int],
        before: Vector,
        after: Vector,
        broken: set[str],
    ) -> None:
        m = self.m
        folio = st.folio_at(m, a.frame)
        kind = before[folio + st.KIND]
        data = folio + st.DATA + 2 * a.cell
        if kind == st.FREE:
            broken.add("alive")
        elif a.write:
            if kind == st.ANON:
                knows[a.mm] |= {after[data + 1]}
            if a.page != ANY:
                expects[self.at(a.mm, a.page, a.cell)] = ANY
            child = after[st.mm_at(m, a.mm) + st.MM_FORKING] - 1
            if child >= 0:  # while it is being forked, the child may get either
                if kind == st.ANON:
                    knows[child] |= {after[data + 1]}
                if a.page != ANY:
                    expects[self.at(child, a.page, a.cell)] = ANY
        elif kind == st.ANON and before[data + 1] and before[data + 1] not in knows[a.mm]:
            broken.add("isolated")
        elif kind in (st.ANON, st.ZERO) and a.page != ANY:
            wanted = expects[self.at(a.mm, a.page, a.cell)]
            if wanted not in (ANY, before[data]):
                broken.add("isolated")

    def fork_begins(
        self, knows: list[frozenset[int]], expects: list[int], before: Vector, after: Vector, t: int, task: int
    ) -> None:
        """The child may know what its parent knows, and must find what its parent has."""
        m = self.m
        mm, child = self.mm_of(before, t), self.op(before, task)[0]
        knows[child] = knows[mm]
        for page in range(m.n_pages):
            flags = before[st.vma_at(m, mm, page)]
            for cell in range(m.n_cells):
                found = ANY
                if flags & st.VM_WIPEONFORK:
                    found = 0
                elif flags & st.VM_MAPPED and not flags & (st.VM_SHARED | st.VM_DONTCOPY):
                    found = self.content(before, mm, page, cell)
                expects[self.at(child, page, cell)] = found

    def content(self, s: Vector, mm: int, page: int, cell: int) -> int:
        """What a private page holds; ANY if it is a file's or may be thrown away at any time."""
        m = self.m
        pte = st.pte_at(m, mm, page)
        if s[pte + st.PTE_SLOT]:
            slot = st.slot_at(m, s[pte + st.PTE_SLOT] - 1)
            cached = s[slot + st.SLOT_PFN]
            return s[(st.folio_at(m, cached) + st.DATA if cached else slot + st.SLOT_DATA) + 2 * cell]
        if not s[pte + st.PTE_BITS] & st.PRESENT:
            return ANY if s[m.cache + page] else 0
        folio = st.folio_at(m, s[pte + st.PTE_PFN])
        dirty = s[pte + st.PTE_BITS] & st.DIRTY or s[folio + st.DIRTY_FOLIO]
        if s[folio + st.KIND] == st.FILE or (s[folio + st.LAZYFREE] and not dirty):
            return ANY
        return s[folio + st.DATA + 2 * cell]

    def given_up_by(self, before: Vector, after: Vector, t: int, what: str, task: int) -> list[tuple[int, int]]:
        """(mm, page) whose contents the process itself let go in this step."""
        m = self.m
        phase = before[t + st.T_PHASE]
        if phase in (ph.EXIT_MMAP, ph.EXEC_MMAP) or (what == "exec" and not phase):
            return [
                (mm, page)
                for mm in range(m.n_procs)
                for page in range(m.n_pages)
                if before[st.vma_at(m, mm, page)] & st.VM_MAPPED and not after[st.vma_at(m, mm, page)] & st.VM_MAPPED
            ]
        if what not in ("munmap", "dontneed", "free") or phase not in (0, ph.ZAP_PTE, ph.MADVISE_FREE_PTE):
            return []
        mm, (first, end) = self.mm_of(before, t), self.op(before, task)
        start = before[t + st.T_PAGE] if phase else first
        finished = after[t + st.T_PC] > before[t + st.T_PC]
        stop = self.reached(before, mm, what, start, end) if finished else after[t + st.T_PAGE]
        return [(mm, page) for page in range(start, stop)]

    def reached(self, before: Vector, mm: int, what: str, start: int, end: int) -> int:
        """A call that finished went to its end, or to the first page that it may not work on."""
        for page in range(start, end):
            vma = before[st.vma_at(self.m, mm, page)]
            no_anon = what == "free" and (vma & st.VM_SHARED or before[self.m.cache + page])
            if what != "munmap" and vma & st.VM_MAPPED and (vma & st.VM_LOCKED or no_anon):
                return page
        return end

    def pins_on(self, s: Vector, mm: int, page: int) -> set[tuple[int, int]]:
        return {
            (pin.number, page - pin.first)
            for pin in self.c.pins.values()
            if pin.first <= page < pin.end and s[st.pin_at(self.m, pin.number) + st.PIN_MM] == mm + 1
        }

    # --- what a state shows -------------------------------------------------------------------------------------------

    def broken_in(self, s: Vector, ghosts: Ghosts) -> set[str]:
        m = self.m
        broken = set()
        for pin in self.c.pins.values():
            handle = st.pin_at(m, pin.number)
            if s[handle + st.PIN_HELD] != st.HELD or not pin.promises:
                continue
            for index in range(pin.end - pin.first):
                frame = s[st.pin_page_at(m, pin.number, index) + st.PIN_PFN]
                mm = s[handle + st.PIN_MM] - 1
                if (pin.number, index) not in ghosts.given_up and self.frame_of(s, mm, pin.first + index) != frame:
                    broken.add("coherent")
        for mm in range(m.n_procs):
            for page in range(m.n_pages):
                frame = self.frame_of(s, mm, page)
                if frame and s[st.folio_at(m, frame) + st.KIND] == st.FREE:
                    broken.add("alive")
        return broken

    def frame_of(self, s: Vector, mm: int, page: int) -> int:
        """Follow the page table, and the swap cache behind it."""
        m = self.m
        pte = st.pte_at(m, mm, page)
        if s[pte + st.PTE_BITS] & st.PRESENT:
            return s[pte + st.PTE_PFN]
        slot = s[pte + st.PTE_SLOT]
        return s[st.slot_at(m, slot - 1) + st.SLOT_PFN] if slot else 0


def miscounted(c: Compiled, s: Vector) -> list[str]:
    """Every count that does not say what there is, in a state in which no task is inside a statement."""
    m = c.m
    wrong = []
    leads_to = [s[st.pte_at(m, mm, page) + st.PTE_PFN] for mm in range(m.n_procs) for page in range(m.n_pages)]
    for frame in range(1, m.n_pfns):
        folio = st.folio_at(m, frame)
        gets = pins = 0
        for pin in c.pins.values():
            handle = st.pin_at(m, pin.number)
            if s[handle + st.PIN_HELD] == st.HELD:
                for index in range(pin.end - pin.first):
                    if s[st.pin_page_at(m, pin.number, index) + st.PIN_PFN] == frame:
                        if s[handle + st.PIN_MODE] & st.MODE_PIN:
                            pins += 1
                        else:
                            gets += 1
        cached = [i for i in range(m.n_pages) if s[m.cache + i] == frame]
        mapped = 0 if frame == st.ZERO_PFN else leads_to.count(frame)
        pins *= 1 if frame != st.ZERO_PFN else m.k.gup_counts_zero_page()
        refs = mapped + gets + len(cached) + s[folio + st.LRU_BATCH] + (1 if s[folio + st.SWAPCACHE] else 0)
        if (refs, pins, mapped) != (s[folio + st.REFS], s[folio + st.PINS], s[folio + st.MAPCOUNT]):
            wrong.append(f"frame {frame}")
    for slot in range(m.n_slots):
        named = [st.pte_at(m, mm, page) for mm in range(m.n_procs) for page in range(m.n_pages)]
        if s[st.slot_at(m, slot) + st.SLOT_COUNT] != sum(s[pte + st.PTE_SLOT] == slot + 1 for pte in named):
            wrong.append(f"slot {slot}")
    return wrong

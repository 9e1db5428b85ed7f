"""What holds in every state that can be reached, on every kernel unless a comment says otherwise.

Written from the meaning of the fields, not from the steps: every count is recounted, every lock is looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cowcatcher import state as st
from cowcatcher.explore.program import Program
from cowcatcher.litmus.ast import Statement
from cowcatcher.mm import phases as ph
from cowcatcher.state import Machine

_RECLAIM = (ph.ADD_TO_SWAP, ph.TRY_TO_UNMAP, ph.PAGEOUT)
_FAULT = (ph.WP_PAGE_COPY, ph.WP_PAGE_COPY_INSTALL, ph.DO_SWAP_PAGE_MAP)
#: Phases in which mmap_lock of T_MM is held for read; for ZAP_PTE and the reclaim phases it depends: see _locks().
_READERS = (
    *_FAULT,
    ph.FOLLOW_PAGE_PTE,
    ph.POPULATE,
    ph.MADVISE_FREE_PTE,
    ph.ODP_ACCESS,
    ph.SHRINK_FOLIO,
    ph.UFFD_WP_PTE,
)
_WRITERS = (
    ph.MPROTECT_PTE, ph.CLEAR_REFS_PTE, ph.CLEAR_REFS_PTE_WRPROTECT,
    ph.COPY_PRESENT_PTE, ph.COPY_PRESENT_PTE_SHARE, ph.DUP_MMAP_END,
)  # fmt: skip


class Books:
    """One state, read through names."""

    def __init__(self, program: Program, m: Machine, s: bytes) -> None:
        self.program, self.m, self.s = program, m, s
        self.tasks = range(m.tasks, m.tasks + m.n_tasks * st.TASK_SIZE, st.TASK_SIZE)

    def wrong(self) -> list[str]:
        """Everything that does not hold; empty for a sound state."""
        return [
            *self._references(), *self._free_frames(), *self._slots(), *self._exclusive(), *self._writable(),
            *self._locks(), *self._idle_tasks(), *self._dead_memory(),
        ]  # fmt: skip

    # --- helpers ------------------------------------------------------------------------------------------------------

    def ptes(self) -> Iterator[tuple[int, int, int]]:
        """(mm, page, offset)"""
        for mm in range(self.m.n_procs):
            for page in range(self.m.n_pages):
                yield mm, page, st.pte_at(self.m, mm, page)

    def present(self) -> Iterator[tuple[int, int, int, int]]:
        """(mm, page, frame, bits) of what is mapped."""
        for mm, page, pte in self.ptes():
            if self.s[pte + st.PTE_BITS] & st.PRESENT:
                yield mm, page, self.s[pte + st.PTE_PFN], self.s[pte + st.PTE_BITS]

    def frames(self) -> Iterator[tuple[int, int]]:
        """(number, offset)"""
        for frame in range(st.ZERO_PFN, self.m.n_pfns):
            yield frame, st.folio_at(self.m, frame)

    def swap_ptes(self, slot: int) -> int:
        return sum(self.s[pte + st.PTE_SLOT] == slot + 1 for _, _, pte in self.ptes())

    def handle_entries(self) -> Iterator[tuple[int, int, int, int]]:
        """(held, mode, frame, bound) of every page of every handle."""
        s, m = self.s, self.m
        for handle in range(m.pins, m.pins + m.n_pins * m.pin_size, m.pin_size):
            entries = range(handle + st.PIN_PAGES, handle + m.pin_size, st.PIN_PAGE_SIZE)
            for index, entry in enumerate(entries):
                held = st.HELD if self._still_to_unpin(handle, index) else s[handle + st.PIN_HELD]
                yield held, s[handle + st.PIN_MODE], s[entry + st.PIN_PFN], s[entry + st.PIN_BOUND]

    def _peeks(self, t: int) -> bool:
        """ptrace holds mmap_lock across its access, process_vm_readv does not."""
        return self.s[t + st.T_PHASE] == ph.GUP_ACCESS and bool(self.s[t + st.T_FLAGS] & st.FOLL_FORCE)

    def _still_to_unpin(self, handle: int, index: int) -> bool:
        """A handle that is being released gives its pages back one by one."""
        for task, t in enumerate(self.tasks):
            if self.s[t + st.T_PHASE] == ph.UNPIN_PAGE and index >= self.s[t + st.T_PAGE]:
                pin = self.m.programs[task][self.s[t + st.T_PC]][st.OP_ARGS]
                if handle == st.pin_at(self.m, pin):
                    return True
        return False

    def _statement(self, task: int) -> str:
        """What the task is at."""
        statement = self.program.tasks[task].statements[self.s[self.tasks[task] + st.T_PC]]
        return statement.op if isinstance(statement, Statement) else statement.action

    # --- what holds ---------------------------------------------------------------------------------------------------

    def _references(self) -> Iterator[str]:
        """Every reference has a holder: a pte, a handle, the swap cache, an LRU batch, the page cache, a task."""
        s, m = self.s, self.m
        mapped = Counter(frame for _, _, frame, _ in self.present() if frame != st.ZERO_PFN)
        refs, pins = Counter(mapped), Counter[int]()
        for held, mode, frame, _ in self.handle_entries():
            if held in (st.TAKING, st.HELD) and frame and not mode & st.MODE_ODP:
                (pins if mode & st.MODE_PIN else refs)[frame] += 1
        for page in range(m.n_pages):
            refs[s[m.cache + page]] += 1
        for t in self.tasks:
            phase, flags = s[t + st.T_PHASE], s[t + st.T_FLAGS]
            if phase in (ph.WP_PAGE_COPY, ph.WP_PAGE_COPY_INSTALL, ph.ZAP_PTE, ph.EXIT_MMAP, ph.EXEC_MMAP, *_RECLAIM):
                refs[s[t + st.T_OLD]] += 1
            elif phase not in (ph.GUP_ACCESS,) and s[t + st.T_OLD]:
                yield f"phase {phase} has an old page"
            if phase in (ph.WP_PAGE_COPY_INSTALL, ph.DO_SWAP_PAGE_MAP):
                refs[s[t + st.T_NEW]] += 1
            elif s[t + st.T_NEW]:
                yield f"phase {phase} has a new page"
            if phase == ph.GUP_FAST_RECHECK:
                (pins if flags & st.FOLL_PIN else refs)[s[t + st.T_ORIG_PFN]] += 1
            if phase == ph.GUP_ACCESS:
                (pins if flags & st.FOLL_PIN else refs)[s[t + st.T_OLD]] += 1
        for frame, folio in self.frames():
            zero = frame == st.ZERO_PFN
            wanted_refs = refs[frame] + s[folio + st.LRU_BATCH] + bool(s[folio + st.SWAPCACHE])
            wanted_pins = pins[frame] if not zero or m.k.gup_counts_zero_page() else 0
            if zero:
                wanted_refs -= sum(1 for t in self.tasks if s[t + st.T_OLD] == frame and not self._gets(t))
            if s[folio + st.REFS] != wanted_refs:
                yield f"frame {frame}: {s[folio + st.REFS]} references, {wanted_refs} holders"
            if s[folio + st.PINS] != wanted_pins:
                yield f"frame {frame}: {s[folio + st.PINS]} pins, {wanted_pins} holders"
            if s[folio + st.MAPCOUNT] != mapped[frame]:
                yield f"frame {frame}: mapcount {s[folio + st.MAPCOUNT]}, {mapped[frame]} ptes"

    def _gets(self, t: int) -> bool:
        """Does the task hold its old page by a counted reference even if it is the zero page?"""
        return self.s[t + st.T_PHASE] == ph.GUP_ACCESS

    def _free_frames(self) -> Iterator[str]:
        """A free frame is all zero, and nobody maps it; a frame in use has a reference."""
        s = self.s
        mapped = {frame for _, _, frame, _ in self.present()}
        for frame, folio in self.frames():
            if s[folio + st.KIND] == st.FREE:
                if any(s[folio : folio + self.m.folio_size]):
                    yield f"frame {frame} is free and not zero"
                if frame in mapped:
                    yield f"frame {frame} is free and mapped"
            elif frame != st.ZERO_PFN and not s[folio + st.REFS] + s[folio + st.PINS] + s[folio + st.CROWD]:
                yield f"frame {frame} is nobody's and not free"

    def _slots(self) -> Iterator[str]:
        """A swap slot counts its swap ptes; it and its page in the swap cache name each other; a free one is zero."""
        s, m = self.s, self.m
        for number in range(m.n_slots):
            slot = st.slot_at(m, number)
            if s[slot + st.SLOT_COUNT] != self.swap_ptes(number):
                yield f"slot {number}: count {s[slot + st.SLOT_COUNT]}, {self.swap_ptes(number)} ptes"
            frame = s[slot + st.SLOT_PFN]
            if frame and s[st.folio_at(m, frame) + st.SWAPCACHE] != number + 1:
                yield f"slot {number}: its page does not know it"
            if not frame and not s[slot + st.SLOT_COUNT] and any(s[slot : slot + m.slot_size]):
                yield f"slot {number} is free and not zero"
            if frame and any(s[slot + st.SLOT_DATA : slot + m.slot_size]):
                yield f"slot {number}: contents twice"
        for frame, folio in self.frames():
            slot = s[folio + st.SWAPCACHE]
            if slot and s[st.slot_at(m, slot - 1) + st.SLOT_PFN] != frame:
                yield f"frame {frame}: its slot does not know it"

    def _exclusive(self) -> Iterator[str]:
        """Where PageAnonExclusive is kept (v5.19 on): at most one pte, mapped or swapped, names an exclusive page."""
        s, m = self.s, self.m
        for frame, folio in self.frames():
            if not s[folio + st.EXCLUSIVE]:
                continue
            if not m.k.tracks_exclusive() or s[folio + st.KIND] != st.ANON:
                yield f"frame {frame} cannot be exclusive"
            slot = s[folio + st.SWAPCACHE]
            if s[folio + st.MAPCOUNT] + (self.swap_ptes(slot - 1) if slot else 0) > 1:
                yield f"frame {frame} is exclusive and shared"
        for _, _, pte in self.ptes():
            if s[pte + st.PTE_BITS] & st.SWP_EXCLUSIVE:
                slot = s[pte + st.PTE_SLOT]
                if not slot or s[st.slot_at(m, slot - 1) + st.SLOT_COUNT] != 1:
                    yield "a swap pte is exclusive and not the only one"

    def _writable(self) -> Iterator[str]:
        """A writable pte lies in a writable VMA. If its page is anonymous it is the only one that leads there, swap
        ptes counted; and the page is exclusive where that is kept, but for the moment between fork's two looks at it.
        """
        s, m = self.s, self.m
        for mm, page, frame, bits in self.present():
            if not bits & st.WRITE:
                continue
            vma, folio = s[st.vma_at(m, mm, page)], st.folio_at(m, frame)
            if not vma & st.VM_WRITE:
                yield f"mm {mm} page {page}: writable pte, read-only mapping"
            if s[folio + st.KIND] == st.ZERO or (s[folio + st.KIND] == st.FILE and not vma & st.VM_SHARED):
                yield f"mm {mm} page {page}: writable pte on a page that is not its own"
            if s[folio + st.KIND] == st.ANON:
                slot = s[folio + st.SWAPCACHE]
                if s[folio + st.MAPCOUNT] + (self.swap_ptes(slot - 1) if slot else 0) != 1:
                    yield f"mm {mm} page {page}: writable pte on a shared page"
                in_fork = s[st.mm_at(m, mm) + st.MM_PTL] == page + 1 and s[st.mm_at(m, mm) + st.MM_FORKING]
                if m.k.tracks_exclusive() and not s[folio + st.EXCLUSIVE] and not in_fork:
                    yield f"mm {mm} page {page}: writable pte on a page that is not exclusive"

    def _locks(self) -> Iterator[str]:
        """Every lock has the holders that it says, hence none when every task is idle."""
        s, m = self.s, self.m
        readers, writers, folios = Counter[int](), Counter[int](), Counter[int]()
        ptl, forking = Counter[int](), Counter[int]()
        for index, t in enumerate(self.tasks):
            phase, mm = s[t + st.T_PHASE], s[t + st.T_MM] - 1
            own = s[t + st.T_PROC] > 0
            for_mprotect = phase in (*_FAULT, ph.POPULATE) and self._statement(index) == "mprotect"
            beside = phase == ph.CLEAR_REFS_PTE and not m.k.clear_refs_excludes_faults()
            if beside:
                readers[mm] += 1
            elif phase in _WRITERS or for_mprotect or (phase == ph.ZAP_PTE and s[t + st.T_AUX]):
                writers[mm] += 1
            elif phase in _READERS or (phase in _RECLAIM and own) or phase == ph.ZAP_PTE or self._peeks(t):
                readers[mm] += 1
            if phase in _RECLAIM:
                folios[s[t + st.T_OLD]] = index + 1
            if phase == ph.DO_SWAP_PAGE_MAP:
                folios[s[t + st.T_NEW]] = index + 1
            if phase in (ph.COPY_PRESENT_PTE_SHARE, ph.CLEAR_REFS_PTE_WRPROTECT):
                ptl[mm] = s[t + st.T_PAGE] + 1
            if phase in (ph.COPY_PRESENT_PTE, ph.COPY_PRESENT_PTE_SHARE, ph.DUP_MMAP_END):
                forking[mm] += 1
        for mm in range(m.n_procs):
            at = st.mm_at(m, mm)
            wanted = st.MMAP_WRITER if writers[mm] else readers[mm]
            if s[at + st.MM_LOCK] != wanted or (writers[mm] and readers[mm]) or writers[mm] > 1:
                yield f"mm {mm}: mmap_lock {s[at + st.MM_LOCK]}, {readers[mm]} readers, {writers[mm]} writers"
            if s[at + st.MM_PTL] != ptl[mm]:
                yield f"mm {mm}: page-table lock {s[at + st.MM_PTL]}, held for {ptl[mm]}"
            if s[at + st.MM_WP_SEQ] % 2 != forking[mm] or bool(s[at + st.MM_FORKING]) != bool(forking[mm]):
                yield f"mm {mm}: fork's marks, {forking[mm]} forks"
        for frame, folio in self.frames():
            if s[folio + st.LOCKED] != folios[frame]:
                yield f"frame {frame}: locked by {s[folio + st.LOCKED]}, task {folios[frame]} has it"

    def _idle_tasks(self) -> Iterator[str]:
        """An idle task remembers nothing, and a held or untaken handle has no task at work on it."""
        s = self.s
        for index, t in enumerate(self.tasks):
            if not s[t + st.T_PHASE] and any(s[t + st.T_PHASE : t + st.TASK_SIZE]):
                yield f"task {index} is idle and remembers something"
        if any(held == st.TAKING for held, _, _, _ in self.handle_entries()) and not any(
            s[t + st.T_PHASE] for t in self.tasks
        ):
            yield "a handle is being taken by nobody"

    def _dead_memory(self) -> Iterator[str]:
        """Nothing is mapped in an mm that nobody runs on any more, or not yet, but for a child while it is forked."""
        s, m = self.s, self.m
        users = {s[p + st.P_MM] - 1 for p in range(m.procs, m.procs + m.n_procs * st.PROC_SIZE, st.PROC_SIZE)}
        users |= {s[st.mm_at(m, mm) + st.MM_FORKING] - 1 for mm in range(m.n_procs)}
        for mm, page, pte in self.ptes():
            if mm not in users and (any(s[pte : pte + st.PTE_SIZE]) or s[st.vma_at(m, mm, page)]):
                yield f"mm {mm} has gone and maps page {page}"
            if not s[st.vma_at(m, mm, page)] & st.VM_MAPPED and any(s[pte : pte + st.PTE_SIZE]):
                yield f"mm {mm}: page {page} has a pte and no mapping"
        for process in range(m.n_procs):
            at = m.procs + process * st.PROC_SIZE
            if (s[at + st.P_STATE] in (st.RUNNING, st.EXITING)) != bool(s[at + st.P_MM]):
                yield f"process {process}: no memory, or no process"


def wrong_pins(program: Program, m: Machine, s: bytes) -> list[str]:
    """v5.19 on: an anonymous page under a FOLL_PIN, whose owner has not let go of the range, is exclusive.

    The page cache and the zero page may be pinned as well, and are nobody's.
    """
    found = []
    for held, mode, frame, bound in Books(program, m, s).handle_entries():
        folio = st.folio_at(m, frame)
        pinned = held == st.HELD and mode & st.MODE_PIN and bound and s[folio + st.KIND] == st.ANON
        if m.k.tracks_exclusive() and pinned and not s[folio + st.EXCLUSIVE]:
            found.append(f"frame {frame} is pinned and not exclusive")
    return found

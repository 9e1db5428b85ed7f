"""Partial order: steps that commute with everything that the others may still do are taken alone.

Two steps of different actors that touch different things lead to the same state in either order. A search through all
interleavings looks at both orders, and at the states between them. Here, where one actor's next step commutes with
*whatever the others can ever do from now on*, that step alone is explored, and the others go on behind it.

**What it is.** A persistent set of one actor (Godefroid, "Partial-Order Methods for the Verification of Concurrent
Systems", 1996, chapter 4; a singleton of Valmari's stubborn sets, 1989; an ample set of Peled's, 1993): for state s and
actor A with next step t, no sequence of steps of others that begins in s contains one that t does not commute with, or
that enables or disables t. What the others can do at all is written down once for each program, statement by statement
(``explore.effects``); what of it could meet t is then asked of the state: a frame can be touched only by somebody to
whom the state gives its number, and whoever waits for A or for what only A can give does nothing before t.

**Why nothing is lost.** Let w be any sequence of steps from s to a state in which the test is over. It contains t: else
t could still be taken there. Nothing before t in w depends on t, so t can be moved to the front, and w has as many
steps as before. By induction over w, *every final state is found, at its exact distance*; so are claims, outcomes,
*balanced* and their shortest witnesses. A standing check may be broken in passing by a w without t; then t followed by
w breaks it as well, for t changes nothing that a check looks at (*visibility*), but that is one step longer. Whether
it is broken is found out here, how soon is not: a search that found something broken asks for the shortest way without
reduction (``explore.search``). For this part no actor may be put off for ever (the *cycle proviso*): each step taken
alone brings its own actor nearer to the end of its program and no other one back, so there are only so many of them in
a row; the kernel's own tasks alone can go round for ever, and they are never taken alone.

**Which steps** (:func:`goes_alone`; everywhere A must be the only one of its process who can act, and alone on its
memory, so that nobody can end it):

- ``post``; ``await`` of an event that nobody else awaits; ``wait``; the beginning of ``exit`` where nobody looks into
  the process from outside. A post can enable an await but never hinder one, and the other way round.
- a load that needs no fault, from a frame that nobody can write to any more, at a page that nobody can take away;
- a store that needs no fault, to a frame that nobody else knows;
- a page fault on private anonymous memory, by a load or a store, where nobody else knows the old frame and no pin is
  bound to the page (which is what *coherent* looks at);
- the copying of a page, whoever raised the fault, where nobody can write to the old one any more: it is referenced, so
  nobody can free it, and the new frame is known to nobody. Which frame it gets makes no difference (``canonical``);
- the installation of that copy, and the steps of a process's end, where nobody looks at the page table entries that
  go, and nobody at the counts of the frames that are let go: a step that only lets go does not;
- a DMA read through a pin that stays, from a frame that nobody can write to any more.

"Nobody can write to it" leaves out a process that maps the frame read-only as long as its write fault is sure to copy
it: see :func:`is_kept`.

Everything else is explored in every order: whatever takes ``mmap_lock`` for write, forks, pins, swaps, or counts
references that others hold. Swap slots have no canonical names, so swapping commutes with nothing.

The functions from :func:`goes_alone` on are compiled as well; see ``compiled.source`` for what they may use.
"""

from __future__ import annotations

from cowcatcher.mm.fault import access_allowed
from cowcatcher.mm.phases import EXEC_MMAP, EXIT_MMAP, START, WP_PAGE_COPY, WP_PAGE_COPY_INSTALL, ZAP_PTE
from cowcatcher.mm.zap import mm_users
from cowcatcher.state import (
    ANON,
    CROWD,
    EXCLUSIVE,
    EXITED,
    EXITING,
    HELD,
    KIND,
    LOCKED,
    LRU_BATCH,
    MODE_ODP,
    MODE_PIN,
    NO_PFN,
    OP_ARGS,
    P_MM,
    P_STATE,
    PIN_BOUND,
    PIN_HELD,
    PIN_MM,
    PIN_MODE,
    PIN_PAGE_SIZE,
    PIN_PAGES,
    PIN_PFN,
    PRESENT,
    PROC_SIZE,
    PTE_BITS,
    PTE_PFN,
    PTE_SIZE,
    PTE_SLOT,
    RUNNING,
    SWAPCACHE,
    T_MM,
    T_OLD,
    T_PAGE,
    T_PC,
    T_PHASE,
    T_PROC,
    TASK_SIZE,
    UNBORN,
    VM_MAPPED,
    VM_READ,
    VM_SHARED,
    WRITE,
    ZERO_PFN,
    Machine,
    State,
    current_op,
    folio_at,
    pin_at,
    pin_page_at,
    pte_at,
    task_index,
    vma_at,
)

#: What a statement's steps may be: never alone, alone as soon as they can be taken, or alone if the state allows it.
TOGETHER, ALWAYS, LOADS, STORES, DMA_READS = 0, 1, 2, 3, 4
#: ``Machine.alone``: one of these, and from this bit on the page.
PAGE_SHIFT = 4
#: ``Machine.waits``: for what the statement waits, and from this bit on the tasks that can give it.
WAITS_EVENT, WAITS_PROCESS, WAITS_SHIFT = 1, 2, 2
#: Where inside a statement a step can be taken alone.
ALONE_PHASES = (WP_PAGE_COPY, WP_PAGE_COPY_INSTALL, EXIT_MMAP)


def goes_alone(m: Machine, s: State, t: int) -> int:
    """May the next step of task ``t`` be explored alone, if it can be taken? ``t`` is none of the kernel's own."""
    phase = s[t + T_PHASE]
    idle = idle_without(m, s, t)
    if phase == WP_PAGE_COPY:
        # Somebody inside the kernel is not ended by anybody.
        return 0 if may_be_written(m, s, t, idle, s[t + T_MM] - 1, s[t + T_PAGE], s[t + T_OLD]) else 1
    if phase == EXIT_MMAP:
        return exit_goes_alone(m, s, t, idle)
    if phase == WP_PAGE_COPY_INSTALL:
        return install_goes_alone(m, s, t, idle)
    kind = m.alone[task_index(m, t)][s[t + T_PC]]
    page = kind >> PAGE_SHIFT
    kind = kind & 15
    if phase != START or kind == TOGETHER or not is_by_itself(m, s, t, idle, RUNNING):
        return 0
    if kind == ALWAYS:
        return 1
    if kind == DMA_READS:
        return dma_read_goes_alone(m, s, t, idle, page)
    return access_goes_alone(m, s, t, idle, page, 1 if kind == STORES else 0)


def is_by_itself(m: Machine, s: State, t: int, idle: int, running: int) -> int:
    """Can nobody end this task? It is a device's, or the last of a process that has its memory for itself."""
    process = s[t + T_PROC]
    if process == 0:
        return 1
    at = m.procs + (process - 1) * PROC_SIZE
    if s[at + P_STATE] != running or mm_users(m, s, s[at + P_MM] - 1) != 1:
        return 0
    for other in range(m.n_tasks):
        at = m.tasks + other * TASK_SIZE
        if at != t and s[at + T_PROC] == process and not (idle >> other) & 1:
            return 0
    return 1


def idle_without(m: Machine, s: State, t: int) -> int:
    """Tasks, a bit each, that do nothing until ``t`` has gone on: done with, or waiting for others who are such."""
    idle = 0
    before = -1
    while idle != before:
        before = idle
        for other in range(m.n_tasks):
            at = m.tasks + other * TASK_SIZE
            if at != t and not (idle >> other) & 1 and not awaited(m, s, at, other) & ~(idle | 1 << task_index(m, t)):
                idle |= 1 << other
    return idle


def awaited(m: Machine, s: State, t: int, index: int) -> int:
    """Tasks, a bit each, without one of which this one does nothing; itself, if it can go on by itself."""
    process = s[t + T_PROC]
    if process:
        state = s[m.procs + (process - 1) * PROC_SIZE + P_STATE]
        if state == EXITED:
            return 0
        if state == UNBORN:
            return m.born[index]
    pc = s[t + T_PC]
    if s[t + T_PHASE] != START:
        return 1 << index
    if pc >= len(m.programs[index]):
        return 0
    waits = 0 if m.vforks else m.waits[index][pc]  # who shares his memory may be ended by others
    if waits & WAITS_EVENT and s[m.events + current_op(m, s, t)[OP_ARGS]] == 0:
        return waits >> WAITS_SHIFT
    if waits & WAITS_PROCESS and s[m.procs + current_op(m, s, t)[OP_ARGS] * PROC_SIZE + P_STATE] != EXITED:
        return waits >> WAITS_SHIFT
    return 1 << index


def own_mm(m: Machine, s: State, t: int) -> int:
    """The memory of the task's process; -1 for a device."""
    process = s[t + T_PROC]
    return s[m.procs + (process - 1) * PROC_SIZE + P_MM] - 1 if process else -1


def access_goes_alone(m: Machine, s: State, t: int, idle: int, page: int, store: int) -> int:
    """A load's or a store's next step, on the task's own memory."""
    if may_be_reached(m, s, t, idle, page, store):
        return 0
    mm = own_mm(m, s, t)
    pte = pte_at(m, mm, page)
    vma = s[vma_at(m, mm, page)]
    pfn = s[pte + PTE_PFN]
    if s[pte + PTE_SLOT]:
        return 0
    if s[pte + PTE_BITS] & PRESENT:
        if not store:
            return 1 if vma & VM_READ and not may_be_written(m, s, t, idle, mm, page, pfn) else 0
        if s[pte + PTE_BITS] & WRITE:
            return 0 if is_known(m, s, t, pte, pfn) else 1
    # A fault, which may put another frame in the place of this one.
    if not access_allowed(m, s, mm, page, store) or vma & VM_SHARED or m.hugetlb[page] or s[m.cache + page]:
        return 0
    if may_be_reached(m, s, t, idle, page, 1):
        return 0
    return 0 if is_bound(m, s, mm, page) or is_known(m, s, t, pte, pfn) else 1


def install_goes_alone(m: Machine, s: State, t: int, idle: int) -> int:
    """The copy takes the old page's place: nobody looks at this entry, nor notices that the old page is let go."""
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    if not is_by_itself(m, s, t, idle, RUNNING) or mm != own_mm(m, s, t) or may_be_reached(m, s, t, idle, page, 0):
        return 0
    if is_bound(m, s, mm, page) or s[pte_at(m, mm, page) + PTE_PFN] != s[t + T_OLD]:
        return 0
    return 0 if is_missed(m, s, t, idle, page, s[t + T_OLD]) else 1


def exit_goes_alone(m: Machine, s: State, t: int, idle: int) -> int:
    """The next step of a process's end: the page zapped last is let go, the next one is zapped (see ``tear_down``)."""
    if not is_by_itself(m, s, t, idle, EXITING):
        return 0
    if is_missed(m, s, t, idle, page_of(m, s, s[t + T_OLD]), s[t + T_OLD]):
        return 0
    mm = own_mm(m, s, t)
    for page in range(m.n_pages):
        if s[vma_at(m, mm, page)] & VM_MAPPED:
            pte = pte_at(m, mm, page)
            if s[pte + PTE_SLOT] or is_bound(m, s, mm, page) or may_be_reached(m, s, t, idle, page, 0):
                return 0
            if s[pte + PTE_PFN] > ZERO_PFN:
                return 0 if is_missed(m, s, t, idle, page, s[pte + PTE_PFN]) else 1
    return 1


def page_of(m: Machine, s: State, pfn: int) -> int:
    """The page at which the frame is mapped, by whomever; -1 if there is none."""
    for i in range(m.n_procs * m.n_pages):
        if pfn and s[m.ptes + i * PTE_SIZE + PTE_PFN] == pfn:
            return i % m.n_pages
    return -1


def is_missed(m: Machine, s: State, t: int, idle: int, page: int, pfn: int) -> int:
    """May anybody else notice that ``t`` gives up its mapping of the frame, and its reference?

    He must look at the frame's counts, or use it by a pin that does not keep it: then it matters when it is freed.
    Others who give it up as well do not look. ``page`` as ``page_of`` says.
    """
    if pfn <= ZERO_PFN:
        return 0
    folio = folio_at(m, pfn)
    if s[folio + SWAPCACHE] or s[folio + LRU_BATCH] or s[folio + LOCKED]:
        return 1
    pinned = is_pinned_for_good(m, s, t, idle, page, pfn)
    named = 0
    for field in m.pfn_fields:
        if s[field] == pfn:
            if m.pins <= field < m.pins + m.n_pins * m.pin_size:
                named = 1
            elif is_at_work(m, s, t, field):
                return 1
    for other in range(m.n_tasks):
        at = m.tasks + other * TASK_SIZE
        if at == t or (idle >> other) & 1:
            continue
        pc = s[at + T_PC]
        if has_page(m.may_reach[other][pc], page) or (named and not pinned and has_page(m.may_hold[other][pc], page)):
            return 1
        looks = m.may_weigh[other][pc]
        if not pinned or not m.keeps_pinned:
            looks = looks | m.may_count[other][pc]
        if has_page(looks, page) and may_map(m, s, at, page, pfn):
            return 1
    return 0


def has_page(pages: int, page: int) -> int:
    """Is the page in the mask? One that is not known may be any."""
    if page < 0:
        return 1 if pages else 0
    return (pages >> page) & 1


def may_map(m: Machine, s: State, t: int, page: int, pfn: int) -> int:
    """Does the task's process map the frame, or might it, when it is born?"""
    process = s[t + T_PROC]
    if process == 0 or page < 0 or s[m.procs + (process - 1) * PROC_SIZE + P_STATE] == UNBORN:
        return 1
    mm = own_mm(m, s, t)
    return 1 if mm >= 0 and s[pte_at(m, mm, page) + PTE_PFN] == pfn else 0


def is_at_work(m: Machine, s: State, t: int, field: int) -> int:
    """Does this field belong to another task that does more with the frame than copy it and let go of it?"""
    if not m.tasks <= field < m.tasks + m.n_tasks * TASK_SIZE or t <= field < t + TASK_SIZE:
        return 0
    phase = s[m.tasks + (field - m.tasks) // TASK_SIZE * TASK_SIZE + T_PHASE]
    return 0 if phase in (WP_PAGE_COPY, WP_PAGE_COPY_INSTALL, ZAP_PTE, EXIT_MMAP, EXEC_MMAP) else 1


def is_pinned_for_good(m: Machine, s: State, t: int, idle: int, page: int, pfn: int) -> int:
    """Is there a pin on the frame that nobody else may give back?"""
    for pin in range(m.n_pins):
        handle = pin_at(m, pin)
        if s[handle + PIN_HELD] == HELD and s[handle + PIN_MODE] & MODE_PIN:
            for entry in range(handle + PIN_PAGES, handle + m.pin_size, PIN_PAGE_SIZE):
                if s[entry + PIN_PFN] == pfn:
                    for other in range(m.n_tasks):
                        at = m.tasks + other * TASK_SIZE
                        if at != t and not (idle >> other) & 1 and has_page(m.may_unpin[other][s[at + T_PC]], page):
                            return 0
                    return 1
    return 0


def is_kept(m: Machine, s: State, t: int, idle: int, mm: int, page: int, pfn: int) -> int:
    """Is a write fault by somebody else who maps the frame read-only sure to end with a copy, until ``t`` has gone on?

    Two page tables name it, the one at ``mm``, which is the task's own, stays as it is, and this kernel never takes
    such a page for anybody's own (``effects.keeps``). Or it is pinned for good, and this kernel does not take a pinned
    page for anybody's own.
    """
    folio = folio_at(m, pfn)
    if s[folio + KIND] != ANON or s[folio + EXCLUSIVE] or s[folio + CROWD] or s[folio + SWAPCACHE] or m.hugetlb[page]:
        return 0
    if m.vforks or may_be_reached(m, s, t, idle, page, 0):
        return 0
    if m.keeps_pinned and m.n_slots == 0 and is_pinned_for_good(m, s, t, idle, page, pfn):
        return 1
    if not m.keeps_shared or mm < 0 or mm != own_mm(m, s, t) or not is_by_itself(m, s, t, idle, RUNNING):
        return 0
    return 1 if s[pte_at(m, mm, page) + PTE_PFN] == pfn else 0


def may_be_reached(m: Machine, s: State, t: int, idle: int, page: int, held: int) -> int:
    """May anybody else yet change this page in a page table that is not his own? ``held``: or use a pin on it?"""
    for other in range(m.n_tasks):
        at = m.tasks + other * TASK_SIZE
        if at != t and not (idle >> other) & 1:
            pages = m.may_reach[other][s[at + T_PC]]
            if held:
                pages = pages | m.may_hold[other][s[at + T_PC]]
            if (pages >> page) & 1:
                return 1
    return 0


def is_known(m: Machine, s: State, t: int, pte: int, pfn: int) -> int:
    """Does anybody but task ``t`` and this entry of its page table know the frame? Nobody uses a pin of it any more.

    Who does not know its number cannot come by it, but from these. The zero page's is known to all, and of no use.
    """
    if pfn <= ZERO_PFN:
        return 0
    for field in m.pfn_fields:
        own = field == pte + PTE_PFN or t <= field < t + TASK_SIZE
        if s[field] == pfn and not own and not m.pins <= field < m.pins + m.n_pins * m.pin_size:
            return 1
    return 0


def is_bound(m: Machine, s: State, mm: int, page: int) -> int:
    """Is any pin bound to this page of this memory?"""
    for pin in range(m.n_pins):
        handle = pin_at(m, pin)
        if s[handle + PIN_MM] == mm + 1:
            for entry in range(handle + PIN_PAGES, handle + m.pin_size, PIN_PAGE_SIZE):
                if s[entry + PIN_BOUND] == page + 1:
                    return 1
    return 0


def may_be_written(m: Machine, s: State, t: int, idle: int, mm: int, page: int, pfn: int) -> int:
    """May anybody else yet write to this frame, or take it out of page table ``mm``, by which ``t`` goes?

    He must write at this page (a page has one name in all processes that share it), and know the frame: by his page
    table, by the page cache or the swap cache; as a device, by a pin; or, if not yet born, by inheritance.
    """
    through = 0
    for field in m.pfn_fields:
        if s[field] == pfn and pfn != ZERO_PFN:
            if is_at_work(m, s, t, field):
                return 1
            if m.cache <= field < m.tasks:  # the page cache and the swap cache
                through = 1
    kept = 0 if pfn == ZERO_PFN else is_kept(m, s, t, idle, mm, page, pfn)
    for other in range(m.n_tasks):
        at = m.tasks + other * TASK_SIZE
        if at == t or (idle >> other) & 1:
            continue
        pages = m.may_write[other][s[at + T_PC]]
        if pfn == ZERO_PFN and pages:
            return 1
        if not (pages >> page) & 1:
            continue
        if through or s[at + T_PROC] == 0 or (m.may_reach[other][s[at + T_PC]] >> page) & 1:
            return 1
        if may_map(m, s, at, page, pfn):
            theirs = own_mm(m, s, at)
            if not kept or theirs == mm or (theirs >= 0 and s[pte_at(m, theirs, page) + PTE_BITS] & WRITE):
                return 1
    return 0


def dma_read_goes_alone(m: Machine, s: State, t: int, idle: int, page: int) -> int:
    """A device reads what it has pinned; the pin, what it is bound to, and the contents stay as they are."""
    op = current_op(m, s, t)
    handle = pin_at(m, op[OP_ARGS])
    if s[handle + PIN_HELD] != HELD or s[handle + PIN_MODE] & MODE_ODP:
        return 0
    pfn = s[pin_page_at(m, op[OP_ARGS], op[OP_ARGS + 1]) + PIN_PFN]
    if pfn == NO_PFN or may_be_written(m, s, t, idle, -1, page, pfn):
        return 0
    for other in range(m.n_tasks):
        at = m.tasks + other * TASK_SIZE
        if at == t or (idle >> other) & 1:
            continue
        if (m.may_unpin[other][s[at + T_PC]] >> page) & 1:
            return 0
        if s[at + T_PROC] and may_unbind_from(m, s, at, page, s[handle + PIN_MM]):
            return 0
    return 1


def may_unbind_from(m: Machine, s: State, t: int, page: int, mm: int) -> int:
    """May this task of a process yet take the page from memory number ``mm``, or write there, to whichever frame?

    Then what the memory's owner inherited there is forgotten. Whoever is about to end will take all. One that is not
    yet born may come to live there, by vfork.
    """
    process = m.procs + (s[t + T_PROC] - 1) * PROC_SIZE
    if s[process + P_STATE] != UNBORN and s[process + P_MM] != mm:
        return 0
    if s[process + P_STATE] == EXITING:
        return 1
    index = task_index(m, t)
    return ((m.may_unbind[index][s[t + T_PC]] | m.may_write[index][s[t + T_PC]]) >> page) & 1

"""kernel/fork.c and the fork half of mm/memory.c: the child's address space, one pte at a time.

fork shares every private page: both ptes lose their write bit, and whoever writes first gets a copy. That is fine for
two processes and wrong for a process and a device, because the device keeps the old page whoever leaves it. Kernels
since 5.9 therefore copy a pinned page for the child at once and leave the parent's pte alone; the question is only
how they know that it is pinned, and what happens if the pin arrives while they look.
"""

from __future__ import annotations

from cowcatcher.mm import page as pg
from cowcatcher.mm.fault import map_new_anon, set_pte
from cowcatcher.mm.phases import (
    BLOCKED,
    COPY_PRESENT_PTE,
    COPY_PRESENT_PTE_SHARE,
    DUP_MMAP_END,
    RAN,
    VFORK_WAIT,
)
from cowcatcher.mm.task import finish, mmap_write_trylock, mmap_write_unlock
from cowcatcher.state import *


def fork(m: Machine, s: State, t: int) -> int:
    """dup_mmap(): mmap_lock for write, the child's VMAs, then every page table entry.

    ``write_protect_seq`` is odd while entries are copied. The kernel opens and closes that section once per VMA;
    here it spans them all, which GUP-fast cannot tell apart for a page whose VMA is being copied.
    """
    child = current_op(m, s, t)[OP_ARGS]
    mm = current_mm(m, s, t)
    if mmap_write_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    at, child_mm = mm_at(m, mm), mm_at(m, child)
    s[at + MM_WP_SEQ] = (s[at + MM_WP_SEQ] + 1) % 256
    s[at + MM_FORKING] = child + 1
    s[child_mm + MM_PARENT] = mm + 1
    s[child_mm + MM_BORN] = s[at + MM_EPOCH]
    for page in range(m.n_pages):
        flags = s[vma_at(m, mm, page)]
        if flags & VM_MAPPED and not flags & VM_DONTCOPY:
            s[vma_at(m, child, page)] = flags & ~VM_LOCKED
            if flags & VM_WIPEONFORK:
                inherit_zeroes(m, s, child, page)
    s[t + T_MM] = mm + 1
    next_page(m, s, t, 0)
    return RAN


def next_page(m: Machine, s: State, t: int, page: int) -> None:
    """On to the next pte that the child needs a copy of: private, mapped in the child, not wiped, not empty."""
    mm = s[t + T_MM] - 1
    child = s[mm_at(m, mm) + MM_FORKING] - 1
    while page < m.n_pages:
        flags = s[vma_at(m, child, page)]
        pte = pte_at(m, mm, page)
        if flags & VM_MAPPED and not flags & (VM_SHARED | VM_WIPEONFORK):
            filled = s[pte + PTE_SLOT] or s[pte + PTE_BITS] & PRESENT
            if filled and vma_needs_copy(m, s, mm, page):
                break
            inherit_zeroes_unless_backed(m, s, child, page)
        page += 1
    s[t + T_PAGE] = page
    s[t + T_PHASE] = COPY_PRESENT_PTE if page < m.n_pages else DUP_MMAP_END


def vma_needs_copy(m: Machine, s: State, mm: int, page: int) -> int:
    """Without an anonymous page in it, a mapping holds nothing that the child's own faults would not find again.

    The kernel asks for an anon_vma, which stays when the last anonymous page has gone; ptes that could as well be left
    out are copied then, and that is all the difference.
    """
    first, end = m.regions[page]
    for other in range(first, end):
        pte = pte_at(m, mm, other)
        if s[pte + PTE_SLOT]:
            return 1
        if s[pte + PTE_BITS] & PRESENT and s[folio_at(m, s[pte + PTE_PFN]) + KIND] == ANON:
            return 1
    return 0


def copy_present_pte(m: Machine, s: State, t: int) -> int:
    """Both page-table locks held. Does this page need its own copy in the child? If not, sharing it is the next step.

    The test and the write-protection are separate steps: GUP-fast takes no lock and may pin in between. Only
    write_protect_seq makes it notice.
    """
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    at = mm_at(m, mm)
    child = s[at + MM_FORKING] - 1
    pte = pte_at(m, mm, page)
    if s[pte + PTE_SLOT]:
        copy_nonpresent_pte(m, s, mm, child, page)
        next_page(m, s, t, page + 1)
        return RAN
    if not s[pte + PTE_BITS] & PRESENT:  # reclaim was quicker (an MADV_FREE page)
        next_page(m, s, t, page)
        return RAN
    folio = folio_at(m, s[pte + PTE_PFN])
    if s[folio + KIND] == ANON:
        has_pinned = s[at + MM_HAS_PINNED]
        pinned = pg.folio_maybe_dma_pinned(s, folio)
        if m.k.fork_leaves_out(has_pinned, pinned) and not m.hugetlb[page]:
            s[vma_at(m, child, page)] = 0
            next_page(m, s, t, page + 1)
            return RAN
        looks = not m.hugetlb[page] or m.k.hugetlb_fork_copies_pinned()
        if looks and m.k.fork_copies_now(has_pinned, pinned, s[folio + EXCLUSIVE]):
            copy_present_page(m, s, folio, child, page)
            next_page(m, s, t, page + 1)
            return RAN
        s[folio + EXCLUSIVE] = 0  # folio_try_dup_anon_rmap_pte(): from here on two page tables may name it
    s[at + MM_PTL] = page + 1
    s[t + T_PHASE] = COPY_PRESENT_PTE_SHARE
    return RAN


def copy_present_page(m: Machine, s: State, folio: int, child: int, page: int) -> None:
    """The child's own copy, now; the parent's pte stays exactly as it was."""
    pfn = pg.alloc_folio(m, s, ANON)
    pg.copy_contents(m, s, folio, folio_at(m, pfn))
    map_new_anon(m, s, pte_at(m, child, page), pfn, s[vma_at(m, child, page)], FAULT_WRITE)
    if m.hugetlb[page] and not m.k.hugetlb_copy_obeys_vma():
        s[pte_at(m, child, page) + PTE_BITS] |= WRITE
    inherit_contents(m, s, child, page, folio + DATA)  # its own copy is not MADV_FREE's any more


def copy_present_pte_share(m: Machine, s: State, t: int) -> int:
    """Same critical section, later: write-protect the parent's pte, give the child the same one."""
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    child = s[mm_at(m, mm) + MM_FORKING] - 1
    pte = pte_at(m, mm, page)
    pfn = s[pte + PTE_PFN]
    s[pte + PTE_BITS] &= ~WRITE
    set_pte(s, pte_at(m, child, page), pfn, s[pte + PTE_BITS] & ~UFFD_WP)  # nobody listens for the child
    folio = folio_at(m, pfn)
    if pfn != ZERO_PFN:
        pg.folio_get(s, folio)
        s[folio + MAPCOUNT] += 1
    s[mm_at(m, mm) + MM_PTL] = 0
    if not s[folio + LAZYFREE] or s[folio + DIRTY_FOLIO] or s[pte + PTE_BITS] & DIRTY:
        inherit_contents(m, s, child, page, folio + DATA)  # else MADV_FREE allows that it is gone when the child looks
    next_page(m, s, t, page + 1)
    return RAN


def copy_nonpresent_pte(m: Machine, s: State, mm: int, child: int, page: int) -> None:
    """A swap entry is duplicated, and exclusive in neither page table any more."""
    pte, child_pte = pte_at(m, mm, page), pte_at(m, child, page)
    slot = slot_at(m, s[pte + PTE_SLOT] - 1)
    s[slot + SLOT_COUNT] += 1
    s[pte + PTE_BITS] &= ~SWP_EXCLUSIVE
    s[child_pte + PTE_SLOT] = s[pte + PTE_SLOT]
    s[child_pte + PTE_BITS] = s[pte + PTE_BITS] & ~UFFD_WP
    cached = s[slot + SLOT_PFN]
    inherit_contents(m, s, child, page, folio_at(m, cached) + DATA if cached else slot + SLOT_DATA)


def dup_mmap_end(m: Machine, s: State, t: int) -> int:
    """The page tables are copied: locks dropped, TLB flushed, the child may run."""
    mm = s[t + T_MM] - 1
    at = mm_at(m, mm)
    child = s[at + MM_FORKING] - 1
    s[at + MM_WP_SEQ] = (s[at + MM_WP_SEQ] + 1) % 256
    s[at + MM_FORKING] = 0
    s[at + MM_EPOCH] += 1
    mmap_write_unlock(m, s, mm)
    process = m.procs + child * PROC_SIZE
    s[process + P_STATE] = RUNNING
    s[process + P_MM] = child + 1
    return finish(m, s, t, OK)


# --- vfork ----------------------------------------------------------------------------------------------------------


def vfork(m: Machine, s: State, t: int) -> int:
    """CLONE_VM|CLONE_VFORK: the child runs on the parent's own mm, the parent waits. Nothing is copied or protected."""
    child = current_op(m, s, t)[OP_ARGS]
    process = m.procs + child * PROC_SIZE
    s[process + P_STATE] = RUNNING
    s[process + P_MM] = s[m.procs + (s[t + T_PROC] - 1) * PROC_SIZE + P_MM]
    s[t + T_PHASE] = VFORK_WAIT
    return RAN


def vfork_wait(m: Machine, s: State, t: int) -> int:
    """Until the child has let go of the mm, by exec or exit."""
    child = m.procs + current_op(m, s, t)[OP_ARGS] * PROC_SIZE
    parent = m.procs + (s[t + T_PROC] - 1) * PROC_SIZE
    if s[child + P_STATE] != EXITED and s[child + P_MM] == s[parent + P_MM]:
        return BLOCKED
    return finish(m, s, t, OK)


# --- ghosts: what the child inherits ----------------------------------------------------------------------------------


def inherit_contents(m: Machine, s: State, child: int, page: int, data: int) -> None:
    """Remember the values at ``data`` (offset of value, signature pairs) as what the child must find."""
    for cell in range(m.n_cells):
        s[pg.inherited_at(m, child, page, cell)] = 1 + s[data + 2 * cell]


def inherit_zeroes(m: Machine, s: State, child: int, page: int) -> None:
    for cell in range(m.n_cells):
        s[pg.inherited_at(m, child, page, cell)] = 1


def inherit_zeroes_unless_backed(m: Machine, s: State, child: int, page: int) -> None:
    """An untouched anonymous page is zero for the child too; an untouched file page is whatever the file has."""
    if not s[m.cache + page]:
        inherit_zeroes(m, s, child, page)

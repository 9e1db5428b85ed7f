"""mm/mprotect.c, userfaultfd's use of it, and fs/proc/task_mmu.c's clear_refs: write permission taken and given."""

from __future__ import annotations

from cowcatcher.mm import page as pg
from cowcatcher.mm.fault import soft_dirty_wanted
from cowcatcher.mm.mlock import FOR_MPROTECT
from cowcatcher.mm.phases import (
    BLOCKED,
    CLEAR_REFS_PTE,
    CLEAR_REFS_PTE_WRPROTECT,
    MPROTECT_PTE,
    POPULATE,
    RAN,
    UFFD_WP_PTE,
)
from cowcatcher.mm.task import (
    begin_on_pages,
    finish,
    mmap_read_trylock,
    mmap_unlock,
    mmap_write_trylock,
    mmap_write_unlock,
)
from cowcatcher.state import *


def mprotect(m: Machine, s: State, t: int) -> int:
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    if mmap_write_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    begin_on_pages(s, t, mm, op[OP_ARGS], op[OP_ARGS + 1], MPROTECT_PTE)
    return change_pte_range(m, s, t)


def change_pte_range(m: Machine, s: State, t: int) -> int:
    """One page: the VMA's flags and the pte together (only the page table is looked at without mmap_lock).

    A private pte never becomes writable from its protection alone, since nobody has checked that the page is this
    process's own; kernels that can tell spare the fault.
    """
    prot = current_op(m, s, t)[OP_ARGS + 2]
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    vma = vma_at(m, mm, page)
    if not s[vma] & VM_MAPPED:
        mmap_write_unlock(m, s, mm)
        return finish(m, s, t, ENOMEM)
    if s[vma] & VM_LOCKED and prot & VM_WRITE and not s[vma] & (VM_WRITE | VM_SHARED):
        s[t + T_AUX] = 1
    s[vma] = s[vma] & ~(VM_READ | VM_WRITE) | prot
    pte = pte_at(m, mm, page)
    if s[pte + PTE_BITS] & PRESENT and not s[pte + PTE_SLOT]:
        if not prot & VM_WRITE:
            s[pte + PTE_BITS] &= ~WRITE
        elif s[vma] & VM_SHARED or (not m.hugetlb[page] and can_change_private_pte_writable(m, s, pte, s[vma])):
            s[pte + PTE_BITS] |= WRITE
    s[t + T_PAGE] = page + 1
    if page + 1 < s[t + T_END]:
        return RAN
    if s[t + T_AUX]:  # locked memory that becomes writable is made the process's own at once, to avoid the fault later
        begin_on_pages(s, t, mm, current_op(m, s, t)[OP_ARGS], page + 1, POPULATE)
        s[t + T_MODE] = FOR_MPROTECT
        s[t + T_AUX] = 0
        return RAN
    mmap_write_unlock(m, s, mm)
    return finish(m, s, t, OK)


def can_change_private_pte_writable(m: Machine, s: State, pte: int, vma: int) -> int:
    bits = s[pte + PTE_BITS]
    folio = folio_at(m, s[pte + PTE_PFN])
    if s[folio + KIND] != ANON or bits & UFFD_WP or soft_dirty_wanted(vma, bits):
        return 0
    return m.k.mprotect_restores_write(s[folio + EXCLUSIVE], 1 if bits & DIRTY else 0)


def uffd_writeprotect(m: Machine, s: State, t: int) -> int:
    """UFFDIO_REGISTER and UFFDIO_WRITEPROTECT, or its end. Operands: first page, end, 1 to protect.

    Only anonymous memory, which is all that 5.7 to 5.18 know how to protect.
    """
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    for page in range(op[OP_ARGS], op[OP_ARGS + 1]):
        vma = s[vma_at(m, mm, page)]
        if not vma & VM_MAPPED or vma & VM_SHARED or s[m.cache + page]:
            return finish(m, s, t, EINVAL)
    if mmap_read_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    begin_on_pages(s, t, mm, op[OP_ARGS], op[OP_ARGS + 1], UFFD_WP_PTE)
    return uffd_wp_pte(m, s, t)


def uffd_wp_pte(m: Machine, s: State, t: int) -> int:
    """change_pte_range(MM_CP_UFFD_WP or MM_CP_UFFD_WP_RESOLVE), one page. An empty pte has nothing to mark.

    Resolved, the pte stays read-only, and the next write faults as after fork; or the kernel tries to spare that fault,
    as it does in mprotect().
    """
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    pte = pte_at(m, mm, page)
    if current_op(m, s, t)[OP_ARGS + 2] == 0:
        s[pte + PTE_BITS] &= ~UFFD_WP
        vma = s[vma_at(m, mm, page)]
        present = s[pte + PTE_BITS] & PRESENT and vma & VM_WRITE and not m.hugetlb[page]
        if present and m.k.uffd_resolve_restores_write() and can_change_private_pte_writable(m, s, pte, vma):
            s[pte + PTE_BITS] |= WRITE
    elif s[pte + PTE_SLOT] or s[pte + PTE_BITS] & PRESENT:
        s[pte + PTE_BITS] = s[pte + PTE_BITS] & ~WRITE | UFFD_WP
    s[t + T_PAGE] = page + 1
    if page + 1 < s[t + T_END]:
        return RAN
    mmap_unlock(m, s, mm)
    return finish(m, s, t, OK)


def clear_refs(m: Machine, s: State, t: int) -> int:
    """echo 4 > /proc/self/clear_refs: every pte loses soft-dirty bit and write permission, to see the next write."""
    mm = current_mm(m, s, t)
    if m.k.clear_refs_excludes_faults():
        locked = mmap_write_trylock(m, s, mm)
    else:
        locked = mmap_read_trylock(m, s, mm)
    if locked == BLOCKED:
        return BLOCKED
    begin_on_pages(s, t, mm, 0, m.n_pages, CLEAR_REFS_PTE)
    return clear_refs_pte(m, s, t)


def clear_refs_pte(m: Machine, s: State, t: int) -> int:
    """Under the page-table lock: is the page pinned? A pin that comes after the look is not noticed."""
    mm = s[t + T_MM] - 1
    page = s[t + T_PAGE]
    while page < m.n_pages:
        vma, pte = vma_at(m, mm, page), pte_at(m, mm, page)
        s[vma] &= ~VM_SOFTDIRTY
        bits = s[pte + PTE_BITS]
        if not bits & PRESENT:
            s[pte + PTE_BITS] &= ~SOFT_DIRTY
        elif not m.hugetlb[page] and not skips(m, s, mm, vma, pte):
            s[t + T_PAGE] = page
            if s[mm_at(m, mm) + MM_LOCK] != MMAP_WRITER:
                # Kernels that let faults run meanwhile do not look for pins, so nothing is lost by one step, and the
                # page-table lock that it stands for keeps the faults out.
                s[pte + PTE_BITS] &= ~(WRITE | SOFT_DIRTY)
                s[t + T_PAGE] = page + 1
                s[t + T_PHASE] = CLEAR_REFS_PTE
                return RAN
            s[t + T_PHASE] = CLEAR_REFS_PTE_WRPROTECT
            s[mm_at(m, mm) + MM_PTL] = page + 1
            return RAN
        page += 1
    mmap_unlock(m, s, mm)
    return finish(m, s, t, OK)


def skips(m: Machine, s: State, mm: int, vma: int, pte: int) -> int:
    """pte_is_pinned()."""
    folio = folio_at(m, s[pte + PTE_PFN])
    if s[vma] & VM_SHARED or s[folio + KIND] != ANON:
        return 0
    return m.k.clear_refs_skips(
        s[mm_at(m, mm) + MM_HAS_PINNED], pg.folio_maybe_dma_pinned(s, folio), 1 if s[pte + PTE_BITS] & WRITE else 0
    )


def clear_refs_pte_wrprotect(m: Machine, s: State, t: int) -> int:
    mm = s[t + T_MM] - 1
    s[pte_at(m, mm, s[t + T_PAGE]) + PTE_BITS] &= ~(WRITE | SOFT_DIRTY)
    s[mm_at(m, mm) + MM_PTL] = 0
    s[t + T_PAGE] += 1
    s[t + T_PHASE] = CLEAR_REFS_PTE
    return clear_refs_pte(m, s, t)

"""mm/madvise.c, and mremap: advice that changes the VMA, and advice that is an order."""

from __future__ import annotations

from cowcatcher.mm import page as pg
from cowcatcher.mm import swap
from cowcatcher.mm.phases import BLOCKED, MADVISE_FREE_PTE, RAN
from cowcatcher.mm.task import begin_on_pages, finish, mmap_read_trylock, mmap_unlock
from cowcatcher.state import *


def madvise_vma(m: Machine, s: State, t: int) -> int:
    """MADV_DONTFORK, DOFORK, WIPEONFORK, KEEPONFORK: a flag of the VMA, under mmap_lock for write; no pte is touched.

    Operands: first page, end, flags to set, flags to clear. Advice that has no effect on small pages passes neither.
    """
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    if s[mm_at(m, mm) + MM_LOCK]:
        return BLOCKED
    first, end, on, off = op[OP_ARGS], op[OP_ARGS + 1], op[OP_ARGS + 2], op[OP_ARGS + 3]
    result = OK
    for page in range(first, end):
        vma = vma_at(m, mm, page)
        if not s[vma] & VM_MAPPED:
            result = ENOMEM  # reported at the end; what is mapped is advised all the same
        elif on & VM_WIPEONFORK and (s[vma] & VM_SHARED or s[m.cache + page]):
            return finish(m, s, t, EINVAL)  # private anonymous memory only
        else:
            s[vma] = (s[vma] | on) & ~off
    return finish(m, s, t, result)


def mremap(m: Machine, s: State, t: int) -> int:
    """move_page_tables(): every pte moves as it is, pinned or not. The name follows the mapping, so nothing else
    changes.

    Only somebody who knows the page by its address notices: an on-demand-paging region still covers the old one.
    """
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    if s[mm_at(m, mm) + MM_LOCK]:
        return BLOCKED
    for page in range(op[OP_ARGS], op[OP_ARGS + 1]):
        if not s[vma_at(m, mm, page)] & VM_MAPPED:
            return finish(m, s, t, EFAULT)
        for pin in range(m.n_pins):
            handle = pin_at(m, pin)
            if s[handle + PIN_MM] == mm + 1 and s[handle + PIN_MODE] & MODE_ODP:
                for entry in range(handle + PIN_PAGES, handle + m.pin_size, PIN_PAGE_SIZE):
                    if s[entry + PIN_BOUND] == page + 1:
                        s[entry + PIN_BOUND] = 0
        s[pte_at(m, mm, page) + PTE_BITS] &= ~UFFD_WP  # mremap_userfaultfd_prep(): the new place is not registered
    return finish(m, s, t, OK)


def madvise_free(m: Machine, s: State, t: int) -> int:
    """MADV_FREE: the contents may be thrown away unless written again."""
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    if mmap_read_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    begin_on_pages(s, t, mm, op[OP_ARGS], op[OP_ARGS + 1], MADVISE_FREE_PTE)
    return madvise_free_pte(m, s, t)


def madvise_free_pte(m: Machine, s: State, t: int) -> int:
    """One pte: clean now, its page without swap backing. T_ERROR: the error of a hole, reported at the end."""
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    vma = s[vma_at(m, mm, page)]
    if vma & VM_MAPPED and (vma & (VM_SHARED | VM_LOCKED) or s[m.cache + page]):
        mmap_unlock(m, s, mm)
        return finish(m, s, t, EINVAL)  # private anonymous memory that may be reclaimed, only
    if vma & VM_MAPPED:
        free_pte(m, s, mm, page)
    else:
        s[t + T_ERROR] = ENOMEM
    s[t + T_PAGE] = page + 1
    if page + 1 < s[t + T_END]:
        return RAN
    mmap_unlock(m, s, mm)
    return finish(m, s, t, s[t + T_ERROR] or OK)


def free_pte(m: Machine, s: State, mm: int, page: int) -> None:
    """Under the page-table lock. A swapped page is given up at once.

    A page that other processes map is given up too, by this pte: theirs still say that it is dirty, which keeps it.
    Only if the page itself is dirty, or in the swap cache, it must be this process's alone for that to be taken back.
    """
    pte = pte_at(m, mm, page)
    pg.forget_inherited(m, s, mm, page)
    if s[pte + PTE_SLOT]:
        swap.swap_free(m, s, s[pte + PTE_SLOT] - 1)
        s[pte + PTE_SLOT] = s[pte + PTE_BITS] = 0
    elif s[pte + PTE_BITS] & PRESENT:
        folio = folio_at(m, s[pte + PTE_PFN])
        if s[folio + KIND] != ANON:
            return
        if s[folio + SWAPCACHE] or s[folio + DIRTY_FOLIO]:
            if pg.folio_mapcount(s, folio) != 1 or s[folio + LOCKED]:
                return
            swap.try_to_free_swap(m, s, folio)
            if s[folio + SWAPCACHE]:
                return
            s[folio + DIRTY_FOLIO] = 0
        if not pg.folio_mlocked(m, s, s[pte + PTE_PFN]):  # folio_mark_lazyfree() leaves unevictable pages alone
            s[folio + LAZYFREE] = 1
        s[pte + PTE_BITS] &= ~DIRTY

"""mm/vmscan.c: an anonymous page is taken from everybody who maps it, and freed if nobody else holds it.

The order is what matters: look at the page (is it pinned?), give it a place in the swap cache, replace every pte by
a swap entry, and only then count references. A page with a reference too many stays in the swap cache, unmapped: its
users find the same page again when they touch it, if the swap-in decides so.
"""

from __future__ import annotations

from cowcatcher.mm import page as pg
from cowcatcher.mm import swap
from cowcatcher.mm.fault import lru_add_drain, page_remove_rmap
from cowcatcher.mm.phases import ADD_TO_SWAP, BLOCKED, PAGEOUT, RAN, SHRINK_FOLIO, TRY_TO_UNMAP
from cowcatcher.mm.task import begin_on_pages, clear_scratch, finish, mmap_read_trylock, mmap_read_unlock
from cowcatcher.state import *


def kernel_reclaim(m: Machine, s: State, t: int) -> int:
    """``kernel may reclaim``: pick the page that mm ``a`` maps at ``page``; nothing happens if it is not to be had."""
    op = current_op(m, s, t)
    s[t + T_PAGE] = op[OP_ARGS + 1]
    return RAN if isolate(m, s, t, op[OP_ARGS]) else BLOCKED


def madvise_pageout(m: Machine, s: State, t: int) -> int:
    """MADV_PAGEOUT: reclaim at once what only this process maps; the rest is left alone without an error."""
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    if mmap_read_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    begin_on_pages(s, t, mm, op[OP_ARGS], op[OP_ARGS + 1], SHRINK_FOLIO)
    return shrink_next(m, s, t)


def shrink_next(m: Machine, s: State, t: int) -> int:
    """The next page of a MADV_PAGEOUT that can be isolated; the end of the call when there is none."""
    mm = s[t + T_MM] - 1
    while s[t + T_PAGE] < s[t + T_END]:
        page = s[t + T_PAGE]
        vma = s[vma_at(m, mm, page)]
        if vma & VM_LOCKED:
            mmap_read_unlock(m, s, mm)
            return finish(m, s, t, EINVAL)
        if not vma & VM_MAPPED:
            s[t + T_ERROR] = ENOMEM  # reported at the end
        pte = pte_at(m, mm, page)
        if s[pte + PTE_BITS] & PRESENT:
            folio = folio_at(m, s[pte + PTE_PFN])
            lru_add_drain(m, s, folio)
            if pg.folio_mapcount(s, folio) == 1 and isolate(m, s, t, mm):
                return RAN
        s[t + T_PAGE] = page + 1
    mmap_read_unlock(m, s, mm)
    return finish(m, s, t, s[t + T_ERROR] or OK)


def isolate(m: Machine, s: State, t: int, mm: int) -> int:
    """folio_isolate_lru() and the first half of shrink_folio_list(): reference, folio lock, "may it go at all?".

    0 when the page is not a candidate: not on the LRU, locked, mlocked, hugetlb, not anonymous, pinned, mapped by
    a crowd whose page tables are not modelled.
    """
    pte = pte_at(m, mm, s[t + T_PAGE])
    if not s[pte + PTE_BITS] & PRESENT or s[vma_at(m, mm, s[t + T_PAGE])] & VM_LOCKED or m.hugetlb[s[t + T_PAGE]]:
        return 0
    pfn = s[pte + PTE_PFN]
    folio = folio_at(m, pfn)
    if s[folio + KIND] != ANON or s[folio + LOCKED] or s[folio + LRU_BATCH] or s[folio + CROWD] or m.n_slots == 0:
        return 0
    swapcache = 1 if s[folio + SWAPCACHE] else 0
    if not s[folio + LAZYFREE] and m.k.reclaim_keeps(pg.folio_maybe_dma_pinned(s, folio), swapcache):
        return 0
    pg.folio_get(s, folio)
    s[folio + LOCKED] = task_index(m, t) + 1
    s[t + T_OLD] = pfn
    s[t + T_AUX] = 0
    s[t + T_PHASE] = TRY_TO_UNMAP if swapcache or s[folio + LAZYFREE] else ADD_TO_SWAP
    return 1


def add_to_swap(m: Machine, s: State, t: int) -> int:
    """A slot and the swap cache's reference. The pin test is over; a pin may still come."""
    folio = folio_at(m, s[t + T_OLD])
    number = swap.get_swap_slot(m, s)
    s[slot_at(m, number) + SLOT_PFN] = s[t + T_OLD]
    s[folio + SWAPCACHE] = number + 1
    s[folio + REFS] += 1
    s[folio + DIRTY_FOLIO] = 1
    s[t + T_PHASE] = TRY_TO_UNMAP
    return RAN


def try_to_unmap_one(m: Machine, s: State, t: int) -> int:
    """One pte that maps the page becomes a swap entry, under its page-table lock; the rmap walk goes on with the next.

    The kernel clears the pte, flushes, looks for pins and then decides. GUP-fast takes its reference before its
    second look at the pte, so either the pin is seen here or the second look fails: one step is exact.
    """
    pfn = s[t + T_OLD]
    folio = folio_at(m, pfn)
    mm = s[t + T_AUX]
    while mm < m.n_procs and not maps(m, s, mm, s[t + T_PAGE], pfn):
        mm += 1
    if mm == m.n_procs:
        s[t + T_PHASE] = PAGEOUT
        return pageout(m, s, t)
    s[t + T_AUX] = mm
    if s[mm_at(m, mm) + MM_PTL]:
        return BLOCKED
    pte = pte_at(m, mm, s[t + T_PAGE])
    bits = s[pte + PTE_BITS]
    if s[vma_at(m, mm, s[t + T_PAGE])] & VM_LOCKED:
        return keep_folio(m, s, t)
    if bits & DIRTY:  # said before the pte is gone, and it stays so if the pte comes back
        s[folio + DIRTY_FOLIO] = 1
    if s[folio + LAZYFREE]:
        return discard_lazyfree(m, s, t, pte, pfn)
    if m.k.unmap_refuses(pg.folio_maybe_dma_pinned(s, folio), s[folio + EXCLUSIVE]):
        return keep_folio(m, s, t)
    remember = SWP_EXCLUSIVE if s[folio + EXCLUSIVE] and m.k.swap_entry_remembers_exclusive() else 0
    s[folio + EXCLUSIVE] = 0
    slot_number = s[folio + SWAPCACHE] - 1
    s[slot_at(m, slot_number) + SLOT_COUNT] += 1
    s[pte + PTE_PFN] = NO_PFN
    s[pte + PTE_SLOT] = slot_number + 1
    s[pte + PTE_BITS] = (bits & (SOFT_DIRTY | UFFD_WP)) | remember
    page_remove_rmap(m, s, pfn)
    s[t + T_PHASE] = TRY_TO_UNMAP
    return RAN


def maps(m: Machine, s: State, mm: int, page: int, pfn: int) -> int:
    """Does this mm map the frame there? (A page keeps its name, hence its number, in every process that shares it.)"""
    pte = pte_at(m, mm, page)
    return 1 if s[pte + PTE_BITS] & PRESENT and s[pte + PTE_PFN] == pfn else 0


def discard_lazyfree(m: Machine, s: State, t: int, pte: int, pfn: int) -> int:
    """An MADV_FREE page that nobody wrote to since goes without a swap entry; one written to is ordinary again."""
    folio = folio_at(m, pfn)
    dirty = s[folio + DIRTY_FOLIO]
    if not m.k.lazyfree_discards(dirty, pg.folio_ref_count(s, folio), pg.folio_mapcount(s, folio)):
        if m.k.lazyfree_ends(dirty):
            s[folio + LAZYFREE] = 0
        return keep_folio(m, s, t)
    s[pte + PTE_PFN] = s[pte + PTE_BITS] = 0
    page_remove_rmap(m, s, pfn)
    s[t + T_PHASE] = TRY_TO_UNMAP
    return RAN


def pageout(m: Machine, s: State, t: int) -> int:
    """pageout(), __remove_mapping(): written and freed if no reference is left but ours and the swap cache's."""
    folio = folio_at(m, s[t + T_OLD])
    if s[folio + SWAPCACHE] and s[folio + MAPCOUNT] == 0 and pg.folio_ref_count(s, folio) == 2:
        slot = slot_at(m, s[folio + SWAPCACHE] - 1)
        if s[slot + SLOT_COUNT]:
            swap.save_contents(m, s, folio, slot)
        swap.delete_from_swap_cache(m, s, folio)
    return keep_folio(m, s, t)


def keep_folio(m: Machine, s: State, t: int) -> int:
    """The page goes back to where it was (or away, if ours was the last reference): unlock, put, next."""
    pfn = s[t + T_OLD]
    folio = folio_at(m, pfn)
    s[folio + LOCKED] = 0
    s[t + T_OLD] = s[t + T_AUX] = 0
    pg.folio_put(m, s, folio)
    if s[t + T_PROC]:
        s[t + T_PAGE] += 1
        s[t + T_PHASE] = SHRINK_FOLIO
        return shrink_next(m, s, t)
    clear_scratch(s, t)
    return RAN

"""mm/memory.c: what a load or a store does when the page table does not allow it.

The centre of the whole subject is :func:`do_wp_page`: a process writes to an anonymous page that is mapped read-only,
and the kernel must say whether this process is alone with the page (then it may write in place) or not (then it gets a
copy, and everybody else, devices included, keeps the old page). Twenty years of bugs are wrong answers to that.
"""

from __future__ import annotations

from cowcatcher.mm import page as pg
from cowcatcher.mm import swap
from cowcatcher.mm.phases import (
    BLOCKED,
    DO_SWAP_PAGE_MAP,
    RAN,
    START,
    WP_PAGE_COPY,
    WP_PAGE_COPY_INSTALL,
)
from cowcatcher.mm.task import clear_scratch, deliver_segv, finish, mmap_read_trylock, mmap_read_unlock
from cowcatcher.state import *

# --- the processor --------------------------------------------------------------------------------------------------


def load(m: Machine, s: State, t: int) -> int:
    """``r = load(page, cell)``: one access by the processor, or the page fault that it raises."""
    op = current_op(m, s, t)
    mm, page, cell = current_mm(m, s, t), op[OP_ARGS], op[OP_ARGS + 1]
    pte = pte_at(m, mm, page)
    if s[pte + PTE_BITS] & PRESENT and s[vma_at(m, mm, page)] & VM_READ:
        value = pg.read_cell(m, s, folio_at(m, s[pte + PTE_PFN]), cell, mm, page)
        return finish(m, s, t, VALUE0 + value)
    return exc_page_fault(m, s, t, page, 0)


def store(m: Machine, s: State, t: int) -> int:
    """``store(page, cell, value)``. The access repeats after the fault, as the processor repeats the instruction."""
    op = current_op(m, s, t)
    mm, page, cell, value = current_mm(m, s, t), op[OP_ARGS], op[OP_ARGS + 1], op[OP_ARGS + 2]
    pte = pte_at(m, mm, page)
    if s[pte + PTE_BITS] & WRITE:
        s[pte + PTE_BITS] |= DIRTY | SOFT_DIRTY
        pg.write_cell(m, s, folio_at(m, s[pte + PTE_PFN]), cell, value, mm, page)
        return finish(m, s, t, OK)
    return exc_page_fault(m, s, t, page, FAULT_WRITE)


def exc_page_fault(m: Machine, s: State, t: int, page: int, flags: int) -> int:
    """do_user_addr_fault(): mmap_lock for read, find the VMA, check the access, handle the fault.

    Taking the lock and the first look under the page-table lock are one step: nothing that may happen in between
    could not as well have happened before.
    """
    mm = current_mm(m, s, t)
    if mmap_read_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    if not access_allowed(m, s, mm, page, flags & FAULT_WRITE):
        mmap_read_unlock(m, s, mm)
        return deliver_segv(m, s, t)
    s[t + T_MM] = mm + 1
    s[t + T_PAGE] = page
    s[t + T_FAULT] = flags
    s[t + T_RET] = START
    return handle_pte_fault(m, s, t)


def access_allowed(m: Machine, s: State, mm: int, page: int, write: int) -> int:
    flags = s[vma_at(m, mm, page)]
    return 1 if flags & VM_MAPPED and flags & (VM_WRITE if write else VM_READ) else 0


def fault_done(m: Machine, s: State, t: int) -> int:
    """The fault is over (handled, or to be tried again): back to the instruction, or to the GUP that raised it."""
    s[t + T_FAULT] = s[t + T_OLD] = s[t + T_NEW] = 0
    s[t + T_ORIG_PFN] = s[t + T_ORIG_SLOT] = s[t + T_ORIG_BITS] = 0
    if s[t + T_RET] == START:
        mmap_read_unlock(m, s, s[t + T_MM] - 1)
        clear_scratch(s, t)
    else:
        s[t + T_PHASE] = s[t + T_RET]
    return RAN


# --- handle_pte_fault -----------------------------------------------------------------------------------------------


def handle_pte_fault(m: Machine, s: State, t: int) -> int:
    """Under the page-table lock: which kind of fault is it? mmap_lock is held for read."""
    pte = pte_at(m, s[t + T_MM] - 1, s[t + T_PAGE])
    if s[pte + PTE_SLOT]:
        return do_swap_page(m, s, t, pte)
    if not s[pte + PTE_BITS] & PRESENT:
        return do_pte_missing(m, s, t, pte)
    if s[t + T_FAULT] & (FAULT_WRITE | FAULT_UNSHARE) and not s[pte + PTE_BITS] & WRITE:
        return do_wp_page(m, s, t, pte)
    return fault_done(m, s, t)  # somebody else has handled it


def do_pte_missing(m: Machine, s: State, t: int, pte: int) -> int:
    """do_anonymous_page(), do_read_fault(), do_cow_fault(), do_shared_fault(): the first touch of a page.

    One step: a page that is allocated before the page-table lock is taken is seen by nobody.
    """
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    vma = s[vma_at(m, mm, page)]
    if not vma & VM_MAPPED:
        return fault_done(m, s, t)  # a remote access, and the process has gone since it began
    backing = s[m.cache + page]
    write = s[t + T_FAULT] & FAULT_WRITE
    if backing and (vma & VM_SHARED or not write):
        map_page_cache(m, s, mm, page)
        if not write and not m.hugetlb[page]:
            do_fault_around(m, s, mm, page)
    elif not write and not m.hugetlb[page]:
        set_pte(s, pte, ZERO_PFN, PRESENT)
    else:
        pfn = pg.alloc_folio(m, s, ANON)
        folio = folio_at(m, pfn)
        if backing:
            pg.copy_contents(m, s, folio_at(m, backing), folio)
        map_new_anon(m, s, pte, pfn, writable_if_hugetlb(m, vma, page), write)
    return fault_done(m, s, t)


def map_page_cache(m: Machine, s: State, mm: int, page: int) -> None:
    """A page of the page cache, as it is: writable at once in a shared mapping, never in a private one."""
    vma = s[vma_at(m, mm, page)]
    backing = s[m.cache + page]
    folio = folio_at(m, backing)
    pg.folio_get(s, folio)
    s[folio + MAPCOUNT] += 1
    writable = vma & VM_SHARED and vma & VM_WRITE
    set_pte(s, pte_at(m, mm, page), backing, PRESENT | (WRITE if writable else 0))


def do_fault_around(m: Machine, s: State, mm: int, page: int) -> None:
    """A read fault maps the neighbours as well, where the page cache has them and the VMA is the same."""
    first, end = m.regions[page]
    for other in range(first, end):
        pte = pte_at(m, mm, other)
        same_vma = s[vma_at(m, mm, other)] == s[vma_at(m, mm, page)]
        if m.cached[other] and same_vma and not s[pte + PTE_SLOT] and not s[pte + PTE_BITS] & PRESENT:
            map_page_cache(m, s, mm, other)


def map_new_anon(m: Machine, s: State, pte: int, pfn: int, vma: int, fault: int) -> None:
    """folio_add_new_anon_rmap() and set_pte_at(): the caller's reference becomes the mapping's.

    maybe_mkwrite(): a forced write (FOLL_FORCE) leaves a dirty pte that is not writable.
    """
    folio = folio_at(m, pfn)
    s[folio + MAPCOUNT] = 1
    s[folio + EXCLUSIVE] = m.k.tracks_exclusive()
    bits = PRESENT
    if fault & FAULT_WRITE:
        bits |= DIRTY | SOFT_DIRTY | (WRITE if vma & VM_WRITE else 0)
    set_pte(s, pte, pfn, bits)


def set_pte(s: State, pte: int, pfn: int, bits: int) -> None:
    s[pte + PTE_PFN] = pfn
    s[pte + PTE_SLOT] = 0
    s[pte + PTE_BITS] = bits


# --- write fault on a present pte -------------------------------------------------------------------------------------


def do_wp_page(m: Machine, s: State, t: int, pte: int) -> int:
    """A write (or unshare) fault on a present pte that is not writable. Page-table lock held.

    Shared mappings only get their write bit back. In a private mapping the zero page and the page cache are always
    copied; an anonymous page is reused if this kernel finds that nobody else has it. An unshare fault is the same
    question asked for a pin to read: the page must become this process's own, but stays mapped read-only.
    """
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    vma = s[vma_at(m, mm, page)]
    folio = folio_at(m, s[pte + PTE_PFN])
    if s[pte + PTE_BITS] & UFFD_WP and not s[t + T_FAULT] & FAULT_UNSHARE:
        return BLOCKED  # handle_userfault(): asleep until somebody resolves it, then all over again
    if vma & VM_SHARED:
        if s[t + T_FAULT] & FAULT_WRITE:
            s[pte + PTE_BITS] |= WRITE
        return fault_done(m, s, t)
    if s[folio + KIND] != ANON:
        return wp_copy_begin(m, s, t, pte)
    if m.hugetlb[page]:
        return hugetlb_wp(m, s, t, pte, folio)

    if m.k.wp_takes_page_lock(s[folio + EXCLUSIVE]) and s[folio + LOCKED]:
        # Classic kernels drop the page-table lock and sleep until the folio is unlocked, then look again: not having
        # run is the same. Later ones only try, and copy if that fails.
        return BLOCKED if m.k.wp_waits_for_page_lock() else wp_copy_begin(m, s, t, pte)
    if not s[folio + EXCLUSIVE]:
        if m.k.wp_drains_lru_batch(pg.folio_ref_count(s, folio)):
            lru_add_drain(m, s, folio)
        if m.k.wp_frees_swapcache(pg.folio_ref_count(s, folio)):
            swap.try_to_free_swap(m, s, folio)
    if m.k.wp_can_reuse(
        s[folio + EXCLUSIVE],
        pg.folio_ref_count(s, folio),
        pg.folio_mapcount(s, folio),
        swap.folio_swapcount(m, s, folio),
        pg.folio_maybe_dma_pinned(s, folio),
    ):
        return wp_page_reuse(m, s, t, pte, folio)
    return wp_copy_begin(m, s, t, pte)


def hugetlb_wp(m: Machine, s: State, t: int, pte: int, folio: int) -> int:
    """mm/hugetlb.c. By mapcount on every kernel: a copy for a mere reference could use up the pool, and end processes.

    So a plain reference still sees what its taker's parent writes after the taker has unmapped the page.
    """
    if pg.folio_mapcount(s, folio) == 1:
        return wp_page_reuse(m, s, t, pte, folio)
    return wp_copy_begin(m, s, t, pte)


def writable_if_hugetlb(m: Machine, vma: int, page: int) -> int:
    """A forced write leaves a small pte dirty and read-only; a huge one it may make writable, whatever the VMA says."""
    return vma | VM_WRITE if m.hugetlb[page] and not m.k.hugetlb_fault_obeys_vma() else vma


def wp_page_reuse(m: Machine, s: State, t: int, pte: int, folio: int) -> int:
    """The page is this process's own: write in place (or, for an unshare fault, only say so in PageAnonExclusive)."""
    page = s[t + T_PAGE]
    vma = writable_if_hugetlb(m, s[vma_at(m, s[t + T_MM] - 1, page)], page)
    if not s[folio + EXCLUSIVE]:
        swap.try_to_free_swap(m, s, folio)
        s[folio + EXCLUSIVE] = m.k.tracks_exclusive()
    if s[t + T_FAULT] & FAULT_WRITE:
        s[pte + PTE_BITS] |= DIRTY | SOFT_DIRTY | (WRITE if vma & VM_WRITE else 0)
        s[t + T_AUX] = 1  # VM_FAULT_WRITE, for GUP
    return fault_done(m, s, t)


def wp_copy_begin(m: Machine, s: State, t: int, pte: int) -> int:
    """Take a reference on the old page, remember the pte, drop the page-table lock."""
    pfn = s[pte + PTE_PFN]
    if pfn != ZERO_PFN:
        pg.folio_get(s, folio_at(m, pfn))
    s[t + T_OLD] = pfn
    remember_pte(s, t, pte)
    s[t + T_PHASE] = WP_PAGE_COPY
    return RAN


def wp_page_copy(m: Machine, s: State, t: int) -> int:
    """Allocate and copy, with no lock held: what a device stores into the old page from now on is not in the copy."""
    pfn = pg.alloc_folio(m, s, ANON)
    pg.copy_contents(m, s, folio_at(m, s[t + T_OLD]), folio_at(m, pfn))
    s[t + T_NEW] = pfn
    s[t + T_PHASE] = WP_PAGE_COPY_INSTALL
    return RAN


def wp_page_copy_install(m: Machine, s: State, t: int) -> int:
    """Page-table lock again: if the pte is still what it was, put the copy in; only then let the old page go."""
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    pte = pte_at(m, mm, page)
    old, new = s[t + T_OLD], s[t + T_NEW]
    if pte_same(s, t, pte):
        if old != ZERO_PFN:
            page_remove_rmap(m, s, old)
        fault = s[t + T_FAULT]
        map_new_anon(m, s, pte, new, writable_if_hugetlb(m, s[vma_at(m, mm, page)], page), fault)
        if fault & FAULT_UNSHARE:
            # The unshared copy is the process's own page, mapped read-only, and clean: these two are carried over.
            s[pte + PTE_BITS] |= s[t + T_ORIG_BITS] & (SOFT_DIRTY | UFFD_WP)
        else:
            s[t + T_AUX] = 1
    else:
        s[t + T_NEW] = 0
        pg.folio_put(m, s, folio_at(m, new))
    s[t + T_OLD] = 0
    if old != ZERO_PFN and m.k.copy_frees_swapcache():
        swap.free_swap_cache(m, s, folio_at(m, old))
    pg.put_pfn(m, s, old)
    return fault_done(m, s, t)


def remember_pte(s: State, t: int, pte: int) -> None:
    s[t + T_ORIG_PFN] = s[pte + PTE_PFN]
    s[t + T_ORIG_SLOT] = s[pte + PTE_SLOT]
    s[t + T_ORIG_BITS] = s[pte + PTE_BITS]


def pte_same(s: State, t: int, pte: int) -> int:
    return (
        1
        if s[t + T_ORIG_PFN] == s[pte + PTE_PFN]
        and s[t + T_ORIG_SLOT] == s[pte + PTE_SLOT]
        and s[t + T_ORIG_BITS] == s[pte + PTE_BITS]
        else 0
    )


def page_remove_rmap(m: Machine, s: State, pfn: int) -> None:
    """folio_remove_rmap_pte() and the mapping's reference."""
    folio = folio_at(m, pfn)
    s[folio + MAPCOUNT] -= 1
    pg.folio_put(m, s, folio)


def soft_dirty_wanted(vma: int, bits: int) -> int:
    """Must the next write fault, so that clear_refs' reader learns of it?"""
    return 1 if not vma & VM_SOFTDIRTY and not bits & SOFT_DIRTY else 0


def lru_add_drain(m: Machine, s: State, folio: int) -> None:
    """The local CPU's LRU-add batch is flushed: its reference goes."""
    if s[folio + LRU_BATCH]:
        s[folio + LRU_BATCH] = 0
        pg.folio_put(m, s, folio)


# --- swap-in --------------------------------------------------------------------------------------------------------


def do_swap_page(m: Machine, s: State, t: int, pte: int) -> int:
    """First half, no page-table lock: the page from the swap cache or from the device, referenced and locked.

    The swap cache comes first, so a page that somebody still holds comes back as the same page.
    """
    slot_number = s[pte + PTE_SLOT] - 1
    slot = slot_at(m, slot_number)
    pfn = s[slot + SLOT_PFN]
    if pfn:
        if s[folio_at(m, pfn) + LOCKED]:
            return BLOCKED  # folio_lock_or_retry()
        pg.folio_get(s, folio_at(m, pfn))
    else:
        pfn = pg.alloc_folio(m, s, ANON)
        folio = folio_at(m, pfn)
        swap.load_contents(m, s, slot, folio)
        swap.drop_saved_contents(m, s, slot)
        s[folio + SWAPCACHE] = slot_number + 1
        s[folio + REFS] += 1
        s[slot + SLOT_PFN] = pfn
    s[folio_at(m, pfn) + LOCKED] = task_index(m, t) + 1
    s[t + T_NEW] = pfn
    remember_pte(s, t, pte)
    s[t + T_PHASE] = DO_SWAP_PAGE_MAP
    return RAN


def do_swap_page_map(m: Machine, s: State, t: int) -> int:
    """Second half, under the page-table lock: map the page, writable if this kernel finds it exclusive."""
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    pte = pte_at(m, mm, page)
    pfn = s[t + T_NEW]
    folio = folio_at(m, pfn)
    if not pte_same(s, t, pte):
        s[folio + LOCKED] = 0
        s[t + T_NEW] = 0
        pg.folio_put(m, s, folio)
        return fault_done(m, s, t)

    vma = s[vma_at(m, mm, page)]
    write = 1 if s[t + T_FAULT] & FAULT_WRITE else 0
    entry_exclusive = 1 if s[pte + PTE_BITS] & SWP_EXCLUSIVE else 0
    swapcount = swap.folio_swapcount(m, s, folio)
    swap.swap_free(m, s, s[pte + PTE_SLOT] - 1)
    if not m.k.swapin_sheds_when_mapped():
        swapin_sheds(m, s, folio, vma, write, 0, entry_exclusive)
    exclusive = m.k.swapin_is_exclusive(
        write, entry_exclusive, pg.folio_ref_count(s, folio), pg.folio_mapcount(s, folio), swapcount
    )
    protected = s[pte + PTE_BITS] & UFFD_WP
    bits = PRESENT | (s[pte + PTE_BITS] & (SOFT_DIRTY | UFFD_WP))
    # Kernels that map writable for a read do it for a write under the same conditions only, and leave the rest to
    # do_wp_page(); older ones settle every write to an exclusive page here.
    writable = 1 if exclusive and vma & VM_WRITE and not protected else 0
    served = 1 if write and exclusive and not protected else 0
    if m.k.swapin_read_maps_writable():
        writable = 0 if soft_dirty_wanted(vma, bits) else writable
        served = served and writable
    else:
        writable = writable and write
    if writable:
        bits |= WRITE
    if served:
        bits |= DIRTY | SOFT_DIRTY
        s[t + T_AUX] = 1
    s[folio + MAPCOUNT] += 1  # the fault's reference becomes the mapping's
    if exclusive and m.k.tracks_exclusive():
        s[folio + EXCLUSIVE] = 1
    set_pte(s, pte, pfn, bits)
    if m.k.swapin_sheds_when_mapped():
        swapin_sheds(m, s, folio, vma, write, served, exclusive)
    s[folio + LOCKED] = 0
    s[t + T_NEW] = 0
    if write and not served and not protected:
        s[t + T_ORIG_PFN] = s[t + T_ORIG_SLOT] = s[t + T_ORIG_BITS] = 0
        return do_wp_page(m, s, t, pte)  # the page-table lock has not been dropped
    return fault_done(m, s, t)


def swapin_sheds(m: Machine, s: State, folio: int, vma: int, write: int, served: int, exclusive: int) -> None:
    """should_try_to_free_swap(), folio_free_swap().

    Memory that is locked, here or by anybody else who maps the page, will not go out again: all kernels free its slot.
    """
    references, mappings = pg.folio_ref_count(s, folio), pg.folio_mapcount(s, folio)
    locked = vma & VM_LOCKED or pg.folio_mlocked(m, s, (folio - m.folios) // m.folio_size)
    if locked or m.k.swapin_sheds_swapcache(write, served, exclusive, references, mappings):
        swap.try_to_free_swap(m, s, folio)

"""The four standing checks: what must hold in every state of every test, whatever it claims.

``isolated`` and half of ``alive`` are found at the access itself (``mm.page``); here is what a state shows by itself.
"""

from __future__ import annotations

from cowcatcher.mm import page as pg
from cowcatcher.mm import swap
from cowcatcher.mm.gup import ungrab
from cowcatcher.mm.zap import zap_pte
from cowcatcher.state import (
    BROKE_ALIVE,
    BROKE_COHERENT,
    BROKE_ISOLATED,
    FILE,
    FIRST_PFN,
    FOLL_GET,
    FOLL_PIN,
    FREE,
    HELD,
    KIND,
    LOCKED,
    LRU_BATCH,
    MAPCOUNT,
    MM_FORKING,
    MM_LOCK,
    MM_PTL,
    MM_WP_SEQ,
    MODE_ODP,
    MODE_PIN,
    MODE_PROMISES,
    PIN_BOUND,
    PIN_HELD,
    PIN_MM,
    PIN_MODE,
    PIN_PAGE_SIZE,
    PIN_PAGES,
    PIN_PFN,
    PINS,
    PRESENT,
    PTE_BITS,
    PTE_PFN,
    PTE_SIZE,
    PTE_SLOT,
    REFS,
    SLOT_COUNT,
    SLOT_PFN,
    T_PHASE,
    TASK_SIZE,
    ZERO_PFN,
    Machine,
    State,
    folio_at,
    mm_at,
    pte_at,
    slot_at,
)

CHECK_BITS = {"coherent": BROKE_COHERENT, "isolated": BROKE_ISOLATED, "alive": BROKE_ALIVE}
#: Not a bit of a step: only an ended test can be balanced.
BALANCED = 8


def broken_in_state(m: Machine, s: bytes) -> int:
    """Bits of the checks that this state breaks: coherent, alive."""
    broken = 0
    for handle in range(m.pins, m.pins + m.n_pins * m.pin_size, m.pin_size):
        if s[handle + PIN_HELD] == HELD and s[handle + PIN_MODE] & MODE_PROMISES:
            owner = s[handle + PIN_MM] - 1
            for entry in range(handle + PIN_PAGES, handle + m.pin_size, PIN_PAGE_SIZE):
                bound = s[entry + PIN_BOUND]
                if bound and _leads_to(m, s, owner, bound - 1) != s[entry + PIN_PFN]:
                    broken |= BROKE_COHERENT
    for pte in range(m.ptes, m.ptes + m.n_procs * m.n_pages * PTE_SIZE, PTE_SIZE):
        if s[pte + PTE_BITS] & PRESENT and s[folio_at(m, s[pte + PTE_PFN]) + KIND] == FREE:
            broken |= BROKE_ALIVE
    return broken


def promise_held(m: Machine, s: bytes) -> bool:
    """Is any pin held for which ``coherent`` promises something?"""
    for handle in range(m.pins, m.pins + m.n_pins * m.pin_size, m.pin_size):
        if s[handle + PIN_HELD] == HELD and s[handle + PIN_MODE] & MODE_PROMISES:
            return True
    return False


def _leads_to(m: Machine, s: bytes, mm: int, page: int) -> int:
    """The frame behind an address: mapped, or in the swap cache under its swap entry; 0 for none."""
    pte = pte_at(m, mm, page)
    if s[pte + PTE_SLOT]:
        return s[slot_at(m, s[pte + PTE_SLOT] - 1) + SLOT_PFN]
    return s[pte + PTE_PFN] if s[pte + PTE_BITS] & PRESENT else 0


def unbalanced(m: Machine, final: bytes) -> bool:
    """End every process and release every pin of a final state: is any count left over?

    A test that ends with somebody stuck inside the kernel holds what it holds; nothing is said about it.
    """
    return left_over(m, list(final))


def left_over(m: Machine, s: State) -> bool:
    """``unbalanced`` of a final state, which is torn down in place."""
    for t in range(m.tasks, m.tasks + m.n_tasks * TASK_SIZE, TASK_SIZE):
        if s[t + T_PHASE]:
            return False
    for handle in range(m.pins, m.pins + m.n_pins * m.pin_size, m.pin_size):
        mode = s[handle + PIN_MODE]
        if s[handle + PIN_HELD] == HELD and not mode & MODE_ODP:
            for entry in range(handle + PIN_PAGES, handle + m.pin_size, PIN_PAGE_SIZE):
                if s[entry + PIN_PFN]:
                    ungrab(m, s, s[entry + PIN_PFN], FOLL_PIN if mode & MODE_PIN else FOLL_GET)
    for mm in range(m.n_procs):
        for page in range(m.n_pages):
            pg.put_pfn(m, s, zap_pte(m, s, mm, page))
    return _counts_left(m, s)


def _counts_left(m: Machine, s: State) -> bool:
    for mm in range(m.n_procs):
        at = mm_at(m, mm)
        if s[at + MM_LOCK] or s[at + MM_PTL] or s[at + MM_FORKING] or s[at + MM_WP_SEQ] & 1:
            return True  # a lock that nobody holds any more
    for slot in range(m.slots, m.slots + m.n_slots * m.slot_size, m.slot_size):
        # A page that only the swap cache still holds would be freed by reclaim at any time.
        pfn = s[slot + SLOT_PFN]
        if s[slot + SLOT_COUNT]:
            return True
        if pfn:
            swap.delete_from_swap_cache(m, s, folio_at(m, pfn))
    if s[folio_at(m, ZERO_PFN) + PINS] or s[folio_at(m, ZERO_PFN) + REFS]:
        return True
    for folio in range(folio_at(m, FIRST_PFN), folio_at(m, m.n_pfns), m.folio_size):
        cached = 1 if s[folio + KIND] == FILE else 0
        refs = s[folio + REFS] - s[folio + LRU_BATCH]
        if refs != cached or s[folio + PINS] or s[folio + MAPCOUNT] or s[folio + LOCKED]:
            return True
    return False

"""mm/swapfile.c, mm/swap_state.c: slots, and the swap cache, which keeps a page reachable while it has no pte.

A slot lives while a swap pte names it or a folio is cached under it. There are always enough: one that only the swap
cache still uses is taken back when another is wanted, as the kernel does when swap space runs low.
"""

from __future__ import annotations

from cowcatcher.mm.page import ModelError, folio_put
from cowcatcher.state import *


def folio_swapcount(m: Machine, s: State, folio: int) -> int:
    """Swap ptes that name the slot of this page."""
    slot = s[folio + SWAPCACHE]
    return s[slot_at(m, slot - 1) + SLOT_COUNT] if slot else 0


def delete_from_swap_cache(m: Machine, s: State, folio: int) -> None:
    """The folio leaves the swap cache; its slot is free unless swap ptes still name it."""
    slot = slot_at(m, s[folio + SWAPCACHE] - 1)
    s[folio + SWAPCACHE] = 0
    s[slot + SLOT_PFN] = NO_PFN
    if s[slot + SLOT_COUNT] == 0:
        clear_slot(m, s, slot)
    folio_put(m, s, folio)


def try_to_free_swap(m: Machine, s: State, folio: int) -> int:
    """folio_free_swap(): succeeds when no swap pte needs the slot. (Writeback is over at once in this model.)

    The page is dirty then: there is no copy of it on the device any more.
    """
    if s[folio + SWAPCACHE] == 0 or folio_swapcount(m, s, folio):
        return 0
    s[folio + DIRTY_FOLIO] = 1
    delete_from_swap_cache(m, s, folio)
    return 1


def free_swap_cache(m: Machine, s: State, folio: int) -> None:
    """A page that nobody maps any more leaves the swap cache at once, unless somebody holds its lock."""
    if s[folio + MAPCOUNT] == 0 and not s[folio + LOCKED]:
        try_to_free_swap(m, s, folio)


def get_swap_slot(m: Machine, s: State) -> int:
    """get_swap_page(): the number of a free slot."""
    for number in range(m.n_slots):
        slot = slot_at(m, number)
        if s[slot + SLOT_COUNT] == 0 and s[slot + SLOT_PFN] == NO_PFN:
            return number
    for number in range(m.n_slots):
        slot = slot_at(m, number)
        if s[slot + SLOT_COUNT] == 0 and s[folio_at(m, s[slot + SLOT_PFN]) + REFS] == 1:
            delete_from_swap_cache(m, s, folio_at(m, s[slot + SLOT_PFN]))
            return number
    raise ModelError("out of swap slots")


def swap_free(m: Machine, s: State, slot_number: int) -> None:
    """One swap pte less names the slot."""
    slot = slot_at(m, slot_number)
    s[slot + SLOT_COUNT] -= 1
    if s[slot + SLOT_COUNT] == 0 and s[slot + SLOT_PFN] == NO_PFN:
        clear_slot(m, s, slot)


def clear_slot(m: Machine, s: State, slot: int) -> None:
    for field in range(slot, slot + m.slot_size):
        s[field] = 0


def save_contents(m: Machine, s: State, folio: int, slot: int) -> None:
    for i in range(2 * m.n_cells):
        s[slot + SLOT_DATA + i] = s[folio + DATA + i]


def load_contents(m: Machine, s: State, slot: int, folio: int) -> None:
    for i in range(2 * m.n_cells):
        s[folio + DATA + i] = s[slot + SLOT_DATA + i]


def drop_saved_contents(m: Machine, s: State, slot: int) -> None:
    """The swap cache has the contents now; the copy on the device is not looked at again."""
    for i in range(2 * m.n_cells):
        s[slot + SLOT_DATA + i] = 0

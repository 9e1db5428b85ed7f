"""One name for states that differ only in which frame is which.

Frames are numbered in the order in which the state first refers to them (page cache, page tables, pins, swap cache,
tasks); the zero page keeps its number. A free frame is all zero and has no name to keep. A frame that is in use though
nothing refers to it (an LRU-add batch alone holds it, or the model has lost it) comes after the others, by contents.
"""

from __future__ import annotations

from cowcatcher.state import FIRST_PFN, Machine, State


def canonicalize(m: Machine, s: State) -> None:
    """Renumber the frames of ``s`` in place."""
    following = FIRST_PFN
    for field in m.pfn_fields:
        pfn = s[field]
        if pfn >= following:
            if pfn != following:
                _renumber(m, s)
                return
            following += 1
    if any(s[m.folios + following * m.folio_size :]):
        _renumber(m, s)


def _renumber(m: Machine, s: State) -> None:
    names: dict[int, int] = {0: 0, 1: 1}
    following = FIRST_PFN
    for field in m.pfn_fields:
        pfn = s[field]
        if pfn not in names:
            names[pfn] = following
            following += 1
        s[field] = names[pfn]
    start, size = m.folios + FIRST_PFN * m.folio_size, m.folio_size
    old = s[start:]
    s[start:] = [0] * len(old)
    nameless = []
    for pfn in range(FIRST_PFN, m.n_pfns):
        source = (pfn - FIRST_PFN) * size
        folio = old[source : source + size]
        if pfn in names:
            target = start + (names[pfn] - FIRST_PFN) * size
            s[target : target + size] = folio
        elif any(folio):
            nameless.append(folio)
    for folio in sorted(nameless):
        target = start + (following - FIRST_PFN) * size
        s[target : target + size] = folio
        following += 1

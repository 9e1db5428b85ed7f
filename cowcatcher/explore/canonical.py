"""One name for states that differ only in which frame is which.

Frames are numbered in the order in which the state first refers to them (page cache, page tables, pins, swap cache,
tasks); the zero page keeps its number. A frame that nothing refers to is free and all zero, so it has no name to keep.
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
    for pfn, name in names.items():
        if pfn >= FIRST_PFN:
            source = (pfn - FIRST_PFN) * size
            target = start + (name - FIRST_PFN) * size
            s[target : target + size] = old[source : source + size]

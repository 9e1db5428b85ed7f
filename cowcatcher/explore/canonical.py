"""One name for states that differ only in which frame is which.

Frames are numbered in the order in which the state first refers to them (page cache, page tables, pins, swap cache,
tasks); the zero page keeps its number. A free frame is all zero and has no name to keep. A frame that is in use though
nothing refers to it (an LRU-add batch alone holds it, or the model has lost it) comes after the others, by contents.
"""

from __future__ import annotations

from cowcatcher.state import FIRST_PFN, FREE, KIND, Machine, State


def canonicalize(m: Machine, s: State) -> None:
    """Renumber the frames of ``s`` in place."""
    following = FIRST_PFN
    for field in m.pfn_fields:
        pfn = s[field]
        if pfn >= following:
            if pfn != following:
                exchange_frames(m, s, pfn, following)
            following += 1
    for pfn in range(following, m.n_pfns):
        if s[m.folios + pfn * m.folio_size + KIND] != FREE:
            sort_frames(m, s, following)
            return


def exchange_frames(m: Machine, s: State, a: int, b: int) -> None:
    """Two frames exchange their numbers: their folios, and every reference to them."""
    for field in m.pfn_fields:
        if s[field] == a:
            s[field] = b
        elif s[field] == b:
            s[field] = a
    exchange_folios(m, s, a, b)


def exchange_folios(m: Machine, s: State, a: int, b: int) -> None:
    a_at, b_at = m.folios + a * m.folio_size, m.folios + b * m.folio_size
    for i in range(m.folio_size):
        was = s[a_at + i]
        s[a_at + i] = s[b_at + i]
        s[b_at + i] = was


def sort_frames(m: Machine, s: State, first: int) -> None:
    """Frames from ``first`` on, which nothing refers to: those in use by contents, then the free ones."""
    for place in range(first, m.n_pfns):
        least = place
        for other in range(place + 1, m.n_pfns):
            if comes_before(m, s, other, least):
                least = other
        if least != place:
            exchange_folios(m, s, place, least)


def comes_before(m: Machine, s: State, a: int, b: int) -> int:
    a_at, b_at = m.folios + a * m.folio_size, m.folios + b * m.folio_size
    if s[a_at + KIND] == FREE or s[b_at + KIND] == FREE:
        return 1 if s[a_at + KIND] != FREE else 0
    for i in range(m.folio_size):
        if s[a_at + i] != s[b_at + i]:
            return 1 if s[a_at + i] < s[b_at + i] else 0
    return 0

"""Folios: allocation, references, contents, and who may know what they contain.

A page's *signature* is a ghost (the kernel has nothing like it): every stored value remembers which mm it was stored
for and how many forks that mm had completed by then. A reader may know a value if it was stored for its own mm, or
for an ancestor before the fork that led to the reader. That is the whole of the standing check ``isolated``.
"""

from __future__ import annotations

from cowcatcher.state import *

_EPOCHS = 8  # an mm forks at most seven times in a test; see explore.program


class ModelError(Exception):
    """The model contradicts itself (a count below zero, no frame left): a bug in cowcatcher, never a verdict."""


# --- references -----------------------------------------------------------------------------------------------------


def folio_ref_count(s: State, folio: int) -> int:
    """page_ref_count(): a FOLL_PIN weighs 1024, so 1024 ordinary references look like one pin."""
    return s[folio + REFS] + GUP_PIN_COUNTING_BIAS * (s[folio + PINS] + s[folio + CROWD])


def folio_mapcount(s: State, folio: int) -> int:
    return s[folio + MAPCOUNT] + GUP_PIN_COUNTING_BIAS * s[folio + CROWD]


def folio_maybe_dma_pinned(s: State, folio: int) -> int:
    """page_maybe_dma_pinned() of a small page: no false negative, false positives from 1024 references of any kind."""
    return 1 if folio_ref_count(s, folio) >= GUP_PIN_COUNTING_BIAS else 0


def alloc_folio(m: Machine, s: State, kind: int) -> int:
    """A zeroed frame with one reference, the caller's; returns its number.

    A freed frame that somebody still names (a device that kept its address) is not handed out again: the access
    through the stale name is reported for what it is, whoever would have owned the frame by then.
    """
    for pfn in range(FIRST_PFN, m.n_pfns):
        folio = folio_at(m, pfn)
        if s[folio + KIND] == FREE and not _is_named(m, s, pfn):
            s[folio + KIND] = kind
            s[folio + REFS] = 1
            return pfn
    raise ModelError("out of frames")


def _is_named(m: Machine, s: State, pfn: int) -> int:
    for field in m.pfn_fields:
        if s[field] == pfn:
            return 1
    return 0


def folio_get(s: State, folio: int) -> None:
    s[folio + REFS] += 1


def folio_put(m: Machine, s: State, folio: int) -> None:
    if s[folio + REFS] == 0:
        raise ModelError("refcount below zero")
    s[folio + REFS] -= 1
    free_if_unused(m, s, folio)


def free_if_unused(m: Machine, s: State, folio: int) -> None:
    """__folio_put() once the last reference is gone: every field back to zero."""
    if s[folio + KIND] != ZERO and s[folio + REFS] == 0 and s[folio + PINS] == 0 and s[folio + CROWD] == 0:
        if s[folio + MAPCOUNT]:
            raise ModelError("freed while mapped")
        for field in range(folio, folio + m.folio_size):
            s[field] = 0


def put_pfn(m: Machine, s: State, pfn: int) -> None:
    """Drop a FOLL_GET-like reference; the zero page's own are not counted here."""
    if pfn > ZERO_PFN:
        folio_put(m, s, folio_at(m, pfn))


def folio_mlocked(m: Machine, s: State, pfn: int) -> int:
    """PG_mlocked: does any process map this page where it has locked its memory?"""
    for mm in range(m.n_procs):
        for page in range(m.n_pages):
            pte = pte_at(m, mm, page)
            if s[pte + PTE_PFN] == pfn and s[pte + PTE_BITS] & PRESENT and s[vma_at(m, mm, page)] & VM_LOCKED:
                return 1
    return 0


# --- contents -------------------------------------------------------------------------------------------------------


def copy_contents(m: Machine, s: State, source: int, target: int) -> None:
    """copy_user_highpage(): values and, as ghosts, their signatures."""
    for i in range(2 * m.n_cells):
        s[target + DATA + i] = s[source + DATA + i]


def sign(m: Machine, s: State, mm: int) -> int:
    """Ghost: who stores now, and after how many forks of its own. 0 is "nobody": memory as the test began."""
    return 1 + mm * _EPOCHS + s[mm_at(m, mm) + MM_EPOCH]


def may_know(m: Machine, s: State, reader: int, signature: int) -> int:
    """Ghost: was this value the reader's own, or its ancestors' at the fork that led to it?"""
    if signature == 0:
        return 1
    writer = (signature - 1) // _EPOCHS
    epoch = (signature - 1) % _EPOCHS
    mm = reader
    while mm != writer:
        at = mm_at(m, mm)
        if s[at + MM_PARENT] == 0:
            return 0
        if s[at + MM_PARENT] - 1 == writer:
            return 1 if epoch <= s[at + MM_BORN] else 0
        mm = s[at + MM_PARENT] - 1
    return 1


def read_cell(m: Machine, s: State, folio: int, cell: int, reader: int, page: int) -> int:
    """A value read on behalf of mm ``reader`` at ``page`` (-1: through a pin whose range it has since replaced)."""
    if s[folio + KIND] == FREE:
        s[BROKEN] |= BROKE_ALIVE
        return 0
    value = s[folio + DATA + 2 * cell]
    if s[folio + KIND] == FILE:
        return value
    if not may_know(m, s, reader, s[folio + DATA + 2 * cell + 1]):
        s[BROKEN] |= BROKE_ISOLATED
    elif page >= 0:
        inherited = s[inherited_at(m, reader, page, cell)]
        if inherited and inherited != 1 + value:
            s[BROKEN] |= BROKE_ISOLATED
    return value


def write_cell(m: Machine, s: State, folio: int, cell: int, value: int, writer: int, page: int) -> None:
    """A value stored on behalf of mm ``writer``; ``page`` as in read_cell()."""
    if s[folio + KIND] == FREE:
        s[BROKEN] |= BROKE_ALIVE
        return
    s[folio + DATA + 2 * cell] = value
    s[folio + DATA + 2 * cell + 1] = sign(m, s, writer) if s[folio + KIND] == ANON else 0
    if page >= 0:
        s[inherited_at(m, writer, page, cell)] = 0
        child = s[mm_at(m, writer) + MM_FORKING]
        if child:  # concurrent with fork: the child may have either value
            s[inherited_at(m, child - 1, page, cell)] = 0


def inherited_at(m: Machine, mm: int, page: int, cell: int) -> int:
    return m.inherited + (mm * m.n_pages + page) * m.n_cells + cell


def forget_inherited(m: Machine, s: State, mm: int, page: int) -> None:
    """The process replaced this page's contents itself (unmapped, discarded, freed): nothing inherited is left."""
    for cell in range(m.n_cells):
        s[inherited_at(m, mm, page, cell)] = 0

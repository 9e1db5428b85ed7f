"""mm/mlock.c, and mm/gup.c's populate: pages faulted in ahead of use, as GUP would, without taking references."""

from __future__ import annotations

from cowcatcher.mm.gup import faultin_page
from cowcatcher.mm.phases import BLOCKED, POPULATE, RAN
from cowcatcher.mm.task import begin_on_pages, finish, mmap_read_trylock, mmap_unlock
from cowcatcher.state import *

#: T_MODE: who wants the pages.
FOR_READING, FOR_WRITING, FOR_MLOCK, FOR_MPROTECT = 0, 1, 2, 3


def mlock(m: Machine, s: State, t: int) -> int:
    """VM_LOCKED, then every page is faulted in: for writing where that would break COW anyway."""
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    if s[mm_at(m, mm) + MM_LOCK]:
        return BLOCKED
    for page in range(op[OP_ARGS], op[OP_ARGS + 1]):
        vma = vma_at(m, mm, page)
        if not s[vma] & VM_MAPPED:
            return finish(m, s, t, ENOMEM)
        s[vma] |= VM_LOCKED
    return begin_populate(m, s, t, mm, FOR_MLOCK)


def madvise_populate(m: Machine, s: State, t: int) -> int:
    """MADV_POPULATE_READ, MADV_POPULATE_WRITE. Operands: first page, end, 1 for write."""
    if not m.k.madvise_knows_populate():
        return finish(m, s, t, EINVAL)
    mode = FOR_WRITING if current_op(m, s, t)[OP_ARGS + 2] else FOR_READING
    return begin_populate(m, s, t, current_mm(m, s, t), mode)


def begin_populate(m: Machine, s: State, t: int, mm: int, mode: int) -> int:
    """On all pages of the statement at hand, from the first."""
    op = current_op(m, s, t)
    if mmap_read_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    begin_on_pages(s, t, mm, op[OP_ARGS], op[OP_ARGS + 1], POPULATE)
    s[t + T_MODE] = mode
    return populate(m, s, t)


def populate(m: Machine, s: State, t: int) -> int:
    """populate_vma_page_range(), one page. mmap_lock held: for write after mprotect, else for read."""
    mm, page, mode = s[t + T_MM] - 1, s[t + T_PAGE], s[t + T_MODE]
    vma = s[vma_at(m, mm, page)]
    private_writable = vma & VM_WRITE and not vma & VM_SHARED
    if mode == FOR_MPROTECT:
        wanted = 1 if vma & VM_LOCKED and private_writable else 0
        write = wanted
    else:
        error = cannot_populate(vma, mode)
        if error:
            mmap_unlock(m, s, mm)
            return finish(m, s, t, error)
        wanted = 1
        write = 1 if mode == FOR_WRITING or (mode == FOR_MLOCK and private_writable) else 0
    bits = s[pte_at(m, mm, page) + PTE_BITS]
    if wanted and (not bits & PRESENT or (write and not bits & WRITE)):
        return faultin_page(m, s, t, FAULT_WRITE if write else 0)
    if write and not bits & DIRTY:
        s[folio_at(m, s[pte_at(m, mm, page) + PTE_PFN]) + DIRTY_FOLIO] = 1  # FOLL_TOUCH, as in follow_page_pte()
    s[t + T_PAGE] = page + 1
    if page + 1 < s[t + T_END]:
        return RAN
    mmap_unlock(m, s, mm)
    return finish(m, s, t, OK)


def cannot_populate(vma: int, mode: int) -> int:
    """The error of a page that cannot be faulted in; 0 if it can. For mlock any permission at all will do."""
    if not vma & VM_MAPPED:
        return ENOMEM
    if mode == FOR_MLOCK:
        return 0 if vma & (VM_READ | VM_WRITE) else ENOMEM
    return 0 if vma & (VM_WRITE if mode == FOR_WRITING else VM_READ) else EINVAL

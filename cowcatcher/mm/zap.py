"""munmap, MADV_DONTNEED, exit, exec: page table entries go, pages live on while somebody holds them.

Zapping is two steps a page, as in the kernel's mmu_gather: under the page-table lock the entry and the mapcount go, and
only later the reference. In between a sole remaining user looks like one of two by refcount and alone by mapcount.
"""

from __future__ import annotations

from cowcatcher.mm import page as pg
from cowcatcher.mm import swap
from cowcatcher.mm.phases import BLOCKED, EXEC_MMAP, RAN, START, VFORK_WAIT, ZAP_PTE
from cowcatcher.mm.task import (
    begin_exit,
    begin_on_pages,
    clear_scratch,
    finish,
    mmap_read_trylock,
    mmap_unlock,
    mmap_write_trylock,
)
from cowcatcher.state import *


def zap_pte(m: Machine, s: State, mm: int, page: int) -> int:
    """One entry, page-table lock held. Returns the frame whose mapping reference is to be dropped later, or none."""
    pte = pte_at(m, mm, page)
    pfn = NO_PFN
    if s[pte + PTE_SLOT]:
        swap.swap_free(m, s, s[pte + PTE_SLOT] - 1)
    elif s[pte + PTE_BITS] & PRESENT and s[pte + PTE_PFN] != ZERO_PFN:
        pfn = s[pte + PTE_PFN]
        s[folio_at(m, pfn) + MAPCOUNT] -= 1
    s[pte + PTE_PFN] = s[pte + PTE_SLOT] = s[pte + PTE_BITS] = 0
    unbind_pins(m, s, mm, page)
    pg.forget_inherited(m, s, mm, page)
    return pfn


def unbind_pins(m: Machine, s: State, mm: int, page: int) -> None:
    """Ghost: the owner itself gave this address another page (or none); no pin promises anything for it any more.

    An on-demand region is none: it goes by the address, and finds there what its owner finds.
    """
    for pin in range(m.n_pins):
        handle = pin_at(m, pin)
        if s[handle + PIN_MM] == mm + 1 and not s[handle + PIN_MODE] & MODE_ODP:
            for entry in range(handle + PIN_PAGES, handle + m.pin_size, PIN_PAGE_SIZE):
                if s[entry + PIN_BOUND] == page + 1:
                    s[entry + PIN_BOUND] = 0


def free_gathered(m: Machine, s: State, t: int) -> None:
    """free_pages_and_swap_cache(): the reference of the entry zapped last."""
    if s[t + T_OLD]:
        swap.free_swap_cache(m, s, folio_at(m, s[t + T_OLD]))
        pg.put_pfn(m, s, s[t + T_OLD])
        s[t + T_OLD] = 0


def munmap(m: Machine, s: State, t: int) -> int:
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    if mmap_write_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    begin_on_pages(s, t, mm, op[OP_ARGS], op[OP_ARGS + 1], ZAP_PTE)
    s[t + T_AUX] = 1
    return zap_pte_range(m, s, t)


def madvise_dontneed(m: Machine, s: State, t: int) -> int:
    """MADV_DONTNEED: the entries go, the mapping stays; mmap_lock for read is enough."""
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    if mmap_read_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    begin_on_pages(s, t, mm, op[OP_ARGS], op[OP_ARGS + 1], ZAP_PTE)
    return zap_pte_range(m, s, t)


def zap_pte_range(m: Machine, s: State, t: int) -> int:
    """Drop the reference gathered in the last step, zap the next entry. T_AUX: the mapping itself goes too (munmap).

    MADV_DONTNEED goes over holes and reports them at the end (T_ERROR), and stops at locked memory.
    """
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    free_gathered(m, s, t)
    if page < s[t + T_END]:
        vma = vma_at(m, mm, page)
        if not s[t + T_AUX] and s[vma] & VM_LOCKED:
            mmap_unlock(m, s, mm)
            return finish(m, s, t, EINVAL)
        if not s[t + T_AUX] and not s[vma] & VM_MAPPED:
            s[t + T_ERROR] = ENOMEM
        s[t + T_OLD] = zap_pte(m, s, mm, page)
        if s[t + T_AUX]:
            s[vma] = 0
        s[t + T_PAGE] = page + 1
        if s[t + T_OLD] or page + 1 < s[t + T_END]:
            return RAN
    mmap_unlock(m, s, mm)
    return finish(m, s, t, s[t + T_ERROR] or OK)


# --- the end of a process, or of its memory -------------------------------------------------------------------------


def exit_statement(m: Machine, s: State, t: int) -> int:
    """exit_group(): waits for the process's other threads to leave the kernel, then nothing of them runs any more."""
    if other_threads_busy(m, s, t):
        return BLOCKED
    begin_exit(m, s, t)
    return RAN


def other_threads_busy(m: Machine, s: State, t: int) -> int:
    """Is another thread inside the kernel? One that waits in vfork() holds nothing, and can be killed."""
    for other in range(m.tasks, m.tasks + m.n_tasks * TASK_SIZE, TASK_SIZE):
        if other != t and s[other + T_PROC] == s[t + T_PROC] and s[other + T_PHASE] not in (START, VFORK_WAIT):
            return 1
    return 0


def exit_mmap(m: Machine, s: State, t: int) -> int:
    """Tear the address space down, unless a vfork parent still lives in it; then the process is gone."""
    process = m.procs + (s[t + T_PROC] - 1) * PROC_SIZE
    if other_threads_busy(m, s, t):
        return BLOCKED
    if tear_down(m, s, t, s[process + P_MM] - 1) == RAN:
        s[process + P_STATE] = EXITED
        s[process + P_MM] = 0
        for other in range(m.tasks, m.tasks + m.n_tasks * TASK_SIZE, TASK_SIZE):
            if s[other + T_PROC] == s[t + T_PROC]:
                clear_scratch(s, other)
    return RAN


def exec_statement(m: Machine, s: State, t: int) -> int:
    """exec_mmap(): a new, empty address space; the old one is torn down (vfork: left to the parent).

    While a vfork child of another thread lives in the old one this waits, as the kernel would not: a process of the
    model has room for one address space.
    """
    own = s[t + T_PROC] - 1
    if other_threads_busy(m, s, t) or (current_mm(m, s, t) == own and mm_users(m, s, own) > 1):
        return BLOCKED
    end_other_threads(m, s, t)
    s[t + T_PHASE] = EXEC_MMAP
    return exec_mmap(m, s, t)


def exec_mmap(m: Machine, s: State, t: int) -> int:
    process = m.procs + (s[t + T_PROC] - 1) * PROC_SIZE
    if tear_down(m, s, t, s[process + P_MM] - 1) == BLOCKED:
        return RAN
    own = s[t + T_PROC] - 1
    s[process + P_MM] = own + 1
    s[mm_at(m, own) + MM_HAS_PINNED] = 0
    return finish(m, s, t, OK)


def end_other_threads(m: Machine, s: State, t: int) -> None:
    """de_thread(), before anything else: only the caller goes on. The others are idle, or wait in vfork()."""
    for other in range(m.tasks, m.tasks + m.n_tasks * TASK_SIZE, TASK_SIZE):
        if other != t and s[other + T_PROC] == s[t + T_PROC]:
            s[other + T_PC] = len(m.programs[task_index(m, other)])
            clear_scratch(s, other)


def tear_down(m: Machine, s: State, t: int, mm: int) -> int:
    """One step of it; RAN when nothing is left to do, BLOCKED when there is."""
    if mm_users(m, s, mm) > 1:
        return RAN
    free_gathered(m, s, t)
    for page in range(m.n_pages):
        vma = vma_at(m, mm, page)
        if s[vma] & VM_MAPPED:
            s[vma] = 0
            s[t + T_OLD] = zap_pte(m, s, mm, page)
            if s[t + T_OLD]:
                return BLOCKED
    return RAN


def mm_users(m: Machine, s: State, mm: int) -> int:
    users = 0
    for process in range(m.procs, m.procs + m.n_procs * PROC_SIZE, PROC_SIZE):
        if s[process + P_MM] == mm + 1:
            users += 1
    return users

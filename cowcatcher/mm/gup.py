"""mm/gup.c: references on the pages behind user addresses, for somebody who has no page table.

FOLL_GET takes a plain reference. FOLL_PIN takes one that fork, reclaim and the write fault can recognise (it weighs
1024). Slow GUP works under mmap_lock, page by page under the page-table lock, and raises the faults that a processor
would have raised. GUP-fast takes no lock at all: it reads the pte, takes the reference, and looks again whether the pte
is still the same; three steps, and everything else may happen between them.
"""

from __future__ import annotations

from cowcatcher.mm import page as pg
from cowcatcher.mm.fault import do_pte_missing, do_swap_page, do_wp_page, pte_same, remember_pte, soft_dirty_wanted
from cowcatcher.mm.phases import (
    BIO_SET_PAGES_DIRTY,
    BLOCKED,
    FOLLOW_PAGE_PTE,
    GUP_ACCESS,
    GUP_FAST_GRAB,
    GUP_FAST_READ_PTE,
    GUP_FAST_RECHECK,
    GUP_LOCK,
    POPULATE,
    RAN,
    UNPIN_PAGE,
)
from cowcatcher.mm.task import begin_on_pages, finish, mmap_read_trylock, mmap_read_unlock
from cowcatcher.state import *

# --- entry points ---------------------------------------------------------------------------------------------------


def begin_pin(m: Machine, s: State, t: int, pin: int, first: int, end: int, foll: int, mode: int) -> int:
    """pin_user_pages(_fast)() or get_user_pages(_fast)() on pages ``first``..``end - 1`` into handle ``pin``.

    MMF_HAS_PINNED is set before the first pte is read; setting it and reading are one step here, since fork looks at it
    only together with the counts of a page that this task has not touched yet.
    """
    mm = current_mm(m, s, t)
    if not foll & FOLL_FAST and mmap_read_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    handle = pin_at(m, pin)
    s[handle + PIN_HELD] = TAKING
    s[handle + PIN_MM] = mm + 1
    promises = foll & (FOLL_WRITE | FOLL_LONGTERM)
    s[handle + PIN_MODE] = (
        mode
        | (MODE_WRITE if foll & FOLL_WRITE else 0)
        | (MODE_PROMISES if promises else 0)
        | (MODE_PIN if foll & FOLL_PIN else 0)
    )
    begin_on_pages(s, t, mm, first, end, FOLLOW_PAGE_PTE)
    if foll & (FOLL_GET | FOLL_FAST):
        foll |= FOLL_TOUCH  # every entry point asks for it but pin_user_pages()
    s[t + T_FLAGS] = foll
    if foll & FOLL_PIN:
        s[mm_at(m, mm) + MM_HAS_PINNED] = 1
    if foll & FOLL_FAST:
        return gup_fast_begin(m, s, t)
    return follow_page_pte(m, s, t)


def begin_remote_access(m: Machine, s: State, t: int, process: int, page: int, foll: int) -> int:
    """access_remote_vm() and process_vm_rw(): GUP on another process's page, for the time of one access."""
    at = m.procs + process * PROC_SIZE
    mm = s[at + P_MM] - 1
    if mm < 0 or s[at + P_STATE] != RUNNING:
        return finish(m, s, t, ESRCH)
    if mmap_read_trylock(m, s, mm) == BLOCKED:
        return BLOCKED
    begin_on_pages(s, t, mm, page, page + 1, FOLLOW_PAGE_PTE)
    s[t + T_MODE] = NO_HANDLE
    s[t + T_FLAGS] = foll | FOLL_TOUCH
    if foll & FOLL_PIN:
        s[mm_at(m, mm) + MM_HAS_PINNED] = 1
    return follow_page_pte(m, s, t)


# --- GUP-fast -------------------------------------------------------------------------------------------------------


def gup_fast_begin(m: Machine, s: State, t: int) -> int:
    """Read write_protect_seq, then the first pte. Odd: fork is at work, leave it to the slow path.

    Reading the two is one step. Were fork to come in between, the pins would be dropped at the end and the slow path
    taken, which is also what an odd count leads to.
    """
    seq = s[mm_at(m, s[t + T_MM] - 1) + MM_WP_SEQ]
    if s[t + T_FLAGS] & FOLL_PIN and m.k.gup_fast_checks_write_protect_seq() and seq & 1:
        s[t + T_PHASE] = GUP_LOCK
        return RAN
    s[t + T_SEQ] = seq
    return gup_fast_read_pte(m, s, t)


def gup_fast_read_pte(m: Machine, s: State, t: int) -> int:
    """First look, no lock held."""
    mm, page, foll = s[t + T_MM] - 1, s[t + T_PAGE], s[t + T_FLAGS]
    pte = pte_at(m, mm, page)
    bits = s[pte + PTE_BITS]
    # The fast path has no VMA. What it may not decide without one (5.8: whether this is a COW mapping) it must assume.
    needs_write = foll & FOLL_WRITE or m.k.gup_read_breaks_cow(foll, 1)
    readable = bits & PRESENT and s[vma_at(m, mm, page)] & VM_READ
    if not readable or (needs_write and not bits & WRITE) or s[pte + PTE_PFN] == ZERO_PFN:
        return gup_fast_end(m, s, t)
    remember_pte(s, t, pte)
    s[t + T_PHASE] = GUP_FAST_GRAB
    return RAN


def gup_fast_grab(m: Machine, s: State, t: int) -> int:
    """try_grab_folio_fast(): a reference on whatever the pte named, unless that has been freed."""
    folio = folio_at(m, s[t + T_ORIG_PFN])
    if s[folio + KIND] == FREE:
        s[t + T_ORIG_PFN] = s[t + T_ORIG_SLOT] = s[t + T_ORIG_BITS] = 0
        return gup_fast_end(m, s, t)
    grab(m, s, s[t + T_ORIG_PFN], s[t + T_FLAGS])
    s[t + T_PHASE] = GUP_FAST_RECHECK
    return RAN


def gup_fast_recheck(m: Machine, s: State, t: int) -> int:
    """Second look: if the pte changed, or a pin to read would need unsharing, give the reference back and go slow."""
    mm, page, foll = s[t + T_MM] - 1, s[t + T_PAGE], s[t + T_FLAGS]
    pte = pte_at(m, mm, page)
    pfn = s[t + T_ORIG_PFN]
    folio = folio_at(m, pfn)
    same = pte_same(s, t, pte)
    s[t + T_ORIG_PFN] = s[t + T_ORIG_SLOT] = s[t + T_ORIG_BITS] = 0
    unshare = (
        not s[pte + PTE_BITS] & WRITE
        and not foll & FOLL_WRITE
        and m.k.gup_must_unshare(foll, 1 if s[folio + KIND] == ANON else 0, s[folio + EXCLUSIVE], 1)
    )
    if not same or unshare:
        ungrab(m, s, pfn, foll)
        return gup_fast_end(m, s, t)
    record(m, s, t, pfn)
    if s[t + T_PAGE] < s[t + T_END]:
        s[t + T_PHASE] = GUP_FAST_READ_PTE
        return RAN
    return gup_fast_end(m, s, t)


def gup_fast_end(m: Machine, s: State, t: int) -> int:
    """However far the walk came, write_protect_seq is read again; then the slow path takes what is left.

    If fork copied the page tables meanwhile, it may have looked at the counts before a pin and write-protected the pte
    after the second look, so every pin is given back. Reading the count belongs to the step before it: were fork to
    begin in between, it would find the pins there.
    """
    seq = s[mm_at(m, s[t + T_MM] - 1) + MM_WP_SEQ]
    checks = s[t + T_FLAGS] & FOLL_PIN and m.k.gup_fast_checks_write_protect_seq()
    if checks and seq != s[t + T_SEQ]:
        forget_taken(m, s, t)
    elif s[t + T_PAGE] == s[t + T_END]:
        return gup_done(m, s, t)
    s[t + T_PHASE] = GUP_LOCK
    return RAN


# --- slow GUP -------------------------------------------------------------------------------------------------------


def gup_lock(m: Machine, s: State, t: int) -> int:
    """What the fast path left over goes the slow way, under mmap_lock."""
    if mmap_read_trylock(m, s, s[t + T_MM] - 1) == BLOCKED:
        return BLOCKED
    s[t + T_PHASE] = FOLLOW_PAGE_PTE
    return RAN


def follow_page_pte(m: Machine, s: State, t: int) -> int:
    """One page under the page-table lock: take the reference, or raise the fault that makes it possible."""
    mm, page, foll = s[t + T_MM] - 1, s[t + T_PAGE], s[t + T_FLAGS]
    vma = s[vma_at(m, mm, page)]
    cow = is_cow_mapping(vma)
    if not check_vma_flags(vma, foll, cow):
        return gup_failed(m, s, t, EFAULT)
    if m.hugetlb[page] and foll & FOLL_WRITE and not vma & VM_WRITE and m.k.hugetlb_refuses_forced_write():
        return gup_failed(m, s, t, EFAULT)
    if m.k.gup_read_breaks_cow(foll, cow):
        foll |= FOLL_WRITE

    pte = pte_at(m, mm, page)
    bits = s[pte + PTE_BITS]
    if not bits & PRESENT:
        return faultin_page(m, s, t, FAULT_WRITE if foll & FOLL_WRITE else 0)
    pfn = s[pte + PTE_PFN]
    folio = folio_at(m, pfn)
    anon = 1 if s[folio + KIND] == ANON else 0
    if foll & FOLL_WRITE and not bits & WRITE and not can_follow_write_pte(m, s, t, vma, bits, folio, anon):
        return faultin_page(m, s, t, FAULT_WRITE)
    reads_readonly = not foll & FOLL_WRITE and not bits & WRITE
    if reads_readonly and m.k.gup_must_unshare(foll, anon, s[folio + EXCLUSIVE], cow):
        return faultin_page(m, s, t, FAULT_UNSHARE)
    grab(m, s, pfn, foll)
    if foll & FOLL_TOUCH and foll & FOLL_WRITE and not bits & DIRTY:
        s[folio + DIRTY_FOLIO] = 1  # whoever asked is about to write; GUP-fast leaves that to the caller
    s[t + T_AUX] = 0
    if has_handle(s, t):
        record(m, s, t, pfn)
        if s[t + T_PAGE] < s[t + T_END]:
            s[t + T_PHASE] = FOLLOW_PAGE_PTE
            return RAN
        mmap_read_unlock(m, s, mm)
        return gup_done(m, s, t)
    s[t + T_OLD] = pfn
    if not foll & FOLL_FORCE:
        mmap_read_unlock(m, s, mm)
    s[t + T_PHASE] = GUP_ACCESS
    return RAN


def is_cow_mapping(vma: int) -> int:
    """(vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE; every mapping of the language may become writable."""
    return 1 if vma & VM_MAPPED and not vma & VM_SHARED else 0


def check_vma_flags(vma: int, foll: int, cow: int) -> int:
    """A forced write needs a COW mapping: it may break COW there, it may never write to what others share."""
    if not vma & VM_MAPPED:
        return 0
    if foll & FOLL_WRITE and not vma & VM_WRITE and not (foll & FOLL_FORCE and cow):
        return 0
    return 1 if foll & FOLL_WRITE or vma & VM_READ or foll & FOLL_FORCE else 0


def can_follow_write_pte(m: Machine, s: State, t: int, vma: int, bits: int, folio: int, anon: int) -> int:
    """May a write go through this read-only pte? Only if COW is known to be broken; kernels know it differently."""
    if vma & VM_WRITE or vma & VM_SHARED or bits & UFFD_WP:
        return 0
    exclusive = 1 if anon and s[folio + EXCLUSIVE] and not soft_dirty_wanted(vma, bits) else 0
    return m.k.gup_forced_write_ok(s[t + T_FLAGS], s[t + T_AUX], 1 if bits & DIRTY else 0, exclusive)


def faultin_page(m: Machine, s: State, t: int, fault: int) -> int:
    """handle_mm_fault() on behalf of GUP, mmap_lock held; then the same page is looked at again."""
    mm, page = s[t + T_MM] - 1, s[t + T_PAGE]
    pte = pte_at(m, mm, page)
    s[t + T_FAULT] = fault
    s[t + T_RET] = POPULATE if s[t + T_PHASE] == POPULATE else FOLLOW_PAGE_PTE
    if s[pte + PTE_SLOT]:
        return do_swap_page(m, s, t, pte)
    if not s[pte + PTE_BITS] & PRESENT:
        return do_pte_missing(m, s, t, pte)
    return do_wp_page(m, s, t, pte)


# --- references and handles -----------------------------------------------------------------------------------------


def grab(m: Machine, s: State, pfn: int, foll: int) -> None:
    """try_grab_folio(): +1 for FOLL_GET, +1024 for FOLL_PIN; the zero page is not counted by every kernel."""
    folio = folio_at(m, pfn)
    if foll & FOLL_PIN:
        if pfn != ZERO_PFN or m.k.gup_counts_zero_page():
            s[folio + PINS] += 1
    elif foll & FOLL_GET:
        pg.folio_get(s, folio)


def ungrab(m: Machine, s: State, pfn: int, foll: int) -> None:
    folio = folio_at(m, pfn)
    if foll & FOLL_PIN:
        if pfn == ZERO_PFN and not m.k.gup_counts_zero_page():
            return
        if s[folio + PINS] == 0:
            raise pg.ModelError("pin count below zero")
        s[folio + PINS] -= 1
        pg.free_if_unused(m, s, folio)
    elif foll & FOLL_GET:
        pg.folio_put(m, s, folio)


def has_handle(s: State, t: int) -> int:
    """Is the reference kept in a handle (pin, get and the interfaces), or for one access only (peek, poke)?"""
    return 0 if s[t + T_MODE] == NO_HANDLE else 1


#: T_MODE of a request without a handle.
NO_HANDLE = 1


def record(m: Machine, s: State, t: int, pfn: int) -> None:
    """The page goes into the caller's array; on to the next one."""
    op = current_op(m, s, t)
    page = s[t + T_PAGE]
    entry = pin_page_at(m, op[OP_ARGS], page - op[OP_ARGS + 1])
    s[entry + PIN_PFN] = pfn
    s[entry + PIN_BOUND] = page + 1
    s[t + T_PAGE] = page + 1


def forget_taken(m: Machine, s: State, t: int) -> None:
    """Give back every page taken so far and start again at the first."""
    op = current_op(m, s, t)
    first = op[OP_ARGS + 1]
    for i in range(s[t + T_PAGE] - first):
        entry = pin_page_at(m, op[OP_ARGS], i)
        pfn = s[entry + PIN_PFN]
        s[entry + PIN_PFN] = NO_PFN
        s[entry + PIN_BOUND] = 0
        ungrab(m, s, pfn, s[t + T_FLAGS])
    s[t + T_PAGE] = first


def gup_done(m: Machine, s: State, t: int) -> int:
    handle = pin_at(m, current_op(m, s, t)[OP_ARGS])
    if s[handle + PIN_MODE] & MODE_DIRTIES and s[t + T_PHASE] != BIO_SET_PAGES_DIRTY:
        s[t + T_PHASE] = BIO_SET_PAGES_DIRTY
        return RAN
    s[handle + PIN_HELD] = HELD
    return finish(m, s, t, OK)


def bio_set_pages_dirty(m: Machine, s: State, t: int) -> int:
    """A direct read of a block device marks its pages dirty before it is submitted, and again when it has ended.

    Between the reference and this reclaim still finds a page clean that MADV_FREE has given up. Page by page; one step,
    since each page's mark is looked at by itself.
    """
    handle = pin_at(m, current_op(m, s, t)[OP_ARGS])
    for entry in range(handle + PIN_PAGES, handle + m.pin_size, PIN_PAGE_SIZE):
        if s[entry + PIN_PFN] != NO_PFN:
            s[folio_at(m, s[entry + PIN_PFN]) + DIRTY_FOLIO] = 1
    return gup_done(m, s, t)


def gup_failed(m: Machine, s: State, t: int, error: int) -> int:
    """Nothing stays pinned; the handle is as if never taken. mmap_lock is held."""
    mm = s[t + T_MM] - 1
    if has_handle(s, t):
        op = current_op(m, s, t)
        handle = pin_at(m, op[OP_ARGS])
        if s[handle + PIN_MODE] & MODE_ALL_OR_ENOMEM and s[t + T_PAGE] > op[OP_ARGS + 1]:
            error = ENOMEM
        forget_taken(m, s, t)
        for field in range(handle, handle + m.pin_size):
            s[field] = 0
    elif s[t + T_FLAGS] & FOLL_FORCE:
        error = EIO  # ptrace and /proc/PID/mem report every failure so
    mmap_read_unlock(m, s, mm)
    return finish(m, s, t, error)


def unpin(m: Machine, s: State, t: int) -> int:
    """unpin_user_pages() or put_page(): from now on the handle promises nothing; its pages go one by one."""
    handle = pin_at(m, current_op(m, s, t)[OP_ARGS])
    held = s[handle + PIN_HELD]
    if held == TAKING:
        return BLOCKED  # another thread is still taking it
    if held != HELD:
        return finish(m, s, t, EINVAL)
    s[handle + PIN_HELD] = RELEASED
    for entry in range(handle + PIN_PAGES, handle + m.pin_size, PIN_PAGE_SIZE):
        s[entry + PIN_BOUND] = 0
    s[t + T_PHASE] = UNPIN_PAGE
    return unpin_page(m, s, t)


def unpin_page(m: Machine, s: State, t: int) -> int:
    """One page: what the device wrote is marked dirty now, at completion, and not before (io_uring: not at all).

    Behind an IOMMU the device's address ends here; without one it keeps the frame number, for better or worse.
    """
    op = current_op(m, s, t)
    pin, index = op[OP_ARGS], s[t + T_PAGE]
    mode = s[pin_at(m, pin) + PIN_MODE]
    entry = pin_page_at(m, pin, index)
    pfn = s[entry + PIN_PFN]
    if mode & MODE_IOMMU:
        s[entry + PIN_PFN] = NO_PFN
    if pfn != NO_PFN and not mode & MODE_ODP:
        if mode & MODE_WRITE and not mode & MODE_CLEAN:
            s[folio_at(m, pfn) + DIRTY_FOLIO] = 1
        ungrab(m, s, pfn, FOLL_PIN if mode & MODE_PIN else FOLL_GET)
    s[t + T_PAGE] = index + 1
    if index + 1 < op[OP_ARGS + 1]:
        return RAN
    return finish(m, s, t, OK)


# --- one access through a temporary reference -------------------------------------------------------------------------


def gup_access(m: Machine, s: State, t: int) -> int:
    """The copy to or from the page that GUP found, then the reference goes.

    ptrace and /proc/PID/mem (FOLL_FORCE) hold mmap_lock until then, process_vm_readv and writev do not.
    """
    op = current_op(m, s, t)
    page, cell, value, write = op[OP_ARGS + 1], op[OP_ARGS + 2], op[OP_ARGS + 3], op[OP_ARGS + 4]
    mm, pfn = s[t + T_MM] - 1, s[t + T_OLD]
    folio = folio_at(m, pfn)
    if write:
        pg.write_cell(m, s, folio, cell, value, mm, page)
        s[folio + DIRTY_FOLIO] = 1  # set_page_dirty_lock(): no pte says so
        result = OK
    else:
        result = VALUE0 + pg.read_cell(m, s, folio, cell, mm, page)
    s[t + T_OLD] = 0
    ungrab(m, s, pfn, s[t + T_FLAGS])
    if s[t + T_FLAGS] & FOLL_FORCE:
        mmap_read_unlock(m, s, mm)
    return finish(m, s, t, result)

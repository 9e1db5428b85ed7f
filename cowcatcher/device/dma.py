"""A device's accesses through a pin, and the events that start and end them.

A device knows frames, not addresses: it was told where the pages are when they were pinned, and nobody tells it when
the process moves to others. Two things soften that. Behind an IOMMU an address dies with its mapping: a late DMA is
a fault that is seen, not a write into somebody's page. And an on-demand-paging region has no pins at all: an MMU
notifier takes the device's translation away whenever the page table changes, so each access goes where the owner's
page table leads then.
"""

from __future__ import annotations

from cowcatcher.mm import page as pg
from cowcatcher.mm.fault import access_allowed, handle_pte_fault
from cowcatcher.mm.phases import BLOCKED, ODP_ACCESS, RAN
from cowcatcher.mm.task import clear_scratch, finish, mmap_read_trylock, mmap_read_unlock
from cowcatcher.state import *


def dma(m: Machine, s: State, t: int) -> int:
    """``dma_read`` and ``dma_write``. Operands: pin, page of the pin, cell, value, 1 for write.

    A handle that is not (or no longer) taken: EIO if it never was, IOMMU_FAULT if the IOMMU mapping is gone; without an
    IOMMU the device still has the frame number and uses it.
    """
    op = current_op(m, s, t)
    pin, index, cell = op[OP_ARGS], op[OP_ARGS + 1], op[OP_ARGS + 2]
    handle = pin_at(m, pin)
    if s[handle + PIN_HELD] == NOT_TAKEN or s[handle + PIN_HELD] == TAKING:
        return finish(m, s, t, EIO)
    if s[handle + PIN_MODE] & MODE_ODP:
        return odp_access(m, s, t)
    entry = pin_page_at(m, pin, index)
    pfn = s[entry + PIN_PFN]
    if pfn == NO_PFN:
        return finish(m, s, t, IOMMU_FAULT)
    owner = s[handle + PIN_MM] - 1
    return access(m, s, t, folio_at(m, pfn), cell, owner, s[entry + PIN_BOUND] - 1)


def access(m: Machine, s: State, t: int, folio: int, cell: int, owner: int, page: int) -> int:
    """One access to memory on behalf of the pin's owner."""
    op = current_op(m, s, t)
    if op[OP_ARGS + 4]:
        pg.write_cell(m, s, folio, cell, op[OP_ARGS + 3], owner, page)
        if s[pin_at(m, op[OP_ARGS]) + PIN_MODE] & MODE_ODP:
            s[folio + DIRTY_FOLIO] = 1  # the notifier says so before anybody can take the page away
        return finish(m, s, t, OK)
    return finish(m, s, t, VALUE0 + pg.read_cell(m, s, folio, cell, owner, page))


def odp_access(m: Machine, s: State, t: int) -> int:
    """Through the owner's page table as it is now; a page that is not there is faulted in as the owner would.

    The notifier makes invalidation and page-table change one event for the device, so a private copy of the
    translation in the model would never differ from the page table.
    """
    op = current_op(m, s, t)
    pin, index, cell, write = op[OP_ARGS], op[OP_ARGS + 1], op[OP_ARGS + 2], op[OP_ARGS + 4]
    handle = pin_at(m, pin)
    page = s[pin_page_at(m, pin, index) + PIN_BOUND] - 1
    if s[handle + PIN_HELD] != HELD or page < 0:
        return finish(m, s, t, IOMMU_FAULT)
    owner = s[handle + PIN_MM] - 1
    pte = pte_at(m, owner, page)
    bits = s[pte + PTE_BITS]
    if bits & PRESENT and s[vma_at(m, owner, page)] & VM_READ and (not write or bits & WRITE):
        return access(m, s, t, folio_at(m, s[pte + PTE_PFN]), cell, owner, page)
    if mmap_read_trylock(m, s, owner) == BLOCKED:
        return BLOCKED
    if not access_allowed(m, s, owner, page, write):
        mmap_read_unlock(m, s, owner)
        return finish(m, s, t, IOMMU_FAULT)
    s[t + T_MM] = owner + 1
    s[t + T_PAGE] = page
    s[t + T_FAULT] = FAULT_WRITE if write else 0
    s[t + T_RET] = ODP_ACCESS
    return handle_pte_fault(m, s, t)


def odp_retry(m: Machine, s: State, t: int) -> int:
    """The device's page fault has been handled: drop mmap_lock and access again from the start."""
    mmap_read_unlock(m, s, s[t + T_MM] - 1)
    clear_scratch(s, t)
    return RAN


def post(m: Machine, s: State, t: int) -> int:
    """eventfd write: the counter goes up."""
    event = m.events + current_op(m, s, t)[OP_ARGS]
    s[event] = min(s[event] + 1, 250)
    return finish(m, s, t, OK)


def await_event(m: Machine, s: State, t: int) -> int:
    """Semaphore-like eventfd read: wait for one signal and take it."""
    event = m.events + current_op(m, s, t)[OP_ARGS]
    if s[event] == 0:
        return BLOCKED
    s[event] -= 1
    return finish(m, s, t, OK)

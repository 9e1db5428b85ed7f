"""The questions on which kernels differ.

``mm/`` and ``device/`` never ask which version they run; they ask one of these. A kernel is one answer to each: see
``cowcatcher.kernels``. Every question is a pure function of plain integers, so two kernels that answer alike whatever a
test asks them have the same state graph, and an answer can be compiled.

Facts that questions are asked about, all integers or 0/1:

=============  =====================================================================================================
exclusive      PageAnonExclusive of the page
refcount       ``folio_ref_count``: mappings, FOLL_GETs, swap cache, LRU batch, 1024 for each FOLL_PIN
mapcount       present ptes that map the page
swapcount      swap ptes that name its slot
swapcache      in the swap cache
pinned         ``page_maybe_dma_pinned``: refcount at least 1024, whoever holds it
has_pinned     the mm ever took a FOLL_PIN
anon, cow      an anonymous page; a mapping that is private and may become writable
foll           FOLL_* bits of the request
=============  =====================================================================================================
"""

from __future__ import annotations

from typing import Protocol


class Decisions(Protocol):
    """One method a question. Grouped by the file of ``mm/`` that asks."""

    # fault: a write (or unshare) fault on a present, read-only anonymous page
    def wp_takes_page_lock(self, exclusive: int, /) -> int:
        """Must the folio lock be held to look at this page's counts?"""
        ...

    def wp_waits_for_page_lock(self) -> int:
        """If somebody else holds the folio lock: 1 to sleep for it, 0 to copy at once."""
        ...

    def wp_drains_lru_batch(self, refcount: int, /) -> int:
        """Is this CPU's LRU-add batch drained before references are counted?"""
        ...

    def wp_frees_swapcache(self, refcount: int, /) -> int:
        """Is an idle swap-cache entry dropped before references are counted?"""
        ...

    def wp_can_reuse(self, exclusive: int, refcount: int, mapcount: int, swapcount: int, pinned: int, /) -> int:
        """May the faulting process write to this page in place? Else it gets a copy."""
        ...

    def copy_frees_swapcache(self) -> int:
        """Is the page that was left behind taken out of the swap cache, if nobody maps it any more?"""
        ...

    def tracks_exclusive(self) -> int:
        """Is PageAnonExclusive kept at all?"""
        ...

    # gup
    def gup_read_breaks_cow(self, foll: int, cow: int, /) -> int:
        """Is a request to read treated as a request to write?"""
        ...

    def gup_must_unshare(self, foll: int, anon: int, exclusive: int, cow: int, /) -> int:
        """Must a read-only page be unshared (copied, if need be) before this reference may be taken?"""
        ...

    def gup_forced_write_ok(self, foll: int, broke_cow: int, dirty: int, exclusive: int, /) -> int:
        """May a FOLL_WRITE reference be taken through a pte that is not writable?"""
        ...

    def gup_counts_zero_page(self) -> int:
        """Does a FOLL_PIN of the shared zero page count?"""
        ...

    def gup_fast_checks_write_protect_seq(self) -> int:
        """Does GUP-fast give up when fork copied the page tables meanwhile?"""
        ...

    # fork
    def fork_copies_now(self, has_pinned: int, pinned: int, exclusive: int, /) -> int:
        """Must fork give the child a copy of this page at once, instead of sharing it?"""
        ...

    def fork_leaves_out(self, has_pinned: int, pinned: int, /) -> int:
        """Is this page simply not mapped in the child?"""
        ...

    # signals
    def core_dump_ends_sharers(self) -> int:
        """Does a signal that would dump core also end other processes on the same memory (vfork)?"""
        ...

    # reclaim and swap
    def reclaim_keeps(self, pinned: int, swapcache: int, /) -> int:
        """Is the page left alone before it is given swap space?"""
        ...

    def unmap_refuses(self, pinned: int, exclusive: int, /) -> int:
        """Does try_to_unmap put the pte back instead of a swap entry?"""
        ...

    def swap_entry_remembers_exclusive(self) -> int:
        """Does a swap pte carry the exclusive marker of the page it replaced?"""
        ...

    def swapin_sheds_when_mapped(self) -> int:
        """Is the swap-cache entry dropped once the page is mapped, not before it is asked whether it is exclusive?"""
        ...

    def swapin_sheds_swapcache(self, write: int, served: int, exclusive: int, refcount: int, mapcount: int, /) -> int:
        """Does the fault try to drop the swap-cache entry?

        ``refcount`` includes the fault's own, which becomes the mapping's. ``served``: the pte allows the write by now.
        """
        ...

    def swapin_is_exclusive(
        self, write: int, entry_exclusive: int, refcount: int, mapcount: int, swapcount: int, /
    ) -> int:
        """Does a page that comes back from swap belong to this process alone?

        ``swapcount`` counts the entry being replaced; ``refcount`` includes the fault's own reference.
        """
        ...

    def swapin_read_maps_writable(self) -> int:
        """Is an exclusive page mapped writable even when the fault was a read?"""
        ...

    def lazyfree_discards(self, dirty: int, refcount: int, mapcount: int, /) -> int:
        """May reclaim throw an MADV_FREE page away? ``refcount`` includes reclaim's own reference."""
        ...

    def lazyfree_ends(self, dirty: int, /) -> int:
        """Is an MADV_FREE page that could not be thrown away an ordinary page again?"""
        ...

    # hugetlb
    def hugetlb_fork_copies_pinned(self) -> int:
        """Does fork ask of a huge page, too, whether it has to be copied now?"""
        ...

    def hugetlb_copy_obeys_vma(self) -> int:
        """Is the copy that fork makes of a huge page writable in the child only if its mapping is?"""
        ...

    def hugetlb_refuses_forced_write(self) -> int:
        """Does GUP refuse to write to a huge page against the mapping's protection?"""
        ...

    def hugetlb_fault_obeys_vma(self) -> int:
        """Does a write fault leave the pte of a huge page read-only if its mapping is?"""
        ...

    # mprotect, madvise, clear_refs
    def mprotect_restores_write(self, exclusive: int, dirty: int, /) -> int:
        """Does mprotect(RW) make a private anonymous pte writable at once?"""
        ...

    def uffd_resolve_restores_write(self) -> int:
        """Is a pte that userfaultfd releases made writable where mprotect(RW) would?"""
        ...

    def clear_refs_skips(self, has_pinned: int, pinned: int, writable: int, /) -> int:
        """Does clear_refs leave this pte's write permission and soft-dirty bit alone?"""
        ...

    def clear_refs_excludes_faults(self) -> int:
        """Does clear_refs hold mmap_lock for writing while it walks the page table?"""
        ...

    def madvise_knows_populate(self) -> int:
        """Are MADV_POPULATE_READ and MADV_POPULATE_WRITE known?"""
        ...

    # device: FOLL_* flags that an interface uses
    def foll_rdma(self, readonly: int, /) -> int:
        """ib_umem_get, for a region the device may (0) or may not (1) write."""
        ...

    def foll_io_uring(self) -> int:
        """A fixed buffer."""
        ...

    def foll_vfio(self, readonly: int, /) -> int:
        """VFIO type1."""
        ...

    def foll_xdp(self) -> int:
        """An AF_XDP packet area."""
        ...

    def foll_vmsplice(self) -> int:
        """vmsplice to a pipe."""
        ...

    def foll_dio_block(self, device_writes: int, /) -> int:
        """O_DIRECT on a block device or a filesystem that uses iomap or fs/direct-io.c."""
        ...

    def foll_dio_nfs(self, device_writes: int, /) -> int:
        """O_DIRECT on NFS."""
        ...

    def foll_dio_fuse(self, device_writes: int, /) -> int:
        """O_DIRECT on FUSE."""
        ...

    def foll_process_vm(self, write: int, /) -> int:
        """process_vm_readv, process_vm_writev."""
        ...

    def foll_ptrace(self, write: int, /) -> int:
        """PTRACE_PEEKDATA and POKEDATA, /proc/PID/mem."""
        ...

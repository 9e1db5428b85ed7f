"""Every decision that some Linux kernel took, by the question it answers, oldest first.

Each is a pure predicate over plain facts (see ``cowcatcher.decision`` for what they mean). The docstring says what the
rule achieves or what goes wrong without it; the commit says since when. Which kernel takes which is in ``history``.
"""

from __future__ import annotations

from cowcatcher.kernels.decision import decision
from cowcatcher.state import FOLL_FAST, FOLL_FORCE, FOLL_GET, FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE

WP = "mm/memory.c:do_wp_page"

# --- write fault ------------------------------------------------------------------------------------------------------


@decision("wp_takes_page_lock", source=WP)
def lock_page_always(exclusive: int) -> int:
    """Counts are only stable under the folio lock, so every write fault on an anonymous page takes it."""
    return 1


@decision("wp_takes_page_lock", "6c287605fd56", source=WP)
def lock_page_unless_exclusive(exclusive: int) -> int:
    """An exclusive page needs no counting, hence no lock: a lock holder (reclaim, compaction) cannot force a copy.

    Without it a pinned page is copied away from its owner whenever somebody happens to hold the folio lock.
    """
    return 0 if exclusive else 1


@decision("wp_waits_for_page_lock", source=WP)
def sleep_for_page_lock() -> int:
    """Drop the page-table lock, sleep until the folio is unlocked, look again."""
    return 1


@decision("wp_waits_for_page_lock", "09854ba94c6a", source=WP)
def copy_if_page_locked() -> int:
    """Try the lock once and copy if that fails: quicker, and one more reason why a page moves."""
    return 0


@decision("wp_drains_lru_batch", source=WP)
def count_lru_batch(refcount: int) -> int:
    """The reference that a per-CPU LRU-add batch holds counts like anybody's."""
    return 0


@decision("wp_drains_lru_batch", "d4c470970d45", source=WP)
def drain_lru_batch(refcount: int) -> int:
    """Drain the local batch first, if that could be what keeps the page from being the only reference.

    Without it a page that was faulted in a moment ago is copied for nothing.
    """
    return 1 if refcount <= 3 else 0


@decision("wp_frees_swapcache", source=WP)
def count_swapcache(refcount: int) -> int:
    """The swap cache's reference counts like anybody's."""
    return 0


@decision("wp_frees_swapcache", "53a05ad9f21d", source=WP)
def free_idle_swapcache(refcount: int) -> int:
    """Drop the page from the swap cache first, if nobody needs the slot any more.

    Without it a page that was swapped in by a read is copied at the next write for nothing. A page that others map too
    stays there: it will be copied anyway.
    """
    return 1 if refcount <= 2 else 0


@decision("wp_can_reuse", source=WP)
def reuse_if_sole_mapping(exclusive: int, refcount: int, mapcount: int, swapcount: int, pinned: int) -> int:
    """The classic rule: alone if one page table entry, present or swapped, names the page.

    Whoever else holds a reference (a pipe, a device) is not asked: the page may be written under their eyes
    (CVE-2020-29374), but a pinned page stays with the last process that maps it.
    """
    return 1 if mapcount + swapcount <= 1 else 0


@decision("wp_can_reuse", "09854ba94c6a", source=WP)
def reuse_if_sole_reference(exclusive: int, refcount: int, mapcount: int, swapcount: int, pinned: int) -> int:
    """Alone only if no reference of any kind is left but this mapping's.

    Closes the leak through foreign references. But a pin is a reference: once the pte is read-only, for whatever
    reason, the owner's next write moves it to a copy and the device keeps the old page. This is what broke RDMA in
    5.9-rc4.
    """
    return 1 if refcount == 1 and mapcount == 1 else 0


@decision("wp_can_reuse", "6c287605fd56", source=WP)
def reuse_if_exclusive(exclusive: int, refcount: int, mapcount: int, swapcount: int, pinned: int) -> int:
    """A page marked exclusive is this process's own whatever references exist; else count as before.

    The marker says what no count can: whether the other reference is our device's or our child's.
    """
    return 1 if exclusive or refcount == 1 else 0


@decision("copy_frees_swapcache", source="mm/memory.c:wp_page_copy")
def copied_page_lingers() -> int:
    """The page left behind by a copy stays in the swap cache until reclaim finds it."""
    return 0


@decision("copy_frees_swapcache", "f4c4a3f48480", source="mm/memory.c:wp_page_copy")
def copied_page_leaves_swapcache() -> int:
    """The page left behind by a copy is dropped from the swap cache at once, if nobody maps it.

    Without it swapped-in pages that are written once take twice their memory for a while.
    """
    return 1


@decision("tracks_exclusive", source="include/linux/page-flags.h")
def no_exclusive_marker() -> int:
    """Nothing records that a page belongs to one process alone."""
    return 0


@decision("tracks_exclusive", "78fbe906cc90", "6c287605fd56", source="include/linux/page-flags.h:PageAnonExclusive")
def exclusive_marker() -> int:
    """New anonymous pages are marked exclusive; fork, swap-out and KSM take the marker away, or fail on a pin."""
    return 1


# --- gup --------------------------------------------------------------------------------------------------------------


@decision("gup_read_breaks_cow", source="mm/gup.c:follow_page_pte")
def reading_leaves_cow_alone(foll: int, cow: int) -> int:
    """A request to read takes the page as it is, shared or not."""
    return 0


@decision("gup_read_breaks_cow", "17839856fd58", source="mm/gup.c:should_force_cow_break")
def every_reference_breaks_cow(foll: int, cow: int) -> int:
    """Any counted reference in a private mapping is treated as a request to write, so it lands on a page of one's own.

    Closes CVE-2020-29374 at its source, and breaks readers: ptrace of protected or DAX text, uffd-wp monitors.
    """
    return 1 if cow and foll & (FOLL_GET | FOLL_PIN) else 0


@decision("gup_read_breaks_cow", "a308c71bf1e6", source="mm/gup.c:follow_page_pte")
def no_enforced_cow(foll: int, cow: int) -> int:
    """The write fault decides again (by reference count), so readers need not break COW."""
    return 0


@decision("gup_must_unshare", source="mm/gup.c:follow_page_pte")
def pin_shared_pages(foll: int, anon: int, exclusive: int, cow: int) -> int:
    """A pin to read takes a page that parent and child still share; whoever writes first leaves it behind."""
    return 0


@decision("gup_must_unshare", "a7f226604170", source="mm/gup.c:gup_must_unshare")
def unshare_anon_before_pin(foll: int, anon: int, exclusive: int, cow: int) -> int:
    """Only exclusive anonymous pages may be pinned; a shared one is copied first.

    Without it a device that reads a registered buffer sees old data after the next write of the owner.
    """
    return 1 if foll & FOLL_PIN and anon and not exclusive else 0


@decision("gup_must_unshare", "84209e87c696", "8d6a0ac09a16", source="mm/gup.c:gup_must_unshare")
def unshare_anything_before_longterm_pin(foll: int, anon: int, exclusive: int, cow: int) -> int:
    """A long-term pin to read also unshares the zero page and the page cache in a private mapping.

    Without it a buffer that was registered before its first write is read as zeroes for ever.
    """
    if not foll & FOLL_PIN:
        return 0
    if not anon:
        return 1 if foll & FOLL_LONGTERM and cow else 0
    return 0 if exclusive else 1


@decision("gup_forced_write_ok", source="mm/gup.c:can_follow_write_pte")
def forced_write_if_dirty(foll: int, broke_cow: int, dirty: int, exclusive: int) -> int:
    """FOLL_COW: this very request broke COW, and the pte is dirty, so the copy is still there."""
    return 1 if foll & FOLL_FORCE and broke_cow and dirty else 0


@decision("gup_forced_write_ok", "17839856fd58", source="mm/gup.c:can_follow_write_pte")
def any_write_if_dirty(foll: int, broke_cow: int, dirty: int, exclusive: int) -> int:
    """The same without FOLL_FORCE, since reads are writes now and may meet read-only mappings."""
    return 1 if broke_cow and dirty else 0


@decision("gup_forced_write_ok", "5535be309971", source="mm/gup.c:can_follow_write_pte")
def forced_write_if_exclusive(foll: int, broke_cow: int, dirty: int, exclusive: int) -> int:
    """A forced write may go to an exclusive anonymous page and to nothing else (CVE-2022-2590); FOLL_COW is gone.

    It also spares the fault, and with it the copy, when the page is exclusive already.
    """
    return 1 if foll & FOLL_FORCE and exclusive else 0


@decision("gup_counts_zero_page", source="mm/gup.c:try_grab_page")
def pin_zero_page() -> int:
    """The shared zero page is pinned like any other, up to an overflow of its count."""
    return 1


@decision("gup_counts_zero_page", "c8070b787519", source="mm/gup.c:try_grab_page")
def never_pin_zero_page() -> int:
    """The zero page goes nowhere and is nobody's: a FOLL_PIN of it is not counted."""
    return 0


@decision("gup_fast_checks_write_protect_seq", source="mm/gup.c:lockless_pages_from_mm")
def no_fork_check_in_gup_fast() -> int:
    """GUP-fast looks at the pte only."""
    return 0


@decision("gup_fast_checks_write_protect_seq", "57efa1fe5957", source="mm/gup.c:lockless_pages_from_mm")
def gup_fast_yields_to_fork() -> int:
    """Pins taken while fork copies the page tables are given back and taken again the slow way.

    Without it a pin may come between fork's look at the counts and its write-protection: the seed's bug in a small
    window.
    """
    return 1


# --- fork -------------------------------------------------------------------------------------------------------------


@decision("fork_copies_now", source="mm/memory.c:copy_one_pte")
def fork_shares_everything(has_pinned: int, pinned: int, exclusive: int) -> int:
    """Private pages are shared and write-protected in both processes, pinned or not."""
    return 0


@decision("fork_copies_now", "70e806e4e645", "008cfe4418b3", source="mm/memory.c:copy_present_page")
def fork_copies_pinned(has_pinned: int, pinned: int, exclusive: int) -> int:
    """A page that may be pinned is copied for the child at once; the parent's pte stays as it was.

    Without it the parent's next write after fork moves it away from its own device.
    """
    return 1 if has_pinned and pinned else 0


@decision("fork_copies_now", "fb3d824d1a46", "6c287605fd56", source="include/linux/mm.h:page_try_dup_anon_rmap")
def fork_copies_pinned_exclusive(has_pinned: int, pinned: int, exclusive: int) -> int:
    """As before, but only a page that is exclusive: one that is shared already cannot be pinned, whatever its count
    says.

    Without it 1024 ordinary mappings look like a pin and every further fork copies.
    """
    return 1 if exclusive and has_pinned and pinned else 0


@decision("fork_leaves_out", source="mm/memory.c:copy_page_range")
def fork_maps_every_page(has_pinned: int, pinned: int) -> int:
    """Never: only MADV_DONTFORK leaves memory out of the child."""
    return 0


# --- signals ----------------------------------------------------------------------------------------------------------


@decision("core_dump_ends_sharers", source="fs/coredump.c:zap_threads")
def core_dump_ends_all_of_the_memory() -> int:
    """Dump or no dump: whoever runs on the same memory dies of the same signal, so that it stands still."""
    return 1


@decision("core_dump_ends_sharers", "0258b5fd7c71", source="fs/coredump.c:zap_threads")
def core_dump_ends_one_process() -> int:
    """Its threads only. Without it a vfork child that crashes takes its parent along."""
    return 0


# --- reclaim and swap -------------------------------------------------------------------------------------------------


@decision("reclaim_keeps", source="mm/vmscan.c:shrink_page_list")
def reclaim_takes_pinned(pinned: int, swapcache: int) -> int:
    """Reclaim unmaps what it likes; a page with extra references is merely not freed."""
    return 0


@decision("reclaim_keeps", "feb889fb40fa", source="mm/vmscan.c:shrink_page_list")
def reclaim_keeps_pinned(pinned: int, swapcache: int) -> int:
    """A page that may be pinned gets no swap space. Racy: the pin may come a moment later."""
    return 1 if pinned and not swapcache else 0


@decision("unmap_refuses", source="mm/rmap.c:try_to_unmap_one")
def unmap_whatever_is_pinned(pinned: int, exclusive: int) -> int:
    """The pte is replaced by a swap entry even if a pin has arrived since reclaim looked."""
    return 0


@decision("unmap_refuses", "6c287605fd56", source="mm/rmap.c:try_to_unmap_one")
def unmap_refuses_pinned_exclusive(pinned: int, exclusive: int) -> int:
    """The exclusive marker must be given up before a page is unmapped, and that fails while the page is pinned.

    Without it a pinned page is found behind a swap entry, and fork or a read fault make it shared.
    """
    return 1 if exclusive and pinned else 0


@decision("swap_entry_remembers_exclusive", source="mm/rmap.c:try_to_unmap_one")
def swap_forgets_exclusive() -> int:
    """A page that comes back from swap has to be counted again."""
    return 0


@decision("swap_entry_remembers_exclusive", "1493a1913e34", source="mm/rmap.c:try_to_unmap_one")
def swap_remembers_exclusive() -> int:
    """The swap entry carries the exclusive marker, so the page is still this process's own when it comes back.

    Without it a page on which somebody holds a plain reference (O_DIRECT before 6.5) is copied after swap-in.
    """
    return 1


@decision("swapin_sheds_when_mapped", source="mm/memory.c:do_swap_page")
def shed_then_map() -> int:
    """Before, so that the swap cache's reference is gone when references are counted."""
    return 0


@decision("swapin_sheds_when_mapped", "4b34f1d82c65", source="mm/memory.c:do_swap_page")
def map_then_shed() -> int:
    """After: who faults on the same entry meanwhile finds the page there, and waits for it.

    The swap cache's reference is still counted, so only the marker can say that a page is exclusive.
    """
    return 1


@decision("swapin_sheds_swapcache", source="mm/swapfile.c:reuse_swap_page")
def shed_swapcache_if_sole_mapping(write: int, served: int, exclusive: int, refcount: int, mapcount: int) -> int:
    """A write fault that finds itself the only user takes the page out of the swap cache."""
    return 1 if write and mapcount == 0 else 0


@decision("swapin_sheds_swapcache", "c145e0b47c77", source="mm/memory.c:should_try_to_free_swap")
def shed_swapcache_if_two_references(write: int, served: int, exclusive: int, refcount: int, mapcount: int) -> int:
    """Only if the fault and the swap cache are the only two left; with more, exclusivity could not be had anyway.

    And only for a write that is still to come: from 7.0 to 7.2 that is looked at when the pte is writable already.
    """
    return 1 if write and not served and refcount == 2 else 0


@decision("swapin_sheds_swapcache", "3cedb745d354", source="mm/memory.c:should_try_to_free_swap")
def shed_swapcache_if_exclusive(write: int, served: int, exclusive: int, refcount: int, mapcount: int) -> int:
    """A write to a page of one's own. Without it a written page keeps its slot until reclaim finds it."""
    return 1 if write and exclusive else 0


@decision("swapin_is_exclusive", source="mm/swapfile.c:reuse_swap_page")
def swapin_by_mapcount(write: int, entry_exclusive: int, refcount: int, mapcount: int, swapcount: int) -> int:
    """The classic rule at swap-in: alone if no other page table entry names the page, whoever holds references."""
    return 1 if write and mapcount + swapcount <= 1 else 0


@decision("swapin_is_exclusive", "c145e0b47c77", source="mm/memory.c:do_swap_page")
def swapin_by_refcount(write: int, entry_exclusive: int, refcount: int, mapcount: int, swapcount: int) -> int:
    """No reference but the fault's own.

    Without it the leak of CVE-2020-29374 stays open through swap; with it alone a page under I/O is copied.
    """
    return 1 if refcount == 1 else 0


@decision("swapin_is_exclusive", "1493a1913e34", source="mm/memory.c:do_swap_page")
def swapin_by_marker(write: int, entry_exclusive: int, refcount: int, mapcount: int, swapcount: int) -> int:
    """The marker in the swap entry, or no reference but the fault's own."""
    return 1 if entry_exclusive or refcount == 1 else 0


@decision("swapin_is_exclusive", "34f6c8932e11", source="mm/memory.c:do_swap_page")
def swapin_by_marker_alone(write: int, entry_exclusive: int, refcount: int, mapcount: int, swapcount: int) -> int:
    """The marker alone. A page that lost it at a fork is left to the write fault, which counts."""
    return 1 if entry_exclusive else 0


@decision("swapin_read_maps_writable", source="mm/memory.c:do_swap_page")
def read_swapin_maps_readonly() -> int:
    """A read fault maps read-only; the next write faults again and decides again."""
    return 0


@decision("swapin_read_maps_writable", "c18160dba5ff", source="mm/memory.c:do_swap_page")
def read_swapin_maps_exclusive_writable() -> int:
    """An exclusive page of a writable mapping comes back writable even for a read: one fault less."""
    return 1


@decision("lazyfree_discards", source="mm/rmap.c:try_to_unmap_one")
def discard_if_clean(dirty: int, refcount: int, mapcount: int) -> int:
    """An MADV_FREE page that is clean goes, whoever holds a reference."""
    return 0 if dirty else 1


@decision("lazyfree_discards", "6c8e2a256915", source="mm/rmap.c:try_to_unmap_one")
def discard_if_clean_and_unreferenced(dirty: int, refcount: int, mapcount: int) -> int:
    """Not while anybody but reclaim and the page tables holds it.

    Without it a direct read that has not completed yet (its page is dirtied only at completion) is thrown away.
    """
    return 1 if not dirty and refcount == 1 + mapcount else 0


@decision("lazyfree_ends", source="mm/rmap.c:try_to_unmap_one")
def kept_once_is_kept(dirty: int) -> int:
    """Whatever it was that kept it: a store since, or somebody's reference."""
    return 1


@decision(
    "lazyfree_ends",
    source="mm/rmap.c:try_to_unmap_one, mm: set folio swapbacked iff folios are dirty in try_to_unmap_one",
)
def kept_for_good_if_dirty(dirty: int) -> int:
    """Only if it was written to (v6.15-rc1; the commit's id was not found). A reference postpones it.

    Without it memory that was given up is swapped out, if reclaim once met it while somebody read it.
    """
    return dirty


# --- hugetlb ----------------------------------------------------------------------------------------------------------


@decision("hugetlb_fork_copies_pinned", source="mm/hugetlb.c:copy_hugetlb_page_range")
def hugetlb_fork_shares() -> int:
    """Never: huge pages are shared and write-protected, pinned or not."""
    return 0


@decision("hugetlb_fork_copies_pinned", "4eae4efa2c29", source="mm/hugetlb.c:copy_hugetlb_page_range")
def hugetlb_fork_copies() -> int:
    """As of any other page. Without it a registered huge page leaves its process when a child lives as it writes."""
    return 1


@decision("hugetlb_copy_obeys_vma", source="mm/hugetlb.c:hugetlb_install_folio")
def hugetlb_copy_is_writable() -> int:
    """Always writable: the child may store to memory that is mapped read-only."""
    return 0


@decision("hugetlb_copy_obeys_vma", source="mm/hugetlb.c:hugetlb_install_folio, message 20241204153100.1967364-1")
def hugetlb_copy_as_mapped() -> int:
    """Writable if the mapping is (v6.14-rc1; the commit's final id was not found)."""
    return 1


@decision("hugetlb_refuses_forced_write", source="mm/gup.c:check_vma_flags")
def hugetlb_forced_write_ok() -> int:
    """A debugger may write; the fault makes the pte writable, and so it stays for the process, too."""
    return 0


@decision("hugetlb_refuses_forced_write", "f347454d0341", source="mm/gup.c:check_vma_flags")
def hugetlb_forced_write_refused() -> int:
    """EFAULT: a huge pte cannot be dirty and read-only. Without it a forced write leaves read-only memory writable."""
    return 1


@decision("hugetlb_refuses_forced_write", source="mm/gup.c:check_vma_flags, mm/hugetlb: support FOLL_FORCE|FOLL_WRITE")
def hugetlb_forced_write_served() -> int:
    """It can be now (v6.14-rc1; the commit's id was not found). Without it text on huge pages has no breakpoints."""
    return 0


@decision("hugetlb_fault_obeys_vma", source="mm/hugetlb.c:hugetlb_wp")
def huge_fault_maps_writable() -> int:
    """Writable, whatever the mapping says: nobody but a debugger gets here."""
    return 0


@decision("hugetlb_fault_obeys_vma", source="mm/hugetlb.c:hugetlb_wp, mm/hugetlb: support FOLL_FORCE|FOLL_WRITE")
def huge_fault_maps_as_allowed() -> int:
    """As maybe_mkwrite() has it for small pages (v6.14-rc1). Without it a forced write opens memory to its owner."""
    return 1


# --- mprotect, clear_refs, madvise ----------------------------------------------------------------------------------


@decision("mprotect_restores_write", source="mm/mprotect.c:change_pte_range")
def private_stays_readonly(exclusive: int, dirty: int) -> int:
    """mprotect(RW) leaves private ptes read-only; the next write faults, and decides."""
    return 0


@decision("mprotect_restores_write", "64fe24a3e05e", source="mm/mprotect.c:can_change_pte_writable")
def restore_write_if_exclusive_and_dirty(exclusive: int, dirty: int) -> int:
    """An exclusive page that is dirty anyway becomes writable at once: no fault, no chance of a copy."""
    return 1 if exclusive and dirty else 0


@decision("mprotect_restores_write", "d84887739d5c", source="mm/mprotect.c:can_change_private_pte_writable")
def restore_write_if_exclusive(exclusive: int, dirty: int) -> int:
    """A clean one, too."""
    return 1 if exclusive else 0


@decision("uffd_resolve_restores_write", source="mm/userfaultfd.c:mwriteprotect_range")
def released_stays_readonly() -> int:
    """UFFDIO_WRITEPROTECT's end leaves the pte to the next write fault."""
    return 0


@decision("uffd_resolve_restores_write", "931298e103c2", source="mm/userfaultfd.c:uffd_wp_range")
def released_becomes_writable() -> int:
    """An exclusive page becomes writable at once: no fault, no chance of a copy."""
    return 1


@decision("clear_refs_skips", source="fs/proc/task_mmu.c:clear_soft_dirty")
def clear_refs_protects_everything(has_pinned: int, pinned: int, writable: int) -> int:
    """Every pte is write-protected to catch the next write, pinned or not."""
    return 0


@decision("clear_refs_skips", "9348b73c2e1b", source="fs/proc/task_mmu.c:clear_soft_dirty")
def clear_refs_skips_pinned(has_pinned: int, pinned: int, writable: int) -> int:
    """A page that may be pinned keeps its write permission (and looks dirty for ever).

    Without it checkpointing a process moves it away from its devices.
    """
    return 1 if writable and has_pinned and pinned else 0


@decision("clear_refs_excludes_faults", source="fs/proc/task_mmu.c:clear_refs_write")
def clear_refs_beside_faults() -> int:
    """mmap_lock for reading: other threads' faults are served between one pte and the next."""
    return 0


@decision("clear_refs_excludes_faults", "29a951dfb3c3", source="fs/proc/task_mmu.c:clear_refs_write")
def clear_refs_alone() -> int:
    """mmap_lock for writing.

    Without it a fault that is copying a page meets a pte that has just been write-protected, and stores are lost.
    """
    return 1


@decision("madvise_knows_populate", source="mm/madvise.c:madvise_behavior_valid")
def populate_unknown() -> int:
    """EINVAL."""
    return 0


@decision("madvise_knows_populate", "4ca9b3859dac", source="mm/madvise.c:madvise_populate")
def populate_known() -> int:
    """MADV_POPULATE_READ and MADV_POPULATE_WRITE fault pages in as GUP would, without taking references."""
    return 1


# --- interfaces -------------------------------------------------------------------------------------------------------

_PINNED = FOLL_PIN | FOLL_LONGTERM


@decision("foll_rdma", source="drivers/infiniband/core/umem.c:ib_umem_get")
def rdma_forces_write(readonly: int) -> int:
    """A read-only region is pinned with FOLL_WRITE|FOLL_FORCE, since a write fault makes the page one's own."""
    return _PINNED | FOLL_FAST | FOLL_WRITE | (FOLL_FORCE if readonly else 0)


@decision("foll_rdma", "b40656aa7d55", source="drivers/infiniband/core/umem.c:ib_umem_get")
def rdma_reads_what_it_reads(readonly: int) -> int:
    """A read-only region is pinned to read, since a long-term pin unshares by itself."""
    return _PINNED | FOLL_FAST | (0 if readonly else FOLL_WRITE)


@decision("foll_io_uring", source="io_uring/rsrc.c:io_sqe_buffer_register")
def io_uring_pins_slowly() -> int:
    """Always for writing, send-only buffers included."""
    return _PINNED | FOLL_WRITE


@decision("foll_io_uring", source="io_uring/memmap.c:io_pin_pages")
def io_uring_pins_fast() -> int:
    """The same by the lockless path first (read in 6.12; the commit was not found)."""
    return _PINNED | FOLL_WRITE | FOLL_FAST


@decision("foll_vfio", source="drivers/vfio/vfio_iommu_type1.c:vaddr_get_pfns")
def vfio_pins_as_mapped(readonly: int) -> int:
    """Read-only in the IOMMU is a pin to read. The remote interface, hence never GUP-fast."""
    return _PINNED | (0 if readonly else FOLL_WRITE)


@decision("foll_xdp", source="net/xdp/xdp_umem.c:xdp_umem_pin_pages")
def xdp_pins_for_write() -> int:
    """For writing, always."""
    return _PINNED | FOLL_WRITE


@decision("foll_vmsplice", source="fs/splice.c:iter_to_pipe")
def vmsplice_gets() -> int:
    """A plain reference to read, of unlimited lifetime."""
    return FOLL_GET | FOLL_FAST


@decision("foll_dio_block", source="block/bio.c:bio_iov_iter_get_pages")
def block_dio_gets(device_writes: int) -> int:
    """O_DIRECT holds plain references while in flight: fork cannot tell them from anybody else's."""
    return FOLL_GET | FOLL_FAST | (FOLL_WRITE if device_writes else 0)


@decision("foll_dio_block", "a7e689dd1c06", "403b6fb8dac1", source="block/bio.c:bio_iov_iter_get_pages")
def block_dio_pins(device_writes: int) -> int:
    """O_DIRECT pins, so fork copies a buffer in flight for the child.

    Without it a direct read into a page, a fork, and a store to another byte of that page lose the data that was read.
    """
    return FOLL_PIN | FOLL_FAST | (FOLL_WRITE if device_writes else 0)


@decision("foll_dio_nfs", source="fs/nfs/direct.c:nfs_direct_read_schedule_iovec")
def nfs_dio_gets(device_writes: int) -> int:
    """NFS still takes plain references (read in 7.3.4)."""
    return FOLL_GET | FOLL_FAST | (FOLL_WRITE if device_writes else 0)


@decision("foll_dio_fuse", source="fs/fuse/file.c:fuse_get_user_pages")
def fuse_dio_gets(device_writes: int) -> int:
    """FUSE direct I/O with plain references."""
    return FOLL_GET | FOLL_FAST | (FOLL_WRITE if device_writes else 0)


@decision("foll_dio_fuse", "738adade96b2", source="fs/fuse/file.c:fuse_get_user_pages")
def fuse_dio_pins(device_writes: int) -> int:
    """FUSE direct I/O pins, as block devices did before it. Without it: as there."""
    return FOLL_PIN | FOLL_FAST | (FOLL_WRITE if device_writes else 0)


@decision("foll_process_vm", source="mm/process_vm_access.c:process_vm_rw_single_vec")
def process_vm_pins(write: int) -> int:
    """A pin for the time of the copy, without force."""
    return FOLL_PIN | (FOLL_WRITE if write else 0)


@decision("foll_ptrace", source="mm/memory.c:__access_remote_vm")
def ptrace_forces(write: int) -> int:
    """A plain reference for the time of the copy, with force: a debugger may write to read-only text."""
    return FOLL_GET | FOLL_FORCE | (FOLL_WRITE if write else 0)


# --- proposals: discussed, never merged in this form ----------------------------------------------------------------


@decision("gup_read_breaks_cow", source="proposal: mm/gup.c:follow_page_pte")
def pin_breaks_cow(foll: int, cow: int) -> int:
    """Break COW when FOLL_PIN is taken, and only then. A fork after the pin makes the page shared again."""
    return 1 if cow and foll & FOLL_PIN else 0


@decision("wp_can_reuse", source="proposal: mm/memory.c:do_wp_page")
def mapcount_if_maybe_pinned(exclusive: int, refcount: int, mapcount: int, swapcount: int, pinned: int) -> int:
    """Count mappings, not references, if the page may be pinned. Covers a child that has gone, not one that lives."""
    if pinned:
        return 1 if mapcount + swapcount <= 1 else 0
    return 1 if refcount == 1 and mapcount == 1 else 0


@decision("fork_leaves_out", source="proposal: mm/memory.c:copy_page_range")
def fork_leaves_pinned_out(has_pinned: int, pinned: int) -> int:
    """Pinned pages are not mapped in the child, and whatever shares a page with the buffer is lost to it."""
    return 1 if has_pinned and pinned else 0

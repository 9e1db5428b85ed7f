"""Which kernel takes which decisions. The only place where a release and a rule meet.

The line runs from the classic rules to the newest kernel; each entry names what changed since the one before. Stable
series that differ, and ideas that were never merged, stand beside it, each based on an entry of the line.
"""

from __future__ import annotations

from typing import NamedTuple

from cowcatcher.kernels import decisions as d
from cowcatcher.kernels.decision import Decision


class Entry(NamedTuple):
    """``base`` is the kernel that ``changes`` apply to; None for the entry before it in the line."""

    name: str
    summary: str
    changes: tuple[Decision, ...]
    base: str | None = None


CLASSIC = (
    d.lock_page_always,
    d.sleep_for_page_lock,
    d.count_lru_batch,
    d.count_swapcache,
    d.reuse_if_sole_mapping,
    d.copied_page_lingers,
    d.no_exclusive_marker,
    d.reading_leaves_cow_alone,
    d.pin_shared_pages,
    d.forced_write_if_dirty,
    d.pin_zero_page,
    d.no_fork_check_in_gup_fast,
    d.fork_shares_everything,
    d.fork_maps_every_page,
    d.core_dump_ends_all_of_the_memory,
    d.reclaim_takes_pinned,
    d.unmap_whatever_is_pinned,
    d.swap_forgets_exclusive,
    d.shed_then_map,
    d.shed_swapcache_if_sole_mapping,
    d.swapin_by_mapcount,
    d.read_swapin_maps_readonly,
    d.discard_if_clean,
    d.kept_once_is_kept,
    d.hugetlb_fork_shares,
    d.hugetlb_copy_is_writable,
    d.hugetlb_forced_write_ok,
    d.huge_fault_maps_writable,
    d.private_stays_readonly,
    d.released_stays_readonly,
    d.clear_refs_protects_everything,
    d.clear_refs_beside_faults,
    d.populate_unknown,
    d.rdma_forces_write,
    d.io_uring_pins_slowly,
    d.vfio_pins_as_mapped,
    d.xdp_pins_for_write,
    d.vmsplice_gets,
    d.block_dio_gets,
    d.nfs_dio_gets,
    d.fuse_dio_gets,
    d.process_vm_pins,
    d.ptrace_forces,
)

LINE: tuple[Entry, ...] = (
    Entry("v5.7", "the classic rule, by mapcount; stands for everything before", CLASSIC),
    Entry("v5.8", "every GUP reference breaks COW", (d.every_reference_breaks_cow, d.any_write_if_dirty)),
    Entry(
        "v5.9-rc4",
        "the write fault counts references: the seed's bug",
        (d.reuse_if_sole_reference, d.copy_if_page_locked, d.no_enforced_cow, d.forced_write_if_dirty),
    ),
    Entry("v5.9", "fork copies pinned pages (from rc7, whose own form of it is not modelled)", (d.fork_copies_pinned,)),
    Entry("v5.10", "as v5.9", ()),
    Entry(
        "v5.11",
        "GUP-fast yields to fork; reclaim and clear_refs leave pinned pages alone",
        (d.gup_fast_yields_to_fork, d.reclaim_keeps_pinned, d.clear_refs_skips_pinned, d.clear_refs_alone),
    ),
    Entry(
        "v5.13",
        "fork copies pinned huge pages (from v5.12-rc3, whose own form of it is not modelled)",
        (d.hugetlb_fork_copies,),
    ),
    Entry(
        "v5.14",
        "MADV_POPULATE_*; a copied page leaves the swap cache",
        (d.populate_known, d.copied_page_leaves_swapcache),
    ),
    Entry("v5.16", "a crash ends one process only, and not its vfork parent", (d.core_dump_ends_one_process,)),
    Entry("v5.17", "NUMA hinting leaves referenced pages alone (not modelled)", ()),
    Entry(
        "v5.18",
        "swap-in counts references too; idle swap-cache and LRU-batch references are shed first",
        (
            d.swapin_by_refcount,
            d.shed_swapcache_if_two_references,
            d.drain_lru_batch,
            d.free_idle_swapcache,
            d.discard_if_clean_and_unreferenced,
        ),
    ),
    Entry(
        "v5.19",
        "PageAnonExclusive: only exclusive pages are pinned, pinned pages stay exclusive",
        (
            d.exclusive_marker,
            d.reuse_if_exclusive,
            d.lock_page_unless_exclusive,
            d.unshare_anon_before_pin,
            d.fork_copies_pinned_exclusive,
            d.unmap_refuses_pinned_exclusive,
            d.swap_remembers_exclusive,
            d.swapin_by_marker,
        ),
    ),
    Entry(
        "v6.0",
        "FOLL_COW removed; mprotect restores write permission",
        (d.forced_write_if_exclusive, d.restore_write_if_exclusive_and_dirty),
    ),
    Entry("v6.1", "memory barriers around PageAnonExclusive (not modelled)", ()),
    Entry(
        "v6.2",
        "a long-term pin to read unshares zero page and page cache, too; no forced writes to huge pages",
        (
            d.unshare_anything_before_longterm_pin,
            d.rdma_reads_what_it_reads,
            d.restore_write_if_exclusive,
            d.hugetlb_forced_write_refused,
        ),
    ),
    Entry("v6.3", "what userfaultfd releases becomes writable", (d.released_becomes_writable,)),
    Entry("v6.5", "O_DIRECT pins; the zero page is never pinned", (d.block_dio_pins, d.never_pin_zero_page)),
    Entry("v6.9", "FUSE direct I/O pins", (d.fuse_dio_pins,)),
    Entry("v6.11", "swap-in by a read maps exclusive pages writable", (d.read_swapin_maps_exclusive_writable,)),
    Entry("v6.12", "io_uring pins by GUP-fast", (d.io_uring_pins_fast,)),
    Entry(
        "v6.14",
        "forced writes to huge pages again; they and fork's copies are as writable as the mapping",
        (d.hugetlb_copy_as_mapped, d.hugetlb_forced_write_served, d.huge_fault_maps_as_allowed),
    ),
    Entry(
        "v6.15",
        "a reference only postpones what MADV_FREE asked for; large folios mapped by one mm are reused (not modelled)",
        (d.kept_for_good_if_dirty,),
    ),
    Entry("v7.0", "swap-in leaves the swap cache only when the page is mapped", (d.map_then_shed,)),
    Entry(
        "v7.3",
        "swap-in trusts the exclusive marker alone",
        (d.swapin_by_marker_alone, d.shed_swapcache_if_exclusive),
    ),
)

BESIDE: tuple[Entry, ...] = (
    Entry(
        "v5.10.y",
        "the stable series (5.10.223): v5.10 with v5.11's protections and v5.18's care for MADV_FREE",
        (
            d.gup_fast_yields_to_fork,
            d.reclaim_keeps_pinned,
            d.clear_refs_skips_pinned,
            d.clear_refs_alone,
            d.discard_if_clean_and_unreferenced,
        ),
        base="v5.10",
    ),
    Entry(
        "v6.1.y",
        "the stable series (6.1.176): the zero page is never pinned; no forced writes to huge pages",
        (d.never_pin_zero_page, d.hugetlb_forced_write_refused),
        base="v6.1",
    ),
)

PROPOSALS: tuple[Entry, ...] = (
    Entry(
        "break-cow-at-pin",
        "proposed: a pin breaks COW, fork shares",
        (d.pin_breaks_cow, d.any_write_if_dirty),
        base="v5.9-rc4",
    ),
    Entry(
        "mapcount-when-pinned",
        "proposed: the write fault counts mappings if the page may be pinned",
        (d.mapcount_if_maybe_pinned,),
        base="v5.9-rc4",
    ),
    Entry(
        "implicit-dontfork",
        "proposed: pinned pages are not mapped in the child",
        (d.fork_leaves_pinned_out,),
        base="v5.9-rc4",
    ),
    Entry(
        "precop",
        "Copy-on-Pin artifact: mapcounts for reuse, early copy at fork",
        (d.reuse_if_sole_mapping, d.sleep_for_page_lock),
        base="v5.17",
    ),
    Entry("nocop", "Copy-on-Pin artifact: refcounts for reuse, early copy at fork", (), base="v5.17"),
)

"""Which test fails without which decision: each put back to the one before it, on every kernel that takes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cowcatcher.explore.verdict import CheckResult, as_expected
from cowcatcher.kernels import LINE, Decision, Kernel, all_decisions, previous
from cowcatcher.litmus.catalogue import find
from tests.catalogue.checked import PATHS, checker

#: The test that shows best what a decision is for. Any test of the catalogue will do if this one does not fail.
SHOWN_BY = {
    "lock_page_unless_exclusive": "page_lock_exclusive",
    "copy_if_page_locked": "page_lock",
    "drain_lru_batch": "lru_batch_after_fork",
    "free_idle_swapcache": "swapcache_after_fork",
    "reuse_if_sole_reference": "vmsplice_child",
    "reuse_if_exclusive": "mprotect_and_pin",
    "copied_page_leaves_swapcache": "copied_page_freed",
    "exclusive_marker": "rdma_fork_wait",
    "every_reference_breaks_cow": "vmsplice_child",
    "no_enforced_cow": "read_breaks_cow",
    "unshare_anon_before_pin": "ro_pin_still_shared",
    "unshare_anything_before_longterm_pin": "zero_page_longterm_pin",
    "any_write_if_dirty": "debugger_reads_protected",
    "never_pin_zero_page": "zero_page_count",
    "gup_fast_yields_to_fork": "gup_fast_races_fork",
    "fork_copies_pinned": "rdma_fork_wait",
    "fork_copies_pinned_exclusive": "crowded",
    "reclaim_keeps_pinned": "pinned_page_swapped",
    "unmap_refuses_pinned_exclusive": "pin_races_reclaim_then_fork",
    "swap_remembers_exclusive": "get_read_first",
    "swapin_by_refcount": "leak_by_swapin",
    "swapin_by_marker": "get_write_first",
    "read_swapin_maps_exclusive_writable": "read_swapin_then_fork",
    "discard_if_clean_and_unreferenced": "block_read_lazyfree",
    "kept_for_good_if_dirty": "free_read_meanwhile",
    "core_dump_ends_one_process": "vfork_child_crashes",
    "restore_write_if_exclusive_and_dirty": "torn_snapshot_after_mprotect",
    "restore_write_if_exclusive": "torn_snapshot_after_mprotect_clean",
    "released_becomes_writable": "torn_snapshot_after_uffd_wp",
    "hugetlb_fork_copies": "registered_child_alive",
    "hugetlb_copy_as_mapped": "copy_ignores_protection",
    "hugetlb_forced_write_refused": "forced_write",
    "hugetlb_forced_write_served": "debugger_writes_huge_text",
    "huge_fault_maps_as_allowed": "forced_write",
    "clear_refs_skips_pinned": "clear_refs_and_pin",
    "clear_refs_alone": "clear_refs_and_faults",
    "populate_known": "populate_before_pin",
    "rdma_reads_what_it_reads": "shared_readonly_region",
    "block_dio_pins": "block_read_child_alive",
    "fuse_dio_pins": "fuse_read_child_alive",
}

#: Decisions that no test can tell from the one before, and why. A test sees to it that this stays true.
UNTOLD = {
    "forced_write_if_dirty": (
        "it only takes back what v5.8 had to allow while reads were treated as writes; without that the two rules are "
        "asked about the same requests and answer alike"
    ),
    "forced_write_if_exclusive": (
        "the difference is a page of the page cache that is mapped read-only and dirty, which takes a userfaultfd "
        "minor fault (CVE-2022-2590); the language has none"
    ),
    "shed_swapcache_if_two_references": (
        "a slot of swap space is kept a little longer; with a reference too many the page is copied or marked "
        "exclusive either way"
    ),
    "map_then_shed": (
        "a page stays in the swap cache a little longer, or its reference is counted at swap-in; the write fault "
        "that follows sheds it before it counts, and comes to the same. Random tests tell it by the flag, where a "
        "kernel shows that (tests/real/test_agree.py)"
    ),
    "shed_swapcache_if_exclusive": "as above: a slot of swap space is free a little earlier",
    "swapin_by_marker_alone": (
        "since v7.0 the swap cache's reference is still there when this is asked, so no page passes by its count; "
        "and the write fault that follows counts references, too"
    ),
    "io_uring_pins_fast": "the same pages with the same flags, only without mmap_lock; fork makes the fast path yield",
}

#: The test in which a proposal fails where the newest kernel does not.
PROPOSAL_FAILS_IN = {
    "break-cow-at-pin": "rdma_fork_wait",
    "mapcount-when-pinned": "rdma_fork_child_alive",
    "implicit-dontfork": "two_mallocs_fork",
    "precop": "vmsplice_child",
    "nocop": "mprotect_and_pin",
}


@dataclass(frozen=True)
class Kill:
    """A test that comes out otherwise if ``decision`` is taken back on ``kernels``; ``found``: the first result."""

    decision: Decision
    path: Path
    kernels: tuple[Kernel, ...]
    found: CheckResult


def replaced_decisions() -> tuple[Decision, ...]:
    """Every decision that replaced another on the line."""
    return tuple(d for d in all_decisions() if previous(d) is not None)


def kernels_with(decision: Decision) -> tuple[Kernel, ...]:
    return tuple(k for k in LINE if k.decisions[decision.question].name == decision.name)


def killed_by(decision: Decision, path: Path) -> Kill | None:
    """Does this test fail somewhere without the decision, and pass with it?"""
    before = previous(decision)
    assert before is not None
    kernels, found = [], None
    for kernel in kernels_with(decision):
        mutant = checker(path).check(kernel.with_decisions(before, name=kernel.name))
        if as_expected(mutant) is False and as_expected(checker(path).check(kernel)):
            kernels.append(kernel)
            found = found or mutant
    return Kill(decision, path, tuple(kernels), found) if found else None


def kills(decision: Decision) -> Iterator[Kill]:
    """Every test that fails without the decision, the one that shows it best first."""
    best = find(SHOWN_BY.get(decision.name, ""))
    for path in (*((best,) if best else ()), *(p for p in PATHS if p != best)):
        kill = killed_by(decision, path)
        if kill:
            yield kill

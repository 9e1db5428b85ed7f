"""Upstream commits and proposals that the model's decisions cite.

Identifiers, subject lines, releases and links only; nothing here is code from the kernel. Subject lines stand as
upstream wrote them, spelling included. ``first`` is the first tag that contains the change: a release candidate where
one is known, else the release. ``stable`` names only branches where a backport was seen, so an empty tuple says
nothing. Where a release was inferred and not seen in an announcement or a pull request, the ``note`` says so.

Left out because no identifier could be confirmed: the FOLL_PIN conversions of io_uring, RDMA umem and XDP umem (5.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["COMMITS", "PROPOSALS", "SEED_THREAD", "Commit", "Proposal"]


@dataclass(frozen=True, slots=True)
class Commit:
    """One upstream change."""

    id: str
    subject: str
    first: str
    stable: tuple[str, ...] = ()
    link: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One rule that was proposed or built for comparison, and is not what upstream does."""

    name: str
    title: str
    date: str
    who: str
    link: str = ""
    note: str = ""


#: The patch whose discussion (August and September 2020) led to the early copy of pinned pages at fork.
SEED_THREAD: Final[str] = "https://lore.kernel.org/r/20200821234958.7896-2-peterx@redhat.com"

_COMMITS: Final[tuple[Commit, ...]] = (
    Commit(
        id="d2cd9ede6e19",
        subject="mm,fork: introduce MADV_WIPEONFORK",
        first="v4.14-rc1",
        link="https://git.kernel.org/torvalds/c/d2cd9ede6e19",
        note="The child gets the range as zeroes; the release candidate is inferred from the commit date 2017-09-06.",
    ),
    Commit(
        id="52d1e606ee73",
        subject="mm: reuse only-pte-mapped KSM page in do_wp_page()",
        first="v5.1-rc1",
        link="https://git.kernel.org/torvalds/c/52d1e606ee73",
        note="A KSM page with a single user may be reused; the release is inferred from the commit date 2019-03-05.",
    ),
    Commit(
        id="1a4e58cce84e",
        subject="mm: introduce MADV_PAGEOUT",
        first="v5.4-rc1",
        link="https://git.kernel.org/torvalds/c/1a4e58cce84e",
        note="Reclaim on request; the release candidate is inferred from the commit date 2019-09-25.",
    ),
    Commit(
        id="eddb1c228f79",
        subject="mm/gup: introduce pin_user_pages*() and FOLL_PIN",
        first="v5.6-rc1",
        link="https://git.kernel.org/torvalds/c/eddb1c228f79",
        note="Names the pins, without counting them yet.",
    ),
    Commit(
        id="803e4572d7c5",
        subject="mm/process_vm_access: set FOLL_PIN via pin_user_pages_remote()",
        first="v5.6-rc1",
        link="https://git.kernel.org/torvalds/c/803e4572d7c5",
        note=(
            "Merged with the rest of the FOLL_PIN series of January 2020; the release candidate is inferred from that."
        ),
    ),
    Commit(
        id="19fed0dae94d",
        subject="vfio, mm: pin_user_pages (FOLL_PIN) and put_user_page() conversion",
        first="v5.6-rc1",
        link="https://git.kernel.org/torvalds/c/19fed0dae94d",
        note="VFIO takes pins; the release candidate is inferred from its place in the series of January 2020.",
    ),
    Commit(
        id="3faa52c03f44",
        subject="mm/gup: track FOLL_PIN pages",
        first="v5.7-rc1",
        link="https://git.kernel.org/torvalds/c/3faa52c03f44",
        note=(
            "Counts pins in the page refcount with a bias of 1024; the release candidate is inferred from the commit "
            "date 2020-04-02."
        ),
    ),
    Commit(
        id="17839856fd58",
        subject='gup: document and work around "COW can break either way" issue',
        first="v5.8-rc1",
        stable=("v4.4.y", "v4.9.y", "v4.14.y", "v5.4.y", "v5.7.y"),
        link="https://git.kernel.org/torvalds/c/17839856fd58",
        note=(
            "Read-only GUP in a COW mapping becomes a write fault; seen in 4.4.289, 4.14.232, 5.4.47 and 5.7.3 and in "
            "a 4.9.y review, mainline release candidate from memory."
        ),
    ),
    Commit(
        id="3917c80280c9",
        subject="thp: change CoW semantics for anon-THP",
        first="v5.8",
        link="https://git.kernel.org/torvalds/c/3917c80280c9",
        note=(
            "A write fault on a shared anonymous THP splits the mapping instead of copying 2 MiB; release candidate "
            "not checked."
        ),
    ),
    Commit(
        id="c444eb564fb1",
        subject="mm: thp: make the THP mapcount atomic against __split_huge_pmd_locked()",
        first="v5.8",
        link="https://git.kernel.org/torvalds/c/c444eb564fb1",
        note="Closes the mapcount race of CVE-2020-29368; also in stable, branches not checked.",
    ),
    Commit(
        id="09854ba94c6a",
        subject="mm: do_wp_page() simplification",
        first="v5.9-rc4",
        link="https://lore.kernel.org/r/20200821234958.7896-2-peterx@redhat.com",
        note="A write fault reuses a page only when its refcount is one.",
    ),
    Commit(
        id="1a0cf26323c8",
        subject="mm/ksm: Remove reuse_ksm_page()",
        first="v5.9-rc4",
        link="https://git.kernel.org/torvalds/c/1a0cf26323c8",
        note="A write fault always copies a KSM page again.",
    ),
    Commit(
        id="a308c71bf1e6",
        subject="mm/gup: Remove enfornced COW mechanism",
        first="v5.9-rc4",
        link="https://git.kernel.org/torvalds/c/a308c71bf1e6",
        note="Takes the forced write fault of 17839856fd58 back.",
    ),
    Commit(
        id="798a6b87ecd7",
        subject="mm: Add PGREUSE counter",
        first="v5.9-rc4",
        link="https://git.kernel.org/torvalds/c/798a6b87ecd7",
        note="A counter of reuses, no change of rule.",
    ),
    Commit(
        id="be068f29034f",
        subject="mm: fix misplaced unlock_page in do_wp_page()",
        first="v5.9-rc7",
        link="https://git.kernel.org/torvalds/c/be068f29034f",
        note="Repairs the lock order of 09854ba94c6a.",
    ),
    Commit(
        id="008cfe4418b3",
        subject="mm: Introduce mm_struct.has_pinned",
        first="v5.9-rc7",
        link="https://git.kernel.org/torvalds/c/008cfe4418b3",
        note="Sticky mark of an address space that ever took a pin.",
    ),
    Commit(
        id="7a4830c380f3",
        subject="mm/fork: Pass new vma pointer into copy_page_range()",
        first="v5.9-rc7",
        link="https://git.kernel.org/torvalds/c/7a4830c380f3",
        note="Preparation for the early copy at fork.",
    ),
    Commit(
        id="70e806e4e645",
        subject="mm: Do early cow for pinned pages during fork() for ptes",
        first="v5.9-rc7",
        link="https://git.kernel.org/torvalds/c/70e806e4e645",
        note="fork copies a maybe-pinned page for the child at once.",
    ),
    Commit(
        id="d042035eaf5f",
        subject="mm/thp: Split huge pmds/puds if they're pinned when fork()",
        first="v5.9-rc7",
        link="https://git.kernel.org/torvalds/c/d042035eaf5f",
        note="A pinned THP is split at fork, then handled page by page.",
    ),
    Commit(
        id="f3c64eda3e50",
        subject="mm: avoid early COW write protect games during fork()",
        first="v5.9",
        link="https://git.kernel.org/torvalds/c/f3c64eda3e50",
        note="Between rc8 and the release: no temporary write protection around the early copy.",
    ),
    Commit(
        id="57efa1fe5957",
        subject="mm/gup: prevent gup_fast from racing with COW during fork",
        first="v5.11-rc1",
        stable=("v5.10.y",),
        link="https://git.kernel.org/torvalds/c/57efa1fe5957",
        note=(
            "Sequence count against lockless pins during fork; in 5.10.4, mainline release candidate inferred from the "
            "commit date 2020-12-15."
        ),
    ),
    Commit(
        id="29a951dfb3c3",
        subject="mm: fix clear_refs_write locking",
        first="v5.11-rc4",
        stable=("v5.10.y",),
        link="https://git.kernel.org/torvalds/c/29a951dfb3c3",
        note="Also in 5.10.9.",
    ),
    Commit(
        id="9348b73c2e1b",
        subject="mm: don't play games with pinned pages in clear_page_refs",
        first="v5.11-rc4",
        stable=("v5.10.y",),
        link="https://git.kernel.org/torvalds/c/9348b73c2e1b",
        note="Soft-dirty clearing leaves maybe-pinned pages writable; also in 5.10.9.",
    ),
    Commit(
        id="feb889fb40fa",
        subject="mm: don't put pinned pages into the swap cache",
        first="v5.11-rc4",
        stable=("v5.10.y",),
        link="https://git.kernel.org/torvalds/c/feb889fb40fa",
        note="Reclaim skips maybe-pinned pages, still with a race; also in 5.10.9.",
    ),
    Commit(
        id="6ce64428d620",
        subject="mm/userfaultfd: fix memory corruption due to writeprotect",
        first="v5.12-rc3",
        link="https://git.kernel.org/torvalds/c/6ce64428d620",
        note=(
            "Flushes a pending TLB invalidation before copying; one stable release announcement also lists it, branch "
            "not identified."
        ),
    ),
    Commit(
        id="97a7e4733b9b",
        subject="mm: introduce page_needs_cow_for_dma() for deciding whether cow",
        first="v5.12-rc3",
        link="https://git.kernel.org/torvalds/c/97a7e4733b9b",
        note="One helper for the early-copy test at fork; described upstream as 346 commits after v5.12-rc2.",
    ),
    Commit(
        id="4eae4efa2c29",
        subject="hugetlb: do early cow when page pinned on src mm",
        first="v5.12-rc3",
        link="https://git.kernel.org/torvalds/c/4eae4efa2c29",
        note="fork copies pinned hugetlb pages too.",
    ),
    Commit(
        id="84894e1c42e9",
        subject="mm/hugetlb: fix cow where page writtable in child",
        first="v5.13",
        link="https://lore.kernel.org/r/20210503234356.9097-3-peterx@redhat.com",
        note="Repairs 4eae4efa2c29, which could leave the page writable in the child; release candidate not checked.",
    ),
    Commit(
        id="6cc9e215eb27",
        subject="RDMA/nldev: Add copy-on-fork attribute to get sys command",
        first="v5.13-rc1",
        link="https://git.kernel.org/torvalds/c/6cc9e215eb27",
        note="Tells userspace that fork copies pinned pages.",
    ),
    Commit(
        id="4ca9b3859dac",
        subject="mm/madvise: introduce MADV_POPULATE_(READ|WRITE) to prefault page tables",
        first="v5.14-rc1",
        link="https://git.kernel.org/torvalds/c/4ca9b3859dac",
        note="Prefaults for reading or for writing.",
    ),
    Commit(
        id="a458b76a4171",
        subject="mm: gup: pack has_pinned in MMF_HAS_PINNED",
        first="v5.14",
        link="https://git.kernel.org/torvalds/c/a458b76a4171",
        note="The mark of 008cfe4418b3 becomes a flag; release from bracketing (absent in 5.13, present in 5.14).",
    ),
    Commit(
        id="f4c4a3f48480",
        subject="mm: free idle swap cache page after COW",
        first="v5.14",
        link="https://git.kernel.org/torvalds/c/f4c4a3f48480",
        note=(
            "Cost only: drops the old swap cache page after a copy; release inferred from the merge window it was "
            "pushed in."
        ),
    ),
    Commit(
        id="0258b5fd7c71",
        subject="coredump:  Limit coredumps to a single thread group",
        first="v5.16-rc1",
        link="https://git.kernel.org/torvalds/c/0258b5fd7c71",
        note="Up to then a fatal signal with a core dump killed every process on the same memory; seen on 5.10.223.",
    ),
    Commit(
        id="80d47f5de5e3",
        subject="mm: don't try to NUMA-migrate COW pages that have other uses",
        first="v5.17-rc5",
        stable=("v5.10.y", "v5.15.y", "v5.16.y"),
        link="https://git.kernel.org/torvalds/c/80d47f5de5e3",
        note="NUMA hinting leaves pages with extra references alone; also in 5.10.102.",
    ),
    Commit(
        id="53a05ad9f21d",
        subject="mm: optimize do_wp_page() for exclusive pages in the swapcache",
        first="v5.18-rc1",
        link="https://git.kernel.org/torvalds/c/53a05ad9f21d",
        note=(
            "A swap cache reference no longer forces a copy; release candidate inferred from the commit date "
            "2022-03-24."
        ),
    ),
    Commit(
        id="d4c470970d45",
        subject="mm: optimize do_wp_page() for fresh pages in local LRU pagevecs",
        first="v5.18-rc1",
        link="https://git.kernel.org/torvalds/c/d4c470970d45",
        note=(
            "A reference of the local LRU batch no longer forces a copy; release candidate inferred from the commit "
            "date 2022-03-24."
        ),
    ),
    Commit(
        id="84d60fdd3733",
        subject="mm: slightly clarify KSM logic in do_swap_page()",
        first="v5.18-rc1",
        link="https://git.kernel.org/torvalds/c/84d60fdd3733",
        note="Preparation; release candidate inferred from the commit date 2022-03-24.",
    ),
    Commit(
        id="c145e0b47c77",
        subject="mm: streamline COW logic in do_swap_page()",
        first="v5.18-rc1",
        link="https://git.kernel.org/torvalds/c/c145e0b47c77",
        note="The refcount rule applies at swap-in; release candidate inferred from the commit date 2022-03-24.",
    ),
    Commit(
        id="3bff7e3f1f16",
        subject="mm/huge_memory: streamline COW logic in do_huge_pmd_wp_page()",
        first="v5.18-rc1",
        link="https://git.kernel.org/torvalds/c/3bff7e3f1f16",
        note="The refcount rule applies to a THP; release candidate inferred from the commit date 2022-03-24.",
    ),
    Commit(
        id="363106c4cefe",
        subject="mm/khugepaged: remove reuse_swap_page() usage",
        first="v5.18-rc1",
        link="https://git.kernel.org/torvalds/c/363106c4cefe",
        note="Clean-up; release candidate inferred from the commit date 2022-03-24.",
    ),
    Commit(
        id="03104c2c5db8",
        subject="mm/swapfile: remove stale reuse_swap_page()",
        first="v5.18-rc1",
        link="https://lore.kernel.org/r/20220131162940.210846-8-david@redhat.com",
        note=(
            "The mapcount rule for anonymous base pages is gone; release candidate inferred from the commit date "
            "2022-03-24."
        ),
    ),
    Commit(
        id="6c8e2a256915",
        subject="mm: fix race between MADV_FREE reclaim and blkdev direct IO read",
        first="v5.18-rc1",
        stable=("v4.19.y", "v5.10.y", "v5.17.y"),
        link="https://git.kernel.org/torvalds/c/6c8e2a256915",
        note=(
            "Reclaim discards a lazily freed page only without extra references; in 4.19.238, 5.10.111 and 5.17.3, and "
            "posted for 4.14.y, 5.4.y, 5.15.y and 5.16.y."
        ),
    ),
    Commit(
        id="623a1ddfeb23",
        subject="mm/hugetlb: take src_mm->write_protect_seq in copy_hugetlb_page_range()",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/623a1ddfeb23",
        note="The sequence count covers hugetlb at fork.",
    ),
    Commit(
        id="fb3d824d1a46",
        subject="mm/rmap: split page_dup_rmap() into page_dup_file_rmap() and page_try_dup_anon_rmap()",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/fb3d824d1a46",
        note="Sharing an anonymous page becomes an operation that may fail.",
    ),
    Commit(
        id="78fbe906cc90",
        subject="mm/page-flags: reuse PG_mappedtodisk as PG_anon_exclusive for PageAnon() pages",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/78fbe906cc90",
        note="Reserves the exclusive flag.",
    ),
    Commit(
        id="6c287605fd56",
        subject="mm: remember exclusively mapped anonymous pages with PG_anon_exclusive",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/6c287605fd56",
        note="The exclusive flag decides reuse, and a pinned exclusive page cannot become shared.",
    ),
    Commit(
        id="7f5abe609b3d",
        subject="mm/rmap: fail try_to_migrate() early when setting a PMD migration entry fails",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/7f5abe609b3d",
        note="A pinned THP makes the migration attempt fail early.",
    ),
    Commit(
        id="8909691b6c5a",
        subject="mm/gup: disallow follow_page(FOLL_PIN)",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/8909691b6c5a",
        note="Leaves the ordinary pin calls as the only way to pin.",
    ),
    Commit(
        id="c89357e27f20",
        subject="mm: support GUP-triggered unsharing of anonymous pages",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/c89357e27f20",
        note="The unshare fault: a private copy that stays mapped read-only.",
    ),
    Commit(
        id="a7f226604170",
        subject="mm/gup: trigger FAULT_FLAG_UNSHARE when R/O-pinning a possibly shared anonymous page",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/a7f226604170",
        note="A read-only pin of a shared anonymous page unshares first.",
    ),
    Commit(
        id="b6a2619c60b4",
        subject="mm/gup: sanity-check with CONFIG_DEBUG_VM that anonymous pages are exclusive when (un)pinning",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/b6a2619c60b4",
        note="A check only.",
    ),
    Commit(
        id="1493a1913e34",
        subject="mm/swap: remember PG_anon_exclusive via a swp pte bit",
        first="v5.19-rc1",
        link="https://git.kernel.org/torvalds/c/1493a1913e34",
        note="The exclusive flag survives swap on architectures with a spare swap entry bit.",
    ),
    Commit(
        id="64fe24a3e05e",
        subject="mm/mprotect: try avoiding write faults for exclusive anonymous pages when changing protection",
        first="v6.0-rc1",
        link="https://git.kernel.org/torvalds/c/64fe24a3e05e",
        note="mprotect may map a dirty exclusive page writable.",
    ),
    Commit(
        id="5535be309971",
        subject="mm/gup: fix FOLL_FORCE COW security issue and remove FOLL_COW",
        first="v6.0-rc3",
        stable=("v5.19.y",),
        link="https://git.kernel.org/torvalds/c/5535be309971",
        note="A forced write needs an exclusive page (CVE-2022-2590); in 5.19.6.",
    ),
    Commit(
        id="70cbc3cc78a9",
        subject="mm: gup: fix the fast GUP race against THP collapse",
        first="v6.0",
        stable=("v5.10.y", "v5.15.y", "v5.19.y"),
        link="https://git.kernel.org/torvalds/c/70cbc3cc78a9",
        note="The lockless walk looks at the PMD again; after rc7, and in 5.10.148, 5.15.73 and 5.19.14.",
    ),
    Commit(
        id="088b8aa537c2",
        subject="mm: fix PageAnonExclusive clearing racing with concurrent RCU GUP-fast",
        first="v6.1-rc1",
        link="https://git.kernel.org/torvalds/c/088b8aa537c2",
        note="Memory barriers between clearing the exclusive flag and lockless pins.",
    ),
    Commit(
        id="d84887739d5c",
        subject="mm/mprotect: allow clean exclusive anon pages to be writable",
        first="v6.2-rc1",
        link="https://lore.kernel.org/r/20221108174652.198904-2-david@redhat.com",
        note="mprotect no longer asks for a dirty page.",
    ),
    Commit(
        id="7ea7e333842e",
        subject="mm/mprotect: minor can_change_pte_writable() cleanups",
        first="v6.2-rc1",
        link="https://git.kernel.org/torvalds/c/7ea7e333842e",
        note="Clean-up; release inferred from its place in the series of d84887739d5c.",
    ),
    Commit(
        id="c27f479ef542",
        subject="mm/huge_memory: try avoiding write faults when changing PMD protection",
        first="v6.2-rc1",
        link="https://git.kernel.org/torvalds/c/c27f479ef542",
        note="The same for a THP; release inferred from its place in the series of d84887739d5c.",
    ),
    Commit(
        id="6a56ccbcf6c6",
        subject="mm/autonuma: use can_change_(pte|pmd)_writable() to replace savedwrite",
        first="v6.2-rc1",
        link="https://git.kernel.org/torvalds/c/6a56ccbcf6c6",
        note="NUMA hinting decides writability with the rule of mprotect; release candidate inferred from the series.",
    ),
    Commit(
        id="8d6a0ac09a16",
        subject="mm: extend FAULT_FLAG_UNSHARE support to anything in a COW mapping",
        first="v6.2-rc1",
        link="https://git.kernel.org/torvalds/c/8d6a0ac09a16",
        note=(
            "Unsharing covers the zero page and the page cache in private mappings; release candidate inferred from "
            "the neighbouring f347454d0341."
        ),
    ),
    Commit(
        id="84209e87c696",
        subject="mm/gup: reliable R/O long-term pinning in COW mappings",
        first="v6.2-rc1",
        link="https://git.kernel.org/torvalds/c/84209e87c696",
        note=(
            "A read-only long-term pin in a COW mapping always gets a private page; release candidate inferred from "
            "the neighbouring f347454d0341."
        ),
    ),
    Commit(
        id="b40656aa7d55",
        subject="RDMA/umem: remove FOLL_FORCE usage",
        first="v6.2-rc1",
        link="https://git.kernel.org/torvalds/c/b40656aa7d55",
        note="RDMA read-only pins are read-only again; release candidate inferred from the neighbouring f347454d0341.",
    ),
    Commit(
        id="f347454d0341",
        subject="mm/gup: disallow FOLL_FORCE|FOLL_WRITE on hugetlb mappings",
        first="v6.2-rc1",
        stable=("v6.1.y",),
        link="https://git.kernel.org/torvalds/c/f347454d0341",
        note="Forced writes to hugetlb are refused; 6.1.176 has it.",
    ),
    Commit(
        id="931298e103c2",
        subject="mm/userfaultfd: rely on vma->vm_page_prot in uffd_wp_range()",
        first="v6.3-rc1",
        link="https://git.kernel.org/torvalds/c/931298e103c2",
        note=(
            "Releasing a range asks change_protection() to map exclusive pages writable; release inferred from the "
            "patch's date, 2022-12-23."
        ),
    ),
    Commit(
        id="85dd2c8ff368",
        subject="netfs: Add a function to extract a UBUF or IOVEC into a BVEC iterator",
        first="v6.3-rc1",
        link="https://git.kernel.org/torvalds/c/85dd2c8ff368",
        note="Pins user pages for its callers; cifs direct I/O uses it from the same merge.",
    ),
    Commit(
        id="d824ec2a1546",
        subject="mm: do not reclaim private data from pinned page",
        first="v6.4-rc1",
        stable=("v6.3.y",),
        link="https://git.kernel.org/torvalds/c/d824ec2a1546",
        note="Reclaim activates a page found pinned after unmapping; in 6.3.2.",
    ),
    Commit(
        id="a7e689dd1c06",
        subject="block: Convert bio_iov_iter_get_pages to use iov_iter_extract_pages",
        first="v6.5-rc1",
        link="https://git.kernel.org/torvalds/c/a7e689dd1c06",
        note="Direct I/O through bio takes pins.",
    ),
    Commit(
        id="403b6fb8dac1",
        subject="block: convert bio_map_user_iov to use iov_iter_extract_pages",
        first="v6.5-rc1",
        link="https://git.kernel.org/torvalds/c/403b6fb8dac1",
        note="Passthrough requests take pins.",
    ),
    Commit(
        id="c8070b787519",
        subject="mm: Don't pin ZERO_PAGE in pin_user_pages()",
        first="v6.5-rc1",
        stable=("v6.1.y",),
        link="https://git.kernel.org/torvalds/c/c8070b787519",
        note="A pin of the zero page is not counted; in 6.1.130.",
    ),
    Commit(
        id="1ccf164ec866",
        subject="block: Use iov_iter_extract_pages() and page pinning in direct-io.c",
        first="v6.5-rc1",
        link="https://git.kernel.org/torvalds/c/1ccf164ec866",
        note="The old direct I/O path takes pins; release candidate inferred from the neighbouring c8070b787519.",
    ),
    Commit(
        id="016dc8516aec",
        subject="netfs: Implement unbuffered/DIO read support",
        first="v6.8-rc1",
        link="https://git.kernel.org/torvalds/c/016dc8516aec",
        note="Direct reads of netfs file systems extract, and so pin, user pages.",
    ),
    Commit(
        id="80105ed2fd27",
        subject="9p: Use netfslib read/write_iter",
        first="v6.8-rc1",
        link="https://git.kernel.org/torvalds/c/80105ed2fd27",
        note="9p direct reads go through netfs; release candidate inferred from the neighbouring 016dc8516aec.",
    ),
    Commit(
        id="738adade96b2",
        subject="fuse: Fix missing FOLL_PIN for direct-io",
        first="v6.9-rc1",
        link="https://git.kernel.org/torvalds/c/738adade96b2",
        note="FUSE direct I/O takes pins.",
    ),
    Commit(
        id="c18160dba5ff",
        subject="mm: swap: reuse exclusive folio directly instead of wp page faults",
        first="v6.11-rc1",
        link="https://git.kernel.org/torvalds/c/c18160dba5ff",
        note="A read fault on a swap entry maps an exclusive page writable at once.",
    ),
    Commit(
        id="41e8149c8892",
        subject="proc: add config & param to block forcing mem writes",
        first="v6.12-rc1",
        stable=("v5.15.y",),
        link="https://git.kernel.org/torvalds/c/41e8149c8892",
        note=(
            "Writes through /proc/pid/mem may lose FOLL_FORCE by configuration; the 5.15.y backport was seen in "
            "review, others were proposed, release candidate from memory."
        ),
    ),
    Commit(
        id="6af8cb80d3a9",
        subject="mm/rmap: basic MM owner tracking for large folios (!hugetlb)",
        first="v6.15-rc1",
        link="https://git.kernel.org/torvalds/c/6af8cb80d3a9",
        note="Remembers which address spaces map a large folio.",
    ),
    Commit(
        id="1da190f4d0a6",
        subject="mm: Copy-on-Write (COW) reuse support for PTE-mapped THP",
        first="v6.15-rc1",
        link="https://git.kernel.org/torvalds/c/1da190f4d0a6",
        note="A page-mapped large folio of a single owner may be reused.",
    ),
    Commit(
        id="4b34f1d82c65",
        subject="mm, swap: free the swap cache after folio is mapped",
        first="v7.0-rc1",
        link="https://git.kernel.org/torvalds/c/4b34f1d82c65",
        note=(
            "The swap cache's reference is still counted when exclusivity is asked for, and a write that has been "
            "served no longer sheds it; release inferred from the patch's date, 2025-12-20, and 6.18 lacks it."
        ),
    ),
    Commit(
        id="8d596d8b81ef",
        subject="mm: avoid unnecessary lru drain for wp_can_reuse_anon_folio()",
        first="v7.3-rc1",
        link="https://git.kernel.org/torvalds/c/8d596d8b81ef",
        note=(
            "Tightens the arithmetic of LRU references in the write fault; release inferred from the mm-stable branch "
            "of August 2026."
        ),
    ),
    Commit(
        id="34f6c8932e11",
        subject="mm: drop stale folio_ref_count()==1 check in do_swap_page reuse logic",
        first="v7.3-rc1",
        link="https://git.kernel.org/torvalds/c/34f6c8932e11",
        note=(
            "Swap-in looks at the exclusive bit only; release inferred from the mm-stable branch of August 2026, and "
            "7.2.12 still has the old check."
        ),
    ),
    Commit(
        id="38f380f143f7",
        subject="mm: entirely remove lru_add_drain in do_swap_page",
        first="v7.3-rc1",
        link="https://git.kernel.org/torvalds/c/38f380f143f7",
        note="Goes with 34f6c8932e11; release inferred from the mm-stable branch of August 2026.",
    ),
    Commit(
        id="3cedb745d354",
        subject="mm: clarify the folio_free_swap() for do_swap_page()",
        first="v7.3-rc1",
        link="https://git.kernel.org/torvalds/c/3cedb745d354",
        note="Goes with 34f6c8932e11; release inferred from the mm-stable branch of August 2026.",
    ),
)

#: By the first twelve digits of the id, oldest first.
COMMITS: Final[dict[str, Commit]] = {c.id: c for c in _COMMITS}

_PROPOSALS: Final[tuple[Proposal, ...]] = (
    Proposal(
        name="break-cow-at-pin",
        title="mm/gup: Allow enfornced COW for FOLL_PIN",
        date="2020-09-14",
        who="Peter Xu",
        link="https://lore.kernel.org/r/20200914211515.GA5901@xz-x1",
        note=(
            "A pin breaks COW when it is taken, fork stays as it was; it did not help the reported RDMA tests, which "
            "fork after pinning."
        ),
    ),
    Proposal(
        name="mapcount-when-pinned",
        title="Fall back to the mapcount rule when the page may be pinned",
        date="2020-09-16",
        who="Jason Gunthorpe",
        link="https://lore.kernel.org/r/20200916174804.GC8409@ziepe.ca",
        note=(
            "An untested sketch in a reply, the title is ours; it covers only the case that the child is gone by the "
            "time of the store."
        ),
    ),
    Proposal(
        name="implicit-dontfork",
        title="Leave pinned pages out of the child, like an implicit VM_DONTCOPY",
        date="2020-09-18",
        who="Linus Torvalds",
        link="https://lore.kernel.org/r/CAHk-=wiF03A3X0FoE68yXWDqO19ofgXq=21kWcRAe5+uN-WHXw@mail.gmail.com",
        note="A thought in a reply, the title is ours; he set it aside there because the test for pins can be wrong.",
    ),
    Proposal(
        name="precop",
        title="Mapcount rule at the write fault, early copy of pinned pages at fork",
        date="2023-01-27",
        who="David Hildenbrand, Martin Schulz, Nadav Amit",
        link="https://doi.org/10.1145/3575693.3575716",
        note=(
            "A baseline kernel of the Copy-on-Pin paper (ASPLOS 2023), read from the artifact's list of reverts, not "
            "from the paper; Andrea Arcangeli had asked for the mapcount rule back on 2021-01-07 "
            "(20210107200402.31095-1-aarcange@redhat.com)."
        ),
    ),
    Proposal(
        name="nocop",
        title="Refcount rule at the write fault, early copy of pinned pages at fork",
        date="2023-01-27",
        who="David Hildenbrand, Martin Schulz, Nadav Amit",
        link="https://doi.org/10.1145/3575693.3575716",
        note=(
            "A baseline kernel of the Copy-on-Pin paper (ASPLOS 2023), Linux 5.18 without its COW series, read from "
            "the artifact's list of reverts, not from the paper."
        ),
    ),
)

PROPOSALS: Final[dict[str, Proposal]] = {p.name: p for p in _PROPOSALS}

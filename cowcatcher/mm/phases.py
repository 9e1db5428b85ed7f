"""Where a task stands inside a statement: the step it takes next. 0 is the beginning of the statement at its pc."""

from __future__ import annotations

BLOCKED = 0
RAN = 1

START = 0
UNPIN_PAGE = 1
WP_PAGE_COPY = 2
WP_PAGE_COPY_INSTALL = 3
DO_SWAP_PAGE_MAP = 4
GUP_FAST_READ_PTE = 5
GUP_FAST_GRAB = 6
GUP_FAST_RECHECK = 7
GUP_LOCK = 8
FOLLOW_PAGE_PTE = 9
GUP_ACCESS = 10
COPY_PRESENT_PTE = 11
COPY_PRESENT_PTE_SHARE = 12
DUP_MMAP_END = 13
VFORK_WAIT = 14
ZAP_PTE = 15
EXIT_MMAP = 16
EXEC_MMAP = 17
MPROTECT_PTE = 18
POPULATE = 19
SHRINK_FOLIO = 20
ADD_TO_SWAP = 21
TRY_TO_UNMAP = 22
PAGEOUT = 23
MADVISE_FREE_PTE = 24
ODP_ACCESS = 25
CLEAR_REFS_PTE = 26
CLEAR_REFS_PTE_WRPROTECT = 27
UFFD_WP_PTE = 28
BIO_SET_PAGES_DIRTY = 29

#: What a reader of a trace is told about a step, by phase: the kernel function it stands for.
STEP_NAMES = {
    UNPIN_PAGE: "unpin_user_page",
    WP_PAGE_COPY: "wp_page_copy (copy, no lock held)",
    WP_PAGE_COPY_INSTALL: "wp_page_copy (install)",
    DO_SWAP_PAGE_MAP: "do_swap_page (map)",
    GUP_FAST_READ_PTE: "gup_fast (read pte)",
    GUP_FAST_GRAB: "gup_fast (take reference)",
    GUP_FAST_RECHECK: "gup_fast (look again)",
    GUP_LOCK: "__gup_longterm_locked (mmap_read_lock)",
    FOLLOW_PAGE_PTE: "follow_page_pte",
    GUP_ACCESS: "access_remote_vm (copy)",
    COPY_PRESENT_PTE: "copy_present_pte (test)",
    COPY_PRESENT_PTE_SHARE: "copy_present_pte (share)",
    DUP_MMAP_END: "dup_mmap (end)",
    VFORK_WAIT: "wait_for_vfork_done",
    ZAP_PTE: "zap_pte_range",
    EXIT_MMAP: "exit_mmap",
    EXEC_MMAP: "exec_mmap",
    MPROTECT_PTE: "change_pte_range",
    POPULATE: "populate_vma_page_range",
    SHRINK_FOLIO: "shrink_folio_list",
    ADD_TO_SWAP: "add_to_swap",
    TRY_TO_UNMAP: "try_to_unmap_one",
    PAGEOUT: "pageout",
    MADVISE_FREE_PTE: "madvise_free_pte_range",
    ODP_ACCESS: "hmm_range_fault",
    CLEAR_REFS_PTE: "clear_soft_dirty (test)",
    CLEAR_REFS_PTE_WRPROTECT: "clear_soft_dirty (write-protect)",
    UFFD_WP_PTE: "change_pte_range (userfaultfd)",
    BIO_SET_PAGES_DIRTY: "bio_set_pages_dirty",
}

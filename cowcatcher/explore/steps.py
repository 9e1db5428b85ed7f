"""Which function executes which statement, and which step comes at which phase: the model's dispatch tables."""

from __future__ import annotations

from collections.abc import Callable

from cowcatcher.device import dma, interfaces
from cowcatcher.mm import fault, fork, gup, madvise, mlock, mprotect, phases, reclaim, zap
from cowcatcher.mm.phases import BLOCKED
from cowcatcher.mm.task import finish
from cowcatcher.state import EXITED, OK, OP_ARGS, P_STATE, PROC_SIZE, Machine, State, current_op

Step = Callable[[Machine, State, int], int]


def wait_process(m: Machine, s: State, t: int) -> int:
    """waitpid(): until the process has gone, its memory included."""
    if s[m.procs + current_op(m, s, t)[OP_ARGS] * PROC_SIZE + P_STATE] != EXITED:
        return BLOCKED
    return finish(m, s, t, OK)


#: Opcode by name; the number is the position. A statement of the language may become several opcodes (madvise, dio_*).
OPS: tuple[tuple[str, Step], ...] = (
    ("load", fault.load),
    ("store", fault.store),
    ("fork", fork.fork),
    ("vfork", fork.vfork),
    ("exit", zap.exit_statement),
    ("wait", wait_process),
    ("exec", zap.exec_statement),
    ("post", dma.post),
    ("await", dma.await_event),
    ("munmap", zap.munmap),
    ("mprotect", mprotect.mprotect),
    ("mremap", madvise.mremap),
    ("mlock", mlock.mlock),
    ("madvise_vma", madvise.madvise_vma),
    ("madvise_dontneed", zap.madvise_dontneed),
    ("madvise_free", madvise.madvise_free),
    ("madvise_pageout", reclaim.madvise_pageout),
    ("madvise_populate", mlock.madvise_populate),
    ("clear_refs", mprotect.clear_refs),
    ("uffd_writeprotect", mprotect.uffd_writeprotect),
    ("pin", interfaces.pin_by_rule),
    ("unpin", gup.unpin),
    ("ibv_reg_mr", interfaces.ibv_reg_mr),
    ("odp_reg_mr", interfaces.odp_reg_mr),
    ("io_uring_register", interfaces.io_uring_register),
    ("vfio_map", interfaces.vfio_map),
    ("xdp_umem", interfaces.xdp_umem),
    ("vmsplice", interfaces.vmsplice),
    ("dio_block", interfaces.dio_block),
    ("dio_nfs", interfaces.dio_nfs),
    ("dio_fuse", interfaces.dio_fuse),
    ("process_vm", interfaces.process_vm),
    ("ptrace", interfaces.ptrace),
    ("dma", dma.dma),
    ("kernel_reclaim", reclaim.kernel_reclaim),
)

OPCODES: dict[str, int] = {name: number for number, (name, _) in enumerate(OPS)}
OP_STEPS: tuple[Step, ...] = tuple(step for _, step in OPS)

_BY_PHASE: dict[int, Step] = {
    phases.UNPIN_PAGE: gup.unpin_page,
    phases.WP_PAGE_COPY: fault.wp_page_copy,
    phases.WP_PAGE_COPY_INSTALL: fault.wp_page_copy_install,
    phases.DO_SWAP_PAGE_MAP: fault.do_swap_page_map,
    phases.GUP_FAST_READ_PTE: gup.gup_fast_read_pte,
    phases.GUP_FAST_GRAB: gup.gup_fast_grab,
    phases.GUP_FAST_RECHECK: gup.gup_fast_recheck,
    phases.GUP_LOCK: gup.gup_lock,
    phases.FOLLOW_PAGE_PTE: gup.follow_page_pte,
    phases.GUP_ACCESS: gup.gup_access,
    phases.COPY_PRESENT_PTE: fork.copy_present_pte,
    phases.COPY_PRESENT_PTE_SHARE: fork.copy_present_pte_share,
    phases.DUP_MMAP_END: fork.dup_mmap_end,
    phases.VFORK_WAIT: fork.vfork_wait,
    phases.ZAP_PTE: zap.zap_pte_range,
    phases.EXIT_MMAP: zap.exit_mmap,
    phases.EXEC_MMAP: zap.exec_mmap,
    phases.MPROTECT_PTE: mprotect.change_pte_range,
    phases.POPULATE: mlock.populate,
    phases.SHRINK_FOLIO: reclaim.shrink_next,
    phases.ADD_TO_SWAP: reclaim.add_to_swap,
    phases.TRY_TO_UNMAP: reclaim.try_to_unmap_one,
    phases.PAGEOUT: reclaim.pageout,
    phases.MADVISE_FREE_PTE: madvise.madvise_free_pte,
    phases.ODP_ACCESS: dma.odp_retry,
    phases.CLEAR_REFS_PTE: mprotect.clear_refs_pte,
    phases.CLEAR_REFS_PTE_WRPROTECT: mprotect.clear_refs_pte_wrprotect,
    phases.UFFD_WP_PTE: mprotect.uffd_wp_pte,
    phases.BIO_SET_PAGES_DIRTY: gup.bio_set_pages_dirty,
}


def _not_a_phase(m: Machine, s: State, t: int) -> int:
    raise AssertionError("no such phase")


PHASE_STEPS: tuple[Step, ...] = tuple(_BY_PHASE.get(p, _not_a_phase) for p in range(max(_BY_PHASE) + 1))

"""Derived tests come out, on every kernel, as the catalogue's test of the same shape does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowcatcher.audit.derive import derive
from cowcatcher.audit.finding import Question
from cowcatcher.explore.verdict import Checker
from cowcatcher.kernels import LINE, kernel
from tests.audit.derive.told import CHILD, PAGE, Trace, huge, partial
from tests.catalogue.checked import PATHS, checker, name_of

CATALOGUE: dict[str, Path] = {name_of(path): path for path in PATHS}
KERNELS = (*LINE, kernel("v5.10.y"), kernel("v6.1.y"))
BOTH, FOREIGN = Question.DEVICE_AND_OWNER, Question.DEVICE_READS_FOREIGN
#: Files of other kinds than a block device's.
NFS, FUSE = "fd 5, /x, nfs", "fd 5, /x, fuse"
NEIGHBOUR, BUFFER = Question.CHILD_READS_NEIGHBOUR, Question.CHILD_READS_BUFFER

SAME_SHAPE = [
    (Trace().mapped().taken("ibv_reg_mr").forked(), BOTH, "seed/rdma_fork_child_alive"),
    (Trace().mapped().taken("ibv_reg_mr").forked().ended(), BOTH, "seed/rdma_fork_write"),
    (Trace().mapped().forked().taken("ibv_reg_mr"), BOTH, "seed/pin_after_fork"),
    (Trace().mapped().forked().taken("ibv_reg_mr", writes=False), BOTH, "seed/rdma_readonly_after_fork"),
    (Trace().mapped().advised("DONTFORK").taken("ibv_reg_mr").forked(), BOTH, "seed/rdma_dontfork"),
    (Trace().mapped().taken("ibv_reg_mr").forked().advised("DONTFORK"), BOTH, "madvise/dontfork_too_late"),
    (
        Trace().mapped().advised("DONTFORK").taken("ibv_reg_mr").advised("DOFORK").forked(),
        BOTH,
        "madvise/dofork_too_early",
    ),
    (Trace().mapped().taken("odp_reg_mr").forked(), BOTH, "seed/odp_fork"),
    (Trace().mapped().taken("xdp_umem").forked().execed(), BOTH, "devices/xdp_umem_fork"),
    (Trace().mapped().forked().taken("vfio_map", writes=False), BOTH, "readonly_pins/vfio_readonly"),
    (huge().mapped().taken("io_uring_register").forked(), BOTH, "hugetlb/registered_child_alive"),
    (partial().mapped().taken("dio_read").forked(), BOTH, "direct_io/block_read_child_alive"),
    (partial().mapped().taken("dio_read", detail=NFS).forked(), BOTH, "direct_io/nfs_read_child_alive"),
    (partial().mapped().taken("dio_read", detail=FUSE).forked(), BOTH, "direct_io/fuse_read_child_alive"),
    (
        partial().mapped().taken("io_uring_register", handle="fixed").taken("dio_read", detail=NFS).forked(),
        BOTH,
        "direct_io/nfs_read_fixed_buffer",
    ),
    (partial().mapped().taken("dio_write", False).forked(), FOREIGN, "leaks/direct_write_before_fork"),
    (partial().mapped().forked().taken("dio_write", False), FOREIGN, "leaks/direct_write_after_fork"),
    (partial().mapped().taken("dio_write", False, NFS).forked(), FOREIGN, "direct_io/nfs_write_child_stores"),
    (partial().mapped().advised("DONTFORK").taken("ibv_reg_mr").forked(), NEIGHBOUR, "seed/two_mallocs_dontfork"),
    (
        Trace().mapped().advised("DONTFORK").taken("ibv_reg_mr").given_back().forked(),
        BUFFER,
        "madvise/dofork_forgotten",
    ),
    (
        Trace().mapped().advised("DONTFORK").taken("ibv_reg_mr").given_back().advised("DOFORK").forked(),
        BUFFER,
        "madvise/dofork_in_time",
    ),
    (Trace().mapped().taken("ibv_reg_mr").forked(), Question.CHILD_SEES_DEVICE, "fork/dma_during_fork"),
]  # fmt: skip


@pytest.mark.parametrize(("trace", "question", "name"), SAME_SHAPE, ids=[name for _, _, name in SAME_SHAPE])
def test_as_the_catalogue(trace: Trace, question: Question, name: str) -> None:
    mine = Checker(derive(trace.case(question)))
    theirs = checker(CATALOGUE[name])
    for k in KERNELS:
        assert mine.check(k).verdict is theirs.check(k).verdict, k.name


def verdicts(trace: Trace, question: Question) -> str:
    """The kernels of the line on which it is violated."""
    found = Checker(derive(trace.case(question)))
    return " ".join(k.name for k in LINE if found.check(k).verdict.value == "violated")


def up_to(last: str) -> str:
    names = [k.name for k in LINE]
    return " ".join(names[: names.index(last) + 1])


ALWAYS = up_to(LINE[-1].name)


@pytest.mark.parametrize("interface", ["ibv_reg_mr", "io_uring_register", "vfio_map", "xdp_umem"])
def test_long_term_pins_are_safe_since_fork_copies_them(interface: str) -> None:
    assert verdicts(Trace().mapped().taken(interface).forked(), BOTH) == up_to("v5.9-rc4")  # type: ignore[arg-type]
    assert verdicts(Trace().mapped().taken(interface).forked(), Question.CHILD_SEES_DEVICE) == up_to("v5.9-rc4")  # type: ignore[arg-type]


def test_direct_reads_by_whom_they_are_for() -> None:
    def read(filesystem: str) -> Trace:
        return partial().mapped().taken("dio_read", detail=f"fd 5, /x, {filesystem}").forked()

    assert verdicts(read("ext4"), BOTH) == up_to("v6.3")
    assert verdicts(read("fuse"), BOTH) == up_to("v6.5")
    assert verdicts(read("nfs4"), BOTH) == ALWAYS


def test_dontfork_takes_the_neighbours_everywhere() -> None:
    trace = partial().mapped().advised("DONTFORK").taken("ibv_reg_mr").forked().killed(PAGE.start)
    assert verdicts(trace, NEIGHBOUR) == ALWAYS


def test_given_back_under_the_device() -> None:
    for trace in (
        Trace().mapped().taken("ibv_reg_mr").unmapped(),
        Trace().mapped().taken("ibv_reg_mr").mapped(),
        Trace().mapped().taken("ibv_reg_mr").advised("DONTNEED"),
        partial().mapped().taken("ibv_reg_mr").freed(),
    ):
        assert verdicts(trace, Question.FREED_UNDER_DEVICE) == ALWAYS


def test_shared_memory_is_no_matter_for_fork() -> None:
    assert verdicts(Trace().mapped(private=False).taken("ibv_reg_mr").forked(), BOTH) == ""


def test_a_pin_that_races_with_the_fork() -> None:
    trace = Trace().mapped().taken("ibv_reg_mr", task=813).forked(begun=1)
    assert verdicts(trace, BOTH) == up_to("v5.10")


def test_a_child_that_is_gone_shares_nothing() -> None:
    """The page is the parent's alone again when it registers it; what is asked is what the next fork would do."""
    assert verdicts(Trace().mapped().forked().execed(CHILD).taken("ibv_reg_mr"), BOTH) == up_to("v5.9-rc4")


def test_somebody_copies_into_it_meanwhile() -> None:
    assert verdicts(partial().mapped().taken("process_vm", detail="by 99").forked(), BOTH) == up_to("v5.9-rc4")


def test_bytes_that_change_in_flight() -> None:
    assert verdicts(Trace().mapped().taken("vmsplice", False).overwritten(), BOTH) == ALWAYS


def test_a_child_that_drops_its_copy_is_asked_before() -> None:
    trace = Trace().mapped().taken("ibv_reg_mr").forked().advised("DONTNEED", CHILD)
    assert verdicts(trace, Question.CHILD_SEES_DEVICE) == up_to("v5.9-rc4")

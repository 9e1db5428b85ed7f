"""What calls mean: children, files, pins, transfers, the shim's words."""

from __future__ import annotations

import pytest

from cowcatcher.audit.events import (
    Advised,
    Event,
    Execed,
    Exited,
    Forked,
    ForkInit,
    Freed,
    LetGo,
    Library,
    Lost,
    Mapped,
    Moved,
    OpenedDirect,
    Overwritten,
    Pinned,
    Present,
    Range,
    Signalled,
    Unmapped,
    Unpinned,
)
from cowcatcher.audit.strace import Reader
from tests.audit.strace.text import lost, names, told

FORK = "clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD"


def brief(happened: list[Event]) -> list[str]:
    """ "Forked 100 101": what happened, to whom, and the child, or the handle's number."""
    words = []
    for event in happened:
        what = {Forked: "child", Pinned: "handle", Unpinned: "handle"}.get(type(event))
        words.append(f"{type(event).__name__} {event.task}" + (f" {getattr(event, what)}" if what else ""))
    return words


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_a_child_is_told_of_before_its_first_event() -> None:
    happened = told(
        f"""\
100 {FORK} <unfinished ...>
101 set_robust_list(0x7fa20, 24)      = 0
101 munmap(0x1000, 4096)              = 0
100 <... clone resumed>, child_tidptr=0x7fa10) = 101
100 munmap(0x2000, 4096)              = 0
101 +++ exited with 0 +++
"""
    )
    assert brief(happened) == ["Forked 100 101", "Unmapped 101", "Unmapped 100", "Exited 101"]
    fork = happened[0]
    assert isinstance(fork, Forked)
    assert (fork.begun, fork.line, fork.shares_mm, fork.thread, fork.call) == (1, 3, False, False, "clone")


def test_a_child_that_is_gone_before_the_call_returns() -> None:
    happened = told(
        """\
100 vfork( <unfinished ...>
101 exit_group(3)                     = ?
101 +++ exited with 3 +++
100 <... vfork resumed>)              = 101
100 +++ exited with 0 +++
"""
    )
    assert brief(happened) == ["Forked 100 101", "Exited 101", "Exited 100"]
    assert isinstance(happened[0], Forked)
    assert happened[0].shares_mm


def test_with_two_forks_open_the_children_wait_until_it_is_known_whose_they_are() -> None:
    happened = told(
        f"""\
100 munmap(0x1000, 4096) = 0
100 {FORK}, child_tidptr=0x1) = 200
100 {FORK} <unfinished ...>
200 {FORK} <unfinished ...>
301 munmap(0x1000, 4096) = 0
302 munmap(0x2000, 4096) = 0
301 {FORK}, child_tidptr=0x1) = 400
400 munmap(0x3000, 4096) = 0
200 <... clone resumed>, child_tidptr=0x7fa10) = 301
100 <... clone resumed>, child_tidptr=0x7fa10) = 302
"""
    )
    assert not lost(happened)
    assert brief(happened) == [
        "Unmapped 100", "Forked 100 200", "Forked 200 301", "Unmapped 301", "Forked 301 400", "Unmapped 400",
        "Forked 100 302", "Unmapped 302",
    ]  # fmt: skip
    assert [event.line for event in happened if isinstance(event, Unmapped)] == [1, 5, 8, 6]


def test_a_fork_that_fails_makes_no_child() -> None:
    happened = told(
        f"""\
100 {FORK}, child_tidptr=0x1) = -1 EAGAIN (Resource temporarily unavailable)
100 {FORK} <unfinished ...>
100 <... clone resumed>, child_tidptr=0x7fa10) = ? ERESTARTNOINTR (To be restarted)
100 munmap(0x1000, 4096) = 0
"""
    )
    assert brief(happened) == ["Unmapped 100"]


UNTRACED = f"100 {FORK}, child_tidptr=0x7fa10) = 101\n"


@pytest.mark.parametrize(
    ("call", "status", "signal"),
    [
        ("wait4(101, [{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 101", 3, ""),
        ("wait4(-1, [{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}], WNOHANG, NULL) = 101", None, "SIGKILL"),
        ("wait4(-1, NULL, 0, NULL) = 101", None, ""),
        ("waitid(P_PID, 101, {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=101, si_uid=0, si_status=3}, WEXITED, NULL)"
         " = 0", 3, ""),
    ],
)  # fmt: skip
def test_a_child_that_is_not_traced_ends_when_its_parent_is_told(call: str, status: int | None, signal: str) -> None:
    """A trace without -f has no line of the child's own."""
    *_, ended = told(f"{UNTRACED}100 {call}\n")
    assert isinstance(ended, Exited)
    assert (ended.task, ended.status, ended.signal) == (101, status, signal)


@pytest.mark.parametrize(
    "call",
    [
        "wait4(101, [{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}], WUNTRACED, NULL) = 101",
        "wait4(101, [{WIFCONTINUED(s)}], WCONTINUED, NULL) = 101",
        "wait4(101, NULL, WUNTRACED, NULL) = 101",
        "wait4(101, 0x7ffd, WNOHANG, NULL) = 0",
        "wait4(101, 0x7ffd, 0, NULL) = -1 ECHILD (No child processes)",
        "waitid(P_PID, 101, {si_signo=SIGCHLD, si_code=CLD_STOPPED, si_pid=101, si_uid=0}, WSTOPPED, NULL) = 0",
        "wait4(77, NULL, 0, NULL) = 77",
    ],
)
def test_a_child_that_has_not_ended(call: str) -> None:
    assert brief(told(f"{UNTRACED}100 {call}\n")) == ["Forked 100 101"]


def test_a_traced_child_tells_of_its_own_end() -> None:
    lines = "101 munmap(0x1000, 4096) = 0\n100 wait4(-1, NULL, 0, NULL) = 101\n101 +++ exited with 0 +++\n"
    assert brief(told(UNTRACED + lines)) == ["Forked 100 101", "Unmapped 101", "Exited 101"]


def test_threads_vfork_and_clone3() -> None:
    def fork(call: str) -> tuple[bool, bool, str]:
        (event,) = told(f"100 {call} = 101")
        assert isinstance(event, Forked)
        return event.shares_mm, event.thread, event.call

    assert fork("fork()") == (False, False, "fork")
    assert fork("vfork()") == (True, False, "vfork")
    assert fork("clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7} => {parent_tid=[101]}, 88)") == (True, True, "clone3")
    assert fork("clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD, stack=0x7}, 88)") == (True, False, "clone3")
    assert fork("clone3({flags=0, exit_signal=SIGCHLD}, 88)") == (False, False, "clone3")
    assert fork("clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x7)") == (
        False,
        False,
        "clone",
    )
    assert fork("clone(0x1200011, 0, 0, 0x7fb904c4da10, 0)") == (False, False, "clone")


def test_exec_by_another_thread() -> None:
    happened = told(
        """\
100 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, stack=0x7} => {parent_tid=[101]}, 88) = 101
101 execve("/bin/true", ["true"], 0x7ffc /* 35 vars */ <unfinished ...>
100 <... futex resumed>)              = ?
100 +++ superseded by execve in pid 101 +++
100 <... execve resumed>)             = 0
"""
    )
    assert brief(happened) == ["Forked 100 101", "Exited 101", "Execed 100"]
    assert isinstance(happened[-1], Execed)
    assert happened[-1].path == "/bin/true"


def test_the_environment_that_is_asked_for() -> None:
    happened = told(
        '1 execve("/bin/f", ["env", "IBV_FORK_SAFE=0"], ["HOME=/", "RDMAV_FORK_SAFE=1", "FI_PROVIDER=verbs"]) = 0'
    )
    assert happened == [Execed(0.0, 1, 1, "/bin/f", (("RDMAV_FORK_SAFE", "1"), ("FI_PROVIDER", "verbs")))]
    assert told('1 execve("/bin/f", ["f"], 0x7ffc /* 2 vars */) = -1 ENOENT (No such file or directory)') == []


def test_a_number_that_is_used_again() -> None:
    happened = told(
        f"""\
100 {FORK}, child_tidptr=0x1) = 101
101 +++ exited with 0 +++
100 {FORK}, child_tidptr=0x1) = 101
101 munmap(0x1000, 4096) = 0
"""
    )
    assert brief(happened) == ["Forked 100 101", "Exited 101", "Forked 100 101", "Unmapped 101"]


def test_a_task_from_nowhere_is_said_to_be_one() -> None:
    happened = told(["100 munmap(0x1000, 4096) = 0", "200 munmap(0x1000, 4096) = 0"])
    assert names(happened) == ["Unmapped", "Lost", "Unmapped"]
    assert "200" in lost(happened)[0]


def test_what_is_known_before_the_trace() -> None:
    reader = Reader()
    for task in (100, 101):
        reader.adopt(Present(0.0, 0, task, process=100, parent=1, name="f"))
    reader.adopt(OpenedDirect(0.0, 0, 100, 5, "/data"))
    happened = list(
        reader.read(
            [
                "101 pread64(0x5, 0x7f0000000000, 0x1000, 0 <unfinished ...>",
                f"100 {FORK}, child_tidptr=0x1) = 200",
                "101 <... pread64 resumed>) = 0x1000",
            ]
        )
    )
    assert names(happened) == ["Pinned", "Forked", "Unpinned"]


# --- mappings ---------------------------------------------------------------------------------------------------------


def test_the_heap() -> None:
    happened = told(
        "1 brk(NULL) = 0x5010\n1 brk(0x8000) = 0x8000\n1 brk(0x7800) = 0x7800\n"
        "1 brk(0x6800) = 0x6800\n1 brk(0x9000) = 0x6800"
    )
    assert happened == [
        Mapped(0.0, 2, 1, Range(0x6000, 0x8000), "rw-", True, True, 4096, "[heap]"),
        Unmapped(0.0, 4, 1, Range(0x7000, 0x8000)),
    ]


def test_shared_memory_of_system_v() -> None:
    happened = told(
        "1 shmget(IPC_PRIVATE, 5000, 0600) = 7\n1 shmat(7, NULL, 0) = 0x10000\n1 shmdt(0x10000) = 0\n"
        "1 shmat(8, NULL, 0) = 0x20000"
    )
    assert names(happened) == ["Mapped", "Unmapped", "Lost"]
    assert isinstance(happened[0], Mapped)
    assert (happened[0].private, happened[0].range) == (False, Range(0x10000, 0x12000))


def test_what_a_mapping_is_of() -> None:
    happened = told(
        """\
1 openat(AT_FDCWD</tmp>, "libibverbs.so.1", O_RDONLY|O_CLOEXEC) = 3</usr/lib/libibverbs.so.1.14.44.0>
1 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_DENYWRITE, 3</usr/lib/libibverbs.so.1.14.44.0>, 0) = 0x10000
1 openat(AT_FDCWD, "/tmp/\\303\\244", O_RDONLY) = 4
1 mmap(NULL, 4096, PROT_READ|PROT_EXEC, MAP_SHARED, 4, 0) = 0x20000
1 close(4) = 0
1 mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE, 4, 0) = 0x30000
1 mremap(0x10000, 8192, 4096, MREMAP_MAYMOVE|MREMAP_DONTUNMAP) = 0x50000
"""
    )
    mapped = [event for event in happened if isinstance(event, Mapped)]
    assert [(m.what, m.prot, m.private, m.anonymous) for m in mapped] == [
        ("/usr/lib/libibverbs.so.1.14.44.0", "r--", True, False), ("/tmp/ä", "r-x", False, False),
        ("", "---", True, False),
    ]  # fmt: skip
    assert [event for event in happened if isinstance(event, Library)] == [
        Library(0.0, 2, 1, "libibverbs", "1.14.44.0")
    ]
    moved = happened[-1]
    assert isinstance(moved, Moved)
    assert moved.keeps


def test_advice_in_part() -> None:
    assert told("1 madvise(0x1000, 8192, MADV_DONTFORK) = -1 ENOMEM (Cannot allocate memory)") == [
        Advised(0.0, 1, 1, Range(0x1000, 0x3000), "DONTFORK", True)
    ]
    assert told("1 madvise(0x1000, 8192, MADV_DONTFORK) = -1 EINVAL (Invalid argument)") == []
    assert told("1 madvise(0x1000, 1, 0x17 /* MADV_POPULATE_WRITE */) = 0") == [
        Advised(0.0, 1, 1, Range(0x1000, 0x2000), "POPULATE_WRITE")
    ]


def test_signals() -> None:
    happened = told(
        """\
1 --- SIGBUS {si_signo=SIGBUS, si_code=BUS_ADRERR, si_addr=0x7f0000000010} ---
1 --- SIGSEGV {si_signo=SIGSEGV, si_code=SI_USER, si_pid=1, si_uid=0} ---
1 --- SIGSEGV {si_signo=SIGSEGV, si_code=SI_KERNEL, si_addr=NULL} ---
1 --- SIGSEGV {si_signo=11, si_code=0x2, si_addr=0x10} ---
1 +++ killed by SIGSEGV (core dumped) +++
"""
    )
    assert happened == [
        Signalled(0.0, 1, 1, "SIGBUS", "BUS_ADRERR", 0x7F0000000010),
        Signalled(0.0, 4, 1, "SIGSEGV", "SEGV_ACCERR", 0x10),
        Exited(0.0, 5, 1, None, "SIGSEGV"),
    ]


# --- rings ------------------------------------------------------------------------------------------------------------

RING = "1 io_uring_setup(8, {flags=0}) = 4\n"
BUFFERS = "[{iov_base=0x10000, iov_len=4096}, {iov_base=0x20000, iov_len=100}]"


def pins(text: str) -> list[str]:
    return [word for word in brief(told(text)) if "inned" in word]


def test_a_ring_unpins_when_its_last_descriptor_is_closed() -> None:
    ring = RING + f"1 io_uring_register(4, IORING_REGISTER_BUFFERS, {BUFFERS}, 2) = 0\n"
    pinned, unpinned = "Pinned 1 io_uring fd 4 #1", "io_uring fd 4 #1"
    assert pins(ring + "1 close(4) = 0") == [pinned, f"Unpinned 1 {unpinned}"]
    assert pins(ring + "1 dup(4) = 5\n1 close(4) = 0") == [pinned]
    assert pins(ring + "1 dup2(4, 5) = 5\n1 close_range(3, 4294967295, 0) = 0") == [pinned, f"Unpinned 1 {unpinned}"]
    assert pins(ring + '1 execve("/f", ["f"], 0x7 /* 1 var */) = 0') == [pinned, f"Unpinned 1 {unpinned}"]
    assert pins(ring + '1 fcntl(4, F_SETFD, 0) = 0\n1 execve("/f", ["f"], 0x7 /* 1 var */) = 0') == [pinned]
    assert pins(ring + "1 +++ exited with 0 +++") == [pinned, f"Unpinned 1 {unpinned}"]
    forked = ring + f"1 {FORK}, child_tidptr=0x1) = 2\n"
    assert pins(forked + "1 +++ exited with 0 +++") == [pinned]
    assert pins(forked + "1 close(4) = 0\n2 +++ exited with 0 +++") == [pinned, f"Unpinned 2 {unpinned}"]
    assert pins(forked + "1 close(4) = 0\n2 fcntl(4, F_DUPFD, 10) = 10\n2 close(4) = 0") == [pinned]
    assert pins(ring + "1 dup2(3, 4) = 4") == [pinned, f"Unpinned 1 {unpinned}"]  # something unknown in its place
    thread = ring + "1 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD} => {}, 88) = 2\n"
    assert pins(thread + "2 close(4) = 0") == [pinned, f"Unpinned 2 {unpinned}"]


def test_a_child_that_closes_the_ring_lets_go_of_it() -> None:
    happened = told(
        f"""\
100 io_uring_setup(8, {{flags=0}}) = 5
100 io_uring_register(5, IORING_REGISTER_BUFFERS, [{{iov_base=0x1000, iov_len=4096}}], 1) = 0
100 dup(5) = 6
100 close(6) = 0
100 {FORK}, child_tidptr=0x7fa10) = 101
101 close(5) = 0
101 +++ exited with 0 +++
100 {FORK}, child_tidptr=0x7fa10) = 102
102 +++ exited with 0 +++
100 close(5) = 0
"""
    )
    names_ = [f"{type(e).__name__} {e.task}" for e in happened]
    assert names_ == ["Pinned 100", "Forked 100", "LetGo 101", "Exited 101", "Forked 100", "Exited 102", "Unpinned 100"]
    pin, let_go = happened[0], happened[2]
    assert isinstance(pin, Pinned)
    assert isinstance(let_go, LetGo)
    assert let_go.handle == pin.handle


def test_sparse_buffers_and_updates() -> None:
    happened = told(
        RING
        + """\
1 io_uring_register(4, IORING_REGISTER_BUFFERS2, {nr=4, flags=IORING_RSRC_REGISTER_SPARSE, data=NULL, tags=NULL}, 32) = 0
1 io_uring_register(4, IORING_REGISTER_BUFFERS_UPDATE, {offset=1, data=[{iov_base=0x10000, iov_len=4096}, {iov_base=0x20000, iov_len=4096}], tags=[0, 0], nr=2}, 32) = 2
1 io_uring_register(4, IORING_REGISTER_BUFFERS_UPDATE, {offset=2, data=[{iov_base=NULL, iov_len=0}], tags=[0], nr=1}, 32) = 1
1 io_uring_register(4, IORING_REGISTER_BUFFERS, [{iov_base=0x1000, iov_len=1}], 1) = -1 EBUSY (Device or resource busy)
"""  # noqa: E501
    )
    assert brief(happened) == [
        "Pinned 1 io_uring fd 4 #1", "Pinned 1 io_uring fd 4 #2", "Unpinned 1 io_uring fd 4 #1",
    ]  # fmt: skip
    assert [e.ranges for e in happened if isinstance(e, Pinned)] == [
        (Range(0x10000, 0x11000), Range(0x20000, 0x21000)),
        (Range(0x10000, 0x11000),),
    ]


def test_a_truncated_list_is_told_by_name() -> None:
    happened = told(
        RING + "1 io_uring_register(4, IORING_REGISTER_BUFFERS, [{iov_base=0x10000, iov_len=4096}, ...], 40) = 0"
    )
    assert names(happened) == ["Lost", "Pinned"]
    assert "truncated" in lost(happened)[0]


def test_a_ring_that_is_named_by_index() -> None:
    text = (
        RING
        + f"1 io_uring_register(0, IORING_REGISTER_USE_REGISTERED_RING|IORING_REGISTER_BUFFERS, {BUFFERS}, 2) = 0\n"
    )
    assert len(pins(text)) == 1
    assert pins(text + "1 close(4) = 0")[1:] == ["Unpinned 1 io_uring fd 0 #1"]


# --- devices ----------------------------------------------------------------------------------------------------------


def test_memory_of_af_xdp() -> None:
    happened = told(
        r"""1 setsockopt(11, SOL_XDP, XDP_UMEM_REG, "\0\260\236\366'\177\0\0\0\0\1\0\0\0\0\0\0\20\0\0\0\0\0\0", 24) = 0
1 close(11) = 0"""
    )
    assert names(happened) == ["Pinned", "Unpinned"]
    assert isinstance(happened[0], Pinned)
    assert (happened[0].interface, happened[0].ranges) == ("xdp_umem", (Range(0x7F27F69EB000, 0x7F27F69EB000 + 65536),))


def test_vfio_where_the_structure_is_shown_and_where_it_is_not() -> None:
    happened = told(
        """\
1 ioctl(5, VFIO_IOMMU_MAP_DMA, {argsz=32, flags=VFIO_DMA_MAP_FLAG_READ|VFIO_DMA_MAP_FLAG_WRITE, vaddr=0x10000, iova=0x4000, size=8192}) = 0
1 ioctl(5, VFIO_IOMMU_MAP_DMA, {argsz=32, flags=VFIO_DMA_MAP_FLAG_READ, vaddr=0x20000, iova=0x8000, size=4096}) = 0
1 ioctl(5, VFIO_IOMMU_UNMAP_DMA, {argsz=24, flags=0, iova=0x4000, size=8192}) = 0
1 ioctl(1, TCGETS, {c_iflag=ICRNL|IXON, ...}) = 0
1 close(5) = 0
"""  # noqa: E501
    )
    assert brief(happened) == [
        "Pinned 1 vfio fd 5 #1", "Pinned 1 vfio fd 5 #2", "Unpinned 1 vfio fd 5 #1", "Unpinned 1 vfio fd 5 #2",
    ]  # fmt: skip
    assert [e.writes for e in happened if isinstance(e, Pinned)] == [True, False]
    unseen = told("1 ioctl(5, VFIO_IOMMU_MAP_DMA, 0x7ffd) = 0\n" * 3)
    assert names(unseen) == ["Lost"]
    assert "VFIO_IOMMU_MAP_DMA" in lost(unseen)[0]


# --- transfers --------------------------------------------------------------------------------------------------------

DIRECT = """\
1 openat(AT_FDCWD, "/data", O_RDWR|O_DIRECT) = 3
1 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD} => {}, 88) = 2
"""


def transfers(text: str) -> list[str]:
    return names(told(DIRECT + text))[2:]


def test_a_read_beside_no_fork_is_no_event() -> None:
    assert transfers("2 pread64(0x3, 0x10000, 0x1000, 0) = 0x1000") == []
    assert transfers("2 pread64(0x3, 0x10000, 0x1000, 0 <unfinished ...>\n2 <... pread64 resumed>) = 0x1000") == []
    assert transfers(f"2 pread64(0x3, 0x10000, 0x1000, 0) = 0x1000\n1 {FORK}, child_tidptr=0x1) = 9") == ["Forked"]


def test_a_read_that_a_fork_overlaps() -> None:
    begun, done = "2 pread64(0x3, 0x10000, 0x1000, 0 <unfinished ...>\n", "2 <... pread64 resumed>) = 0x1000\n"
    fork, returned = f"1 {FORK} <unfinished ...>\n", "1 <... clone resumed>, child_tidptr=0x1) = 9\n"
    whole = "2 pwrite64(0x3, 0x10000, 0x1000, 0) = 0x1000\n"
    assert transfers(begun + f"1 {FORK}, child_tidptr=0x1) = 9\n" + done) == ["Pinned", "Forked", "Unpinned"]
    assert transfers(begun + fork + done + returned) == ["Pinned", "Unpinned", "Forked"]
    assert transfers(fork + begun + returned + done) == ["Pinned", "Forked", "Unpinned"]
    assert transfers(fork + whole + returned) == ["Pinned", "Unpinned", "Forked"]
    assert transfers(fork + returned + whole) == ["Forked"]
    assert transfers(begun + "1 vfork( <unfinished ...>\n" + done) == []
    assert transfers(begun + "1 munmap(0x10000, 4096) = 0\n" + done) == ["Pinned", "Unmapped", "Unpinned"]
    pinned = told(DIRECT + begun + fork)[2]
    assert isinstance(pinned, Pinned)
    assert (pinned.interface, pinned.writes, pinned.ranges, pinned.line) == (
        "dio_read", True, (Range(0x10000, 0x11000),), 3,
    )  # fmt: skip


def test_a_file_that_is_not_direct_any_more() -> None:
    text = "2 read(0x3, 0x10000, 0x1000 <unfinished ...>\n" + f"1 {FORK}, child_tidptr=0x1) = 9\n"
    assert transfers(text) == ["Pinned", "Forked"]
    assert transfers("1 fcntl(3, F_SETFL, O_RDWR) = 0\n" + text) == ["Forked"]
    assert transfers("1 close(3) = 0\n" + text) == ["Forked"]
    assert transfers('1 close(3) = 0\n1 openat(AT_FDCWD, "/x", O_RDWR) = 3\n' + text) == ["Forked"]
    assert transfers("1 close(3) = 0\n1 dup(9) = 3\n1 fcntl(3, F_SETFL, O_RDWR|O_DIRECT) = 0\n" + text)[1:] == [
        "Pinned",
        "Forked",
    ]


def test_where_strace_shows_bytes_the_address_is_said_to_be_missing() -> None:
    text = "2 pread64(3,  <unfinished ...>\n" + f"1 {FORK}, child_tidptr=0x1) = 9\n"
    happened = told(DIRECT + text + '2 <... pread64 resumed>"\\0\\0"..., 4096, 0) = 4096')
    assert names(happened)[2:] == ["Lost", "Forked"]
    assert "-e raw=pread64" in lost(happened)[0]


def test_libaio() -> None:
    submit = (
        "1 io_submit(0x7f0, 2, [{aio_data=0x1, aio_lio_opcode=IOCB_CMD_PREAD, aio_fildes=3, aio_buf=0x10000, "
        "aio_nbytes=4096, aio_offset=0}, {aio_data=0x2, aio_lio_opcode=IOCB_CMD_PWRITEV, aio_fildes=3, "
        "aio_buf=[{iov_base=0x20000, "
        "iov_len=100}], aio_offset=0}]) = 2\n"
    )
    fork = f"1 {FORK}, child_tidptr=0x1) = 9\n"
    first = "1 io_getevents(0x7f0, 1, 1, [{data=0x1, obj=0x7ff, res=4096, res2=0}], NULL) = 1\n"
    two = "{data=0x2, obj=0x7f, res=4, res2=0}, {data=0x1, obj=0x7ff, res=4, res2=0}"
    both = f"1 io_getevents(0x7f0, 1, 2, [{two}], NULL) = 2\n"
    assert transfers(submit + both + fork) == ["Forked"]
    assert transfers(submit + first + fork) == ["Pinned", "Forked"]
    assert transfers(submit + fork + both) == ["Pinned", "Pinned", "Forked", "Unpinned", "Unpinned"]
    assert transfers(submit + fork + "1 io_destroy(0x7f0) = 0") == [
        "Pinned",
        "Pinned",
        "Forked",
        "Unpinned",
        "Unpinned",
    ]
    assert transfers(submit.replace(") = 2", ") = -1 EINVAL (Invalid argument)") + fork) == ["Forked"]
    written = told(DIRECT + submit + first + fork)[2]
    assert isinstance(written, Pinned)
    assert (written.interface, written.ranges) == ("dio_write", (Range(0x20000, 0x20064),))
    split = submit.replace("]) = 2\n", "] <unfinished ...>\n") + fork + "1 <... io_submit resumed>) = 2\n" + both
    assert transfers(split.replace("\n1 clone", "\n2 clone")) == ["Pinned", "Pinned", "Forked", "Unpinned", "Unpinned"]


def test_sends_without_a_copy() -> None:
    socket = "1 setsockopt(9, SOL_SOCKET, SO_ZEROCOPY, [1], 4) = 0\n"
    send = "1 sendto(0x9, 0x10000, 0x1000, 0x4000000, 0, 0) = 0x1000\n"
    fork = f"1 {FORK}, child_tidptr=0x1) = 9\n"

    def completion(first: int, last: int) -> str:
        return (
            "1 recvmsg(9, {msg_name=NULL, msg_namelen=0, msg_iov=NULL, msg_iovlen=0, msg_control=[{cmsg_len=48, "
            "cmsg_level=SOL_IP, cmsg_type=IP_RECVERR, cmsg_data={ee_errno=0, ee_origin=SO_EE_ORIGIN_ZEROCOPY, "
            "ee_type=0, ee_code=1, "
            f"ee_info={first}, ee_data={last}, offender={{sa_family=AF_UNSPEC}}}}}}], msg_controllen=48, "
            "msg_flags=MSG_ERRQUEUE}, MSG_ERRQUEUE) = 0\n"
        )

    def sends(text: str) -> list[str]:
        return names(told(text))

    assert sends(send + fork) == ["Forked"]  # without SO_ZEROCOPY the flag says nothing
    assert sends(socket + send + fork + completion(0, 0)) == ["Pinned", "Forked", "Unpinned"]
    assert sends(socket + send * 3 + completion(0, 1) + fork + completion(2, 2)) == ["Pinned", "Forked", "Unpinned"]
    shown = (
        '1 sendmsg(9, {msg_name=NULL, msg_iov=[{iov_base="\\0", iov_len=4096}], msg_iovlen=1}, MSG_ZEROCOPY) = 4096\n'
    )
    assert sends(socket + shown + fork) == ["Lost", "Forked"]


def test_pages_in_a_pipe() -> None:
    pipe = "1 pipe2([5, 6], 0) = 0\n"
    splice = "1 vmsplice(6, [{iov_base=0x10000, iov_len=4096}, {iov_base=0x20000, iov_len=4096}], 2, 0) = 5000\n"
    fork = f"1 {FORK}, child_tidptr=0x1) = 9\n"

    def told_of(text: str) -> list[str]:
        return names(told(pipe + text))

    happened = told(pipe + splice + fork)
    assert isinstance(happened[0], Pinned)
    assert happened[0].ranges == (Range(0x10000, 0x11000), Range(0x20000, 0x20000 + 904))
    assert told_of(splice + '1 read(5, "\\0"..., 5000) = 5000\n' + fork) == ["Forked"]
    assert told_of(splice + '1 read(5, "\\0"..., 100) = 100\n' + fork) == ["Pinned", "Forked"]
    assert told_of(splice + fork + '9 read(5, "\\0"..., 5000) = 5000\n') == ["Pinned", "Forked", "Unpinned"]
    assert told_of(splice + fork + "1 close(5) = 0\n9 close(5) = 0\n") == ["Pinned", "Forked", "Unpinned"]
    assert told_of(splice + "1 splice(5, NULL, 7, NULL, 5000, 0) = 5000\n" + fork) == ["Forked"]
    bytes_shown = '1 vmsplice(6, [{iov_base="\\0\\0"..., iov_len=4096}], 1, 0) = 4096\n'
    assert told_of(bytes_shown + fork) == ["Lost", "Forked"]
    site = (
        '1 mq_unlink("/cowcatcher:site call=vmsplice fd=6 addr=0x10000 len=4096 stack=a!b+0x1") = -1 ENOENT (No such)\n'
    )
    happened = told(pipe + site + bytes_shown + fork)
    assert isinstance(happened[0], Pinned)
    assert (happened[0].ranges, happened[0].stack) == ((Range(0x10000, 0x11000),), ("a!b+0x1",))


def test_one_process_copies_from_another() -> None:
    text = f"1 {FORK}, child_tidptr=0x1) = 2\n"
    copy = (
        '2 process_vm_writev(1, [{iov_base="\\0", iov_len=4096}], 1, [{iov_base=0x10000, iov_len=4096}], 1, 0) = 4096\n'
    )
    assert names(told(text + copy)) == ["Forked"]
    beside = told(text + f"1 {FORK} <unfinished ...>\n" + copy + "1 <... clone resumed>, child_tidptr=0x1) = 3\n")
    assert names(beside) == ["Forked", "Pinned", "Unpinned", "Forked"]
    assert isinstance(beside[1], Pinned)
    assert (beside[1].task, beside[1].interface, beside[1].writes) == (1, "process_vm", True)


# --- the shim ---------------------------------------------------------------------------------------------------------


def word(text: str, task: int = 1) -> str:
    return f'{task} mq_unlink("/cowcatcher:{text}") = -1 ENOENT (No such file or directory)\n'


def test_registrations() -> None:
    happened = told(
        word("hello version=1")
        + word("library name=libibverbs version=44.0 path=/x")
        + word("fork_init rc=0 stack=libfabric.so!init+0x1")
        + word("reg_mr h=0x55 addr=0x10000 len=100 access=0x7 stack=app!main+0x10<libc.so.6!start+0x2")
        + word("reg_mr h=0x56 addr=0x20000 len=100 access=0x40 stack=")
        + word("freed addr=0x10010 len=16 h=0x55")
        + word("dereg_mr h=0x55")
        + word("dereg_mr h=0x77")
    )
    assert names(happened) == ["Library", "ForkInit", "Pinned", "Pinned", "Freed", "Unpinned", "Lost"]
    assert happened[1] == ForkInit(0.0, 3, 1, 0, stack=("libfabric.so!init+0x1",))
    assert happened[2] == Pinned(
        0.0, 4, 1, "mr 0x55 #1", "ibv_reg_mr", (Range(0x10000, 0x10064),), True, "access 0x7",
        stack=("app!main+0x10", "libc.so.6!start+0x2"),
    )  # fmt: skip
    assert isinstance(happened[3], Pinned)
    assert (happened[3].interface, happened[3].writes) == ("odp_reg_mr", False)
    assert happened[4] == Freed(0.0, 6, 1, Range(0x10010, 0x10020))


def test_a_site_belongs_to_the_next_call_of_that_name() -> None:
    happened = told(
        word("site call=madvise stack=libibverbs.so.1!ibv_reg_mr+0x9")
        + "2 madvise(0x1000, 4096, MADV_DONTFORK) = 0\n"
        + "1 munmap(0x1000, 4096) = 0\n"
        + "1 madvise(0x1000, 4096, MADV_DONTFORK) = 0\n"
        + "1 madvise(0x1000, 4096, MADV_DOFORK) = 0\n"
        + word("site call=fork stack=libc.so.6!fork+0x9")
        + "1 clone3({flags=CLONE_VM|CLONE_THREAD} => {}, 88) = 3\n"
        + f"1 {FORK} <unfinished ...>\n1 <... clone resumed>, child_tidptr=0x1) = 4\n"
    )
    assert [e.stack for e in happened if not isinstance(e, Lost)] == [
        (), (), ("libibverbs.so.1!ibv_reg_mr+0x9",), (), (), ("libc.so.6!fork+0x9",),
    ]  # fmt: skip


def test_a_long_word_goes_on() -> None:
    stack = "<".join(f"app!function_with_a_name_{i}+0x10" for i in range(12))
    text = f"reg_mr h=0x55 addr=0x10000 len=100 access=0x7 stack={stack}"
    happened = told(word(text[:240]) + word("more " + text[240:]) + f"1 {FORK}, child_tidptr=0x1) = 4\n")
    assert names(happened) == ["Pinned", "Forked"]
    assert len(happened[0].stack) == 12


def test_what_the_shim_saw_in_flight() -> None:
    inflight = word("inflight id=0 op=dio_read fd=3 addr=0x10000 len=4096 tid=1 fs=ext4 seen=sync")
    fork = f"1 {FORK} <unfinished ...>\n1 <... clone resumed>, child_tidptr=0x1) = 4\n"
    happened = told(word("hello version=1") + inflight + fork + word("still id=0") + word("settled"))
    assert names(happened) == ["Pinned", "Forked", "Unpinned"]
    assert isinstance(happened[0], Pinned)
    assert "ext4" in happened[0].detail


def test_bytes_that_changed_on_their_way() -> None:
    happened = told(word("overwritten how=msg_zerocopy fd=9 addr=0x10010 len=16"))
    assert names(happened) == ["Pinned", "Overwritten", "Unpinned"]
    seen = told(
        "1 setsockopt(9, SOL_SOCKET, SO_ZEROCOPY, [1], 4) = 0\n"
        "1 sendto(0x9, 0x10000, 0x1000, 0x4000000, 0, 0) = 0x1000\n"
        + word("overwritten how=msg_zerocopy fd=9 addr=0x10010 len=16")
    )
    assert names(seen) == ["Pinned", "Overwritten"]
    assert isinstance(seen[1], Overwritten)
    assert isinstance(seen[0], Pinned)
    assert (seen[1].handle, seen[0].line) == (seen[0].handle, 2)

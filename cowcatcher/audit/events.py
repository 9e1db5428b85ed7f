"""What happens to a program's memory, told one event after another.

The one language between whoever watches a program (``strace``, ``live``) and whoever reasons about it (``story``,
``rules``, ``derive``). Events arrive in the order in which they happened, as far as the watcher can tell; a system call
that failed is no event, but for a fork that lacked memory. Addresses are absolute and in bytes, ranges half open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

PAGE = 4096


class Range(NamedTuple):
    """``start`` up to, not including, ``end``."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def pages(self, page: int = PAGE) -> Range:
        """Rounded out to whole pages."""
        return Range(self.start // page * page, -(-self.end // page) * page)

    def overlap(self, other: Range) -> Range | None:
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Range(start, end) if start < end else None

    def without(self, other: Range) -> Iterator[Range]:
        """What is left of it, in order."""
        if self.start < min(self.end, other.start):
            yield Range(self.start, min(self.end, other.start))
        if max(self.start, other.end) < self.end:
            yield Range(max(self.start, other.end), self.end)

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}"


#: Who takes the memory: the statements of the language where there is one, and the two that it has no word for.
#: ``msg_zerocopy`` and ``process_vm`` only read or write for a moment, as the direct transfers do.
Interface = Literal[
    "ibv_reg_mr", "odp_reg_mr", "io_uring_register", "vfio_map", "xdp_umem",
    "vmsplice", "dio_read", "dio_write", "process_vm", "msg_zerocopy",
]  # fmt: skip

#: Held until somebody gives it back; the others end by themselves, when the transfer is over.
REGISTERED = frozenset({"ibv_reg_mr", "odp_reg_mr", "io_uring_register", "vfio_map", "xdp_umem"})


@dataclass(frozen=True, slots=True)
class Event:
    """``time`` in seconds since the epoch, 0 where the watcher has no clock. ``line`` of the trace, 1-based; 0: seen
    live. ``task`` is the thread's id as the watcher's pid namespace has it. ``stack`` names the caller, innermost
    first, as ``library!function+0x1f``; () where nobody looked.
    """

    time: float
    line: int
    task: int
    stack: tuple[str, ...] = field(default=(), kw_only=True)


# --- tasks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forked(Event):
    """``task`` made ``child``. ``shares_mm``: CLONE_VM (a thread, vfork(), posix_spawn()): nothing is copied.

    ``call`` is the system call's name (fork, vfork, clone, clone3). ``begun`` is the line at which the call was
    entered, where that is known: events between it and ``line`` ran beside it.
    """

    child: int
    shares_mm: bool
    thread: bool
    call: str
    begun: int = 0


@dataclass(frozen=True, slots=True)
class ForkFailed(Event):
    """A call that would have copied the memory did not, for lack of some: ``error`` as ENOMEM."""

    call: str
    error: str


@dataclass(frozen=True, slots=True)
class Execed(Event):
    """A new memory. ``env`` holds only the variables that an audit asks for (RDMAV_*, IBV_*, FI_*, UCX_*, …)."""

    path: str
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Exited(Event):
    """``status`` of exit(), or None and the ``signal`` that ended it (as SIGSEGV)."""

    status: int | None
    signal: str = ""


@dataclass(frozen=True, slots=True)
class Signalled(Event):
    """A SIGSEGV or SIGBUS was delivered for an access at ``address``; ``code`` as SEGV_MAPERR."""

    signal: str
    code: str
    address: int


@dataclass(frozen=True, slots=True)
class Present(Event):
    """A task that was there before anybody watched: ``process`` is its thread group, ``parent`` the process that made
    it; ``name`` as in /proc/PID/comm.
    """

    process: int
    parent: int
    name: str


# --- mappings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mapped(Event):
    """``what`` is the file's path, [heap], [stack], or "". ``private`` memory is what fork() shares until a write.

    ``page`` is the size of its pages (2 MiB and up for hugetlb). It replaces whatever was there before.
    """

    range: Range
    prot: str  # as "rw-"
    private: bool
    anonymous: bool
    page: int = PAGE
    what: str = ""


@dataclass(frozen=True, slots=True)
class Unmapped(Event):
    range: Range


@dataclass(frozen=True, slots=True)
class Moved(Event):
    """mremap(). ``keeps``: MREMAP_DONTUNMAP, the old range stays, empty."""

    old: Range
    new: Range
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Protected(Event):
    range: Range
    prot: str


@dataclass(frozen=True, slots=True)
class Advised(Event):
    """``advice`` without MADV_: DONTFORK, DOFORK, WIPEONFORK, DONTNEED, HUGEPAGE, …, as the kernel's header has it.

    ``partly``: it said ENOMEM, as it does at the end if there were holes in the range: what is mapped has it.
    """

    range: Range
    advice: str
    partly: bool = False


# --- files that matter, pins and transfers ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenedDirect(Event):
    """A file was opened, or switched, to O_DIRECT. ``filesystem`` as statfs names it, where that is known."""

    fd: int
    path: str
    filesystem: str = ""


@dataclass(frozen=True, slots=True)
class Pinned(Event):
    """``ranges`` were given to a device, or to the kernel acting as one, as ``handle`` from now on.

    ``writes``: the device may write there. A transfer is pinned when it is submitted and unpinned when it is done.
    ``detail`` is for people: "fd 5, /data/file, ext4", "access 0x7", "3 buffers".
    """

    handle: str
    interface: Interface
    ranges: tuple[Range, ...]
    writes: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unpinned(Event):
    handle: str


@dataclass(frozen=True, slots=True)
class LetGo(Event):
    """The task's process has closed its last descriptor of what ``handle`` belongs to; others may have it yet."""

    handle: str


@dataclass(frozen=True, slots=True)
class Freed(Event):
    """The program's own allocator got ``range`` back: the memory may well stay mapped."""

    range: Range


@dataclass(frozen=True, slots=True)
class Overwritten(Event):
    """The bytes of a transfer that only reads them changed before it was over: seen by comparing, so at least once."""

    handle: str
    range: Range


# --- RDMA's fork protection -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ForkInit(Event):
    """ibv_fork_init() was called, by ``stack`` or by the environment (``by``: the variable). ``result``: 0 or errno."""

    result: int
    by: str = ""


@dataclass(frozen=True, slots=True)
class CopiesAtFork(Event):
    """The kernel's own word on whether fork() copies registered pages, and where it stands."""

    answer: bool
    why: str


@dataclass(frozen=True, slots=True)
class Library(Event):
    """A library that audit has rules about was loaded: ``name`` as libibverbs, its version as package or file says."""

    name: str
    version: str


# --- looked at, not told ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frames(Event):
    """/proc/PID/pagemap for whole pages from ``start`` on: frame numbers, 0 for a page that is not present."""

    start: int
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VmaCount(Event):
    """How many mappings the process has, of ``limit`` (vm.max_map_count)."""

    count: int
    limit: int


@dataclass(frozen=True, slots=True)
class HugePages(Event):
    """Memory in huge pages: ``bytes`` of it within ``range``; ``hugetlb`` or transparent. ``free`` hugetlb pages are
    left in the pool of that size, -1 where nobody looked.
    """

    range: Range
    bytes: int
    page: int
    hugetlb: bool
    free: int = -1


@dataclass(frozen=True, slots=True)
class Chunks(Event):
    """What the allocator's own records say of the pages around a pin: (range, "chunk of 2064 bytes in use")."""

    range: Range
    owners: tuple[tuple[Range, str], ...]


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """Something could not be seen from here on, or in between: a damaged line, a task that cannot be traced, a program
    that the shim is not in. Findings that would need it say so.

    ``matters``: the process is known to have what pins memory unseen, or (of no task) the whole trace ends too early;
    otherwise it counts where a pin was seen.
    """

    reason: str
    matters: bool = False

"""The letters that words are made of: each is one event, and stands for one statement of the language.

``Name``, ``Name.actor``, ``Name[argument]`` or both. The actors are

- ``p``, the first process; ``t``, a thread of it;
- ``c`` and ``c2``, the children that p forks; ``g``, the one that c forks;
- ``d``, the device, which needs no naming.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from cowcatcher.litmus.statements import FILESYSTEMS, GUP_FLAGS, PROTECTIONS

#: What may stand in brackets: pin flags, a protection, READONLY, a filesystem, another process, a pin's number.
Argument = Literal["", "flags", "protection", "readonly", "filesystem", "process", "pin"]

#: Who the actors are, with each process's parent; a thread is its process's, a device nobody's.
PARENT: Final = {"p": "", "c": "p", "c2": "p", "g": "c"}
PROCESS_OF: Final = {"p": "p", "t": "p", "c": "c", "c2": "c2", "g": "g", "d": ""}


@dataclass(frozen=True, slots=True)
class Letter:
    """``told`` is what it says in a description, with {actor}, {argument}, {child} and {value} filled in."""

    name: str
    op: str
    told: str
    help: str
    example: str
    argument: Argument = ""
    default: str = ""
    actor: str = "p"
    advice: str = ""

    @property
    def takes_pin(self) -> bool:
        return self.op in PIN_OPS


#: Interface or rule -> what it does with the page: (to write?, does anything promise that it stays with its owner?).
PIN_OPS: Final = {
    "pin": (False, False),  # by its flags
    "get": (False, False),
    "ibv_reg_mr": (True, True),
    "io_uring_register": (True, True),
    "vfio_map": (True, True),
    "xdp_umem": (True, True),
    "odp_reg_mr": (True, True),
    "vmsplice": (False, False),
    "dio_read": (True, True),
    "dio_write": (False, False),
}

_ALL = (
    Letter("Load", "load", "{actor} reads", "a process reads", "Load.c"),
    Letter("Store", "store", "{actor} writes {value}", "a process writes, each time another value", "Store.p"),
    Letter("Fork", "fork", "{actor} forks {child}", "p forks c, then c2; c forks g", "Fork"),
    Letter("ChildExit", "exit", "{actor} exits", "a child exits, and is waited for if more follows",
           "ChildExit", actor="c"),
    Letter("Wait", "wait", "{actor} waits for {child}", "a parent waits for the child that exited", "Wait"),
    Letter("Pin", "pin", "{actor} pins ({argument})", "FOLL_PIN; R and W stand for READ and WRITE",
           "Pin[R|LONGTERM|FAST]", "flags", "WRITE|LONGTERM"),
    Letter("Get", "get", "{actor} takes a reference ({argument})", "FOLL_GET, likewise", "Get[W]", "flags", "READ"),
    Letter("RegMr", "ibv_reg_mr", "{actor} registers an RDMA memory region", "ibv_reg_mr()", "RegMr[READONLY]",
           "readonly"),
    Letter("Odp", "odp_reg_mr", "{actor} registers an on-demand-paging region", "ibv_reg_mr(), on demand", "Odp"),
    Letter("Fixed", "io_uring_register", "{actor} registers an io_uring fixed buffer",
           "an io_uring fixed buffer", "Fixed"),
    Letter("Vfio", "vfio_map", "{actor} maps for a device through VFIO", "a VFIO mapping", "Vfio", "readonly"),
    Letter("Xdp", "xdp_umem", "{actor} registers an AF_XDP area", "an AF_XDP packet area", "Xdp"),
    Letter("Vmsplice", "vmsplice", "{actor} gifts the page to a pipe", "vmsplice(): the pipe's reader is the device",
           "Vmsplice.c"),
    Letter("DioRead", "dio_read", "{actor} starts a direct read", "O_DIRECT read in flight: the device will write",
           "DioRead[NFS]", "filesystem"),
    Letter("DioWrite", "dio_write", "{actor} starts a direct write", "O_DIRECT write in flight: the device will read",
           "DioWrite", "filesystem"),
    Letter("Unpin", "unpin", "{actor} lets go of pin {argument}", "the last pin is released", "Unpin",
           "pin"),
    Letter("Dma.r", "dma_read", "the device reads", "the device reads through the last pin",
           "Dma.r", "pin", actor="d"),
    Letter("Dma.w", "dma_write", "the device writes {value}", "the device writes through it", "Dma.w[1]", "pin",
           actor="d"),
    Letter("Peek", "peek", "{actor} reads {argument} by ptrace", "ptrace reads another process", "Peek.p[c]",
           "process", "c"),
    Letter("Poke", "poke", "{actor} writes {value} to {argument} by ptrace", "ptrace writes another process",
           "Poke.p[c]", "process", "c"),
    Letter("Mprotect", "mprotect", "{actor} protects it ({argument})", "R unless said otherwise", "Mprotect.p[RW]",
           "protection", "R"),
    Letter("Munmap", "munmap", "{actor} unmaps", "munmap()", "Munmap.c"),
    Letter("Mremap", "mremap", "{actor} moves the mapping", "mremap()", "Mremap"),
    Letter("Mlock", "mlock", "{actor} locks", "mlock()", "Mlock"),
    Letter("ClearRefs", "clear_refs", "{actor} clears its soft-dirty bits", "4 > /proc/self/clear_refs", "ClearRefs"),
    Letter("Swap", "madvise", "the kernel swaps out for {actor}", "MADV_PAGEOUT", "Swap.p", advice="PAGEOUT"),
    Letter("DontFork", "madvise", "{actor} says DONTFORK", "MADV_DONTFORK", "DontFork", advice="DONTFORK"),
    Letter("DoFork", "madvise", "{actor} says DOFORK", "MADV_DOFORK", "DoFork", advice="DOFORK"),
    Letter("WipeOnFork", "madvise", "{actor} says WIPEONFORK", "MADV_WIPEONFORK", "WipeOnFork", advice="WIPEONFORK"),
    Letter("KeepOnFork", "madvise", "{actor} says KEEPONFORK", "MADV_KEEPONFORK", "KeepOnFork", advice="KEEPONFORK"),
    Letter("DontNeed", "madvise", "{actor} says DONTNEED", "MADV_DONTNEED", "DontNeed.p", advice="DONTNEED"),
    Letter("Free", "madvise", "{actor} says FREE", "MADV_FREE", "Free.p", advice="FREE"),
    Letter("Collapse", "madvise", "{actor} collapses", "MADV_COLLAPSE, into a huge page", "Collapse.p",
           advice="COLLAPSE"),
    Letter("PopulateRead", "madvise", "{actor} populates to read", "MADV_POPULATE_READ", "PopulateRead",
           advice="POPULATE_READ"),
    Letter("PopulateWrite", "madvise", "{actor} populates to write", "MADV_POPULATE_WRITE", "PopulateWrite",
           advice="POPULATE_WRITE"),
)  # fmt: skip

LETTERS: Final[dict[str, Letter]] = {letter.name: letter for letter in _ALL}
#: Short forms of flags, as the field writes them.
SHORT: Final = {"R": "READ", "W": "WRITE"}

ALLOWED: Final[dict[Argument, tuple[str, ...]]] = {
    "flags": (*SHORT, *GUP_FLAGS),
    "protection": PROTECTIONS,
    "readonly": ("READONLY",),
    "filesystem": FILESYSTEMS,
    "process": tuple(PARENT),
}

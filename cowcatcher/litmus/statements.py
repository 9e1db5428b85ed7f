"""Every statement of the language, once: parser, checks, printer and docs read this table.

A parameter's kind says what may stand there; the checks turn it into "what could stand here" in an error. A new
statement is one row here, one function in the model, one case in the agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: PLACE: whole mapping, page or cell. PAGES: whole mapping or page, no cell. PIN: a whole pin. PIN_PLACE: or part of it.
ParamKind = Literal[
    "PLACE",
    "PAGES",
    "PIN",
    "PIN_PLACE",
    "VALUE",
    "PROCESS",
    "EVENT",
    "PROT",
    "ADVICE",
    "GUP_FLAGS",
    "FILESYSTEM",
    "READONLY",
]
#: What the target (left of ``=``) may be: nothing useful but an error code, a value, or a pin handle.
Gives = Literal["status", "value", "pin"]
#: Which actors may use it.
Where = Literal["task", "device", "both"]

GUP_FLAGS = ("READ", "WRITE", "FORCE", "LONGTERM", "FAST")
PROTECTIONS = ("NONE", "R", "RW")
ADVICES = (
    "DONTFORK", "DOFORK", "WIPEONFORK", "KEEPONFORK", "DONTNEED", "FREE", "PAGEOUT", "MERGEABLE", "UNMERGEABLE",
    "HUGEPAGE", "COLLAPSE", "POPULATE_READ", "POPULATE_WRITE",
)  # fmt: skip
FILESYSTEMS = ("BLOCK", "NFS", "FUSE")
ERRORS = (
    "SIGSEGV", "SIGBUS", "EFAULT", "ENOMEM", "EINVAL", "EBUSY", "EAGAIN", "EPERM", "EACCES", "EIO", "ESRCH",
    "IOMMU_FAULT",
)  # fmt: skip
CHECKS = ("coherent", "isolated", "alive", "balanced")
KERNEL_ACTIONS = {"reclaim": True, "merge": False, "migrate": True, "collapse": True}  # name -> takes a place
MAPPING_KINDS = (
    "anon", "anon_zero", "shared_anon", "file_private", "file_shared", "memfd", "hugetlb", "hugetlb_private",
)  # fmt: skip
MAPPING_FLAGS = ("thp", "batched", "crowded")
MAX_VALUE = 15
MAX_PROCESSES = 6
MAX_ACTORS = 10
MAX_PAGES = 8
MAX_CELLS = 4
MAX_STATEMENTS = 64
MAX_PINS = 8


@dataclass(frozen=True, slots=True)
class Param:
    name: str
    kind: ParamKind
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """``gives`` is what the target holds on success; a target is optional unless ``gives`` is "value"."""

    op: str
    params: tuple[Param, ...]
    gives: Gives
    where: Where
    help: str


def _sig(op: str, params: str, gives: Gives, where: Where, text: str) -> Signature:
    """``params`` in the notation ``name:KIND, name?:KIND``."""
    parsed = []
    for item in filter(None, (p.strip() for p in params.split(","))):
        name, kind = item.split(":")
        parsed.append(Param(name.rstrip("?"), kind, name.endswith("?")))  # type: ignore[arg-type]
    return Signature(op, tuple(parsed), gives, where, text)


_ALL = (
    # memory
    _sig("load", "place:PLACE", "value", "task", "read memory; SIGSEGV where nothing readable is mapped"),
    _sig("store", "place:PLACE, value:VALUE", "status", "task", "write memory"),
    # tasks
    _sig("fork", "child:PROCESS", "status", "task", "start the process named, with a copy of this one's memory"),
    _sig("vfork", "child:PROCESS", "status", "task", "start the process named on this one's own memory; wait for its exec or exit"),
    _sig("exit", "", "status", "task", "end this process"),
    _sig("wait", "child:PROCESS", "status", "task", "wait until the process named has ended"),
    _sig("exec", "", "status", "task", "replace this process's memory by a new program's"),
    # events
    _sig("post", "event:EVENT", "status", "both", "signal an event (an eventfd: counts)"),
    _sig("await", "event:EVENT", "status", "both", "wait for one signal of an event and take it"),
    # mappings
    _sig("munmap", "place:PAGES", "status", "task", "unmap"),
    _sig("mprotect", "place:PAGES, prot:PROT", "status", "task", "change the protection"),
    _sig("mremap", "place:PAGES", "status", "task", "move the mapping; the name follows it"),
    _sig("mlock", "place:PAGES", "status", "task", "lock and populate"),
    _sig("madvise", "place:PAGES, advice:ADVICE", "status", "task", "give advice; some of it is an order"),
    _sig("clear_refs", "", "status", "task", "reset this process's soft-dirty bits (4 > /proc/self/clear_refs)"),
    _sig("uffd_wp", "place:PAGES", "status", "task", "write-protect by userfaultfd: a write then waits until it is resolved"),
    _sig("uffd_wp_resolve", "place:PAGES", "status", "task", "end userfaultfd's write-protection"),
    # pins by rule
    _sig("pin", "place:PAGES, flags:GUP_FLAGS", "pin", "task", "take FOLL_PIN references"),
    _sig("get", "place:PAGES, flags:GUP_FLAGS", "pin", "task", "take FOLL_GET references"),
    _sig("unpin", "pin:PIN", "status", "both", "release a pin, whoever took it"),
    # pins by interface
    _sig("ibv_reg_mr", "place:PAGES, access?:READONLY", "pin", "task", "register an RDMA memory region"),
    _sig("odp_reg_mr", "place:PAGES", "pin", "task", "register an on-demand-paging memory region: no reference, an MMU notifier"),
    _sig("io_uring_register", "place:PAGES", "pin", "task", "register a fixed buffer"),
    _sig("vfio_map", "place:PAGES, access?:READONLY", "pin", "task", "map for a device through VFIO and its IOMMU"),
    _sig("xdp_umem", "place:PAGES", "pin", "task", "register an AF_XDP packet area"),
    _sig("vmsplice", "place:PAGES", "pin", "task", "gift the pages to a pipe"),
    _sig("dio_read", "place:PAGES, fs?:FILESYSTEM", "pin", "task", "start a direct read: the device will write this memory"),
    _sig("dio_write", "place:PAGES, fs?:FILESYSTEM", "pin", "task", "start a direct write: the device will read this memory"),
    _sig("process_vm_readv", "process:PROCESS, place:PLACE", "value", "task", "read another process's memory, no force"),
    _sig("process_vm_writev", "process:PROCESS, place:PLACE, value:VALUE", "status", "task", "write another process's memory, no force"),
    _sig("peek", "process:PROCESS, place:PLACE", "value", "task", "read another process's memory by ptrace or /proc/PID/mem"),
    _sig("poke", "process:PROCESS, place:PLACE, value:VALUE", "status", "task", "write another process's memory by ptrace or /proc/PID/mem"),
    # device
    _sig("dma_read", "pin:PIN_PLACE", "value", "device", "read through a pin"),
    _sig("dma_write", "pin:PIN_PLACE, value:VALUE", "status", "device", "write through a pin"),
    # the kernel itself, as ordered statements
    _sig("ksm_scan", "", "status", "task", "let ksmd scan until nothing changes"),
    _sig("migrate", "place:PAGES", "status", "task", "move the pages to other frames"),
)  # fmt: skip

SIGNATURES: dict[str, Signature] = {s.op: s for s in _ALL}

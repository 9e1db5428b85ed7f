"""What each interface does with the memory it is given: which GUP flags it uses, asked of the kernel at hand.

Operands of every statement here: pin, first page, end, argument (FOLL_* flags, or 1 for read-only, or 1 for "the device
writes"), and MODE_IOMMU if the device sits behind an IOMMU.
"""

from __future__ import annotations

from cowcatcher.mm.gup import begin_pin, begin_remote_access
from cowcatcher.mm.task import finish
from cowcatcher.state import *


def _begin(m: Machine, s: State, t: int, foll: int, mode: int = 0) -> int:
    op = current_op(m, s, t)
    return begin_pin(m, s, t, op[OP_ARGS], op[OP_ARGS + 1], op[OP_ARGS + 2], foll, op[OP_ARGS + 4] | mode)


def pin_by_rule(m: Machine, s: State, t: int) -> int:
    """``pin(x, FLAGS)`` and ``get(x, FLAGS)``."""
    return _begin(m, s, t, current_op(m, s, t)[OP_ARGS + 3])


def ibv_reg_mr(m: Machine, s: State, t: int) -> int:
    return _begin(m, s, t, m.k.foll_rdma(current_op(m, s, t)[OP_ARGS + 3]))


def io_uring_register(m: Machine, s: State, t: int) -> int:
    """A fixed buffer. io_buffer_unmap() gives the pages back as they are: nobody says that they were written."""
    return _begin(m, s, t, m.k.foll_io_uring(), MODE_CLEAN)


def vfio_map(m: Machine, s: State, t: int) -> int:
    """VFIO always stands in front of an IOMMU, and pins by pin_user_pages_remote()."""
    return _begin(m, s, t, m.k.foll_vfio(current_op(m, s, t)[OP_ARGS + 3]) | FOLL_TOUCH, MODE_IOMMU)


def xdp_umem(m: Machine, s: State, t: int) -> int:
    """xdp_umem_pin_pages() reports a part that could be pinned as ENOMEM."""
    return _begin(m, s, t, m.k.foll_xdp(), MODE_ALL_OR_ENOMEM)


def vmsplice(m: Machine, s: State, t: int) -> int:
    """The pipe's reader is the device: it sees whatever the page holds when it reads."""
    return _begin(m, s, t, m.k.foll_vmsplice())


def dio_block(m: Machine, s: State, t: int) -> int:
    """FUSE and NFS mark pages dirty in the end only, a block device also in the beginning."""
    device_writes = current_op(m, s, t)[OP_ARGS + 3]
    return _begin(m, s, t, m.k.foll_dio_block(device_writes), MODE_DIRTIES if device_writes else 0)


def dio_nfs(m: Machine, s: State, t: int) -> int:
    return _begin(m, s, t, m.k.foll_dio_nfs(current_op(m, s, t)[OP_ARGS + 3]))


def dio_fuse(m: Machine, s: State, t: int) -> int:
    return _begin(m, s, t, m.k.foll_dio_fuse(current_op(m, s, t)[OP_ARGS + 3]))


def odp_reg_mr(m: Machine, s: State, t: int) -> int:
    """No reference at all: the range is remembered, and watched by an MMU notifier."""
    op = current_op(m, s, t)
    mm = current_mm(m, s, t)
    pin, first, end = op[OP_ARGS], op[OP_ARGS + 1], op[OP_ARGS + 2]
    for page in range(first, end):
        if not s[vma_at(m, mm, page)] & VM_MAPPED:
            return finish(m, s, t, EFAULT)
    handle = pin_at(m, pin)
    s[handle + PIN_HELD] = HELD
    s[handle + PIN_MM] = mm + 1
    s[handle + PIN_MODE] = MODE_ODP | MODE_IOMMU
    for page in range(first, end):
        s[pin_page_at(m, pin, page - first) + PIN_BOUND] = page + 1
    return finish(m, s, t, OK)


def process_vm(m: Machine, s: State, t: int) -> int:
    """process_vm_readv, process_vm_writev. Operands: process, page, cell, value, 1 for write."""
    op = current_op(m, s, t)
    return begin_remote_access(m, s, t, op[OP_ARGS], op[OP_ARGS + 1], m.k.foll_process_vm(op[OP_ARGS + 4]))


def ptrace(m: Machine, s: State, t: int) -> int:
    """peek, poke. Operands as for process_vm()."""
    op = current_op(m, s, t)
    return begin_remote_access(m, s, t, op[OP_ARGS], op[OP_ARGS + 1], m.k.foll_ptrace(op[OP_ARGS + 4]))

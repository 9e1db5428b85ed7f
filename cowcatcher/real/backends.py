"""What can hold memory on a real kernel: the agent's backends, what each needs, and which may stand in for which.

A statement such as ``vfio_map(x)`` names an interface; a backend is something the agent can do. Where the interface's
own backend is not to be had, another one of the same class stands in, and the result says so: a class is what the
memory management sees, which kind of reference is taken and for how long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Class(StrEnum):
    """What the memory management sees of a pin."""

    LONGTERM = "long-term pin"
    ODP = "on-demand paging"
    PLAIN = "plain reference"
    BLOCK = "direct I/O to a block device"
    FUSE = "direct I/O to a FUSE file system"
    NFS = "direct I/O to an NFS file system"


@dataclass(frozen=True, slots=True)
class Backend:
    """One of the agent's (``struct backend`` in agent.h), named as there.

    ``writes``: can take a pin through which the device may write; ``reads``: one through which it only reads.
    ``forces``: it pins with FOLL_FORCE. ``dirties``: what the device may have written is marked dirty at the release.
    ``late``: the device can be told to use memory that was released, and an IOMMU shows it. ``headroom``: bytes at the
    start of the memory that the device cannot use.

    ``asked``: stands in for no other unless it is asked for. ``span``: bytes that a pin covers, whatever it names: it
    is for a mapping with one page and one cell, and only writes that. ``may_force``: on some kernels it pins with
    FOLL_FORCE, on others not, so it is for memory that can be written.

    ``config``: what a kernel must have been built with. ``modules``: loaded, where the kernel has them as modules, in
    the machine that runs it. ``machine``, ``devices``, ``append``: what that machine must be made with, as in
    ``qemu.Settings``.
    """

    name: str
    kind: Class
    what: str
    writes: bool = True
    reads: bool = False
    forces: bool = False
    late: bool = False
    headroom: int = 0
    dirties: bool = True
    asked: bool = False
    span: int = 0
    may_force: bool = False
    config: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    machine: str = ""
    devices: tuple[str, ...] = ()
    append: tuple[str, ...] = ()


#: crc32_generic: up to 6.12 soft-RoCE asks for its checksum by name and does not say so.
_RXE: Final = ("crc32_generic", "ib_uverbs", "rdma_rxe")
_ALL: Final = (
    Backend("uring", Class.LONGTERM, "io_uring fixed buffer", dirties=False, config=("IO_URING",)),
    Backend(
        "vfio", Class.LONGTERM, "VFIO mapping for QEMU's edu device", reads=True, late=True,
        config=("VFIO_PCI", "VFIO_IOMMU_TYPE1", "INTEL_IOMMU"), modules=("vfio_iommu_type1", "vfio_pci"),
        machine="q35", devices=("intel-iommu,intremap=on", "edu"), append=("intel_iommu=on", "no_timer_check"),
    ),
    Backend("xdp", Class.LONGTERM, "AF_XDP packet area", headroom=256, config=("XDP_SOCKETS", "BPF_SYSCALL")),
    Backend(
        "rxe", Class.LONGTERM, "RDMA memory region", reads=True, forces=True,
        config=("RDMA_RXE", "INFINIBAND_USER_ACCESS"), modules=_RXE,
    ),
    Backend(
        "rxe_odp", Class.ODP, "on-demand-paging RDMA memory region",
        config=("RDMA_RXE", "INFINIBAND_USER_ACCESS", "INFINIBAND_ON_DEMAND_PAGING"), modules=_RXE,
    ),
    Backend(
        "vivid", Class.LONGTERM, "V4L2 capture by vivid", headroom=1280, asked=True, span=57 << 12, may_force=True,
        config=("VIDEO_VIVID",), modules=("vivid",),
    ),
    Backend("pipe", Class.PLAIN, "vmsplice to a pipe", writes=False, reads=True),
    Backend("zerocopy", Class.PLAIN, "datagram sent with MSG_ZEROCOPY", writes=False, reads=True,
            headroom=256, config=("INET",)),
    Backend("dm", Class.BLOCK, "suspended device-mapper device", reads=True,
            config=("BLK_DEV_DM", "BLK_DEV_RAM"), modules=("dm_mod", "brd")),
    Backend("loop", Class.BLOCK, "loop device on a FUSE file", reads=True,
            config=("BLK_DEV_LOOP", "FUSE_FS"), modules=("loop", "fuse")),
    Backend("nbd", Class.BLOCK, "network block device on a socket pair", config=("BLK_DEV_NBD",), modules=("nbd",)),
    Backend("fuse", Class.FUSE, "FUSE file system", reads=True, config=("FUSE_FS",), modules=("fuse",)),
    Backend("nfs", Class.NFS, "NFS server on this machine", reads=True,
            config=("NFS_V3", "INET"), modules=("nfs", "nfsv3")),
)  # fmt: skip
BACKENDS: Final[Mapping[str, Backend]] = {b.name: b for b in _ALL}

#: The interfaces with a backend of their own. What other statements take, ``lower`` decides by their flags.
OWN: Final = {
    "io_uring_register": "uring",
    "vmsplice": "pipe",
    "vfio_map": "vfio",
    "ibv_reg_mr": "rxe",
    "odp_reg_mr": "rxe_odp",
    "xdp_umem": "xdp",
}
DIRECT_IO: Final = {"BLOCK": Class.BLOCK, "FUSE": Class.FUSE, "NFS": Class.NFS}


def promised(config: str | None, *, modules: bool) -> dict[str, str]:
    """Each backend, and what a kernel with this configuration, a file's text, lacks for it.

    None: nothing is known, so everything is hoped for. ``modules``: whether there are modules to be loaded. What else
    it lacks, the agent finds out.
    """
    if config is None:
        return dict.fromkeys(BACKENDS, "")
    has = {word for word in config.split() if word.startswith("CONFIG_")}
    settings = ("=y", "=m") if modules else ("=y",)
    lacks: dict[str, str] = {}
    for backend in BACKENDS.values():
        missing = [o for o in backend.config if all(f"CONFIG_{o}{setting}" not in has for setting in settings)]
        lacks[backend.name] = f"the kernel was built without CONFIG_{missing[0]}" if missing else ""
    return lacks


def choose(
    kind: Class,
    writable: bool,
    usable: Iterable[str],
    *,
    own: str = "",
    forces: bool = False,
    prefer: Iterable[str] = (),
) -> Backend | None:
    """The backend for a pin of this class: one that is preferred, else the interface's own, else any; None without any.

    ``usable``: names of those that the machine has. ``forces``: the pin is to override a protection, and a backend that
    does so stands in for no other pin.
    """
    there, first = set(usable), set(prefer)

    def fits(b: Backend) -> bool:
        return (
            b.name in there
            and b.kind is kind
            and (b.writes if writable else b.reads)
            and (forces or not b.forces)
            and (b.name in first or not b.asked)
        )

    ranked = sorted(
        (b for b in BACKENDS.values() if fits(b)),
        key=lambda b: (b.name not in first, b.name != own, b.forces != forces),
    )
    return ranked[0] if ranked else None

"""What the kernel and rdma-core say about fork() and registered memory."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from pathlib import Path
from typing import NamedTuple

_NETLINK_RDMA = 20
_NLDEV, _SYS_GET = 5, 6
_COPY_ON_FORK = 93  # enum rdma_nldev_attr
_REQUEST, _ERROR = 1, 2
_LIBRARY = re.compile(r"(/\S*/libibverbs\.so\.1\.\d+\.(\d+\.\d+))$", re.MULTILINE)


class Copies(NamedTuple):
    """``answer``: does fork() copy registered pages? None: not to be had, and ``why``."""

    answer: bool | None
    why: str


def rdma_copy_on_fork() -> Copies:
    """RDMA_NLDEV_SYS_ATTR_COPY_ON_FORK, which is what ibv_fork_init() asks since rdma-core 35 (see get_copy_on_fork()).

    A kernel older than the attribute does not have it in its answer: that is no promise to copy.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_RDMA) as netlink:
            netlink.settimeout(2)
            kind = _NLDEV << 10 | _SYS_GET
            netlink.sendto(struct.pack("<IHHII", 16, kind, _REQUEST, 1, 0), (0, 0))
            answer = netlink.recv(65536)
    except OSError as error:
        return Copies(None, f"the kernel's RDMA core is not there to ask ({error.strerror or error})")
    return copies(answer)


def copies(answer: bytes) -> Copies:
    """The attribute in a netlink message."""
    try:
        length, kind = struct.unpack_from("<IH", answer)
        if kind == _ERROR:
            (code,) = struct.unpack_from("<i", answer, 16)
            return Copies(None, f"the kernel refuses to say (error {-code})")
        at = 16
        while at + 4 <= min(length, len(answer)):
            size, name = struct.unpack_from("<HH", answer, at)
            if name == _COPY_ON_FORK:
                return Copies(bool(answer[at + 4]), "RDMA_NLDEV_SYS_ATTR_COPY_ON_FORK says so")
            at += max(size + 3 & ~3, 4)
    except (struct.error, IndexError):
        return Copies(None, "the kernel's answer cannot be read")
    return Copies(False, "RDMA_NLDEV_SYS_ATTR_COPY_ON_FORK is not in the kernel's answer")


def rdma_core_version(pid: int) -> tuple[str, str] | None:
    """(version, path) of the libibverbs in the process: as the file's name has it, after the ABI."""
    with contextlib.suppress(OSError):
        if found := _LIBRARY.search(Path(f"/proc/{pid}/maps").read_text(errors="replace")):
            return found[2], found[1]
    return None

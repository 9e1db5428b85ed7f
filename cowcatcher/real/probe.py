"""What this machine can do for tests on its own kernel: the table behind ``cowcatcher doctor``.

Every probe tries the thing itself where that is cheap, and leaves nothing behind; where it only
looks, ``why`` says at what.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ctypes

#: A system call without a wrapper in the C library.
SYS_USERFAULTFD: Final = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "ppc64le": 364, "s390x": 355}
#: Locked memory that the largest test of the catalogue needs for its pins: a huge page.
MEMLOCK_NEEDED: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class Capability:
    """``ok``: it is there. ``why``: what was found. ``next_step``: what to do if it is missing and wanted."""

    name: str
    ok: bool
    why: str
    next_step: str = ""


def probe() -> list[Capability]:
    """Everything, in the order of a report. Takes a few milliseconds, once the agent is built."""
    probes: tuple[Callable[[], Capability], ...] = (
        _kernel,
        _root,
        _compiler,
        _page_size,
        _memlock,
        _pagemap,
        _process_vm,
        _proc_mem,
        _swap,
        _thp,
        _hugepages,
        _ksm,
        _userfaultfd,
        _soft_dirty,
        _kvm,
        _qemu,
    )
    return [*(p() for p in probes), *_backends()]


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _errno_name() -> str:
    import ctypes
    import errno

    return errno.errorcode.get(ctypes.get_errno(), "an unknown error")


def _kernel() -> Capability:
    name = os.uname()
    return Capability(
        "kernel", name.sysname == "Linux", f"{name.sysname} {name.release} {name.machine}", "run on Linux"
    )


def _root() -> Capability:
    root = os.geteuid() == 0
    return Capability(
        "root",
        root,
        f"effective user {os.geteuid()}",
        "" if root else "tests run as an ordinary user too; questions about frames (same_page) then stay open",
    )


def _compiler() -> Capability:
    from cowcatcher.real.build import find_compiler

    path = find_compiler()
    return Capability(
        "C compiler",
        path is not None,
        path or "none of $CC, cc, gcc, clang was found",
        "" if path else "install gcc or clang and the C library's headers: the agent is built on first use",
    )


def _page_size() -> Capability:
    size = os.sysconf("SC_PAGE_SIZE")
    return Capability(
        "4 KiB pages", size == 4096, f"pages of {size} bytes", "" if size == 4096 else "use a kernel with 4 KiB pages"
    )


def _memlock() -> Capability:
    import resource

    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    enough = soft == resource.RLIM_INFINITY or soft >= MEMLOCK_NEEDED or os.geteuid() == 0
    said = "no limit" if soft == resource.RLIM_INFINITY else f"RLIMIT_MEMLOCK is {soft} bytes"
    return Capability("locked memory", enough, said, "" if enough else f"ulimit -l {MEMLOCK_NEEDED // 1024}")


def _pagemap() -> Capability:
    """The frame of a page of this very process."""
    import ctypes

    page = ctypes.create_string_buffer(b"x", 8192)
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as f:
            f.seek(ctypes.addressof(page) // 4096 * 8)
            entry = int.from_bytes(f.read(8), "little")
    except OSError as e:
        return Capability("frame numbers", False, f"/proc/self/pagemap: {e.strerror}", "run as root")
    if entry & ((1 << 55) - 1):
        return Capability("frame numbers", True, "/proc/self/pagemap shows them")
    return Capability("frame numbers", False, "/proc/self/pagemap hides them", "run as root, or with CAP_SYS_ADMIN")


def _process_vm() -> Capability:
    import ctypes

    source, target = ctypes.create_string_buffer(b"x", 1), ctypes.create_string_buffer(1)
    here = (ctypes.c_void_p * 2)(ctypes.addressof(target), 1)
    there = (ctypes.c_void_p * 2)(ctypes.addressof(source), 1)
    ok = _libc().process_vm_readv(os.getpid(), here, 1, there, 1, 0) == 1
    return Capability(
        "process_vm_readv",
        ok,
        "works" if ok else f"gave {_errno_name()}",
        "" if ok else "needs CONFIG_CROSS_MEMORY_ATTACH and no seccomp filter against it",
    )


def _proc_mem() -> Capability:
    import ctypes

    target = ctypes.create_string_buffer(1)
    try:
        with open("/proc/self/mem", "r+b", buffering=0) as f:
            f.seek(ctypes.addressof(target))
            f.write(b"x")
    except OSError as e:
        return Capability(
            "/proc/PID/mem", False, f"writing gave {e.strerror}", "see the kernel parameter proc_mem.force_override"
        )
    ok = target.raw == b"x"
    return Capability("/proc/PID/mem", ok, "can be written" if ok else "a write got lost")


def _swap() -> Capability:
    from cowcatcher.real.host import has_swap

    ok = has_swap()
    return Capability(
        "swap",
        ok,
        "in use" if ok else "none: madvise(x, PAGEOUT) would do nothing",
        "" if ok else "for tests of swap: fallocate -l 64M FILE; chmod 600 FILE; mkswap FILE; swapon FILE",
    )


def _thp() -> Capability:
    modes = _read("/sys/kernel/mm/transparent_hugepage/enabled")
    mode = modes.partition("[")[2].partition("]")[0]
    ok = mode in ("always", "madvise")
    step = "" if ok else "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
    return Capability("transparent huge pages", ok, mode or "not in this kernel", step)


def _hugepages() -> Capability:
    fields = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    free = int(fields.get("HugePages_Free", "0").split()[0])
    return Capability("hugetlb pages", free > 0, f"{free} free", "" if free else "sysctl vm.nr_hugepages=16")


def _ksm() -> Capability:
    run = _read("/sys/kernel/mm/ksm/run")
    ok = run == "1"
    return Capability(
        "KSM",
        ok,
        {"": "not in this kernel", "0": "there, not running", "1": "running", "2": "unmerged"}.get(run, run),
        "" if ok else "it scans the whole machine's memory, so tests of it belong into a virtual machine",
    )


def _userfaultfd() -> Capability:
    number = SYS_USERFAULTFD.get(os.uname().machine)
    if number is None:
        return Capability("userfaultfd", False, "not known on this architecture")
    user_mode_only = 1
    fd = _libc().syscall(number, os.O_CLOEXEC | user_mode_only)
    if fd >= 0:
        os.close(fd)
        return Capability("userfaultfd", True, "works")
    return Capability(
        "userfaultfd", False, f"gave {_errno_name()}", "run as root, or sysctl vm.unprivileged_userfaultfd=1"
    )


def _soft_dirty() -> Capability:
    from cowcatcher.real.host import has_soft_dirty

    ok = has_soft_dirty()
    return Capability(
        "soft-dirty bits",
        ok,
        "tracked" if ok else "not tracked: clear_refs() would succeed and do nothing",
        "" if ok else "use a kernel with CONFIG_MEM_SOFT_DIRTY",
    )


def _kvm() -> Capability:
    ok = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return Capability(
        "KVM",
        ok,
        "/dev/kvm can be opened" if ok else "no access to /dev/kvm",
        "" if ok else "virtual machines work without, slower",
    )


def _qemu() -> Capability:
    from cowcatcher.real.qemu import EMULATOR, VmError, emulator

    try:
        return Capability("QEMU", True, emulator())
    except VmError:
        step = "for tests on other kernels: apt install --no-install-recommends qemu-system-x86"
        return Capability("QEMU", False, f"{EMULATOR} was not found", step)


def _backends() -> list[Capability]:
    """What takes pins here, as the agent finds out; named as for ``run --device``."""
    from cowcatcher.real.backends import BACKENDS
    from cowcatcher.real.build import BuildError, agent_path
    from cowcatcher.real.host import AgentError, backends_here

    try:
        lacks = backends_here((str(agent_path()),))
    except (BuildError, AgentError) as error:
        return [Capability("backends", False, str(error), "without the agent nothing takes pins")]
    elsewhere = "a virtual machine may have it: cowcatcher run --on KERNEL"
    return [
        Capability(name, not lack, f"{BACKENDS[name].what}{': ' if lack else ''}{lack}", elsewhere if lack else "")
        for name, lack in lacks.items()
    ]

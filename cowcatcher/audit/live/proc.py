"""/proc as events: how a process is mapped, what its pages are, what it holds open.

What the caller may not see, or what is gone by now, is no event; :func:`blind` says which of it is not to be had here.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cowcatcher.audit.events import (
    PAGE,
    Advised,
    Event,
    Frames,
    HugePages,
    Mapped,
    OpenedDirect,
    Present,
    Range,
    VmaCount,
)

_MOST_FRAMES: Final = 4096
_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) [0-9a-f]+ [0-9a-f:]+ \d+ *(.*)")
_DEVICES = ("/dev/infiniband/uverbs", "/dev/vfio/", "/dev/iommu")
_PRESENT = 1 << 63
_FRAME = (1 << 55) - 1
_USER_BUFFER = re.compile(r"^ *(\d+): 0x([0-9a-f]+)/(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Vma:
    """An entry of smaps. ``flags`` as VmFlags has them: dc for DONTFORK, wf for WIPEONFORK."""

    range: Range
    prot: str
    private: bool
    what: str
    page: int
    flags: frozenset[str]
    huge: int  # bytes in transparent huge pages
    hugetlb: int  # bytes in the others

    @property
    def anonymous(self) -> bool:
        return not self.what or self.what.startswith("[") or self.what.startswith("/anon_hugepage")


def smaps(pid: int) -> Iterator[Vma]:
    """Every mapping. It walks the page tables: not for the middle of a busy loop."""
    head: re.Match[str] | None = None
    values: dict[str, str] = {}
    try:
        with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, colon, value = line.partition(":")
                if colon and name.isidentifier():
                    values[name] = value.strip()
                elif found := _HEAD.match(line):
                    if head:
                        yield _vma(head, values)
                    head, values = found, {}
    except OSError:
        pass
    if head:
        yield _vma(head, values)


def _kilobytes(values: dict[str, str], name: str) -> int:
    number = values.get(name, "0").split()[0]
    return int(number) * 1024 if number.isdigit() else 0


def _vma(head: re.Match[str], values: dict[str, str]) -> Vma:
    where = Range(int(head[1], 16), int(head[2], 16))
    hugetlb = _kilobytes(values, "Private_Hugetlb") + _kilobytes(values, "Shared_Hugetlb")
    page = _kilobytes(values, "KernelPageSize") or PAGE
    flags = frozenset(values.get("VmFlags", "").split())
    return Vma(
        where, head[3][:3], head[3][3] == "p", head[4].strip(), page, flags,
        _kilobytes(values, "AnonHugePages"), hugetlb,
    )  # fmt: skip


# --- what is there when a process is attached to ----------------------------------------------------------------------


def present(pid: int) -> list[Event]:
    """The process as it is: its threads, its mappings, the advice that is in force on private ones."""
    now = time.time()
    found: list[Event] = []
    name, parent = _text(f"/proc/{pid}/comm").strip(), _status(pid, "PPid")
    for thread in sorted(map(int, _names(f"/proc/{pid}/task"))):
        found.append(Present(now, 0, thread, pid, parent, name))
    for vma in smaps(pid):
        what = "" if vma.what.startswith("/anon_hugepage") else vma.what.removesuffix(" (deleted)")
        found.append(Mapped(now, 0, pid, vma.range, vma.prot, vma.private, vma.anonymous, vma.page, what))
        # Drivers set the same flag on what they map; there it is not the program's advice.
        if vma.private and "dc" in vma.flags:
            found.append(Advised(now, 0, pid, vma.range, "DONTFORK"))
        if vma.private and "wf" in vma.flags:
            found.append(Advised(now, 0, pid, vma.range, "WIPEONFORK"))
    return found


def as_if_traced(pid: int) -> list[str]:
    """Threads, rings with their buffers, and files open with O_DIRECT: in strace's words, so that its reader knows them
    when they are closed or given back.
    """
    said = [
        f"clone(child_stack=NULL, flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD) = {thread}"
        for thread in sorted(map(int, _names(f"/proc/{pid}/task")))
        if thread != pid
    ]
    for fd in sorted(map(int, _names(f"/proc/{pid}/fd"))):
        info = _text(f"/proc/{pid}/fdinfo/{fd}")
        path = _link(f"/proc/{pid}/fd/{fd}")
        if path == "anon_inode:[io_uring]":
            said += _ring(fd, info)
        elif _is_direct(info, path):
            said.append(f'openat(AT_FDCWD, "{_quoted(path)}", O_RDWR|O_DIRECT) = {fd}')
    now = time.time()
    return [f"{pid} {now:.6f} {text}\n" for text in said]


def direct_files(pid: int) -> Iterator[OpenedDirect]:
    for fd in sorted(map(int, _names(f"/proc/{pid}/fd"))):
        path = _link(f"/proc/{pid}/fd/{fd}")
        if _is_direct(_text(f"/proc/{pid}/fdinfo/{fd}"), path):
            yield OpenedDirect(time.time(), 0, pid, fd, path)


def pins_unseen(pid: int) -> str:
    """What the process has that pins memory without a call that a trace shows; "" for nothing."""
    if "/libibverbs.so" in _text(f"/proc/{pid}/maps"):
        return "libibverbs"
    paths = (_link(f"/proc/{pid}/fd/{fd}") for fd in _names(f"/proc/{pid}/fd"))
    return next((path for path in paths if path.startswith(_DEVICES)), "")


def _is_direct(info: str, path: str) -> bool:
    return bool(_flags(info) & os.O_DIRECT) and path.startswith("/")


def _flags(info: str) -> int:
    found = re.search(r"^flags:\s*(\d+)", info, re.MULTILINE)
    return int(found[1], 8) if found else 0


def _ring(fd: int, info: str) -> Iterator[str]:
    yield f"io_uring_setup(1, {{flags=0}}) = {fd}"
    start = info.find("UserBufs:")
    end = info.find("PollList", start)
    buffers = {int(i): (int(at, 16), int(size)) for i, at, size in _USER_BUFFER.findall(info[max(start, 0) : end])}
    if start >= 0 and buffers:
        vectors = ", ".join(
            f"{{iov_base={at:#x}, iov_len={size}}}"
            for at, size in (buffers.get(i, (0, 0)) for i in range(max(buffers) + 1))
        )
        yield f"io_uring_register({fd}, IORING_REGISTER_BUFFERS, [{vectors}], {max(buffers) + 1}) = 0"


def _quoted(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')


# --- looked at, now and then ------------------------------------------------------------------------------------------


def frames(pid: int, where: Range) -> Frames | None:
    """The frames of the pages of ``where``; None without the right to see them, or if the process is gone."""
    pages = where.pages()
    count = min(pages.size // PAGE, _MOST_FRAMES)
    try:
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
            data = os.pread(file.fileno(), count * 8, pages.start // PAGE * 8)
    except OSError:
        return None
    entries = struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8])
    numbers = tuple(entry & _FRAME if entry & _PRESENT else 0 for entry in entries)
    if any(entry & _PRESENT and not entry & _FRAME for entry in entries):
        return None  # the kernel hides frame numbers from us
    return Frames(time.time(), 0, pid, pages.start, numbers)


def vma_count(pid: int) -> VmaCount | None:
    """None if the process is gone."""
    text = _text(f"/proc/{pid}/maps")
    if not text:
        return None
    limit = _text("/proc/sys/vm/max_map_count").strip()
    # The kernel's count leaves out [vsyscall], which is no mapping of the process.
    count = text.count("\n") - text.count("[vsyscall]")
    return VmaCount(time.time(), 0, pid, count, int(limit) if limit.isdigit() else 65530)


def huge_pages(pid: int) -> list[HugePages]:
    """Private memory in huge pages."""
    now = time.time()
    found = []
    for vma in smaps(pid):
        if not vma.private:
            continue
        if vma.page > PAGE and vma.hugetlb:
            pool = _text(f"/sys/kernel/mm/hugepages/hugepages-{vma.page // 1024}kB/free_hugepages").strip()
            free = int(pool) if pool.isdigit() else -1
            found.append(HugePages(now, 0, pid, vma.range, vma.hugetlb, vma.page, True, free))
        elif vma.huge:
            found.append(HugePages(now, 0, pid, vma.range, vma.huge, _thp_size(), False))
    return found


def _thp_size() -> int:
    text = _text("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").strip()
    return int(text) if text.isdigit() else 2 << 20


def blind() -> str:
    """Why frames cannot be watched; "" if they can. Asked of ourselves: the other process may be gone by now."""
    us = os.getpid()
    stack = next((where for where, _, what in _quick(us) if what == "[stack]"), None)
    if stack and frames(us, Range(stack.end - PAGE, stack.end)) is None:
        return "frame numbers are shown to root only (CAP_SYS_ADMIN): that a page moves under a pin is not seen"
    return ""


def mapping_at(pid: int, address: int) -> tuple[Range, str] | None:
    """The mapping that holds ``address``, and what it is. Pieces that touch and are alike are one."""
    start = end = 0
    kind = None
    for piece, prot, what in _quick(pid):
        if (piece.start, prot, what) == (end, *(kind or ())):
            end = piece.end
            continue
        if kind and start <= address < end:
            break
        start, end, kind = piece.start, piece.end, (prot, what)
    return (Range(start, end), kind[1]) if kind and start <= address < end else None


def _quick(pid: int) -> Iterator[tuple[Range, str, str]]:
    for line in _text(f"/proc/{pid}/maps").splitlines():
        if found := _HEAD.match(line):
            yield Range(int(found[1], 16), int(found[2], 16)), found[3], found[4].strip()


# --- small things -----------------------------------------------------------------------------------------------------


def process_of(task: int) -> int | None:
    """The thread group of a task; None if it is gone."""
    return _status(task, "Tgid") or None


def _status(task: int, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+)", _text(f"/proc/{task}/status"), re.MULTILINE)
    return int(found[1]) if found else 0


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _names(path: str) -> list[str]:
    try:
        return [name for name in os.listdir(path) if name.isdigit()]
    except OSError:
        return []

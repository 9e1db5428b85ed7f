"""Calls that change mappings: mmap, munmap, mremap, brk, mprotect, madvise, shmat."""

from __future__ import annotations

import re

from cowcatcher.audit.events import PAGE, Advised, Library, Mapped, Moved, Protected, Range, Unmapped
from cowcatcher.audit.strace.arguments import DECORATION, Garbled, constant, decoration, flag, number
from cowcatcher.audit.strace.lines import Call
from cowcatcher.audit.strace.looked import forget
from cowcatcher.audit.strace.state import Task, World, argument, succeeded

_MMAP = re.compile(
    r"(?:NULL|\w+), (0x[0-9a-f]{1,16}|\d{1,20}), ([^,()]+), ([^,()]+), "
    rf"(-?\w+)({DECORATION})?[^,()]*, [^,()]+\)\s*= 0x([0-9a-f]{{0,13}}000)(?![^\s<])"
)
_MUNMAP = re.compile(r"0x([0-9a-f]{1,16}), (0x[0-9a-f]{1,16}|\d{1,20})\)\s*= 0(?![^\s<])")
_MPROTECT = re.compile(r"0x([0-9a-f]{1,16}), (0x[0-9a-f]{1,16}|\d{1,20}), ([^,()]+)(?:, -?\w+)?\)\s*= 0(?![^\s<])")
#: madvise_walk_vmas() goes on past a hole. Advice of other sorts has more reasons to say so.
_PARTLY = re.compile(r"0x([0-9a-f]{1,16}), (0x[0-9a-f]{1,16}|\d{1,20}), (MADV_\w+FORK)\)\s*= -1 ENOMEM")
_BRK = re.compile(r"(NULL|0x[0-9a-f]{1,16}|0)\)\s*= 0x([0-9a-f]{1,16})(?![^\s<])")
_TOP = 1 << 64

#: As the kernel's mman-common.h has them.
_ADVICE = {
    0: "NORMAL", 1: "RANDOM", 2: "SEQUENTIAL", 3: "WILLNEED", 4: "DONTNEED", 8: "FREE", 9: "REMOVE", 10: "DONTFORK",
    11: "DOFORK", 12: "MERGEABLE", 13: "UNMERGEABLE", 14: "HUGEPAGE", 15: "NOHUGEPAGE", 16: "DONTDUMP", 17: "DODUMP",
    18: "WIPEONFORK", 19: "KEEPONFORK", 20: "COLD", 21: "PAGEOUT", 22: "POPULATE_READ", 23: "POPULATE_WRITE",
    24: "DONTNEED_LOCKED", 25: "COLLAPSE", 100: "HWPOISON", 101: "SOFT_OFFLINE", 102: "GUARD_INSTALL",
    103: "GUARD_REMOVE",
}  # fmt: skip
_HUGE = re.compile(r"(\d{1,2})<<MAP_HUGE_SHIFT")
_LIBRARY = re.compile(
    r"(?:.*/)?(libibverbs|librdmacm|libmlx[45]|libfabric|libuc[pst]|libvfio-user)\.so(?:\.(\d[\d.]*))?$"
)

#: What was read of protections and flags: there are only a few of each.
_protections: dict[str, str] = {}
_flags: dict[str, tuple[bool, bool, int]] = {}
_advices: dict[str, str] = {}
_MOST_REMEMBERED = 1024


def protection(text: str) -> str:
    known = _protections.get(text)
    if known is None:
        known = "".join(
            letter if flag(text, name, bit) else "-"
            for letter, name, bit in (("r", "PROT_READ", 1), ("w", "PROT_WRITE", 2), ("x", "PROT_EXEC", 4))
        )
        if len(_protections) < _MOST_REMEMBERED and len(text) < 256:
            _protections[text] = known
    return known


def _kind(text: str) -> tuple[bool, bool, int]:
    """(private, anonymous, size of its pages) from the flags of mmap()."""
    known = _flags.get(text)
    if known is None:
        known = flag(text, "MAP_PRIVATE", 2), flag(text, "MAP_ANONYMOUS", 0x20), _page_of(text)
        if len(_flags) < _MOST_REMEMBERED and len(text) < 256:
            _flags[text] = known
    return known


def _page_of(text: str) -> int:
    if not flag(text, "MAP_HUGETLB", 0x40000):
        return PAGE
    shift = _HUGE.search(text)
    as_number = number(text)
    bits = int(shift[1]) if shift else as_number >> 26 & 63 if as_number else 0
    return 1 << (bits or 21)


def _range(start: int, length: str | int, page: int = PAGE) -> Range:
    """As the kernel takes it: up to the end of the last page. ``length`` may be a number or as it is written."""
    if isinstance(length, str):
        length = int(length, 16) if length[:2] == "0x" else int(length)
    end = start + length
    if end % page:
        end += page - end % page
    return Range(start, end if end < _TOP else _TOP)


def _tell(world: World, task: Task) -> None:
    if task.memory.in_flight:
        world.tell(task.memory)


def mmap(world: World, task: Task, call: Call) -> None:
    found = _MMAP.match(call.text)
    if not found:
        if succeeded(call) is None:
            return
        raise Garbled("mmap() with arguments that are none of its")
    length, prot, flags, fd, shown, start = found.groups()
    private, anonymous, page = _flags.get(flags) or _kind(flags)
    what = ""
    if not anonymous:
        what = decoration(shown) if shown else ""
        if not what and (file := world.file(task, number(fd))):
            what = file.path
    if task.memory.in_flight:
        world.tell(task.memory)
    world.out.append(
        Mapped(
            world.time,
            world.line,
            task.pid,
            _range(int(start, 16), length, page),
            _protections.get(prot) or protection(prot),
            private,
            anonymous,
            page,
            what,
            stack=world.stack(task, "mmap") if task.sites else (),
        )
    )
    if what and ".so" in what and "lib" in what:
        _library(world, task, what)


def _library(world: World, task: Task, path: str) -> None:
    """The loader maps a library: the version is in the file's name, if ``-y`` shows what a link leads to."""
    found = _LIBRARY.match(path)
    if found and found[1] not in task.memory.libraries:
        task.memory.libraries.add(found[1])
        world.out.append(Library(world.time, world.line, task.pid, found[1], found[2] or ""))


def munmap(world: World, task: Task, call: Call) -> None:
    found = _MUNMAP.match(call.text)
    if not found:
        if succeeded(call) is None:
            return
        raise Garbled("munmap() with arguments that are none of its")
    if task.memory.in_flight:
        world.tell(task.memory)
    stack = world.stack(task, "munmap") if task.sites else ()
    world.out.append(Unmapped(world.time, world.line, task.pid, _range(int(found[1], 16), found[2]), stack=stack))


def mprotect(world: World, task: Task, call: Call) -> None:
    """mprotect, pkey_mprotect"""
    found = _MPROTECT.match(call.text)
    if not found:
        if succeeded(call) is None:
            return
        raise Garbled(f"{call.name}() with arguments that are none of its")
    if task.memory.in_flight:
        world.tell(task.memory)
    start, length, prot = found.groups()
    world.out.append(
        Protected(
            world.time, world.line, task.pid, _range(int(start, 16), length), _protections.get(prot) or protection(prot)
        )
    )


def madvise(world: World, task: Task, call: Call) -> None:
    found = _MPROTECT.match(call.text)
    partly = None if found else _PARTLY.match(call.text)
    found = found or partly
    if not found:
        if succeeded(call) is None:
            return
        raise Garbled("madvise() with arguments that are none of its")
    start, length, written = found.groups()
    advice = _advices.get(written)
    if advice is None:
        advice = constant(written, _ADVICE).removeprefix("MADV_")
        if len(_advices) < _MOST_REMEMBERED and len(written) < 256:
            _advices[written] = advice
    where = _range(int(start, 16), length)
    if where.start == where.end:
        return
    if task.memory.in_flight:
        world.tell(task.memory)
    stack = world.stack(task, "madvise") if task.sites else ()
    world.out.append(Advised(world.time, world.line, task.pid, where, advice, bool(partly), stack=stack))


def brk(world: World, task: Task, call: Call) -> None:
    found = _BRK.match(call.text)
    if not found:
        if succeeded(call) is None:
            return
        raise Garbled("brk() with an argument that is none")
    asked, now = number(found[1]) or 0, int(found[2], 16)
    memory = task.memory
    before = memory.brk
    memory.brk = now
    if not before or not asked or asked != now:
        return
    old, new = -(-before // PAGE) * PAGE, -(-now // PAGE) * PAGE
    if old == new:
        return
    _tell(world, task)
    if old < new:
        world.out.append(Mapped(world.time, world.line, task.pid, Range(old, new), "rw-", True, True, PAGE, "[heap]"))
    else:
        world.out.append(Unmapped(world.time, world.line, task.pid, Range(new, old)))


def mremap(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    if done is None:
        return
    arguments, new = done
    old, old_size, new_size = (number(argument(arguments, i)) for i in range(3))
    if old is None or old_size is None or new_size is None:
        raise Garbled("mremap() with arguments that are none of its")
    keeps = flag(argument(arguments, 3), "MREMAP_DONTUNMAP", 4)
    _tell(world, task)
    if task.memory.looked_at:
        forget(task.memory, _range(old, old_size))
        task.memory.looked_at = (*task.memory.looked_at, _range(new, new_size))
    world.out.append(Moved(world.time, world.line, task.pid, _range(old, old_size), _range(new, new_size), keeps))


def shmget(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    size = number(argument(done[0], 1)) if done else None
    if done and size:
        if len(world.shared_memory) >= 4096:
            del world.shared_memory[next(iter(world.shared_memory))]
        world.shared_memory[done[1]] = size


def shmat(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    if done is None:
        return
    arguments, start = done
    which = number(argument(arguments, 0))
    size = world.shared_memory.get(which) if which is not None else None
    if size is None:
        world.lost_once(task, "shmat() of a segment whose shmget() is not in the trace: its size is not known")
        return
    prot = "r--" if flag(argument(arguments, 2), "SHM_RDONLY", 0o10000) else "rw-"
    _tell(world, task)
    world.out.append(
        Mapped(world.time, world.line, task.pid, _range(start, size), prot, False, False, PAGE, f"/SYSV{which}")
    )
    if len(task.memory.attached) < 4096:
        task.memory.attached[start] = size


def shmdt(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    start = number(argument(done[0], 0)) if done else None
    if start is None:
        return
    size = task.memory.attached.pop(start, None)
    if size is not None:
        _tell(world, task)
        world.out.append(Unmapped(world.time, world.line, task.pid, _range(start, size)))


CALLS = {
    "mmap": mmap, "mmap2": mmap, "old_mmap": mmap, "munmap": munmap, "mprotect": mprotect, "pkey_mprotect": mprotect,
    "madvise": madvise, "brk": brk, "mremap": mremap, "shmget": shmget, "shmat": shmat, "shmdt": shmdt,
}  # fmt: skip

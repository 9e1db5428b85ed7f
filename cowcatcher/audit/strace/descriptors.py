"""Calls that open, copy and close descriptors; which of them are O_DIRECT."""

from __future__ import annotations

import os
import re

from cowcatcher.audit.events import OpenedDirect
from cowcatcher.audit.strace.arguments import DECORATION, Garbled, constant, decoration, descriptor, flag, parse, string
from cowcatcher.audit.strace.lines import Call
from cowcatcher.audit.strace.state import File, Pipe, Task, World, argument, result, succeeded
from cowcatcher.audit.strace.transfers import watch_transfers

_OPEN = re.compile(
    rf'(?:(?:AT_FDCWD|-?\d+)(?:{DECORATION})?, )?"([^"\\]*+)", ([A-Z_|]+)(?:, 0\d*)?\)'
    rf"\s*= (\d{{1,9}})({DECORATION})?(?![^\s<])"
)
_CLOSE = re.compile(rf"(\d{{1,9}}|0x[0-9a-f]{{1,8}})(?:{DECORATION})?\)\s*= 0(?![^\s<])")

#: O_DIRECT as a number, for ``-e raw`` and ``-X raw``: the two architectures swap it with O_DIRECTORY.
O_DIRECT = 0o200000 if os.uname().machine in ("aarch64", "arm", "armv7l") else 0o40000
O_CLOEXEC = 0o2000000

#: What is asked of it no trace shows.
VERBS = "/dev/infiniband/uverbs"

_flags: dict[str, tuple[bool, bool]] = {}


def _kind(flags: str) -> tuple[bool, bool]:
    """(O_DIRECT, O_CLOEXEC)"""
    known = _flags.get(flags)
    if known is None:
        known = flag(flags, "O_DIRECT", O_DIRECT), flag(flags, "O_CLOEXEC", O_CLOEXEC)
        if len(_flags) < 1024 and len(flags) < 256:
            _flags[flags] = known
    return known


def opened(world: World, task: Task, call: Call) -> None:
    """open, openat, openat2, creat."""
    found = _OPEN.match(call.text)
    if found:
        path, flags, fd, shown = found[1], found[2], int(found[3]), decoration(found[4]) if found[4] else ""
    else:
        if " = -1 E" in call.text[-200:] and succeeded(call) is None:
            return
        arguments, rest = parse(call.text)
        returned = result(rest)
        if returned is None or returned < 0 or rest is None:
            return
        first = 0 if call.name in ("open", "creat") else 1
        written, how = argument(arguments, first), argument(arguments, first + 1)
        if isinstance(how, dict):
            how = how.get("flags")
        flags = how if isinstance(how, str) and call.name != "creat" else "O_WRONLY"
        path, fd, shown = string(written) or "", returned, decoration(rest)
    direct, cloexec = _kind(flags)
    file = File(shown or path)
    world.opened(task, fd, file, cloexec)
    if direct:
        _direct(world, task, fd, file)
    elif path.startswith(VERBS) and not task.memory.shim:
        world.lost_once(task, "what is registered with RDMA devices is not in this trace", matters=True)


def _direct(world: World, task: Task, fd: int, file: File) -> None:
    file.direct = True
    watch_transfers(world)
    world.out.append(OpenedDirect(world.time, world.line, task.pid, fd, file.path, stack=world.stack(task, "open")))


def close(world: World, task: Task, call: Call) -> None:
    if not task.files.table:
        return
    found = _CLOSE.match(call.text)
    if found:
        world.closed(task, int(found[1], 0))
    elif " EBADF" not in call.text:  # EINTR and EIO close it all the same
        arguments, _ = parse(call.text)
        fd = descriptor(argument(arguments, 0))
        if fd is None:
            raise Garbled("close() of something that is no descriptor")
        world.closed(task, fd)


def close_range(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    if done is None:
        return
    arguments, _ = done
    first, last = descriptor(argument(arguments, 0)), _last(argument(arguments, 1))
    if first is None:
        return
    flags = argument(arguments, 2)
    inside = [fd for fd in task.files.table if first <= fd <= last]
    if flag(flags, "CLOSE_RANGE_CLOEXEC", 4):
        task.files.cloexec.update(inside)
        return
    if flag(flags, "CLOSE_RANGE_UNSHARE", 2) and task.files.users > 1:
        files = world.copy_files(task.files)
        world.drop_files(task)
        files.users, task.files = 1, files
    for fd in inside:
        world.closed(task, fd)


def _last(value: object) -> int:
    found = descriptor(value if isinstance(value, str) else None)
    return (1 << 31) if found is None else found  # ~0U


def dup(world: World, task: Task, call: Call) -> None:
    """dup, dup2, dup3."""
    done = succeeded(call)
    if done is None:
        return
    arguments, new = done
    old = descriptor(argument(arguments, 0))
    if old is not None:
        _copy(world, task, old, new, call.name == "dup3" and flag(argument(arguments, 2), "O_CLOEXEC", O_CLOEXEC))


def _copy(world: World, task: Task, old: int, new: int, cloexec: bool) -> None:
    if old == new:
        return
    file = world.file(task, old)
    if file is None:
        world.closed(task, new)
    else:
        world.opened(task, new, file, cloexec)


def fcntl(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    if done is None:
        return
    arguments, returned = done
    fd = descriptor(argument(arguments, 0))
    command = constant(argument(arguments, 1), {0: "F_DUPFD", 2: "F_SETFD", 4: "F_SETFL", 1030: "F_DUPFD_CLOEXEC"})
    value = argument(arguments, 2)
    if fd is None:
        return
    if command in ("F_DUPFD", "F_DUPFD_CLOEXEC"):
        _copy(world, task, fd, returned, command == "F_DUPFD_CLOEXEC")
    elif command == "F_SETFD" and fd in task.files.table:
        if flag(value, "FD_CLOEXEC", 1):
            task.files.cloexec.add(fd)
        else:
            task.files.cloexec.discard(fd)
    elif command == "F_SETFL":
        direct = flag(value, "O_DIRECT", O_DIRECT)
        file = world.known_file(task, fd, decoration(argument(arguments, 0))) if direct else world.file(task, fd)
        if file and file.direct and not direct:
            file.direct = False
        elif file and direct and not file.direct:
            _direct(world, task, fd, file)


def pipe(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    ends = argument(done[0], 0) if done else None
    if not done or not isinstance(ends, list) or len(ends) != 2:
        return
    cloexec = flag(argument(done[0], 1), "O_CLOEXEC", O_CLOEXEC)
    shared = Pipe()
    for end, writes in zip(ends, (False, True), strict=True):
        fd = descriptor(end)
        if fd is not None:
            world.opened(task, fd, File(decoration(end) or "a pipe", pipe=shared, writes_pipe=writes), cloexec)


CALLS = {
    "open": opened, "openat": opened, "openat2": opened, "creat": opened, "close": close, "close_range": close_range,
    "dup": dup, "dup2": dup, "dup3": dup, "fcntl": fcntl, "fcntl64": fcntl, "pipe": pipe, "pipe2": pipe,
}  # fmt: skip

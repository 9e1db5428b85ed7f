"""Calls that use memory for a moment: direct reads and writes, libaio, MSG_ZEROCOPY, vmsplice, process_vm.

What is on one complete line has no fork beside it, unless one is under way: nothing is told of it. A transfer whose
call was entered and has not returned, or that goes on after its call, is kept in its memory's ``in_flight``, and told
once something happens there that could matter.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable
from typing import TypeAlias

from cowcatcher.audit.events import Interface, Range
from cowcatcher.audit.strace.arguments import (
    DECORATION,
    LEFT_OUT,
    Garbled,
    constant,
    descriptor,
    flag,
    number,
    parse,
    structures,
    vectors,
)
from cowcatcher.audit.strace.lines import Call
from cowcatcher.audit.strace.state import File, Pipe, Task, Transfer, World, argument, result, succeeded

READS = ("read", "pread64", "readv", "preadv", "preadv2", "pread")
WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "pwrite")
_VECTORS = {"readv", "preadv", "preadv2", "writev", "pwritev", "pwritev2"}
_SPLICES = ("splice", "tee", "sendfile")
_AIO = {0: "IOCB_CMD_PREAD", 1: "IOCB_CMD_PWRITE", 7: "IOCB_CMD_PREADV", 8: "IOCB_CMD_PWRITEV"}
_MSG_ZEROCOPY = 0x4000000
_SO_EE_ORIGIN_ZEROCOPY = 5
_MOST_SEGMENTS = 4096

_FIRST = re.compile(r"(0x[0-9a-f]{1,8}|\d{1,9})")
_BUFFER = re.compile(rf"\w+(?:{DECORATION})?, (0x[0-9a-f]{{1,16}}|NULL), (0x[0-9a-f]{{1,16}}|\d{{1,20}})")
_CONTEXT = re.compile(r"0x([0-9a-f]{1,16})")
_REQUESTS = re.compile(r"0x([0-9a-f]{1,16}), \d{1,9}, \[")
#: One request of io_submit() and what follows it; any other form is read in full.
_REQUEST = re.compile(
    rf"""\{{aio_data=(\w+),[ ](?:aio_key=\w+,[ ])?aio_lio_opcode=([^,"]+),[ ](?:aio_reqprio=[^,"]+,[ ])?
    aio_fildes=(\d{{1,9}})(?:{DECORATION})?,[ ]aio_buf=(?:(0x[0-9a-f]+)|"(?:[^"\\]|\\.)*+"(?:\.\.\.)?),
    [ ]aio_nbytes=(\d+)[^}}"]*+\}}(,[ ]|\])""",
    re.VERBOSE,
)
_COMPLETION = re.compile(r"\{data=(\w+), obj=")
_COUNT = re.compile(r"\)\s*= (\d{1,9})(?:\s*<[\d.]+>)?$")
_FAILED = re.compile(r"= (?:-1|0|\?)(?![\w.])")


# --- which lines are looked at ----------------------------------------------------------------------------------------


def watch_transfers(world: World) -> None:
    """There is an O_DIRECT file: calls that may run beside a fork are of interest from now on."""
    if callable(world.looks.get("read")) or world.looks.get("read"):
        return

    def beside_a_fork(line: str) -> bool:
        return bool(world.forking) or line.rstrip().endswith("...>")

    for name in READS + WRITES:
        world.looks[name] = beside_a_fork
    for name in ("io_submit", "io_getevents", "io_pgetevents", "io_destroy", "io_cancel"):
        world.looks[name] = True


def watch_sends(world: World) -> None:
    """There is a socket with SO_ZEROCOPY."""

    def zerocopy(line: str) -> bool:
        return "ZEROCOPY" in line or "0x4" in line or line.rstrip().endswith("...>")

    for name in ("sendto", "sendmsg", "sendmmsg"):
        world.looks[name] = zerocopy
    world.looks["recvmsg"] = lambda line: "ERRQUEUE" in line or "0x2" in line or line.rstrip().endswith("...>")


def watch_pipes(world: World) -> None:
    """A pipe holds somebody's pages: whoever reads it lets them go."""
    for name in ("read", "readv", "write", "writev", *_SPLICES):
        world.looks[name] = True


# --- read and write ---------------------------------------------------------------------------------------------------


def _transfer(
    world: World, task: Task, call: Call, interface: Interface, ranges: tuple[Range, ...] | None, writes: bool,
    detail: str, key: Hashable, site: str = "",
) -> Transfer:  # fmt: skip
    if ranges is None and task.where:
        ranges = task.where.pop(site or call.name, None)
    return Transfer(
        world.handle(interface), interface, ranges, writes, detail, call.name, call.time, call.begun, task.pid,
        task.memory, key, world.stack(task, site or call.name),
    )  # fmt: skip


def _ranges(call: Call) -> tuple[Range, ...] | None:
    """The memory of a read or write, where it is shown: with ``-e raw``, or if the call has failed."""
    if call.name in _VECTORS:
        if "iov_base=0x" not in call.text:
            return None
        found, complete = vectors(argument(parse(call.text)[0], 1))
        return tuple(found) if found is not None and complete else None
    shown = _BUFFER.match(call.text)
    start, size = (number(shown[1]), number(shown[2])) if shown else (None, None)
    return (Range(start, start + size),) if start is not None and size is not None else None


def _file(world: World, task: Task, call: Call) -> tuple[int, File | None]:
    """The descriptor that is the first argument, and its file if that is known."""
    found = _FIRST.match(call.text)
    fd = number(found[1]) if found else None
    return (-1, None) if fd is None else (fd, task.files.table.get(fd))


def _direct(world: World, task: Task, call: Call, file: File, fd: int) -> Transfer:
    reads = call.name in READS
    return _transfer(
        world, task, call, "dio_read" if reads else "dio_write", _ranges(call), reads,
        f"fd {fd}, {file.path or 'O_DIRECT'}", ("call", task.pid),
    )  # fmt: skip


def enter_io(world: World, task: Task, call: Call) -> None:
    if before := task.memory.in_flight.get(("call", task.pid)):  # it was never seen to return
        world.finish(before)
    fd, file = _file(world, task, call)
    if file and file.direct:
        world.start(_direct(world, task, call, file, fd))


def io(world: World, task: Task, call: Call) -> None:
    started = task.memory.in_flight.get(("call", task.pid))
    if started and started.call == call.name:
        world.finish(started)
        return
    fd, file = _file(world, task, call)
    if file is None:
        return
    if file.direct and task.memory.forks:
        transfer = _direct(world, task, call, file, fd)
        world.start(transfer)
        world.finish(transfer)
    elif file.pipe and (file.pipe.segments or not file.writes_pipe):
        moved = result(parse(call.text)[1]) or 0
        if call.name in WRITES and file.pipe.segments and moved > 0:
            _into(world, file.pipe, moved, None)
        elif call.name in READS:
            _drain(world, file.pipe, moved)


# --- libaio -----------------------------------------------------------------------------------------------------------


def enter_submit(world: World, task: Task, call: Call) -> None:
    _submit(world, task, call)


def _submit(world: World, task: Task, call: Call) -> None:
    context, requests = _requests(world, task, call)
    for tag, operation, fd, ranges in requests:
        file = task.files.table.get(fd) if fd is not None else None
        if not file or not file.direct or operation not in _AIO.values():
            continue
        reads = "READ" in operation
        key = ("aio", context, world.handle("request"))
        interface: Interface = "dio_read" if reads else "dio_write"
        transfer = _transfer(world, task, call, interface, ranges, reads, f"fd {fd}, {file.path}, libaio", key)
        task.memory.aio.setdefault((context, tag), deque()).append(transfer)
        world.start(transfer)


#: A request of io_submit(): its data, operation, descriptor and memory.
_Request: TypeAlias = tuple[int, str, int | None, tuple[Range, ...] | None]


def _requests(world: World, task: Task, call: Call) -> tuple[int, list[_Request]]:
    text = call.text
    found: list[_Request] = []
    start = _REQUESTS.match(text)
    at = start.end() if start else -1
    while at >= 0:
        one = _REQUEST.match(text, at)
        if not one:
            break
        tag, operation, fd, buffer, size, end = one.groups()
        base, length = number(buffer), number(size) or 0
        ranges = (Range(base, base + length),) if base is not None else None
        found.append((number(tag) or 0, constant(operation, _AIO), int(fd), ranges))
        at = one.end()
        if end == "]" and start:
            return int(start[1], 16), found
    return _any_requests(world, task, call)


def _any_requests(world: World, task: Task, call: Call) -> tuple[int, list[_Request]]:
    arguments, _ = parse(call.text)
    context, requests = number(argument(arguments, 0)), argument(arguments, 2)
    if context is None or not isinstance(requests, list):
        return 0, []
    if LEFT_OUT in requests:
        world.lost_once(task, "io_submit: the list of requests is truncated (-v shows all)")
    found: list[_Request] = []
    for request in structures(requests):
        operation = constant(request.get("aio_lio_opcode"), _AIO)
        buffer, size = request.get("aio_buf"), number(request.get("aio_nbytes"))
        ranges = None
        if operation.endswith("V"):
            listed, complete = vectors(buffer)
            ranges = tuple(listed) if listed is not None and complete else None
        elif (base := number(buffer)) is not None and size is not None:
            ranges = (Range(base, base + size),)
        found.append((number(request.get("aio_data")) or 0, operation, descriptor(request.get("aio_fildes")), ranges))
    return context, found


def submit(world: World, task: Task, call: Call) -> None:
    if call.begun == call.line and not _FAILED.search(call.text, max(0, len(call.text) - 100)):
        _submit(world, task, call)


def events(world: World, task: Task, call: Call) -> None:
    memory = task.memory
    if not memory.aio:
        return
    context, count, tags = _completions(call)
    for tag in tags:
        queue = memory.aio.get((context, tag))
        if queue:
            world.finish(queue.popleft())
            if not queue:
                del memory.aio[context, tag]
    if count > len(tags):
        world.lost_once(task, f"{call.name}: the list of completions is truncated (-v shows all)")
        _all_done(world, task, context)


def _completions(call: Call) -> tuple[int, int, list[int]]:
    """(context, how many, the data of those that are shown)"""
    context, count = _CONTEXT.match(call.text), _COUNT.search(call.text)
    if not context or not count:
        done = succeeded(call)
        return (0, 0, []) if done is None else (number(argument(done[0], 0)) or 0, done[1], [])
    tags = [number(tag) or 0 for tag in _COMPLETION.findall(call.text)]
    return int(context[1], 16), int(count[1]), tags


def _all_done(world: World, task: Task, context: int) -> None:
    for key in [k for k in task.memory.aio if k[0] == context]:
        for transfer in task.memory.aio.pop(key):
            world.finish(transfer)


def destroy(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    context = number(argument(done[0], 0)) if done else None
    if context is not None:
        _all_done(world, task, context)


# --- MSG_ZEROCOPY -----------------------------------------------------------------------------------------------------


def send(world: World, task: Task, call: Call) -> None:
    """sendto, sendmsg, sendmmsg. Each send that succeeds has a number, from 0 on: msg_zerocopy.rst."""
    done = succeeded(call)
    if done is None:
        return
    arguments, sent = done
    fd = descriptor(argument(arguments, 0))
    file = world.file(task, fd)
    flags = argument(arguments, 2 if call.name == "sendmsg" else 3)
    if file is None or not file.zerocopy or not flag(flags, "MSG_ZEROCOPY", _MSG_ZEROCOPY) or not sent:
        return
    given = argument(arguments, 1)
    if call.name == "sendto":
        start, size = number(given), number(argument(arguments, 2))
        _zerocopy(world, task, call, file, fd, (Range(start, start + size),) if start and size else None)
        return
    messages = list(structures(given))
    for message in messages if call.name == "sendmsg" else messages[:sent]:
        inner = message.get("msg_hdr")
        header = inner if isinstance(inner, dict) else message
        found, complete = vectors(header.get("msg_iov"))
        _zerocopy(world, task, call, file, fd, tuple(found) if found is not None and complete else None)


def _zerocopy(
    world: World, task: Task, call: Call, file: File, fd: int | None, ranges: tuple[Range, ...] | None
) -> None:
    number_of_it, file.sent = file.sent, (file.sent + 1) & 0xFFFFFFFF
    transfer = _transfer(
        world, task, call, "msg_zerocopy", ranges, False, f"fd {fd}, send {number_of_it}",
        ("send", id(file), number_of_it), "send",
    )  # fmt: skip
    if len(file.sends) >= 4096:
        world.finish(file.sends.pop(next(iter(file.sends))))
    file.sends[number_of_it] = transfer
    world.start(transfer)


def receive(world: World, task: Task, call: Call) -> None:
    """A completion says from which send to which: ee_info, ee_data."""
    done = succeeded(call)
    file = world.file(task, descriptor(argument(done[0], 0))) if done else None
    if not done or file is None or not file.sends:
        return
    for message in structures(argument(done[0], 1)):
        for control in structures(message.get("msg_control")):
            report = control.get("cmsg_data")
            if not isinstance(report, dict):
                continue
            origin = report.get("ee_origin")
            if number(origin) != _SO_EE_ORIGIN_ZEROCOPY and origin != "SO_EE_ORIGIN_ZEROCOPY":
                continue
            first, last = number(report.get("ee_info")), number(report.get("ee_data"))
            if first is None or last is None:
                raise Garbled("a completion without numbers")
            for sent in [s for s in file.sends if first <= s <= last]:
                world.finish(file.sends.pop(sent))


# --- vmsplice ---------------------------------------------------------------------------------------------------------


def vmsplice(world: World, task: Task, call: Call) -> None:
    done = succeeded(call)
    if done is None:
        return
    arguments, moved = done
    fd = descriptor(argument(arguments, 0))
    if fd is None or not moved:
        return
    file = world.counted_file(task, fd, "a pipe")
    if file.pipe is None:
        file.pipe, file.writes_pipe = Pipe(), True
    if not file.writes_pipe:
        return  # out of the pipe: the bytes are copied
    found, complete = vectors(argument(arguments, 1))
    ranges = tuple(_first_bytes(found, moved)) if found is not None and complete else None
    transfer = _transfer(
        world, task, call, "vmsplice", ranges, False, f"fd {fd}, {moved} bytes", ("pipe", world.handle("pipe"))
    )
    watch_pipes(world)
    _into(world, file.pipe, moved, transfer)
    world.start(transfer)


def _first_bytes(ranges: list[Range], count: int) -> list[Range]:
    """What was taken of a list of buffers, if not all."""
    taken = []
    for each in ranges:
        if count <= 0:
            break
        taken.append(Range(each.start, min(each.end, each.start + count)))
        count -= each.size
    return taken


def _into(world: World, pipe: Pipe, count: int, transfer: Transfer | None) -> None:
    if len(pipe.segments) >= _MOST_SEGMENTS:
        _drain(world, pipe, pipe.segments[0][0])
    pipe.segments.append((count, transfer))


def _drain(world: World, pipe: Pipe, count: int) -> None:
    segments = pipe.segments
    while segments and count > 0:
        size, transfer = segments.popleft()
        if size > count:
            segments.appendleft((size - count, transfer))
            return
        count -= size
        if transfer:
            world.finish(transfer)


def splice(world: World, task: Task, call: Call) -> None:
    """Pages spliced into another pipe are that one's; into a file or a socket, they are taken to be done with."""
    done = succeeded(call)
    if done is None or call.name == "tee":
        return
    arguments, moved = done
    source = world.file(task, descriptor(argument(arguments, 1 if call.name == "sendfile" else 0)))
    target = world.file(task, descriptor(argument(arguments, 0 if call.name == "sendfile" else 2)))
    if target and target.pipe and source and source.pipe:
        _move(source.pipe, target.pipe, moved)
        return
    if target and target.pipe and target.pipe.segments:
        _into(world, target.pipe, moved, None)
    if source and source.pipe:
        _drain(world, source.pipe, moved)


def _move(source: Pipe, target: Pipe, count: int) -> None:
    while source.segments and count > 0:
        size, transfer = source.segments.popleft()
        taken = min(size, count)
        if size > taken:  # the rest keeps the transfer: it ends with the last of its bytes
            source.segments.appendleft((size - taken, transfer))
            transfer = None
        target.segments.append((taken, transfer))
        count -= taken


# --- process_vm -------------------------------------------------------------------------------------------------------


def enter_process_vm(world: World, task: Task, call: Call) -> None:
    """Entered, not returned. Its ranges are in the trace only then, but the shim may have said them before."""
    found = _FIRST.match(call.text)
    target = world.tasks.get(int(found[1], 0)) if found else None
    ranges = task.where.pop(call.name, None)
    if task.copying:
        world.finish(task.copying)
        task.copying = None
    if target and ranges:
        task.copying = _copy(world, task, target, call, ranges)
        world.start(task.copying)


def _copy(world: World, task: Task, target: Task, call: Call, ranges: tuple[Range, ...]) -> Transfer:
    key = ("process_vm", world.handle("copy"))
    return _transfer(world, target, call, "process_vm", ranges, call.name == "process_vm_writev", f"by {task.pid}", key)


def process_vm(world: World, task: Task, call: Call) -> None:
    """The other process's pages are held while this one copies from or to them."""
    if task.copying:
        world.finish(task.copying)
        task.copying = None
        return
    arguments, rest = parse(call.text)
    other = number(argument(arguments, 0))
    target = world.tasks.get(other) if other is not None else None
    if target is None or result(rest) in (None, -1, 0):
        return
    memory = target.memory
    begun_before = call.begun != call.line and memory.forked
    if not memory.forks and not begun_before:
        return
    found, complete = vectors(argument(arguments, 3))
    if found is None or not complete:
        world.lost_once(task, f"{call.name}() beside a fork: its list of ranges is truncated")
        return
    transfer = _copy(world, task, target, call, tuple(found))
    world.start(transfer)
    world.finish(transfer)


CALLS = {
    **dict.fromkeys(READS + WRITES, io), "io_submit": submit, "io_getevents": events, "io_pgetevents": events,
    "io_destroy": destroy, "sendto": send, "sendmsg": send, "sendmmsg": send, "recvmsg": receive, "vmsplice": vmsplice,
    **dict.fromkeys(_SPLICES, splice), "process_vm_readv": process_vm, "process_vm_writev": process_vm,
}  # fmt: skip
ENTERED = {
    **dict.fromkeys(READS + WRITES, enter_io), "io_submit": enter_submit,
    **dict.fromkeys(("process_vm_readv", "process_vm_writev"), enter_process_vm),
}  # fmt: skip

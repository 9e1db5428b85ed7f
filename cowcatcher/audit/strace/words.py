"""What the preloaded shim has to say, in a call that strace prints: ``mq_unlink("/cowcatcher:WORD key=value …")``.

Values are percent-encoded; ``more`` goes on with the text of a word that was too long for one name. ``pin h= interface=
addr= len= writes= detail=`` and ``unpin h=`` are for whatever else the shim can see being pinned; ``site`` may carry
``addr= len=`` for a call whose memory strace does not show (vmsplice, send).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast
from urllib.parse import unquote

from cowcatcher.audit.events import (
    REGISTERED,
    ForkInit,
    Freed,
    Interface,
    Library,
    Overwritten,
    Range,
)
from cowcatcher.audit.strace import looked
from cowcatcher.audit.strace.arguments import Garbled, argument_string, number
from cowcatcher.audit.strace.lines import Call
from cowcatcher.audit.strace.pins import pin
from cowcatcher.audit.strace.state import Task, Transfer, World

PREFIX = "cowcatcher:"
#: A word this long may go on in the next call.
_LONG = 200
_MOST_CHARACTERS = 1 << 14
_MOST_SITES = 16
_ON_DEMAND = 1 << 6  # IBV_ACCESS_ON_DEMAND
_DEVICE_WRITES = 1 | 2 | 8  # local and remote write, remote atomic


def unlink(world: World, task: Task, call: Call) -> None:
    """mq_unlink()"""
    text = argument_string(call.text)
    if text is None:
        raise Garbled("a name that is none")
    text = text.removeprefix("/")
    if not text.startswith(PREFIX):
        return
    text = text[len(PREFIX) :]
    if text.startswith("more "):
        if task.word and len(task.word) < _MOST_CHARACTERS:
            task.word += text[5:]
        return
    say(world, task)
    task.word = text
    if len(text) < _LONG:
        say(world, task)


def say(world: World, task: Task) -> None:
    """The word of this task is complete."""
    text, task.word = task.word, ""
    if not text:
        return
    name, *pairs = text.split(" ")
    values: dict[str, str] = {}
    for key, _, value in (pair.partition("=") for pair in pairs):
        values[key] = f"{values[key]},{unquote(value)}" if key in values else unquote(value)
    if meaning := _WORDS.get(name):
        meaning(world, task, values)


def _number(values: dict[str, str], key: str) -> int:
    found = number(values.get(key))
    if found is None:
        raise Garbled(f"the shim's word has no {key}")
    return found


def _stack(values: dict[str, str]) -> tuple[str, ...]:
    return tuple(frame for frame in values.get("stack", "").split("<") if frame)


def _range(values: dict[str, str]) -> Range:
    start = _number(values, "addr")
    return Range(start, start + _number(values, "len"))


def _hello(world: World, task: Task, values: dict[str, str]) -> None:
    task.memory.shim = world.shim = True


def _site(world: World, task: Task, values: dict[str, str]) -> None:
    name = values.get("call", "")
    if len(task.sites) >= _MOST_SITES:
        task.sites.clear()
    if stack := _stack(values):
        task.sites[name] = stack
    if "addr" in values:  # of several buffers, if there are
        task.where.clear()
        pairs = zip(values["addr"].split(","), values.get("len", "").split(","), strict=False)
        task.where[name] = tuple(_range({"addr": addr, "len": length}) for addr, length in pairs)


def _reg_mr(world: World, task: Task, values: dict[str, str]) -> None:
    access = _number(values, "access")
    interface: Interface = "odp_reg_mr" if access & _ON_DEMAND else "ibv_reg_mr"
    _region(world, task, values, interface, bool(access & _DEVICE_WRITES), f"access {access:#x}")


def _pin(world: World, task: Task, values: dict[str, str]) -> None:
    interface = values.get("interface", "")
    if interface not in REGISTERED:
        raise Garbled(f"the shim saw {interface!r}, which is no interface")
    _region(world, task, values, cast(Interface, interface), values.get("writes", "1") != "0", values.get("detail", ""))


def _region(world: World, task: Task, values: dict[str, str], interface: Interface, writes: bool, detail: str) -> None:
    which = _number(values, "h")
    if before := task.memory.regions.pop(which, None):  # given back unseen
        world.unpin(task.pid, before)
    if len(task.memory.regions) >= 1 << 16:
        world.lost(task.pid, "too many registrations to remember")
        return
    handle = world.handle(f"{'mr' if interface.endswith('reg_mr') else interface} {which:#x}")
    task.memory.regions[which] = handle
    pin(world, task, handle, interface, (_range(values),), writes, detail, _stack(values))


def _dereg_mr(world: World, task: Task, values: dict[str, str]) -> None:
    handle = task.memory.regions.pop(_number(values, "h"), None)
    if handle is None:
        world.lost(task.pid, "memory was deregistered whose registration is not in the trace")
    else:
        world.unpin(task.pid, handle)


def _fork_init(world: World, task: Task, values: dict[str, str]) -> None:
    world.out.append(
        ForkInit(world.time, world.line, task.pid, _number(values, "rc"), values.get("by", ""), stack=_stack(values))
    )


def _inflight(world: World, task: Task, values: dict[str, str]) -> None:
    """Seen from the handler that runs before a fork: in flight until the shim's thread does something else after it."""
    operation = values.get("op", "")
    if operation not in ("dio_read", "dio_write"):
        return
    tid = number(values.get("tid")) or task.pid
    by_strace = task.memory.in_flight.get(("call", tid))
    if by_strace and by_strace.ranges is not None:
        return
    filesystem = values.get("fs", "")
    transfer = Transfer(
        world.handle(operation), cast(Interface, operation), (_range(values),), operation == "dio_read",
        f"fd {values.get('fd', '?')}" + (f", {filesystem}" if filesystem else ""), operation, world.time, world.line,
        tid if tid in world.tasks else task.pid, task.memory,
        ("shim", values.get("id", ""), _number(values, "addr")), _stack(values),
    )  # fmt: skip
    if before := task.memory.in_flight.get(transfer.key):
        world.finish(before)
    world.start(transfer)
    if len(task.seen_by_shim) < 4096:
        task.seen_by_shim.append(transfer)


def after_fork(world: World, task: Task) -> None:
    """What was in flight when this task forked need not be any more."""
    for transfer in task.seen_by_shim:
        world.finish(transfer)
    task.seen_by_shim.clear()


def _settled(world: World, task: Task, values: dict[str, str]) -> None:
    after_fork(world, task)


def _freed(world: World, task: Task, values: dict[str, str]) -> None:
    world.out.append(Freed(world.time, world.line, task.pid, _range(values), stack=_stack(values)))


def _overwritten(world: World, task: Task, values: dict[str, str]) -> None:
    """Of the transfer whose memory that was; where the trace does not show it, of one that is told for this."""
    how = values.get("how", "")
    if how not in ("msg_zerocopy", "vmsplice"):
        return
    where = _range(values)
    for transfer in task.memory.in_flight.values():
        if transfer.interface == how and any(r.overlap(where) for r in transfer.ranges or ()):
            world.tell_one(transfer, False)
            world.out.append(
                Overwritten(world.time, world.line, task.pid, transfer.handle, where, stack=_stack(values))
            )
            return
    handle = world.handle(how)
    pin(world, task, handle, cast(Interface, how), (where,), False, f"fd {values.get('fd', '?')}")
    world.out.append(Overwritten(world.time, world.line, task.pid, handle, where, stack=_stack(values)))
    world.unpin(task.pid, handle)


def _library(world: World, task: Task, values: dict[str, str]) -> None:
    name = values.get("name", "")
    if name and len(task.memory.libraries) < 256:
        task.memory.libraries.add(name)
        world.out.append(Library(world.time, world.line, task.pid, name, values.get("version", "")))


_WORDS: dict[str, Callable[[World, Task, dict[str, str]], None]] = {
    "hello": _hello, "site": _site, "reg_mr": _reg_mr, "dereg_mr": _dereg_mr, "fork_init": _fork_init,
    "inflight": _inflight, "freed": _freed, "overwritten": _overwritten, "library": _library, "pin": _pin,
    "unpin": _dereg_mr, "settled": _settled, **looked.WORDS,
}  # fmt: skip

CALLS = {"mq_unlink": unlink}

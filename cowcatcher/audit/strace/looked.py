"""The shim's words for what strace is not asked to stop at: how memory is mapped that is pinned, what is unmapped under
it, direct files, descriptors that held pins, the environment.

A ``vma`` word is what somebody saw who looked, not something that happened: what was told before stays as it was told,
with its advice and its pins, and only what is new becomes an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cowcatcher.audit.events import PAGE, Execed, Lost, Mapped, OpenedDirect, Range, Unmapped
from cowcatcher.audit.strace.arguments import Garbled, number
from cowcatcher.audit.strace.state import Memory, Task, World

_MOST_RANGES: Final = 4096
HUGE: Final = "/anon_hugepage (deleted)"


def without(ranges: tuple[Range, ...], gone: Range) -> tuple[Range, ...]:
    return tuple(rest for r in ranges for rest in r.without(gone))


def forget(memory: Memory, gone: Range) -> None:
    """Nothing is known of this memory any more."""
    if memory.looked_at:
        memory.looked_at = without(memory.looked_at, gone)


def _number(values: dict[str, str], key: str) -> int:
    found = number(values.get(key))
    if found is None:
        raise Garbled(f"the shim's word has no {key}")
    return found


def _vma(world: World, task: Task, values: dict[str, str]) -> None:
    where = Range(_number(values, "start"), _number(values, "end"))
    what, prot = values.get("what", ""), values.get("prot", "")
    page = number(values.get("page")) or PAGE
    anonymous = not what or what.startswith("[") or what == HUGE
    memory = task.memory
    new: tuple[Range, ...] = (where,)
    for told in memory.looked_at:
        new = without(new, told)
    for piece in new:
        world.out.append(
            Mapped(
                world.time, world.line, task.pid, piece, prot, values.get("shared") != "1", anonymous, page,
                "" if what == HUGE else what,
            )
        )  # fmt: skip
    if new:
        memory.looked_at = (*without(memory.looked_at, where), where)[-_MOST_RANGES:]


def _unmapped(world: World, task: Task, values: dict[str, str]) -> None:
    start = _number(values, "addr")
    where = Range(start, start + _number(values, "len")).pages()
    forget(task.memory, where)
    stack = tuple(frame for frame in values.get("stack", "").split("<") if frame)
    if task.memory.in_flight:
        world.tell(task.memory)
    world.out.append(Unmapped(world.time, world.line, task.pid, where, stack=stack))


def _closed(world: World, task: Task, values: dict[str, str]) -> None:
    world.closed(task, _number(values, "fd"))


def _direct(world: World, task: Task, values: dict[str, str]) -> None:
    world.out.append(
        OpenedDirect(
            world.time, world.line, task.pid, _number(values, "fd"), values.get("path", ""), values.get("fs", "")
        )
    )


def _env(world: World, task: Task, values: dict[str, str]) -> None:
    """Said at the very beginning of a program, whose execve() strace printed without it."""
    memory = task.memory
    memory.env = (*memory.env, *values.items())[:64]
    world.out.append(Execed(world.time, world.line, task.pid, memory.path, memory.env))


def _lost(world: World, task: Task, values: dict[str, str]) -> None:
    world.out.append(Lost(world.time, world.line, task.pid, values.get("why", "")))


WORDS: dict[str, Callable[[World, Task, dict[str, str]], None]] = {
    "vma": _vma, "unmapped": _unmapped, "closed": _closed, "direct": _direct, "env": _env, "lost": _lost,
}  # fmt: skip

"""Lines of strace's output in, events out: one pass, as they come.

The first look at a line is a name and a dictionary: most calls are of no interest. What is of interest is read by the
family of the call (``memory``, ``tasks``, ``descriptors``, ``pins``, ``transfers``, ``words``).

A child's lines may come before the call that made it has returned. While one such call is open, an unknown task is its
child, and Forked is told before the child's first event. While several are, the child's records wait until it is known
whose it is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from cowcatcher.audit.events import Event, Exited, Lost, OpenedDirect, Present, Signalled
from cowcatcher.audit.strace import descriptors, memory, pins, tasks, transfers, words
from cowcatcher.audit.strace.arguments import Garbled, constant, number, parse
from cowcatcher.audit.strace.lines import Call, Damaged, End, Frame, Lines, Looks, Record, Signal
from cowcatcher.audit.strace.state import MOST_COMPLAINTS, File, Task, World

Handler: TypeAlias = Callable[[World, Task, Call], None]

_CALLS: dict[str, Handler] = {
    **memory.CALLS, **descriptors.CALLS, **pins.CALLS, **transfers.CALLS, **tasks.CALLS, **words.CALLS,
}  # fmt: skip
_ENTERED: dict[str, Handler] = {**transfers.ENTERED, **tasks.ENTERED}
_FORKS = frozenset(tasks.ENTERED)

#: Looked at only when there is something that makes them interesting: see transfers.watch_transfers().
_LATER = {
    *transfers.READS, *transfers.WRITES, "io_submit", "io_getevents", "io_pgetevents", "io_destroy",
    "sendto", "sendmsg", "sendmmsg", "recvmsg", "splice", "tee", "sendfile",
}  # fmt: skip

_CODES = {
    "SIGSEGV": {1: "SEGV_MAPERR", 2: "SEGV_ACCERR", 3: "SEGV_BNDERR", 4: "SEGV_PKUERR"},
    "SIGBUS": {1: "BUS_ADRALN", 2: "BUS_ADRERR", 3: "BUS_OBJERR", 4: "BUS_MCEERR_AR", 5: "BUS_MCEERR_AO"},
}
_MOST_HELD = 1 << 14
_MOST_HELD_CHARACTERS = 1 << 24
_MOST_FRAMES = 64
_MOST_WORDS = 256


def _unknown(line: str) -> bool:
    """The answer of the first look to a name that it does not know."""
    return True


def _looks() -> Looks:
    looks: Looks = {name: True for name in _CALLS if name not in _LATER}
    looks.update(dict.fromkeys(_LATER, None))
    looks["ioctl"] = pins.looks_like_dma
    looks["setsockopt"] = pins.looks_like_option
    return looks


class Reader:
    """``alone`` is the number of the task that lines without one are of, 0 if it is not known."""

    def __init__(self, alone: int = 0) -> None:
        looks = _looks()
        self._world = World(looks)
        self._lines = Lines(looks, alone)
        self._held: dict[int, list[Record]] = {}
        self._held_records = 0
        self._held_characters = 0
        self._words: dict[int, Task] = {}
        self._stacks = False
        self._frames: list[str] = []
        self._after = -1  # the line that a frame must follow to belong to the last record

    def adopt(self, event: Event) -> None:
        """Something known otherwise, before the trace starts: tasks (Present), O_DIRECT files (OpenedDirect)."""
        world = self._world
        if isinstance(event, Present):
            leader = world.tasks.get(event.process) or tasks.stranger(world, event.process)
            if event.task != event.process:
                world.add_task(event.task, leader.memory, leader.files)
        elif isinstance(event, OpenedDirect):
            task = world.tasks.get(event.task) or tasks.stranger(world, event.task)
            world.opened(task, event.fd, File(event.path, direct=True), False)
            transfers.watch_transfers(world)

    def read(self, lines: Iterable[str]) -> Iterator[Event]:
        """Never raises, whatever the lines are: what cannot be read is told as Lost."""
        out, look_up, records = self._world.out, self._lines.looks.get, self._lines
        number = 0
        line = ""
        for following in lines:
            before, line = line, following
            number += 1
            # The first look: a name before the first parenthesis. Without one it is some other text, or nothing.
            at = line.find("(")
            start = line.rfind(" ", 0, at) + 1
            look = look_up(line[start:at], _unknown)
            if look is not True and (look is _unknown or look is None or not look(line)):
                half = line.find("<... ", 0, 100)
                wanted = look_up(line[half + 5 : line.find(" ", half + 5)]) if half >= 0 else look is _unknown
                if not wanted:
                    if half >= 0:
                        records.understood += 1
                    if records.relative:
                        records.tick(line)
                    continue
                look = _unknown
            if self._stacks and out and not line.startswith(" > "):
                yield from self._flush()
            if look is _unknown:
                self._take(number, records.parse(number, line, before))
            else:
                self._take(number, records.quick(number, line, start, at))
            if out and not self._stacks:
                yield from out
                out.clear()
        self._finish(number)
        yield from self._flush()

    # --- one line -----------------------------------------------------------------------------------------------------

    def _flush(self) -> Iterator[Event]:
        out = self._world.out
        if self._frames:
            stack = tuple(self._frames)
            self._frames.clear()
            out[:] = [event if event.stack else replace(event, stack=stack) for event in out]
        told = out[:]
        out.clear()
        return iter(told)

    def _take(self, number: int, record: Record | None) -> None:
        while self._lines.broken:
            self._damaged(self._lines.broken.pop(0))
        if record is None:
            return
        if isinstance(record, Frame):
            self._stacks = True
            if self._world.out and number == self._after + 1 and len(self._frames) < _MOST_FRAMES:
                self._frames.append(record.text)
                self._after = number
            return
        self._after = number
        self._record(record)

    def _record(self, record: Record) -> None:
        if isinstance(record, Damaged):
            self._damaged(record)
            return
        if isinstance(record, Frame):
            return
        world = self._world
        task = world.tasks.get(record.task) or self._appears(record)
        if task is None:
            return
        world.time, world.line = record.time, record.line
        world.silent.discard(record.task)
        try:
            if isinstance(record, Call):
                name = record.name
                if self._words or task.seen_by_shim:
                    self._shim(task, name)
                handler = (_ENTERED if record.entered else _CALLS).get(name)
                if handler:
                    handler(world, task, record)
                if task.word:
                    self._long_word(task)
                if self._held and name in _FORKS:
                    self._release()
            elif isinstance(record, Signal):
                self._signal(task, record)
            else:
                self._end(task, record)
        except Garbled as why:
            name = f"{record.name}(): " if isinstance(record, Call) else ""
            world.lost(record.task, f"{name}{why}")

    def _damaged(self, record: Damaged) -> None:
        self._world.time = record.time or self._world.time
        self._world.lost(record.task, record.reason, record.line)

    def _long_word(self, task: Task) -> None:
        """It may go on, in this task's next call. Not many tasks can be in the middle of one."""
        self._words[task.pid] = task
        if len(self._words) > _MOST_WORDS:
            for each in list(self._words.values()):
                words.say(self._world, each)
            self._words.clear()

    def _shim(self, task: Task, name: str) -> None:
        """A long word is complete when its task does something else, or when a fork must come after it."""
        forks = name in _FORKS
        if name != "mq_unlink":
            for each in list(self._words.values()) if forks else [task]:
                self._words.pop(each.pid, None)
                words.say(self._world, each)
            if not forks:
                words.after_fork(self._world, task)

    def _signal(self, task: Task, signal: Signal) -> None:
        if signal.name not in _CODES:
            return
        fields, _ = parse("{" + signal.text + "}")
        siginfo = fields[0] if fields else None
        if not isinstance(siginfo, dict):
            raise Garbled("a signal without what it is about")
        code = constant(siginfo.get("si_code"), _CODES[signal.name])
        address = number(siginfo.get("si_addr"))
        if address is not None and code in _CODES[signal.name].values():
            world = self._world
            world.out.append(Signalled(world.time, world.line, task.pid, signal.name, code, address))

    def _end(self, task: Task, end: End) -> None:
        world = self._world
        if task.word:
            self._words.pop(task.pid, None)
            words.say(world, task)
        if end.superseded:
            # execve() by another thread, which goes on as this one: its call returns under this number.
            if (call := self._lines.forget(end.superseded)) and call.name.startswith("execve"):
                self._lines.forget(task.pid)
                call.task = task.pid
                self._lines.unfinished[task.pid] = call
            if other := world.tasks.get(end.superseded):
                world.remove_task(other)
                world.out.append(Exited(world.time, world.line, end.superseded, 0))
            return
        self._lines.forget(task.pid)
        world.remove_task(task)
        world.out.append(Exited(world.time, world.line, task.pid, end.status, end.signal))
        if self._held:
            self._release()

    # --- whose child is it --------------------------------------------------------------------------------------------

    def _appears(self, record: Call | Signal | End) -> Task | None:
        """A task that nothing has told of yet."""
        world, pid = self._world, record.task
        if pid in self._held:
            self._hold(record)
            return None
        parents = world.childless
        if len(parents) == 1 and pid not in parents:
            world.time, world.line = record.time, record.line
            return tasks.born(world, next(iter(parents.values())), pid)
        if parents:
            self._hold(record)
            return None
        return self._stranger(record)

    def _stranger(self, record: Record) -> Task:
        assert not isinstance(record, Frame)
        world = self._world
        world.time, world.line = record.time, record.line
        if world.tasks and not (isinstance(record, Call) and record.name.startswith("execve")):
            world.lost(record.task, f"task {record.task}: how it came to be is not in the trace")
        return tasks.stranger(world, record.task)

    def _hold(self, record: Call | Signal | End) -> None:
        self._held.setdefault(record.task, []).append(record)
        self._held_records += 1
        self._held_characters += len(record.text) if isinstance(record, Call) else 0
        if self._held_records > _MOST_HELD or self._held_characters > _MOST_HELD_CHARACTERS:
            self._give_up()

    def _release(self) -> None:
        """After a fork has returned: takes up children that are known now, or that only one call can have made."""
        world = self._world
        for pid in list(self._held):
            if pid not in world.tasks:
                open_forks = list(itertools.islice(world.childless.values(), 2))
                if len(open_forks) == 1 and len(self._held) == 1:
                    tasks.born(world, open_forks[0], pid)
                elif not open_forks:
                    self._stranger(self._held[pid][0])
                else:
                    continue
            self._replay(pid)

    def _replay(self, pid: int) -> None:
        """With their own times and lines. A fork among them may tell of others that are held: those come later."""
        world = self._world
        now = world.time, world.line
        records = self._held.pop(pid)
        self._held_records -= len(records)
        self._held_characters -= sum(len(r.text) for r in records if isinstance(r, Call))
        held, self._held = self._held, {}
        for record in records:
            self._record(record)
        for other, more in self._held.items():
            held.setdefault(other, []).extend(more)
        self._held = held
        world.time, world.line = now

    def _give_up(self) -> None:
        for pid in list(self._held):
            if pid not in self._world.tasks:
                self._stranger(self._held[pid][0])
            self._replay(pid)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _finish(self, lines: int) -> None:
        world = self._world
        for task in list(self._words.values()):
            try:
                words.say(world, task)
            except Garbled as why:
                world.lost(task.pid, str(why))
        while self._held:
            self._give_up()
        if not lines:
            world.lost(0, "the trace is empty")
        elif not self._lines.understood:
            world.lost(0, "not one line of it is one of strace's")
        if (more := world.complaints - MOST_COMPLAINTS) > 0:
            world.out.append(Lost(world.time, world.line, 0, f"{more} more places like these cannot be read"))


_OWN_NUMBER = re.compile(
    r"(?:\S+ +)?(?:set_tid_address\([^()]*\)|getpid\(\)|gettid\(\)) += (\d{1,9})\s*(?:<|$)"
    r"|\[pid +(\d{1,9})\] .*<\.\.\. (?:clone3?|v?fork) resumed>"
)
_HAS_NUMBER = re.compile(r"\d{1,8}(?:<[^>]*>)?\s+\S|\[pid +\d")
_LOOK_AHEAD = 2000


def events(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a trace, from the lines of strace's output, with or without their ends of line.

    Streams, in memory bounded by what the traced processes have open at a time. Never raises because of what the lines
    hold: what is damaged, or missing, is told as Lost and the rest goes on.
    """
    source = iter(lines)
    first = next(source, None)
    if first is None:
        return Reader().read(())
    if _HAS_NUMBER.match(first):
        return Reader().read(itertools.chain([first], source))
    return _without_numbers(first, source)


def _without_numbers(first: str, source: Iterator[str]) -> Iterator[Event]:
    """Lines are without a number while there is one task: which one it is comes out soon, if at all."""
    ahead = [first]
    alone = 0
    for line in itertools.chain([first], itertools.islice(source, _LOOK_AHEAD)):
        if line is not first:
            ahead.append(line[: 1 << 16])
        if found := _OWN_NUMBER.match(line[:4096]):
            alone = int(found[1] or found[2])
            break
    yield from Reader(alone).read(itertools.chain(ahead, source))

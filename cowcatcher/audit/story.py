"""What is known of every process after each event: its memory, its pins, its relatives.

Rules look at the story *before* it takes an event in: what was so when the call was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cowcatcher.audit import events as ev
from cowcatcher.audit.events import Event, Range
from cowcatcher.audit.family import CALLERS, CHUNKS, HUGE, LET_GO, ORPHANS, RECENT, Memory, Orphan, Process, keep
from cowcatcher.audit.pins import FRAMES, Pin
from cowcatcher.audit.vmas import Kind, Seen

#: Advice that is kept as provenance, only the last of each line being in force.
KEPT = ({"HUGEPAGE", "NOHUGEPAGE", "COLLAPSE"}, {"MERGEABLE", "UNMERGEABLE"})
#: Advice that takes pages out of the mapping, or may.
TAKES_OUT = frozenset({"DONTNEED", "DONTNEED_LOCKED", "REMOVE", "FREE"})
#: Events of a process that nobody announced, kept in case the announcement comes late.
PENDING = 64
#: Events by which a child's first call may come before the news of its birth.
EARLY = 1000
#: Nothing in user space lies above (five-level page tables); what a damaged trace says beyond that is not believed.
TOP = 1 << 57


#: What the end of a process comes with, or is no more than closing something.
ENDS = (ev.Exited, ev.Unpinned, ev.LetGo)


class Story:
    """``take`` each event once, in order. ``known`` are the processes by id, the living ones only."""

    def __init__(self) -> None:
        self.n = 0
        self.known: dict[int, Process] = {}
        self._tasks: dict[int, Process] = {}
        self._take: dict[type[Event], Callable[[Seen, Any, Process], None]] = {
            ev.Forked: self._forked,
            ev.Execed: self._execed,
            ev.Exited: self._exited,
            ev.Present: self._present,
            ev.Mapped: self._mapped,
            ev.Unmapped: self._unmapped,
            ev.Moved: self._moved,
            ev.Protected: self._protected,
            ev.Advised: self._advised,
            ev.OpenedDirect: self._opened,
            ev.Pinned: self._pinned,
            ev.Unpinned: self._unpinned,
            ev.Freed: self._freed,
            ev.LetGo: self._let_go,
            ev.ForkInit: self._fork_init,
            ev.Library: self._library,
            ev.Frames: self._frames,
            ev.HugePages: self._huge,
            ev.Chunks: self._chunks,
        }

    # --- asking -------------------------------------------------------------------------------------------------------

    def process_of(self, task: int) -> Process:
        """The process that a task is of; one nobody has spoken of is a process of its own, with unknown memory."""
        process = self._tasks.get(task)
        if process is None:
            process = self._start(Process(task, 0, "", Memory(), {task}, guessed=True))
        return process

    def find(self, pid: int) -> Process | None:
        return self.known.get(pid)

    def seen(self, event: Event) -> Seen:
        """The event as it will be known once it is taken."""
        process = self._tasks.get(event.task) or self.process_of(event.task)
        return Seen(self.n + 1, process.pid, event)

    # --- taking -------------------------------------------------------------------------------------------------------

    def take(self, event: Event) -> Seen:
        seen = self.seen(event)
        self.happened(seen)
        return seen

    def happened(self, seen: Seen) -> None:
        """``seen`` is the next event, as ``seen()`` gave it."""
        event = seen.event
        process = self._tasks.get(event.task) or self.process_of(event.task)
        self.n = seen.n
        if process.guessed and len(process.pending) < PENDING:
            process.pending.append(seen)
        process.heard |= type(event) not in ENDS
        handler = self._take.get(type(event))
        if handler is not None:
            handler(seen, event, process)

    def _start(self, process: Process) -> Process:
        self.known[process.pid] = process
        process.memory.users.add(process.pid)
        for task in process.tasks:
            self._tasks[task] = process
        return process

    def _end(self, process: Process, seen: Seen) -> None:
        process.ended = seen
        for task in process.tasks:
            if self._tasks.get(task) is process:
                del self._tasks[task]
        if self.known.get(process.pid) is process:
            del self.known[process.pid]
        self._leave(process, seen)

    def _leave(self, process: Process, seen: Seen) -> None:
        """The process has nothing to do with its memory any more."""
        memory = process.memory
        for pin in memory.pins.of(process.pid):
            memory.pins.remove(pin)
            _touch_orphans(memory, pin)
        memory.stamp += 1
        memory.users.discard(process.pid)
        if not memory.users:
            memory.die(seen)

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _forked(self, seen: Seen, event: ev.Forked, process: Process) -> None:
        if event.child == event.task:
            return
        before = self._tasks.get(event.child)
        if event.thread:
            if before is not None and before is not process:
                self._forget_task(before, event.child, seen)
            process.tasks.add(event.child)
            self._tasks[event.child] = process
            return
        if before is process:
            process.tasks.discard(event.child)
        elif before is not None:
            self._forget_task(before, event.child, seen)
        memory = process.memory if event.shares_mm else process.memory.fork(seen)
        child = self._start(Process(event.child, process.pid, process.program, memory, {event.child}, env=process.env))
        child.direct = dict(process.direct)
        child.fork_inits = list(process.fork_inits)
        child.libraries = dict(process.libraries)
        child.let_go = dict.fromkeys(process.let_go, False)
        if before is not None and before.guessed and before.pending and self.n - before.pending[0].n < EARLY:
            self._catch_up(child, before.pending)

    def _catch_up(self, child: Process, pending: list[Seen]) -> None:
        """What the child did came before the news of its birth."""
        for early in pending:
            handler = self._take.get(type(early.event))
            if handler is not None and not isinstance(early.event, ev.Forked) and child.ended is None:
                handler(early, early.event, child)

    def _forget_task(self, process: Process, task: int, seen: Seen) -> None:
        process.tasks.discard(task)
        if not process.tasks or process.pid == task:
            self._end(process, seen)

    def _execed(self, seen: Seen, event: ev.Execed, process: Process) -> None:
        self._leave(process, seen)
        for task in process.tasks - {process.pid, event.task}:
            if self._tasks.get(task) is process:
                del self._tasks[task]
        process.tasks = {process.pid, event.task}
        self._tasks[process.pid] = process
        process.memory = Memory()
        process.memory.users.add(process.pid)
        process.program = event.path.rsplit("/", 1)[-1]
        process.env = event.env
        process.fork_inits, process.libraries = [], {}
        process.registered = process.transfers = process.sent = process.verbs = 0

    def _exited(self, seen: Seen, event: ev.Exited, process: Process) -> None:
        """A tracer hears of the first thread's exit last, so that is the end of the process."""
        if event.task != process.pid:
            process.tasks.discard(event.task)
            self._tasks.pop(event.task, None)
        if event.task == process.pid or not process.tasks:
            self._end(process, seen)

    def _present(self, seen: Seen, event: ev.Present, process: Process) -> None:
        group = process if event.process in (event.task, process.pid) else self.process_of(event.process)
        if group is not process and process.guessed:
            self._forget_task(process, event.task, seen)
            group.tasks.add(event.task)
            self._tasks[event.task] = group
        if event.task == event.process or not group.program:
            group.program, group.parent = event.name, event.parent
        group.guessed, group.pending = False, []

    # --- mappings -----------------------------------------------------------------------------------------------------

    def _mapped(self, seen: Seen, event: ev.Mapped, process: Process) -> None:
        memory = process.memory
        page = event.page if event.page > 0 else ev.PAGE
        where = believed(event.range, page)
        if not event.line and is_told_again(memory, event):
            return
        self._touch(memory, seen, where, takes_out=True)
        memory.space.put(
            where, Kind(event.private, event.anonymous, event.prot, page, event.what, None, None, seen, ())
        )
        memory.covers(where)

    def _unmapped(self, seen: Seen, event: ev.Unmapped, process: Process) -> None:
        where = believed(event.range)
        self._touch(process.memory, seen, where, takes_out=True)
        process.memory.space.drop(where)

    def _moved(self, seen: Seen, event: ev.Moved, process: Process) -> None:
        memory = process.memory
        old, new = believed(event.old), believed(event.new)
        if old.start != new.start:
            self._touch(memory, seen, new, takes_out=True)
        elif new.end < old.end:
            self._touch(memory, seen, Range(new.end, old.end), takes_out=True)
        self._touch(memory, seen, old)
        memory.orphans.touched(new)
        if not event.keeps:
            memory.replaces(old, seen)
        memory.covers(new)
        memory.space.move(old, new, event.keeps, lambda kind: with_change(kind, seen))
        if len(memory.pins) and old.start < old.end:
            memory.pins.move(old, new)

    def _protected(self, seen: Seen, event: ev.Protected, process: Process) -> None:
        where = believed(event.range)
        self._touch(process.memory, seen, where)
        process.memory.space.change(where, lambda kind: protected(kind, seen, event.prot))

    def _advised(self, seen: Seen, event: ev.Advised, process: Process) -> None:
        where = believed(event.range)
        space = process.memory.space
        if event.partly and all(kind is not None for _, kind in space.over(where)):
            return  # no hole: some kernels say the same at vm.max_map_count, and stop
        self._touch(process.memory, seen, where, takes_out=event.advice in TAKES_OUT)
        stays = event.advice in ("DONTFORK", "WIPEONFORK") and not event.partly
        if event.advice == "DOFORK":
            process.memory.replaces(where, seen)
        space.change(where, lambda kind: advised(kind, seen, event.advice), gaps=stays)

    def _touch(self, memory: Memory, seen: Seen, where: Range, takes_out: bool = False) -> None:
        """The pins there hear of it."""
        if isinstance(seen.event, ev.Mapped | ev.Unmapped | ev.Moved) and takes_out:
            memory.replaces(where, seen)
        if memory.orphans:
            memory.stamp += 1
            memory.orphans.touched(where)
        if not len(memory.pins) or where.start >= where.end:
            return
        for pin in memory.pins.over(where):
            pin.note(seen)
            pin.torn |= takes_out
            pin.freed |= isinstance(seen.event, ev.Freed) or (takes_out and not isinstance(seen.event, ev.Advised))
            if pin.is_registered:
                memory.stamp += 1

    # --- pins ---------------------------------------------------------------------------------------------------------

    def _let_go(self, seen: Seen, event: ev.LetGo, process: Process) -> None:
        if len(process.let_go) < LET_GO:
            process.let_go.setdefault(event.handle, process.heard)

    def _opened(self, seen: Seen, event: ev.OpenedDirect, process: Process) -> None:
        if len(process.direct) > 4096:
            process.direct.clear()
        process.direct[event.fd] = seen

    def _pinned(self, seen: Seen, event: ev.Pinned, process: Process) -> None:
        memory = process.memory
        before = memory.pins.get(process.pid, event.handle)
        if before is not None:
            memory.pins.remove(before)
            _touch_orphans(memory, before)
        ranges = tuple(r for r in event.ranges if 0 <= r.start < r.end <= TOP)
        pin = Pin(seen, event, ranges)
        memory.pins.add(pin)
        _touch_orphans(memory, pin)
        if event.interface not in ev.REGISTERED:
            process.transfers += 1
            process.sent += event.interface in ("vmsplice", "msg_zerocopy")
            return
        process.registered += 1
        process.verbs += event.interface in ("ibv_reg_mr", "odp_reg_mr")
        memory.stamp += 1

    def _unpinned(self, seen: Seen, event: ev.Unpinned, process: Process) -> None:
        memory = process.memory
        pin = memory.pins.get(process.pid, event.handle)
        if pin is None:
            return
        memory.pins.remove(pin)
        _touch_orphans(memory, pin)
        pin.ended = seen
        keep(memory.recent, pin, RECENT)
        if not pin.is_registered:
            return
        memory.stamp += 1
        for where in pin.ranges:
            self._orphan(memory, pin, where, seen)

    def _orphan(self, memory: Memory, pin: Pin, where: Range, seen: Seen) -> None:
        """DONTFORK that was given for this registration, and outlives it so far."""
        rounded = where.pages(self.page_at(memory, where.start))
        for piece, kind in memory.space.over(rounded):
            advice = kind.dontfork if kind is not None else None
            if advice is None or memory.pins.over(piece) or len(memory.orphans) == ORPHANS:
                continue
            assert isinstance(advice.event, ev.Advised)
            given = believed(advice.event.range)
            if rounded.start <= given.start and given.end <= rounded.end:
                group = (pin.interface, pin.event.stack[:CALLERS], advice.event.stack[:CALLERS])
                memory.orphans.add(Orphan(piece, pin, seen, advice, kind.page if kind else ev.PAGE), group)

    def page_at(self, memory: Memory, address: int) -> int:
        kind = memory.space.at(address)
        return kind.page if kind is not None else ev.PAGE

    def _freed(self, seen: Seen, event: ev.Freed, process: Process) -> None:
        self._touch(process.memory, seen, event.range)

    # --- other --------------------------------------------------------------------------------------------------------

    def _fork_init(self, seen: Seen, event: ev.ForkInit, process: Process) -> None:
        if len(process.fork_inits) < 8:
            process.fork_inits.append(seen)

    def _library(self, seen: Seen, event: ev.Library, process: Process) -> None:
        if len(process.libraries) < 64:
            process.libraries[event.name] = event.version

    def _frames(self, seen: Seen, event: ev.Frames, process: Process) -> None:
        """Remember the frames of pinned pages; 0 says nothing."""
        for address, frame in frames_of(event):
            if frame:
                for pin in process.memory.pins.over(Range(address, address + ev.PAGE)):
                    if address in pin.frames or len(pin.frames) < FRAMES:
                        pin.frames[address] = frame

    def _huge(self, seen: Seen, event: ev.HugePages, process: Process) -> None:
        keep(process.memory.huge, event, HUGE)
        process.memory.stamp += 1

    def _chunks(self, seen: Seen, event: ev.Chunks, process: Process) -> None:
        keep(process.memory.chunks, event, CHUNKS)
        process.memory.stamp += 1


# --- pieces -----------------------------------------------------------------------------------------------------------


def _touch_orphans(memory: Memory, pin: Pin) -> None:
    if memory.orphans:
        for where in pin.ranges:
            memory.orphans.touched(where)


def believed(where: Range, page: int = ev.PAGE) -> Range:
    """Rounded out to pages, within what can be an address; an empty range for anything else."""
    start, end = where
    if start < 0:
        start = 0
    if end > TOP:
        end = TOP
    if start >= end:
        return Range(start, start)
    if start % page == 0 and end % page == 0:
        return where if where[0] == start and where[1] == end else Range(start, end)
    return Range(start, end).pages(page)


def is_told_again(memory: Memory, event: ev.Mapped) -> bool:
    """Read from /proc once more: the mapping is known, and is as it was."""
    if event.line:
        return False
    pieces = list(memory.space.over(event.range))
    told = Kind(event.private, event.anonymous, event.prot, event.page, event.what)
    return bool(pieces) and all(kind is not None and kind[:5] == told[:5] for _, kind in pieces)


def frames_of(event: ev.Frames) -> Iterator[tuple[int, int]]:
    return ((event.start + i * ev.PAGE, frame) for i, frame in enumerate(event.frames))


def with_change(kind: Kind, seen: Seen) -> Kind:
    """The last of each sort of change counts."""
    others = tuple(s for s in kind.changes if type(s.event) is not type(seen.event))
    return kind._replace(changes=(*others, seen))


def protected(kind: Kind, seen: Seen, prot: str) -> Kind:
    """mprotect() back to what the mapping was made with leaves no mark."""
    others = tuple(s for s in kind.changes if not isinstance(s.event, ev.Protected))
    made = kind.made.event if kind.made is not None else None
    if isinstance(made, ev.Mapped) and made.prot == prot:
        return kind._replace(prot=prot, changes=others)
    return kind._replace(prot=prot, changes=(*others, seen))


def advised(kind: Kind, seen: Seen, advice: str) -> Kind:
    if advice == "DONTFORK":
        return kind if kind.dontfork is not None else kind._replace(dontfork=seen)
    if advice == "WIPEONFORK":
        return kind if kind.wipe is not None else kind._replace(wipe=seen)
    if advice == "DOFORK":
        return kind._replace(dontfork=None)
    if advice == "KEEPONFORK":
        return kind._replace(wipe=None)
    for line in KEPT:
        if advice in line:
            others = tuple(s for s in kind.changes if not (isinstance(s.event, ev.Advised) and s.event.advice in line))
            return kind._replace(changes=(*others, seen))
    return kind

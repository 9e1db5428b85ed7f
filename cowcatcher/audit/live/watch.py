"""/proc looked at beside a trace: after each event that makes a look worth it, and now and then.

A look comes after its event, by as much as the reader is behind the program: what it says is how things are by then.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal

from cowcatcher.audit.events import (
    PAGE,
    REGISTERED,
    Advised,
    CopiesAtFork,
    Event,
    Execed,
    Exited,
    Forked,
    Freed,
    Library,
    Lost,
    Mapped,
    Moved,
    Pinned,
    Present,
    Range,
    Unmapped,
    Unpinned,
)
from cowcatcher.audit.live import proc, rdma
from cowcatcher.audit.live.bpf import BpfTraced
from cowcatcher.audit.live.chunks import chunks
from cowcatcher.audit.live.tracer import Traced
from cowcatcher.audit.strace import events as events_of

_WAITING: Final = 10_000  # events read and not yet looked at: then the program waits
_SHARE: Final = 0.05  # of the time may go into looking
_CREDIT: Final = 0.5  # seconds of it at once
_SOON: Final = (0.02, 0.1, 0.5)  # seconds after something was done to pinned memory
_MOST_AGAIN: Final = 256
_VMAS_EVERY: Final = 0.02
_MOST_PIECES: Final = 32  # of a process's pins, looked at each time
_FORK_ADVICE: Final = frozenset({"DONTFORK", "DOFORK", "WIPEONFORK", "KEEPONFORK"})


@dataclass(slots=True)
class _Process:
    """``frames`` as they were told last, by the first page."""

    pid: int
    pins: dict[str, tuple[Range, ...]] = field(default_factory=dict)
    frames: dict[int, tuple[int, ...]] = field(default_factory=dict)
    huge_told: float = 0.0
    vmas_told: float = 0.0
    lost_told: bool = False


class _Budget:
    """How much looking is still allowed: a share of the time that has passed, some of it at once."""

    def __init__(self) -> None:
        self._left, self._at = _CREDIT, time.monotonic()

    def allows(self) -> bool:
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * _SHARE, _CREDIT)
        self._at = now
        return self._left > 0

    def spend(self, seconds: float) -> None:
        self._left -= seconds


class Watcher:
    """What is to be looked at: fed with every event, it says what a look has shown."""

    def __init__(self) -> None:
        self._processes: dict[int, _Process] = {}
        self._leaders: dict[int, int] = {}
        self._budget = _Budget()
        self._told_blind = self._asked = False
        self._again: list[tuple[float, int]] = []

    def after(self, event: Event) -> Iterator[Event]:
        """Looks that ``event`` gives reason for."""
        match event:
            case Present():
                self._leaders[event.task] = event.process
            case Forked():
                if event.thread:
                    self._leaders[event.child] = self._leader(event.task)
                elif not event.shares_mm and (process := self._known(event.task)):
                    yield from self._look(process, self._frames_of(process), self._huge(process))
            case Execed() | Exited():
                self._gone(event)
            case Pinned() if event.interface in REGISTERED:
                yield from self._pinned(event)
            case Unpinned():
                if process := self._known(event.task):
                    process.pins.pop(event.handle, None)
            case Advised() if event.advice in _FORK_ADVICE:
                process = self._process(event.task)
                yield from self._look(process, self._vmas(process))
            case Advised() | Unmapped() | Freed() | Moved() | Mapped():
                self._suspect(event)
            case Lost() if event.task:
                yield from self._lost(event)
            case Library():
                yield from self._kernels_word(event.task)
            case _:
                pass

    def _lost(self, event: Lost) -> Iterator[Event]:
        """Whether that matters: what the process has, once."""
        process = self._process(event.task)
        if not process.lost_told:
            process.lost_told = True
            yield from self._look(process, proc.direct_files(process.pid), self._verbs(process))

    def _kernels_word(self, task: int) -> Iterator[Event]:
        """Asked once, and only where somebody has to do with RDMA: the question may load a module."""
        if self._asked:
            return
        self._asked = True
        found = rdma.rdma_copy_on_fork()
        if found.answer is not None:
            yield CopiesAtFork(time.time(), 0, task, found.answer, found.why)

    def _suspect(self, event: Advised | Unmapped | Freed | Moved | Mapped) -> None:
        """Something is done to pinned memory: its pages may be others as soon as the program touches them again."""
        where = event.old if isinstance(event, Moved) else event.range
        process = self._processes.get(self._leaders.get(event.task, event.task))
        if process and any(r.overlap(where) for ranges in process.pins.values() for r in ranges):
            now = time.monotonic()
            self._again += [(now + delay, process.pid) for delay in _SOON]
            del self._again[:-_MOST_AGAIN]

    def due(self) -> float | None:
        """When :meth:`again` has something to look at."""
        return min((at for at, _ in self._again), default=None)

    def again(self) -> Iterator[Event]:
        """Looks at pages that something was done to a moment ago."""
        now = time.monotonic()
        ready = {pid for at, pid in self._again if at <= now}
        self._again = [(at, pid) for at, pid in self._again if at > now]
        for pid in ready:
            if process := self._processes.get(pid):
                yield from self._look(process, self._frames_of(process))

    def now(self) -> Iterator[Event]:
        """Looks at everything that holds a pin."""
        for process in list(self._processes.values()):
            if process.pins:
                process.huge_told = 0.0
                yield from self._look(
                    process, self._frames_of(process), self._vmas(process), self._huge(process), self._verbs(process)
                )

    # --- who ----------------------------------------------------------------------------------------------------------

    def _leader(self, task: int) -> int:
        if task not in self._leaders:
            self._leaders[task] = proc.process_of(task) or task
        return self._leaders[task]

    def _known(self, task: int) -> _Process | None:
        return self._processes.get(self._leader(task))

    def _process(self, task: int) -> _Process:
        pid = self._leader(task)
        return self._processes.setdefault(pid, _Process(pid))

    def _gone(self, event: Event) -> None:
        leader = self._leaders.pop(event.task, event.task)
        if leader == event.task or isinstance(event, Execed):
            self._processes.pop(leader, None)

    # --- looks --------------------------------------------------------------------------------------------------------

    def _look(self, process: _Process, *looks: Iterator[Event]) -> Iterator[Event]:
        for look in looks:
            if not self._budget.allows():
                return
            started = time.monotonic()
            found = list(look)
            self._budget.spend(time.monotonic() - started)
            yield from found

    def _pinned(self, event: Pinned) -> Iterator[Event]:
        process = self._process(event.task)
        process.pins[event.handle] = event.ranges
        if not self._told_blind:
            self._told_blind = True
            if why := proc.blind():
                yield Lost(time.time(), 0, process.pid, why)
        yield from self._look(
            process,
            self._frames(process, event.ranges),
            self._chunks(process, event.ranges),
            self._vmas(process),
            self._huge(process),
        )

    def _frames_of(self, process: _Process) -> Iterator[Event]:
        pieces = [r for ranges in process.pins.values() for r in ranges]
        yield from self._frames(process, pieces)

    def _frames(self, process: _Process, pieces: Iterable[Range]) -> Iterator[Event]:
        """Only what has changed since it was told."""
        for piece in list(pieces)[:_MOST_PIECES]:
            found = proc.frames(process.pid, piece)
            if found and process.frames.get(found.start) != found.frames:
                process.frames[found.start] = found.frames
                yield found

    def _chunks(self, process: _Process, pieces: Iterable[Range]) -> Iterator[Event]:
        for piece in list(pieces)[:_MOST_PIECES]:
            # Whole pages are nobody else's.
            if (piece.start % PAGE or piece.end % PAGE) and (found := chunks(process.pid, piece)):
                yield found

    def _vmas(self, process: _Process) -> Iterator[Event]:
        now = time.monotonic()
        if now - process.vmas_told < _VMAS_EVERY:
            return
        process.vmas_told = now
        if found := proc.vma_count(process.pid):
            yield found

    def _huge(self, process: _Process) -> Iterator[Event]:
        """smaps walks the page tables: once a second at most."""
        now = time.monotonic()
        if now - process.huge_told < 1:
            return
        process.huge_told = now
        pinned = [r for ranges in process.pins.values() for r in ranges]
        for found in proc.huge_pages(process.pid):
            if any(found.range.overlap(r) for r in pinned):
                yield found

    def _verbs(self, process: _Process) -> Iterator[Event]:
        if found := rdma.rdma_core_version(process.pid):
            yield Library(time.time(), 0, process.pid, "libibverbs", found[0])
            yield from self._kernels_word(process.pid)


def watched(
    events: Iterable[Event], every: float = 0.0, seconds: float | None = None, *, program: int = 0, linger: float = 0.0
) -> Iterator[Event]:
    """``events`` as they come, and after them what /proc shows; ``every`` so many seconds everything that is pinned.

    After ``seconds``, if given, it ends; or ``linger`` seconds after the process ``program`` has.
    """
    watcher = Watcher()
    waiting: queue.Queue[Event | BaseException | None] = queue.Queue(_WAITING)
    stop = threading.Event()
    threading.Thread(target=_read, args=(events, waiting, stop), daemon=True, name="audit-reader").start()
    now = time.monotonic()
    due, end = now + every, None if seconds is None else now + seconds
    try:
        while end is None or now < end:
            until = [t for t in (due if every else None, end, watcher.due()) if t is not None]
            try:
                event = waiting.get(timeout=max(min(until) - now, 0.001) if until else None)
            except queue.Empty:
                event = _NOTHING
            if event is None:
                return
            if isinstance(event, BaseException):
                raise event
            if event is not _NOTHING:
                yield event
                yield from watcher.after(event)
            now = time.monotonic()
            if isinstance(event, Exited) and event.task == program:
                end = now + linger
            if (again := watcher.due()) and now >= again:
                yield from watcher.again()
            if every and now >= due:
                yield from watcher.now()
                due = now + every
    finally:
        stop.set()


_NOTHING: Final = Lost(0.0, 0, 0, "")


def _read(events: Iterable[Event], waiting: queue.Queue[Event | BaseException | None], stop: threading.Event) -> None:
    """In a thread of its own, for a line may be long in coming."""

    def put(event: Event | BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(event, timeout=0.5)
                return

    try:
        for event in events:
            put(event)
            if stop.is_set():
                return
    except BaseException as error:  # for the other thread to raise
        put(error)
    else:
        put(None)


# --- all of it together -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """``shim``: preload it. ``stacks``: whole ones, by strace. ``io``: stop at every transfer. ``maps``: and at every
    change of a mapping. ``every``: seconds between looks at /proc. ``seconds``: stop after so many. ``linger``:
    seconds for which processes are watched that a program has left behind, such as a daemon.

    ``tracer`` bpftrace knows neither of the first four: it takes the shim, and prints what is printed beside it.
    """

    tracer: Literal["strace", "bpftrace"] = "strace"
    shim: bool = True
    stacks: bool = False
    io: bool = False
    maps: bool = False
    every: float = 2.0
    seconds: float | None = None
    linger: float = 2.0


class Watched:
    """A program that is watched. ``with`` it; read :meth:`events` to their end, or leave; then ask :meth:`wait`."""

    def __init__(self, traced: Traced | BpfTraced, options: Options) -> None:
        self._traced, self._options = traced, options

    @property
    def pid(self) -> int:
        return self._traced.pid

    def __enter__(self) -> Watched:
        self._traced.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._traced.__exit__(kind, error, trace)

    def events(self) -> Iterator[Event]:
        options = self._options
        return watched(self._told(), options.every, options.seconds, program=self.pid, linger=options.linger)

    def _told(self) -> Iterator[Event]:
        """Waits for the first line when it is asked for the first event: an idle process may be long in giving one."""
        yield from self._traced.before()
        yield from events_of(self._traced.lines())
        yield from self._traced.after()

    def wait(self) -> int:
        """The program's exit status, or minus the signal that ended it. 0 for an attached process."""
        return self._traced.wait()


def launch(command: Sequence[str], options: Options | None = None) -> Watched:
    """Start ``command`` and watch it. Raises TraceError."""
    options = options or Options()
    if options.tracer == "bpftrace":
        return Watched(BpfTraced.launch(command), options)
    traced = Traced.launch(
        command, with_shim=options.shim, stacks="full" if options.stacks else "shim", io=options.io, maps=options.maps
    )
    return Watched(traced, options)


def attach(pid: int, options: Options | None = None) -> Watched:
    """Watch a process that is there, its threads and the children it makes. Raises TraceError."""
    options = options or Options()
    return Watched(Traced.attach(pid, stacks="full" if options.stacks else "shim"), options)

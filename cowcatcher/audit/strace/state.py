"""What has to be remembered of a trace to know what a call did: tasks, memories, open files, transfers in flight.

All of it is bounded by what lives: a task goes when it ends, a file when its last descriptor is closed, a transfer when
it is over. Where a trace does not say so (ends are left out, or the file is hostile), the limits below hold, and are
told.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from cowcatcher.audit.events import Event, Interface, LetGo, Lost, Pinned, Range, Unpinned
from cowcatcher.audit.strace.arguments import Garbled, Value, parse
from cowcatcher.audit.strace.lines import Call, Looks

MOST_TASKS = 1 << 15
MOST_DESCRIPTORS = 1 << 20  # of all tables together
MOST_IN_FLIGHT = 1 << 14  # of one memory
MOST_COMPLAINTS = 50

_RESULT = re.compile(r"\s*= (?:(-\d{1,9})|0x([0-9a-f]{1,16})|(\d{1,20}))(?![^\s<])")


def result(rest: str | None) -> int | None:
    """The number a call returned; -1 for any failure, None where it did not return ("= ?")."""
    if rest is None:
        raise Garbled("the line breaks off")
    found = _RESULT.match(rest)
    if not found:
        if rest.lstrip().startswith(("= ?", "<unfinished ...>", "<unavailable>")):
            return None
        raise Garbled("there is no result")
    failed, hexadecimal, decimal = found.groups()
    return -1 if failed else int(hexadecimal, 16) if hexadecimal else int(decimal)


def succeeded(call: Call) -> tuple[list[Value], int] | None:
    """(arguments, result) of a call that did something."""
    arguments, rest = parse(call.text)
    returned = result(rest)
    return None if returned is None or returned < 0 else (arguments, returned)


def argument(arguments: list[Value], index: int) -> Value | None:
    return arguments[index] if index < len(arguments) else None


@dataclass(slots=True, eq=False)
class Ring:
    """An io_uring instance: the buffers registered with it, in groups that were pinned together, by slot."""

    groups: dict[str, dict[int, Range]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Pipe:
    """What lies in it since the first vmsplice(): bytes, and the transfer whose pages they are."""

    segments: deque[tuple[int, Transfer | None]] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class File:
    """An open file description: what dup() and fork() share."""

    path: str = ""
    direct: bool = False
    refs: int = 0  # descriptors, in all tables; counted only if something ends with the last one
    ring: Ring | None = None
    pipe: Pipe | None = None
    writes_pipe: bool = False
    zerocopy: bool = False
    sends: dict[int, Transfer] = field(default_factory=dict)  # MSG_ZEROCOPY, by the number the kernel reports back
    sent: int = 0
    held: dict[Hashable, str] = field(default_factory=dict)  # handles that end with it: UMEM, DMA mappings


@dataclass(slots=True, eq=False)
class Files:
    """A table of descriptors; several tasks may use one."""

    table: dict[int, File] = field(default_factory=dict)
    cloexec: set[int] = field(default_factory=set)
    counted: set[int] = field(default_factory=set)
    users: int = 0


@dataclass(slots=True, eq=False)
class Transfer:
    """A pin that ends by itself. It is told only once something happens beside it that could matter."""

    handle: str
    interface: Interface
    ranges: tuple[Range, ...] | None  # None: the trace does not show them
    writes: bool
    detail: str
    call: str
    time: float
    line: int
    task: int
    memory: Memory
    key: Hashable
    stack: tuple[str, ...] = ()
    told: bool = False


@dataclass(slots=True, eq=False)
class Memory:
    """An address space. ``forks`` are the calls under way that copy it, ``forked`` those that were."""

    brk: int = 0
    users: int = 0
    forks: int = 0
    forked: int = 0
    in_flight: dict[Hashable, Transfer] = field(default_factory=dict)
    aio: dict[tuple[int, int], deque[Transfer]] = field(default_factory=dict)  # by context and the request's data
    attached: dict[int, int] = field(default_factory=dict)  # size by address, of shmat()
    shim: bool = False
    rings: bool = False  # an io_uring was set up
    regions: dict[int, str] = field(default_factory=dict)  # handles of what the shim saw pinned, by its own number
    path: str = ""  # of the program
    env: tuple[tuple[str, str], ...] = ()
    looked_at: tuple[Range, ...] = ()  # mappings that the shim has told of
    libraries: set[str] = field(default_factory=set)
    complaints: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Task:
    """A thread. ``sites`` are stacks that the shim announced for its next call of that name."""

    pid: int
    memory: Memory
    files: Files
    sites: dict[str, tuple[str, ...]] = field(default_factory=dict)
    where: dict[str, tuple[Range, ...]] = field(default_factory=dict)  # the same, for the memory it is given
    word: str = ""  # of the shim's, not complete yet
    seen_by_shim: list[Transfer] = field(default_factory=list)  # transfers that it saw in flight before this fork
    copying: Transfer | None = None  # process_vm_readv() or _writev(), from or to another's memory


@dataclass(slots=True, eq=False)
class Fork:
    """A fork, vfork or clone that has been entered and has not returned."""

    task: Task
    call: str
    line: int
    shares_mm: bool
    shares_files: bool
    thread: bool
    stack: tuple[str, ...]
    child: int = 0


class World:
    """Everything, and the events that have come of it so far. ``time`` and ``line`` are those of the current record."""

    def __init__(self, looks: Looks) -> None:
        self.looks = looks
        self.out: list[Event] = []
        self.tasks: dict[int, Task] = {}
        self.forking: dict[int, Fork] = {}
        self.childless: dict[int, Fork] = {}  # those whose child is not known yet
        self.time = 0.0
        self.line = 0
        self.shared_memory: dict[int, int] = {}  # size by id, of shmget()
        self.complaints = 0
        self.descriptors = 0
        self.pinned_by: dict[str, int] = {}  # task by handle, of what is held until it is given back
        self.silent: set[int] = set()  # children that have no line of their own so far
        self.shim = False  # it is in some program of this trace
        self._serial = 0

    # --- what is told -------------------------------------------------------------------------------------------------

    def handle(self, what: str) -> str:
        self._serial += 1
        return f"{what} #{self._serial}"

    def lost(self, task: int, reason: str, line: int = 0) -> None:
        """Damage of the trace; after the first few only their number is told, at the end."""
        self.complaints += 1
        if self.complaints <= MOST_COMPLAINTS:
            self.out.append(Lost(self.time, line or self.line, task, reason))

    def lost_once(self, task: Task, reason: str, matters: bool = False) -> None:
        """Something that this trace cannot show, once for each program."""
        if reason not in task.memory.complaints and len(task.memory.complaints) < MOST_COMPLAINTS:
            task.memory.complaints.add(reason)
            self.out.append(Lost(self.time, self.line, task.pid, reason, matters))

    def stack(self, task: Task, *names: str) -> tuple[str, ...]:
        """Where the shim said that this call is made from."""
        if task.sites:
            for name in names:
                if stack := task.sites.pop(name, None):
                    return stack
        return ()

    # --- transfers ----------------------------------------------------------------------------------------------------

    def start(self, transfer: Transfer) -> None:
        memory = transfer.memory
        if len(memory.in_flight) >= MOST_IN_FLIGHT:
            oldest = next(iter(memory.in_flight.values()))
            self.lost(oldest.task, f"{oldest.call}: too many transfers in flight, this one is taken to be over")
            self.finish(oldest)
        memory.in_flight[transfer.key] = transfer
        if memory.forks:
            self.tell_one(transfer, True)

    def finish(self, transfer: Transfer) -> None:
        memory = transfer.memory
        if memory.in_flight.get(transfer.key) is transfer:
            del memory.in_flight[transfer.key]
            if transfer.told:
                self.out.append(Unpinned(self.time, self.line, transfer.task, transfer.handle))

    def tell(self, memory: Memory, fork: bool = False) -> None:
        """Tells of all transfers in flight, before something else that happens to this memory is told."""
        for transfer in memory.in_flight.values():
            if not transfer.told:
                self.tell_one(transfer, fork)

    def tell_one(self, transfer: Transfer, fork: bool) -> None:
        if transfer.told:
            return
        if transfer.ranges is not None:
            transfer.told = True
            self.out.append(pinned(transfer))
        elif fork and not transfer.memory.shim:
            task = self.tasks.get(transfer.task)
            reason = (
                f"{transfer.call}() with {transfer.detail} was in flight across a fork, but where its memory lies is "
                f"not in the trace: strace shows the bytes instead"
            )
            if transfer.call in ("read", "write", "pread64", "pwrite64", "sendto"):
                reason += f" (strace -e raw={transfer.call} shows it)"
            if task:
                self.lost_once(task, reason, matters=True)

    def unpin(self, task: int, handle: str) -> None:
        self.pinned_by.pop(handle, None)
        self.out.append(Unpinned(self.time, self.line, task, handle))

    # --- descriptors --------------------------------------------------------------------------------------------------

    def opened(self, task: Task, fd: int, file: File, cloexec: bool) -> None:
        files = task.files
        if fd in files.table:
            self.closed(task, fd)
        if self.descriptors >= MOST_DESCRIPTORS:
            self.lost(task.pid, "too many open files to remember")
            return
        self.descriptors += 1
        files.table[fd] = file
        if file.ring or file.pipe or file.held or file.zerocopy:
            files.counted.add(fd)
            file.refs += 1
        if cloexec:
            files.cloexec.add(fd)

    def closed(self, task: Task, fd: int, told: bool = True) -> None:
        """``told``: that this process has not got what belongs to it any more is worth an event."""
        file = task.files.table.pop(fd, None)
        if file is None:
            return
        task.files.cloexec.discard(fd)
        self.descriptors -= 1
        if fd in task.files.counted:
            task.files.counted.discard(fd)
            file.refs -= 1
            if told and (file.ring or file.held) and file not in task.files.table.values():
                self._let_go(task.pid, file)
            if not file.refs:
                self._last_close(task.pid, file)

    def _let_go(self, task: int, file: File) -> None:
        for handle in (*(file.ring.groups if file.ring else ()), *file.held.values()):
            if self.pinned_by.get(handle, task) != task:
                self.out.append(LetGo(self.time, self.line, task, handle))

    def file(self, task: Task, fd: int | None) -> File | None:
        return None if fd is None else task.files.table.get(fd)

    def known_file(self, task: Task, fd: int, path: str = "") -> File:
        """The file of a descriptor, which may have been opened unseen."""
        file = task.files.table.get(fd)
        if file is None:
            file = File(path)
            self.opened(task, fd, file, False)
        return file

    def counted_file(self, task: Task, fd: int, path: str = "") -> File:
        """The same, of one that something ends with."""
        file = self.known_file(task, fd, path)
        if fd not in task.files.counted:
            task.files.counted.add(fd)
            file.refs += 1
        return file

    def _last_close(self, task: int, file: File) -> None:
        if file.ring:
            for handle in file.ring.groups:
                self.unpin(task, handle)
        for handle in file.held.values():
            self.unpin(task, handle)
        for send in list(file.sends.values()):
            self.finish(send)
        if file.pipe and not file.writes_pipe:  # nobody can read it any more
            for _, transfer in file.pipe.segments:
                if transfer:
                    self.finish(transfer)
            file.pipe.segments.clear()

    def copy_files(self, files: Files) -> Files:
        if self.descriptors + len(files.table) > MOST_DESCRIPTORS:
            self.lost(0, "too many open files to remember: a child's are forgotten")
            return Files()
        copied = Files(files.table.copy(), files.cloexec.copy(), files.counted.copy())
        for fd in copied.counted:
            copied.table[fd].refs += 1
        self.descriptors += len(copied.table)
        return copied

    def close_on_exec(self, task: Task) -> None:
        files = task.files
        for fd in sorted(files.counted & files.cloexec):
            self.closed(task, fd, told=False)
        if files.cloexec:
            kept = {fd: file for fd, file in files.table.items() if fd not in files.cloexec}
            self.descriptors -= len(files.table) - len(kept)
            files.table = kept
            files.cloexec.clear()

    def drop_files(self, task: Task) -> None:
        files = task.files
        files.users -= 1
        if files.users <= 0:
            for fd in sorted(files.counted):
                self.closed(task, fd, told=False)
            self.descriptors -= len(files.table)
            files.table.clear()

    def drop_memory(self, memory: Memory) -> None:
        memory.users -= 1
        if memory.users <= 0 and memory.in_flight:
            for transfer in list(memory.in_flight.values()):
                self.finish(transfer)

    # --- tasks --------------------------------------------------------------------------------------------------------

    def add_task(self, pid: int, memory: Memory, files: Files) -> Task:
        if old := self.tasks.get(pid):  # its end is not in the trace
            self.remove_task(old)
        while len(self.tasks) >= MOST_TASKS:
            oldest = next(iter(self.tasks.values()))
            self.lost(oldest.pid, f"too many tasks at once: {oldest.pid} is forgotten")
            self.remove_task(oldest)
        memory.users += 1
        files.users += 1
        task = self.tasks[pid] = Task(pid, memory, files)
        return task

    def remove_task(self, task: Task) -> None:
        self.forking_ends(task.pid)
        self.tasks.pop(task.pid, None)
        self.silent.discard(task.pid)
        transfer = task.memory.in_flight.get(("call", task.pid))
        if transfer:
            self.finish(transfer)
        for transfer in (*task.seen_by_shim, *([task.copying] if task.copying else [])):
            self.finish(transfer)
        self.drop_files(task)
        self.drop_memory(task.memory)

    def forking_ends(self, pid: int) -> Fork | None:
        fork = self.forking.pop(pid, None)
        self.childless.pop(pid, None)
        if fork and not fork.shares_mm:
            fork.task.memory.forks -= 1
        return fork


def pinned(transfer: Transfer) -> Pinned:
    return Pinned(
        transfer.time, transfer.line, transfer.task, transfer.handle, transfer.interface, transfer.ranges or (),
        transfer.writes, transfer.detail, stack=transfer.stack,
    )  # fmt: skip

"""Who is who: tasks, the processes that they are threads of, and whose memory is a copy of whose."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from cowcatcher.audit.events import Chunks, HugePages, Moved, Range
from cowcatcher.audit.pins import Pin, Pins, Places
from cowcatcher.audit.vmas import UNKNOWN, Kind, Seen, Space

#: How much is remembered of what may come without end.
CHUNKS = HUGE = 512
RECENT = 64
CHAIN = 12
ORPHANS = 1024
LET_GO = 1 << 12
LACKING = 1 << 14
#: Frames of a stack by which two findings are told apart.
CALLERS = 3


T = TypeVar("T")


def keep(items: list[T], item: T, most: int) -> None:
    """At the end of them; the oldest goes where there are too many."""
    items.append(item)
    if len(items) > most:
        del items[0]


class Lack(NamedTuple):
    """A range that a child has not, because DONTFORK was in force on it at ``fork``."""

    range: Range
    kind: Kind
    fork: Seen


class Orphan(NamedTuple):
    """A registration that is over, and the advice that was given for it."""

    range: Range
    pin: Pin
    gone: Seen
    advice: Seen
    pin_page: int


class Was(NamedTuple):
    """A range on which DONTFORK was in force, and is not any more."""

    range: Range
    kind: Kind
    ended: Seen


class Orphans:
    """By place and by group; which of them are orphans yet is asked again only where something happened."""

    __slots__ = ("_all", "_dirty", "_groups", "_left", "_number", "_places")

    def __init__(self) -> None:
        self._number = 0
        self._all: dict[int, tuple[Orphan, Hashable]] = {}
        self._left: dict[int, list[Orphan]] = {}
        self._groups: dict[Hashable, dict[int, None]] = {}
        self._places: Places[int] = Places()
        self._dirty: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, orphan: Orphan, group: Hashable) -> None:
        self._number += 1
        self._all[self._number] = orphan, group
        self._left[self._number] = [orphan]
        self._groups.setdefault(group, {})[self._number] = None
        self._places.add(orphan.range, self._number)

    def at(self, address: int) -> Orphan | None:
        """The first one that has this byte."""
        numbers = self._places.over(Range(address, address + 1))
        return self._all[min(numbers)][0] if numbers else None

    def touched(self, where: Range) -> None:
        """Something happens there."""
        self._dirty.update(self._places.over(where))

    def groups(self, memory: Memory) -> Iterator[tuple[Orphan, Iterator[Orphan]]]:
        """The first orphan of each group, and all of them: what is under DONTFORK yet, mapped, and nobody's.

        The others are forgotten.
        """
        for number in self._dirty:
            orphan, group = self._all[number]
            left = [
                piece
                for piece, kind in memory.space.over(orphan.range)
                if kind is not None and kind.dontfork is not None and not memory.pins.over(piece)
            ]
            self._left[number] = [orphan._replace(range=piece) for piece in left]
            if not left:
                self._forget(number, orphan, group)
        self._dirty.clear()
        for numbers in self._groups.values():
            yield self._left[next(iter(numbers))][0], (o for number in numbers for o in self._left[number])

    def _forget(self, number: int, orphan: Orphan, group: Hashable) -> None:
        self._places.remove(orphan.range, number)
        del self._all[number], self._left[number], self._groups[group][number]
        if not self._groups[group]:
            del self._groups[group]


class Memory:
    """An address space: of one process, or of several (vfork(), posix_spawn(), CLONE_VM) until one of them execs.

    ``copies`` are the spaces that fork() copied from it and that still live, each with the events that lead there: the
    fork, or several and the exits between. ``stamp`` changes with whatever can change a rule's mind about its pins.

    ``born`` is the memory that fork() copied, dead or alive, and the fork, if DONTFORK may have kept something back;
    ``covered`` is what was mapped here since, ``was`` what DONTFORK kept from a child and would not any more.
    """

    __slots__ = (
        "born",
        "chain",
        "chunks",
        "copies",
        "covered",
        "gone",
        "huge",
        "last_fork",
        "notes",
        "origin",
        "orphans",
        "pins",
        "recent",
        "space",
        "stamp",
        "users",
        "was",
    )  # fmt: skip

    def __init__(self, space: Space | None = None) -> None:
        self.space = space or Space()
        self.pins = Pins()
        self.users: set[int] = set()
        self.origin: Memory | None = None
        self.chain: tuple[Seen, ...] = ()
        self.copies: dict[Memory, None] = {}
        self.gone = 0
        self.born: tuple[Memory, Seen] | None = None
        self.covered = Space()
        self.last_fork: Seen | None = None
        self.was: deque[Was] = deque(maxlen=LACKING)
        self.chunks: list[Chunks] = []
        self.huge: list[HugePages] = []
        self.recent: list[Pin] = []  # pins that are over
        self.orphans = Orphans()
        self.stamp = 0
        self.notes: dict[str, tuple[int, tuple[tuple[object, ...], ...]]] = {}  # what a rule found at which stamp

    def fork(self, seen: Seen) -> Memory:
        """What the child of ``seen`` starts with: a copy of all but DONTFORK, and none of the pins."""
        child = Memory(self.space.fork())
        self.last_fork = seen
        if self.space.keeps_back or self.born is not None:
            child.born = self, seen
            child._forget_ancestors()
        child.chunks = self.chunks[:]
        child.origin, child.chain = self, (seen,)
        self.copies[child] = None
        return child

    def die(self, seen: Seen) -> None:
        """Its last process is gone, or has another memory: the copies that live are its origin's from now on."""
        origin = self.origin
        for copy in self.copies:
            copy.origin = origin
            copy.chain = (*self.chain, *copy.chain, seen)[-CHAIN:] if origin else ()
            if origin:
                origin.copies[copy] = None
        if origin:
            origin.copies.pop(self, None)
            origin.gone += 1
        self.origin = None
        self.copies = {}

    def descendants(self) -> Iterator[tuple[Memory, tuple[Seen, ...]]]:
        """The living copies, and their copies, each with the events that lead there from here."""
        above: deque[tuple[Memory, tuple[Seen, ...]]] = deque([(self, ())])
        while above:
            memory, chain = above.popleft()
            for copy in memory.copies:
                yield copy, chain + copy.chain
                if copy.copies:
                    above.append((copy, chain + copy.chain))

    def replaces(self, where: Range, seen: Seen) -> None:
        """What is there is about to be replaced, or to be copied by fork() again."""
        last = self.last_fork
        if last is None or not self.space.keeps_back:
            return
        for piece, kind in self.space.over(where):
            if kind is not None and kind.dontfork is not None and kind.dontfork.n < last.n:
                self.was.append(Was(piece, kind, seen))

    def covers(self, where: Range) -> None:
        """Something is mapped there: the memory has its own now, and lacks nothing."""
        if self.born is None:
            return
        since = UNKNOWN._replace(made=self.last_fork)
        self.covered.change(where, lambda kind: since if kind is UNKNOWN else kind, gaps=True)
        if len(self.covered) > LACKING:
            self.born, self.covered = None, Space()

    def lack(self, address: int) -> Lack | None:
        """Why fork() did not copy this byte: DONTFORK, at the nearest fork; None if it was not that."""
        memory, before = self, -1
        while memory.born is not None:
            own = memory.covered.at(address)
            if own is not None and (before < 0 or own.made is None or own.made.n < before):
                return None
            parent, fork = memory.born
            found = parent._kept_back(address, fork)
            if found is not None:
                return found
            memory, before = parent, fork.n
        return None

    def _kept_back(self, address: int, fork: Seen) -> Lack | None:
        kind, piece = self.space.at(address), self.space.piece_at(address)
        if kind is not None and piece is not None and _was_there(kind, address, fork):
            return Lack(piece, kind, fork)
        for was in reversed(self.was):
            inside = was.ended.n > fork.n and was.range.start <= address < was.range.end
            if inside and _was_there(was.kind, address, fork):
                return Lack(was.range, was.kind, fork)
        return None

    def _forget_ancestors(self) -> None:
        """Those further up than the chain is long: daemons may come from daemons without end."""
        memory = self
        for _ in range(CHAIN):
            if memory.born is None:
                return
            memory = memory.born[0]
        memory.born = None

    def is_same_page(self, address: int, other: Memory) -> bool:
        """Does ``other`` still have what fork() copied from here at this address?"""
        here, there = self.space.at(address), other.space.at(address)
        return here is not None and there is not None and here.made is not None and here.made == there.made


def _was_there(kind: Kind, address: int, fork: Seen) -> bool:
    """Was this under DONTFORK, and at this address, when the fork came?"""
    if kind.dontfork is None or kind.dontfork.n > fork.n:
        return False
    moved = next((s for s in kind.changes if isinstance(s.event, Moved)), None)
    if moved is None or moved.n < fork.n:
        return True
    assert isinstance(moved.event, Moved)
    return moved.event.old.start == moved.event.new.start and address < moved.event.old.end


@dataclass(slots=True, eq=False)
class Process:
    """``guessed``: nobody said how it came to be. ``ended``: its exit. ``heard``: something of its own was seen.

    ``let_go``: handles whose descriptors it has closed; True: it had been heard of before.

    ``registered``, ``transfers`` and ``verbs`` count what this program has pinned so far: for good, for a moment, and
    for good through libibverbs; ``sent`` those of the transfers that send pages, through a pipe or a socket.
    """

    pid: int
    parent: int
    program: str
    memory: Memory
    tasks: set[int]
    guessed: bool = False
    heard: bool = False
    let_go: dict[str, bool] = field(default_factory=dict)
    registered: int = 0
    transfers: int = 0
    sent: int = 0
    verbs: int = 0
    ended: Seen | None = None
    env: tuple[tuple[str, str], ...] = ()
    fork_inits: list[Seen] = field(default_factory=list)
    libraries: dict[str, str] = field(default_factory=dict)
    direct: dict[int, Seen] = field(default_factory=dict)
    pending: list[Seen] = field(default_factory=list)

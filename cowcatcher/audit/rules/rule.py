"""What a rule is, and what several of them ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from cowcatcher.audit.events import PAGE, Event, Range
from cowcatcher.audit.family import CALLERS, Memory, Process
from cowcatcher.audit.ledger import Key, Ledger
from cowcatcher.audit.pages import union
from cowcatcher.audit.pins import Pin
from cowcatcher.audit.story import Story
from cowcatcher.audit.vmas import Kind, Seen

#: Ranges that one finding lists.
LISTED = 64


class Text(NamedTuple):
    """A rule in words: what it ``says``, why it ``matters``, and the ``source`` of that."""

    says: str
    matters: str
    source: str


class Rule:
    """Looks at the story before each event that it ``wants`` is taken in, and reports to the ledger."""

    name: ClassVar[str]
    text: ClassVar[Text]
    wants: ClassVar[tuple[type[Event], ...]]
    #: Those that it wants only of a process that holds pins.
    wants_of_pinned: ClassVar[tuple[type[Event], ...]] = ()

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def see(self, story: Story, seen: Seen) -> None:
        """``seen`` is about to happen."""

    def finish(self, story: Story) -> None:
        """Nothing more will happen."""

    def once(self, memory: Memory) -> bool:
        """Was this memory looked at as it is? Then what was found is counted again."""
        stamp, keys = memory.notes.get(self.name, (-1, ()))
        if stamp == memory.stamp:
            self.ledger.again(keys)
            return True
        return False

    def remember(self, memory: Memory, keys: list[Key]) -> None:
        memory.notes[self.name] = (memory.stamp, tuple(keys))


def program_of(process: Process) -> str:
    return process.program or f"process {process.pid}"


def caller(stack: tuple[str, ...]) -> tuple[str, ...]:
    return stack[:CALLERS]


def key_of(rule: str, process: Process, pin: Pin, *more: object) -> Key:
    """Findings about registrations made at the same place of the same program say the same."""
    return (rule, program_of(process), pin.interface, caller(pin.event.stack), *more)


def whose(stack: tuple[str, ...]) -> str:
    """The library that a call came from; libc's own wrapper is nobody."""
    for frame in stack:
        library = frame.split("!", 1)[0]
        if library and not library.startswith(("libc.so", "libc-", "ld-linux", "cowcatcher")):
            return library
    return ""


class Exposed(NamedTuple):
    """A piece of whole pages of a pin that fork() copies the page table of. ``kind`` None: not known."""

    range: Range
    kind: Kind | None

    @property
    def is_known(self) -> bool:
        return self.kind is not None and self.kind.private is not None

    @property
    def page_size(self) -> int:
        return self.kind.page if self.kind is not None else PAGE


def exposed(memory: Memory, pin: Pin) -> Iterator[Exposed]:
    """Where a pin lies on memory that is private, or may be, and that neither DONTFORK nor WIPEONFORK keeps back."""
    for where in union(pin.ranges):
        size = page_size(memory, where)
        for piece, kind in memory.space.over(where.pages(size)):
            if kind is None or (kind.private is not False and kind.is_copied and not is_only_read(kind, pin)):
                yield Exposed(piece, kind)


def is_only_read(kind: Kind, pin: Pin) -> bool:
    """Pages of a file that nobody may write to, here or by the device: there is nothing to copy on a write."""
    return kind.anonymous is False and "w" not in kind.prot and bool(kind.prot) and not pin.event.writes


def page_size(memory: Memory, where: Range) -> int:
    kind = memory.space.at(where.start)
    return kind.page if kind is not None else PAGE


def first_page(piece: Range, size: int) -> Range:
    start = piece.start // size * size
    return Range(start, start + size)


def in_bytes(ranges: list[Range]) -> int:
    return sum(r.size for r in ranges)


def amount(number: int) -> str:
    """4096 -> "4 KiB"; what is no whole number of a unit stays bytes."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size and number % size == 0:
            return f"{number // size} {unit}"
    return f"{number} bytes"

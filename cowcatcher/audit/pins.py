"""What of one address space is in the hands of devices: by handle, and by address."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cowcatcher.audit.events import REGISTERED, Interface, Pinned, Range
from cowcatcher.audit.vmas import Seen

#: Events on a pin's pages that are kept while it is held, and pages whose frames are.
LOG = 16
FRAMES = 1 << 16


@dataclass(slots=True, eq=False)
class Pin:
    """``ranges`` as they are now: mremap() takes the pinned pages along. ``torn``: some were taken out of the mapping.
    ``freed``: some were unmapped, mapped over or given to the allocator: what is there from then on is another's.

    ``log`` holds the first events that touched its pages since, ``frames`` the frame last seen of a page.
    """

    seen: Seen
    event: Pinned
    ranges: tuple[Range, ...]
    log: list[Seen] = field(default_factory=list)
    frames: dict[int, int] = field(default_factory=dict)
    torn: bool = False
    freed: bool = False
    ended: Seen | None = None

    @property
    def interface(self) -> Interface:
        return self.event.interface

    @property
    def is_registered(self) -> bool:
        """Held until it is given back, by a pin that stays: an on-demand region holds none."""
        return self.event.interface in REGISTERED and self.event.interface != "odp_reg_mr"

    def note(self, seen: Seen) -> None:
        if len(self.log) < LOG:
            self.log.append(seen)

    def part_of(self, asked: Range) -> Range | None:
        """The first piece of the range that it holds."""
        found = [r.overlap(asked) for r in self.ranges]
        return min((r for r in found if r is not None), default=None)


T = TypeVar("T")


class Places(Generic[T]):
    """What lies where, by address: ranges of a size class together, so that a lookup is a few bisections."""

    __slots__ = ("_classes", "_count")

    def __init__(self) -> None:
        self._classes: dict[int, list[tuple[int, int, int, T]]] = {}
        self._count = 0

    def over(self, asked: Range) -> dict[T, None]:
        """What has a byte of it."""
        found: dict[T, None] = {}
        for size, entries in self._classes.items():
            i = bisect_left(entries, (asked.start - (1 << size),))
            while i < len(entries) and entries[i][0] < asked.end:
                if entries[i][1] > asked.start:
                    found[entries[i][3]] = None
                i += 1
        return found

    def add(self, r: Range, item: T) -> None:
        if r.start < r.end:
            self._count += 1
            insort(self._classes.setdefault(r.size.bit_length(), []), (r.start, r.end, self._count, item))

    def remove(self, r: Range, item: T) -> None:
        if r.start < r.end:
            size = r.size.bit_length()
            entries = self._classes[size]
            i = bisect_left(entries, (r.start, r.end))
            while entries[i][3] is not item:
                i += 1
            del entries[i]
            if not entries:
                del self._classes[size]


class Pins:
    """By handle of a process, and by address."""

    __slots__ = ("_by_handle", "_places", "registered", "transfers")

    def __init__(self) -> None:
        self._by_handle: dict[tuple[int, str], Pin] = {}
        self._places: Places[Pin] = Places()
        self.registered: dict[Pin, None] = {}
        self.transfers: dict[Pin, None] = {}

    def __len__(self) -> int:
        return len(self._by_handle)

    def __iter__(self) -> Iterator[Pin]:
        return iter(self._by_handle.values())

    def get(self, pid: int, handle: str) -> Pin | None:
        return self._by_handle.get((pid, handle))

    def add(self, pin: Pin) -> None:
        self._by_handle[pin.seen.pid, pin.event.handle] = pin
        self._index(pin)
        if pin.is_registered:
            self.registered[pin] = None
        elif pin.interface not in REGISTERED:
            self.transfers[pin] = None

    def remove(self, pin: Pin) -> None:
        del self._by_handle[pin.seen.pid, pin.event.handle]
        self._unindex(pin)
        self.registered.pop(pin, None)
        self.transfers.pop(pin, None)

    def of(self, pid: int) -> list[Pin]:
        return [pin for pin in self._by_handle.values() if pin.seen.pid == pid]

    def over(self, asked: Range) -> list[Pin]:
        """The pins that hold a byte of it, in the order in which they were taken."""
        found = self._places.over(asked)
        return sorted(found, key=lambda pin: pin.seen.n) if len(found) > 1 else list(found)

    def move(self, old: Range, new: Range) -> None:
        """The pinned pages of ``old`` are at ``new`` from now on, as far as that reaches."""
        for pin in self.over(old):
            self._unindex(pin)
            pin.ranges = tuple(piece for r in pin.ranges for piece in _moved(r, old, new))
            self._index(pin)

    def _index(self, pin: Pin) -> None:
        for r in pin.ranges:
            self._places.add(r, pin)

    def _unindex(self, pin: Pin) -> None:
        for r in pin.ranges:
            self._places.remove(r, pin)


def _moved(r: Range, old: Range, new: Range) -> Iterator[Range]:
    inside = r.overlap(old)
    if inside is None:
        yield r
        return
    yield from r.without(old)
    shift = new.start - old.start
    there = Range(inside.start + shift, inside.end + shift).overlap(new)
    if there is not None:
        yield there

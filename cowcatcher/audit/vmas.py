"""The shadow of one address space: what an audit knows of each byte, and which events made it so.

It is split where the kernel splits its mappings and joined again where two neighbours say the same and come from the
same event. What nobody was told about is a gap: unknown, not free.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cowcatcher.audit.events import PAGE, Event, Range


class Seen(NamedTuple):
    """An event as it was taken in: the ``n``-th, of process ``pid``."""

    n: int
    pid: int
    event: Event


class Kind(NamedTuple):
    """What is known of a piece of memory. ``private`` and ``anonymous`` are None where the mapping was not seen.

    ``dontfork`` and ``wipe`` put MADV_DONTFORK and MADV_WIPEONFORK in force. ``made`` is the mapping,
    ``changes`` what is still in force of what was done to it since; of each sort only the last.
    """

    private: bool | None = None
    anonymous: bool | None = None
    prot: str = ""
    page: int = PAGE
    what: str = ""
    dontfork: Seen | None = None
    wipe: Seen | None = None
    made: Seen | None = None
    changes: tuple[Seen, ...] = ()

    @property
    def is_copied(self) -> bool:
        """Does fork() copy its page table entries: no DONTFORK, and no WIPEONFORK, for which dup_mmap() skips them."""
        return self.dontfork is None and self.wipe is None

    def provenance(self) -> list[Seen]:
        """The events that made it what it is, in their order."""
        return sorted({s for s in (self.made, self.dontfork, self.wipe, *self.changes) if s is not None}, key=_number)


UNKNOWN = Kind()
#: Pieces beyond which neighbours that differ in nothing but their provenance are joined: vm.max_map_count twice over.
MANY = 1 << 17


def _number(seen: Seen) -> int:
    return seen.n


def alike(a: Kind, b: Kind) -> bool:
    """Would the kernel see one mapping: the same in everything but where it comes from?"""
    return a[:5] == b[:5] and (a.dontfork is None) == (b.dontfork is None) and (a.wipe is None) == (b.wipe is None)


class Space:
    """Sorted pieces that do not overlap. O(log n) for each change, apart from moving the lists' tails."""

    __slots__ = ("_compact_at", "_ends", "_kinds", "_lent", "_special", "_starts", "_view")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._kinds: list[Kind] = []
        self._lent = False  # the lists are another space's as well, until either changes
        self._special = False  # DONTFORK or WIPEONFORK was ever put in force here
        self._view: Space | None = None  # what a child gets, kept up to date from the first fork with DONTFORK on
        self._compact_at = MANY

    def __len__(self) -> int:
        return len(self._starts)

    def pieces(self) -> Iterator[tuple[Range, Kind]]:
        for start, end, kind in zip(self._starts, self._ends, self._kinds, strict=True):
            yield Range(start, end), kind

    def at(self, address: int) -> Kind | None:
        """The piece that holds this byte; None: nothing is known of it."""
        i = bisect_right(self._starts, address) - 1
        return self._kinds[i] if i >= 0 and self._ends[i] > address else None

    def piece_at(self, address: int) -> Range | None:
        i = bisect_right(self._starts, address) - 1
        return Range(self._starts[i], self._ends[i]) if i >= 0 and self._ends[i] > address else None

    def over(self, asked: Range) -> Iterator[tuple[Range, Kind | None]]:
        """What lies in the range, in order, cut to it; gaps have no kind."""
        at = asked.start
        i, j = self._span(asked.start, asked.end)
        for k in range(i, j):
            start, end = max(self._starts[k], asked.start), min(self._ends[k], asked.end)
            if at < start:
                yield Range(at, start), None
            yield Range(start, end), self._kinds[k]
            at = end
        if at < asked.end:
            yield Range(at, asked.end), None

    def put(self, where: Range, kind: Kind) -> None:
        """A mapping in place of whatever was there."""
        if where.start < where.end:
            self._special |= not kind.is_copied
            self._replace(where.start, where.end, [(where.start, where.end, kind)])

    def drop(self, where: Range) -> None:
        if where.start < where.end:
            i, j = self._span(where.start, where.end)
            if i < j:
                self._replace(where.start, where.end, [])

    def change(self, where: Range, how: Callable[[Kind], Kind], gaps: bool = False) -> None:
        """Each piece in the range becomes ``how`` of it. ``gaps``: so does what was unknown."""
        if where.start >= where.end:
            return
        middle = []
        for piece, kind in self.over(where):
            if kind is not None or gaps:
                new = how(kind if kind is not None else UNKNOWN)
                self._special |= not new.is_copied
                middle.append((piece.start, piece.end, new))
        if middle:
            self._replace(where.start, where.end, middle)

    def move(self, old: Range, new: Range, keeps: bool, how: Callable[[Kind], Kind]) -> None:
        """mremap(): what ``old`` held is at ``new``, cut, or its last piece stretched. An empty ``old`` duplicates."""
        if new.start >= new.end:
            return
        source = Range(old.start, old.start + 1) if old.start >= old.end else old
        moved = [(piece, kind) for piece, kind in self.over(source) if kind is not None]
        if not keeps and old.start < old.end:
            self.drop(old)
        self.drop(new)
        shift = new.start - old.start
        for number, (piece, kind) in enumerate(moved):
            end = new.end if number == len(moved) - 1 and piece.end == source.end else min(piece.end + shift, new.end)
            self.put(Range(piece.start + shift, end), how(kind))

    def fork(self) -> Space:
        """What a child gets: everything but DONTFORK. The lists are copied when one of the two changes."""
        if self._special and self._view is None:
            self._view = self._without_dontfork()
        if self._view is not None:
            return self._view.fork()
        child = Space()
        child._compact_at = self._compact_at
        child._starts, child._ends, child._kinds = self._starts, self._ends, self._kinds
        child._special = self._special
        self._lent = child._lent = True
        return child

    def _without_dontfork(self) -> Space:
        view = Space()
        view._compact_at = self._compact_at
        kept = [i for i, kind in enumerate(self._kinds) if kind.dontfork is None]
        view._starts = [self._starts[i] for i in kept]
        view._ends = [self._ends[i] for i in kept]
        view._kinds = [self._kinds[i] for i in kept]
        return view

    @property
    def keeps_back(self) -> bool:
        """May DONTFORK be in force on any of it?"""
        return self._special

    def not_copied(self) -> Iterator[tuple[Range, Kind]]:
        """What DONTFORK keeps from a child that is forked now."""
        if self._special:
            for i, kind in enumerate(self._kinds):
                if kind.dontfork is not None:
                    yield Range(self._starts[i], self._ends[i]), kind

    def runs(self) -> int:
        """How many mappings the kernel would count, at least: neighbours that are alike are one."""
        return sum(
            1
            for i in range(len(self._starts))
            if i == 0 or self._ends[i - 1] != self._starts[i] or not alike(self._kinds[i - 1], self._kinds[i])
        )

    def _span(self, start: int, end: int) -> tuple[int, int]:
        """The pieces that overlap, as the first and the one after the last."""
        i = bisect_right(self._starts, start) - 1
        if i < 0 or self._ends[i] <= start:
            i += 1
        return i, max(i, bisect_left(self._starts, end))

    def _replace(self, start: int, end: int, middle: list[tuple[int, int, Kind]]) -> None:
        if self._view is not None:
            shown = [piece for piece in middle if piece[2].dontfork is None]
            at, after = self._view._span(start, end)
            if shown or at < after:
                self._view._replace(start, end, shown)
        if self._lent:
            self._starts, self._ends, self._kinds = self._starts[:], self._ends[:], self._kinds[:]
            self._lent = False
        starts, ends, kinds = self._starts, self._ends, self._kinds
        i, j = self._span(start, end)
        if i == j and len(middle) == 1 and not self._touches(i, start, end):
            starts.insert(i, start)
            ends.insert(i, end)
            kinds.insert(i, middle[0][2])
            if len(starts) > self._compact_at:
                self._compact()
            return
        new = middle
        if i < j and starts[i] < start:
            new = [(starts[i], start, kinds[i]), *new]
        if i < j and ends[j - 1] > end:
            new = [*new, (end, ends[j - 1], kinds[j - 1])]
        if not new:
            del starts[i:j], ends[i:j], kinds[i:j]
            return
        first, last = new[0], new[-1]
        if i > 0 and ends[i - 1] == first[0] and kinds[i - 1] == first[2]:
            i -= 1
            new = [(starts[i], ends[i], kinds[i]), *new]
        if j < len(starts) and starts[j] == last[1] and kinds[j] == last[2]:
            new = [*new, (starts[j], ends[j], kinds[j])]
            j += 1
        if len(new) > 1:
            new = _joined(new)
        starts[i:j] = [piece[0] for piece in new]
        ends[i:j] = [piece[1] for piece in new]
        kinds[i:j] = [piece[2] for piece in new]
        if len(starts) > self._compact_at:
            self._compact()

    def _touches(self, i: int, start: int, end: int) -> bool:
        """Is there a piece right before or behind, where the ``i``-th is to be?"""
        return (i > 0 and self._ends[i - 1] == start) or (i < len(self._starts) and self._starts[i] == end)

    def _compact(self) -> None:
        """Join what is alike, at the price of the later one's provenance: memory stays bounded."""
        starts, ends, kinds = [self._starts[0]], [self._ends[0]], [self._kinds[0]]
        for start, end, kind in zip(self._starts[1:], self._ends[1:], self._kinds[1:], strict=True):
            if ends[-1] == start and alike(kinds[-1], kind):
                ends[-1] = end
            else:
                starts.append(start)
                ends.append(end)
                kinds.append(kind)
        self._starts, self._ends, self._kinds = starts, ends, kinds
        self._compact_at = max(MANY, 2 * len(starts))


def _joined(pieces: list[tuple[int, int, Kind]]) -> list[tuple[int, int, Kind]]:
    done = [pieces[0]]
    for start, end, kind in pieces[1:]:
        before = done[-1]
        if before[1] == start and (before[2] is kind or before[2] == kind):
            done[-1] = (before[0], end, kind)
        else:
            done.append((start, end, kind))
    return done

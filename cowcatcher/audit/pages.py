"""Whose bytes lie on a page: the pinned part, its neighbours, the allocator's own, and what nobody can tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from cowcatcher.audit.events import PAGE, Mapped, Range
from cowcatcher.audit.family import Memory
from cowcatcher.audit.finding import Owned
from cowcatcher.audit.vmas import Kind

#: What malloc() keeps in front of what it hands out (glibc on 64 bits).
HEADER = 16
#: Pages of one finding that are drawn.
DRAWN = 4


def partial_pages(ranges: Iterable[Range], page: int = PAGE) -> Iterator[Range]:
    """The first and the last page of each range, where it does not fill them."""
    last = -1
    for r in ranges:
        for start in dict.fromkeys((r.start // page * page, (r.end - 1) // page * page)):
            if start != last and not (r.start <= start and start + page <= r.end):
                last = start
                yield Range(start, start + page)


def page_map(memory: Memory, ranges: Iterable[Range], page: int = PAGE) -> tuple[Owned, ...]:
    """The pages that the ranges do not fill, a few of them; where they fill all, nothing."""
    pinned = [r for r in ranges if r.start < r.end]
    drawn: list[Owned] = []
    for number, where in enumerate(partial_pages(pinned, page)):
        if number == DRAWN:
            break
        drawn += owners(memory, where, pinned)
    return tuple(drawn)


def owners(memory: Memory, page: Range, pinned: Iterable[Range] = ()) -> list[Owned]:
    """One page, in order, without gaps. ``pinned``: what is pinned besides what the memory's pins say."""
    taken = [*pinned, *(r for pin in memory.pins.over(page) for r in pin.ranges)]
    parts = _union(r for r in (t.overlap(page) for t in taken) if r is not None)
    whole = _union(taken)
    drawn = [Owned(part, "pinned", "the buffer") for part in parts]
    rest = [page]
    for part in parts:
        rest = [piece for r in rest for piece in r.without(part)]
    for piece in rest:
        drawn += _beside(memory, piece, page, whole)
    return sorted(drawn, key=lambda owned: owned.range)


def _beside(memory: Memory, rest: Range, page: Range, pinned: list[Range]) -> Iterator[Owned]:
    """Who owns a part of the page that is not pinned: the allocator's word first, then the mapping's."""
    left = [rest]
    for chunks in reversed(memory.chunks):
        if chunks.range.overlap(rest) is None:
            continue
        for chunk, who in chunks.owners:
            for piece in tuple(left):
                part = piece.overlap(chunk)
                if part is not None:
                    yield Owned(part, _kind_of(chunk, who, part, page, pinned), _who(chunk, who, part, pinned))
                    left = [r for piece_ in left for r in piece_.without(part)]
    for piece in left:
        for part, kind in memory.space.over(piece):
            yield _of_the_mapping(part, kind, pinned)


def _own(chunk: Range, pinned: list[Range]) -> Range | None:
    """The pinned range that lies in this chunk."""
    return next((r for r in pinned if chunk.start <= r.start < chunk.end), None)


def _kind_of(chunk: Range, who: str, part: Range, page: Range, pinned: list[Range]) -> str:
    if "in use" not in who:
        return "unused"
    own = _own(chunk, pinned)
    if own is None:
        return "neighbour"
    if own.start - chunk.start > 2 * HEADER:
        return "neighbour"  # the program's own pool: the buffer is cut out of a larger allocation
    if part.end <= own.start:
        return "allocator"
    return "allocator" if chunk.end <= page.end else "neighbour"


def _who(chunk: Range, who: str, part: Range, pinned: list[Range]) -> str:
    own = _own(chunk, pinned)
    if own is None or "in use" not in who:
        return who
    if part.end <= own.start and part.size <= 2 * HEADER:
        return "header of the buffer's own chunk"
    return "the rest of the same allocation"


def _of_the_mapping(part: Range, kind: Kind | None, pinned: list[Range]) -> Owned:
    if kind is None:
        return Owned(part, "unknown", "unknown")
    made = kind.made.event if kind.made is not None else None
    if isinstance(made, Mapped) and kind.what != "[heap]" and _fills(made.range, pinned, kind.page):
        return Owned(part, "unused", "the rest of the buffer's own mapping")
    return Owned(part, "unknown", kind.what or ("anonymous memory" if kind.anonymous else "unknown"))


def _fills(mapping: Range, pinned: list[Range], page: int) -> bool:
    """Was the mapping made for the buffers: do they reach from its first page to its last?"""
    inside = [r for r in pinned if mapping.overlap(r)]
    if not inside:
        return False
    reach = Range(min(r.start for r in inside), max(r.end for r in inside))
    return reach.pages(page) == mapping.pages(page)


def _union(ranges: Iterable[Range]) -> list[Range]:
    joined: list[Range] = []
    for r in sorted(r for r in ranges if r.start < r.end):
        if joined and r.start <= joined[-1].end:
            joined[-1] = Range(joined[-1].start, max(joined[-1].end, r.end))
        else:
            joined.append(r)
    return joined


union = _union


def neighbours(drawn: Iterable[Owned]) -> list[Owned]:
    return [owned for owned in drawn if owned.kind == "neighbour"]


def is_amid_others(drawn: list[Owned]) -> bool:
    """Does something lie in front of the buffer on its page of the heap, more than malloc()'s own header?

    What it is may not be known. But a buffer that was given whole pages does not begin in the middle of one.
    """
    pairs = itertools.pairwise(drawn)
    return any(
        a.kind == "unknown" and a.who == "[heap]" and b.kind == "pinned" and a.range.size > 2 * HEADER for a, b in pairs
    )


def begins_amid(drawn: list[Owned]) -> bool:
    """The same for any memory."""
    pairs = itertools.pairwise(drawn)
    return any(a.kind == "unknown" and b.kind == "pinned" and a.range.size > 2 * HEADER for a, b in pairs)


def unknown_beside(drawn: Iterable[Owned]) -> list[Owned]:
    return [owned for owned in drawn if owned.kind == "unknown"]

"""What the model's answer about a pinned page may depend on, and a page for each that differs in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from cowcatcher.audit.acts import is_block_device
from cowcatcher.audit.events import Advised, OpenedDirect, Protected, Range
from cowcatcher.audit.family import Memory, Process
from cowcatcher.audit.finding import Question
from cowcatcher.audit.pins import Pin
from cowcatcher.audit.rules.rule import first_page
from cowcatcher.audit.story import Story
from cowcatcher.audit.trail import Trail
from cowcatcher.audit.vmas import Kind, Seen

Situation: TypeAlias = tuple[Hashable, ...]
#: Situations, each with how to tell of it.
Situations: TypeAlias = dict[Situation, Callable[[], Trail]]

#: Living copies of the memory that are asked whether they share a page.
ASKED: Final = 16


def pages_to_ask(pin: Pin, pieces: Iterable[tuple[Range, Kind | None]]) -> Iterator[tuple[Range, Kind | None, bool]]:
    """Of each piece and each range of the pin: its first page, its last, and one that it fills. True: it does.

    And those that something happened to since: what did is in the pin's log.
    """
    ranges = sorted(r for r in pin.ranges if r.start < r.end)
    next_ = 0
    for piece, kind in pieces:
        size = kind.page if kind is not None else 0x1000
        while next_ < len(ranges) and ranges[next_].end <= piece.start:
            next_ += 1
        for r in islice(ranges, next_, None):
            if r.start >= piece.end:
                break
            inside = r.overlap(piece)
            if inside is None:
                continue
            first = first_page(inside, size)
            found = {first.start: first, inside.end: first_page(Range(inside.end - 1, inside.end), size)}
            if first.start < inside.start and first.end + size <= inside.end:
                found[first.end] = Range(first.end, first.end + size)
            for seen in pin.log:
                where = getattr(seen.event, "range", None)
                part = where.overlap(inside) if isinstance(where, Range) else None
                if part is not None:
                    found[-part.start] = first_page(part, size)
            for page in dict.fromkeys(found.values()):
                yield page, kind, r.start <= page.start and page.end <= r.end


def situation(process: Process, pin: Pin, page: Range, kind: Kind | None, whole: bool, *more: Hashable) -> Situation:
    """Mapping, page size, whole or partial page, how it is held, what was done to it, and who shared it before."""
    event = pin.event
    log = tuple(_word(s) for s in pin.log if _is_on(s, page))
    mapping: Hashable = None
    if kind is not None:
        changes = frozenset(_word(s) for s in kind.changes)
        mapping = (kind.private, kind.anonymous, "w" in kind.prot, kind.page, kind.made is None, changes)
    return (
        mapping,
        whole,
        event.interface,
        event.writes,
        filesystem(process, pin),
        log,
        _shared(process.memory, pin, page),
        *more,
    )


def filesystem(process: Process, pin: Pin) -> str:
    """Of a direct transfer, as it was told with it or when the file was opened; "" if nobody said."""
    if pin.interface not in ("dio_read", "dio_write"):
        return ""
    words = [word.strip().lower() for word in pin.event.detail.split(",")]
    number = words[0].removeprefix("fd ")
    opened = process.direct.get(int(number)) if number.isascii() and number.isdigit() else None
    told = opened.event.filesystem.lower() if opened and isinstance(opened.event, OpenedDirect) else ""
    if len(words) > 1 and is_block_device(words[1]):
        return "block device"
    return told or next((word for word in words[2:] if word and word not in ("libaio", "io_uring")), "")


def asks(pin: Pin) -> Question:
    return Question.DEVICE_AND_OWNER if pin.is_registered or pin.event.writes else Question.DEVICE_READS_FOREIGN


def gather(
    found: Situations,
    story: Story,
    process: Process,
    pin: Pin,
    pieces: Iterable[tuple[Range, Kind | None]],
    trigger: Seen,
    chain: Iterable[Seen] = (),
    *more: Hashable,
) -> None:
    """Adds what is not in ``found`` yet."""
    for page, kind, whole in pages_to_ask(pin, pieces):
        key = situation(process, pin, page, kind, whole, *more)
        if key not in found:
            found[key] = _maker(story, process, pin, page, trigger, tuple(chain))


def _maker(
    story: Story, process: Process, pin: Pin, page: Range, trigger: Seen, chain: tuple[Seen, ...]
) -> Callable[[], Trail]:
    pinned = pin.part_of(page) or page
    return lambda: Trail(story, asks(pin), process, page, pinned, [pin], trigger, chain)


def _word(seen: Seen) -> str:
    event = seen.event
    more = event.advice if isinstance(event, Advised) else event.prot if isinstance(event, Protected) else ""
    return f"{type(event).__name__} {more}"


def _is_on(seen: Seen, page: Range) -> bool:
    where = getattr(seen.event, "range", None)
    return not isinstance(where, Range) or where.overlap(page) is not None


def _shared(memory: Memory, pin: Pin, page: Range) -> tuple[bool, bool]:
    """Does a living process have it from a fork before the pin; from one after it?"""
    before = after = False
    for copy, chain in islice(memory.descendants(), ASKED) if memory.copies else ():
        if copy.users and chain and memory.is_same_page(page.start, copy):
            before |= chain[0].n < pin.seen.n
            after |= chain[0].n > pin.seen.n
    return before, after

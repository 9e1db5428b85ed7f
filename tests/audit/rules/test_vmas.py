"""The shadow of an address space against a dictionary with an entry for each page."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cowcatcher.audit import events as ev
from cowcatcher.audit.events import PAGE, Event, Range
from cowcatcher.audit.story import Story
from cowcatcher.audit.vmas import Kind, Seen, Space

PAGES = 24


def run(start: int, count: int) -> Range:
    return Range(start * PAGE, (start + count) * PAGE)


@dataclass
class Naive:
    """(private, prot, dontfork, wipe, line of the mapping) by page; None of these known: (None, "", …, 0)."""

    pages: dict[int, tuple[bool | None, str, bool, bool, int]] = field(default_factory=dict)

    def fork(self) -> Naive:
        return Naive({at: page for at, page in self.pages.items() if not page[2]})

    def do(self, event: Event) -> None:
        match event:
            case ev.Mapped():
                for at in numbers(event.range):
                    self.pages[at] = (event.private, event.prot, False, False, event.line)
            case ev.Unmapped():
                for at in numbers(event.range):
                    self.pages.pop(at, None)
            case ev.Protected():
                for at in numbers(event.range):
                    if at in self.pages:
                        private, _, dontfork, wipe, line = self.pages[at]
                        self.pages[at] = (private, event.prot, dontfork, wipe, line)
            case ev.Advised():
                self.advise(event)
            case ev.Moved():
                self.move(event)

    def advise(self, event: ev.Advised) -> None:
        for at in numbers(event.range):
            known = self.pages.get(at)
            if known is None:
                if event.advice not in ("DONTFORK", "WIPEONFORK"):
                    continue
                known = (None, "", False, False, 0)
            private, prot, dontfork, wipe, line = known
            dontfork = event.advice == "DONTFORK" or (dontfork and event.advice != "DOFORK")
            wipe = event.advice == "WIPEONFORK" or (wipe and event.advice != "KEEPONFORK")
            self.pages[at] = (private, prot, dontfork, wipe, line)

    def move(self, event: ev.Moved) -> None:
        taken = {at: self.pages[at] for at in numbers(event.old) if at in self.pages}
        if not event.keeps:
            for at in numbers(event.old):
                self.pages.pop(at, None)
        for at in numbers(event.new):
            self.pages.pop(at, None)
        shift = (event.new.start - event.old.start) // PAGE
        inside = set(numbers(event.new))
        for at, page in taken.items():
            if at + shift in inside:
                self.pages[at + shift] = page
        last = event.old.end // PAGE - 1
        if last in taken and event.new.size > event.old.size:
            for at in range(last + 1 + shift, event.new.end // PAGE):
                self.pages[at] = taken[last]


def numbers(where: Range) -> range:
    return range(where.start // PAGE, where.end // PAGE)


def shown(space: Space) -> dict[int, tuple[bool | None, str, bool, bool, int]]:
    pages = {}
    for where, kind in space.pieces():
        for at in numbers(where):
            line = kind.made.event.line if kind.made is not None else 0
            pages[at] = (kind.private, kind.prot, kind.dontfork is not None, kind.wipe is not None, line)
    return pages


RANGES = st.builds(run, st.integers(0, PAGES - 1), st.integers(1, 8))
ADVICE = st.sampled_from(["DONTFORK", "DOFORK", "WIPEONFORK", "KEEPONFORK", "DONTNEED", "HUGEPAGE"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("map"), RANGES, st.booleans()),
        st.tuples(st.just("unmap"), RANGES),
        st.tuples(st.just("protect"), RANGES, st.sampled_from(["rw-", "r--"])),
        st.tuples(st.just("advise"), RANGES, ADVICE),
        st.tuples(st.just("move"), RANGES, st.integers(PAGES, 2 * PAGES), st.integers(1, 8), st.booleans()),
        st.tuples(st.just("fork")),
    ),
    max_size=40,
)


def event_of(step: tuple[object, ...], line: int, task: int) -> Event:
    match step:
        case ("map", Range() as where, bool(private)):
            return ev.Mapped(0, line, task, where, "rw-", private, True)
        case ("unmap", Range() as where):
            return ev.Unmapped(0, line, task, where)
        case ("protect", Range() as where, str(prot)):
            return ev.Protected(0, line, task, where, prot)
        case ("advise", Range() as where, str(advice)):
            return ev.Advised(0, line, task, where, advice)
        case ("move", Range() as where, int(to), int(count), bool(keeps)):
            return ev.Moved(0, line, task, where, run(to, count), keeps)
    raise AssertionError(step)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.data())
def test_as_a_dictionary_of_pages(steps: list[tuple[object, ...]], data: st.DataObject) -> None:
    """Forked spaces live on side by side: what one does, the others do not see."""
    story = Story()
    naive = {1: Naive()}
    for line, step in enumerate(steps, 1):
        task = data.draw(st.sampled_from(sorted(naive)))
        if step[0] == "fork":
            child = len(naive) + 1
            story.take(ev.Forked(0, line, task, child, False, False, "fork"))
            naive[child] = naive[task].fork()
        else:
            event = event_of(step, line, task)
            story.take(event)
            naive[task].do(event)
    for task, pages in naive.items():
        space = story.process_of(task).memory.space
        assert shown(space) == pages.pages
        check_order(space)


def check_order(space: Space) -> None:
    """Sorted, no two overlap, none is empty, and two neighbours that are the same are one."""
    pieces = list(space.pieces())
    for where, _ in pieces:
        assert where.start < where.end
    for (a, kind_a), (b, kind_b) in itertools.pairwise(pieces):
        assert a.end <= b.start
        assert a.end < b.start or kind_a != kind_b
        assert space.at(a.start) == kind_a


def test_what_advice_ends_joins_its_neighbours_again() -> None:
    story = Story()
    story.take(ev.Mapped(0, 1, 1, run(0, 100), "rw-", True, True))
    for line, page in enumerate(range(10, 90, 3), 2):
        story.take(ev.Advised(0, line, 1, run(page, 1), "DONTFORK"))
    space = story.process_of(1).memory.space
    assert len(space) > 50
    story.take(ev.Advised(0, 99, 1, run(0, 100), "DOFORK"))
    assert len(space) == 1


def test_protection_that_comes_and_goes_leaves_no_mark() -> None:
    story = Story()
    story.take(ev.Mapped(0, 1, 1, run(0, 8), "rw-", True, True))
    for line in range(2, 1000):
        story.take(ev.Protected(0, line, 1, run(line % 8, 1), "r--" if line % 2 else "rw-"))
    story.take(ev.Protected(0, 1000, 1, run(0, 8), "rw-"))
    assert len(story.process_of(1).memory.space) == 1


def test_memory_stays_bounded_when_nothing_joins() -> None:
    """More pieces than a kernel would allow: what is alike is joined, at the price of where it came from."""
    space = Space()
    for number in range(300_000):
        seen = Seen(number, 1, ev.Mapped(0, number, 1, run(number, 1), "rw-", True, True))
        space.put(run(number, 1), Kind(True, True, "rw-", made=seen))
    assert len(space) < 200_000
    check_order(space)


def test_a_piece_that_becomes_as_its_right_neighbour_joins_it() -> None:
    story = Story()
    story.take(ev.Mapped(0, 1, 1, run(5, 10), "rw-", True, True))
    story.take(ev.Advised(0, 2, 1, run(5, 1), "DONTFORK"))
    space = story.process_of(1).memory.space
    assert len(space) == 2
    story.take(ev.Advised(0, 3, 1, run(5, 1), "DOFORK"))
    assert len(space) == 1

"""Any stream of events, and long ones: nothing is raised, memory is bounded, and the work is linear."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowcatcher.audit import events as ev
from cowcatcher.audit.auditor import Auditor
from cowcatcher.audit.events import PAGE, Event, Range
from cowcatcher.audit.finding import Finding
from cowcatcher.audit.rules import RULES
from tests.audit.counting import calls
from tests.audit.rules.tale import BUF, P, at

TASKS = st.integers(0, 6)
WILD = st.sampled_from([0, 1, -1, BUF, BUF + 100, BUF + PAGE, BUF + 3 * PAGE, 1 << 47, 1 << 63, (1 << 64) - 1, 1 << 70])
RANGES = st.builds(Range, WILD, WILD)
PAGE_SIZES = st.sampled_from([PAGE, 1 << 21, 0, -5, 1])
WORDS = st.sampled_from(["DONTFORK", "DOFORK", "WIPEONFORK", "DONTNEED", "FREE", "REMOVE", "HUGEPAGE", "", "what"])
HANDLES = st.sampled_from(["a", "b", "c"])
INTERFACES = st.sampled_from([*ev.REGISTERED, "dio_read", "dio_write", "vmsplice", "process_vm", "msg_zerocopy"])
STACKS = st.sampled_from([(), ("lib!f",), ("",), ("libc.so.6!fork", "app!main+0x1", "x", "y")])
DETAILS = st.sampled_from(["", "fd 5, /f, ext4", "fd x", "fd 99999999999999999999", ", , ,", "fd ²"])
COUNTS = st.integers(-1, 70000)
OWNERS = st.lists(st.tuples(RANGES, st.sampled_from(["chunk of 8 bytes in use", "free chunk", ""])), max_size=3)


def sorts() -> Iterator[st.SearchStrategy[Event]]:
    """One strategy for each sort of event, of anything that its fields could hold."""
    head = (st.floats(0, 1e6), st.integers(0, 500), TASKS)
    yield st.builds(
        ev.Forked, *head, TASKS, st.booleans(), st.booleans(), st.just("fork"), st.integers(0, 500), stack=STACKS
    )
    yield st.builds(ev.ForkFailed, *head, st.just("clone"), st.just("ENOMEM"))
    yield st.builds(ev.Execed, *head, st.sampled_from(["/bin/x", "", "y"]), st.just((("RDMAV_FORK_SAFE", "1"),)))
    yield st.builds(ev.Exited, *head, st.none() | st.integers(0, 255), st.sampled_from(["", "SIGSEGV"]))
    yield st.builds(ev.Signalled, *head, st.just("SIGSEGV"), st.just("SEGV_MAPERR"), WILD)
    yield st.builds(ev.Present, *head, TASKS, TASKS, st.just("name"))
    yield st.builds(ev.Mapped, *head, RANGES, st.just("rw-"), st.booleans(), st.booleans(), PAGE_SIZES, st.just(""))
    yield st.builds(ev.Unmapped, *head, RANGES)
    yield st.builds(ev.Moved, *head, RANGES, RANGES, st.booleans())
    yield st.builds(ev.Protected, *head, RANGES, st.sampled_from(["", "r--", "rw-"]))
    yield st.builds(ev.Advised, *head, RANGES, WORDS, stack=STACKS)
    yield st.builds(ev.OpenedDirect, *head, st.integers(-1, 9), st.just("/f"), st.just("ext4"))
    ranges = st.lists(RANGES, max_size=3).map(tuple)
    yield st.builds(ev.Pinned, *head, HANDLES, INTERFACES, ranges, st.booleans(), DETAILS, stack=STACKS)
    yield st.builds(ev.Unpinned, *head, HANDLES)
    yield st.builds(ev.Freed, *head, RANGES)
    yield st.builds(ev.Overwritten, *head, HANDLES, RANGES)
    yield st.builds(ev.ForkInit, *head, st.integers(-1, 22), st.just(""), stack=STACKS)
    yield st.builds(ev.Library, *head, st.just("libibverbs"), st.just("44.0"))
    yield st.builds(ev.Frames, *head, WILD, st.lists(st.integers(0, 3), max_size=4).map(tuple))
    yield st.builds(ev.VmaCount, *head, COUNTS, COUNTS)
    yield st.builds(ev.HugePages, *head, RANGES, WILD, PAGE_SIZES, st.booleans(), COUNTS)
    yield st.builds(ev.Chunks, *head, RANGES, OWNERS.map(tuple))
    yield st.builds(ev.Lost, *head, st.sampled_from(["line 7", "no shim"]))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(*sorts()), max_size=60))
def test_any_stream_of_events(stream: list[Event]) -> None:
    auditor = Auditor()
    told = {f.key for event in stream for f in auditor.feed(event)}
    found = auditor.finish()
    assert len({f.key for f in found}) == len(found)
    for finding in found:
        check(finding)
    withdrawn = {key for key in told if key[0] in ("vma-growth", "fork-shares-pinned")}
    assert told <= {f.key for f in found} | withdrawn


def check(finding: Finding) -> None:
    """What everybody may rely on."""
    assert finding.rule in RULES
    assert finding.times >= 1
    assert finding.title
    case = finding.case
    if case is None:
        return
    assert {e.task for e in case.events} <= set(case.processes)
    assert next(iter(case.processes.values())) == case.owner
    assert len(set(case.processes.values())) <= 6
    assert case.page.start <= case.pinned.start < case.pinned.end <= case.page.end
    assert len(case.events) <= 150


def served(count: int) -> Iterator[Event]:
    """A server that maps, registers, forks, gives back and unmaps, again and again."""
    lines = itertools.count(1)
    yield ev.Execed(0, next(lines), P, "/bin/server")
    for number in range(count):
        where, child, handle = at(number % 50 * 2), 1000 + number, f"mr{number}"
        yield ev.Mapped(0, next(lines), P, where, "rw-", True, True)
        yield ev.Pinned(0, next(lines), P, handle, "ibv_reg_mr", (where,), True)
        yield ev.Forked(0, next(lines), P, child, False, False, "fork")
        yield ev.Execed(0, next(lines), child, "/bin/true")
        yield ev.Exited(0, next(lines), child, 0)
        yield ev.Unpinned(0, next(lines), P, handle)
        yield ev.Unmapped(0, next(lines), P, where)


def test_repetitions_are_counted_in_bounded_memory() -> None:
    auditor = Auditor()
    for event in served(200):
        auditor.feed(event)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for event in served(3000):
        auditor.feed(event)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    (found,) = [f for f in auditor.finish() if f.rule == "fork-shares-pinned"]
    assert found.times == 3200
    assert grown < 300_000


def mapped(count: int) -> Iterator[Event]:
    yield ev.Execed(0, 1, P, "/bin/x")
    for number in range(count // 2):
        where = at(number * 7 % 5000, 3)
        yield ev.Mapped(0, number, P, where, "rw-", True, True)
        if number % 3 == 0:
            yield ev.Unmapped(0, number, P, at(number * 11 % 5000, 2))


def transfers(count: int) -> Iterator[Event]:
    """Direct reads, 32 in flight, and a fork now and then when none is."""
    yield ev.Execed(0, 1, P, "/bin/x")
    yield ev.Mapped(0, 2, P, at(0, 64), "rw-", True, True)
    for number in range(count):
        yield ev.Pinned(0, 3, P, f"io{number}", "dio_read", (at(number % 64),), True, "fd 5, /f, ext4")
        if number >= 32:
            yield ev.Unpinned(0, 3, P, f"io{number - 32}")


def many_forks(count: int) -> Iterator[Event]:
    """A thousand buffers, protected, and forks without end."""
    yield ev.Execed(0, 1, P, "/bin/x")
    yield ev.Mapped(0, 2, P, at(0, 1000), "rw-", True, True)
    yield ev.Advised(0, 3, P, at(0, 1000), "DONTFORK")
    for number in range(1000):
        yield ev.Pinned(0, 4, P, f"mr{number}", "ibv_reg_mr", (at(number),), True)
    for number in range(count):
        yield ev.Forked(0, 5, P, 1000 + number, False, False, "fork")
        yield ev.Exited(0, 6, 1000 + number, 0)


def leaked(count: int) -> Iterator[Event]:
    """MADV_DONTFORK for each buffer, DOFORK for none; and children that live on."""
    yield ev.Execed(0, 1, P, "/bin/x")
    for number in range(count):
        where = at(16 * number, 2)
        yield ev.Mapped(0, 2, P, where, "rw-", True, True)
        yield ev.Advised(0, 3, P, where, "DONTFORK")
        yield ev.Pinned(0, 4, P, "fixed", "io_uring_register", (Range(where.start, where.start + 5000),), True)
        if number % 20 == 0:
            yield ev.Forked(0, 5, P, 1000 + number, False, False, "fork")
        yield ev.Unpinned(0, 6, P, "fixed")


def leaked_and_gone(count: int) -> Iterator[Event]:
    """The same, and each child exits at once."""
    for event in leaked(count):
        yield event
        if isinstance(event, ev.Forked):
            yield ev.Exited(0, 5, event.child, 0)


@pytest.mark.parametrize(
    "stream", [mapped, transfers, many_forks, served, leaked, leaked_and_gone], ids=lambda f: f.__name__
)
def test_work_is_linear_in_the_events(stream: object) -> None:
    """Ten times the events, ten times the work, and not a hundred times."""
    assert callable(stream)

    def each(count: int) -> int:
        events, auditor = list(stream(count)), Auditor()
        return calls(lambda: [auditor.feed(event) for event in events] and auditor.finish()) // len(events)

    assert each(5_000) <= 2 * each(500)

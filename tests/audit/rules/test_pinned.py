"""Memory that a device holds, given back, overwritten or moved meanwhile; and buffers that share their pages."""

from __future__ import annotations

import pytest

from cowcatcher.audit import events as ev
from cowcatcher.audit.events import PAGE, Event, Range
from cowcatcher.audit.finding import Question, Severity
from tests.audit.rules.tale import BUF, C, P, Tale, at

HALF = Range(BUF, BUF + 2048)


@pytest.mark.parametrize(
    ("sort", "args"),
    [
        (ev.Unmapped, (at(),)),
        (ev.Advised, (at(), "DONTNEED")),
        (ev.Advised, (at(), "FREE")),
        (ev.Moved, (at(9), at())),
        (ev.Freed, (at(),)),
        (ev.Unmapped, (at(0, 10),)),
    ],
)
def test_given_back_too_early(sort: type[Event], args: tuple[object, ...]) -> None:
    tale = Tale().map(at(0, 10)).pin().tell(sort, *args)
    assert tale.told_at() == ["freed-while-pinned"]
    found = tale.the("freed-while-pinned")
    assert found.severity is Severity.WARNING
    assert found.ranges == (at(),)
    assert found.case is not None
    assert found.case.question is Question.FREED_UNDER_DEVICE
    assert [type(e) for e in found.case.events] == [ev.Mapped, ev.Pinned, sort]


def test_other_memory_at_the_same_place_is_worse() -> None:
    assert Tale().map().pin().map().the("freed-while-pinned").severity is Severity.ERROR
    found = Tale().map().pin().unmap().map().the("freed-while-pinned")
    assert found.severity is Severity.ERROR
    assert found.times == 1


FINE = {
    "after deregistration": Tale().map().pin().unpin().unmap(),
    "beside it": Tale().map(at(0, 2)).pin().unmap(at(1)),
    "a write that is in flight": Tale().map().pin(interface="dio_write", writes=False).unmap(),
    "zerocopy": Tale().map().pin(interface="msg_zerocopy", writes=False).unmap(),
    "pages of a gift": Tale().map().pin(interface="vmsplice", writes=False).unmap(),
    "on demand": Tale().map().pin(interface="odp_reg_mr").unmap(),
    "in a child": Tale().map().advise("DONTFORK").pin().fork().unmap(task=C),
    "DONTNEED of shared memory": Tale().map(private=False).pin().advise("DONTNEED"),
    "exit": Tale().map().pin().exit(P),
    "a second look at /proc": Tale().map().pin().tell(ev.Mapped, at(), "rw-", True, True, PAGE, ""),
    "mprotect": Tale().map().pin().tell(ev.Protected, at(), "r--").tell(ev.Protected, at(), "rw-"),
    "growing in place": Tale().map().pin().tell(ev.Moved, at(), at(0, 2)),
    "moved as a whole": Tale().map().pin().tell(ev.Moved, at(), at(7)),
    "moved, then its old place used": Tale().map().pin().tell(ev.Moved, at(), at(7)).map().unmap(),
}


@pytest.mark.parametrize("name", FINE)
def test_no_false_alarm(name: str) -> None:
    tale = FINE[name]
    if name == "a second look at /proc":
        event = tale.events[-1]
        tale.events[-1] = ev.Mapped(0, 0, event.task, at(), "rw-", True, True, PAGE, "")
    assert tale.bad() == []


def test_unmapped_at_the_new_place() -> None:
    tale = Tale().map().pin().tell(ev.Moved, at(), at(7)).unmap(at(7))
    assert tale.the("freed-while-pinned").ranges == (at(7),)


def test_a_direct_read_into_memory_that_goes_away() -> None:
    assert Tale().map().read().unmap().bad() == ["freed-while-pinned"]


def test_free_while_a_transfer_reads_it() -> None:
    tale = Tale().map().pin(interface="msg_zerocopy", writes=False).tell(ev.Freed, HALF)
    assert tale.the("freed-while-pinned").ranges == (HALF,)


def test_overwritten_in_flight() -> None:
    tale = Tale().map().pin(interface="vmsplice", writes=False).tell(ev.Overwritten, "mr1", HALF)
    found = tale.the("overwritten-in-flight")
    assert found.severity is Severity.ERROR
    assert found.case is not None
    assert found.case.pinned == at()
    assert Tale().tell(ev.Overwritten, "gone", HALF).the("overwritten-in-flight").case is None


def sent() -> Tale:
    return Tale().map().pin(interface="vmsplice", writes=False)


def test_overwritten_after_a_fork_maybe_in_a_copy() -> None:
    found = sent().fork().exit().tell(ev.Overwritten, "mr1", at()).the("overwritten-in-flight")
    assert found.severity is Severity.UNSURE
    assert found.case is None
    assert [m.text.split()[0] for m in found.timeline] == ["maps", "vmsplice", "fork()", "the"]


def test_a_fork_that_copies_nothing_of_what_is_sent() -> None:
    for tale in (sent().vfork(), Tale().map(private=False).pin(interface="vmsplice", writes=False).fork()):
        assert tale.tell(ev.Overwritten, "mr1", at()).the("overwritten-in-flight").severity is Severity.ERROR


def test_what_is_sent_is_no_direct_transfer() -> None:
    assert sent().fork().unpin().exit(P).findings() == []
    assert [f.rule for f in Tale().map().read().unpin("io1").fork().exit(P).findings()] == ["direct-io-across-fork"]


def test_moved_under_a_pin() -> None:
    tale = (
        Tale().map(at(0, 2)).pin(at(0, 2)).tell(ev.Frames, BUF, (0x10, 0x11)).fork().tell(ev.Frames, BUF, (0x10, 0x12))
    )
    found = tale.the("moved-under-pin")
    assert found.severity is Severity.ERROR
    assert found.ranges == (at(1),)
    assert "from 0x11 to 0x12" in found.title
    assert found.case is not None
    assert found.case.page == at(1)


STAYED = {
    "the same frame": Tale().map().pin().tell(ev.Frames, BUF, (5,)).tell(ev.Frames, BUF, (5,)),
    "not present": Tale().map().pin().tell(ev.Frames, BUF, (5,)).tell(ev.Frames, BUF, (0,)),
    "moved before the pin": Tale().map().tell(ev.Frames, BUF, (5,)).pin().tell(ev.Frames, BUF, (6,)),
    "moved after it": Tale().map().pin().tell(ev.Frames, BUF, (5,)).unpin().tell(ev.Frames, BUF, (6,)),
    "pinned anew": Tale().map().pin().tell(ev.Frames, BUF, (5,)).unpin().pin().tell(ev.Frames, BUF, (6,)),
    "in the child": Tale().map().advise("DONTFORK", at(1)).pin().tell(ev.Frames, BUF, (5,)).vfork().exec(task=C),
}


@pytest.mark.parametrize("tale", STAYED.values(), ids=STAYED.keys())
def test_stayed_where_it_was(tale: Tale) -> None:
    assert tale.bad() == []


def frames(tale: Tale, frame: int) -> Tale:
    return tale.tell(ev.Frames, BUF, (frame,))


def test_other_memory_where_a_buffer_was_freed() -> None:
    """What free() unmapped and mmap() put there was not seen: only the frames tell."""
    tale = frames(frames(Tale().map().pin(), 7).tell(ev.Freed, at()), 8).unpin()
    assert tale.told_at() == ["freed-while-pinned"]
    (found,) = tale.findings()
    assert (found.rule, found.severity) == ("freed-while-pinned", Severity.ERROR)
    assert found.case is not None
    assert found.case.question is Question.FREED_UNDER_DEVICE


@pytest.mark.parametrize("sort", ["unmap", "map"])
def test_what_was_replaced_has_not_moved(sort: str) -> None:
    tale = frames(Tale().map().pin(), 7)
    tale = tale.unmap().map() if sort == "unmap" else tale.map()
    assert [f.rule for f in frames(tale, 8).unpin().findings()] == ["freed-while-pinned"]


ONCE = {
    "unmapped, then mapped over": Tale().map().pin().unmap().map(),
    "freed, then unmapped": Tale().map().pin().tell(ev.Freed, at()).unmap(),
    "two buffers in one mapping": Tale().map(at(0, 2)).pin(at(0)).pin(at(1), handle="mr2").unmap(at(0, 2)),
}


@pytest.mark.parametrize("tale", ONCE.values(), ids=ONCE.keys())
def test_one_mistake_is_counted_once(tale: Tale) -> None:
    assert tale.the("freed-while-pinned").times == 1


def test_another_buffer_is_another_time() -> None:
    tale = Tale().map(at(0, 2)).pin(at(0)).pin(at(1), handle="mr2").unmap(at(0)).unmap(at(1))
    assert tale.the("freed-while-pinned").times == 2


def test_a_partial_page() -> None:
    neighbour = (Range(BUF + 2048, BUF + PAGE), "chunk of 2048 bytes in use")
    tale = Tale().map(at(0, 9), what="[heap]").pin(HALF).chunks(at(), (HALF, "chunk of 2048 bytes in use"), neighbour)
    found = tale.the("partial-page")
    assert found.severity is Severity.NOTE
    assert [o.kind for o in found.owners] == ["pinned", "neighbour"]
    assert tale.unpin().the("partial-page").owners == found.owners


def test_a_partial_page_is_part_of_a_heavier_finding() -> None:
    neighbour = (Range(BUF + 2048, BUF + PAGE), "chunk of 2048 bytes in use")
    tale = Tale().map(at(0, 9), what="[heap]").advise("DONTFORK").pin(HALF)
    tale.chunks(at(), (HALF, "chunk of 2048 bytes in use"), neighbour).fork()
    assert "partial-page" not in [f.rule for f in tale.findings()]
    assert [o.kind for o in tale.the("dontfork-neighbours").owners] == ["pinned", "neighbour"]


def test_nobody_knows_what_is_beside() -> None:
    """It is worth a word only if the process forks."""
    assert Tale().map(at(0, 9), what="[heap]").pin(HALF).findings() == []
    forked = Tale().map(at(0, 9), what="[heap]").fork().exit().pin(HALF).findings()
    assert "partial-page" in [f.rule for f in forked]


def test_given_back_just_before_the_end() -> None:
    """Whoever leaves everything to exit() does no harm: the registration ends there too."""
    tale = Tale().map().pin().unmap().unpin(time=9)
    tale.events.append(ev.Exited(9, tale.line, P, 0))
    assert tale.bad() == []
    assert tale.the("freed-while-pinned").severity is Severity.NOTE
    assert Tale().map().pin().unmap().exit(P).bad() == []
    assert Tale().map().pin().unmap().unpin().exit(P).bad() == ["freed-while-pinned"]
    assert Tale().map().pin().unmap().map().exit(P).bad() == ["freed-while-pinned"]


def test_a_look_at_frames_that_came_late() -> None:
    """By then the pin was over, and the memory another's; the program's own word of it comes afterwards."""
    tale = Tale().map().pin(time=1).tell(ev.Frames, BUF, (5,), time=2).tell(ev.Frames, BUF, (6,), time=5)
    tale.unpin(time=3).unmap(time=3)
    assert tale.bad() == []


def test_all_pages_that_moved() -> None:
    tale = (
        Tale().map(at(0, 8)).pin(at(0, 8)).tell(ev.Frames, BUF, (1, 2, 3, 4, 5, 6, 7, 8)).advise("DONTNEED", at(2, 3))
    )
    tale.tell(ev.Frames, BUF, (1, 2, 13, 14, 15, 6, 7, 8)).unpin()
    assert tale.the("moved-under-pin").ranges == (at(2, 3),)
    assert tale.the("freed-while-pinned").ranges == (at(2, 3),)


def test_a_gift_that_is_unmapped_at_once() -> None:
    """What lies at its address later is not what is in the pipe."""
    tale = Tale().map().pin(interface="vmsplice", writes=False).unmap().tell(ev.Overwritten, "mr1", at()).map()
    assert tale.bad() == []


def test_a_buffer_in_the_middle_of_a_page() -> None:
    """Something lies before it, whatever it is."""
    (found,) = Tale().map(at(0, 3)).pin(Range(BUF + 1024, BUF + 2048)).findings()
    assert (found.rule, found.severity) == ("partial-page", Severity.NOTE)

"""MADV_DONTFORK works on whole pages: what it takes from children besides the buffer, and when it does not."""

from __future__ import annotations

import pytest

from cowcatcher.audit import events as ev
from cowcatcher.audit.events import PAGE, Range
from cowcatcher.audit.finding import Owned, Question, Severity
from tests.audit.rules.tale import BUF, C, P, Tale, at

HEAP = at(0, 64)
#: A buffer of 2 KiB as malloc() hands it out, and the chunk of whoever comes next.
SMALL = Range(BUF + 16, BUF + 16 + 2048)
OWN = Range(BUF, BUF + 2064)
NEXT = Range(BUF + 2064, BUF + 2064 + 1024)
FREE = Range(NEXT.end, BUF + PAGE)


def small_buffer() -> Tale:
    return (
        Tale()
        .map(HEAP, what="[heap]")
        .advise("DONTFORK")
        .pin(SMALL)
        .chunks(at(), (OWN, "chunk of 2064 bytes in use"), (NEXT, "chunk of 1024 bytes in use"), (FREE, "free chunk"))
    )


def test_a_neighbour_on_the_page() -> None:
    tale = small_buffer().fork()
    assert tale.told_at() == ["dontfork-neighbours"]
    found = tale.the("dontfork-neighbours")
    assert found.severity is Severity.WARNING
    assert found.ranges == (NEXT,)
    assert found.owners == (
        Owned(Range(BUF, BUF + 16), "allocator", "header of the buffer's own chunk"),
        Owned(SMALL, "pinned", "the buffer"),
        Owned(NEXT, "neighbour", "chunk of 1024 bytes in use"),
        Owned(FREE, "unused", "free chunk"),
    )
    case = found.case
    assert case is not None
    assert case.question is Question.CHILD_READS_NEIGHBOUR
    assert (case.page, case.pinned) == (at(), SMALL)
    assert [type(e) for e in case.events] == [ev.Mapped, ev.Advised, ev.Pinned, ev.Forked]


def test_a_child_that_touches_the_neighbour() -> None:
    """The warning of the fork has become an error, and is still one finding."""
    tale = small_buffer().fork().segv(NEXT.start + 8)
    assert tale.told_at() == ["dontfork-neighbours"]
    found = tale.the("dontfork-neighbours")
    assert found.severity is Severity.ERROR
    assert found.ranges == (NEXT,)
    assert found.case is not None
    assert [type(e) for e in found.case.events] == [ev.Mapped, ev.Advised, ev.Pinned, ev.Forked, ev.Signalled]
    assert found.case.processes == {P: "parent", C: "child"}
    assert found.case.owner == "parent"


def test_a_grandchild_that_touches_the_neighbour() -> None:
    found = small_buffer().fork(C).fork(300, task=C).segv(NEXT.start, task=300).the("dontfork-neighbours")
    assert found.severity is Severity.ERROR
    assert found.process == P
    assert found.case is not None
    assert set(found.case.processes.values()) == {"parent", "child", "grandchild"}


def test_a_child_that_touches_it_after_deregistration() -> None:
    tale = small_buffer().fork().unpin().segv(NEXT.start)
    assert tale.the("dontfork-neighbours").severity is Severity.ERROR


def test_nobody_knows_who_is_beside() -> None:
    found = Tale().map(HEAP, what="[heap]").advise("DONTFORK").pin(SMALL).fork().the("dontfork-neighbours")
    assert found.severity is Severity.UNSURE


def test_a_child_that_touches_the_buffer() -> None:
    found = Tale().map().advise("DONTFORK").pin().fork().segv(BUF + 100).the("dontfork-child-touches")
    assert found.severity is Severity.ERROR
    assert found.process == P
    assert found.ranges == (at(),)
    assert found.case is not None
    assert found.case.question is Question.CHILD_READS_BUFFER


def test_a_fault_under_dontfork_without_any_pin() -> None:
    found = Tale().map().advise("DONTFORK", stack=("libx.so!f+0x1",)).fork().segv(BUF).the("dontfork-child-touches")
    assert "libx.so" in found.title
    assert "No pin was seen" in found.explanation


CLEAN = {
    "whole pages": Tale().map(at(0, 2)).advise("DONTFORK", at(0, 2)).pin(at(0, 2)).fork(),
    "a mapping of its own": Tale().map().advise("DONTFORK").pin(Range(BUF, BUF + 2000)).fork(),
    "a chunk that ends with the page": Tale()
    .map(HEAP, what="[heap]")
    .advise("DONTFORK")
    .pin(Range(BUF + 16, BUF + 4000))
    .chunks(at(), (at(), "chunk of 4096 bytes in use"))
    .fork(),
    "only free memory beside": Tale()
    .map(HEAP, what="[heap]")
    .advise("DONTFORK")
    .pin(SMALL)
    .chunks(at(), (OWN, "chunk of 2064 bytes in use"), (Range(OWN.end, BUF + PAGE), "free chunk"))
    .fork(),
    "both halves are buffers": Tale()
    .map(HEAP, what="[heap]")
    .advise("DONTFORK")
    .pin(Range(BUF, BUF + 2048))
    .pin(Range(BUF + 2048, BUF + PAGE), handle="mr2")
    .fork(),
    "vfork": small_buffer().vfork(),
    "no DONTFORK there": Tale().map(HEAP, what="[heap]").pin(SMALL).advise("DONTFORK", at(1)).vfork(),
    "a fault of the child's own": Tale().map().advise("DONTFORK").pin().fork().segv(0),
    "mapped again by the child": Tale().map().advise("DONTFORK").pin().fork().map(task=C).unmap(task=C).segv(BUF),
    "after exec": Tale().map().advise("DONTFORK").pin().fork().exec(task=C).segv(BUF),
    "the parent's own fault": Tale().map().advise("DONTFORK").pin().fork().unpin().unmap().segv(BUF, task=P),
}


@pytest.mark.parametrize("tale", CLEAN.values(), ids=CLEAN.keys())
def test_no_false_alarm(tale: Tale) -> None:
    assert tale.bad() == []


def test_a_buffer_cut_out_of_a_pool() -> None:
    """One large allocation, of which a piece in the middle is registered: its other pieces are neighbours."""
    tale = (
        Tale()
        .map(HEAP, what="[heap]")
        .advise("DONTFORK")
        .pin(Range(BUF + 1024, BUF + 2048))
        .chunks(at(), (HEAP, "chunk of 262144 bytes in use"))
        .fork()
    )
    assert [o.kind for o in tale.the("dontfork-neighbours").owners] == ["neighbour", "pinned", "neighbour"]


def test_amid_the_heap() -> None:
    """Nobody has looked at the allocator's records, but a buffer of whole pages does not begin in the middle of one."""
    tale = Tale().map(HEAP, what="[heap]").advise("DONTFORK").pin(Range(BUF + 704, BUF + 2704)).fork()
    found = tale.the("dontfork-neighbours")
    assert found.severity is Severity.WARNING
    assert found.case is not None


LACKED = {
    "unmapped since": Tale().map().advise("DONTFORK").pin().fork().unmap().segv(BUF + 5),
    "allowed again since": Tale().map().advise("DONTFORK").pin().fork().advise("DOFORK").segv(BUF + 5),
    "moved away since": Tale().map().advise("DONTFORK").pin().fork().tell(ev.Moved, at(), at(9)).segv(BUF + 5),
    "of a grandchild": Tale().map().advise("DONTFORK").pin().fork().fork(300, task=C).segv(BUF + 5, task=300),
    "whose child has mapped and unmapped beside": (
        Tale().map().advise("DONTFORK").pin().fork().map(at(1), task=C).unmap(at(1), task=C).segv(BUF + 5)
    ),
}


@pytest.mark.parametrize("tale", LACKED.values(), ids=LACKED.keys())
def test_what_the_child_lacked_at_its_fork_counts(tale: Tale) -> None:
    assert "dontfork-child-touches" in [f.rule for f in tale.findings()]


NOT_LACKED = {
    "protected after the fork": Tale().map().pin().fork().unmap(task=C).advise("DONTFORK").segv(BUF + 5),
    "the child had its own, once": (
        Tale().map().advise("DONTFORK").pin().fork().map(task=C).unmap(task=C).segv(BUF + 5)
    ),
    "the grandchild's parent had its own": (
        Tale().map().advise("DONTFORK").pin().fork().map(task=C).fork(300, task=C).unmap(task=300)
        .segv(BUF + 5, task=300)
    ),
    "moved there after the fork": (
        Tale().map().advise("DONTFORK").pin().fork().tell(ev.Moved, at(), at(9)).segv(BUF + 9 * PAGE)
    ),
}  # fmt: skip


@pytest.mark.parametrize("tale", NOT_LACKED.values(), ids=NOT_LACKED.keys())
def test_what_the_child_did_not_lack(tale: Tale) -> None:
    assert "dontfork-child-touches" not in [f.rule for f in tale.findings()]

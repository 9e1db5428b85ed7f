"""A fork() over memory that a device holds, and everything that looks like it and is none."""

from __future__ import annotations

import pytest

from cowcatcher.audit import events as ev
from cowcatcher.audit.events import PAGE, Range
from cowcatcher.audit.finding import Question, Severity
from tests.audit.rules.tale import BUF, C, P, Tale, at


def test_a_registered_page_that_fork_shares() -> None:
    tale = Tale().map().pin().fork()
    assert tale.told_at() == ["fork-shares-pinned"]
    found = tale.the("fork-shares-pinned")
    assert found.severity is Severity.ERROR
    assert found.process == P
    assert found.program == "prog"
    assert found.ranges == (at(),)
    case = found.case
    assert case is not None
    assert case.question is Question.DEVICE_AND_OWNER
    assert [type(e) for e in case.events] == [ev.Mapped, ev.Pinned, ev.Forked]
    assert case.processes == {P: "parent", C: "child"}
    assert case.owner == "parent"
    assert (case.page, case.pinned) == (at(), at())
    assert [m.line for m in found.timeline] == [2, 3, 4]


def test_what_became_of_the_child_belongs_to_the_case() -> None:
    tale = Tale().map().pin().fork().exec(task=C).exit().unpin().exit(P)
    case = tale.the("fork-shares-pinned").case
    assert case is not None
    assert [type(e) for e in case.events] == [ev.Mapped, ev.Pinned, ev.Forked, ev.Execed, ev.Unpinned, ev.Exited]


def test_the_same_again_is_one_finding() -> None:
    tale = Tale().map().pin()
    for child in range(C, C + 50):
        tale.fork(child).exit(child)
    found = tale.the("fork-shares-pinned")
    assert found.times == 50
    assert found.case is not None
    assert "49 later forks" in found.case.left_out


def test_another_place_in_the_program_is_another_finding() -> None:
    tale = Tale().map(at(0, 2)).pin(stack=("liba!f",)).pin(at(1), handle="mr2", stack=("libb!g",)).fork()
    assert [f.rule for f in tale.findings()] == ["fork-shares-pinned"] * 2


def test_children_gone_before_are_left_out() -> None:
    tale = Tale().map().fork(201).exit(201).fork(202).exit(202).pin().fork()
    case = tale.the("fork-shares-pinned").case
    assert case is not None
    assert case.processes == {P: "parent", C: "child"}
    assert any("2 children" in words for words in case.left_out)


def test_a_child_that_pins_what_it_has_from_its_parent() -> None:
    """The parent is part of the case as long as it has the page too."""
    tale = Tale().map().fork(C).pin(task=C).fork(300, task=C)
    case = tale.the("fork-shares-pinned").case
    assert case is not None
    assert case.owner == "child"
    assert case.processes == {C: "child", P: "parent", 300: "grandchild"}


def test_a_daemon_that_forks_twice() -> None:
    """Whoever mapped it is gone: the mapping is told as the daemon's own."""
    tale = Tale().map().fork(C).exit(P).pin(task=C).fork(300, task=C)
    case = tale.the("fork-shares-pinned").case
    assert case is not None
    assert case.processes == {C: "parent", 300: "child"}
    assert {e.task for e in case.events} == {C}


@pytest.mark.parametrize("private", [True, False])
def test_memory_that_nobody_saw_mapped_is_not_guessed_about(private: bool) -> None:
    found = Tale().pin().fork().the("fork-shares-pinned")
    assert found.severity is Severity.UNSURE
    assert "private or shared is not known" in found.explanation


CLEAN = {
    "child execs before any pin": Tale().map().fork().exec(task=C).pin(),
    "registered in the child, after": Tale().fork().map(task=C).pin(task=C),
    "registered after the fork": Tale().map().fork().pin(),
    "shared memory": Tale().map(private=False).pin().fork(),
    "a memfd": Tale().map(private=False, what="/memfd:x", anonymous=False).pin().fork(),
    "shared hugetlb": Tale().map(at(0, 512), private=False, page=1 << 21).pin().fork(),
    "DONTFORK": Tale().map().advise("DONTFORK").pin().fork(),
    "DONTFORK after the pin": Tale().map().pin().advise("DONTFORK").fork(),
    "WIPEONFORK": Tale().map().advise("WIPEONFORK").pin().fork(),
    "vfork": Tale().map().pin().vfork().exec(task=C),
    "threads": Tale().map().pin().thread().pin(at(1), handle="mr2"),
    "unregistered before": Tale().map().pin().unpin().fork(),
    "unregistered, unmapped, mapped again": Tale().map().pin().unpin().unmap().map().fork(),
    "on demand": Tale().map().pin(interface="odp_reg_mr").fork(),
    "another process's pin": Tale().map().fork().pin(task=C).fork(300),
    "gone with exec": Tale().map().pin().exec().map().fork(),
    "a file that is only read": Tale().map(prot="r--", what="/lib/x", anonymous=False).pin(writes=False).fork(),
    "a direct read on shared memory": Tale().map(private=False).read().fork(),
    "a direct read of tmpfs": Tale().map().read(detail="fd 5, /dev/shm/f, tmpfs").fork(),
    "a direct read of ramfs": Tale().map().tell(ev.OpenedDirect, 5, "/r/f", "ramfs").read(detail="fd 5, /r/f").fork(),
    "a direct read that is over": Tale().map().read().unpin("io1").fork(),
    "a direct read under DONTFORK": Tale().map().advise("DONTFORK").read().fork(),
    "a direct read and posix_spawn": Tale().map().read().vfork(call="posix_spawn").exec(task=C),
    "somebody else's memory": Tale().pin(interface="process_vm").fork(),
}


@pytest.mark.parametrize("tale", CLEAN.values(), ids=CLEAN.keys())
def test_no_false_alarm(tale: Tale) -> None:
    assert tale.bad() == []


def test_dofork_before_the_fork() -> None:
    """Somebody took the protection back: the case tells both."""
    tale = Tale().map().advise("DONTFORK").pin().advise("DOFORK").fork()
    case = tale.the("fork-shares-pinned").case
    assert case is not None
    assert [e.advice for e in case.events if isinstance(e, ev.Advised)] == ["DOFORK"]


def test_only_the_bytes_without_dontfork() -> None:
    tale = Tale().map(at(0, 4)).pin(at(0, 4)).advise("DONTFORK", at(0, 3)).fork()
    assert tale.the("fork-shares-pinned").ranges == (at(3),)


def test_advice_past_a_hole_is_in_force_where_something_is_mapped() -> None:
    holes = Tale().map(at(0)).map(at(2)).pin(at(0, 3)).tell(ev.Advised, at(0, 3), "DONTFORK", True).fork()
    assert [f for f in holes.findings() if f.severity is Severity.ERROR] == []
    mapped_later = Tale().map(at(0)).tell(ev.Advised, at(0, 2), "DONTFORK", True).map(at(1)).pin(at(0, 2)).fork()
    assert mapped_later.the("fork-shares-pinned").ranges == (at(1),)
    at_the_limit = Tale().map(at(0, 3)).pin(at(1)).tell(ev.Advised, at(1), "DONTFORK", True).fork()
    assert at_the_limit.the("fork-shares-pinned").ranges == (at(1),)


def test_a_direct_read_in_flight() -> None:
    buffer = Range(BUF + 512, BUF + 1024)
    found = Tale().map().tell(ev.OpenedDirect, 5, "/data/f", "ext4").read(buffer).fork().the("direct-io-across-fork")
    assert found.severity is Severity.ERROR
    assert found.ranges == (buffer,)
    case = found.case
    assert case is not None
    assert case.question is Question.DEVICE_AND_OWNER
    assert (case.page, case.pinned) == (at(), buffer)
    assert [type(e) for e in case.events] == [ev.Mapped, ev.OpenedDirect, ev.Pinned, ev.Forked]


def test_a_direct_write_in_flight() -> None:
    found = Tale().map().pin(interface="dio_write", writes=False).fork().the("direct-io-across-fork")
    assert found.severity is Severity.WARNING
    assert found.case is not None
    assert found.case.question is Question.DEVICE_READS_FOREIGN


def test_a_transfer_that_was_over_while_the_fork_was_under_way() -> None:
    tale = Tale().map().read()
    tale.unpin("io1").fork(begun=3)
    assert tale.the("direct-io-across-fork").severity is Severity.WARNING
    over = Tale().map().read()
    over.unpin("io1").fork(begun=5)
    assert over.bad() == []


def test_many_transfers_are_one_finding() -> None:
    tale = Tale().map(at(0, 64))
    for number in range(64):
        tale.read(at(number), handle=f"io{number}")
    found = tale.fork().the("direct-io-across-fork")
    assert found.ranges == (at(0, 64),)


def test_pinned_huge_pages_that_must_be_copied() -> None:
    where = Range(BUF, BUF + (4 << 20))
    tale = Tale().map(where, page=1 << 21, what="/anon_hugepage", anonymous=True).pin(Range(BUF, BUF + PAGE)).fork()
    found = tale.the("huge-copy-at-fork")
    assert found.severity is Severity.NOTE
    assert "2 MiB" in found.title
    short = Tale().map(where, page=1 << 21).tell(ev.HugePages, where, 4 << 20, 1 << 21, True, 1).pin(where).fork()
    assert short.the("huge-copy-at-fork").severity is Severity.WARNING
    assert Tale().map(where, page=1 << 21, private=False).pin(where).fork().bad() == []


def test_a_fork_that_failed_for_lack_of_huge_pages() -> None:
    where = Range(BUF, BUF + (1 << 21))
    tale = Tale().map(where, page=1 << 21, anonymous=True).pin(where).tell(ev.ForkFailed, "clone", "ENOMEM")
    found = tale.the("huge-copy-at-fork")
    assert (found.severity, found.ranges) == (Severity.ERROR, (where,))
    assert found.title.startswith("clone() failed with ENOMEM: it has 2 MiB")
    assert [m.text for m in found.timeline][-1] == "clone() fails with ENOMEM"
    assert Tale().map().pin().tell(ev.ForkFailed, "fork", "ENOMEM").findings() == []


def test_transparent_huge_pages() -> None:
    where = Range(BUF, BUF + (4 << 20))
    tale = Tale().map(where).tell(ev.HugePages, where, 4 << 20, 1 << 21, False).pin(where).fork()
    assert "4 MiB" in tale.the("huge-copy-at-fork").title


def test_transparent_huge_pages_by_their_frames() -> None:
    where = Range(BUF, BUF + (4 << 20))
    frames = (*range(0x200, 0x400), *range(0x1001, 0x1201))
    tale = Tale().map(where).pin(where).tell(ev.Frames, BUF, frames).fork()
    assert tale.the("huge-copy-at-fork").ranges == (Range(BUF, BUF + (2 << 20)),)


def test_a_buffer_that_mremap_has_moved() -> None:
    """The case has the page where the story begins; the finding, where it is."""
    tale = Tale().map().pin().tell(ev.Moved, at(), at(7)).fork()
    found = tale.the("fork-shares-pinned")
    assert found.ranges == (at(7),)
    assert found.case is not None
    assert (found.case.page, found.case.pinned) == (at(), at())
    assert [type(e) for e in found.case.events] == [ev.Mapped, ev.Pinned, ev.Moved, ev.Forked]


def goes_on(tale: Tale) -> list[Severity]:
    return [f.severity for f in tale.findings() if "goes on" in f.title]


def test_a_daemon_that_goes_on_with_its_parents_ring() -> None:
    """Who registered is gone, the ring is the child's now, and the device has the pages of nobody.

    What was found at the fork stays: on kernels that copy no pinned pages that is the graver one.
    """
    tale = Tale().map().pin(interface="io_uring_register").fork(C).exit(P).fork(300, task=C).exit(C).unpin(task=300)
    at_fork, found = (f for f in tale.findings() if f.rule == "fork-shares-pinned")
    assert (at_fork.severity, found.severity) == (Severity.ERROR, Severity.WARNING)
    assert "goes on" in found.title
    assert [(m.line, m.task) for m in found.timeline] == [(2, P), (3, P), (4, P), (5, P)]


def test_a_child_that_does_nothing_when_its_parent_has_gone() -> None:
    """It may not be traced at all; one whose end is seen is, and what it did with the ring no trace shows."""
    tale = Tale().map().pin(interface="io_uring_register").fork().exit(P)
    assert goes_on(tale) == [Severity.UNSURE]
    assert goes_on(tale.exit()) == [Severity.WARNING]


def test_a_child_that_has_closed_the_ring() -> None:

    def forked() -> Tale:
        return Tale().map().pin(interface="io_uring_register").fork()

    assert goes_on(forked().tell(ev.LetGo, "mr1", task=C).map(at(5), task=C).exit(P)) == []
    assert goes_on(forked().exit(P).tell(ev.LetGo, "mr1", task=C).map(at(5), task=C)) == []
    grandchild = forked().tell(ev.LetGo, "mr1", task=C).fork(300, task=C).map(at(5), task=300)
    assert goes_on(grandchild.exit(P)) == []
    other = forked().map(at(5), task=C).tell(ev.LetGo, "mr2", task=C).exit(P)
    assert goes_on(other) == [Severity.WARNING]
    used_before = forked().map(at(5), task=C).exit(P).tell(ev.LetGo, "mr1", task=C).unpin(task=C)
    assert goes_on(used_before) == [Severity.WARNING]


@pytest.mark.parametrize(
    "tale",
    [
        Tale().map(private=False).pin(interface="io_uring_register").fork(C).exit(P),
        Tale().map().advise("DONTFORK").pin(interface="io_uring_register").fork(C).exit(P),
    ],
)
def test_nothing_of_the_parents_is_left_to_the_daemon(tale: Tale) -> None:
    assert tale.bad() == []


def test_the_parent_ends_the_registration_before_it_goes() -> None:
    tale = Tale().map().pin(interface="io_uring_register").fork(C).unpin().exit(P)
    assert "goes on" not in tale.the("fork-shares-pinned").title

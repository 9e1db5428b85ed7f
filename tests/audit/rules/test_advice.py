"""MADV_DONTFORK too late, or too long."""

from __future__ import annotations

import pytest

from cowcatcher.audit import events as ev
from cowcatcher.audit.events import PAGE, Range
from cowcatcher.audit.finding import Question, Severity
from tests.audit.rules.tale import BUF, C, P, Tale, at


def test_protected_after_the_fork() -> None:
    tale = Tale().map().pin().fork().advise("DONTFORK")
    assert tale.told_at() == ["dontfork-too-late"]
    found = tale.the("dontfork-too-late")
    assert found.severity is Severity.WARNING
    assert found.case is not None
    assert found.case.question is Question.DEVICE_AND_OWNER
    assert [type(e) for e in found.case.events] == [ev.Mapped, ev.Pinned, ev.Forked, ev.Advised]


@pytest.mark.parametrize(
    "tale", [Tale().map().fork().pin().advise("DONTFORK"), Tale().map().fork().advise("DONTFORK").pin()]
)
def test_registered_and_protected_after_the_fork(tale: Tale) -> None:
    found = tale.the("dontfork-too-late")
    assert found.severity is Severity.NOTE
    assert found.case is not None
    assert set(found.case.processes.values()) == {"parent", "child"}


IN_TIME = {
    "the child is gone": Tale().map().pin().fork().exit().advise("DONTFORK"),
    "the child has execed": Tale().map().pin().fork().exec(task=C).advise("DONTFORK"),
    "mapped after the fork": Tale().fork().map().advise("DONTFORK").pin(),
    "mapped anew after the fork": Tale().map().fork().map().advise("DONTFORK").pin(),
    "shared memory": Tale().map(private=False).fork().pin().advise("DONTFORK"),
    "advised before, and again": Tale().map().advise("DONTFORK").fork().advise("DONTFORK").pin(),
    "in the child": Tale().map().fork().map(at(5), task=C).advise("DONTFORK", at(5), task=C).pin(at(5), task=C),
}


@pytest.mark.parametrize("tale", IN_TIME.values(), ids=IN_TIME.keys())
def test_in_time(tale: Tale) -> None:
    assert [f.rule for f in tale.findings() if f.rule == "dontfork-too-late"] == []


def test_a_grandchild_still_shares() -> None:
    tale = Tale().map().pin().fork(C).fork(300, task=C).exit(C).advise("DONTFORK")
    found = tale.the("dontfork-too-late")
    assert found.case is not None
    assert set(found.case.processes) == {P, C, 300}


def test_dofork_missing_when_the_process_forks() -> None:
    tale = Tale().map().advise("DONTFORK").pin().unpin().fork()
    assert tale.told_at() == ["dofork-missing"]
    found = tale.the("dofork-missing")
    assert found.severity is Severity.WARNING
    assert found.ranges == (at(),)
    assert found.case is not None
    assert [type(e) for e in found.case.events] == [ev.Mapped, ev.Advised, ev.Pinned, ev.Unpinned, ev.Forked]


def test_dofork_missing_and_no_fork() -> None:
    assert Tale().map().advise("DONTFORK").pin().unpin().the("dofork-missing").severity is Severity.NOTE
    assert Tale().map().advise("DONTFORK").pin().unpin().exit(P).the("dofork-missing").severity is Severity.NOTE


@pytest.mark.parametrize("sort", [ev.Exited, ev.Execed])
def test_a_registration_that_lasts_as_long_as_its_process(sort: type[ev.Event]) -> None:
    """The watcher says so on the line of the end, just before it."""
    tale = Tale().map().advise("DONTFORK").pin().fork().exit().unpin(time=50)
    line = tale.events[-1].line
    tale.events.append(ev.Exited(50, line, P, 0) if sort is ev.Exited else ev.Execed(50, line, P, "/bin/true"))
    assert [f.rule for f in tale.findings() if f.rule == "dofork-missing"] == []


def test_the_end_is_not_another_time() -> None:
    tale = Tale().map().advise("DONTFORK").pin().unpin().fork().exit(P)
    assert tale.the("dofork-missing").times == 1
    assert tale.fork(300, task=C).the("dofork-missing").times == 1


def test_dofork_missing_and_a_child_that_needs_the_page() -> None:
    tale = Tale().map().advise("DONTFORK").pin().unpin().fork().segv(BUF + 5)
    found = tale.the("dofork-missing")
    assert found.severity is Severity.ERROR
    assert [f.rule for f in tale.findings() if f.severity is Severity.ERROR] == ["dofork-missing"]


GIVEN_BACK = {
    "DOFORK": Tale().map().advise("DONTFORK").pin().unpin().advise("DOFORK").fork(),
    "DOFORK before": Tale().map().advise("DONTFORK").pin().advise("DOFORK").unpin().fork(),
    "unmapped": Tale().map().advise("DONTFORK").pin().unpin().unmap().fork(),
    "still registered": Tale().map().advise("DONTFORK").pin().fork(),
    "registered twice": Tale().map().advise("DONTFORK").pin().pin(handle="mr2").unpin().fork(),
    "registered anew": Tale().map().advise("DONTFORK").pin().unpin().pin().fork(),
    "a pool under DONTFORK for good": Tale().map(at(0, 64)).advise("DONTFORK", at(0, 64)).pin().unpin().fork(),
    "a direct read in such a pool": Tale().map(at(0, 64)).advise("DONTFORK", at(0, 64)).read().unpin("io1").fork(),
    "a direct read": Tale().map().advise("DONTFORK").read().unpin("io1").fork(),
    "exec": Tale().map().pin().unpin().exec().fork(),
}


@pytest.mark.parametrize("tale", GIVEN_BACK.values(), ids=GIVEN_BACK.keys())
def test_given_back(tale: Tale) -> None:
    assert tale.bad() == []
    assert [f.rule for f in tale.findings() if f.rule == "dofork-missing"] == []


def test_dofork_as_rdma_core_does_it_page_by_page() -> None:
    tale = Tale().map(at(0, 4)).advise("DONTFORK", at(0, 4)).pin(at(0, 4)).unpin()
    for page in range(3):
        tale.advise("DOFORK", at(page))
    assert tale.fork().the("dofork-missing").ranges == (at(3),)


def test_a_thousand_registrations_that_leave_it_behind() -> None:
    tale = Tale().map(at(0, 2000))
    for page in range(1500):
        tale.advise("DONTFORK", at(page)).pin(at(page), handle=f"mr{page}").unpin(f"mr{page}")
    (left,) = tale.fork().the("dofork-missing").ranges
    assert left.size >= 1000 * PAGE


def test_the_pages_of_a_partial_buffer() -> None:
    tale = Tale().map(at(0, 2)).advise("DONTFORK", at(0, 2)).pin(Range(BUF + 100, BUF + 5000)).unpin().fork()
    assert tale.the("dofork-missing").ranges == (at(0, 2),)

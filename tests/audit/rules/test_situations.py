"""A finding is as grave as the gravest of the pages in it: each sort of page is asked about."""

from __future__ import annotations

import pytest

from cowcatcher.audit import events as ev
from cowcatcher.audit.events import PAGE, Range
from cowcatcher.audit.finding import Finding, Severity
from cowcatcher.audit.judge import Judge
from cowcatcher.kernels import kernel
from tests.audit.rules.tale import BUF, C, Tale, at

V5_10 = Judge(kernel("v5.10"))
#: Kernels do not copy pinned hugetlb pages before v5.12.
HUGE = at(512, 512)
SHARES = "fork-shares-pinned"


def both_mapped() -> Tale:
    return Tale().map(at(0, 2)).map(HUGE, page=1 << 21)


def judged(tale: Tale, rule: str) -> list[Finding]:
    return [V5_10.judge(f) for f in tale.findings() if f.rule == rule]


def in_one_pin(tale: Tale) -> Tale:
    return tale.tell(ev.Pinned, "f1", "io_uring_register", (at(0, 2), HUGE), True, "")


ONE_FINDING = {
    "two pins": both_mapped().pin(at(0, 2)).pin(HUGE, handle="mr2").fork(),
    "two pins, the other way round": both_mapped().pin(HUGE).pin(at(0, 2), handle="mr2").fork(),
    "two ranges of one pin": in_one_pin(both_mapped()).fork(),
    "the second one at a later fork": both_mapped().pin(at(0, 2)).fork().exit().pin(HUGE, handle="mr2").fork(300),
    "the second one when the first is gone": both_mapped().pin(at(0, 2)).fork().unpin().pin(HUGE).fork(300),
}


@pytest.mark.parametrize("tale", ONE_FINDING.values(), ids=ONE_FINDING)
def test_hugetlb_beside_small_pages(tale: Tale) -> None:
    (found,) = judged(tale, SHARES)
    assert found.severity is Severity.ERROR
    assert found.case is not None
    assert found.case.page == HUGE


def test_what_is_the_same_is_asked_about_once() -> None:
    tale = Tale()
    for number in range(20):
        tale.map(at(2 * number)).pin(at(2 * number), handle=f"mr{number}")
    found = tale.fork().the(SHARES)
    assert (found.others, found.unjudged) == ((), 0)


def test_whole_page_and_part_of_one() -> None:
    found = Tale().map(at(0, 3)).pin(Range(BUF, BUF + PAGE + 100)).fork().the(SHARES)
    assert found.case is not None
    assert found.case.pinned == found.case.page
    ((other, timeline),) = found.others
    assert other.pinned == Range(BUF + PAGE, BUF + PAGE + 100)
    assert timeline
    assert other.events == found.case.events


def test_more_situations_than_are_asked_about_are_no_good_news() -> None:
    tale = Tale()
    for number in range(12):
        where = at(4 * number)
        tale.map(where, prot="rw-" if number % 2 else "r--", page=PAGE)
        for bit, advice in enumerate(("HUGEPAGE", "MERGEABLE", "COLD")):
            if number >> (bit + 1) & 1:
                tale.advise(advice, where)
        part = where if number % 3 else Range(where.start, where.start + 100)
        tale.pin(part, handle=f"mr{number}")
    (found,) = (f for f in tale.fork().findings() if f.rule == SHARES)
    assert found.unjudged > 0
    assert Judge(kernel("v6.12")).judge(found).severity is not Severity.GOOD


def test_what_became_of_the_processes_is_in_all_cases() -> None:
    found = in_one_pin(both_mapped()).fork().exit().the(SHARES)
    assert found.case is not None
    for case in (found.case, *(case for case, _ in found.others)):
        assert isinstance(case.events[-1], ev.Exited)
        assert case.events[-1].task == C


def test_known_and_unknown_mappings_of_one_pin() -> None:
    """What is known of one says nothing of the other."""
    tale = Tale().map(at(0)).tell(ev.Pinned, "f1", "io_uring_register", (at(0), at(9)), True, "").fork()
    assert sorted(f.severity.value for f in judged(tale, SHARES)) == ["could not tell", "good"]


def test_protection_that_only_a_part_needs() -> None:
    """DONTFORK on small pages is not needed on v5.10; on hugetlb it is."""
    tale = both_mapped()
    stack = ("librdmacm.so.1!mark+0x1",)
    tale.advise("DONTFORK", at(0, 2), stack=stack).advise("DONTFORK", HUGE, stack=stack)
    small = judged(tale.pin(at(0, 2)).fork(), "fork-protection")
    assert [f.severity for f in small] == [Severity.GOOD]
    tale.exit().pin(HUGE, handle="mr2").fork(300)
    assert [f.severity for f in judged(tale, "fork-protection")] == [Severity.NOTE]


def test_too_late_for_a_part_of_it() -> None:
    tale = in_one_pin(both_mapped()).fork().advise("DONTFORK", at(0, 2)).advise("DONTFORK", HUGE)
    (found,) = judged(tale, "dontfork-too-late")
    assert found.severity is Severity.WARNING


def test_huge_pages_that_this_kernel_does_not_copy() -> None:
    """It is judged by the huge page, not by what else the pin holds."""
    found = in_one_pin(both_mapped()).fork().the("huge-copy-at-fork")
    assert found.case is not None
    assert found.case.page == HUGE

"""Findings judged: verdicts, the decision that makes the difference, severity, and the small test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cowcatcher.audit.derive import derive
from cowcatcher.audit.finding import Case, Finding, Judged, OnKernel, Question, Severity
from cowcatcher.audit.judge import Judge, applies, judge
from cowcatcher.explore.verdict import Checker, Verdict, as_expected
from cowcatcher.kernels import LINE, kernel
from cowcatcher.litmus import check, to_text
from tests.audit.derive.told import (
    CHILD,
    CHILD2,
    PAGE,
    PARENT,
    Trace,
    finding,
    huge,
    of_other_processes,
    partial,
)

REGISTERED = Trace().mapped().taken("ibv_reg_mr").forked().ended().given_back().case(Question.DEVICE_AND_OWNER)
FROM_NFS = partial().mapped().taken("dio_read", detail="fd 5, /x, nfs").forked().case(Question.DEVICE_AND_OWNER)
NEWEST, BROKEN = LINE[-1], kernel("v5.9-rc4")


def judged(found: Finding) -> Judged:
    assert found.judged is not None
    return found.judged


def on_this(found: Finding) -> OnKernel:
    here = judged(found).here
    assert here is not None
    return here


def test_not_needed_here_because() -> None:
    found = judge(finding(REGISTERED), NEWEST)
    assert found.severity is Severity.GOOD
    here = on_this(found)
    assert (here.kernel, here.verdict) == (NEWEST.name, "holds")
    assert here.because.startswith("fork_copies_pinned_exclusive: fb3d824d1a46")
    assert [(g.kernel, g.verdict) for g in judged(found).groups] == [
        ("v5.7..v5.9-rc4", "violated"),
        (f"v5.9..{NEWEST.name}", "holds"),
    ]
    assert judged(found).groups[1].because == (
        'fork_copies_pinned: 70e806e4e645 ("mm: Do early cow for pinned pages during fork() for ptes"), in v5.9-rc7 '
        'and 008cfe4418b3 ("mm: Introduce mm_struct.has_pinned"), in v5.9-rc7'
    )


def test_the_reason_is_what_protects_on_that_kernel() -> None:
    here = on_this(judge(finding(REGISTERED), kernel("v5.10")))
    assert here.because.startswith("fork_copies_pinned: 70e806e4e645")


def test_needed_here() -> None:
    found = judge(finding(REGISTERED), BROKEN)
    here = on_this(found)
    assert found.severity is Severity.ERROR
    assert here.verdict == "violated"
    assert here.because.startswith("what would help: fork_copies_pinned: 70e806e4e645")


def test_no_kernel_helps() -> None:
    found = judge(finding(FROM_NFS, "direct-io-across-fork"), NEWEST)
    assert found.severity is Severity.ERROR
    assert on_this(found) == OnKernel(NEWEST.name, "violated", "no decision of any kernel helps")


def test_the_kernel_is_not_known() -> None:
    """Some let it happen, the newest does not: that is for whoever knows the kernel to say."""
    found = judge(finding(REGISTERED), None)
    assert judged(found).here is None
    assert found.severity is Severity.UNSURE
    assert found.title.endswith("; at risk on v5.7..v5.9-rc4")
    assert "v5.7..v5.9-rc4 let it happen, others do not" in found.explanation


def test_the_kernel_is_not_known_and_the_newest_lets_it_happen() -> None:
    of_late = Judge(None, kernels=[kernel("v5.10"), BROKEN])
    found = of_late.judge(finding(REGISTERED))
    assert (found.severity, found.title.partition("; ")[2]) == (Severity.WARNING, "at risk on v5.9-rc4")


def test_the_kernel_is_not_known_and_it_is_the_same_on_all() -> None:
    well = Judge(None, kernels=LINE[-2:]).judge(finding(REGISTERED))
    assert well.severity is Severity.GOOD
    assert "the same on all" in well.explanation
    assert judge(finding(FROM_NFS, "direct-io-across-fork"), None).severity is Severity.ERROR


def test_note_stays_note_where_the_kernel_is_not_known() -> None:
    assert judge(finding(REGISTERED, "fork-protection", Severity.NOTE), None).severity is Severity.NOTE


def test_filesystem_that_nobody_saw_may_be_another() -> None:
    """A block device's transfers hold a pin, NFS's a reference that fork() does not know of."""
    told = {}
    for detail in ("fd 5, /mnt/x", "fd 5, /x, ext4", "fd 5, /x, nfs", "fd 5, /dev/dm-0"):
        case = partial().mapped().taken("dio_read", detail=detail).forked().case(Question.DEVICE_AND_OWNER)
        told[detail] = judge(finding(case, "direct-io-across-fork"), kernel("v6.12"))
    assert [f.severity for f in told.values()] == [Severity.UNSURE, Severity.GOOD, Severity.ERROR, Severity.GOOD]
    assert "filesystem was not seen, and on NFS it does not hold" in told["fd 5, /mnt/x"].explanation


def test_mapping_that_nobody_saw_is_not_taken_for_small_pages() -> None:
    case = Trace().taken("io_uring_register").forked().case(Question.DEVICE_AND_OWNER)
    assert judge(finding(case, severity=Severity.UNSURE), kernel("v5.10")).severity is Severity.UNSURE


def test_good_news_of_the_rule_that_the_model_denies() -> None:
    assert judge(finding(REGISTERED, severity=Severity.GOOD), BROKEN).severity is Severity.UNSURE


def test_no_test_of_what_may_need_protection() -> None:
    case = Trace().mapped().taken("dio_read", detail="fd 5, /x, ceph").forked().case(Question.DEVICE_AND_OWNER)
    found = judge(finding(case, "direct-io-across-fork"), NEWEST)
    assert (found.severity, judged(found).why_not) == (Severity.UNSURE, "direct I/O of ceph")
    assert "Could not tell whether it is at risk: direct I/O of ceph." in found.explanation


def test_own_exec_ends_the_story() -> None:
    """What was registered and copied before is what the finding is about."""
    trace = Trace().mapped().taken("io_uring_register").forked().ended().execed(PARENT)
    found = judge(finding(trace.case(Question.DEVICE_AND_OWNER)), NEWEST)
    assert (found.severity, judged(found).why_not) == (Severity.GOOD, "")
    assert judge(finding(trace.case(Question.DEVICE_AND_OWNER)), BROKEN).severity is Severity.ERROR


def test_copy_that_this_kernel_does_not_make() -> None:
    hugetlb = huge().mapped().taken("io_uring_register").forked().case(Question.DEVICE_AND_OWNER)
    found = finding(hugetlb, "huge-copy-at-fork", Severity.NOTE)
    assert [applies(judge(found, kernel(name))) for name in ("v5.10", "v6.12")] == [False, True]


def test_gravest_of_several_cases_counts() -> None:
    hugetlb = huge().mapped().taken("ibv_reg_mr").forked().case(Question.DEVICE_AND_OWNER)
    several = replace(finding(REGISTERED), others=((hugetlb, ()),))
    found = judge(several, kernel("v5.10"))
    assert (found.severity, found.case) == (Severity.ERROR, hugetlb)
    assert "the gravest, at 0x7f0000200000" in found.explanation
    assert judge(several, NEWEST).severity is Severity.GOOD
    assert judge(replace(several, unjudged=1), NEWEST).severity is Severity.UNSURE


def test_a_step_that_the_trace_has_not_is_a_warning() -> None:
    trace = partial().mapped().advised("DONTFORK").taken("ibv_reg_mr").forked()
    foreseen = finding(trace.case(Question.CHILD_READS_NEIGHBOUR), "dontfork-neighbours")
    assert judge(foreseen, NEWEST).severity is Severity.WARNING
    happened = finding(trace.killed(PAGE.start).case(Question.CHILD_READS_NEIGHBOUR), "dontfork-neighbours")
    assert judge(happened, NEWEST).severity is Severity.ERROR


@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.UNSURE, Severity.NOTE])
def test_what_the_rule_is_unsure_of_is_not_made_sure(severity: Severity) -> None:
    assert judge(finding(REGISTERED, severity=severity), BROKEN).severity is severity


def test_a_rule_that_asks_for_no_protection_keeps_its_word() -> None:
    assert judge(finding(REGISTERED, "huge-copy-at-fork", Severity.WARNING), NEWEST).severity is Severity.WARNING


def test_what_was_seen_to_happen_is_no_less_for_what_is_assumed() -> None:
    moved = finding(Trace().mapped().taken("ibv_reg_mr").case(Question.DEVICE_AND_OWNER), "moved-under-pin")
    assert judge(moved, BROKEN).severity is judge(moved, NEWEST).severity is Severity.ERROR


def test_could_not_tell_and_not_applicable_are_two_things() -> None:
    thp = Trace().mapped().huge().taken("ibv_reg_mr").forked().case(Question.DEVICE_AND_OWNER)
    found = judge(finding(thp), NEWEST)
    assert on_this(found).verdict == "not applicable"
    assert "transparent huge pages" in judged(found).why_not
    assert found.severity is Severity.UNSURE
    rushed = Judge(NEWEST, seconds=-1.0).judge(finding(REGISTERED))
    assert {g.verdict for g in judged(rushed).groups} == {"could not tell"}


def test_no_test_can_be_made() -> None:
    case = Trace().taken("msg_zerocopy", False).forked().case(Question.DEVICE_AND_OWNER)
    found = judge(finding(case, "overwritten-in-flight"), NEWEST)
    assert "MSG_ZEROCOPY" in judged(found).why_not
    assert (found.severity, judged(found).groups, judged(found).small) == (Severity.ERROR, (), None)


def test_a_rule_that_asks_nothing_of_the_model_is_left_alone() -> None:
    plain = replace(finding(REGISTERED, "vma-growth"), case=None)
    assert judge(plain, NEWEST) == plain


def test_protection_that_is_on_is_judged_without_it() -> None:
    case = Trace().mapped().advised("DONTFORK").taken("ibv_reg_mr").forked().case(Question.DEVICE_AND_OWNER)
    on = finding(case, "fork-protection", Severity.NOTE)
    assert judge(on, NEWEST).severity is Severity.GOOD
    assert judge(on, BROKEN).severity is Severity.NOTE


def test_equal_tests_are_judged_once() -> None:
    judge_of_many = Judge(NEWEST)
    first = judged(judge_of_many.judge(finding(REGISTERED)))
    for i in range(200):
        again = judge_of_many.judge(finding(of_other_processes(REGISTERED, 1000 * (i + 1))))
        assert again.severity is Severity.GOOD
        assert judged(again).groups is first.groups


# --- the small test ---------------------------------------------------------------------------------------------------

CASES = {
    "registered": REGISTERED,
    "nfs": FROM_NFS,
    "block": partial().mapped().taken("dio_read").forked().ended().given_back().case(Question.DEVICE_AND_OWNER),
    "foreign": partial().mapped().taken("dio_write", False).forked().case(Question.DEVICE_READS_FOREIGN),
    "neighbour": partial()
    .mapped().advised("DONTFORK").taken("ibv_reg_mr").forked().killed(PAGE.start)
    .case(Question.CHILD_READS_NEIGHBOUR),
    "dofork": Trace()
    .mapped().advised("DONTFORK").taken("ibv_reg_mr").given_back().forked()
    .case(Question.CHILD_READS_BUFFER),
    "sees": Trace().mapped().taken("io_uring_register").forked().case(Question.CHILD_SEES_DEVICE),
    "freed": partial().mapped().taken("ibv_reg_mr").freed().case(Question.FREED_UNDER_DEVICE),
    "unmapped": Trace().mapped().taken("ibv_reg_mr").unmapped().case(Question.FREED_UNDER_DEVICE),
    "overwritten": Trace().mapped().taken("vmsplice", False).overwritten().case(Question.DEVICE_AND_OWNER),
    "copied": partial().mapped().taken("process_vm").forked().case(Question.DEVICE_AND_OWNER),
    "two children": Trace()
    .mapped().taken("ibv_reg_mr").forked().forked(CHILD2).execed(CHILD2).ended(CHILD).given_back()
    .case(Question.DEVICE_AND_OWNER),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_small_test_shows_it_and_expects_it(name: str) -> None:
    case = CASES[name]
    found = judged(judge(finding(case), NEWEST))
    small = found.small
    assert small is not None
    assert not check(small)
    whole = derive(case)
    assert sum(len(a.body) for a in small.actors) <= sum(len(a.body) for a in whole.actors)
    assert [m.cells for m in small.memory] == [m.cells for m in whole.memory]
    checker = Checker(small)
    for k in LINE:
        assert as_expected(checker.check(k)) is True, k.name
    assert any(checker.check(k).verdict is Verdict.VIOLATED for k in LINE)


@pytest.mark.parametrize("name", CASES)
def test_the_whole_test_expects_what_was_found(name: str) -> None:
    whole = judged(judge(finding(CASES[name]), NEWEST)).test
    checker = Checker(whole)
    assert all(as_expected(checker.check(k)) is True for k in LINE)


def test_it_is_made_small_on_the_kernel_at_hand() -> None:
    small = judged(judge(finding(CASES["two children"]), BROKEN)).small
    assert small is not None
    assert [s.op for a in small.actors for s in a.body] == ["ibv_reg_mr", "fork", "store", "post", "await", "dma_read"]


def test_names_stay() -> None:
    small = judged(judge(finding(FROM_NFS), NEWEST)).small
    assert small is not None
    assert [a.name for a in small.actors] == ["parent", "child", "server"]
    assert "io = dio_read(page, NFS)" in to_text(small)


def test_judging_is_deterministic() -> None:
    def words(case: Case) -> tuple[object, ...]:
        found = judge(finding(case), NEWEST)
        small = judged(found).small
        return found.severity, judged(found).groups, small and to_text(small)

    assert all(words(case) == words(case) for case in CASES.values())
    assert CHILD != CHILD2

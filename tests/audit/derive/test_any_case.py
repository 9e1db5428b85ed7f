"""Whatever a trace holds: a test that makes sense, or a reason why there is none; the same one each time."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cowcatcher.audit.derive import CannotDerive, Derived, derive, derived
from cowcatcher.audit.emit import emit
from cowcatcher.audit.events import (
    PAGE as PAGE_SIZE,
)
from cowcatcher.audit.events import (
    Advised,
    Event,
    Execed,
    Exited,
    Forked,
    Freed,
    Mapped,
    Moved,
    Overwritten,
    Pinned,
    Protected,
    Range,
    Signalled,
    Unmapped,
    Unpinned,
)
from cowcatcher.audit.finding import Case, Question
from cowcatcher.audit.judge import Judge
from cowcatcher.explore.program import NotModelled, compile_test
from cowcatcher.kernels import kernel
from cowcatcher.litmus import check, format_source, parse, to_text
from tests.audit.derive.told import PAGE, PART, finding

#: Tasks and the process of each: 1 and 2 are threads of the owner.
PROCESSES = {1: "owner", 2: "owner", 3: "child", 4: "other", 5: "grandchild"}
TASKS = st.sampled_from(sorted(PROCESSES))
RANGES = st.sampled_from([
    PAGE, PART, Range(PAGE.start - PAGE_SIZE, PAGE.end + PAGE_SIZE), Range(PAGE.end, PAGE.end + PAGE_SIZE),
])  # fmt: skip
HANDLES = st.sampled_from(["a", "b"])
INTERFACES = st.sampled_from([
    "ibv_reg_mr", "odp_reg_mr", "io_uring_register", "vfio_map", "xdp_umem", "vmsplice", "dio_read", "dio_write",
    "process_vm", "msg_zerocopy",
])  # fmt: skip
DETAILS = st.sampled_from(["", "fd 5, /data/x, ext4", "fd 5, /data/x, nfs", "fd 5, /x, fuse", "fd 5, /x, ceph"])
PROTS = st.sampled_from(["rw-", "r--", "---", "r-x"])
ADVICES = st.sampled_from(["DONTFORK", "DOFORK", "DONTNEED", "FREE", "WIPEONFORK", "MERGEABLE", "WILLNEED", "COLLAPSE"])
BOOLS = st.booleans()


def at(kind: Any, *rest: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The event without its time and line, which follow from its place."""
    return st.tuples(st.just(kind), TASKS, st.tuples(*rest))


SAID = st.lists(
    st.one_of(
        at(Mapped, RANGES, PROTS, BOOLS, BOOLS, st.sampled_from([PAGE_SIZE, 1 << 21]), st.sampled_from(["", "[heap]"])),
        at(Unmapped, RANGES),
        at(Moved, RANGES, RANGES, st.sampled_from([False, False, True])),
        at(Protected, RANGES, PROTS),
        at(Advised, RANGES, ADVICES),
        at(Pinned, HANDLES, INTERFACES, st.tuples(RANGES), BOOLS, DETAILS),
        at(Pinned, HANDLES, INTERFACES, st.tuples(RANGES), BOOLS, DETAILS),
        at(Unpinned, HANDLES),
        at(Forked, TASKS, st.sampled_from([False, False, True]), BOOLS, st.just("clone"), st.integers(0, 20)),
        at(Forked, TASKS, st.just(False), st.just(False), st.just("fork")),
        at(Execed, st.just("/bin/true")),
        at(Exited, st.just(0)),
        at(Signalled, st.just("SIGSEGV"), st.just("SEGV_MAPERR"), st.sampled_from([PAGE.start, PART.start])),
        at(Freed, RANGES),
        at(Overwritten, HANDLES, RANGES),
    ),
    max_size=14,
)


def told(said: list[tuple[Any, int, tuple[Any, ...]]]) -> tuple[Event, ...]:
    return tuple(kind(float(i), i, task, *rest) for i, (kind, task, rest) in enumerate(said, 1))


CASES = st.builds(
    lambda said, question, owner, pinned: Case(question, told(said), PROCESSES, owner, PAGE, pinned),
    SAID,
    st.sampled_from(Question),
    st.sampled_from(["owner", "owner", "child"]),
    st.sampled_from([PAGE, PART]),
)
MANY = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def derived_or_why(case: Case) -> Derived | str:
    try:
        return derived(case)
    except CannotDerive as why:
        return why.reason


@MANY
@given(CASES)
def test_a_test_or_a_reason(case: Case) -> None:
    found = derived_or_why(case)
    if isinstance(found, str):
        assert found
        return
    test = found.test
    assert not check(test, bounded=False)
    assert parse(to_text(test)) == test
    assert derive(case) == test
    assert test.claims
    for actor in test.actors:
        for statement in actor.body:
            origin = found.origins[statement.span.line - 1]
            assert origin.event is not None or origin.note
    with suppress(NotModelled):
        compile_test(test)
    text = emit(finding(case))
    assert format_source(text) == text


@settings(MANY, max_examples=60)
@given(CASES)
def test_any_case_can_be_judged(case: Case) -> None:
    found = Judge(kernel("v5.10"), shrink_seconds=1.0).judge(finding(case))
    assert found.judged is not None
    assert found.judged.groups or found.judged.why_not
    if found.judged.groups:
        text = emit(found)
        assert format_source(text) == text
        parse(text)

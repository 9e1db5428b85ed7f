"""From forty thousand lines to ten."""

from __future__ import annotations

from collections.abc import Callable

from cowcatcher.audit.derive import derived
from cowcatcher.audit.emit import emit
from cowcatcher.audit.events import Event
from cowcatcher.audit.finding import Case, Question, Severity
from cowcatcher.audit.judge import judge
from cowcatcher.kernels import kernel
from cowcatcher.litmus import check, parse
from tests.audit.derive.told import NAMES, PAGE, Trace, finding


def long_case(helpers: int) -> tuple[Case, int]:
    """A server that starts helpers all the time, with scratch buffers that come and go beside them."""
    trace = Trace().mapped()
    names = dict(NAMES)
    for i in range(helpers):
        child = 10_000 + i
        names[child] = f"helper {i}"
        trace.taken("io_uring_register", handle=f"s{i}").given_back(f"s{i}")
        if i == helpers // 3:
            trace.taken("ibv_reg_mr", handle="long")
        trace.forked(child).advised("WILLNEED", child)
        trace.execed(child) if i % 2 else trace.ended(child)
        if not i % 7:
            trace.protected("r--").protected("rw-")
    trace.given_back("long")
    events: tuple[Event, ...] = tuple(trace.events)
    return Case(Question.DEVICE_AND_OWNER, events, names, "parent", PAGE, PAGE), trace.line


def test_from_forty_thousand_lines_to_ten() -> None:
    case, lines = long_case(7_500)
    assert lines > 39_000
    found = derived(case)
    assert not check(found.test, bounded=False)
    assert found.repeated > 30_000
    told = judge(finding(case), kernel("v5.8"))
    assert told.judged is not None
    assert told.judged.small is not None
    text = emit(told)
    small = parse(text)
    statements = [s for actor in small.actors for s in actor.body]
    assert len(statements) <= 10
    assert [s.op for s in small.actors[0].body][:3] == ["ibv_reg_mr", "fork", "store"]
    assert "more calls that only did again what stands here" in text


def many(children: int, did: Callable[[Trace, int, int], object]) -> Case:
    trace = Trace().mapped().taken("ibv_reg_mr")
    names = dict(NAMES)
    for i in range(children):
        names[10_000 + i] = f"worker {i}"
        trace.forked(10_000 + i)
        did(trace, 10_000 + i, i)
    return Case(Question.DEVICE_AND_OWNER, tuple(trace.events), names, "parent", PAGE, PAGE)


def test_of_many_children_that_are_alike_two_are_enough() -> None:
    found = derived(many(50, lambda trace, child, _: trace))
    assert [a.name for a in found.test.actors if a.kind == "process"] == ["parent", "child", "child2"]
    assert found.repeated == 48


def test_of_many_children_that_differ_none_is_left_out() -> None:
    """That is said, and nothing is made up."""

    def differ(trace: Trace, child: int, number: int) -> None:
        for bit, advice in enumerate(("MERGEABLE", "UNMERGEABLE", "POPULATE_READ", "POPULATE_WRITE", "KEEPONFORK")):
            if number >> bit & 1:
                trace.advised(advice, child)

    told = judge(finding(many(30, differ)), kernel("v7.3"))
    assert told.judged is not None
    assert "too many for the model" in told.judged.why_not
    assert told.severity is Severity.UNSURE

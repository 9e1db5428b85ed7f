"""The ordered form: which statement comes after which."""

from __future__ import annotations

import pytest

from cowcatcher.litmus import parse
from cowcatcher.litmus.order import NoOrder, ordered


def order(text: str) -> list[str]:
    """``actor.index`` of every step."""
    return [f"{s.actor}.{s.index}" for s in ordered(parse(f"test t\nmemory {{ x = anon(1) }}\n{text}\nnever r == 9"))]


def test_the_current_actor_goes_on_until_it_blocks() -> None:
    assert order(
        """
        process p { fork(c); store(x, 2); post(go); await(done); r = load(x) }
        process c { store(x, 3); exit() }
        device d { await(go); post(done) }
        """
    ) == ["p.0", "p.1", "p.2", "c.0", "c.1", "d.0", "d.1", "p.3", "p.4"]


def test_wait_lets_the_child_run_first() -> None:
    assert order("process p { fork(c); wait(c); r = load(x) }\nprocess c { exit() }") == ["p.0", "c.0", "p.1", "p.2"]


def test_an_event_counts() -> None:
    assert order(
        """
        process p { post(e); post(e); await(e); await(e); r = load(x) }
        """
    ) == ["p.0", "p.1", "p.2", "p.3", "p.4"]


def test_vfork_suspends_its_caller_until_the_child_execs() -> None:
    assert order("process p { vfork(c); r = load(x) }\nprocess c { store(x, 2); exec(); s = load(x) }") == [
        "p.0", "c.0", "c.1", "c.2", "p.1",
    ]  # fmt: skip


def test_a_process_that_is_not_forked_yet_does_not_run() -> None:
    assert order("process p { await(e); fork(c); r = load(x) }\nprocess c { exit() }\ndevice d { post(e) }") == [
        "d.0", "p.0", "p.1", "p.2", "c.0",
    ]  # fmt: skip


def test_threads_end_with_their_process() -> None:
    assert order("process p { exit() }\nthread t of p { r = load(x) }") == ["p.0"]


def test_another_order_is_found_where_the_rule_alone_would_deadlock() -> None:
    """p would exit and take its thread along before the thread has posted what the device waits for."""
    steps = order("process p { exit() }\nthread t of p { r = post(e) }\ndevice d { await(e) }")
    assert steps.index("t.0") < steps.index("p.0")


def test_a_deadlock_is_named() -> None:
    with pytest.raises(NoOrder, match=r"p waits for post\(a\); d waits for post\(b\)"):
        order("process p { await(a); post(b); r = load(x) }\ndevice d { await(b); post(a) }")


def test_waiting_for_a_process_that_never_ends_is_a_deadlock() -> None:
    with pytest.raises(NoOrder, match="p waits for c to end"):
        order("process p { fork(c); wait(c); r = load(x) }\nprocess c { store(x, 2) }")

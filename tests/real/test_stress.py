"""Races: all actors at once, many times over, on the kernel of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cowcatcher.litmus import parse
from cowcatcher.litmus.order import NoOrder, ordered
from cowcatcher.real.host import Observation, run_host, run_lowered
from cowcatcher.real.lower import NotApplicable, Race, lower

from .test_host import PLAIN, SEED, agents, wait_for

Racing = Callable[..., Observation]


@pytest.fixture
def race(agent: Path) -> Racing:
    """Race one test; the body alone is enough."""

    def race_one(text: str, runs: int = 200, seed: int = 1) -> Observation:
        body = text if text.lstrip().startswith("test ") else f"test t\n{text}"
        (seen,) = run_host([parse(body)], agent=agent, timeout=20, race=Race(runs, seed))
        return seen

    return race_one


#: What is rare is looked for this often, 200 runs each time.
BATCHES = 20


def test_a_race_shows_both_outcomes(race: Racing) -> None:
    text = "memory { x = anon(1) }\nprocess p { store(x, 2) }\nthread t of p { r = load(x) }"
    found = set()
    for seed in range(BATCHES):
        seen = race(text, seed=seed)
        assert seen.status == "ok", seen.reason
        assert sum(one.count for one in seen.outcomes) == seen.made == 200
        assert min(one.first for one in seen.outcomes) == 0
        found |= {one.observation.registers["r"] for one in seen.outcomes}
        if len(found) > 1:
            break
    assert found == {1, 2}


SEQUENTIAL = {
    "plain": PLAIN,
    "exec": """
        test t
        memory { x = anon(1) }
        process p { fork(c); await(done); store(x, 2); post(go); await(end); r = load(x) }
        process c { exec(); post(done); await(go); s = load(x); post(end) }
        """,
    "vfork": """
        test t
        memory { x = anon(1) }
        process p { v = vfork(c); r = load(x) }
        process c { store(x, 3); exit() }
        """,
    "mremap": """
        test t
        memory { x = anon(1, pages=2) }
        process p { store(x[1], 4); mremap(x); fork(c); wait(c); a = load(x[0]); b = load(x[1]) }
        process c { store(x[0], 5); mremap(x); d = load(x[0]); e = load(x[1]); exit() }
        """,
    "errors": """
        test t
        memory { x = anon(1) }
        process p { fork(c); wait(c); a = peek(c, x); r = load(x) }
        process c { munmap(x); s = load(x); m = mlock(x); exit() }
        """,
    "threads of a child": """
        test t
        memory { x = anon(1) }
        process p { fork(c); await(b); r = peek(c, x); s = load(x) }
        process c { await(a) }
        thread t of c { store(x, 7); post(a); post(b) }
        """,
}


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_what_is_sequential_ends_in_one_way(name: str, race: Racing, agent: Path) -> None:
    """... which is that of the ordered form, whatever the delays."""
    (alone,) = run_host([parse(SEQUENTIAL[name])], agent=agent)
    seen = race(SEQUENTIAL[name], runs=100)
    assert seen.status == "ok", seen.reason
    (one,) = seen.outcomes
    assert (one.count, one.observation.registers) == (100, alone.registers)
    assert one.observation.deaths == alone.deaths
    assert [(p.process, p.mapping, p.index, p.state) for p in one.observation.pages] == [
        (p.process, p.mapping, p.index, p.state) for p in alone.pages
    ]


def test_a_death_is_waited_for(race: Racing) -> None:
    """Which the ordered form does not foresee."""
    seen = race(
        """
        memory { x = anon(1) }
        process p { fork(c); wait(c); a = peek(c, x); r = load(x) }
        process c { munmap(x); store(x, 3) }
        """
    )
    (one,) = seen.outcomes
    assert one.observation.registers == {"a": "ESRCH", "r": 1}
    assert one.observation.deaths == {"c": "SIGSEGV"}


@pytest.mark.usefixtures("need_rings")
def test_the_seed_is_never_violated(race: Racing, need_frames: None) -> None:
    """Not on a kernel as new as this one, however the store races the child's end."""
    from cowcatcher.real.compare import evaluate

    text = SEED.format(wait="")
    seen = race(text, runs=300)
    assert seen.status == "ok", seen.reason
    assert {c.verdict.value for one in seen.outcomes for c in evaluate(parse(text), one.observation)} == {"holds"}


def test_whoever_waits_for_ever_is_told_at_once(race: Racing) -> None:
    """No time limit is needed for it: nobody is left who could post the event."""
    began = time.monotonic()
    text = """
        memory { x = anon(1) }
        process p { fork(c); await(e); await(e); r = load(x) }
        process c { post(e); exit() }
        """
    seen = race(text, runs=50)
    assert seen.status == "ok", seen.reason
    (one,) = seen.outcomes
    assert one.observation.blocked == ("p",)
    assert one.observation.registers == {}
    assert time.monotonic() - began < 15


def test_a_test_without_an_ordered_form(race: Racing) -> None:
    """Both threads want the one event; each of them gets it now and then, and the other waits for ever."""
    text = "test t\nmemory { x = anon(1) }\nprocess p { post(e); await(e) }\nthread t of p { await(e) }"
    with pytest.raises(NoOrder):
        ordered(parse(text))
    found = set()
    for seed in range(BATCHES):
        found |= {one.observation.blocked for one in race(text, seed=seed).outcomes}
        if len(found) > 1:
            break
    assert found == {("p",), ("t",)}


def test_a_hang_ends_by_the_time_limit(agent: Path) -> None:
    """... with everything cleaned up, and the next test is raced as if nothing had been."""
    lowered = lower(parse(PLAIN), race=Race(10))
    hanging = replace(lowered, lines=tuple(line.replace(" store ", " hang ") for line in lowered.lines))
    hung, fine = run_lowered([hanging, lowered], timeout=0.5, agent=agent)
    assert (hung.status, hung.made) == ("timeout", 0)
    assert "c: store(x, 2)" in hung.reason
    assert (fine.status, fine.made) == ("ok", 10)
    assert wait_for(lambda: not agents(agent))


@pytest.mark.usefixtures("need_rings")
def test_memory_that_was_released_is_not_used(race: Racing) -> None:
    """What a real device would do then is more than io_uring does: nothing can be told."""
    seen = race(
        """
        memory { x = anon(1) }
        process p { mr = io_uring_register(x); unpin(mr); post(go) }
        device d { await(go); dma_write(mr, 3) }
        """,
        runs=5,
    )
    assert seen.status == "not applicable"
    assert "released" in seen.reason


def test_a_seed_makes_other_delays(agent: Path) -> None:
    lowered = [lower(parse(PLAIN), race=Race(3, seed)).text(0, 1, False) for seed in (1, 2)]
    assert lowered[0] != lowered[1]


def test_an_address_that_moves_under_others_is_refused() -> None:
    test = parse("test t\nmemory { x = anon(1) }\nprocess p { mremap(x) }\nthread t of p { r = load(x) }")
    with pytest.raises(NotApplicable, match="t may use an address"):
        lower(test, race=Race())

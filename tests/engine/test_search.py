"""The engine on graphs that are written out, against slow searches of the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the engine needs numba (cowcatcher[fast])")

from hypothesis import given, settings
from hypothesis import strategies as st

from cowcatcher.engine.checkpoint import Refused
from cowcatcher.engine.search import Found, Progress, search
from tests.engine.toy import STAY, Graph, distances, node_of, random_graph, space

MEMORY = 64 << 20
MODES = [(1, False), (2, False), (1, True), (2, True)]


def explore(graph: Graph, stays: bool, initial: tuple[int, ...] = (0,), **how: object) -> Found:
    its_space, table = space(graph, stays, initial)
    found = search(its_space, memory=MEMORY, **how)  # type: ignore[arg-type]
    found.table = table  # type: ignore[attr-defined]
    return found


def check(graph: Graph, stays: bool, found: Found, initial: tuple[int, ...] = (0,)) -> None:
    """Everything that was found is right, and nothing is missing."""
    far = distances(graph, stays, initial)
    counts = Counter(far.values())
    assert found.stopped == ""
    assert found.states == len(far)
    assert found.levels == [counts[i] for i in range(len(counts))]
    assert found.transitions == sum(len(graph.steps[node]) for node in far)
    assert found.finals == sum(not graph.steps[node] for node in far)
    seen = set()
    for number in range(found.states):
        node = node_of(found.start_of(number))
        cost = 0
        for step, there in found.path(number):
            to, flags = graph.steps[node][step]
            assert node_of(there) == to
            cost += not (stays and flags & STAY)
            node = to
        assert cost == far[node]
        seen.add(node)
    assert seen == set(far)


@pytest.mark.parametrize(("threads", "exact"), MODES)
@pytest.mark.parametrize("stays", [False, True])
def test_levels_and_ways(stays: bool, threads: int, exact: bool) -> None:
    graph = random_graph(7, 3000, 0.5)
    check(graph, stays, explore(graph, stays, threads=threads, exact=exact, round_states=50))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 400), st.sampled_from([0.0, 0.2, 0.8]), st.sampled_from(MODES))
def test_random_graphs(seed: int, nodes: int, stay: float, mode: tuple[int, bool]) -> None:
    graph = random_graph(seed, nodes, stay)
    initial = (0, nodes // 2) if nodes > 1 else (0,)
    for stays in (False, True):
        found = explore(graph, stays, initial, threads=mode[0], exact=mode[1], round_states=1 + seed % 40)
        check(graph, stays, found, initial)


@pytest.mark.parametrize("stays", [False, True])
def test_nothing_depends_on_threads_rounds_or_mode(stays: bool) -> None:
    """States, numbers, ways, and what is kept of flagged steps."""
    graph = random_graph(11, 5000, 0.4, flagged=0.02)
    results = []
    for threads, exact in MODES:
        for round_states in (7, 300, None):
            found = explore(
                graph, stays, threads=threads, exact=exact, round_states=round_states, keep_flagged={0: 5, 1: 40}
            )
            ways = [found.path(number) for number in range(found.states)]
            shown = [found.path_of(flagged) for flagged in found.flagged]
            results.append((found.levels, found.transitions, ways, found.flagged, shown, found.flagged_states))
    assert all(result == results[0] for result in results)


def test_the_first_flagged_are_nearest() -> None:
    graph = random_graph(5, 3000, 0.5, flagged=0.01)
    far = distances(graph, True)
    nearest = min(far[node] + (not flags & STAY) for node in far for _, flags in graph.steps[node] if flags & 1)
    found = explore(graph, True, keep_flagged={0: 1})
    assert len(found.flagged) == 1
    assert found.flagged[0].depth == nearest
    cost = 0
    node = 0
    for step, there in found.path_of(found.flagged[0]):
        cost += not graph.steps[node][step][1] & STAY
        node = node_of(there)
    assert cost == nearest


@pytest.mark.parametrize("stays", [False, True])
def test_depth_is_costed_steps(stays: bool) -> None:
    graph = random_graph(3, 4000, 0.4)
    far = distances(graph, stays)
    for depth in (0, 1, 3):
        found = explore(graph, stays, max_depth=depth)
        assert found.states == sum(d <= depth for d in far.values())
        assert found.complete == depth
        assert found.stopped == ""


def test_stops_when_told_to() -> None:
    graph = random_graph(3, 4000, 0.0)
    far = distances(graph, False)

    def watch(progress: Progress) -> bool:
        return progress.depth == 2

    found = explore(graph, False, on_level=watch)
    assert found.stopped == "told to"
    assert found.complete == 3
    assert found.states == sum(d <= 3 for d in far.values())


def test_stops_at_what_was_looked_for() -> None:
    graph = random_graph(5, 5000, 0.0, flagged=0.01)
    found = explore(graph, False, keep_flagged={0: 1, 1: 1}, until=1, round_states=20)
    assert found.stopped == "found what was looked for"
    assert any(flagged.bits & 1 for flagged in found.flagged)


def half_of_memory(found: Found) -> int:
    """Half of what a search took, but for the buffers, which do not grow."""
    fixed = found._search.store.fixed
    return int(fixed + (found.memory - fixed) / 2)


@pytest.mark.parametrize(("threads", "exact"), MODES)
@pytest.mark.parametrize("stays", [False, True])
def test_memory_is_bounded(stays: bool, threads: int, exact: bool) -> None:
    """With half of what it takes the search says so, and went as far as it could."""
    its_space, _table = space(random_graph(2, 150_000, 0.3), stays)
    needed = search(its_space, memory=256 << 20, threads=threads, exact=exact, round_states=1000)
    assert needed.stopped == ""
    bound = half_of_memory(needed)
    found = search(its_space, memory=bound, threads=threads, exact=exact, round_states=1000)
    assert found.stopped.startswith("the limit of")
    assert found.stopped.endswith("MiB of memory")
    assert found.memory <= bound
    assert 0 < found.states < needed.states
    assert found.levels == needed.levels[: len(found.levels)]


@pytest.mark.parametrize(("threads", "exact"), MODES)
@pytest.mark.parametrize("stays", [False, True])
def test_a_stopped_search_goes_on(tmp_path: Path, stays: bool, threads: int, exact: bool) -> None:
    """Stopped for want of memory or by its watcher, and resumed with other threads: as if nothing had been."""
    its_space, _table = space(random_graph(2, 150_000, 0.3, flagged=0.001), stays)
    kept = {0: 10, 1: 100}
    whole = search(its_space, memory=256 << 20, threads=threads, exact=exact, keep_flagged=kept, round_states=1000)
    file = tmp_path / "search"
    first = search(
        its_space, memory=half_of_memory(whole), threads=threads, exact=exact, keep_flagged=kept, save=file,
        round_states=1000,
    )  # fmt: skip
    assert first.stopped
    second = search(
        its_space, memory=256 << 20, threads=3 - threads, exact=exact, keep_flagged=kept, save=file, resume=file,
        on_level=lambda progress: progress.depth == len(whole.levels) - 2,
    )  # fmt: skip
    assert second.stopped == "told to"
    last = search(its_space, memory=256 << 20, exact=exact, keep_flagged=kept, resume=file)
    assert last.stopped == ""
    assert (last.states, last.transitions, last.levels) == (whole.states, whole.transitions, whole.levels)
    assert (last.flagged, last.flagged_states, last.finals) == (whole.flagged, whole.flagged_states, whole.finals)
    for number in range(0, whole.states, 997):
        assert last.path(number) == whole.path(number)


def test_a_saved_search_of_something_else_is_refused(tmp_path: Path) -> None:
    graph = random_graph(2, 4000, 0.3)
    its_space, _table = space(graph, False)
    file = tmp_path / "search"
    search(its_space, memory=MEMORY, on_level=lambda progress: True, save=file)
    for how in ({"seed": 1}, {"exact": True}, {"max_depth": 7}):
        with pytest.raises(Refused, match="other parameters"):
            search(its_space, memory=MEMORY, resume=file, **how)  # type: ignore[arg-type]
    other, _table = space(graph, False, (1,))
    with pytest.raises(Refused, match="other parameters"):
        search(other, memory=MEMORY, resume=file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(Refused, match="length"):
        search(its_space, memory=MEMORY, resume=file)
    file.write_bytes(b"something else")
    with pytest.raises(Refused, match="not a saved search"):
        search(its_space, memory=MEMORY, resume=file)

"""The common benchmark model: the engine, the interpreter and the written-down counts agree."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("numba", reason="the engine needs numba (cowcatcher[fast])")

from benchmarks.common import model
from benchmarks.common.engine import space
from benchmarks.common.sizes import COUNTS, FIRST_INCOHERENT, INCOHERENT, SIZES
from cowcatcher.engine.build import cache_home
from cowcatcher.engine.fingerprint import chance_of_a_miss, fingerprint_of, keys
from cowcatcher.engine.search import SEED, Found, search

#: Incoherent states of size S on RULE 1, as the interpreter counts them too.
MEMORY = 1 << 30


def explore(
    size: str, rule: int, *, canonical: bool = True, symmetry: bool = False, order: bool = False, **how: Any
) -> Found:
    return search(space(SIZES[size], rule, canonical, symmetry, order), memory=MEMORY, **how)


def interpreted_steps(state: bytes) -> dict[int, bytes]:
    """label -> successor, by the same source."""
    room = model.WIDTH + 1
    out = memoryview(bytearray(room * model.SIZE))
    fps, labels, flags = [1] * room, [0] * room, [0] * room
    n = model.expand(None, memoryview(state), out, fps, labels, flags)
    return {labels[k]: bytes(out[k * model.SIZE : (k + 1) * model.SIZE]) for k in range(n)}


def explore_interpreted() -> tuple[list[int], int, set[bytes]]:
    """States of each level and transitions of size S, RULE 0, with a dict and a loop."""
    level = [model.first_state()]
    seen = set(level)
    sizes, transitions = [], 0
    while level:
        sizes.append(len(level))
        following = []
        for state in level:
            steps = interpreted_steps(state)
            transitions += len(steps)
            for there in steps.values():
                if there not in seen:
                    seen.add(there)
                    following.append(there)
        level = following
    return sizes, transitions, seen


def test_the_same_source_interpreted() -> None:
    sizes, transitions, seen = explore_interpreted()
    assert (len(seen), transitions) == COUNTS["S", 0, True]
    found = explore("S", 0)
    assert (found.levels, found.transitions) == (sizes, transitions)
    compiled = {found.path(number)[-1][1] if number else model.first_state() for number in range(found.states)}
    assert compiled == seen


def test_ways_are_ways() -> None:
    """Each step of a witness is one that the interpreted model has, under the same name."""
    found = explore("S", 0, keep_flagged={0: 20, 3: 20})
    assert {flagged.bits for flagged in found.flagged} >= {model.INCOHERENT}
    for flagged in found.flagged:
        state = model.first_state()
        way = found.path_of(flagged)
        assert len(way) == flagged.depth
        for label, there in way:
            assert interpreted_steps(state)[label] == there
            state = there
        assert model.judge(None, state) & flagged.bits == flagged.bits


@pytest.mark.parametrize(
    ("size", "rule", "canonical"), [("S", 0, True), ("S", 1, True), ("S", 0, False), ("M", 0, True)]
)
@pytest.mark.parametrize(("threads", "exact"), [(1, False), (2, False), (1, True), (2, True)])
def test_counts(size: str, rule: int, canonical: bool, threads: int, exact: bool) -> None:
    found = explore(size, rule, canonical=canonical, threads=threads, exact=exact, keep_flagged={0: 1})
    assert found.stopped == ""
    assert (found.states, found.transitions) == COUNTS[size, rule, canonical]
    assert found.flagged[0].depth == FIRST_INCOHERENT[rule]
    assert found.flagged_states[1:3] == [0, 0]
    if rule == 0 and canonical:
        assert found.flagged_states[0] == INCOHERENT[size]


def test_full_depth() -> None:
    assert len(explore("S", 0).levels) == 17
    assert len(explore("M", 0).levels) == 23


@pytest.mark.parametrize("size", ["S", "M"])
@pytest.mark.parametrize("rule", [0, 1])
def test_reductions_change_no_verdict_and_no_depth(size: str, rule: int) -> None:
    plain = explore(size, rule, keep_flagged=dict.fromkeys(range(4), 1))
    less = explore(size, rule, symmetry=True, keep_flagged=dict.fromkeys(range(4), 1))
    assert plain.stopped == less.stopped == ""

    def shortest(found: Found) -> dict[int, int]:
        return {bit: f.depth for f in reversed(found.flagged) for bit in range(4) if f.bits >> bit & 1}

    assert shortest(less) == shortest(plain)
    assert [count > 0 for count in less.flagged_states] == [count > 0 for count in plain.flagged_states]
    assert len(less.levels) == len(plain.levels)
    assert less.states < 0.53 * plain.states if size == "S" else less.states < 0.26 * plain.states


@pytest.mark.parametrize(
    ("size", "rule", "canonical", "symmetry"),
    [("S", 0, True, False), ("S", 1, True, False), ("S", 0, False, False), ("S", 1, True, True), ("M", 0, True, True)],
)
@pytest.mark.parametrize(("threads", "exact"), [(1, False), (2, False), (1, True)])
def test_partial_order_leaves_out_steps_and_no_states(
    size: str, rule: int, canonical: bool, symmetry: bool, threads: int, exact: bool
) -> None:
    """As many states at each distance, and as many of them that break each property."""
    how: dict[str, Any] = {"canonical": canonical, "symmetry": symmetry, "threads": threads}
    kept = dict.fromkeys(range(4), 1)
    plain = explore(size, rule, **how, keep_flagged=kept)
    less = explore(size, rule, **how, order=True, exact=exact, keep_flagged=kept)
    assert less.levels == plain.levels
    assert less.flagged_states == plain.flagged_states
    assert [f.depth for f in less.flagged] == [f.depth for f in plain.flagged]
    assert 2 * less.transitions < plain.transitions


def test_ways_without_what_is_left_out_are_ways() -> None:
    found = explore("S", 0, order=True, keep_flagged={0: 20})
    for flagged in found.flagged:
        state = model.first_state()
        for label, there in found.path_of(flagged):
            assert interpreted_steps(state)[label][: model.LENGTH] == there[: model.LENGTH]
            state = there[: model.LENGTH].ljust(model.SIZE, b"\0")


def test_a_note_needs_fingerprints_of_the_models_own() -> None:
    its_space = space(SIZES["S"])
    with pytest.raises(ValueError, match="a note needs fingerprints"):
        replace(its_space, note=8, own_fingerprints=False)


def test_a_wrong_order_loses_states() -> None:
    """The comparison notices it if a step is left out that nothing makes up for: here the fork after dontfork."""
    text = Path(model.__file__).read_text()
    right = "        if unborn < KP:"
    assert right in text
    wrong = ModuleType("wrong")
    source = text.replace(right, "        if unborn < KP and marked < 0:").replace("ORDER = 0  #", "ORDER = 1  #")
    fair = ModuleType("fair")
    exec(source, vars(wrong))
    exec(text.replace("ORDER = 0  #", "ORDER = 1  #"), vars(fair))
    assert states_interpreted(wrong) < states_interpreted(fair) == COUNTS["S", 0, True][0]


def states_interpreted(its_model: Any) -> int:
    """How many there are, the note being no part of them."""
    level, size = [its_model.first_state()], its_model.SIZE
    seen = {level[0][: its_model.LENGTH]}
    while level:
        following = []
        for state in level:
            room = its_model.WIDTH + 1
            out = memoryview(bytearray(room * size))
            n = its_model.expand(None, memoryview(state), out, [1] * room, [0] * room, [0] * room)
            for k in range(n):
                there = bytes(out[k * size : (k + 1) * size])
                if there[: its_model.LENGTH] not in seen:
                    seen.add(there[: its_model.LENGTH])
                    following.append(there)
        level = following
    return len(seen)


def test_witness_does_not_depend_on_threads() -> None:
    ways = []
    for threads, round_states in itertools.product((1, 2), (100, 5000)):
        found = explore("M", 0, threads=threads, round_states=round_states, keep_flagged={0: 3, 3: 3}, max_depth=7)
        ways.append([found.path_of(flagged) for flagged in found.flagged])
    assert all(way == ways[0] for way in ways)


def test_another_seed_is_another_table_and_the_same_result() -> None:
    found = explore("S", 0, seed=1)
    assert (found.states, found.transitions) == COUNTS["S", 0, True]


def test_fingerprints_are_what_is_written_down() -> None:
    """Compiled as interpreted; different seeds give different ones."""
    its_space = space(SIZES["S"])
    found = search(its_space, memory=MEMORY, max_depth=2)
    code = found._search.code
    import numpy as np

    state = np.frombuffer(its_space.initial[0], dtype=np.uint8).copy()
    value = int(code.print_of(found._search.g, int(state.ctypes.data)))
    assert value % 2**64 == fingerprint_of(its_space.initial[0], SEED)
    assert fingerprint_of(its_space.initial[0], 1) != fingerprint_of(its_space.initial[0], 2)
    assert len(keys(1, 24)) == 8


def test_chance_of_a_miss() -> None:
    """Half the pairs' number over 2**64, and never more than 1."""
    assert chance_of_a_miss(1) == pytest.approx(2**-64)
    assert chance_of_a_miss(13_240_872) == pytest.approx(4.75e-6, rel=0.01)
    assert chance_of_a_miss(1 << 40) == 1.0


def test_compiling_is_announced_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setenv("COWCATCHER_CACHE", str(tmp_path))
    assert cache_home() == tmp_path
    for _ in range(2):
        search(space(SIZES["S"]), memory=MEMORY, max_depth=1, announce=said.append)
    assert len(said) == 1
    assert "compiling" in said[0]

"""The witness that is shown: as short as any, and of these the one with the fewest changes of actor."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from cowcatcher.explore.calmest import calmest, changes
from cowcatcher.explore.checks import CHECK_BITS, broken_in_state
from cowcatcher.explore.program import Program, initial_state
from cowcatcher.explore.search import Limits
from cowcatcher.explore.successors import Stepper
from cowcatcher.explore.trace import trace
from cowcatcher.explore.verdict import Checker, Violation, kernel_tasks
from cowcatcher.kernels import Kernel, kernel
from cowcatcher.litmus import parse_file
from cowcatcher.litmus.catalogue import find
from tests.random_tests import random_kernel, random_test


def violations(checker: Checker, on: Kernel) -> list[Violation]:
    return [v for v in checker.check(on).violations if v.witness]


def every_way(program: Program, on: Kernel, bit: int, depth: int) -> Iterator[tuple[int, ...]]:
    """The actors of every way of so many steps that ends with a check broken: tried out one by one."""
    m = program.on(on.rules())
    stepper = Stepper(m, kernel_tasks(program))

    def on_from(state: bytes, tasks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        for task, broken, following in stepper.successors(state):
            if len(tasks) + 1 < depth:
                yield from on_from(following, (*tasks, task))
            elif (broken | broken_in_state(m, following)) & bit:
                yield (*tasks, task)

    yield from on_from(bytes(initial_state(program, m)), ())


@pytest.mark.parametrize("seed", range(60))
def test_none_is_calmer(seed: int) -> None:
    """Against every way that there is, where there are few enough to look at each."""
    checker, on = Checker(random_test(seed), Limits(states=20_000)), random_kernel(seed)
    for violation in violations(checker, on):
        assert checker.program is not None
        calm = calmest(checker.program, on, violation)
        assert len(calm.witness) == len(violation.witness)
        assert changes(calm.witness) <= changes(violation.witness)
        assert len(trace(checker.program, on, calm.witness)) == len(calm.witness)
        if violation.name in CHECK_BITS and len(calm.witness) <= 6:
            ways = set(every_way(checker.program, on, CHECK_BITS[violation.name], len(calm.witness)))
            cost = {way: (sum(a != b for a, b in itertools.pairwise(way)), len(set(way))) for way in ways}
            assert min(cost.values()) == cost[tuple(step.task for step in calm.witness)]


def test_a_race_is_told_without_going_to_and_fro() -> None:
    path = find("block_read_races_fork")
    assert path
    checker, on = Checker(parse_file(path)), kernel("v5.8")
    found = {v.name: v for v in violations(checker, on)}
    assert checker.program is not None
    assert {name: changes(v.witness) for name, v in found.items()} == {"always": 7, "coherent": 3}
    calm = {name: changes(calmest(checker.program, on, v).witness) for name, v in found.items()}
    assert calm == {"always": 4, "coherent": 1}


def test_too_many_states_leave_it_as_it_is() -> None:
    path = find("block_read_races_fork")
    assert path
    checker, on = Checker(parse_file(path)), kernel("v5.8")
    violation = violations(checker, on)[0]
    assert checker.program is not None
    assert calmest(checker.program, on, violation, most=10) is violation

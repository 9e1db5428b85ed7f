"""Reduction loses nothing: against the search in every order, and against the definition of what may go alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from cowcatcher.explore import commuting, effects
from cowcatcher.explore.checks import broken_in_state, promise_held
from cowcatcher.explore.effects import keeps, reduced
from cowcatcher.explore.program import NotModelled, compile_test, initial_state
from cowcatcher.explore.search import Limits, Subject, in_every_order, interpreted, search
from cowcatcher.explore.successors import Stepper
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict, kernel_tasks
from cowcatcher.kernels import KERNELS, Kernel, kernel
from cowcatcher.litmus import parse, parse_file
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.catalogue import resolve
from cowcatcher.state import Machine
from tests.random_tests import random_kernel, random_test

CATALOGUE = {path.stem: path for path in resolve(["all"])}


def said(result: CheckResult) -> tuple[Any, ...]:
    """All that reduction must not change: the lengths of the ways, and final states with their numbers, included."""
    violations = [(v.kind, v.name, v.text, len(v.witness)) for v in result.violations]
    return result.verdict, violations, result.outcomes, result.vacuous, result.finals


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_on_every_kernel(name: str) -> None:
    test = parse_file(str(CATALOGUE[name]))
    with_it, without = Checker(test), Checker(test, search=in_every_order)
    for on in KERNELS.values():
        here, there = with_it.check(on), without.check(on)
        assert said(here) == said(there), on.name
        assert here.states <= there.states
        assert here.transitions <= there.transitions


@pytest.mark.parametrize("seed", range(150))
def test_random_tests(seed: int) -> None:
    test, on, limits = random_test(seed), random_kernel(seed), Limits(states=6_000)
    without = Checker(test, limits, in_every_order).check(on)
    if without.verdict is not Verdict.UNKNOWN and not without.reason:
        assert said(Checker(test, limits).check(on)) == said(without)


# --- the definition ---------------------------------------------------------------------------------------------------


@dataclass
class Graph:
    """Everything that can follow, in every order."""

    m: Machine
    initial: bytes
    kernel_tasks: frozenset[int]

    def __post_init__(self) -> None:
        self._stepper = Stepper(self.m, self.kernel_tasks)
        self._known: dict[bytes, list[tuple[int, int, bytes]]] = {}

    def steps(self, state: bytes) -> list[tuple[int, int, bytes]]:
        if state not in self._known:
            self._known[state] = list(self._stepper.successors(state))
        return self._known[state]

    def by(self, task: int, state: bytes) -> list[tuple[int, int, bytes]]:
        return [step for step in self.steps(state) if step[0] == task]

    def states(self, most: int) -> Iterator[bytes]:
        seen, queue = {self.initial}, [self.initial]
        for state in queue:
            if len(queue) > most:
                return
            yield state
            for _, _, following in self.steps(state):
                if following not in seen:
                    seen.add(following)
                    queue.append(following)

    def wrong_with(self, state: bytes, task: int) -> str:
        """Why the task's step in this state is no persistent set, or is visible; "" if it is and is not.

        Whatever the others do from here on, the step stays what it is, and makes no difference to theirs; and what a
        state breaks it breaks with the step, too.
        """
        ((_, broken, following),) = self.by(task, state)
        seen, queue = {state: following}, [state]
        for here in queue:
            if broken_in_state(self.m, here) & ~broken_in_state(self.m, seen[here]):
                return "mends what is broken"
            if promise_held(self.m, here) and not promise_held(self.m, seen[here]):
                return "takes a promise back"
            for other, other_broken, there in self.steps(here):
                if other == task:
                    continue
                mine = self.by(task, there)
                if [b for _, b, _ in mine] != [broken]:
                    return "is disabled, or breaks something else"
                if (other, other_broken, mine[0][2]) not in self.by(other, seen[here]):
                    return "does not commute"
                if there not in seen:
                    seen[there] = mine[0][2]
                    queue.append(there)
        return ""


def graph_of(test: Test, on: Kernel) -> Graph | None:
    try:
        program = compile_test(test)
    except NotModelled:
        return None
    m = program.on(on.rules())
    return Graph(m, bytes(initial_state(program, m)), kernel_tasks(program))


def mistakes(test: Test, on: Kernel, most: int = 400) -> list[str]:
    """Steps that are explored alone, in whichever state, and should not be."""
    graph = graph_of(test, on)
    if graph is None:
        return []
    stepper = Stepper(reduced(graph.m, on.rules()), graph.kernel_tasks)
    found = []
    for state in graph.states(most):
        for task in stepper._candidates(state):
            why = graph.wrong_with(state, task) if graph.by(task, state) else ""
            if why:
                found.append(why)
    return found


SAMPLE = ("v5.7", "v5.9-rc4", "v5.18", "v7.3")


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_goes_alone_commutes_with_all_that_may_follow(name: str) -> None:
    test = parse_file(str(CATALOGUE[name]))
    for on in SAMPLE:
        assert not mistakes(test, kernel(on)), on


@pytest.mark.parametrize("seed", range(80))
def test_it_does_so_in_random_tests(seed: int) -> None:
    assert not mistakes(random_test(seed), random_kernel(seed), 250)


#: A function of commuting, an answer that is wrong where the right one is the other, and a test that shows it.
WRONG = {
    "is_by_itself": (1, "thread_forks", "v5.7"),
    "may_be_reached": (0, "child_pins_its_copy", "v5.7"),
    "is_known": (0, "shared_direct_read", "v5.7"),
    "is_missed": (0, "gup_fast_races_fork", "v5.7"),
    "may_be_written": (0, "rdma_long_lived", "v5.7"),
    "is_kept": (1, "child_pins_its_copy", "v5.7"),
    "idle_without": (-1, "gup_fast_races_fork", "v5.7"),
    "is_pinned_for_good": (1, "gup_fast_races_fork", "v5.9-rc4"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_relation_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    answer, test, on = WRONG[name]
    monkeypatch.setattr(commuting, name, lambda *_: answer)
    assert mistakes(parse_file(str(CATALOGUE[test])), kernel(on))


def test_a_visible_step_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commuting, "is_bound", lambda *_: 0)
    assert "mends what is broken" in mistakes(random_test(155), random_kernel(155))


def test_a_wrong_relation_changes_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is noticed by its outcomes alone, too."""
    monkeypatch.setattr(commuting, "may_be_written", lambda *_: 0)
    tests = [parse_file(str(path)) for path in CATALOGUE.values()]
    on = kernel("v7.3")
    assert any(said(Checker(t).check(on)) != said(Checker(t, search=in_every_order).check(on)) for t in tests)


# --- the way there ----------------------------------------------------------------------------------------------------

#: The device posts and reads after its pin has been given back. What the child does meanwhile is no part of it.
LATE = """test late
memory { x = anon(1); y = anon(1) }
process parent { mr = ibv_reg_mr(x); fork(child); unpin(mr); store(x, 2); post(go); a = load(y) }
process child { store(y, 3); b = load(y) }
device nic { await(go); r = dma_read(mr) }
"""


def subject_of(test: Test, on: Kernel) -> Subject:
    program = compile_test(test)
    m = program.on(on.rules())
    return Subject(m, on, bytes(initial_state(program, m)), kernel_tasks(program))


def longer_ways() -> Iterator[tuple[Test, Kernel, str, int]]:
    """(test, kernel, check, its distance) where the reduced search finds it further away than it is."""
    for path in CATALOGUE.values():
        test = parse_file(str(path))
        for on in SAMPLE:
            try:
                subject = subject_of(test, kernel(on))
            except NotModelled:
                break
            with_it, without = interpreted(subject, Limits()), in_every_order(subject, Limits())
            with_it.again = None
            for check in without.broken:
                near = len(without.way_to_broken(check))
                if len(with_it.way_to_broken(check)) > near:
                    yield test, kernel(on), check, near


def test_a_way_that_reduction_makes_longer_is_looked_for_again() -> None:
    test, on, check, near = next(longer_ways())
    result = Checker(test).check(on)
    assert result.reduced
    assert [len(v.witness) for v in result.violations if v.name == check] == [near]


def test_where_the_limits_do_not_allow_that_it_is_said() -> None:
    test, on, check, near = next(longer_ways())

    def search_within(subject: Subject, limits: Limits, enough: Any = None) -> Any:
        found = interpreted(subject, limits, enough)
        found.again = lambda _: replace(found, broken={}, reduced=False)
        return found

    result = Checker(test, search=search_within).check(on)
    assert [len(v.witness) > near for v in result.violations if v.name == check] == [True]
    assert f"the way to {check} may not be a shortest one" in result.reason


# --- what is known of kernels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kept"), [("v5.7", (1, 0)), ("v5.9-rc4", (1, 1)), ("v5.18", (1, 1)), ("v5.19", (1, 1)), ("v7.3", (1, 1))]
)
def test_what_a_kernel_keeps(name: str, kept: tuple[int, int]) -> None:
    program = compile_test(parse(LATE, "late.cow"))
    assert keeps(program.layout, kernel(name).rules()) == kept


def test_a_kernel_that_takes_shared_pages_keeps_none() -> None:
    program = compile_test(parse(LATE, "late.cow"))
    rules: Any = kernel("v7.3").rules()
    rules.wp_can_reuse = lambda exclusive, refcount, mapcount, swapcount, pinned: refcount == 5
    assert keeps(program.layout, rules) == (0, 1)
    rules.mprotect_restores_write = lambda exclusive, dirty: 1
    assert keeps(program.layout, rules) == (0, 0)


def test_large_machines_are_left_alone() -> None:
    m = compile_test(parse(LATE, "late.cow")).layout
    rules = kernel("v7.3").rules()
    assert reduced(m, rules).reduces
    assert not reduced(m._replace(n_pages=effects.MOST_PAGES + 1), rules).reduces


def test_a_machine_is_searched_in_every_order_unless_it_says_otherwise() -> None:
    subject = subject_of(parse(LATE, "late.cow"), kernel("v7.3"))
    whole = search(subject.m, subject.initial, subject.kernel_tasks, Limits())
    part = interpreted(subject, Limits())
    assert (whole.reduced, part.reduced) == (False, True)
    assert part.n_states < whole.n_states
    assert {whole.states[i] for i in whole.finals} == {part.states[i] for i in part.finals}

"""Every reachable state of random tests is sound; see ``invariants`` for what that means."""

from __future__ import annotations

import pytest

from cowcatcher.explore.canonical import canonicalize
from cowcatcher.explore.program import Program, compile_test, initial_state
from cowcatcher.explore.search import Exploration, Limits, search
from cowcatcher.explore.successors import Stepper
from cowcatcher.explore.verdict import kernel_tasks
from cowcatcher.kernels import KERNELS, Kernel
from cowcatcher.litmus import to_text
from cowcatcher.litmus.ast import Test
from cowcatcher.state import Machine
from tests.explore.invariants import Books, wrong_pins
from tests.random_tests import random_kernel, random_test

SEEDS = range(5000, 5150)
_SMALL = Limits(states=4000)


def reachable(test: Test, kernel: Kernel, limits: Limits = _SMALL) -> tuple[Program, Machine, Exploration]:
    program = compile_test(test)
    m = program.on(kernel.rules())
    return program, m, search(m, bytes(initial_state(program, m)), kernel_tasks(program), limits)


@pytest.mark.parametrize("first", range(SEEDS.start, SEEDS.stop, 25))
def test_every_state_is_sound(first: int) -> None:
    for seed in range(first, first + 25):
        test, kernel = random_test(seed), random_kernel(seed)
        program, m, found = reachable(test, kernel)
        for at, s in enumerate(found.states):
            wrong = Books(program, m, s).wrong() + wrong_pins(program, m, s)
            steps = [program.tasks[task].name for task, _ in found.path(at)]
            assert not wrong, f"seed {seed} on {kernel.name}: {wrong}\n{to_text(test)}{steps}"


def test_stored_states_are_canonical() -> None:
    for seed in range(SEEDS.start, SEEDS.start + 60):
        _, m, found = reachable(random_test(seed), random_kernel(seed), Limits(states=1000))
        for s in found.states:
            again = list(s)
            canonicalize(m, again)
            assert bytes(again) == s
            assert s[0] == 0  # broken checks are reported, never stored
        assert len(set(found.states)) == len(found.states)


def test_the_first_state_is_sound_on_every_kernel() -> None:
    for seed in range(200):
        program = compile_test(random_test(seed))
        for kernel in KERNELS.values():
            m = program.on(kernel.rules())
            assert not Books(program, m, bytes(initial_state(program, m))).wrong()


def test_every_state_can_end() -> None:
    """From every reachable state the test can still come to an end, be it with somebody waiting: no endless circles."""
    for seed in range(SEEDS.start, SEEDS.start + 80):
        kernel = random_kernel(seed)
        program, m, found = reachable(random_test(seed), kernel, Limits(states=3000))
        if found.stopped:
            continue
        stepper = Stepper(m, kernel_tasks(program))
        number = {s: at for at, s in enumerate(found.states)}
        leads_here: list[list[int]] = [[] for _ in found.states]
        for at, s in enumerate(found.states):
            for _, _, following in stepper.successors(s):
                leads_here[number[following]].append(at)
        ends, to_do = set(found.finals), list(found.finals)
        while to_do:
            new = [before for before in leads_here[to_do.pop()] if before not in ends]
            ends.update(new)
            to_do += new
        assert len(ends) == len(found.states), f"seed {seed} on {kernel.name}"


def test_pins_keep_their_page_since_v6_2() -> None:
    """What all the fixes arrived at: where every reference is a FOLL_PIN, no interleaving breaks ``coherent``."""
    held = 0
    for seed in range(60_000, 60_250):
        test = random_test(seed)
        kernel = KERNELS[("v6.2", "v6.11", "v7.3")[seed % 3]]
        if any(s.op in ("get", "vmsplice", "dio_read", "dio_write") for a in test.actors for s in a.body):
            continue
        _, _, found = reachable(test, kernel)
        assert "coherent" not in found.broken, f"seed {seed} on {kernel.name}\n{to_text(test)}"
        held += found.promised
    assert held > 30

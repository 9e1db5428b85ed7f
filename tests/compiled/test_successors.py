"""One source, two speeds: what compiled code makes of a state is what the interpreter makes of it, byte for byte."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba is not installed")

from cowcatcher.compiled.expand import STAY
from cowcatcher.compiled.space import pair_space_of, space_of
from cowcatcher.explore.program import NotModelled, compile_test, initial_state
from cowcatcher.explore.search import Limits, search
from cowcatcher.explore.successors import Stepper
from cowcatcher.explore.verdict import kernel_tasks
from cowcatcher.hunt.alphabet import Size, letters_of
from cowcatcher.hunt.space import HuntSpace, hunt_space
from cowcatcher.kernels import LINE, Kernel, kernel
from cowcatcher.litmus import parse_file, to_text
from cowcatcher.litmus.ast import Test
from tests.catalogue.checked import PATHS, name_of
from tests.compiled.driver import Driver, HuntStepper, PairStepper
from tests.random_tests import random_kernel, random_test

#: Generations that differ much, and the newest.
KERNELS = tuple(kernel(name) for name in ("v5.7", "v5.9-rc4", "v5.10.y", "v5.19", "v6.12", LINE[-1].name))
MOST = 3000


def compare(test: Test, on: Kernel, most: int = MOST) -> int:
    """Every state that the interpreter finds; how many there were."""
    program = compile_test(test)
    m = program.on(on.rules())
    initial, tasks = bytes(initial_state(program, m)), kernel_tasks(program)
    stepper, driver = Stepper(m, tasks), Driver(space_of(m, on, initial, tasks, hunts=False))
    states = search(m, initial, tasks, Limits(states=most)).states
    for state in states:
        interpreted = list(stepper.successors(state))
        compiled = [(task, flags, following) for task, _, flags, following in driver.successors(state)]
        assert compiled == interpreted, f"{test.name} on {on.name}, state {state.hex()}\n{to_text(test)}"
    return len(states)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_catalogue(path: Path) -> None:
    test = parse_file(path)
    try:
        assert all(compare(test, on) for on in KERNELS)
    except NotModelled:
        pytest.skip("not modelled")


@pytest.mark.parametrize("batch", range(6))
def test_random_tests(batch: int) -> None:
    states = 0
    for seed in range(batch * 25, (batch + 1) * 25):
        try:
            states += compare(random_test(seed), random_kernel(seed), most=400)
        except NotModelled:
            continue
    assert states > 1000


# --- hunts ------------------------------------------------------------------------------------------------------------

ALPHABETS = (
    ("all,-mremap", Size(2, 1, 1)),
    ("pins,reads,fast,swap,mapping,exec,vfork", Size(3, 1, 2)),
    ("pins,interfaces,protection,advice,remote", Size(2, 2, 1, threads=1)),
    ("load,store,fork,exit,pin,pin_fast,unpin,dma_write,swap,clear_refs,mremap", Size(2, 2, 2)),
)


def walks(space: HuntSpace, on: Kernel, seed: int, states: int) -> None:
    m, tasks = space.machine(on), kernel_tasks(space.program)
    initial = space.initial(on)
    stepper, driver = HuntStepper(m, tasks), Driver(space_of(m, on, initial, tasks, hunts=True))
    rng = random.Random(seed)
    state, steps = initial, 0
    for _ in range(states):
        interpreted = list(stepper.successors(state))
        assert driver.successors(state) == interpreted, f"{on.name}, state {state.hex()}"
        # On towards an end, rather than beginning ever more at the same time.
        going_on = [s for s in interpreted if s[2] & STAY]
        among = going_on if going_on and rng.random() < 0.6 else interpreted
        steps += 1
        if not among or steps > 80:
            state, steps = initial, 0
        else:
            state = rng.choice(among)[3]


@pytest.mark.parametrize(("letters", "size"), ALPHABETS, ids=[a.replace(",", "+")[:30] for a, _ in ALPHABETS])
def test_walks_of_a_hunt(letters: str, size: Size) -> None:
    space = hunt_space(letters_of(letters), size)
    for number, on in enumerate(KERNELS):
        walks(space, on, number, 100)


@pytest.mark.parametrize(("letters", "size"), ALPHABETS[::2], ids=["all", "remote"])
def test_walks_on_two_kernels(letters: str, size: Size) -> None:
    """Statement by statement, as the ordered form of a test is executed."""
    space = hunt_space([letter for letter in letters_of(letters) if letter.who != "kernel"], size, results=True)
    differed = 0
    for number, (a, b) in enumerate(pairwise(KERNELS)):
        machines = space.machine(a), space.machine(b)
        initial = tuple(bytes(initial_state(space.program, m)) for m in machines)
        engine_space = pair_space_of(machines[0], (a, b), initial)
        driver, stepper = Driver(engine_space), PairStepper(machines)
        half, size_of_one = engine_space.size // 2, machines[0].size
        rng = random.Random(number)
        states = (initial[0], initial[1])
        for step in range(80):
            both = b"".join(s.ljust(half, b"\0") for s in states)
            compiled = [
                (task, pc, flags, (s[:size_of_one], s[half : half + size_of_one]))
                for task, pc, flags, s in driver.successors(both)
            ]
            interpreted = list(stepper.successors(states))
            assert compiled == interpreted, f"{a.name} and {b.name}, state {both.hex()}"
            differed += sum(1 for s in interpreted if s[2])
            states = rng.choice(interpreted)[3] if interpreted and step % 9 != 8 else (initial[0], initial[1])
    assert differed, "kernels that differ were compared"

"""Of all shortest ways to a violation, the one that is easiest to follow: with the fewest changes of actor.

Breadth-first search keeps the first way to a state that it finds, which may go to and fro between actors where nothing
depends on it. Here the states up to the violation are gone through once more, with every way to them that is as short,
and the calmest is chosen: fewest changes of actor, then fewest actors, then the one that is found first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from cowcatcher.explore import claims as cl
from cowcatcher.explore.checks import CHECK_BITS, broken_in_state, unbalanced
from cowcatcher.explore.program import Program, initial_state
from cowcatcher.explore.successors import Stepper
from cowcatcher.explore.verdict import Step, Violation, kernel_tasks
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.printer import claim_text
from cowcatcher.state import Machine

#: States looked at before the first way found has to do.
MOST_STATES = 400_000

#: Does the step from one state to the next, with these checks broken by it, end in the violation?
_Ends = Callable[[int, bytes], bool]
#: A way so far, apart from where it has got: who acted last, and who has acted, a bit each.
_Way = tuple[int, int]


def calmest(program: Program, kernel: Kernel, violation: Violation, most: int = MOST_STATES) -> Violation:
    """The same violation with the calmest of its shortest witnesses; as it is if that would take too long to find."""
    if not violation.witness:
        return violation
    m = program.on(kernel.rules())
    layers = _Layers(program, m, most)
    witness = layers.to(_ends(program, m, violation), len(violation.witness))
    return replace(violation, witness=witness) if witness else violation


def changes(witness: Sequence[Step]) -> int:
    """How often another actor goes on."""
    return sum(a.task != b.task for a, b in itertools.pairwise(witness))


def _ends(program: Program, m: Machine, violation: Violation) -> _Ends:
    stepper = Stepper(m, kernel_tasks(program))

    def is_final(state: bytes) -> bool:
        return stepper.is_final(state, {task for task, _, _ in stepper.successors(state)})

    if violation.kind == "check":
        if violation.name == "balanced":
            return lambda _, state: is_final(state) and unbalanced(m, state)
        bit = CHECK_BITS[violation.name]
        return lambda broken, state: bool((broken | broken_in_state(m, state)) & bit)
    claim = next(c for c in program.test.claims if claim_text(c) == violation.text)
    bad = claim.kind == "never"

    def fails(_: int, state: bytes) -> bool:
        values = cl.register_values(program, m, state)
        return cl.holds(claim.cond, program, m, state, values) == bad and is_final(state)

    return fails


class _Layers:
    """The states at each distance from the beginning, and for each of them the ways there with fewest changes."""

    def __init__(self, program: Program, m: Machine, most: int) -> None:
        self.stepper = Stepper(m, kernel_tasks(program))
        self.initial = bytes(initial_state(program, m))
        self.most = most

    def to(self, ends: _Ends, depth: int) -> tuple[Step, ...]:
        """The calmest way of exactly ``depth`` steps to where ``ends`` says so; none if there are too many states.

        ``layer`` maps a state to its ways, each to (changes, way before, state before): of ways by the same last actor
        only those with the fewest changes are kept, and of these one for each set of actors.
        """
        seen = {self.initial}
        layers: list[dict[bytes, dict[_Way, tuple[int, _Way, bytes]]]] = [{self.initial: {(-1, 0): (0, (-1, 0), b"")}}]
        for distance in range(1, depth + 1):
            layer: dict[bytes, dict[_Way, tuple[int, _Way, bytes]]] = {}
            for state, ways in layers[-1].items():
                for task, broken, following in self.stepper.successors(state):
                    # The last step may lead back to a known state: it is the step that breaks the check.
                    wanted = ends(broken, following) if distance == depth else following not in seen
                    if wanted:
                        _enter(layer.setdefault(following, {}), state, ways, task)
            seen.update(layer)
            if len(seen) > self.most:
                return ()
            layers.append(layer)
        return _way_back(layers)


def _enter(
    at: dict[_Way, tuple[int, _Way, bytes]], state: bytes, ways: dict[_Way, tuple[int, _Way, bytes]], task: int
) -> None:
    for way, (count, _, _) in ways.items():
        last, actors = way
        count += last not in (task, -1)
        known = [w for w in at if w[0] == task]
        if known and at[known[0]][0] < count:
            continue
        if known and at[known[0]][0] > count:
            for worse in known:
                del at[worse]
        at.setdefault((task, actors | 1 << task), (count, way, state))


def _way_back(layers: Sequence[dict[bytes, dict[_Way, tuple[int, _Way, bytes]]]]) -> tuple[Step, ...]:
    ends = [
        (count, way[1].bit_count(), number, state, way)
        for number, (state, ways) in enumerate(layers[-1].items())
        for way, (count, _, _) in ways.items()
    ]
    if not ends:
        return ()
    _, _, _, state, way = min(ends, key=lambda e: e[:3])
    steps: list[Step] = []
    for layer in reversed(layers[1:]):
        steps.append(Step(way[0], state))
        _, way, state = layer[state][way]
    return tuple(reversed(steps))

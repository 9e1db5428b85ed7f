"""No test and no kernel makes the engine fail: a ModelError or an IndexError would be a bug of its own."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import Verdict, check
from cowcatcher.kernels import KERNELS, Kernel, all_decisions, kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.parser import parse
from tests.random_tests import random_kernel, random_test
from tests.strategies import litmus_tests

_SMALL = Limits(states=2000)


def test_random_tests() -> None:
    seen = {check(random_test(seed), random_kernel(seed), _SMALL).verdict for seed in range(40_000, 40_150)}
    assert {Verdict.HOLDS, Verdict.VIOLATED} <= seen


def patchwork(seed: int) -> Kernel:
    """A kernel that never was: any answer to every question."""
    rng = random.Random(seed)
    answers = list(all_decisions())
    base = random_kernel(seed)
    chosen = [rng.choice([d for d in answers if d.question == question]) for question in base.decisions]
    return base.with_decisions(*chosen, name=f"patchwork {seed}")


def test_kernels_that_never_were() -> None:
    """A user may exchange any answer for another; nonsense may be violated, it may not crash."""
    for seed in range(41_000, 41_100):
        check(random_test(seed), patchwork(seed), _SMALL)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(litmus_tests(), st.sampled_from(sorted(KERNELS)))
def test_tests_of_another_author(test: Test, name: str) -> None:
    result = check(test, kernel(name), _SMALL)
    if result.verdict is Verdict.NOT_APPLICABLE:
        assert result.reason
    else:
        assert result.states


def test_a_slot_that_only_a_task_holds_on_to() -> None:
    """A fault may hold a page of the swap cache that no page table leads to any more: its slot is one more."""
    test = parse(
        """
test held_slot
memory { x = anon(1) }
process p { fork(q); store(x, 5) }
process q { process_vm_writev(p, x, 5); store(x, 6); a = load(x) }
kernel may reclaim(x)
"""
    )
    assert check(test, kernel("v5.19")).verdict is not Verdict.UNKNOWN

"""A modest number of mutated inputs; ``python -m tests.litmus.fuzz`` does a million."""

from __future__ import annotations

from tests.litmus import fuzz


def test_whatever_comes_in_is_answered() -> None:
    tally = fuzz.run(seed=7, first=0, count=4_000)
    assert tally.read > 100, "hardly any mutated input was a test: the mutations are too strong to reach the checks"
    assert tally.worst_s < 2

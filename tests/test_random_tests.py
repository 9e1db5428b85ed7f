"""The random tests are tests: nothing is wrong with them, and they can be written down and read again."""

from __future__ import annotations

from collections import Counter

from cowcatcher.litmus import check, parse, to_text
from tests.random_tests import random_test


def test_nothing_is_wrong_with_them() -> None:
    for seed in range(300):
        test = random_test(seed)
        assert check(test) == [], to_text(test)


def test_they_can_be_read_again() -> None:
    for seed in range(100):
        text = to_text(random_test(seed))
        assert to_text(parse(text, f"random_{seed}.cow")) == text


def test_the_same_for_the_same_seed() -> None:
    assert random_test(7) == random_test(7)
    assert random_test(7) != random_test(8)


def test_every_statement_comes_up() -> None:
    """All that the model has; migrate() and ksm_scan() it has not."""
    from cowcatcher.litmus.statements import SIGNATURES

    seen = Counter(s.op for seed in range(1500) for a in random_test(seed).actors for s in a.body)
    assert set(SIGNATURES) - set(seen) <= {"migrate", "ksm_scan"}

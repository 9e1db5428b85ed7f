"""The engine finds what the enumerator finds: the same outcomes, the same claims and checks violated.

A few hundred random tests here; thousands by ``python -m tests.naive --count 2000 --jobs 2``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import cowcatcher.litmus
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import Checker, Verdict
from cowcatcher.kernels import KERNELS
from cowcatcher.litmus import parse_file, to_text
from cowcatcher.mm import fault
from cowcatcher.state import MAPCOUNT, Machine, State, folio_at
from tests.naive.compare import compare_random, differences
from tests.naive.compiler import CannotDo
from tests.naive.enumerator import TooLarge, enumerate_test
from tests.random_tests import random_kernel, random_test

CATALOGUE = sorted((Path(cowcatcher.litmus.__file__).parent / "catalogue").glob("**/*.cow"))
#: The generations that differ most.
SPREAD = ("v5.7", "v5.8", "v5.9-rc4", "v5.11", "v5.19", "v7.3")
#: A handful of seeds at a time, so that a failure does not hide the others.
BATCH, BATCHES = 25, 10


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_tests(batch: int) -> None:
    compared = 0
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        done = compare_random(seed, most=3000)
        assert done.status != "different", (
            f"seed {seed} on {random_kernel(seed).name}\n{to_text(random_test(seed))}{done.difference}"
        )
        compared += done.status == "same"
    assert compared >= BATCH // 2, "the random tests have become too large to be compared"


@pytest.mark.parametrize("path", CATALOGUE, ids=lambda p: p.stem)
def test_catalogue(path: Path) -> None:
    """The kernels are checked by one checker, so that what it shares between them is compared, too."""
    test = parse_file(path)
    checker = Checker(test, Limits(states=100_000))
    # The first kernel is not looked at, but others may be given its result.
    for name in dict.fromkeys((KERNELS["v5.18"].name, *SPREAD)):
        result = checker.check(KERNELS[name])
        if name not in SPREAD:
            continue
        try:
            found = enumerate_test(test, KERNELS[name], most=3000)
        except CannotDo:
            assert result.verdict is Verdict.NOT_APPLICABLE
            continue
        except TooLarge:
            assert result.states > 500, "the enumerator needs far more states than the engine"
            continue
        assert not differences(found.outcomes, found.violated, result), name


def test_a_difference_is_seen() -> None:
    """The comparison itself: an outcome more, an outcome less, a verdict too many."""
    test, kernel = random_test(0), random_kernel(0)
    found = enumerate_test(test, kernel)
    result = Checker(test).check(kernel)
    assert differences(found.outcomes, found.violated, result) == ""
    assert "only the engine sees" in differences(set(list(found.outcomes)[1:]), found.violated, result)
    assert "only the enumerator sees" in differences({*found.outcomes, ((), (), ())}, found.violated, result)
    assert "violated: alive" in differences(found.outcomes, {*found.violated, "alive"}, result)


def test_a_lost_page_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a model that leaks the old page of every copy both must find ``balanced`` broken, whatever is renumbered."""

    def leak(m: Machine, s: State, pfn: int) -> None:
        s[folio_at(m, pfn) + MAPCOUNT] -= 1

    monkeypatch.setattr(fault, "page_remove_rmap", leak)
    unbalanced = 0
    for seed in (*range(60), 197, 253, 271):
        done = compare_random(seed, most=2000)
        assert done.status != "different", f"seed {seed}: {done.difference}"
        unbalanced += "balanced" in done.violated
    assert unbalanced > 5

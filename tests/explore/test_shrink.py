"""What is shrunk is still violated in the same way, and nothing more can be taken from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowcatcher.explore.reductions import canonical_names, without_statements
from cowcatcher.explore.same import StillViolated, by_rule, empty, expecting, focused, needed
from cowcatcher.explore.search import Limits
from cowcatcher.explore.shrink import candidates, shrink, size_of
from cowcatcher.explore.verdict import Checker, Verdict, as_expected
from cowcatcher.explore.verdict import check as verdict
from cowcatcher.kernels import kernel
from cowcatcher.litmus import check, parse, parse_file, to_text
from cowcatcher.litmus.ast import Actor, Mapping, Number, Place, Statement, Test
from cowcatcher.litmus.catalogue import find
from cowcatcher.litmus.rewrite import renamed, revalued, statements_of, tidied, values_of
from tests.random_tests import random_kernel, random_test
from tests.strategies import litmus_tests

LIMITS = Limits(states=4096)

SEED = """test rdma_fork_write
"A registered buffer, a fork, then a write by the owner: do device and process still share the page?"
source "Re: [PATCH 1/4] mm: Trial do_wp_page() simplification, Jason Gunthorpe, 15 Sep 2020"

memory {
    x = anon(1)
}

process p {
    m = pin(x, WRITE)
    fork(q)
    store(x, 2)
}

process q {
}
"""


def catalogue(name: str) -> Test:
    path = find(name)
    assert path
    return parse_file(path)


def violated(test: Test, on: str, name: str) -> tuple[Test, StillViolated]:
    result = verdict(test, kernel(on), LIMITS)
    violation = next(v for v in result.violations if v.name == name)
    return focused(test, violation), StillViolated(violation, kernel(on), limits=LIMITS)


def test_the_seed() -> None:
    test, keeps = violated(catalogue("rdma_fork_write"), "v5.9-rc4", "coherent")
    found = shrink(test, keeps, by_rule=by_rule(kernel("v5.9-rc4")))
    assert to_text(found.test) == SEED
    assert found.minimal
    assert (found.tried, found.accepted) == (18, 6)
    assert verdict(empty(found.test), kernel("v5.9-rc4")).verdict is Verdict.HOLDS
    assert [(n.statement.op, n.verdict) for n in needed(found.test, keeps)] == [
        (op, Verdict.HOLDS) for op in ("pin", "fork", "store")
    ]
    expected = expecting(found.test, keeps, test.name)
    assert as_expected(keeps.rerun(expected))
    assert not check(expected)


def test_a_larger_one_ends_as_the_same() -> None:
    """Two children, 31 statements; what is left says nothing of them."""
    test, keeps = violated(catalogue("rdma_long_lived"), "v5.9-rc4", "coherent")
    found = shrink(test, keeps, by_rule=by_rule(kernel("v5.9-rc4")))
    assert to_text(replace(found.test, name="", description="", sources=())) == to_text(
        replace(parse(SEED), name="", description="", sources=())
    )


def test_a_claim_needs_a_kernel_to_hold_on() -> None:
    """Else the device reads too early, on any kernel, and that is that."""
    test, keeps = violated(catalogue("vmsplice_child"), "v5.7", "always")
    keeps.holds_on = [kernel("v5.9")]
    found = shrink(test, keeps, by_rule=by_rule(kernel("v5.7"))).test
    assert verdict(found, kernel("v5.9")).verdict is Verdict.HOLDS
    assert verdict(found, kernel("v5.7")).verdict is Verdict.VIOLATED
    assert [s.op for s in statements_of(found)] == [
        "fork", "await", "store", "post", "get", "munmap", "post", "await", "dma_read",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(120))
def test_random_tests(seed: int) -> None:
    on = random_kernel(seed)
    test = random_test(seed)
    result = Checker(test, LIMITS).check(on)
    for violation in result.violations:
        keeps = StillViolated(violation, on, limits=LIMITS)
        rules = by_rule(on)
        found = shrink(focused(test, violation), keeps, by_rule=rules)
        assert found.minimal
        assert violation.name in {v.name for v in keeps.rerun(found.test).violations}
        assert not check(found.test)
        assert not any(map(keeps, candidates(found.test, rules)))
        assert Verdict.VIOLATED not in {n.verdict for n in needed(found.test, keeps)}
        again = shrink(focused(test, violation), StillViolated(violation, on, limits=LIMITS), by_rule=rules)
        assert again == found


# --- any predicate ----------------------------------------------------------------------------------------------------


def recorded(number: int) -> Test:
    """As long as a test never is."""
    body = tuple(Statement("store", (Place("x"), Number(i % 16))) for i in range(number))
    return Test("recorded", memory=(Mapping("x", "anon", (("", 1),)),), actors=(Actor("process", "p", "p", body),))


def test_a_recording_of_thousands_takes_hundreds() -> None:
    def keeps(test: Test) -> bool:
        stored = [s.args[1] for s in statements_of(test)]
        return stored.count(Number(7)) >= 2 and Number(9) in stored

    found = shrink(recorded(8000), lambda test: keeps(test))
    assert size_of(found.test).statements == 3
    assert found.tried < 400


def test_nothing_is_lost_by_an_interrupt() -> None:
    asked = 0

    def keeps(test: Test) -> bool:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise KeyboardInterrupt
        return size_of(test).statements >= 3

    found = shrink(recorded(64), keeps)
    assert not found.minimal
    assert found.accepted == 3
    assert size_of(found.test).statements == 8


def test_what_is_never_kept_stays() -> None:
    test = catalogue("rdma_long_lived")
    found = shrink(test, lambda _: False)
    assert found.test is test
    assert (found.accepted, found.minimal) == (0, True)


# --- rewriting --------------------------------------------------------------------------------------------------------


@given(litmus_tests(), st.data())
@settings(max_examples=150, deadline=None)
def test_what_is_left_makes_sense(test: Test, data: st.DataObject) -> None:
    """Whatever part of the statements goes, nothing is left that names what is gone."""
    number = size_of(test).statements
    start = data.draw(st.integers(0, number))
    stop = data.draw(st.integers(start, number))
    left = without_statements(test, start, stop)
    assert tidied(left) == left
    assert not check(left)


@given(litmus_tests())
@settings(max_examples=150, deadline=None)
def test_names_are_only_names(test: Test) -> None:
    wanted = canonical_names(test)
    back = {_like(old, new): old.removeprefix(".") for old, new in wanted.items()}
    other = renamed(test, wanted)
    assert not check(other)
    assert renamed(other, back) == test
    assert canonical_names(other) == {_like(old, new): new for old, new in wanted.items()}


def _like(old: str, new: str) -> str:
    """A cell's name is looked up with a dot before it."""
    return f".{new}" if old.startswith(".") else new


@given(litmus_tests())
@settings(max_examples=60, deadline=None)
def test_names_do_not_matter_to_a_verdict(test: Test) -> None:
    on, limits = kernel("v5.9-rc4"), Limits(states=5000)
    result, other = (verdict(t, on, limits) for t in (test, renamed(test, canonical_names(test))))
    assert (result.verdict, result.states) == (other.verdict, other.states)


@given(litmus_tests())
@settings(max_examples=100, deadline=None)
def test_values_can_be_exchanged_and_back(test: Test) -> None:
    other = {value: 15 - i for i, value in enumerate(values_of(test))}
    back = {new: old for old, new in other.items()}
    assert revalued(revalued(test, other), back) == test

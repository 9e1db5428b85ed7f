"""Verdicts, outcomes, what is reported as vacuous, and what was expected."""

from __future__ import annotations

import pytest

from cowcatcher.explore.search import Limits
from cowcatcher.explore.trace import trace
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict, as_expected, check, check_all, expectations
from cowcatcher.kernels import KERNELS, kernel
from cowcatcher.litmus import parse
from tests.random_tests import random_test


def checked(body: str, name: str = "v7.3") -> CheckResult:
    return check(parse(f"test it\n{body}", "it.cow"), kernel(name))


ONE = "memory { x = anon(1) }\n"


# --- claims and outcomes ----------------------------------------------------------------------------------------------


def test_claims() -> None:
    body = ONE + "process p { r = load(x) }\n"
    assert checked(body + "always r == 1").verdict is Verdict.HOLDS
    assert checked(body + "never r == 2").verdict is Verdict.HOLDS
    assert checked(body + "sometimes r == 1").verdict is Verdict.HOLDS
    assert [v.text for v in checked(body + "always r == 2").violations] == ["always r == 2"]
    assert [v.text for v in checked(body + "never r == 1").violations] == ["never r == 1"]
    assert [v.text for v in checked(body + "sometimes r == 2").violations] == ["sometimes r == 2"]
    assert checked(body + "sometimes r == 2").violations[0].witness == ()


def test_an_unset_register_equals_nothing() -> None:
    body = (
        ONE
        + "process p { await(go); r = load(x) }\nprocess q { exit() }\nthread t of p { fork(q); await(go); post(go) }\n"
    )
    result = checked(body + "always r == 1\nnever r != 1\nnever r in {0, 1}\nnever r == r")
    assert {o.registers["r"] for o in result.outcomes} == {None}
    assert [v.text for v in result.violations] == ["always r == 1", "never r != 1"]


def test_both_orders_are_outcomes() -> None:
    result = checked(
        ONE + "process p { store(x, 2) }\nthread t of p { r = load(x) }\nsometimes r == 1\nsometimes r == 2"
    )
    assert result.verdict is Verdict.HOLDS
    assert [(o.registers, o.stuck, o.good) for o in result.outcomes] == [({"r": 1}, (), True), ({"r": 2}, (), True)]


def test_who_is_stuck() -> None:
    result = checked(ONE + "process p { await(go) }\nthread t of p { await(go); post(go) }\nalways mapped(p:x)")
    assert [o.stuck for o in result.outcomes] == [("p", "t")]


def test_a_task_whose_process_is_gone_is_not_stuck() -> None:
    result = checked(ONE + "process p { exit() }\nthread t of p { await(go); post(go) }\nnever mapped(p:x)")
    assert {o.stuck for o in result.outcomes} == {()}


def test_an_unchecked_check_is_silent() -> None:
    freed = "process p { m = get(x, WRITE); munmap(x); unpin(m) }\n"
    body = f"{ONE}{freed}device d {{ dma_write(m, 2) }}\n"
    assert checked(body).violated_checks() == {"alive"}
    assert checked(body + "unchecked alive\nalways m != EFAULT").verdict is Verdict.HOLDS


def test_what_is_not_modelled_says_so() -> None:
    result = checked("memory { x = anon(1, thp) }\nprocess p { r = load(x) }\nalways r == 1")
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert "huge" in result.reason


def test_a_part_that_can_be_pinned() -> None:
    """AF_XDP calls that a lack of memory, as 6.1 and 6.18 do (found by comparing random tests with them)."""
    body = (
        "memory { x = anon(1, pages=2) }\nprocess p { mprotect(x[1], R); m = xdp_umem(x); n = io_uring_register(x) }\n"
    )
    assert checked(body + "always m == ENOMEM and n == EFAULT").verdict is Verdict.HOLDS


def test_a_witness_is_shortest_and_can_be_taken_again() -> None:
    """Random tests: every witness of every violation, on the kernel searched and on those that share its search."""
    taken = 0
    for seed in range(40):
        checker = Checker(random_test(seed), Limits(states=2000))
        for name in ("v5.7", "v5.9-rc4", "v5.9", "v6.1", "v7.3"):
            result = checker.check(KERNELS[name])
            assert checker.program is not None
            for violation in result.violations:
                steps = trace(checker.program, KERNELS[name], violation.witness)
                assert len(steps) == len(violation.witness)
                taken += 1
    assert taken > 20


# --- vacuity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (ONE + "process p { await(go); r = load(x); post(go) }\nnever r == 2", "never r == 2: r is never assigned"),
        (ONE + "process p { r = load(x) }\nalways not r == 2 or r == 7", "r == 2 never happens"),
        (ONE + "process p { r = load(x) }\nalways r != 2 or r == 7", "r == 2 never happens"),
        (
            "memory { x = anon() }\nprocess p { munmap(x); m = pin(x, WRITE) }\nalways m == EFAULT",
            "coherent: no pin that promises anything is ever held",
        ),
        (
            ONE + "process p { mlock(x) }\nkernel may reclaim(x)\nalways mapped(p:x)",
            "kernel reclaim never happens",
        ),
    ],
    ids=["unset", "not-premise", "unequal-premise", "no-promise", "no-reclaim"],
)
def test_vacuous(body: str, said: str) -> None:
    result = checked(body)
    # mlock takes effect in a step of its own: before it, the kernel may reclaim
    if "mlock" in body:
        assert not any("reclaim" in reason for reason in result.vacuous)
        result = checked(body.replace("memory { x = anon(1) }", "memory { x = memfd(1) }"))
    assert any(said in reason for reason in result.vacuous), result.vacuous


def test_nothing_is_vacuous_about_a_real_test() -> None:
    body = ONE + "process p { m = pin(x, WRITE|LONGTERM); store(x, 2); r = load(x) }\nalways r == 2"
    assert checked(body).vacuous == ()


# --- expectations -----------------------------------------------------------------------------------------------------

LOST = """test lost
memory { x = anon(1) }
process p { m = pin(x, WRITE|LONGTERM); fork(q); wait(q); store(x, 2); r = load(x) }
process q { exit() }
always same_page(p:x, m)
expect violated on v5.9-rc4
expect violated COHERENT on v5.9-rc4
expect holds on v5.7..v5.8, v5.9.., v5.10.y
"""


def test_expectations_are_met() -> None:
    results = check_all(parse(LOST, "lost.cow"), KERNELS.values())
    met = {r.kernel.name: as_expected(r) for r in results}
    assert met["v5.9-rc4"] is True
    assert met["v5.10.y"] is True
    assert met["v6.1.y"] is None, "nothing is expected of it"
    assert met["implicit-dontfork"] is None
    assert all(met[k.name] for k in KERNELS.values() if k.place is not None)


def test_expectations_that_are_not_met() -> None:
    wrong = parse(LOST.replace("COHERENT", "ISOLATED"), "lost.cow")
    assert as_expected(check(wrong, kernel("v5.9-rc4"))) is False
    wrong = parse(LOST.replace("expect holds on v5.7", "expect violated on v5.7"), "lost.cow")
    assert as_expected(check(wrong, kernel("v5.7"))) is False


def test_which_expectations_speak_of_a_kernel() -> None:
    test = parse(LOST, "lost.cow")
    assert [e.verdict for e in expectations(test, kernel("v5.9-rc4"))] == ["violated", "violated"]
    assert [e.verdict for e in expectations(test, kernel("v5.8"))] == ["holds"]
    assert expectations(test, KERNELS["precop"]) == ()

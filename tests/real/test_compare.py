"""Verdicts: five answers kept apart, each from observations made up for the purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cowcatcher.litmus import parse
from cowcatcher.litmus.ast import Test
from cowcatcher.real.compare import Valuation, Verdict, compare, evaluate
from cowcatcher.real.host import Observation, Page


def of(claim: str) -> Test:
    return parse(
        f"""
        test t
        memory {{ x = anon(1) }}
        process p {{ q = ibv_reg_mr(x); fork(c); r = load(x) }}
        process c {{ s = load(x); u = store(x, 2); v = load(x) }}
        {claim}
        """
    )


SEEN = Observation(
    "t", "ok",
    registers={"q": "ok", "r": 1, "s": "SIGSEGV", "u": "ok"},
    pins={"q": "ok"},
    pages=(Page("p", "x", 0, "present", 70), Page("c", "x", 0, "present", 80)),
    pinned={("q", 0): 70},
)  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ("always r == 1", "holds"),
        ("always r == 1 and s == SIGSEGV", "holds"),
        ("always r == 2", "violated"),
        ("never r == 2", "holds"),
        ("never r == 1", "violated"),
        ("sometimes r == 1", "holds"),
        ("sometimes r == 2", "could not tell"),
        ("always r in {0, 1}", "holds"),
        ("always s in {0, SIGSEGV}", "holds"),
        ("always not r == 1", "violated"),
        ("always r != 2 or s == 1", "holds"),
        ("always v == v", "violated"),
        ("never v in {0, v}", "holds"),
        ("always same_page(p:x, q)", "holds"),
        ("always same_page(c:x, q)", "violated"),
        ("never same_page(p:x, c:x)", "holds"),
        ("always mapped(c:x)", "holds"),
        ("always maybe_pinned(p:x)", "could not tell"),
        ("always r == 1 or maybe_pinned(p:x)", "holds"),
        ("always r == 2 and maybe_pinned(p:x)", "violated"),
    ],
)
def test_claims(claim: str, verdict: str) -> None:
    (result,) = evaluate(of(claim), SEEN)
    assert result.verdict == verdict, result.why


def test_frames_that_are_not_shown_leave_the_claim_open() -> None:
    hidden = replace(SEEN, pages=tuple(replace(p, pfn=None) for p in SEEN.pages), pinned={})
    for claim in ("always same_page(p:x, q)", "never same_page(p:x, c:x)"):
        (result,) = evaluate(of(claim), hidden)
        assert (result.verdict, result.why) == ("could not tell", "frame numbers are shown to CAP_SYS_ADMIN only")
    assert evaluate(of("always mapped(p:x)"), hidden)[0].verdict == "holds"


@pytest.mark.parametrize(
    ("state", "verdict"), [("empty", "holds"), ("none", "violated"), ("unknown", "could not tell")]
)
def test_mapped(state: str, verdict: str) -> None:
    seen = replace(SEEN, pages=(Page("p", "x", 0, state),))  # type: ignore[arg-type]
    assert evaluate(of("always mapped(p:x)"), seen)[0].verdict == verdict


def test_an_ended_process_maps_nothing() -> None:
    seen = replace(SEEN, pages=SEEN.pages[:1], deaths={"c": "exit"})
    assert evaluate(of("never mapped(c:x)"), seen)[0].verdict == "holds"
    assert evaluate(of("never same_page(c:x, q)"), seen)[0].verdict == "holds"


def test_the_model_is_held_against_every_run() -> None:
    test = of("always r == 1")
    allowed: list[Valuation] = [{"r": 1, "s": 0}, {"r": 1, "s": "SIGSEGV"}]
    result = compare(test, [SEEN, replace(SEEN, run=1)], allowed, {"r": 1, "s": 0, "z": None})
    assert (result.verdict, result.allowed, result.as_predicted, result.runs) == (Verdict.HOLDS, True, False, 2)
    assert result.differences == ("s: SIGSEGV here, 0 in the model",)
    assert compare(test, [SEEN], allowed[:1]).allowed is False
    assert compare(test, [SEEN]).allowed is None


def test_runs_that_differ_are_flaky() -> None:
    test = of("always r == 1")
    other = replace(SEEN, run=1, registers=SEEN.registers | {"r": 2})
    result = compare(test, [SEEN, other])
    assert (result.verdict, result.reason) == (Verdict.FLAKY, "r was 1 in run 1 and 2 in run 2")


def test_frames_may_differ_from_run_to_run() -> None:
    moved = replace(SEEN, run=1, pages=(Page("p", "x", 0, "present", 71), SEEN.pages[1]), pinned={("q", 0): 71})
    assert compare(of("always same_page(p:x, q)"), [SEEN, moved]).verdict is Verdict.HOLDS
    apart = replace(moved, pinned={("q", 0): 90})
    assert compare(of("always same_page(p:x, q)"), [SEEN, apart]).verdict is Verdict.FLAKY


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("not applicable", Verdict.NOT_APPLICABLE),
        ("timeout", Verdict.COULD_NOT_TELL),
        ("crash", Verdict.COULD_NOT_TELL),
    ],
)
def test_a_run_without_an_outcome(status: str, verdict: Verdict) -> None:
    bad = Observation("t", status, "because")  # type: ignore[arg-type]
    result = compare(of("always r == 1"), [bad], [{"r": 1}], {"r": 1})
    assert (result.verdict, result.reason, result.allowed, result.as_predicted) == (verdict, "because", None, None)
    assert [c.verdict for c in result.claims] == [verdict]


def test_one_lost_run_among_good_ones_is_not_hidden() -> None:
    result = compare(of("always r == 1"), [SEEN, Observation("t", "timeout", "too long", 1)])
    assert (result.verdict, result.reason) == (Verdict.COULD_NOT_TELL, "too long")

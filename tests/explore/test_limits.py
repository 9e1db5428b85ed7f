"""A search that does not finish says so, and says what it covered; what it found by then stands."""

from __future__ import annotations

import pytest

from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import CheckResult, Verdict, as_expected, check
from cowcatcher.kernels import kernel
from cowcatcher.litmus import parse

#: Ten independent stores make more states than any of the limits below allows.
LARGE = """test large
memory {{ x = anon(1, pages=4); y = anon(1) }}
process p {{ {p}; fork(q); {p} }}
process q {{ {q}; exit() }}
thread t of p {{ {q} }}
{claim}
expect holds on v5.7..
"""


def large(claim: str, limits: Limits) -> CheckResult:
    stores = "; ".join(f"store(x[{i}], {i})" for i in range(4))
    others = "; ".join(f"store(x[{i}], {i})" for i in (3, 2, 1, 0))
    return check(parse(LARGE.format(p=stores, q=others, claim=claim), "large.cow"), kernel("v7.3"), limits)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(states=3000), "the limit of 3,000 states"),
        (Limits(seconds=0.0), "the limit of 0 seconds"),
        (Limits(memory=1 << 20), "the limit of 1 MiB of memory"),
    ],
)
def test_stopped_is_no_verdict(limits: Limits, said: str) -> None:
    result = large("always not mapped(q:x[0]) or mapped(p:x[0])", limits)
    assert result.verdict is Verdict.UNKNOWN
    assert result.verdict.value == "could not tell"
    assert said in result.reason
    # States of the deepest layer were found and not expanded; nor, perhaps, was all of the layer before it.
    assert f"within {result.depth - 2} steps" in result.reason
    assert result.depth > 3
    assert not result.violations
    assert not result.vacuous, "nothing is known to be vacuous"
    assert as_expected(result) is None, "nothing was found out"


def test_all_executions_up_to_the_depth_were_seen() -> None:
    """What is said to be covered: with one more step allowed nothing appears that is nearer."""
    small = large("", Limits(states=3000))
    larger = large("", Limits(states=30_000))
    assert larger.depth > small.depth
    assert larger.states > small.states > 3000


def test_a_violation_found_in_time_stands() -> None:
    """A claim that fails in a final state near the start, in a test too large to finish."""
    text = """test early
memory { x = anon(1, pages=4); y = anon(1) }
process p { r = munmap(x); exit() }
thread t of p { s = load(x[0]); a = load(x[1]); b = load(x[2]); c = load(x[3]) }
thread u of p { e = load(x[0]); f = load(x[1]); g = load(x[2]); h = load(x[3]) }
thread v of p { i = load(x[0]); j = load(x[1]); k = load(x[2]); l = load(x[3]) }
always r == EINVAL
"""
    result = check(parse(text, "early.cow"), kernel("v7.3"), Limits(states=2000))
    whole = check(parse(text, "early.cow"), kernel("v7.3"))
    assert whole.states > result.states
    assert result.verdict is Verdict.VIOLATED
    assert [v.name for v in result.violations] == ["always"]
    assert len(result.violations[0].witness) == len(whole.violations[0].witness)


def test_sometimes_is_not_refuted_by_half_a_search() -> None:
    result = large("sometimes mapped(q:x[0]) and not mapped(q:x[0])", Limits(states=3000))
    assert result.verdict is Verdict.UNKNOWN
    assert not result.violations


def test_a_finished_search_names_no_limit() -> None:
    text = "test tiny\nmemory { x = anon(1) }\nprocess p { r = load(x) }\nalways r == 1\n"
    result = check(parse(text, "tiny.cow"), kernel("v7.3"), Limits(states=1, seconds=0.0, memory=1))
    assert result.verdict is Verdict.HOLDS, "limits are looked at now and then only; a search that is over is over"
    assert result.reason == ""

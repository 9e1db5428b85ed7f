"""No decision is there for nothing: take one back, and a test of the catalogue fails. No proposal was enough."""

from __future__ import annotations

import pytest

from cowcatcher.explore.verdict import Verdict, as_expected
from cowcatcher.kernels import KERNELS, LINE, PROPOSAL_NAMES, Decision
from cowcatcher.litmus.catalogue import find
from tests.catalogue.checked import checker
from tests.catalogue.mutation import PROPOSAL_FAILS_IN, SHOWN_BY, UNTOLD, kills, replaced_decisions


@pytest.mark.parametrize("decision", replaced_decisions(), ids=lambda d: d.name)
def test_a_test_fails_without_it(decision: Decision) -> None:
    kill = next(kills(decision), None)
    if decision.name in UNTOLD:
        assert kill is None, f"{decision.name} can be told now, by {kill.path.stem}: take it off UNTOLD"
    else:
        assert kill is not None, f"no test of the catalogue fails without {decision.name} on any kernel"


@pytest.mark.parametrize("decision", [d for d in replaced_decisions() if d.name in SHOWN_BY], ids=lambda d: d.name)
def test_the_one_that_shows_it_best_shows_it(decision: Decision) -> None:
    kill = next(kills(decision), None)
    assert kill is not None
    assert kill.path.stem == SHOWN_BY[decision.name]


def test_lists_name_decisions_that_exist() -> None:
    names = {d.name for d in replaced_decisions()}
    assert set(SHOWN_BY) | set(UNTOLD) == names
    assert not set(SHOWN_BY) & set(UNTOLD)


@pytest.mark.parametrize("name", PROPOSAL_NAMES)
def test_every_proposal_fails_where_the_newest_kernel_does_not(name: str) -> None:
    path = find(PROPOSAL_FAILS_IN[name])
    assert path is not None
    proposed, newest = checker(path).check(KERNELS[name]), checker(path).check(LINE[-1])
    assert proposed.verdict is Verdict.VIOLATED
    assert as_expected(proposed), f"{path.stem} has no line for {name}"
    assert newest.verdict is Verdict.HOLDS

"""States that differ only in the numbers of their frames have one name; others do not."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowcatcher.explore import successors
from cowcatcher.explore.canonical import canonicalize
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import check
from cowcatcher.state import FIRST_PFN, KIND, REFS, Machine, State, folio_at
from tests.explore.test_invariants import reachable
from tests.random_tests import random_kernel, random_test


@cache
def some_states(seed: int) -> tuple[Machine, list[bytes]]:
    _, m, found = reachable(random_test(seed), random_kernel(seed), Limits(states=500))
    return m, found.states


def renamed(m: Machine, state: bytes, new: list[int]) -> State:
    """The same state with frame ``FIRST_PFN + i`` called ``new[i]``."""
    s = list(state)
    for field in m.pfn_fields:
        if s[field] >= FIRST_PFN:
            s[field] = new[s[field] - FIRST_PFN]
    for pfn in range(FIRST_PFN, m.n_pfns):
        source, target = folio_at(m, pfn), folio_at(m, new[pfn - FIRST_PFN])
        s[target : target + m.folio_size] = state[source : source + m.folio_size]
    return s


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 60), st.data())
def test_any_renaming_has_the_same_name(seed: int, data: st.DataObject) -> None:
    m, states = some_states(seed)
    state = data.draw(st.sampled_from(states))
    new = data.draw(st.permutations(range(FIRST_PFN, m.n_pfns)))
    s = renamed(m, state, new)
    canonicalize(m, s)
    assert bytes(s) == state


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.data())
def test_twice_is_once(seed: int, data: st.DataObject) -> None:
    m, states = some_states(seed)
    s = renamed(m, data.draw(st.sampled_from(states)), data.draw(st.permutations(range(FIRST_PFN, m.n_pfns))))
    canonicalize(m, s)
    once = list(s)
    canonicalize(m, s)
    assert s == once


def test_a_frame_that_nobody_names_is_kept() -> None:
    """A lost page must be found by ``balanced``, whichever frames are renumbered on the way."""
    m, states = some_states(1)
    lost = list(states[0])
    free = [pfn for pfn in range(FIRST_PFN, m.n_pfns) if not lost[folio_at(m, pfn) + KIND]]
    names = set()
    for pfn in free:
        s = list(lost)
        s[folio_at(m, pfn) + KIND] = s[folio_at(m, pfn) + REFS] = 1
        canonicalize(m, s)
        names.add(bytes(s))
    assert len(names) == 1
    assert names != {states[0]}


def test_verdicts_do_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it there are more states and the same findings."""
    more = 0
    for seed in range(30):
        test, kernel = random_test(seed), random_kernel(seed)
        with_it = check(test, kernel, Limits(states=6000))
        with monkeypatch.context() as patch:
            patch.setattr(successors, "canonicalize", lambda m, s: None)
            without = check(test, kernel, Limits(states=20_000))
        if with_it.states < 6000 and without.states < 20_000:
            assert {(v.kind, v.text) for v in with_it.violations} == {(v.kind, v.text) for v in without.violations}
            assert with_it.states <= without.states
            more += without.states - with_it.states
    assert more

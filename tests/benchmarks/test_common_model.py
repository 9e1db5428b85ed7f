"""Whoever describes the common model has the same states: written out naively, in C, in Promela."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.common import creference, naive, spin
from benchmarks.common.outcome import Missing, Outcome
from benchmarks.common.sizes import COUNTS, FIRST_INCOHERENT, INCOHERENT, SIZES, M, S

SMALL = [key for key in COUNTS if key[0] == "S"]
named = pytest.mark.parametrize(
    ("rule", "canonical"),
    [(rule, canonical) for _, rule, canonical in SMALL],
    ids=[f"rule-{rule}{'' if canonical else '-own-numbers'}" for _, rule, canonical in SMALL],
)


def in_c(folder: Path, rule: int, canonical: bool, size: str = "S") -> Outcome:
    try:
        return creference.start(creference.build(SIZES[size], rule, canonical, folder, check=True))
    except Missing as e:
        pytest.skip(str(e))


def by_spin(folder: Path, rule: int, canonical: bool, mode: str, look_for: str) -> Outcome:
    try:
        return spin.build(S, rule, canonical, folder, mode, look_for).start()
    except Missing as e:
        pytest.skip(str(e))


@named
def test_naively(rule: int, canonical: bool) -> None:
    found = naive.explore(S, rule, canonical)
    assert found.counts == COUNTS["S", rule, canonical]
    assert len(found.first_incoherent) == FIRST_INCOHERENT[rule]
    if (rule, canonical) == (0, True):
        assert (found.incoherent, found.levels) == (INCOHERENT["S"], 17)


@named
def test_in_c(tmp_path: Path, rule: int, canonical: bool) -> None:
    found = in_c(tmp_path, rule, canonical)
    assert found.counts == COUNTS["S", rule, canonical]
    assert found.depth == len(found.way) == FIRST_INCOHERENT[rule]
    if (rule, canonical) == (0, True):
        assert (found.found, found.levels) == (INCOHERENT["S"], 17)


@pytest.mark.parametrize("rule", [0, 1])
def test_in_c_at_the_size_that_is_measured(tmp_path: Path, rule: int) -> None:
    """About a second each."""
    found = in_c(tmp_path, rule, True, "M")
    assert found.counts == COUNTS[M.name, rule, True]
    if rule == 0:
        assert (found.found, found.levels) == (INCOHERENT["M"], 23)


@named
def test_in_promela(tmp_path: Path, rule: int, canonical: bool) -> None:
    assert by_spin(tmp_path, rule, canonical, "dfs", "nothing").counts == COUNTS["S", rule, canonical]


@pytest.mark.parametrize("mode", spin.MODES)
def test_each_mode_of_spin_finds_what_there_is(tmp_path: Path, mode: str) -> None:
    """As many states, as many of them incoherent or counted wrong; breadth-first, the first as near."""
    found = by_spin(tmp_path, 0, True, mode, "properties")
    assert (found.counts, found.found) == (COUNTS["S", 0, True], INCOHERENT["S"])
    assert found.depth == (FIRST_INCOHERENT[0] if spin.MODES[mode].breadth_first else None)


def test_what_is_missing_is_named_with_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(Missing, match="apt-get install spin"):
        spin.build(S, 0, True, tmp_path)
    with pytest.raises(Missing, match="apt-get install gcc"):
        creference.build(S, 0, True, tmp_path)

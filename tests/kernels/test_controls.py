"""Every known-bad kernel has a model that comes out otherwise than its base, in a test of the catalogue."""

from __future__ import annotations

from functools import lru_cache

import pytest

from cowcatcher.explore.ordered import predict
from cowcatcher.explore.verdict import Verdict
from cowcatcher.kernels import CONTROLS, KERNELS, Control, Kernel, UnknownKernel, is_known, kernel, modelled
from cowcatcher.litmus import parse
from cowcatcher.litmus.ast import Test
from cowcatcher.real import controls
from tests.catalogue.checked import PATHS, checker


@lru_cache(maxsize=1)
def catalogue() -> list[Test]:
    return [parse(path.read_text()) for path in PATHS]


def ends(test: Test, kernel: Kernel) -> tuple[object, ...]:
    found = predict(test, kernel)
    return (found.registers, found.queries, found.claims)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: f"{c.base}+{c.rule}")
def test_a_control_shows(control: Control) -> None:
    """In the ordered form, which real kernels are asked for, or else in some interleaving."""
    base, broken = KERNELS[control.base], control.kernel()
    assert base.diff(broken)
    shown = [test.name for test in catalogue() if ends(test, base) != ends(test, broken)]
    if control.seen:
        assert shown
        return
    assert not shown, f"seen in the ordered form of {shown}"
    verdicts = [{checker(path).check(kernel).verdict for kernel in (base, broken)} for path in PATHS]
    assert {Verdict.HOLDS, Verdict.VIOLATED} in verdicts


def test_every_rule_that_can_be_built_has_a_model() -> None:
    bases = {"counting": "v5.10.y", "marking": "v7.3"}
    built = {(bases[s], rule.name) for rule in controls.rules() for s in rule.edits}
    assert built == {(c.base, c.rule) for c in CONTROLS}


def test_the_seeds_kernel_is_that() -> None:
    """5.9-rc4 on top of 5.10.y; what is left is a lock, which only matters to a race."""
    (state,) = (s for s in controls.states() if s.name == "v5.9-rc4")
    differ = modelled("5.10.223", state.rules).diff(KERNELS["v5.9-rc4"])
    assert [theirs.name for _, theirs in differ] == ["clear_refs_beside_faults"]


def test_the_model_of_a_release_and_its_rules() -> None:
    assert modelled("7.3.4") is KERNELS["v7.3"]
    both = modelled("7.3.4", ["fork-ignores-pins", "reuse-by-mapcount"])
    assert both.name == "v7.3+fork-ignores-pins+reuse-by-mapcount"
    assert [new.name for _, new in KERNELS["v7.3"].diff(both)] == ["reuse_if_sole_mapping", "fork_shares_everything"]
    assert kernel(both.name).decisions == both.decisions
    assert not is_known("v7.3+fork")
    # 6.1 marks pages as 7.3 does, and 5.15 counts as 5.10 does
    assert modelled("6.1.176", ["gup-never-unshares"]).base == "v6.1.y"
    assert modelled("5.15.3", ["clear-refs-ignores-pins"]).base == "v5.14"
    with pytest.raises(UnknownKernel, match=r"v5\.10\.y has no model with 'gup-never-unshares' broken; there is one"):
        modelled("5.10.223", ["gup-never-unshares"])

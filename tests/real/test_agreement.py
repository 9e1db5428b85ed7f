"""The kernel of this machine does what the model of its release says, on a few hundred random tests with one order."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from cowcatcher.explore.ordered import predict
from cowcatcher.kernels import Kernel, UnknownKernel, kernel, kernel_of_release
from cowcatcher.litmus import check, parse, to_text
from cowcatcher.litmus.order import ordered
from cowcatcher.litmus.statements import SIGNATURES
from cowcatcher.real.lower import DIRECT, NOT_HERE
from cowcatcher.real.probe import Capability
from tests.real.agreement import Status, compare_all, deaths, main, shrink, stories
from tests.real.stories import random_story, smaller

COUNT = 300


@pytest.fixture
def running() -> Kernel:
    release = os.uname().release
    try:
        return kernel_of_release(release)
    except UnknownKernel as e:
        pytest.skip(f"no modelled kernel stands for {release}: {e}")


@pytest.mark.usefixtures("need_rings")
def test_kernel_and_model_agree(running: Kernel, agent: Path, capabilities: dict[str, Capability]) -> None:
    compared = compare_all(list(stories(1, COUNT, swap=False)), running, agent)
    wrong = [c for c in compared if c.status is Status.DISAGREE]
    assert not wrong, "\n\n".join(
        "\n".join([to_text(c.test), *c.differences]) for c in (shrink(c, running, agent) for c in wrong[:3])
    )
    if capabilities["frame numbers"].ok:
        assert Counter(c.status for c in compared)[Status.AGREE] > 0.8 * COUNT


@pytest.mark.usefixtures("need_rings", "need_frames")
def test_a_wrong_model_is_found_out_in_few_lines(agent: Path) -> None:
    """v5.9-rc4 never was a release: whatever runs here, its pins stay with their process."""
    wrong = kernel("v5.9-rc4")
    compared = compare_all(list(stories(1, COUNT, swap=False)), wrong, agent)
    found = next(c for c in compared if c.status is Status.DISAGREE)
    small = shrink(found, wrong, agent)
    assert small.status is Status.DISAGREE
    assert len(small.story.told()) <= len(found.story.told())
    assert len(small.story.told()) <= 6, to_text(small.test)
    assert check(small.test) == []


def test_nothing_is_wrong_with_the_tests() -> None:
    for seed in range(COUNT):
        test = random_story(seed, swap=True, soft_dirty=True).test("t")
        assert check(test) == [], to_text(test)
        assert parse(to_text(test)) == test


def test_they_are_executed_in_the_order_in_which_they_are_told() -> None:
    for seed in range(COUNT):
        story = random_story(seed, swap=True)
        steps = [(o.actor, o.statement) for o in ordered(story.test("t")) if o.statement.op not in ("post", "await")]
        assert steps == [tuple(step) for step in story.told()]


def test_what_is_made_smaller_is_a_test_too() -> None:
    for seed in range(30):
        story = random_story(seed)
        for candidate in smaller(story):
            assert len(candidate.told()) <= len(story.told())
            if not check(candidate.test("t")):
                ordered(candidate.test("t"))


def test_the_same_for_the_same_seed() -> None:
    assert random_story("1 7") == random_story("1 7")
    assert random_story("1 7") != random_story("2 7")


def test_every_statement_that_the_agent_has_comes_up() -> None:
    told = [random_story(seed, swap=True, soft_dirty=True).test("t") for seed in range(1500)]
    seen = {s.op for test in told for a in test.actors for s in a.body}
    waits = {"uffd_wp", "uffd_wp_resolve"}  # a write in between would, and an ordered run goes on after each statement
    assert set(SIGNATURES) - set(NOT_HERE) - DIRECT - waits == seen


def test_who_dies_of_what() -> None:
    test = parse(
        """
        test t
        memory { x = anon(1, prot=R) }
        process p { fork(c); fork(d); wait(d) }
        process c { store(x, 2) }
        process d { exit() }
        always mapped(p:x)
        """
    )
    assert deaths(test, predict(test, kernel("v6.15"))) == {"c": "SIGSEGV", "d": "exit"}


@pytest.mark.usefixtures("need_rings")
def test_from_a_shell(running: Kernel, agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--count", "20", "--seed", "3", "--kernel", running.name]) == 0
    said = capsys.readouterr().out
    assert f"against the model of {running.name}, seed 3" in said
    assert "20 tests in " in said
    for status in Status:
        assert f" {status}\n" in said


def test_mistakes_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--kernel", "v99"])
    assert "no kernel is called" in capsys.readouterr().err

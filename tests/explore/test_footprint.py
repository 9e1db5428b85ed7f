"""One search for all kernels that answer alike: sound, and worth having."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

import cowcatcher.litmus
from cowcatcher.explore.footprint import answers_alike, recording
from cowcatcher.explore.search import Exploration, Limits, Subject, search
from cowcatcher.explore.verdict import Checker, CheckResult, check
from cowcatcher.kernels import KERNELS, QUESTIONS
from cowcatcher.litmus import parse, parse_file
from cowcatcher.litmus.ast import Test
from tests.random_tests import random_test

CATALOGUE = sorted((Path(cowcatcher.litmus.__file__).parent / "catalogue").glob("**/*.cow"))
_LIMITS = Limits(states=4000)


def essence(result: CheckResult) -> CheckResult:
    """Everything but how it was come by."""
    return replace(result, seconds=0.0, same_as="")


def sharing_is_sound(test: Test) -> int:
    """Every kernel alone, and all of them by one checker; the number of searches saved."""
    checker = Checker(test, _LIMITS)
    saved = 0
    for kernel in KERNELS.values():
        shared = checker.check(kernel)
        saved += bool(shared.same_as)
        if shared.same_as:  # else it is the very same search
            assert essence(shared) == essence(check(test, kernel, _LIMITS)), f"{kernel.name} as {shared.same_as}"
    return saved


@pytest.mark.parametrize("path", CATALOGUE[::4], ids=lambda p: p.stem)
def test_catalogue(path: Path) -> None:
    test = parse_file(path)
    if check(test, KERNELS["v7.3"], _LIMITS).states < 600:
        sharing_is_sound(test)


def test_random_tests() -> None:
    saved = 0
    for seed in range(200, 240):
        test = random_test(seed)
        if check(test, KERNELS["v7.3"], _LIMITS).states < 250:
            saved += sharing_is_sound(test)
    assert saved > 200


def test_what_is_asked_is_written_down() -> None:
    rules, asked = recording(KERNELS["v5.9-rc4"])
    assert rules.wp_can_reuse(0, 1025, 1, 0, 1) == 0
    assert rules.fork_copies_now(1, 1, 0) == 0
    assert asked == {("wp_can_reuse", (0, 1025, 1, 0, 1)): 0, ("fork_copies_now", (1, 1, 0)): 0}
    assert answers_alike(KERNELS["v5.9-rc4"], asked)
    assert not answers_alike(KERNELS["v5.7"], asked), "reuses by mapcount"
    assert not answers_alike(KERNELS["v5.9"], asked), "copies pinned pages at fork"


def test_an_answer_is_asked_for_once() -> None:
    calls = []

    def answer(exclusive: int) -> int:
        calls.append(exclusive)
        return 1

    kernel = KERNELS["v7.3"]
    question = "wp_takes_page_lock"
    counted = kernel.with_decisions(replace(kernel.decisions[question], answer=answer))
    rules, _ = recording(counted)
    assert [rules.wp_takes_page_lock(e) for e in (0, 1, 0, 1)] == [1, 1, 1, 1]
    assert calls == [0, 1]


def test_every_question_is_recorded() -> None:
    rules, _ = recording(KERNELS["v7.3"])
    assert all(callable(getattr(rules, question)) for question in QUESTIONS)


def test_where_only_questions_are_known_the_very_same_answers_are_wanted() -> None:
    """As by a search that does not record facts. What the initial state asks counts as well."""

    class Unrecorded(Exploration):
        questions = frozenset({"fork_copies_now"})

    def unrecorded(subject: Subject, limits: Limits, enough: Callable[[Exploration], bool] | None = None) -> Unrecorded:
        found = search(subject.m, subject.initial, subject.kernel_tasks, limits)
        return Unrecorded(**{f.name: getattr(found, f.name) for f in fields(found)})

    test = parse("test t\nmemory { x = anon(1) }\nprocess p { r = load(x) }\n", "t.cow")
    checker = Checker(test, search=unrecorded)
    tracks = KERNELS["v5.19"].decisions["tracks_exclusive"]
    base = KERNELS["v5.9"]
    assert not checker.check(base).same_as
    assert not checker.check(base.with_decisions(tracks)).same_as, "the initial state is another"
    assert not checker.check(base.with_decisions(KERNELS["v5.7"].decisions["fork_copies_now"])).same_as
    assert checker.check(base.with_decisions(KERNELS["v5.7"].decisions["foll_vfio"])).same_as == base.name

"""The timeline of every violation in the catalogue: drawn without loss, at any width."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from cowcatcher.explore.trace import initial_picture, trace
from cowcatcher.explore.verdict import Checker
from cowcatcher.kernels import kernel
from cowcatcher.litmus import parse_file
from cowcatcher.litmus.catalogue import resolve
from cowcatcher.report.explain_record import explain_document
from cowcatcher.report.explain_text import explain_text
from cowcatcher.report.style import Style
from cowcatcher.report.timeline import timeline

PATHS = {f"{p.parent.name}/{p.stem}": p for p in resolve(["all"])}


@cache
def documents(name: str) -> tuple[dict[str, Any], ...]:
    """One for every violation of the test on a few kernels."""
    checker = Checker(parse_file(PATHS[name]))
    found = []
    for k in map(kernel, ("v5.7", "v5.9-rc4", "v5.18", "v7.3")):
        result = checker.check(k)
        for violation in result.violations:
            assert checker.program
            steps = trace(checker.program, k, violation.witness)
            picture = initial_picture(checker.program, k)
            found.append(explain_document(result, violation, picture, steps, [], [], None))
    return tuple(found)


@pytest.mark.parametrize("name", PATHS)
def test_drawn_at_any_width(name: str) -> None:
    for doc in documents(name):
        for width in (60, 72, 100, 160):
            for full in (False, True):
                lines = explain_text(doc, Style(width=width), full).splitlines()
                assert not [line for line in lines if len(line) > width]
                assert all(" " <= c <= "~" for line in lines for c in line)


@pytest.mark.parametrize("name", PATHS)
def test_every_step_has_its_number_when_told_in_full(name: str) -> None:
    for doc in documents(name):
        lines = timeline(doc, Style(), full=True)
        numbers = [int(found[1]) for found in (re.match(r" {0,3}(\d+)  ", line) for line in lines) if found]
        assert numbers == [step["number"] for step in doc["steps"]]


@pytest.mark.parametrize("name", PATHS)
def test_folding_hides_no_change_of_a_page_table(name: str) -> None:
    for doc in documents(name):
        text = " ".join(" ".join(line.split()) for line in timeline(doc, Style(width=400)))
        for step in doc["steps"]:
            for change in step["changes"]:
                if (
                    change["field"] == "pte"
                    and change["before"].startswith("page ")
                    and change["after"].startswith("page ")
                ):
                    assert f"{change['before']} -> {change['after']}" in text

"""KTAP as Documentation/dev-tools/ktap.rst has it, read back by a parser that knows nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from cowcatcher.report.check_ktap import check_ktap, result_line
from cowcatcher.report.record import Record

RESULT = re.compile(r"(ok|not ok) (\d+)( [^#]*?)?(?: # (SKIP|TIMEOUT|ERROR|XFAIL)(?: (.*))?)?$")


@dataclass
class Parsed:
    name: str
    ok: bool
    directive: str
    children: list[Parsed] = field(default_factory=list)


def parse(lines: list[str], indent: str = "") -> list[Parsed]:
    """Results of one level; complains about everything that the format forbids."""
    assert lines.pop(0) == f"{indent}KTAP version 1"
    plan = lines.pop(0)
    assert plan.startswith(f"{indent}1..")
    results: list[Parsed] = []
    children: list[Parsed] = []
    while lines:
        line = lines[0]
        if line.startswith(f"{indent}  KTAP version"):
            children = parse(lines, indent + "  ")
            continue
        if not line.startswith(indent) or line[len(indent) :].startswith(" "):
            break
        line = lines.pop(0)[len(indent) :]
        if line.startswith("#"):
            continue
        found = RESULT.match(line)
        assert found, line
        assert int(found[2]) == len(results) + 1
        results.append(Parsed((found[3] or "").strip(), found[1] == "ok", found[4] or "", children))
        children = []
        if len(results) == int(plan.split("..")[1]) and indent:
            break
    assert len(results) == int(plan.split("..")[1])
    return results


def result(kernel: str, verdict: str, **more: object) -> Record:
    return {
        "kernel": kernel, "verdict": verdict, "expected": [], "as_expected": None, "violations": [], "vacuous": [],
        "reason": "", **more,
    }  # fmt: skip


def document(*tests: Record) -> Record:
    return {"tests": list(tests), "interrupted": False}


def test_levels_and_directives() -> None:
    text = check_ktap(
        document(
            {"name": "fine", "results": [result("v5.9", "holds"), result("v5.7", "violated", as_expected=True)]},
            {"name": "bad", "results": [result("v5.9", "violated"), result("v5.7", "holds", vacuous=["a # b"])]},
            {"name": "open", "results": [result("v5.9", "could not tell", reason="a limit")]},
            {"name": "not here", "results": [result("v5.9", "not applicable", reason="hugetlb # no")]},
        )
    )
    fine, bad, unsure, absent = parse(text.splitlines())
    assert (fine.ok, [c.ok for c in fine.children]) == (True, [True, True])
    assert (bad.ok, [c.ok for c in bad.children]) == (False, [False, True])
    assert (unsure.ok, unsure.children[0].ok, unsure.children[0].directive) == (False, False, "TIMEOUT")
    assert (absent.ok, absent.directive, absent.children[0].directive) == (True, "SKIP", "SKIP")
    assert "# Totals: pass:3 fail:1 xfail:0 xpass:0 skip:1 error:1" in text


@pytest.mark.parametrize("name", ["a # b", "two\nlines", "x#y"])
def test_names_hold_no_hash_and_no_line_break(name: str) -> None:
    line = result_line(1, name, True, f"SKIP {name}")
    assert line.count("#") == 1
    assert "\n" not in line

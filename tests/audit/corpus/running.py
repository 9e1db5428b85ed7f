"""Runs a program of the corpus, bare or under an audit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cowcatcher.audit.auditor import Auditor
from cowcatcher.audit.strace import events
from tests.audit.corpus.building import INCLUDE, Workshop
from tests.audit.corpus.expectation import HERE, Found, Program, Ranges, ranges_said

ROOT = HERE.parents[2]
UNAVAILABLE = 77
_INPUT = "one\ntwo\n"
_LIMIT = 60  # seconds, on a machine that has other things to do


@dataclass(frozen=True)
class Run:
    status: int
    output: str
    errors: str
    said: dict[str, Ranges]
    found: tuple[Found, ...] = ()


def bare(program: Program, workshop: Workshop, place: Path) -> Run:
    """Run it in ``place``, as it is."""
    done = _run(program, workshop, workshop.command(program), place)
    return Run(done.returncode, done.stdout, done.stderr, ranges_said(place / "ranges"))


def audited(program: Program, workshop: Workshop, place: Path, *options: str) -> Run:
    """Run it under an audit, which leaves its report in ``place``."""
    report = place / "report.json"
    audit = [sys.executable, "-m", "cowcatcher", "audit", "--json", "-o", str(report), *options, "--"]
    done = _run(program, workshop, [*audit, *workshop.command(program)], place)
    assert report.exists(), done.stderr
    found = tuple(_found(f) for f in json.loads(report.read_text())["findings"])
    return Run(done.returncode, done.stdout, done.stderr, ranges_said(place / "ranges"), found)


def from_plain_trace(program: Program, workshop: Workshop, place: Path) -> Run:
    """What an auditor makes of the text that anybody's strace writes; nothing is judged."""
    trace = place / "trace"
    strace = ["strace", "-f", "-ttt", "-s", "512", "-o", str(trace), "--"]
    done = _run(program, workshop, [*strace, *workshop.command(program)], place)
    auditor = Auditor()
    with trace.open(errors="replace") as lines:
        for event in events(lines):
            auditor.feed(event)
    found = tuple(Found(f.rule, f.severity.value, tuple(f.ranges), f.title) for f in auditor.finish())
    return Run(done.returncode, done.stdout, done.stderr, ranges_said(place / "ranges"), found)


def _run(program: Program, workshop: Workshop, command: Sequence[str], place: Path) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        **program.env,
        "CORPUS_RANGES": str(place / "ranges"),
        "LD_LIBRARY_PATH": str(workshop.place),
        "PYTHONPATH": os.pathsep.join([str(INCLUDE), str(ROOT)]),
    }
    return subprocess.run(command, cwd=place, env=env, input=_INPUT, capture_output=True, text=True, timeout=_LIMIT)


def _found(finding: dict[str, Any]) -> Found:
    ranges = tuple((found["start"], found["end"]) for found in finding["ranges"])
    return Found(finding["rule"], finding["severity"], ranges, json.dumps(finding))

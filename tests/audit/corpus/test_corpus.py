"""Every planted fault is found, at its bytes; no clean program alarms; and no program notices that it was watched."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.corpus.building import COMPILER, CannotBuild, Workshop
from tests.audit.corpus.expectation import ALARMS, Program, programs
from tests.audit.corpus.running import UNAVAILABLE, Run, audited, bare, from_plain_trace

FAULTY, CLEAN = programs("faulty"), programs("clean")
RULES = (
    "fork-shares-pinned", "direct-io-across-fork", "dontfork-neighbours", "dontfork-child-touches", "dontfork-too-late",
    "dofork-missing", "freed-while-pinned", "partial-page", "fork-protection", "vma-growth", "huge-copy-at-fork",
    "overwritten-in-flight", "moved-under-pin", "lost-sight",
)  # fmt: skip

#: What a program may need to be built.
LIBRARIES = frozenset({"static", "libaio", "liburing"})

needs_tracer = pytest.mark.skipif(
    sys.platform != "linux" or not COMPILER or not shutil.which("strace"), reason="needs Linux, a C compiler and strace"
)


def test_there_are_enough() -> None:
    assert len(FAULTY) >= 30
    assert len(CLEAN) >= 30


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_broken_in_two_ways(rule: str) -> None:
    assert sum(any(rule in wanted.rules for wanted in program.find) for program in FAULTY) >= 2


@pytest.mark.parametrize("program", FAULTY + CLEAN, ids=lambda p: p.name)
def test_expectations_are_well_formed(program: Program) -> None:
    text = program.path.read_text()
    named = {r for wanted in program.find for r in wanted.rules} | program.allow | program.never
    assert named <= set(RULES)
    said = Counter(re.findall(r'\bsay\("(\w+)"', text))
    assert {name for wanted in program.find for name in wanted.names} <= set(said)
    assert bool(program.find) != program.clean
    assert len(text.splitlines()) <= 75


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("corpus"))


Both = Callable[[Program], tuple[Run, Run]]


def run_bare(program: Program, workshop: Workshop, place: Path) -> Run:
    try:
        workshop.command(program)
    except CannotBuild as problem:
        if program.needs & LIBRARIES:
            pytest.skip(f"cannot be built here: {problem}")
        raise
    alone = bare(program, workshop, place)
    if alone.status == UNAVAILABLE:
        pytest.skip(f"{', '.join(sorted(program.needs))}: {alone.errors.strip() or 'not here'}")
    return alone


@pytest.fixture(scope="session")
def both(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Each program bare and audited, once."""
    known: dict[Path, tuple[Run, Run]] = {}

    def run(program: Program) -> tuple[Run, Run]:
        if program.path not in known:
            alone = run_bare(program, workshop, tmp_path_factory.mktemp(program.name))
            known[program.path] = alone, audited(program, workshop, tmp_path_factory.mktemp(program.name))
        return known[program.path]

    return run


@needs_tracer
@pytest.mark.parametrize("program", FAULTY, ids=lambda p: p.name)
def test_fault_is_found(program: Program, both: Both) -> None:
    _, watched = both(program)
    assert list(program.complaints(watched.found, watched.said)) == []


@needs_tracer
@pytest.mark.parametrize("program", CLEAN, ids=lambda p: p.name)
def test_no_false_alarm(program: Program, both: Both) -> None:
    _, watched = both(program)
    assert list(program.complaints(watched.found, watched.said)) == []


@needs_tracer
@pytest.mark.parametrize("program", FAULTY + CLEAN, ids=lambda p: p.name)
def test_nothing_is_disturbed(program: Program, both: Both) -> None:
    alone, watched = both(program)
    assert (watched.status, watched.output, watched.errors) == (alone.status, alone.output, alone.errors)


@needs_tracer
@pytest.mark.parametrize("program", [p for p in FAULTY if "live" not in p.only], ids=lambda p: p.name)
def test_fault_is_found_in_a_plain_trace(program: Program, workshop: Workshop, tmp_path: Path) -> None:
    run_bare(program, workshop, tmp_path)
    (tmp_path / "ranges").unlink(missing_ok=True)
    run = from_plain_trace(program, workshop, tmp_path)
    missed = [w for w in program.find if not any(w.is_told(found, run.said) for found in run.found)]
    assert missed == [], run.found


@needs_tracer
@pytest.mark.parametrize("program", CLEAN, ids=lambda p: p.name)
def test_no_false_alarm_from_a_plain_trace(program: Program, workshop: Workshop, tmp_path: Path) -> None:
    run_bare(program, workshop, tmp_path)
    run = from_plain_trace(program, workshop, tmp_path)
    assert [found for found in run.found if found.severity in ALARMS] == []

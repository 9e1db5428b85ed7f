"""``run``: what a run on a real kernel means for its test, from made-up observations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cowcatcher.cli import main
from cowcatcher.kernels import kernel
from cowcatcher.litmus import parse_file
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.catalogue import find
from cowcatcher.real.build import BuildError
from cowcatcher.real.compare import compare
from cowcatcher.real.host import OK, Observation
from cowcatcher.report.prediction import prediction_for
from cowcatcher.report.record import Record
from cowcatcher.report.run_record import run_document, run_record
from cowcatcher.report.run_text import run_ktap, run_text
from cowcatcher.report.style import PLAIN

CASES = Path(__file__).parents[1] / "cli" / "cases"


def record(test: Test, name: str, *runs: Observation) -> Record:
    predicted = prediction_for(test, kernel(name))
    found = compare(test, runs, predicted.allowed, predicted.registers)
    return run_record(test, runs, found, predicted.prediction, predicted.why_not)


def seen(r0: int, r1: int, run: int = 0) -> Observation:
    return Observation("rdma_fork_write", "ok", run=run, registers={"mr": OK, "r0": r0, "r1": r1})


@pytest.fixture
def test() -> Test:
    return parse_file(CASES / "rdma_fork_write.cow")


@pytest.mark.parametrize(
    ("name", "runs", "verdict", "standing"),
    [
        ("v6.12", [seen(2, 3)], "holds", "pass"),
        ("v6.12", [seen(1, 2)], "violated", "fail"),  # no execution of the model ends like this
        ("v5.9-rc4", [seen(1, 2)], "violated", "pass"),  # a bug that the kernel is known to have
        ("v5.9-rc4", [seen(2, 3)], "holds", "fail"),  # and that this one has not
        ("v5.7", [seen(2, 3), seen(1, 2, 1)], "flaky", "unknown"),  # both may happen there
        ("v6.12", [seen(2, 3), seen(1, 2, 1)], "flaky", "fail"),
        ("v6.12", [Observation("t", "timeout", "too long")], "could not tell", "unknown"),
        ("v6.12", [Observation("t", "crash", "gone")], "could not tell", "unknown"),
        ("v6.12", [Observation("t", "not applicable", "no swap")], "not applicable", "skip"),
    ],
)
def test_standing(name: str, runs: list[Observation], verdict: str, standing: str, test: Test) -> None:
    found = record(test, name, *runs)
    assert (found["verdict"], found["standing"]) == (verdict, standing)


def test_without_a_prediction_the_claims_decide() -> None:
    test = parse_file(CASES / "hugetlb_page.cow")
    good = record(test, "v6.12", Observation("t", "ok", registers={"r": 1}))
    bad = record(test, "v6.12", Observation("t", "ok", registers={"r": 2}))
    assert (good["standing"], bad["standing"]) == ("pass", "fail")
    assert "hugetlb" in good["not_predicted"]


@pytest.mark.parametrize(
    ("standings", "status"),
    [("pass", 0), ("pass skip", 0), ("skip", 3), ("", 3), ("pass unknown", 3), ("pass unknown fail", 1)],
)
def test_exit_status(standings: str, status: int) -> None:
    doc = run_document("6.12.0", kernel("v6.12"), 1, [{"standing": s} for s in standings.split()])
    assert doc["exit"] == status


def test_text_and_ktap(test: Test) -> None:
    tests = [record(test, "v6.12", seen(1, 2)), record(test, "v6.12", Observation("t", "not applicable", "no # swap"))]
    doc = json.loads(json.dumps(run_document("6.12.0-test", kernel("v6.12"), 1, tests)))
    text = run_text(doc, PLAIN)
    assert "Linux 6.12.0-test, modelled as v6.12; 1 run of each test" in text
    assert "DIFFERS" in text
    assert "r0: 1 here, 2 in the model" in text
    assert "no execution of the model ends like this" in text
    assert "0 as the model says, 1 DIFFER, 1 not applicable here" in text
    ktap = run_ktap(doc).splitlines()
    assert ktap[:2] == ["KTAP version 1", "1..2"]
    assert "not ok 1 rdma_fork_write" in ktap
    assert "ok 2 rdma_fork_write # SKIP no swap" in ktap


def test_no_compiler_is_told_and_not_thrown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> list[Observation]:
        raise BuildError("no C compiler found")

    monkeypatch.setattr("cowcatcher.real.host.run_host", fail)
    assert main(["run", "seed"]) == 3
    assert capsys.readouterr().err == "cowcatcher: no C compiler found\nTry 'cowcatcher doctor'.\n"


def test_an_interrupt_keeps_what_was_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = 0

    def interrupted(tests: list[Test], **_: object) -> list[Observation]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return [Observation(tests[0].name, "not applicable", "made up")]

    monkeypatch.setattr("cowcatcher.real.host.run_host", interrupted)
    assert main(["run", "seed", "--json"]) == 130
    doc = json.loads(capsys.readouterr().out)
    assert doc["interrupted"]
    assert len(doc["tests"]) == 2


def test_the_seed_is_there() -> None:
    assert find("rdma_fork_wait")

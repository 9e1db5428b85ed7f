"""``run``: what a run on a real kernel means for its test, from made-up observations."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from cowcatcher.cli import main
from cowcatcher.kernels import kernel
from cowcatcher.litmus import parse, parse_file
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.catalogue import find
from cowcatcher.real.build import BuildError
from cowcatcher.real.host import OK, Observation, Observed, Page
from cowcatcher.real.recording import Header, OnKernel, Options, Recording
from cowcatcher.report.prediction import prediction_for
from cowcatcher.report.record import Record, kernel_record
from cowcatcher.report.run_ktap import run_ktap
from cowcatcher.report.run_record import result_record, run_document
from cowcatcher.report.run_text import run_text
from cowcatcher.report.style import PLAIN

CASES = Path(__file__).parents[1] / "cli" / "cases"


def record(test: Test, name: str, *runs: Observation) -> Record:
    return result_record(test, runs, prediction_for(test, kernel(name), runs))


def document(test: Test, name: str, *tests: Sequence[Observation], repeat: int = 1) -> Record:
    """As it comes out of a file: the same test several times, each with its runs, on one kernel."""
    on = OnKernel("host", "6.12.0-test", {}, kernel_record(kernel(name)) | {"summary": ""})
    recording = Recording(None, Header((test,) * len(tests), (on,), Options(repeat=repeat)))
    recording.seen = {("host", number, run.run): run for number, runs in enumerate(tests) for run in runs}
    predicted = {(name, number): prediction_for(test, kernel(name), runs) for number, runs in enumerate(tests)}
    doc: Record = json.loads(json.dumps(run_document(recording, predicted)))
    return doc


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


def test_all_executions_are_searched_only_where_that_is_needed(test: Test) -> None:
    """A run that ends as the ordered form does is one of them."""
    asked = kernel("v5.7")
    as_ordered, other = seen(1, 2), seen(2, 3)
    assert not prediction_for(test, asked, [as_ordered]).searched
    assert prediction_for(test, asked, [as_ordered]).enough_for([as_ordered, Observation("t", "crash", "gone")])
    assert not prediction_for(test, asked, [as_ordered]).enough_for([as_ordered, other])
    assert prediction_for(test, asked, [as_ordered, other]).allowed
    assert record(test, "v5.7", as_ordered)["allowed"] is True
    assert record(test, "v5.7", as_ordered, other)["allowed"] is True
    assert record(test, "v5.7", as_ordered, seen(3, 3))["allowed"] is False


def test_without_a_prediction_the_claims_decide() -> None:
    test = parse_file(CASES / "huge_page.cow")
    good = record(test, "v6.12", Observation("t", "ok", registers={"r": 1}))
    bad = record(test, "v6.12", Observation("t", "ok", registers={"r": 2}))
    assert (good["standing"], bad["standing"]) == ("pass", "fail")
    assert "huge pages" in good["not_predicted"]


GOOD, BAD, LOST, NONE = (
    seen(2, 3), seen(1, 2), Observation("t", "crash", "gone"), Observation("t", "not applicable", "no # swap"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("tests", "status"),
    [
        ([GOOD], 0),
        ([GOOD, NONE], 0),
        ([NONE], 3),
        ([GOOD, LOST], 3),
        ([GOOD, LOST, BAD], 1),
        ([GOOD, None], 3),  # the recording ends before it
        ([BAD, None], 1),
    ],
)
def test_exit_status(tests: list[Observation | None], status: int, test: Test) -> None:
    assert document(test, "v6.12", *([one] if one else [] for one in tests))["exit"] == status


def test_text_and_ktap(test: Test) -> None:
    doc = document(test, "v6.12", [BAD], [NONE])
    text = run_text(doc, PLAIN)
    assert "Linux 6.12.0-test, modelled as v6.12; 1 run of each test" in text
    assert "DIFFERS" in text
    assert "r0: 1 here, 2 in the model" in text
    assert "no execution of the model ends like this" in text
    assert "0 as the model says, 1 DIFFER, 1 not applicable" in text
    ktap = run_ktap(doc).splitlines()
    assert ktap[:2] == ["KTAP version 1", "1..2"]
    assert "not ok 1 rdma_fork_write" in ktap
    assert "ok 2 rdma_fork_write # SKIP no swap" in ktap


def test_what_differs_from_run_to_run_is_counted(test: Test) -> None:
    runs = [*(seen(2, 3, run) for run in range(7)), *(seen(1, 2, run) for run in range(7, 10))]
    doc = document(test, "v5.7", runs, repeat=10)
    (result,) = doc["tests"][0]["results"]
    assert [(o["count"], o["registers"]["r0"]) for o in result["outcomes"]] == [(7, 2), (3, 1)]
    text = run_text(doc, PLAIN)
    assert "flaky 7/10" in text
    assert "3/10: r0=1 r1=2" in text
    assert "# 3/10: r0=1 r1=2" in run_ktap(doc)


def test_no_compiler_is_told_and_not_thrown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> list[Observation]:
        raise BuildError("no C compiler found")

    monkeypatch.setattr("cowcatcher.cli.running.run_host", fail)
    assert main(["run", "seed"]) == 3
    assert capsys.readouterr().err == "cowcatcher: no C compiler found\nTry 'cowcatcher doctor'.\n"


def test_an_interrupt_keeps_what_was_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(tests: list[Test], observed: Observed, **_: object) -> list[Observation]:
        for place, one in enumerate(tests[:2]):
            observed(place, Observation(one.name, "not applicable", "made up"))
        raise KeyboardInterrupt

    monkeypatch.setattr("cowcatcher.cli.running.run_host", interrupted)
    assert main(["run", "seed", "--json"]) == 130
    doc = json.loads(capsys.readouterr().out)
    assert doc["interrupted"]
    assert (doc["summary"]["skip"], doc["summary"]["missing"], doc["missing"]) == (2, 15, {"host": 15})


def test_a_mistake_of_ours_loses_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(tests: list[Test], observed: Observed, **_: object) -> list[Observation]:
        observed(0, Observation(tests[0].name, "not applicable", "made up"))
        raise IndexError

    monkeypatch.setattr("cowcatcher.cli.running.run_host", broken)
    assert main(["run", "seed"]) == 4
    (said,) = re.findall(r"recorded: cowcatcher report (\S+)", capsys.readouterr().err)
    assert main(["report", said]) == 3
    assert "1 not applicable, 16 not run" in capsys.readouterr().out


def test_the_seed_is_there() -> None:
    assert find("rdma_fork_wait")


def test_what_root_and_a_virtual_machine_would_add() -> None:
    """Frame numbers are root's to see, and swap is not here; what no machine of ours has is not promised."""
    text = "test t\nmemory { x = anon(1) }\nprocess p { %s }\nprocess c { }\nalways same_page(p:x, c:x)\n"
    hidden = Observation("t", "ok", pages=tuple(Page(who, "x", 0, "present") for who in "pc"))
    doc = document(parse(text % "fork(c)"), "v6.12", [hidden])
    assert doc["would_add"] == {"root": 1, "virtual_machine": 0}
    assert "As root, 1 result more could be told" in run_text(doc, PLAIN)
    doc = document(
        parse(text % "fork(c); madvise(x, PAGEOUT)"), "v6.12", [Observation("t", "not applicable", "no swap")]
    )
    assert doc["would_add"] == {"root": 0, "virtual_machine": 1}
    assert "In virtual machines" in run_text(doc, PLAIN)
    doc = document(
        parse(text % "fork(c); q = get(x, WRITE)"), "v6.12", [Observation("t", "not applicable", "no such way")]
    )
    assert doc["would_add"] == {"root": 0, "virtual_machine": 0}

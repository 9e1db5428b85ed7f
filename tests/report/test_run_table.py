"""``run --on``: tests x kernels, from made-up observations; what is run, and what is said when it cannot be."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cowcatcher.cli import main
from cowcatcher.litmus.ast import Test
from cowcatcher.real.host import OK, Observation, Observed
from cowcatcher.real.images import KernelImage
from cowcatcher.real.qemu import VmError
from cowcatcher.real.vm import Job, Report

CASES = Path(__file__).parents[1] / "cli" / "cases"
WRITE = str(CASES / "rdma_fork_write.cow")


def seen(test: Test, r0: int, r1: int) -> Observation:
    return Observation(test.name, "ok", registers={"mr": OK, "r0": r0, "r1": r1})


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that are installed; one does as it should, the other loses the machine."""

    def image(name: str, version: str) -> KernelImage:
        here = Path("/nowhere")
        record = {"packages": [{"version": f"{version}-1"}]}
        return KernelImage(name, f"{name}.0-32-cloud", "cloud", here, None, None, record)

    there = {"5.10": image("5.10", "5.10.223"), "6.12": image("6.12", "6.12.107")}

    def run_vms(
        jobs: Sequence[Job],
        *,
        observed: Callable[[Job, int, Observation], None],
        finished: Callable[[Job, Report], None],
        **_: object,
    ) -> None:
        for job in reversed(jobs):
            good = job.name == "6.12"
            lost = Observation("t", "crash", "the virtual machine was lost in p: fork(c)")
            runs = [seen(t, 2, 3) if good else lost for t in job.tests]
            for place, run in enumerate(runs):
                observed(job, place, run)
            finished(job, Report(runs, job.image.release, 2.5, 4.0, Path("/nowhere/log"), lost=int(not good)))

    def run_host(tests: Sequence[Test], observed: Observed, **_: object) -> None:
        for place, test in enumerate(tests):
            observed(place, seen(test, 1, 2))

    monkeypatch.setattr("cowcatcher.real.images.installed", lambda: list(there.values()))
    monkeypatch.setattr("cowcatcher.cli.running.run_vms", run_vms)
    monkeypatch.setattr("cowcatcher.cli.running.run_host", run_host)


@pytest.mark.usefixtures("kernels")
def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", WRITE, "--on", "5.10,6.12", "--repeat", "2"]) == 3
    out = capsys.readouterr().out
    assert "2 kernels, 2 runs of each test:" in out
    assert "5.10    5.10.223  v5.10.y          4.0  1 machine lost\n" in out
    assert "test             5.10  6.12\nrdma_fork_write  ?     holds\n" in out
    assert "rdma_fork_write on 5.10: could not tell: the virtual machine was lost in p: fork(c)" in out
    assert "1 test on 2 kernels: 1 as the model says, 1 could not be told" in out


@pytest.mark.usefixtures("kernels")
def test_one_kernel_is_enough_to_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", WRITE, "--on", "all", "--width", "140"]) == 1
    out = capsys.readouterr().out
    assert "violated/holds DIFFERS" in out
    assert "rdma_fork_write on host: r0: 1 here, 2 in the model" in out


@pytest.mark.usefixtures("kernels")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", WRITE, "--on", "6.12", "--json"]) == 0
    doc = json.loads(capsys.readouterr().out)
    (column,) = doc["on"]
    assert (column["name"], column["release"], column["uname"]) == ("6.12", "6.12.107", "6.12.0-32-cloud")
    assert (column["boot"], column["lost"], column["kernel"]["name"]) == (2.5, 0, "v6.12")
    (result,) = doc["tests"][0]["results"]
    assert (result["on"], result["verdict"], result["standing"]) == ("6.12", "holds", "pass")
    assert doc["summary"] == {
        "tests": 1, "results": 1, "pass": 1, "fail": 0, "unknown": 0, "skip": 0, "missing": 0,
    }  # fmt: skip


@pytest.mark.usefixtures("kernels")
def test_ktap(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", WRITE, "--on", "5.10,6.12", "--ktap"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["KTAP version 1", "1..2"]
    assert "not ok 1 rdma_fork_write on 5.10 # ERROR the virtual machine was lost in p: fork(c)" in lines
    assert "ok 2 rdma_fork_write on 6.12" in lines


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--on", "6.1"], 2, "kernel '6.1' is not installed: cowcatcher kernels install 6.1"),
        (["--on", "5.10", "--kernel", "v5.9"], 2, "with --on, each is compared with that of its own release"),
    ],
)
def test_mistakes(words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", WRITE, *words]) == status
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("kernels")
def test_no_qemu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise VmError("qemu-system-x86_64 was not found")

    monkeypatch.setattr("cowcatcher.cli.running.run_vms", fail)
    assert main(["run", WRITE, "--on", "6.12"]) == 3
    assert "qemu-system-x86_64 was not found" in capsys.readouterr().err


@pytest.mark.usefixtures("kernels")
def test_an_interrupt_keeps_the_kernels_that_are_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cowcatcher.cli.running.run_vms", interrupted)
    assert main(["run", WRITE, "--on", "host,6.12"]) == 130
    out = capsys.readouterr().out
    assert "Not finished: 1 run missing." in out
    assert "To go on: cowcatcher run --resume " in out


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("cowcatcher.real.images.installed", list)
    assert main(["run", WRITE, "--on", "all"]) == 3
    assert "cowcatcher kernels install all" in capsys.readouterr().err


@pytest.mark.usefixtures("kernels")
def test_progress_where_nobody_watches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line now and then; here, for once, each time."""
    monkeypatch.setattr("cowcatcher.cli.running._EVERY", 0.0)
    assert main(["run", WRITE, "--on", "host,6.12", "--repeat", "2"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if " runs, " in line]
    assert [re.sub(r"\d+ a second", "N a second", line) for line in lines] == [
        "cowcatcher: 1/4 runs, host 1/2, N a second, 0:00 left",
        "cowcatcher: 2/4 runs, N a second, 0:00 left",
        "cowcatcher: 3/4 runs, 6.12 1/2, N a second, 0:00 left",
        "cowcatcher: 4/4 runs, N a second, 0:00 left",
    ]


@pytest.mark.usefixtures("kernels")
def test_progress_on_a_terminal_is_wiped_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["run", WRITE, "--on", "6.12", "--repeat", "100"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("\r1/100 runs, 6.12 1/100, ")
    assert "\n" not in err
    assert re.search(r"\r +\r$", err)

"""Exit statuses, and which of them wins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cowcatcher.cli import checking, main
from cowcatcher.explore.same import StillViolated
from cowcatcher.explore.verdict import Checker, CheckResult
from cowcatcher.kernels import LINE, Kernel
from cowcatcher.litmus import parse, parse_file
from cowcatcher.litmus.ast import Test
from tests.cli.conftest import Command, timeless


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("check rdma_fork_write.cow", 0),  # violated and expected to be
        ("check rdma_fork_wait.cow --kernel v5.9", 0),  # holds, nothing expected
        ("check rdma_fork_wait.cow --kernel v5.9-rc4", 1),  # violated, nothing expected
        ("check wrong_expectation.cow --kernel v5.7", 1),  # violated, but not what was expected
        ("check wrong_expectation.cow --kernel v5.9", 0),
        ("check nobody_runs.cow --kernel v5.9", 0),  # vacuous
        ("check huge_page.cow", 3),  # nothing could be checked
        ("check huge_page.cow rdma_fork_write.cow", 0),  # a test that is not applicable does not count
        ("check large.cow --max-states 100 --kernel v5.9", 3),
        ("check large.cow rdma_fork_write.cow --max-states 100 --kernel v5.9", 3),
        ("check large.cow rdma_fork_wait.cow --max-states 100 --kernel v5.9-rc4", 1),  # a failure is surer than a doubt
        ("check misnamed.cow", 2),
        ("check rdma_fork_write.cow --kernel v5.9.. --max-states 0", 2),
        ("check rdma_fork_write.cow --kernel v5.9.. --max-memory lots", 2),
        ("check rdma_fork_write.cow --kernel v99.y", 2),
        ("check rdma_fork_write.cow --kernel v5.9..v5.7", 2),
        ("check ../mistakes/misspelt.cow", 2),
        ("check ../mistakes/misspelt.cow wrong_expectation.cow", 2),
        ("check rdma_fork_write.cow --decision nowhere.py", 2),
        ("check rdma_fork_write.cow --json --ktap", 2),
        ("check", 2),
        ("check --frobnicate x", 2),
        ("chekc rdma_fork_write.cow", 2),
        ("--verbose check x", 2),
        ("", 2),
        ("--version", 0),
        ("--help", 0),
        ("check --help", 0),
        ("help explain", 0),
        ("explain rdma_fork_write.cow --kernel v5.7", 0),
        ("explain rdma_fork_write.cow --kernel v5.9", 0),
        ("explain rdma_fork_write.cow --kernel v5.7.. ", 2),
        ("explain rdma_fork_write.cow --kernel v5.7 --check isolated", 2),
        ("explain rdma_fork_write.cow", 2),
        ("explain huge_page.cow --kernel v5.7", 3),
        ("bisect rdma_fork_wait.cow", 0),
        ("bisect huge_page.cow", 3),
        ("shrink rdma_fork_write.cow --kernel v5.9-rc4", 0),
        ("shrink rdma_fork_write.cow --kernel v5.9", 2),  # nothing is violated
        ("shrink rdma_fork_write.cow --kernel v5.9-rc4 --holds-on v5.7", 2),
        ("shrink rdma_fork_write.cow --kernel v5.9-rc4 --check isolated", 2),
        ("shrink rdma_fork_write.cow --kernel v5.9-rc4 --claim 2", 2),
        ("shrink rdma_fork_write.cow --kernel v5.9-rc4 --output small", 2),
        ("shrink rdma_fork_write.cow", 2),
        ("shrink huge_page.cow --kernel v5.9", 3),
        ("shrink large.cow --kernel v5.9 --max-states 100", 3),
        ("generate RegMr Fork Store.p Dma.r", 0),
        ("generate RegMr Fork Store.p Dma.r --check", 0),  # no verdict is wrong, for nothing is expected
        ("generate RegMr Fork Store.p Dma.r --check --memory anon(1,thp)", 3),
        ("generate Fork Swap.c Swap.p Store.c Store.p Load.c --check --max-states 10 --kernel v5.9", 0),
        ("generate Fork Store.d", 2),
        ("generate Fork --all-words 2", 2),
        ("generate --axes cow.c --memory anon", 2),
        ("generate --axes vm.c", 2),
        ("generate Fork Load.c --letters Fork", 2),
        ("generate Fork Load.c --memory anon(1,pages=2)", 2),
        ("generate", 2),
        ("generate --list", 0),
        ("kernels", 0),
        ("kernels v99.y", 2),
        ("kernels diff v5.9", 2),
    ],
)
def test_status(words: str, status: int, cowcatcher: Command) -> None:
    said = cowcatcher(*words.split())
    assert said.status == status, said
    assert "Traceback" not in said.err
    if status == 2 and words:
        assert said.err.startswith("cowcatcher: ")
        assert not said.out
    if status == 0:
        assert not said.err


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("chekc x", "did you mean 'check'?"),
        ("check rdma_fork_wrote.cow", "no such file"),
        ("check sead", "did you mean 'seed'?"),
        ("check rdma_fork_write.cow --kernel v5.9rc4", "did you mean v5.9-rc4?"),
        ("check rdma_fork_write.cow --kernel v5.10.y..", "cannot end a range"),
        ("check rdma_fork_write.cow --max-memory much", "such as 512M or 4G"),
        ("explain rdma_fork_write.cow --kernel v5.7 --check isolated", "violated: always, coherent"),
        ("explain . --kernel v5.7", "one test is wanted"),
        ("check rdma_fork_write.cow --jobs none", "a whole number above 0"),
        ("check ../mistakes/misspelt.cow", "did you mean 'anon'?"),
        ("check rdma_fork_write.cow --decision ../mistakes/no_such_question.py", "did you mean 'fork_copies_now'?"),
        ("shrink rdma_fork_write.cow --kernel v5.9", "no violation to keep"),
        ("shrink rdma_fork_write.cow --kernel v5.9-rc4 --check isolated", "violated: always, coherent"),
        ("shrink rdma_fork_write.cow --kernel v5.9-rc4 --holds-on v5.7", "violated there (coherent)"),
        ("shrink rdma_fork_write.cow --kernel v5.9-rc4 -o small.txt", "NAME.cow"),
        ("generate Fork Lod.c", "did you mean 'Load'?"),
        ("generate Fork Dma.r", "no such pin"),
        ("generate Store.c", "Fork comes first"),
        ("generate Fork Mprotect.c[RWX]", "NONE or R or RW"),
        ("generate Fork Load.x", "there are p, t, c, c2, g, d"),
        ("generate Fork Load.c --memory anom", "no kind of mapping is called 'anom'"),
        ("generate", "name a word"),
        ("kernels show", "can stand there"),
        ("--kernel v5.9 check x", "the command comes first"),
    ],
)
def test_a_mistake_gets_advice(words: str, advice: str, cowcatcher: Command) -> None:
    said = cowcatcher(*words.split())
    assert said.status == 2
    assert advice in said.err


def test_an_expect_line_that_names_no_kernel(cowcatcher: Command, tmp_path: Path) -> None:
    text = (Path("rdma_fork_wait.cow").read_text() + "\nexpect holds on v6.7.y\n").replace("_wait", "_odd")
    (tmp_path / "rdma_fork_odd.cow").write_text(text)
    said = cowcatcher("check", str(tmp_path / "rdma_fork_odd.cow"))
    assert said.status == 2
    assert "v6.7.y" in said.err


def test_our_own_mistakes_say_so(cowcatcher: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Checker, kernel: Kernel) -> CheckResult:
        raise ZeroDivisionError

    monkeypatch.setattr(Checker, "check", broken)
    said = cowcatcher("check", "rdma_fork_write.cow")
    assert said.status == 4
    assert "Traceback" in said.err
    assert "please report it" in said.err


@pytest.mark.parametrize("form", ["--json", "--ktap", "--color=never"])
def test_an_interrupt_loses_nothing(form: str, cowcatcher: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C: what is known is printed, in whatever form was asked for."""
    real = Checker.check
    seen = 0

    def check(self: Checker, kernel: Kernel) -> CheckResult:
        nonlocal seen
        seen += 1
        if seen == len(LINE) + 4:
            raise KeyboardInterrupt
        return real(self, kernel)

    monkeypatch.setattr(Checker, "check", check)
    said = cowcatcher("check", "rdma_fork_write.cow", "rdma_fork_wait.cow", form)
    assert said.status == 130
    if form == "--json":
        doc = json.loads(said.out)
        assert doc["interrupted"]
        assert [len(t["results"]) for t in doc["tests"]] == [len(LINE), 3]
    else:
        assert "nterrupted" in said.out


def test_an_interrupted_shrink_prints_the_smallest_so_far(cowcatcher: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    real = StillViolated.__call__
    asked = 0

    def call(self: StillViolated, test: Test) -> bool:
        nonlocal asked
        asked += 1
        if asked == 10:
            raise KeyboardInterrupt
        return real(self, test)

    monkeypatch.setattr(StillViolated, "__call__", call)
    said = cowcatcher("shrink", "rdma_fork_write.cow", "--kernel", "v5.9-rc4")
    assert said.status == 130
    assert "Interrupted" in said.out
    assert parse(said.out).name == "rdma_fork_write"


def test_a_shrunk_test_stands_in_a_file(cowcatcher: Command, tmp_path: Path) -> None:
    path = tmp_path / "small.cow"
    said = cowcatcher("shrink", "rdma_fork_write.cow", "--kernel", "v5.9-rc4", "--holds-on", "v5.9..", "-o", str(path))
    assert said.status == 0
    assert "memory" not in said.out.splitlines()
    assert parse_file(path).name == "small"
    assert cowcatcher("check", str(path)).status == 1  # violated on v5.7, of which nothing was said
    assert cowcatcher("check", str(path), "--kernel", "v5.9-rc4..").status == 0
    assert cowcatcher("fmt", "--check", str(path)).status == 0


def test_generated_tests_stand_in_files(cowcatcher: Command, tmp_path: Path) -> None:
    said = cowcatcher("generate", "--axes", "cow.c", "-o", str(tmp_path / "cow_c"))
    assert (said.status, said.out) == (0, f"170 tests written to {tmp_path / 'cow_c'}\n")
    assert len(list((tmp_path / "cow_c").glob("*.cow"))) == 170
    assert cowcatcher("fmt", "--check", str(tmp_path)).status == 0
    said = cowcatcher("check", str(tmp_path / "cow_c" / "cow_c_vmsplice_child__base.cow"), "--kernel", "v5.7")
    assert "isolated" in said.out
    (tmp_path / "file").touch()
    assert cowcatcher("generate", "Load.p", "-o", str(tmp_path / "file")).status == 2


def test_an_interrupted_check_of_words_prints_what_is_known(
    cowcatcher: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Checker.check
    asked = 0

    def check(self: Checker, kernel: Kernel) -> CheckResult:
        nonlocal asked
        asked += 1
        if asked == 10:
            raise KeyboardInterrupt
        return real(self, kernel)

    monkeypatch.setattr(Checker, "check", check)
    said = cowcatcher("generate", "--all-words", "3", "--check", "--kernel", "v5.9-rc4")
    assert said.status == 130
    assert "Interrupted" in said.out


def test_processes_find_the_same(cowcatcher: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("check", "rdma_fork_write.cow", "rdma_fork_wait.cow", "sometimes_three.cow", "huge_page.cow", "--json")
    alone = cowcatcher(*line, "--jobs", "1")
    monkeypatch.setattr(checking, "_ALONE", 0.0)
    assert timeless(cowcatcher(*line, "--jobs", "2").out) == timeless(alone.out)


def test_standard_input(cowcatcher: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("rdma_fork_wait.cow") as text:
        monkeypatch.setattr("sys.stdin", text)
        said = cowcatcher("check", "-", "--kernel", "v5.9-rc4")
    assert said.status == 1
    assert "rdma_fork_wait on v5.9-rc4" in said.out


def test_main_reads_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["cowcatcher", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("cowcatcher ")

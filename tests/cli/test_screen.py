"""Colour, width, buffering, pipes and start-up: how commands behave as programs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cowcatcher.cli import main
from tests.cli.conftest import HERE, Command

ROOT = HERE.parents[1]
ESCAPE = re.compile(r"\033\[[0-9;]*m")


def process(*words: str, **options: object) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "cowcatcher", *words], text=True, cwd=HERE / "cases", env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.mark.parametrize(
    "line", ["check rdma_fork_write.cow rdma_fork_wait.cow", "explain rdma_fork_write.cow -k v5.7", "kernels"]
)
def test_colour_adds_nothing_but_colour(line: str, cowcatcher: Command) -> None:
    colored = cowcatcher(*line.split(), "--color", "always").out
    plain = cowcatcher(*line.split(), "--color", "never").out
    assert ESCAPE.search(colored)
    assert not ESCAPE.search(plain)
    assert ESCAPE.sub("", colored) == plain


@pytest.mark.parametrize(
    ("terminal", "no_color", "term", "colored"),
    [(True, "", "xterm", True), (True, "1", "xterm", False), (True, "", "dumb", False), (False, "", "xterm", False)],
)
def test_colour_by_itself(
    terminal: bool,
    no_color: str,
    term: str,
    colored: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """https://no-color.org: present and not empty means none."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert main(["kernels"]) == 0
    assert bool(ESCAPE.search(capsys.readouterr().out)) is colored


def test_a_reader_that_goes_away() -> None:
    """``cowcatcher kernels decisions | head -1`` is quiet."""
    child = process("kernels", "decisions")
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(30) in (0, 141)  # it may have been done before
    assert child.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_no_room_for_the_output() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cowcatcher", "kernels"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 4
    assert done.stderr.startswith("cowcatcher: the output cannot be written: ")
    assert "Traceback" not in done.stderr


def test_a_real_interrupt() -> None:
    """SIGINT in the middle of a long search: the report of what was found before, and status 130."""
    child = process("check", "rdma_fork_write.cow", "large.cow", "--kernel", "v5.9", start_new_session=True)
    time.sleep(2.5)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "rdma_fork_write" in out
    assert "Interrupted" in out
    assert "Traceback" not in err


#: What a check of one test has no use for; each of them costs more than a millisecond, some of them fifty.
FORBIDDEN = {
    "asyncio", "concurrent.futures", "ctypes", "difflib", "email", "http", "importlib.metadata", "json", "logging",
    "multiprocessing", "random", "selectors", "socket", "subprocess", "tempfile", "textwrap", "unittest",
}  # fmt: skip
FORBIDDEN_OWN = {
    "cowcatcher.real", "cowcatcher.kernels.commits", "cowcatcher.explore.bisect", "cowcatcher.explore.trace",
    "cowcatcher.report.explain_text", "cowcatcher.report.kernel_record", "cowcatcher.cli.run",
}  # fmt: skip


def test_check_imports_what_it_needs() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from cowcatcher.cli import main\n"
        "main(['check', 'rdma_fork_write.cow', '--kernel', 'v5.9-rc4'])\n"
        "print(' '.join(sorted(sys.modules)), file=sys.stderr)"
    )
    # -I -S: what a machine's site configuration imports is not ours.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, cwd=HERE / "cases", check=True
    )
    loaded = set(done.stderr.split())
    assert "cowcatcher.cli.check" in loaded
    assert not loaded & (FORBIDDEN | FORBIDDEN_OWN)


def test_nothing_foreign_is_imported() -> None:
    """The whole command line, every module of it, with the standard library alone."""
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for room in ("cli", "report", "explore", "generate", "hunt", "kernels", "litmus", "real")
        for p in sorted((ROOT / "cowcatcher" / room).rglob("*.py"))
        if p.name != "__init__.py"
    ]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfor n in {names!r}: __import__(n)"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


@pytest.mark.parametrize("kernel", ["v5.7", "v5.9", "v5.10.y", "mapcount-when-pinned"])
def test_a_kernel_is_described(kernel: str, cowcatcher: Command) -> None:
    """By name or by 'show', with every decision that it took and the commits behind them."""
    from cowcatcher.kernels import KERNELS

    said = cowcatcher("kernels", "show", kernel)
    assert said == cowcatcher("kernels", kernel)
    assert said.out.startswith(f"{kernel}: {KERNELS[kernel].summary}\n")
    for decision in KERNELS[kernel].changes:
        assert f"  {decision.name}" in said.out
        assert all(f"commit {commit} (" in said.out for commit in decision.commits)


def test_help_of_every_command_has_an_example(cowcatcher: Command) -> None:
    from cowcatcher.cli import COMMANDS

    for name in COMMANDS:
        said = cowcatcher(name, "--help")
        assert f"  cowcatcher {name}" in said.out
        assert "Exit status" in said.out


def test_formatting_in_place(cowcatcher: Command, tmp_path: Path) -> None:
    path = tmp_path / "rdma_fork_write.cow"
    text = Path("rdma_fork_write.cow").read_text()
    path.write_text(text)
    assert cowcatcher("fmt", "--check", str(tmp_path)).status == 1
    assert path.read_text() == text
    said = cowcatcher("fmt", str(path))
    assert (said.status, said.out) == (0, f"laid out {path}\n")
    assert path.read_text() != text
    assert cowcatcher("fmt", "--check", str(path)).status == 0
    assert cowcatcher("fmt", str(path)).out == ""


def test_formatting_standard_input(cowcatcher: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("rdma_fork_write.cow") as text:
        monkeypatch.setattr("sys.stdin", text)
        said = cowcatcher("fmt", "-")
    assert said.status == 0
    assert said.out.startswith("test rdma_fork_write\n")


def test_formatting_what_is_no_test(cowcatcher: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.cow"
    path.write_text("test x { } }")
    said = cowcatcher("fmt", str(path))
    assert said.status == 2
    assert path.read_text() == "test x { } }"

"""bpftrace around a program: the same is seen as by strace, and nothing is stopped.

It takes root and tracefs (`mount -t tracefs tracefs /sys/kernel/tracing`). Elsewhere these tests skip, and say why.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cowcatcher.audit.events import Forked, Pinned, Range, Signalled
from cowcatcher.audit.live import bpf
from cowcatcher.audit.live.bpf import BpfTraced, tracepoints
from cowcatcher.audit.live.btf import KERNEL, Btf, NotThere
from cowcatcher.audit.live.tracer import TraceError
from cowcatcher.audit.strace import events
from tests.audit.corpus.building import Workshop
from tests.audit.corpus.expectation import Program, programs
from tests.audit.corpus.running import UNAVAILABLE, Run, audited, bare
from tests.audit.live.conftest import Run as Lines

Watch = Callable[..., Lines]


def why_not() -> str:
    try:
        tracepoints()
    except TraceError as error:
        return str(error)
    return ""


needs_bpftrace = pytest.mark.skipif(bool(why_not()), reason=why_not())

#: A pin and a fork, a neighbour that a child misses, a transfer in flight, a page that moves, and a clean one.
SAME = (
    "uring_fork_malloc",
    "rdma_half_page_child_crashes",
    "dio_libaio_fork",
    "fork_init_by_library",
    "popen_and_system",
)


@pytest.fixture
def see() -> Watch:
    def run(*command: str | Path) -> Lines:
        with BpfTraced.launch([str(word) for word in command]) as traced:
            lines = list(traced.lines())
        return Lines(traced.wait(), lines, traced.lost)

    return run


# --- where it cannot be -----------------------------------------------------------------------------------------------


def test_without_bpftrace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install bpftrace" in why_not()


def _installed(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place / "bpftrace").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(place))


def test_without_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _installed(monkeypatch, tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "sudo cowcatcher audit --tracer bpftrace" in why_not()


def test_without_tracefs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if os.stat("/proc/self/ns/pid").st_ino != 0xEFFFFFFC:
        pytest.skip("in a container: that is said first")
    _installed(monkeypatch, tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(bpf, "PLACES", (tmp_path,))
    assert f"mount -t tracefs tracefs {tmp_path}" in why_not()
    (tmp_path / "events").mkdir()
    assert "CONFIG_FTRACE_SYSCALLS" in why_not()


def test_other_options_are_for_strace() -> None:
    for words in (["-p", "1"], ["--io", "--", "true"], ["--no-shim", "--", "true"], ["--stacks", "--", "true"]):
        command = [sys.executable, "-m", "cowcatcher", "audit", "--tracer", "bpftrace", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "--tracer bpftrace goes with" in done.stderr


def test_the_script_knows_where_arguments_are(tmp_path: Path) -> None:
    where = tmp_path / "syscalls" / "sys_exit_io_uring_setup"
    where.mkdir(parents=True)
    (where / "format").write_text("\tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;\n")
    text = bpf.script(tmp_path)
    assert "*(int64 *)kptr($args + 16)" in text
    assert re.findall(r"^tracepoint:\w+:(\w+)", text, re.M) == ["sys_exit_io_uring_setup"]
    assert "BEGIN" in text


def test_the_kernel_describes_itself() -> None:
    if not KERNEL.exists():
        pytest.skip(f"{KERNEL} is not there")
    kernel = Btf(KERNEL.read_bytes(), {"task_struct", "list_head"})
    assert kernel.field("list_head", "prev") == 8
    assert kernel.field("task_struct", "children", "prev") == kernel.field("task_struct", "children") + 8
    with pytest.raises(NotThere):
        kernel.field("task_struct", "no_such_thing")


# --- the program is as it would be alone ------------------------------------------------------------------------------


@needs_bpftrace
@pytest.mark.parametrize("status", [0, 77])
def test_exit_status(see: Watch, status: int) -> None:
    run = see("sh", "-c", f"exit {status}")
    assert run.status == status
    assert f"+++ exited with {status} +++" in run.lines[-1]


@needs_bpftrace
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_ended_by_a_signal(see: Watch, number: signal.Signals) -> None:
    run = see("sh", "-c", f"kill -{number.value} $$")
    assert run.status == -number
    assert f"+++ killed by {number.name}" in run.lines[-1]


@needs_bpftrace
def test_it_is_our_child_and_nothing_is_added(see: Watch, capfd: pytest.CaptureFixture[str]) -> None:
    descriptors, signals = "ls /proc/self/fd", "grep -E 'Sig|Tracer' /proc/self/status"
    run = see("sh", "-c", f"echo $PPID; {descriptors}; {signals}")
    first, rest = capfd.readouterr().out.split("\n", 1)
    assert run.status == 0
    assert int(first) == os.getpid()
    alone = [
        subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, close_fds=close).stdout
        for script, close in ((descriptors, False), (signals, True))  # with False, two signals more are ignored
    ]
    assert rest == "".join(alone)


@needs_bpftrace
def test_leaving_early_leaves_the_program_running(
    built: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with BpfTraced.launch([str(built("endless"))]) as traced:
        for line in traced.lines():
            if " madvise(" in line:
                break
    try:
        time.sleep(0.3)
        assert traced.poll() is None
    finally:
        os.kill(traced.pid, signal.SIGUSR1)
    assert traced.wait() == 3


@needs_bpftrace
def test_a_static_program_is_left_to_strace(built: Callable[..., Path]) -> None:
    with pytest.raises(TraceError, match=r"linked statically.*strace sees more"):
        BpfTraced.launch([str(built("endless", "-static", output="endless-static"))])


# --- everything it does is in the trace -------------------------------------------------------------------------------


@needs_bpftrace
def test_children_are_followed(see: Watch, built: Callable[..., Path]) -> None:
    """As by strace: test_tracer.py."""
    run = see(built("tree", "-pthread"))
    assert run.status == 5
    assert sorted(re.findall(r"\+\+\+ exited with (\d)", "".join(run.lines))) == [
        "0",
        "0",
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
    ]
    found = [event for event in events(run.lines) if isinstance(event, Forked)]
    assert sorted((event.shares_mm, event.thread) for event in found) == [
        (False, False), (False, False), (False, False), (False, False), (True, False), (True, False), (True, True),
    ]  # fmt: skip


@needs_bpftrace
def test_the_address_of_a_fault(see: Watch) -> None:
    before = time.time()
    run = see(sys.executable, "-c", "import ctypes; ctypes.string_at(0x123450, 8)")
    assert run.status == -signal.SIGSEGV
    found = [event for event in events(run.lines) if isinstance(event, Signalled)]
    assert [(event.signal, event.code, event.address) for event in found] == [("SIGSEGV", "SEGV_MAPERR", 0x123450)]
    assert before - 1 < found[0].time < time.time() + 1


@needs_bpftrace
def test_words_of_any_length(see: Watch) -> None:
    """The longest are printed in pieces."""
    lengths = (1, 186, 187, 188, 189, 385, 386, 387, 584, 585, 783, 784, 785, 970)
    program = (
        "import ctypes\n"
        "c, text = ctypes.CDLL(None), ctypes.create_string_buffer(2048)\n"
        f"for n in {lengths}:\n"
        "    name = b'/cowcatcher:test x=' + (b'0123456789' * 100)[:n]\n"
        "    ctypes.memset(text, 0, 2048); ctypes.memmove(text, name, len(name))\n"
        "    c.syscall(241 if __import__('os').uname().machine == 'x86_64' else 181, text)\n"
    )
    run = see(sys.executable, "-c", program)
    assert [word["x"] for word in run.words("test")] == [("0123456789" * 100)[:n] for n in lengths]


@needs_bpftrace
def test_registered_buffers(see: Watch, built: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    run = see(built("ring", "-luring"))
    if run.status == 77:
        pytest.skip("no io_uring here")
    first, second = (int(word, 16) for word in capfd.readouterr().out.split())
    found = [event.ranges for event in events(run.lines) if isinstance(event, Pinned)]
    assert found == [(Range(first, first + 10000), Range(second, second + 8192))]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("corpus"))


def _findings(run: Run) -> list[tuple[str, str, list[int]]]:
    """Addresses differ from run to run, sizes do not."""
    return sorted((f.rule, f.severity, sorted(end - start for start, end in f.ranges)) for f in run.found)


@needs_bpftrace
@pytest.mark.parametrize("program", [p for p in programs("faulty") + programs("clean") if p.name in SAME],
                         ids=lambda p: p.name)  # fmt: skip
def test_the_same_is_found_as_by_strace(program: Program, workshop: Workshop, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("bare", "strace", "bpftrace")]
    for place in places:
        place.mkdir()
    alone = bare(program, workshop, places[0])
    if alone.status == UNAVAILABLE:
        pytest.skip(f"{', '.join(sorted(program.needs))}: {alone.errors.strip() or 'not here'}")
    by_strace = audited(program, workshop, places[1])
    by_bpftrace = audited(program, workshop, places[2], "--tracer", "bpftrace")
    assert _findings(by_bpftrace) == _findings(by_strace)
    assert list(program.complaints(by_bpftrace.found, by_bpftrace.said)) == []
    assert (by_bpftrace.status, by_bpftrace.output, by_bpftrace.errors) == (alone.status, alone.output, alone.errors)

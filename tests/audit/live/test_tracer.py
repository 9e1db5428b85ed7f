"""strace around a program: the program is as it would be alone, and everything it does is in the trace."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cowcatcher.audit import live
from cowcatcher.audit.events import PAGE, Advised, Exited, Forked, Lost, Mapped, Pinned, Present, Unpinned
from cowcatcher.audit.live import tracer
from cowcatcher.audit.live.tracer import Traced, TraceError
from cowcatcher.audit.strace import events
from cowcatcher.cc import BuildError
from tests.audit.live.conftest import ROOT, Run

Watch = Callable[..., Run]
Built = Callable[..., Path]
Driver = Callable[..., list[str]]


# --- the program is as it would be alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 77, 255])
def test_exit_status(watch: Watch, status: int) -> None:
    assert watch("sh", "-c", f"exit {status}").status == status


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGKILL])
def test_ended_by_a_signal(watch: Watch, number: signal.Signals) -> None:
    run = watch("sh", "-c", f"kill -{number.value} $$")
    assert run.status == -number
    assert any(f"+++ killed by {number.name}" in line for line in run.lines)


def test_standard_streams(driver: Driver, environment: dict[str, str]) -> None:
    command = driver("sh", "-c", "cat; echo to stderr >&2")
    done = subprocess.run(command, input=b"\0in\xff\n" * 1000, capture_output=True, env=environment, check=True)
    assert done.stdout == b"\0in\xff\n" * 1000
    assert done.stderr == b"to stderr\n"


def test_closed_streams(driver: Driver, environment: dict[str, str]) -> None:
    script = " ".join(f"'{word}'" for word in driver("sh", "-c", "ls /proc/self/fd | wc -l; exit 9"))
    done = subprocess.run(["sh", "-c", f"{script} 2>&-"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (9, "")
    alone = subprocess.run(
        ["sh", "-c", "sh -c 'ls /proc/self/fd | wc -l' 2>&-"], capture_output=True, text=True, check=True
    )
    assert done.stdout == alone.stdout


def test_descriptors_are_passed_on_and_none_is_added(
    driver: Driver, environment: dict[str, str], tmp_path: Path
) -> None:
    with (tmp_path / "extra").open("w") as extra:
        os.set_inheritable(extra.fileno(), True)
        script = f"ls /proc/self/fd; echo hello >>/proc/self/fd/{extra.fileno()}"
        command = driver("sh", "-c", script)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, close_fds=False, check=True)
        alone = subprocess.run(["sh", "-c", script], capture_output=True, text=True, close_fds=False, check=True)
    assert done.stdout == alone.stdout
    assert (tmp_path / "extra").read_text() == "hello\nhello\n"


def test_it_is_our_child_and_has_no_strange_children(watch: Watch, capfd: pytest.CaptureFixture[str]) -> None:
    run = watch("sh", "-c", "echo $PPID; cat /proc/$$/task/$$/children; echo .")
    first, second = capfd.readouterr().out.split("\n", 1)
    assert int(first) == os.getpid()
    assert len(second.split(".")[0].split()) <= 1  # cat itself
    assert run.status == 0


def test_signals_that_were_ignored_stay_ignored(driver: Driver, environment: dict[str, str]) -> None:
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *driver("grep", "SigIgn", "/proc/self/status")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    alone = subprocess.run(
        [*command[:4], "grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True
    )
    assert done.stdout == alone.stdout
    assert int(done.stdout.split()[1], 16) & 1 << (signal.SIGHUP - 1)


@pytest.fixture
def started(driver: Driver, environment: dict[str, str], built: Built) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A watcher in its own session, and the number of the endless program that it watches."""
    process = subprocess.Popen(
        driver(built("endless")), stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stdout
    pid = int(process.stdout.readline().split()[0])
    yield process, pid
    if process.poll() is None:
        os.kill(pid, signal.SIGKILL)
        process.wait(10)
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_to_us_are_for_the_program(started: tuple[subprocess.Popen[str], int], number: signal.Signals) -> None:
    process, pid = started
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    assert not Path(f"/proc/{pid}").exists()


def test_the_program_decides_about_its_signals(started: tuple[subprocess.Popen[str], int]) -> None:
    process, pid = started
    os.kill(pid, signal.SIGUSR1)
    assert process.wait(10) == 3


def test_stopped_and_continued(started: tuple[subprocess.Popen[str], int]) -> None:
    process, pid = started
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.2)
    assert re.search(r"State:\t[Tt]", Path(f"/proc/{pid}/status").read_text())
    os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGUSR1)
    assert process.wait(10) == 3


def test_leaving_early_leaves_the_program_running(built: Built, capfd: pytest.CaptureFixture[str]) -> None:
    with Traced.launch([str(built("endless"))]) as traced:
        for line in traced.lines():
            if "MADV_DONTNEED" in line:
                break
    try:
        time.sleep(0.3)  # it makes a filtered call 50 times a second
        assert traced.poll() is None
    finally:
        os.kill(traced.pid, signal.SIGUSR1)
    assert traced.wait() == 3


# --- everything it does is in the trace -------------------------------------------------------------------------------


def test_children_are_followed(watch: Watch, built: Built) -> None:
    run = watch(built("tree", "-pthread"))
    assert run.status == 5
    ended = sorted(re.findall(r"\+\+\+ exited with (\d)", "".join(run.lines)))
    assert ended == ["0", "0", "0", "1", "2", "3", "4", "5"]  # true, a thread, the daemon's parent: 0
    found = [event for event in events(run.lines) if isinstance(event, Forked)]
    assert sorted((event.shares_mm, event.thread) for event in found) == [
        (False, False), (False, False), (False, False), (False, False), (True, False), (True, False), (True, True),
    ]  # fmt: skip


def test_the_clock_is_the_machines(watch: Watch) -> None:
    before = time.time()
    found = list(events(watch("true").lines))
    assert all(before - 1 < event.time < time.time() + 1 for event in found)


def test_only_what_is_asked_for_stops(watch: Watch) -> None:
    names = re.findall(r"^\d+ +[\d.]+ (\w+)\(", "".join(watch("true").lines), re.MULTILINE)
    assert set(names) <= {"execve", "mq_unlink", "madvise", "mremap"}
    more = re.findall(r"^\d+ +[\d.]+ (\w+)\(", "".join(watch("true", maps=True).lines), re.MULTILINE)
    assert "mmap" in more
    io = re.findall(r"^\d+ +[\d.]+ (\w+)\(", "".join(watch("true", io=True).lines), re.MULTILINE)
    assert {"openat", "read", "close"} <= set(io)


def test_whole_stacks(watch: Watch) -> None:
    if "stack-trace" not in subprocess.run(["strace", "-V"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this strace cannot walk stacks")
    lines = list(_full(["sh", "-c", "true & wait"]))
    assert any(line.startswith(" > ") and "fork" in line for line in lines)


def _full(command: list[str]) -> Iterator[str]:
    with Traced.launch(command, stacks="full") as traced:
        yield from traced.lines()


def test_a_static_program_has_no_shim_and_says_so(watch: Watch, built: Built) -> None:
    program = built("endless", "-static", output="endless-static")
    with Traced.launch([str(program)]) as traced:
        lines = []
        for line in traced.lines():
            lines.append(line)
            if "MADV_DONTNEED" in line:
                os.kill(traced.pid, signal.SIGUSR1)
    assert traced.wait() == 3
    assert any("linked statically" in reason for reason in traced.lost)
    assert any(" mmap(" in line for line in lines)  # seen by strace, then


@pytest.mark.parametrize("what", [["address"], ["thread"], ["address", "-static-libasan"]])
def test_a_program_with_a_sanitizer_has_no_shim_and_says_so(
    watch: Watch, built: Built, what: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, *more = what
    program = built("loads", f"-fsanitize={kind}", *more, output=f"loads-{''.join(what)}")
    if subprocess.run([program], capture_output=True, check=False).returncode:
        pytest.skip("not even without us")
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")
    run = watch(program)
    assert (run.status, capfd.readouterr().out) == (0, "not loaded\n")
    assert any("wants to be the first library" in reason for reason in run.lost)


def test_without_a_compiler(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise BuildError("no C compiler found")

    monkeypatch.setattr(tracer, "shim_path", none)
    run = watch("true")
    assert run.status == 0
    assert any("no C compiler found" in reason and "not seen" in reason for reason in run.lost)
    assert not run.words()
    assert any("mmap(" in line for line in run.lines)


def test_scripts_run_in_their_interpreter(watch: Watch, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 6\n")
    script.chmod(0o755)
    run = watch(script)
    assert run.status == 6
    assert run.words("hello")


def test_what_is_preloaded_already_stays(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libm.so.6")
    run = watch("sh", "-c", "grep -c libm.so /proc/self/maps >/dev/null")
    assert run.status == 0
    assert run.words("hello")


def test_another_user_can_load_the_shim(watch: Watch, capfd: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can become somebody else (with setpriv)")
    run = watch("setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", "true | true")
    assert run.status == 0
    assert capfd.readouterr().err == ""


# --- a process that is there already ----------------------------------------------------------------------------------


@pytest.fixture
def running(built: Built) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """An endless program, and where its page is that children do not get."""
    process = subprocess.Popen([built("endless")], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    yield process, int(process.stdout.readline().split()[1], 16)
    process.kill()
    process.wait()
    process.stdout.close()


def test_attached_and_let_go(running: tuple[subprocess.Popen[str], int]) -> None:
    process, page = running
    with Traced.attach(process.pid) as traced:
        found = traced.before()
        lines = []
        for line in traced.lines():
            lines.append(line)
            if "MADV_DONTNEED" in line:
                break
    assert process.poll() is None
    assert "TracerPid:\t0" in Path(f"/proc/{process.pid}/status").read_text()
    assert any(isinstance(e, Present) and e.process == process.pid and e.name == "endless" for e in found)
    assert any(isinstance(e, Mapped) and e.what == "[heap]" for e in found)
    assert [e.range.start for e in found if isinstance(e, Advised) and e.advice == "DONTFORK"] == [page]
    assert not any(isinstance(e, Lost) for e in found)  # it has nothing of RDMA's
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 3


def test_attached_to_a_process_that_may_register_memory(
    running: tuple[subprocess.Popen[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer, "pins_unseen", lambda pid: "libibverbs")
    with Traced.attach(running[0].pid) as traced:
        (lost,) = (e for e in traced.before() if isinstance(e, Lost))
    assert lost.matters
    assert "has libibverbs" in lost.reason


def test_attached_to_the_end(running: tuple[subprocess.Popen[str], int]) -> None:
    process, _ = running
    with Traced.attach(process.pid) as traced:
        for line in traced.lines():
            if "MADV_DONTNEED" in line:
                process.send_signal(signal.SIGUSR1)
        assert "exited with 3" in line


def test_pins_of_an_attached_process(built: Built) -> None:
    program = built("ring_stays", "-luring")
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    said = process.stdout.readline()
    if not said:
        pytest.skip("no io_uring here")
    with process, Traced.attach(process.pid) as traced:
        process.stdin.write("\n")  # it unregisters, and ends
        process.stdin.flush()
        found = list(events(traced.lines()))
    pinned = next(event for event in found if isinstance(event, Pinned))
    assert [r.start for r in pinned.ranges] == [int(said, 16)]
    assert any(isinstance(event, Unpinned) and event.handle == pinned.handle for event in found)


# --- what is not seen is said -----------------------------------------------------------------------------------------


def test_a_trace_that_ends_well_says_nothing_more() -> None:
    with live.launch(["true"]) as watched:
        assert not any(isinstance(event, Lost) for event in watched.events())


def test_strace_is_killed(built: Built) -> None:
    with Traced.launch([str(built("endless"))]) as traced:
        for line in traced.lines():
            if "MADV_DONTNEED" in line:
                status = Path(f"/proc/{traced.pid}/status").read_text()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(status.split("TracerPid:")[1].split()[0]), signal.SIGKILL)
        (lost,) = traced.after()
    with contextlib.suppress(ProcessLookupError):
        os.kill(traced.pid, signal.SIGKILL)
    traced.wait()
    assert isinstance(lost, Lost)
    assert lost.matters
    assert "strace ended before the program" in lost.reason


def test_the_audit_of_a_trace_that_breaks_off_is_not_green(built: Built, environment: dict[str, str]) -> None:
    kill = "kill -9 $(sed -n 's/^TracerPid:.//p' /proc/self/status); exit 0"
    audit = [sys.executable, "-m", "cowcatcher", "audit", "-o", "/dev/stdout", "--", "sh", "-c", kill]
    done = subprocess.run(audit, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert "strace ended before the program" in done.stdout


def test_a_shim_that_does_not_come_in(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer, "_preload", lambda shim: ["-E", "LD_PRELOAD"])
    with Traced.launch(["true"]) as traced:
        assert list(traced.lines())
        (lost,) = traced.after()
    assert isinstance(lost, Lost)
    assert "the shim did not come" in lost.reason


def test_a_shim_that_cannot_be_loaded(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # as where nothing may be executed

    monkeypatch.setattr(mmap, "mmap", refused)
    run = watch("true")
    assert run.status == 0
    assert capfd.readouterr().err == ""
    assert any("cannot be loaded from" in reason for reason in run.lost)
    assert any("mmap(" in line for line in run.lines)  # seen by strace, then


def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(TraceError, match="set TMPDIR"):
        Traced.launch(["true"])


# --- errors name the next step ----------------------------------------------------------------------------------------


def test_no_strace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TraceError, match="install strace"):
        Traced.launch(["/bin/true"])


def test_no_such_program() -> None:
    with pytest.raises(TraceError, match="no such program"):
        Traced.launch(["/nonexistent/program"])


def test_no_such_process() -> None:
    with pytest.raises(TraceError, match="no process 99999999"):
        Traced.attach(99999999)


def test_traced_already(running: tuple[subprocess.Popen[str], int]) -> None:
    process, _ = running
    with Traced.attach(process.pid), pytest.raises(TraceError, match="traced already, by strace"):
        Traced.attach(process.pid)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("strace: unrecognized option '--seccomp-bpf'", "too old"),
        ("strace: test_ptrace_get_syscall_info: PTRACE_TRACEME: Operation not permitted", "SYS_PTRACE"),
        ("strace: out of luck", "out of luck"),
    ],
)
def test_what_strace_complains_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, advice: str) -> None:
    fake = tmp_path / "strace"
    fake.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(TraceError, match=advice):
        Traced.launch(["true"])


def test_not_allowed_to_attach(running: tuple[subprocess.Popen[str], int], tmp_path: Path) -> None:
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can become somebody else (with setpriv)")
    process, _ = running
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from cowcatcher.audit.live.tracer import TraceError, Traced\n"
        "try: Traced.attach(int(sys.argv[1]))\n"
        "except TraceError as error: print(error)\n"
    )
    command = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", script, str(process.pid), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if "Permission denied" in done.stderr or "No module" in done.stderr:
        pytest.skip("the other user cannot read this clone")
    assert "be its user, or root" in done.stdout, done.stderr


# --- all of it together -----------------------------------------------------------------------------------------------


def test_launched(built: Built) -> None:
    with live.launch([str(built("tree", "-pthread"))], live.Options(every=0.05)) as watched:
        found = list(watched.events())
    assert watched.wait() == 5
    assert sum(isinstance(event, Forked) for event in found) == 7


def test_a_signal_as_shells_have_it() -> None:
    with live.launch(["sh", "-c", "kill -9 $$"]) as watched:
        assert list(watched.events())
    assert watched.wait() == -9


def test_attached_for_a_while(running: tuple[subprocess.Popen[str], int]) -> None:
    process, page = running
    started = time.monotonic()
    with live.attach(process.pid, live.Options(seconds=0.5, every=0.1)) as watched:
        found = list(watched.events())
    assert time.monotonic() - started > 0.4
    assert watched.wait() == 0
    assert process.poll() is None
    assert any(isinstance(e, Advised) and (e.range.start, e.advice) == (page + PAGE, "DONTNEED") for e in found)


def test_a_daemon_is_watched_a_little_longer_and_goes_on(built: Built, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["sh", "-c", f"{built('endless')} & exit 8"]
    with live.launch(command, live.Options(linger=0.1)) as watched:
        found = list(watched.events())
    assert watched.wait() == 8
    assert any(isinstance(e, Exited) and e.task == watched.pid for e in found)
    said = ""

    def has_said() -> bool:
        nonlocal said
        said += capfd.readouterr().out
        return "\n" in said

    wait_for(has_said)
    daemon = int(said.split()[0])
    assert not any(isinstance(e, Exited) and e.task == daemon for e in found)
    os.kill(daemon, signal.SIGUSR1)  # there, and not stopped: it ends by this
    wait_for(lambda: not Path(f"/proc/{daemon}").exists())


@pytest.mark.parametrize("shim", [[], ["--no-shim"]])
def test_nobody_waits_for_the_output_of_a_daemon_that_has_none(built: Built, shim: list[str]) -> None:
    program = f"{built('endless')} > daemon 2>&1 </dev/null & echo $!; until test -s daemon; do sleep 0.02; done"
    audit = [sys.executable, "-m", "cowcatcher", "audit", *shim, "--seconds", "0.1", "-o", os.devnull, "--"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    place = built("endless").parent
    done = subprocess.run(
        [*audit, "sh", "-c", program], stdout=subprocess.PIPE, text=True, env=environment, cwd=place, timeout=60
    )
    os.kill(int(done.stdout), signal.SIGUSR1)
    (place / "daemon").unlink()


def wait_for(what: Callable[[], bool]) -> None:
    for _ in range(1000):
        if what():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


def test_what_a_program_leaves_behind_can_be_let_go(driver: Driver, environment: dict[str, str], built: Built) -> None:
    """Ctrl-C is for the program as long as it lives, and then for us; its daemon goes on."""
    command = driver("sh", "-c", f"{built('endless')} & read -r line; exit 8")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stdin
    assert process.stdout
    daemon = int(process.stdout.readline().split()[0])
    process.stdin.write("\n")
    process.stdin.close()
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.wait(10)
    process.stdout.close()
    time.sleep(0.2)
    os.kill(daemon, signal.SIGUSR1)

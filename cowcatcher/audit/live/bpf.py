"""bpftrace instead of strace: the program is never stopped, at no call and no fork.

The kernel's own tracepoints say what happens (``watch.bt``), ``order`` makes strace's lines of it. It sees what strace
is asked for where the shim is loaded; what needs more is left to strace. It takes root, and the machine's tracefs.

The program is our child, and waits in front of its exec until bpftrace says that it watches. It is let go by itself
should we be killed; bpftrace ends when nobody reads what it writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from cowcatcher.audit.events import Event, Lost
from cowcatcher.audit.live import btf
from cowcatcher.audit.live.elf import program_of
from cowcatcher.audit.live.order import Order, text_of
from cowcatcher.audit.live.passing import PassesSignals
from cowcatcher.audit.live.tracer import PIPE_SIZE, TraceError, loadable_shim, place_shim, preloaded, scratch_directory

SCRIPT: Final = Path(__file__).parent / "watch.bt"
PLACES: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
INSTEAD: Final = "or leave --tracer bpftrace away: strace is the default"

#: Of the structure that holds the address of the last fault: arch/x86/mm/fault.c, arch/arm64/mm/fault.c.
_FAULT: Final = {"x86_64": "cr2", "aarch64": "fault_address"}
_STRUCTURES: Final = {"task_struct", "signal_struct", "thread_struct"}
#: Without these nothing makes sense; a machine may lack calls.
_NEEDED: Final = (
    "syscalls/sys_enter_clone", "syscalls/sys_enter_madvise", "syscalls/sys_enter_mq_unlink", "task/task_newtask",
    "sched/sched_process_exec", "sched/sched_process_exit", "signal/signal_deliver",
)  # fmt: skip
#: Strings as long as bpftrace 0.17 can have them, and room for many tasks, and for bursts: in pages, for a processor.
_ENVIRONMENT: Final = {
    "BPFTRACE_STRLEN": "200", "BPFTRACE_MAX_STRLEN": "200", "BPFTRACE_MAP_KEYS_MAX": "32768",
    "BPFTRACE_MAX_MAP_KEYS": "32768", "BPFTRACE_PERF_RB_PAGES": "256",
}  # fmt: skip
_BATCH: Final = 0.01  # seconds between looks: what a line costs us is mostly being woken for it
_LOOK_AGAIN: Final = 0.5  # seconds between looks at who is left, where ends were lost
_INIT_NAMESPACE: Final = 0xEFFFFFFC  # include/linux/proc_ns.h: PROC_PID_INIT_INO


# --- the script -------------------------------------------------------------------------------------------------------

_PROBE: Final = re.compile(r"^tracepoint:(\w+):(\w+)|(?<=, )tracepoint:(\w+):(\w+)", re.M)
_FIELD: Final = re.compile(r"^\tfield:(.*?)(\w+)(?:\[\d*\])?;\toffset:(\d+);\tsize:(\d+);\tsigned:(\d);", re.M)
_ARGUMENT: Final = re.compile(r"\bargs->(\w+)")


def script(events: Path) -> str:
    """``watch.bt`` for the tracepoints in ``events``: blocks of others are left out, arguments are where they are."""
    blocks = []
    for block in SCRIPT.read_text().split("\n\n"):
        probes = [events / (a or c) / (b or d) for a, b, c, d in _PROBE.findall(block)]
        if all(probe.is_dir() for probe in probes):
            blocks.append(_with_numbers(block, probes[0]) if probes and _ARGUMENT.search(block) else block)
    return "\n\n".join(blocks)


def _with_numbers(block: str, probe: Path) -> str:
    where = {}
    for kind, name, offset, size, signed in _FIELD.findall((probe / "format").read_text()):
        if "__data_loc" in kind:
            where[name] = f"kptr($args + (*(uint32 *)kptr($args + {offset}) & 0xffff))"
        else:
            where[name] = f"*({'' if signed == '1' else 'u'}int{int(size) * 8} *)kptr($args + {offset})"
    block = _ARGUMENT.sub(lambda found: where[found[1]], block)
    return block.replace("\n{\n", "\n{\n\t$args = (uint64)args;\n", 1)


def _offsets() -> list[str]:
    """watch.bt's numbers, from the second on."""
    fault = _FAULT.get(platform.machine())
    if not fault:
        raise TraceError(f"bpftrace: not known where {platform.machine()} has the address of a fault; {INSTEAD}")
    try:
        kernel = btf.Btf(btf.KERNEL.read_bytes(), _STRUCTURES)
        found = [
            kernel.field("task_struct", "exit_code"),
            kernel.field("task_struct", "signal"),
            kernel.field("task_struct", "thread", fault),
            kernel.field("signal_struct", "flags"),
            kernel.field("signal_struct", "group_exit_code"),
        ]
    except OSError:
        raise TraceError(
            f"this kernel does not describe itself ({btf.KERNEL} is not there: CONFIG_DEBUG_INFO_BTF); {INSTEAD}"
        ) from None
    except btf.NotThere as why:
        raise TraceError(f"this kernel has no {why}; {INSTEAD}") from None
    return [str(offset) for offset in found]


# --- what is needed ---------------------------------------------------------------------------------------------------


def tracepoints() -> Path:
    """Where the kernel's tracepoints are. Raises TraceError if bpftrace cannot be used here, with what to do."""
    if not shutil.which("bpftrace"):
        raise TraceError(f"bpftrace is not installed: `apt install bpftrace`, `dnf install bpftrace`; {INSTEAD}")
    if os.geteuid():
        raise TraceError(f"bpftrace needs root: `sudo cowcatcher audit --tracer bpftrace -- ...`; {INSTEAD}")
    if os.stat("/proc/self/ns/pid").st_ino != _INIT_NAMESPACE:
        raise TraceError(f"bpftrace counts processes as the machine does, not as this container; {INSTEAD}")
    for place in PLACES:
        if (place / "events").is_dir():
            break
    else:
        raise TraceError(f"tracefs is not mounted: `mount -t tracefs tracefs {PLACES[0]}`; {INSTEAD}")
    if missing := [name for name in _NEEDED if not (place / "events" / name).is_dir()]:
        raise TraceError(f"this kernel has no tracepoint {missing[0]} (CONFIG_FTRACE_SYSCALLS); {INSTEAD}")
    return place / "events"


# --- the program ------------------------------------------------------------------------------------------------------


class _Program:
    """A child that waits in front of its exec for :meth:`go`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        reading, self._writing = os.pipe()
        self.status: int | None = None
        self._lock = threading.Lock()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.close(self._writing)
                _wait_and_become(reading, command, environment)
            finally:
                os._exit(127)
        os.close(reading)

    def go(self) -> None:
        os.write(self._writing, b"!")
        os.close(self._writing)

    def never_mind(self) -> None:
        os.close(self._writing)
        self.wait()

    def wait(self) -> int:
        while self.status is None:
            self._collect(0)
        return self.status

    def poll(self) -> int | None:
        self._collect(os.WNOHANG)
        return self.status

    def _collect(self, options: int) -> None:
        """Only one of our threads can; a signal handler may come while another call of this waits."""
        if self.status is not None:
            return
        if not self._lock.acquire(blocking=not options):
            return
        try:
            if self.status is None:
                pid, status = os.waitpid(self.pid, options)
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
        finally:
            self._lock.release()


def _wait_and_become(reading: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """As subprocess does it: what Python ignores for itself is not ignored in the program."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if not os.read(reading, 1):
        return
    try:
        os.execvpe(command[0], list(command), dict(environment))
    except OSError as why:
        os.write(2, f"{command[0]}: {why.strerror}\n".encode())
        os._exit(126)


# --- the tracer -------------------------------------------------------------------------------------------------------


class BpfTraced(PassesSignals):
    """A program under bpftrace: to be used as :class:`cowcatcher.audit.live.tracer.Traced` is."""

    def __init__(self, program: _Program, scratch: Path) -> None:
        super().__init__(program.pid)
        self.lost: tuple[str, ...] = ()
        self._program, self._scratch = program, scratch
        self._ended = self._let_go = False
        self._lines: deque[str] = deque()
        self._left = b""  # the beginning of a line
        self._bpftrace: subprocess.Popen[bytes] | None = None
        self._gone: threading.Thread | None = None
        self._order = Order(program.pid, 0.0)

    @classmethod
    def launch(cls, command: Sequence[str]) -> BpfTraced:
        """Start ``command``. Raises TraceError, also where the shim cannot be in it: strace sees more then."""
        events = tracepoints()
        program = program_of(command[0])
        if program is None:
            raise TraceError(f"{command[0]}: no such program, or not executable")
        lost: list[str] = []
        shim = loadable_shim(program, lost)
        offsets = _offsets() if shim else ()
        scratch = scratch_directory()
        place = place_shim(shim, scratch, lost) if shim else None
        if place is None:
            shutil.rmtree(scratch, ignore_errors=True)
            raise TraceError(f"{lost[0]}; --tracer bpftrace relies on it: leave that away, strace sees more there")
        environment = {**os.environ, "LD_PRELOAD": preloaded(place)}
        self = cls(_Program(command, environment), scratch)
        try:
            self._watch(script(events), offsets)
        except BaseException:
            self._program.never_mind()
            self._ended = True
            self.let_go()
            raise
        self._program.go()
        return self

    def _watch(self, text: str, offsets: Sequence[str]) -> None:
        """Returns when bpftrace has attached everything."""
        (self._scratch / "watch.bt").write_text(text)
        with (self._scratch / "said").open("w+b") as said:
            self._bpftrace = subprocess.Popen(
                ["bpftrace", "-B", "line", "-f", "json", str(self._scratch / "watch.bt"), str(self.pid), *offsets],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,  # Ctrl-C is for us; we tell it to let go
            )
            assert self._bpftrace.stdout
            with contextlib.suppress(OSError):  # woken for every line, it must not take the program's turn
                os.sched_setscheduler(self._bpftrace.pid, os.SCHED_BATCH, os.sched_param(0))
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._bpftrace.stdout, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            for line in self._printed():
                kind, _, now = text_of(line).partition(" ")
                if kind == "M":  # it waits for events: everything is attached
                    self._order = Order(self.pid, _epoch(int(now) / 1e9))
                    return
            said.seek(0)
            raise TraceError(why_not_watched(said.read().decode(errors="replace")))

    def after(self) -> list[Event]:
        """Nothing more is known behind the last line."""
        return []

    def before(self) -> list[Event]:
        """What is known before the first line."""
        return [Lost(time.time(), 0, 0, reason) for reason in self.lost]

    # --- what it says -------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        """strace's lines, as they come, until nothing is left to trace."""
        order, looked = self._order, 0.0
        for line in self._printed():
            for told in order.feed(line):
                yield told
                if self._let_go:
                    return
            if order.lost and time.monotonic() - looked > _LOOK_AGAIN:
                looked = time.monotonic()
                order.keep({pid for pid in order.groups if Path(f"/proc/{pid}").exists()})
            if not order.groups:
                self._ended = True
                return
        if not self._let_go:
            yield from order.rest("bpftrace has ended before the program: nothing is seen from here on")

    def _printed(self) -> Iterator[str]:
        """bpftrace's lines. Not as each one comes, but as many as have come; whoever asks again gets the next ones."""
        assert self._bpftrace
        assert self._bpftrace.stdout
        descriptor = self._bpftrace.stdout.fileno()
        while True:
            while self._lines:
                yield self._lines.popleft()
            if self._let_go:
                return
            chunk = os.read(descriptor, PIPE_SIZE)
            if not chunk:
                return
            *lines, self._left = (self._left + chunk).split(b"\n")
            self._lines.extend(b"\n".join(lines).decode(errors="replace").split("\n") if lines else ())
            time.sleep(_BATCH)

    def wait(self) -> int:
        """The program's exit status, or minus the signal that ended it."""
        return self._program.wait()

    def poll(self) -> int | None:
        return self._program.poll()

    # --- the end ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> BpfTraced:
        self.pass_signals_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()
        self.take_signals_back()

    def let_go(self) -> None:
        """Stop watching; the program runs on. The kernel takes its time to detach: nobody waits for that here."""
        self._let_go = True
        if self._bpftrace:
            self._bpftrace.kill()
            self._gone = threading.Thread(target=self._bpftrace.wait, daemon=True, name="audit-detach")
            self._gone.start()
        if self._ended:  # else the shim has to stay for programs that are yet to start
            shutil.rmtree(self._scratch, ignore_errors=True)

    def detached(self) -> None:
        """Waits until nothing of bpftrace is left."""
        if self._gone:
            self._gone.join()


def _epoch(now: float) -> float:
    """The time when nsecs was 0: bpftrace counts since the boot, with or without what was slept through."""
    clocks = [time.clock_gettime(clock) for clock in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)]
    return time.time() - min(clocks, key=lambda clock: abs(clock - now))


def why_not_watched(said: str) -> str:
    """What bpftrace's complaint means."""
    said = "; ".join(line for line in said.splitlines() if line and "RLIMIT_MEMLOCK" not in line)[:400]
    if "not permitted" in said or "EPERM" in said or "lockdown" in said:
        return f"bpf() is not allowed here (a container needs CAP_BPF and CAP_PERFMON); {INSTEAD}. bpftrace: {said}"
    return f"bpftrace cannot watch here; {INSTEAD}. It says: {said or 'nothing'}"

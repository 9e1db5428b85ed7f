"""strace, told to stop a program as rarely as possible, and to leave it alone otherwise.

A program that is started has us as its parent and strace as nobody it knows (``-DD``): its exit status, its terminal
and its signals are its own. ``--seccomp-bpf`` lets every call through that is not asked for. A process that is there
already cannot be given that filter: strace stops it at every call.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from cowcatcher.audit.events import Event, Lost
from cowcatcher.audit.live.build import shim_path, streams_path
from cowcatcher.audit.live.elf import Elf, program_of
from cowcatcher.audit.live.passing import PassesSignals
from cowcatcher.audit.live.proc import as_if_traced, pins_unseen, present
from cowcatcher.audit.live.symbols import named
from cowcatcher.cc import BuildError

Stacks = Literal["shim", "full"]

#: A question mark: strace may not know it, or this architecture may not have it.
TASKS: Final = ("?fork", "?vfork", "clone", "?clone3", "execve", "?execveat")
MEMORY: Final = ("madvise", "?process_madvise", "mremap", "shmat", "shmdt")
PINS: Final = ("?io_uring_setup", "?io_uring_register", "vmsplice", "process_vm_readv", "process_vm_writev")
#: What the shim says: left to it, since these are most of the calls of a program that starts.
MAPPINGS: Final = ("?mmap", "?mmap2", "munmap", "brk", "mprotect", "?pkey_mprotect")
DESCRIPTORS: Final = (
    "?open", "openat", "?openat2", "close", "?close_range", "dup", "?dup2", "dup3", "fcntl", "ioctl", "setsockopt",
)  # fmt: skip
TRANSFERS: Final = (
    "read", "write", "pread64", "pwrite64", "readv", "writev", "preadv", "pwritev", "?preadv2", "?pwritev2",
    "io_submit", "io_getevents", "?io_pgetevents", "sendmsg", "sendto", "recvmsg",
)  # fmt: skip
WORDS: Final = ("mq_unlink",)

#: Never the end of a program, and many.
DULL_SIGNALS: Final = "!CHLD,CONT,URG,WINCH"
PIPE_SIZE: Final = 1 << 20


class TraceError(Exception):
    """The program cannot be watched; the text says why and what to do next."""


def calls(*, shim: bool, io: bool = False, maps: bool = False) -> tuple[str, ...]:
    """The system calls at which strace stops the program."""
    return (
        *TASKS,
        *MEMORY,
        *PINS,
        *(MAPPINGS if maps or not shim else ()),
        *(DESCRIPTORS if io or not shim else ()),
        *(TRANSFERS if io else ()),
        *(WORDS if shim else ()),
    )


def options(trace: Sequence[str], stacks: Stacks) -> list[str]:
    """strace's options that say what is printed, and how."""
    # Lists of buffers are wanted whole; the environment only where no shim reads it.
    whole = ["io_uring_register", "process_vm_readv", "process_vm_writev"]
    whole += [] if "mq_unlink" in trace else ["execve", "execveat"]
    known = [name.removeprefix("?") for name in trace]
    # As numbers: where the memory is, instead of what is in it.
    raw = [name for name in ("read", "write", "pread64", "pwrite64") if name in known]
    return [
        "-f",
        "-q",
        "-ttt",
        *("-s", "64"),
        *("-e", f"trace={','.join(trace)}"),
        *("-e", f"abbrev=!{','.join(name for name in whole if name in known)}"),
        *(["-e", f"raw={','.join(raw)}"] if raw else []),
        *("-e", f"signal={DULL_SIGNALS}"),
        *(["-k"] if stacks == "full" else []),
    ]


class Traced(PassesSignals):
    """A program under strace. ``with`` it; read :meth:`lines` to their end; then ask :meth:`wait`.

    ``lost``: what cannot be seen of it, and why, known from the beginning.
    """

    def __init__(self, pid: int, lost: Sequence[str], scratch: Path, attached: subprocess.Popen[bytes] | None) -> None:
        super().__init__(pid)
        self.lost = tuple(lost)
        self._scratch = scratch
        self._fifo = scratch / "trace"
        self._reading = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._attached = attached
        self._program: subprocess.Popen[bytes] | None = None
        self._ended = self._let_go = False
        self._preloaded = self._hello = self._saw_end = False
        self._found: list[str] = []

    # --- a program that is started ------------------------------------------------------------------------------------

    @classmethod
    def launch(
        cls, command: Sequence[str], *, with_shim: bool = True, stacks: Stacks = "shim", io: bool = False,
        maps: bool = False,
    ) -> Traced:  # fmt: skip
        """Start ``command``. ``io``: stop at every transfer, too; ``maps``: and at every change of a mapping."""
        strace = _strace()
        program = program_of(command[0])
        if program is None:
            raise TraceError(f"{command[0]}: no such program, or not executable")
        lost: list[str] = []
        shim = loadable_shim(program, lost) if with_shim else None
        scratch = _scratch()
        try:
            place = place_shim(shim, scratch, lost, 1) if shim else None
            trace = options(calls(shim=place is not None, io=io, maps=maps), stacks)
            _try_out(strace, trace)
            self = cls(0, lost, scratch, None)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        self._preloaded = place is not None
        preload = _preload(place)
        with self._or_clean():
            self._program = subprocess.Popen(
                [strace, "-DD", "--seccomp-bpf", *trace, *preload, "-o", str(self._fifo), "--", *command],
                pass_fds=_inherited(),
                env=_environment(),
            )
        self.pid = self._program.pid
        return self

    # --- a process that is there --------------------------------------------------------------------------------------

    @classmethod
    def attach(cls, pid: int, *, stacks: Stacks = "shim", io: bool = True) -> Traced:
        """Follow the process ``pid``, all its threads, and the children it makes from now on. Every call of theirs
        stops, whether it is printed or not, so transfers (``io``) are printed, too.
        """
        strace = _strace()
        _there(pid)
        scratch = _scratch()
        self = cls(pid, (), scratch, None)
        with self._or_clean():
            trace = options(calls(shim=False, io=io), stacks)
            trace.remove("-q")
            self._attached = subprocess.Popen(
                [strace, *trace, "-o", str(self._fifo), "-p", str(pid)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us; we tell it to let go
            )
            self._wait_for_attach()
            self._found = as_if_traced(pid)
        return self

    def before(self) -> list[Event]:
        """What is known before the first line: what will not be seen, and how an attached process is now."""
        found: list[Event] = [Lost(time.time(), 0, 0, reason) for reason in self.lost]
        if self._attached:
            found += present(self.pid)
            if what := pins_unseen(self.pid):
                found.append(Lost(time.time(), 0, self.pid, NOT_SEEN_OF.format(what), matters=True))
        return found

    def after(self) -> list[Event]:
        """What is known behind the last line: why there are no more, and whether the shim was there."""
        found: list[Event] = []
        if self._let_go or not self._ended:
            return found
        if not self._saw_end:
            found.append(Lost(time.time(), 0, 0, STRACE_ENDED, matters=True))
        if self._preloaded and not self._hello:
            found.append(Lost(time.time(), 0, 0, f"the shim did not come into the program: {NOT_SEEN}", matters=True))
        return found

    def _wait_for_attach(self) -> None:
        assert self._attached
        assert self._attached.stderr
        said = []
        for line in self._attached.stderr:
            text = line.decode(errors="replace").strip()
            if " attached" in text:
                return
            said.append(text)
        raise TraceError(why_not_attached(self.pid, "; ".join(said)))

    # --- what it says -------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        """strace's lines, as they come, until nothing is left to trace. First what an attached process has open."""
        yield from self._found
        if not self._writer_came():
            raise TraceError(f"strace ended before the program began, with status {self.wait()}")
        os.set_blocking(self._reading, True)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._reading, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        # Another thread may be waiting in here when we let go: what it reads from is closed by itself.
        with open(os.dup(self._reading), encoding="utf-8", errors="replace", newline="\n") as stream:
            for line in named(stream):
                self._note(line)
                yield line
                if self._let_go:
                    return
        self._ended = True

    def _note(self, line: str) -> None:
        if " +++ " in line and re.match(rf"{self.pid} +[\d.]+ \+\+\+ (?:exited|killed)", line):
            self._saw_end = True
        elif not self._hello and "/cowcatcher:hello" in line:
            self._hello = True

    def _writer_came(self) -> bool:
        """Wait for strace to open its end. False: it never did, and has gone."""
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        gone = 0
        while not poll.poll(50):
            ended = self._attached or self._program
            gone = gone + 1 if ended is None or ended.poll() is not None else 0
            if gone > 20:
                return False
        return True

    def wait(self) -> int:
        """The program's exit status, or minus the signal that ended it. 0 for a process that was attached to."""
        return self._program.wait() if self._program else 0

    def poll(self) -> int | None:
        """As :meth:`wait`; None while the program runs. Children of it may run on, and be traced."""
        return self._program.poll() if self._program else None

    # --- the end ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Traced:
        """From here on what would end us is passed on to the program, which decides; a started one only."""
        if self._program:
            self.pass_signals_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()
        self.take_signals_back()

    def let_go(self) -> None:
        """Stop watching. An attached process runs on as before.

        A started program's filter stays with it, and would have its calls refused if strace went: strace stays until
        the last of its processes has ended, with nobody to listen.
        """
        self._let_go = True
        if self._attached:
            self._attached.terminate()
            if self._attached.stderr:
                self._attached.stderr.close()
            _drain(self._reading)
            self._attached.wait()
        elif not self._ended and self._program:
            os.set_blocking(self._reading, True)
            subprocess.Popen(
                ["cat"],
                stdin=self._reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        self._clean()

    @contextlib.contextmanager
    def _or_clean(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._clean()
            raise

    def _clean(self) -> None:
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1
        if self._ended or self._attached or not self._program:
            shutil.rmtree(self._scratch, ignore_errors=True)
        else:
            self._fifo.unlink(missing_ok=True)  # the shim has to stay for programs that are yet to start


def _drain(reading: int) -> None:
    """strace may be waiting for room to write into: it lets go when it has had it."""
    os.set_blocking(reading, True)
    while os.read(reading, PIPE_SIZE):
        pass


def _inherited() -> list[int]:
    """Descriptors that we were given are the program's. Passed one by one: with close_fds=False subprocess would use
    posix_spawn(), and glibc's leaves two of its own signals ignored in the child.
    """
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the directory's own is gone by now
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


# --- what is needed ---------------------------------------------------------------------------------------------------


def _strace() -> str:
    if path := shutil.which("strace"):
        return path
    raise TraceError("strace is not installed: `apt install strace`, `dnf install strace`")


def scratch_directory() -> Path:
    """A directory of this run. Others may pass through it: a program may change its user."""
    try:
        place = Path(tempfile.mkdtemp(prefix="cowcatcher-audit-"))
        place.chmod(0o711)
    except OSError as error:
        raise TraceError(f"no room for a trace: {error}; set TMPDIR to a directory that can be written") from error
    return place


def _scratch() -> Path:
    """With strace's pipe in it."""
    place = scratch_directory()
    os.mkfifo(place / "trace", 0o600)
    return place


def loadable_shim(program: Elf, lost: list[str]) -> Path | None:
    """The shim, if it can be loaded into ``program``."""
    if why := program.refuses():
        lost.append(f"the shim is not in {program.path} ({why}): {NOT_SEEN}")
        return None
    try:
        return shim_path()
    except BuildError as error:
        lost.append(f"{error}: {NOT_SEEN}")
        return None


#: Of a process that was there before. One that has none of it loses nothing: its own pins are system calls.
NOT_SEEN_OF: Final = (
    "the process was there before, and has {}: what it registers there, free() of pinned memory, and who called, are "
    "not seen; start the program under audit to see them"
)
NOT_SEEN: Final = (
    "ibv_reg_mr(), O_DIRECT transfers in flight at a fork, free() of pinned memory, and who called, are not seen"
)


STRACE_ENDED: Final = "strace ended before the program did: what the program did after that is not seen"


def place_shim(shim: Path, scratch: Path, lost: list[str], filters: int = 0) -> Path | None:
    """The shim, where every user can read it, if it can be loaded from there. ``filters`` of system calls are ours."""
    place = scratch / f"{shim.stem}{_filters(filters)}{shim.suffix}"
    try:
        shutil.copyfile(shim, place)
        place.chmod(0o644)
        with place.open("rb") as file:  # as the dynamic linker will
            mmap.mmap(file.fileno(), mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    except (OSError, ValueError) as error:
        lost.append(f"the shim cannot be loaded from {scratch.parent} ({error}; set TMPDIR to another): {NOT_SEEN}")
        return None
    return place


def _preload(shim: Path | None) -> list[str]:
    """strace's options that preload the shim into the program, and nothing else of ours."""
    theirs = os.environ.get("LD_PRELOAD", "")
    if not shim:
        return ["-E", f"LD_PRELOAD={theirs}" if theirs else "LD_PRELOAD"]
    return ["-E", f"LD_PRELOAD={preloaded(shim)}"]


def preloaded(place: Path) -> str:
    """What LD_PRELOAD is to be, with the shim at ``place``."""
    return _with(place, os.environ.get("LD_PRELOAD", ""))


def _filters(more: int) -> str:
    """Says to the shim how many filters of system calls the program has that are not its own: ours, and strace's."""
    found = re.search(r"^Seccomp_filters:\t(\d+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return f"-filters-{int(found[1]) + more}" if found and int(found[1]) < 9 else ""


def _environment() -> dict[str, str]:
    """strace's own: it lets go of the program's streams, where that can be built."""
    found = dict(os.environ)
    with contextlib.suppress(BuildError):
        found["LD_PRELOAD"] = _with(streams_path(), found.get("LD_PRELOAD", ""))
    return found


def _with(library: Path, theirs: str) -> str:
    return f"{library}:{theirs}" if theirs else str(library)


def _try_out(strace: str, trace: Sequence[str]) -> None:
    """Trace a program that does nothing: strace's complaints come to us, and not to the program's terminal."""
    true = shutil.which("true") or "/bin/true"
    tried = subprocess.run(
        [strace, "--seccomp-bpf", *trace, "-o", os.devnull, true],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if tried.returncode:
        raise TraceError(why_not_traced(tried.stderr.strip()))


def why_not_traced(said: str) -> str:
    """What strace's complaint means when it is to start a program."""
    if "seccomp-bpf" in said and ("unrecognized" in said or "invalid" in said):
        return f"this strace is too old for --seccomp-bpf, without which every call stops: install a newer one ({said})"
    if "Operation not permitted" in said or "ptrace" in said.lower():
        return f"tracing is not allowed here: a container needs CAP_SYS_PTRACE (`--cap-add=SYS_PTRACE`). strace: {said}"
    return f"strace cannot trace here: {said}"


def _there(pid: int) -> None:
    """Raises if ``pid`` is no process, or somebody traces it already."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        raise TraceError(f"there is no process {pid}") from None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if fields.get("State", "").strip().startswith("Z"):
        raise TraceError(f"process {pid} has ended and only waits to be collected")
    if "VmSize" not in fields:
        raise TraceError(f"{pid} is a thread of the kernel, which has no memory of its own to watch")
    tracer = int(fields.get("TracerPid", "0"))
    if tracer:
        name = Path(f"/proc/{tracer}/comm")
        who = name.read_text().strip() if name.exists() else "unknown"
        raise TraceError(f"process {pid} is traced already, by {who} ({tracer}): only one can; end that one first")


def why_not_attached(pid: int, said: str) -> str:
    """What strace's complaint means when it is to attach."""
    if "No such process" in said:
        return f"there is no process {pid} any more"
    if "not permitted" in said:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope")
        level = scope.read_text().strip() if scope.exists() else "0"
        if level == "3":
            return f"process {pid} cannot be traced: kernel.yama.ptrace_scope is 3, until the next boot"
        if level != "0" and os.geteuid():
            return (
                f"process {pid} cannot be traced: kernel.yama.ptrace_scope is {level}; "
                "be root, or `sysctl kernel.yama.ptrace_scope=0`"
            )
        return f"process {pid} cannot be traced: be its user, or root (or have CAP_SYS_PTRACE). strace: {said}"
    return f"strace cannot attach to process {pid}: {said}"

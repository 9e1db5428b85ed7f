"""One virtual machine under QEMU: its command line, its life, its last words; and how many this computer bears."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    import subprocess
    import threading

EMULATOR: Final = "qemu-system-x86_64"
#: MiB: under 80 some kernels do not even complain; huge pages and the swap device need room too.
MEMORY: Final = 384
#: MiB that QEMU itself takes.
OVERHEAD: Final = 128
#: Seconds to the first word of the agent; emulated, on a busy computer.
BOOT: Final = 90.0
#: Seconds between two looks at whether there are answers, or whether to stop.
TICK: Final = 0.02
#: Bytes that a machine's answers have room for until they are read, and before them: agent/channel.c.
ROOM: Final = 4 << 20
TEXT: Final = 4096
#: Tests that a KVM is tried with: some seconds' work.
PROBE: Final = 10_000
PROBE_SILENCE: Final = 15.0
#: Consoles' logs that are kept.
LOGS: Final = 40
#: Lines of the console that are quoted when a machine is lost.
TAIL: Final = 8
#: Some QEMUs' emulated cmpxchg16b corrupts the flags register, and with it the kernel, sooner or later: do without.
EMULATED_CPU: Final = "qemu64,-cx16"
#: oops: a kernel that has gone wrong is a lost machine and not one that answers on; panic: the end of it, at once;
#: proc_mem: a distribution's choice of who may write through protections is none of the rules under test.
#: no_timer_check: a kernel that gets too little of the processor to see its timer tick believes it broken, and panics.
#: highres: an emulated timer is expensive to program, and a tick that comes anyway is not.
#: cryptomgr: kernels from 6.12 on, if not before, test their ciphers after boot, in threads that take most of the
#: processor for as long as a run lasts; damon_stat: from 6.18 or so on it watches all memory, by references.
COMMAND_LINE: Final = (
    "console=ttyS0 loglevel=5 oops=panic panic=-1 proc_mem.force_override=always no_timer_check highres=off "
    "cryptomgr.notests=1 damon_stat.enabled=0"
)

_machines: Final = count(1)


class VmError(Exception):
    """No virtual machine can be run here at all; the text says why and what to do next."""


class Lost(Exception):
    """This machine ended before its work was done; the text says what it was seen to do last."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How machines are made.

    ``icount``: time is counted in instructions, 2**icount nanoseconds each, so that a run can be repeated byte for
    byte; another number gives another interleaving of interrupts. ``boot``: seconds to the agent's first word.
    ``append``: more words for the kernel's command line, such as a parameter that chooses a known-bad variant.
    ``machine`` and ``devices``: values of QEMU's ``-machine`` and of one ``-device`` each, in this order.
    ``modules``: names of kernel modules that are loaded in this order, with what they depend on, where the kernel has
    them as modules; before them, what the swap device is made of. ``nodes``: of NUMA, each with its share of memory;
    all processors are the first one's.
    """

    accelerator: str = "tcg"
    cpus: int = 1
    memory: int = MEMORY
    icount: int | None = None
    boot: float = BOOT
    append: tuple[str, ...] = ()
    machine: str = "pc"
    devices: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    nodes: int = 1


def emulator() -> str:
    """Full path of QEMU."""
    import os
    import shutil

    if os.uname().machine != "x86_64":  # the agent is built for this machine, and is to run in that one
        raise VmError(
            f"this machine is {os.uname().machine}, and virtual machines are x86-64 only, on x86-64: test the kernel "
            "that it runs ('cowcatcher run', without --on), or take an x86-64 machine"
        )
    path = shutil.which(EMULATOR)
    if path is None:
        raise VmError(
            f"{EMULATOR} was not found: other kernels run in virtual machines; install it, such as "
            "`apt install --no-install-recommends qemu-system-x86` or "
            "`dnf install qemu-system-x86-core`"
        )
    return path


def command(vmlinux: Path, initramfs: Path, console: Path, answers: Path, settings: Settings) -> list[str]:
    """The whole command line. ttyS0 is the console and goes to a file, ttyS1 is QEMU's own standard output.

    ``answers``: a file that the machine gets as a device's memory, see :class:`Answers`.
    """
    memory = f"memory-backend-file,id=answers,share=on,size={ROOM},mem-path={escaped(answers)}"
    return [
        *computer(vmlinux, initramfs, console, settings, "--init"),
        "-chardev", "stdio,id=ttyS1,signal=off", "-serial", "chardev:ttyS1",
        "-object", memory, "-device", "ivshmem-plain,memdev=answers",
    ]  # fmt: skip


def computer(vmlinux: Path, initramfs: Path, console: Path, settings: Settings, task: str) -> list[str]:
    """A command line with all but a way to speak with the machine. ``task`` is what its agent is called with."""
    accel = "tcg"
    if kvm := settings.accelerator == "kvm" and settings.icount is None:  # its IOMMU remaps interrupts outside of KVM
        accel = "kvm,kernel-irqchip=split" if settings.machine == "q35" else "kvm"
    words = [
        emulator(), "-machine", settings.machine,
        "-accel", accel, "-cpu", "host" if kvm else EMULATED_CPU,
        "-m", str(settings.memory), "-smp", str(settings.cpus),
        "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
        "-chardev", f"file,id=console,path={escaped(console)}", "-serial", "chardev:console",
        "-kernel", str(vmlinux), "-initrd", str(initramfs),
        "-append", " ".join([COMMAND_LINE, *settings.append, "--", task]),
    ]  # fmt: skip
    for node in range(settings.nodes if settings.nodes > 1 else 0):
        share = settings.memory // settings.nodes + (settings.memory % settings.nodes if node == 0 else 0)
        cpus = f",cpus=0-{settings.cpus - 1}" if node == 0 else ""
        words += ["-object", f"memory-backend-ram,id=node{node},size={share}M"]
        words += ["-numa", f"node,nodeid={node},memdev=node{node}{cpus}"]
    for device in settings.devices:
        words += ["-device", device]
    if settings.icount is not None:
        words += ["-icount", f"shift={settings.icount},sleep=off", "-rtc", "base=2026-01-01,clock=vm"]
    return words


def escaped(path: Path) -> str:
    """As a value of one of QEMU's options."""
    return str(path).replace(",", ",,")


class Machine:
    """A machine that executes one text of tests. ``facts``: what it says of itself; ``boot``: seconds until then."""

    def __init__(
        self, vmlinux: Path, agent: Path, modules: Sequence[Path], tests: str, settings: Settings, log: Path
    ) -> None:
        self.vmlinux, self.agent, self.modules, self.tests = vmlinux, agent, modules, tests
        self.settings, self.log = settings, log
        self.facts: dict[str, str] = {}
        self.problems: list[str] = []
        self.boot = 0.0
        self._patience = settings.boot

    @property
    def release(self) -> str:
        return self.facts.get("release", "")

    def lines(self, silence: float, stop: threading.Event) -> Generator[list[str], None, None]:
        """The agent's answers as words, to the end. Raises :class:`Lost` if that does not come.

        ``silence``: seconds without a word after which the machine is given up.
        """
        import subprocess
        import tempfile
        import time

        from cowcatcher.real.build import cache_dir
        from cowcatcher.real.initramfs import initramfs

        if not is_static(self.agent):
            raise VmError(
                "the agent could not be linked statically, and a virtual machine has no libraries: install the static "
                "C library (`apt install libc6-dev`, `dnf install glibc-static`) and remove the agent from "
                f"{cache_dir()}"
            )
        with tempfile.TemporaryDirectory(prefix="cowcatcher-") as place, tempfile.TemporaryFile("w+") as complaints:
            archive = Path(place) / "initramfs"
            archive.write_bytes(initramfs(self.agent, self.tests, self.modules))
            answers = Answers(Path(place) / "answers")
            words = command(self.vmlinux, archive, self.log, answers.path, self.settings)
            began = time.monotonic()
            # The agent's --tied: the machine ends with this process, whatever that ends of.
            qemu = subprocess.Popen(
                [str(self.agent), "--tied", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True, bufsize=0,
            )  # fmt: skip
            try:
                for line in _lines_of(qemu, answers, lambda: self._patience, stop):
                    match line:
                        case ["init", "ready"]:
                            self._patience, self.boot = silence, time.monotonic() - began
                        case ["init", "end", status]:
                            if status != "0":
                                raise Lost(f"the agent ended with status {status}{self._last_words(complaints)}")
                            return  # there is nothing on its disk: it has none
                        case ["init", "problem", what, name, number]:
                            self.problems.append(f"{what} {name}: errno {number}")
                        case ["init", fact, value]:
                            self.facts[fact] = value
                        case _:
                            yield line
                raise Lost(f"QEMU ended{self._last_words(complaints)}")
            except TimeoutError:
                raise Lost(f"not a word for {self._patience:g} s{self._last_words(complaints)}") from None
            finally:
                qemu.kill()
                qemu.wait()
                assert qemu.stdout is not None
                qemu.stdout.close()
                answers.close()

    def _last_words(self, complaints: IO[str]) -> str:
        """What QEMU said, and the end of the console, in one line; the whole of that is in the log."""
        complaints.seek(0)
        try:
            text = self.log.read_bytes().decode("utf-8", "replace")
        except OSError:
            text = ""
        said, console = _tail(complaints.read()), _tail(text)
        return (f"; QEMU: {said}" if said else "") + f"; console: {console or 'silent'} (all of it: {self.log})"


def _tail(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-TAIL:])


class Answers:
    """The memory that a machine writes its answers to; agent/channel.c has the other end."""

    def __init__(self, path: Path) -> None:
        import mmap

        self.path = path
        with path.open("w+b") as file:
            file.truncate(ROOM)
            self._memory = mmap.mmap(file.fileno(), ROOM)

    def read(self) -> bytes:
        """What was written since the last time."""
        import struct

        written, read = struct.unpack_from("<QQ", self._memory)
        size = ROOM - TEXT
        start, end = TEXT + read % size, TEXT + written % size
        if written == read:
            return b""
        text = self._memory[start:end] if start < end else self._memory[start:] + self._memory[TEXT:end]
        struct.pack_into("<Q", self._memory, 8, written)
        return text

    def close(self) -> None:
        self._memory.close()


def _lines_of(
    process: subprocess.Popen[bytes], answers: Answers, patience: Callable[[], float], stop: threading.Event
) -> Generator[list[str], None, None]:
    """What the process writes, as words, until it ends. TimeoutError if it is silent for ``patience()`` seconds.

    It writes either to its standard output or to ``answers``.
    """
    import os
    import selectors
    import time

    assert process.stdout is not None
    rest = b""
    heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if stop.is_set():
                raise KeyboardInterrupt
            ended = False
            if selector.select(TICK):
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                ended = not chunk
            else:
                chunk = b""
            chunk += answers.read()
            if not chunk:
                if ended:
                    return
                if time.monotonic() - heard > patience():
                    raise TimeoutError
                continue
            heard = time.monotonic()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if words := line.decode("ascii", "replace").split():
                    yield words


def is_static(program: Path) -> bool:
    """Does this x86-64 executable do without an interpreter, such as ld.so?"""
    import struct

    data = program.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        return False
    start, size, count = (
        struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54),
    )  # fmt: skip
    interpreter = 3
    return all(struct.unpack_from("<I", data, start + i * size)[0] != interpreter for i in range(count))


def log_of(name: str) -> Path:
    """A console's log of its own, for a machine that runs this kernel; the oldest ones beyond :data:`LOGS` go."""
    import contextlib
    import os

    from cowcatcher.real.build import cache_dir

    directory = cache_dir() / "logs"
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # another cowcatcher may be doing the same
        for old in sorted(directory.glob("*.log"), key=lambda log: log.stat().st_mtime)[: -LOGS + 1]:
            old.unlink()
    return directory / f"{name}.{os.getpid()}.{next(_machines)}.log"


def at_once(settings: Settings) -> int:
    """How many machines this computer bears side by side: a core for each, and half of the free memory for all."""
    import os

    cores = len(os.sched_getaffinity(0)) // settings.cpus
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return max(1, min(cores, free // 2 // (settings.memory + OVERHEAD)))


def accelerator(vmlinux: Path, agent: Path) -> str:
    """ "kvm" where that is to be had and lasts, else "tcg"; tried with this kernel once, then remembered.

    There are computers on which a KVM breaks down some seconds after it began, such as virtual machines themselves: the
    machine that is tried has to do some seconds' work.
    """
    import os

    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    known = _remembered()
    if known is None:
        known = _try_kvm(vmlinux, agent)
        remember(*known)
    return known[0]


def remember(answer: str, why: str) -> None:
    """Keep what was found out about acceleration, for this kernel of the host and this QEMU."""
    import contextlib
    import json

    with contextlib.suppress(OSError):
        _memory().parent.mkdir(parents=True, exist_ok=True)
        _memory().write_text(json.dumps({"for": _host(), "accelerator": answer, "why": why}, indent=2) + "\n")


def _remembered() -> tuple[str, str] | None:
    import json

    try:
        found = json.loads(_memory().read_text())
        return (found["accelerator"], found["why"]) if found["for"] == _host() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _memory() -> Path:
    from cowcatcher.real.build import cache_dir

    return cache_dir() / "acceleration.json"


def _host() -> str:
    import os

    return f"{os.uname().release} {emulator()} {os.stat(emulator()).st_mtime_ns}"


def _try_kvm(vmlinux: Path, agent: Path) -> tuple[str, str]:
    import threading

    from cowcatcher.litmus.parser import parse
    from cowcatcher.real.lower import lower

    work = lower(parse("test t\nmemory { x = anon(1) }\nprocess p { fork(c); store(x, 2) }\nprocess c { }\n"))
    text = "".join(work.text(number, 10, False) for number in range(PROBE))
    machine = Machine(vmlinux, agent, (), text, Settings("kvm", boot=PROBE_SILENCE), log_of("kvm"))
    try:
        for _ in machine.lines(PROBE_SILENCE, threading.Event()):
            pass
    except Lost as e:
        return "tcg", str(e)
    return "kvm", "it lasted"

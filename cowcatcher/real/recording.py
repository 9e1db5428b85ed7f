"""A run as one file: what was asked, on which kernels, and every observation as it was made.

JSON lines, because whatever ends a run may end it anywhere: a line is appended with one write as soon as the agent has
answered, and brought to the disk right away. A kill loses what the agent has said and nobody has read yet; a crash of
the machine also what it had no time to bring to the disk, which is some milliseconds' worth. A torn last line is read
over. Lines are never changed; where two are about the same run, the later one counts. docs/records.md describes every
field.

The room is ``real``, since all this is what machines said: what a model says of it is kept beside it, by whoever asked
one, as a dictionary that is not looked into here.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any, Final

from cowcatcher.litmus.ast import Test
from cowcatcher.real.host import Done, Observation, Page, Seen

FORMAT: Final = 1
#: What the kernel of this machine is called; all others run in virtual machines.
HOST: Final = "host"
SUFFIX: Final = ".jsonl"
#: Recordings that are kept where nobody has said where to: so many, and so many bytes, the newest.
KEPT: Final = 100
KEPT_BYTES: Final = 512 << 20

Line = dict[str, Any]


class RecordingError(Exception):
    """The file cannot be used; the text says why and what to do next."""


@dataclass(frozen=True, slots=True)
class Options:
    """How tests are run, as far as it matters to what is seen: recorded, so that a resumed run is run like this.

    ``timeout``: seconds for one run. ``trace``: the pages after every step are noted. ``model``: the modelled kernel to
    compare this machine's with, if not the one of its release. ``stress``: tests are raced, so many times, with
    delays by ``seed``; of each there is one observation then, which stands for all of these runs. ``device``: backends
    that take pins where there is a choice. The others are a virtual machine's, see qemu.Settings: ``smp`` processors,
    ``memory`` bytes, ``deterministic`` as icount.
    """

    repeat: int = 1
    stress: int | None = None
    seed: int = 1
    timeout: float = 10.0
    trace: bool = False
    model: str | None = None
    device: tuple[str, ...] = ()
    smp: int = 1
    memory: int | None = None
    deterministic: int | None = None


@dataclass(frozen=True, slots=True)
class OnKernel:
    """A kernel that is asked. ``release`` is what it was made from; ``image`` identifies it, so that a changed one is
    noticed; ``model`` is what stands for it in the model, for whoever compares."""

    name: str
    release: str
    image: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Header:
    """All of a run that is known before it begins. ``made``: when, by which cowcatcher and agent, on what machine."""

    tests: tuple[Test, ...]
    kernels: tuple[OnKernel, ...]
    options: Options = Options()
    made: Mapping[str, Any] = field(default_factory=dict)


#: Which run of which test on which kernel: the kernel's name, the test's number, the run's number.
Key = tuple[str, int, int]


@dataclass(slots=True)
class Recording:
    """A file that was read. ``predictions``: what a model said, by its name and the test's number; ``machines``: what
    there was to tell about each kernel's virtual machines, one entry for each time that they were set going."""

    path: Path | None  # None: it is kept nowhere
    header: Header
    seen: dict[Key, Observation] = field(default_factory=dict)
    predictions: dict[tuple[str, int], Line] = field(default_factory=dict)
    machines: dict[str, list[Line]] = field(default_factory=dict)

    def runs(self, kernel: str, test: int) -> list[Observation]:
        """What was observed of this test there, in the order of the runs."""
        every = (self.seen.get((kernel, test, run)) for run in range(self.header.options.repeat))
        return [seen for seen in every if seen is not None]

    def missing(self, kernel: str) -> int:
        """How many runs there is no observation of."""
        every = len(self.header.tests) * self.header.options.repeat
        return every - sum(on == kernel for on, _, _ in self.seen)

    def to_do(self, kernel: str) -> list[tuple[int, int]]:
        """What is missing, and what could not even be tried, since there was no machine for it any more."""
        repeat = self.header.options.repeat
        every = [(test, run) for test in range(len(self.header.tests)) for run in range(repeat)]
        seen = (self.seen.get((kernel, *one)) for one in every)
        return [one for one, got in zip(every, seen, strict=True) if got is None or got.status == "could not tell"]

    def add(self, line: Line) -> None:
        """Take in one line that is not the header."""
        match line["kind"]:
            case "seen":
                key = line["on"], line["test"], line.get("run", 0)
                if "log" in line and not isinstance(line["log"], list):
                    line = line | {"log": self.seen[line["on"], line["test"], line["log"]].log}
                self.seen[key] = _observation(self.header.tests[line["test"]].name, line)
            case "predicted":
                self.predictions[line["model"], line["test"]] = line
            case "machine":
                self.machines.setdefault(line["on"], []).append(line)


class Recorder:
    """Writes a recording, from any number of threads; ``recording`` holds what has been written. Use with ``with``."""

    def __init__(self, recording: Recording, file: IO[bytes] | None) -> None:
        import threading

        self.recording = recording
        self._file = file
        self._lock = threading.Lock()
        self._written = threading.Event()
        self._lost: OSError | None = None
        self._closing = False
        self._syncing = threading.Thread(target=self._keep_synced, daemon=True)
        if file is not None:
            self._syncing.start()

    @classmethod
    def start(cls, path: Path, header: Header) -> Recorder:
        """A new file; one that exists is not touched."""
        recorder = cls(Recording(path, header), _open(path, "xb"))
        recorder._write(_header_line(header))
        return recorder

    @classmethod
    def unkept(cls, header: Header) -> Recorder:
        """For a machine on which there is no place to write to."""
        return cls(Recording(None, header), None)

    @classmethod
    def resume(cls, path: Path) -> Recorder:
        """Go on behind the last whole line. One writer at a time."""
        file = _open(path, "r+b")
        whole = file.read().rfind(b"\n") + 1
        recording = read(path)
        file.truncate(whole)
        file.seek(whole)
        return cls(recording, file)

    def observed(self, kernel: str, test: int, seen: Observation) -> None:
        line = {"kind": "seen", "on": kernel, "test": test, **_plain(seen, leave_out=("test",))}
        first = self.recording.seen.get((kernel, test, 0))
        if first is not None and seen.run and seen.log and seen.log == first.log:
            line["log"] = 0  # of a thousand runs that went the same way, one has the log
        self._append(line)

    def predicted(self, model: str, test: int, said: Line) -> None:
        self._append({"kind": "predicted", "model": model, "test": test, **said})

    def machine(self, kernel: str, facts: Line) -> None:
        self._append({"kind": "machine", "on": kernel, **facts})

    def _append(self, line: Line) -> None:
        with self._lock:
            self._write(line)
            self.recording.add(line)

    def _write(self, line: Line) -> None:
        if self._file is None:
            return
        if self._closing:
            raise RecordingError(f"{self.recording.path} is closed")
        try:
            data = _encoded(line)
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._lost:
                raise self._lost
        except OSError as error:
            self.close()  # nothing may follow half a line
            raise RecordingError(f"{self.recording.path} cannot be written: {error.strerror}") from error
        self._written.set()

    def _keep_synced(self) -> None:
        """Bring to the disk what was written, then what was written meanwhile: nobody waits for the disk."""
        while self._written.wait() and not self._closing:
            self._written.clear()
            self._sync()

    def _sync(self) -> None:
        assert self._file is not None
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            if error.errno != errno.EINVAL:  # this file system has no such call
                self._lost = error

    def reread(self) -> None:
        """Take what the file says: Ctrl-C may come between a line's being written and its being taken in."""
        if self.recording.path:
            self.recording = read(self.recording.path)

    def discard(self) -> None:
        """Nothing came of it."""
        if self.recording.path:
            self.recording.path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is None or self._closing:
            return
        self._closing = True
        self._written.set()
        self._syncing.join()
        self._sync()
        self._file.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> Recording:
    """A whole or an unfinished recording."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from error
    lines = _lines(path, data)
    first = next(lines, None)
    if first is None:
        raise RecordingError(f"{path}: nothing was recorded")
    recording = Recording(path, _header(path, first))
    for number, line in enumerate(lines, 2):
        try:
            recording.add(line)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RecordingError(f"{path}: line {number} is damaged ({error!r})") from error
    return recording


def _lines(path: Path, data: bytes) -> Iterator[Line]:
    *whole, _torn = data.split(b"\n")
    for number, text in enumerate(whole, 1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict) or "kind" not in line:
                raise ValueError
        except ValueError:
            if number == len(whole) and number > 1:  # the disk's last words
                return
            raise RecordingError(f"{path}: line {number} is damaged, or this is no recording of a run") from None
        yield line


def _open(path: Path, mode: str) -> IO[bytes]:
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file: IO[bytes] = open(path, mode, buffering=0)  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileExistsError:
        raise RecordingError(f"{path} exists; 'cowcatcher run --resume {path}' goes on with it") from None
    except BlockingIOError:
        raise RecordingError(f"{path} is being written by another cowcatcher") from None
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from error
    return file


# --- where nobody has said where to -----------------------------------------------------------------------------------


def directory() -> Path:
    """``$XDG_STATE_HOME/cowcatcher/runs``, by default below ``~/.local/state``."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "cowcatcher" / "runs"


def kept() -> list[Path]:
    """The recordings that were made there, the oldest first: their names are times."""
    return sorted(directory().glob(f"[0-9]*{SUFFIX}"))


def new_path() -> Path:
    """A name that says when (UTC); and room for it: the oldest recordings are deleted where there are too many."""
    from datetime import UTC, datetime

    _make_room()
    return directory() / f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S.%f}{SUFFIX}"


def _make_room() -> None:
    import contextlib

    size = 0
    for number, path in enumerate(reversed(kept()), 2):  # with the new one
        with contextlib.suppress(OSError):
            size += path.stat().st_size
            if number > KEPT or size > KEPT_BYTES:
                path.unlink()


# --- lines and what they mean -----------------------------------------------------------------------------------------


def _encoded(line: Line) -> bytes:
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _header_line(header: Header) -> Line:
    from cowcatcher.litmus.printer import to_text

    return {
        "kind": "run",
        "format": FORMAT,
        **header.made,
        "options": asdict(header.options),
        "kernels": [asdict(kernel) for kernel in header.kernels],
        "tests": [{"name": t.name, "path": t.path, "text": t.text or to_text(t)} for t in header.tests],
    }


def _header(path: Path, line: Line) -> Header:
    from cowcatcher.litmus.errors import LitmusError
    from cowcatcher.litmus.parser import parse

    if line["kind"] != "run" or line.get("format") != FORMAT:
        raise RecordingError(f"{path}: no recording of a run, or one of another format than {FORMAT}")
    known = {f.name for f in fields(Options)}
    if unknown := sorted(set(line["options"]) - known):
        raise RecordingError(f"{path}: made by another cowcatcher, with options unknown here: {', '.join(unknown)}")
    try:
        return Header(
            tuple(replace(parse(t["text"], t["path"]), path=t["path"]) for t in line["tests"]),
            tuple(OnKernel(**kernel) for kernel in line["kernels"]),
            Options(**_tuples(line["options"])),
            {k: v for k, v in line.items() if k not in ("kind", "format", "options", "kernels", "tests")},
        )
    except LitmusError as error:
        raise RecordingError(f"{path}: a test in it cannot be read any more: {error}") from error
    except (KeyError, TypeError) as error:
        raise RecordingError(f"{path}: the first line is damaged ({error!r})") from error


def _plain(thing: Observation | Done | Page, leave_out: Sequence[str] = ()) -> Line:
    """Its fields as plain values, without those that say nothing more than their default."""
    line: Line = {}
    for about in fields(thing):
        value = getattr(thing, about.name)
        default = about.default_factory() if about.default_factory is not MISSING else about.default
        if about.name in leave_out or value == default:
            continue
        if about.name == "pinned":
            value = [[pin, page, frame] for (pin, page), frame in value.items()]
        elif about.name in ("pages", "log"):
            value = [_plain(one) for one in value]
        elif about.name == "outcomes":
            value = [[one.count, one.first, _plain(one.observation, leave_out)] for one in value]
        line[about.name] = list(value) if isinstance(value, tuple) else value
    return line


def _observation(test: str, line: Line) -> Observation:
    known = {f.name for f in fields(Observation)}
    values: dict[str, Any] = {k: v for k, v in line.items() if k in known} | {"test": test}
    values["pinned"] = {(pin, page): frame for pin, page, frame in line.get("pinned", ())}
    values["pages"] = tuple(Page(**page) for page in line.get("pages", ()))
    values["log"] = tuple(_done(step) if isinstance(step, dict) else step for step in line.get("log", ()))
    values["outcomes"] = tuple(
        Seen(count, first, _observation(test, ended)) for count, first, ended in line.get("outcomes", ())
    )
    return Observation(**_tuples(values))


def _tuples(values: Line) -> Line:
    """JSON has lists only."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _done(step: Line) -> Done:
    return Done(**step | {"pages": tuple(Page(**page) for page in step.get("pages", ()))})

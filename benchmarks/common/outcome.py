"""What a run of the common model comes to, whoever ran it, and how a program is run so that its memory is known."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.sizes import Counts


class Missing(Exception):
    """A program that this machine lacks, and how to get it."""


class Failed(Exception):
    """A program that did not do what it was asked for, with what it said."""


@dataclass(frozen=True)
class Outcome:
    """Counts are those of the model: what a program counts besides has been taken off."""

    counts: Counts
    #: Of the search alone, by the program's own clock.
    seconds: float
    #: Of the processor, by the whole process: what to compare when something else is running. Not for SPIN's parallel
    #: mode, whose second process is not in it.
    cpu_seconds: float
    #: Peak memory, as the kernel counted it, or as the program says where it is shared between processes.
    bytes: int
    #: States of the kind that was looked for, and how many steps it takes to the first, where that is known.
    found: int = 0
    depth: int | None = None
    #: Levels of a breadth-first search, the first state's included.
    levels: int | None = None
    #: Steps to the first state of the kind that was looked for.
    way: tuple[str, ...] = ()

    @property
    def bytes_per_state(self) -> float:
        return self.bytes / self.counts.states


@dataclass(frozen=True)
class Ended:
    """A process: what it said, and what it took."""

    output: str
    status: int
    cpu_seconds: float
    peak_bytes: int


def run(words: Sequence[str | Path], folder: Path) -> Ended:
    """Run a program to its end. Its output goes through a file: nobody has to read while it runs."""
    with tempfile.TemporaryFile() as output:
        started = subprocess.Popen(
            [str(word) for word in words], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _, status, usage = os.wait4(started.pid, 0)
        except BaseException:
            started.kill()
            started.wait()
            raise
        started.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
    return Ended(said, started.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def must(words: Sequence[str | Path], folder: Path) -> Ended:
    ended = run(words, folder)
    if ended.status != 0:
        raise Failed(f"{' '.join(str(word) for word in words)}: exit status {ended.status}\n{ended.output[-2000:]}")
    return ended

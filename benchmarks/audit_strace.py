"""Reading strace's output: a million lines of a real build, of direct I/O, and of nothing but mappings; in one run.

``python -m benchmarks.audit_strace [--runs N] [--lines N] [FILE...]``: files are traces of your own, repeated to that
many lines. Without strace and a compiler the recorded mixes are left out, and said so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

from cowcatcher.audit.strace import events, open_trace


def build(where: Path) -> list[str]:
    """Recorded: a compiler and its children."""
    source = where / "f.c"
    source.write_text("#include <stdio.h>\n#include <stdlib.h>\n#include <sys/mman.h>\nint main(void) { return 0; }\n")
    return _recorded(where, ["cc", "-O1", "-o", str(where / "f"), str(source)])


def direct(where: Path) -> list[str]:
    """Recorded: fio, two jobs of direct reads and writes."""
    job = [
        "--name=x",
        f"--filename={where / 'data'}",
        "--size=4m",
        "--bs=4k",
        "--rw=randrw",
        "--direct=1",
        "--numjobs=2",
    ]
    return _recorded(where, ["fio", *job, "--ioengine=psync"])


def _recorded(where: Path, command: list[str]) -> list[str]:
    if not shutil.which("strace") or not shutil.which(command[0]):
        return []
    trace = where / "trace"
    subprocess.run(["strace", "-f", "-o", trace, *command], check=False, capture_output=True)
    return list(open_trace(str(trace)))


def mappings(where: Path) -> list[str]:
    """Nothing else: every line is an event."""
    lines = []
    for i in range(1000):
        at = 0x7F0000000000 + i * 8192
        lines += [
            f"100 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = {at:#x}",
            f"100 madvise({at:#x}, 8192, MADV_DONTFORK) = 0",
            f"100 munmap({at:#x}, 8192)      = 0",
        ]
    return lines


def dull(where: Path) -> list[str]:
    """Nothing of interest."""
    return ["100 rt_sigaction(SIGINT, NULL, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, 8) = 0"]


MIXES = {"a build": build, "direct I/O": direct, "mappings alone": mappings, "nothing of interest": dull}


def _write(path: Path, pattern: Sequence[str], count: int) -> None:
    with path.open("w") as file:
        file.writelines(f"{line}\n" for line in islice(cycle(pattern), count))


def _seconds(path: Path, read: bool) -> float:
    started = time.process_time()
    lines: Iterator[object] = open_trace(str(path))
    for _ in events(open_trace(str(path))) if read else lines:
        pass
    return time.process_time() - started


def _audit(path: Path) -> tuple[float, float]:
    """Seconds, and MiB at most, of the whole command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "cowcatcher", "audit", "--strace", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as audit:
        _, status, used = os.wait4(audit.pid, 0)
        audit.returncode = os.waitstatus_to_exitcode(status)
    if audit.returncode not in (0, 1, 3):
        raise SystemExit(f"{' '.join(command)}: exit status {audit.returncode}")
    return time.perf_counter() - started, used.ru_maxrss / 1024


def rows(runs: int, count: int, files: Sequence[str] = ()) -> Iterator[dict[str, str | float]]:
    """Of each mix: reading alone in seconds of processor time, a ratio to only splitting into lines; then the whole."""
    with tempfile.TemporaryDirectory() as scratch:
        where = Path(scratch)
        patterns = {name: make(where) for name, make in MIXES.items()}
        patterns |= {name: list(open_trace(name)) for name in files}
        for name, pattern in patterns.items():
            title = f"strace of {name}, {count:,} lines"
            if not pattern:
                yield {"what": title, "why": "strace or the program is missing"}
                continue
            path = where / "long"
            _write(path, pattern, count)
            _seconds(path, True)
            whole = statistics.median(_seconds(path, True) for _ in range(runs))
            split = statistics.median(_seconds(path, False) for _ in range(runs))
            yield {"what": title, "value": whole, "unit": "s"}
            yield {"what": "  a line", "value": whole / count * 1e6, "unit": "us"}
            yield {"what": "  times as long as splitting into lines", "value": whole / split, "unit": "x"}
            audits = [_audit(path) for _ in range(runs)]
            yield {"what": "  the whole audit", "value": statistics.median(a[0] for a in audits), "unit": "s"}
            yield {"what": "    its memory", "value": max(a[1] for a in audits), "unit": "MiB"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_strace", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    parser.add_argument("--lines", type=int, default=1_000_000, metavar="N")
    parser.add_argument("files", nargs="*", metavar="FILE")
    args = parser.parse_args(argv)
    for row in rows(args.runs, args.lines, args.files):
        if "why" in row:
            print(f"{row['what']:62} not applicable: {row['why']}")
        else:
            print(f"{row['what']:62} {row['value']:>12,.3f} {row['unit']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

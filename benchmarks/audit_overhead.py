"""What watching costs: ``python -m benchmarks.audit_overhead [--runs 5] [--only fio|build|spawn] [--best]``.

The same work bare, under audit, under audit with bpftrace (where that is possible: root, tracefs), and under ``strace
-f`` without a filter; one round after the other, so that whatever else runs on the machine falls on all of them. Times
are of the whole command, audit's start and end included, and for fio of the transfers alone, too, as fio counts them.
bpftrace takes half a second to attach before the program begins, however long that runs: ``begun`` is the time from
there on, and what it is compared by, too. Ratios are of medians; with ``--best`` of the best runs, for a machine that
is not quiet. ``--scale 0.1`` does a tenth of the work: the shorter a run, the likelier that nothing came between.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cowcatcher.audit.events import Lost
from cowcatcher.audit.live.bpf import BpfTraced, tracepoints
from cowcatcher.audit.live.tracer import Traced, TraceError
from cowcatcher.audit.strace import events

COMPILATIONS = 200
SPAWNS = 2000
TRANSFERS = 30_000


@dataclass(frozen=True, slots=True)
class Work:
    """``rate`` reads transfers a second out of what the command printed; ``needs``: programs."""

    name: str
    command: Sequence[str]
    needs: Sequence[str]
    rate: Callable[[str], float] | None = None


@dataclass(slots=True)
class Measured:
    """``begun``: the seconds since the program itself began, where that is another number."""

    seconds: list[float] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def works(place: Path, scale: float = 1.0) -> list[Work]:
    """What is run, in a directory of its own."""
    compilations, spawns, transfers = (max(int(n * scale), 1) for n in (COMPILATIONS, SPAWNS, TRANSFERS))
    sources = place / "build"
    sources.mkdir()
    for i in range(compilations):
        (sources / f"f{i}.c").write_text(f"int f{i}(int x) {{ return x + {i}; }}\n")
    objects = " ".join(f"f{i}.o" for i in range(compilations))
    (sources / "Makefile").write_text(f"all: {objects}\n%.o: %.c\n\t@gcc -O1 -c $< -o $@\n")
    loop = place / "spawn.sh"
    loop.write_text(f"i=0; while [ $i -lt {spawns} ]; do /bin/true; i=$((i+1)); done\n")
    common = [
        "fio", "--name=work", f"--filename={place}/data", "--size=64M", "--direct=1", "--rw=randread", "--bs=4k",
        f"--number_ios={transfers}", "--output-format=json",
    ]  # fmt: skip
    return [
        Work("fio psync", [*common, "--ioengine=psync"], ["fio"], _iops),
        Work("fio io_uring", [*common, "--ioengine=io_uring", "--fixedbufs=1", "--iodepth=8"], ["fio"], _iops),
        Work(f"build: {compilations} compilations", ["make", "-B", "-C", str(sources)], ["make", "gcc"]),
        Work(f"spawn: {spawns} times /bin/true", ["sh", str(loop)], ["sh"]),
    ]


def _iops(said: str) -> float:
    return float(json.loads(said[said.index("{") :])["jobs"][0]["read"]["iops"])


def bare(command: Sequence[str], into: Measured) -> None:
    started = time.perf_counter()
    subprocess.run(command, check=True)
    into.seconds.append(time.perf_counter() - started)


def plain(command: Sequence[str], into: Measured) -> None:
    bare(["strace", "-f", "-o", os.devnull, *command], into)


def audited(command: Sequence[str], into: Measured) -> None:
    started = time.perf_counter()
    with Traced.launch(command) as traced:
        for _ in events(traced.lines()):
            pass
    into.seconds.append(time.perf_counter() - started)
    if traced.wait():
        raise SystemExit(f"{command[0]}: exit status {traced.wait()}")


def by_bpftrace(command: Sequence[str], into: Measured) -> None:
    started = time.perf_counter()
    with BpfTraced.launch(command) as traced:
        begun = time.perf_counter()
        for event in events(traced.lines()):
            if isinstance(event, Lost) and "bpftrace" in event.reason:
                raise SystemExit(f"{command[0]}: {event.reason}")
    ended = time.perf_counter()
    into.seconds.append(ended - started)
    into.begun.append(ended - begun)
    if traced.wait():
        raise SystemExit(f"{command[0]}: exit status {traced.wait()}")
    traced.detached()  # the next run is not to pay for it


WAYS: dict[str, Callable[[Sequence[str], Measured], None]] = {
    "bare": bare, "audit": audited, "bpftrace": by_bpftrace, "strace -f": plain,
}  # fmt: skip


def once(work: Work, way: str, into: Measured) -> None:
    """One run, its output kept from the terminal: the program's own is ours here."""
    with tempfile.TemporaryFile("w+") as file:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            WAYS[way](work.command, into)
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        file.seek(0)
        if work.rate:
            into.rates.append(work.rate(file.read()))


def possible() -> list[str]:
    """The ways that there are here; why another is not is said."""
    try:
        tracepoints()
    except TraceError as why:
        print(f"not by bpftrace: {why}", file=sys.stderr)
        return [way for way in WAYS if way != "bpftrace"]
    return list(WAYS)


def measure(work: Work, runs: int, ways: Sequence[str], best: bool = False) -> list[dict[str, str | float]]:
    found = {way: Measured() for way in ways}
    once(work, "bare", Measured())
    for _ in range(runs):
        for way, into in found.items():
            once(work, way, into)
    rows: list[dict[str, str | float]] = []
    shortest: Callable[[list[float]], float] = min if best else statistics.median
    fastest: Callable[[list[float]], float] = max if best else statistics.median
    base = shortest(found["bare"].seconds)
    for way, m in found.items():
        seconds = shortest(m.seconds)
        row: dict[str, str | float] = {"what": work.name, "way": way, "seconds": seconds, "ratio": seconds / base}
        if m.begun:
            row["begun"] = shortest(m.begun)
        if m.rates:
            rate = fastest(m.rates)
            row |= {"rate": rate, "slower": fastest(found["bare"].rates) / rate}
        rows.append(row)
    strace = float(rows[-1]["seconds"]) - base
    for row in rows[1:-1]:
        cost = float(row.get("begun", row["seconds"])) - base
        row["cheaper"] = strace / cost if cost > 0 else float("inf")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="works whose name has this in it")
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found: list[dict[str, str | float]] = []
    ways = possible()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".overhead-") as place:
        for work in works(Path(place), options.scale):
            if options.only not in work.name:
                continue
            if missing := [name for name in work.needs if not shutil.which(name)]:
                found.append({"what": work.name, "why": f"{', '.join(missing)} not installed"})
                continue
            found += measure(work, options.runs, ways, options.best)
    if options.json:
        print(json.dumps(found))
        return
    for row in found:
        if "why" in row:
            print(f"{row['what']:32} {row['why']}")
            continue
        transfers = f"  {row['rate']:9.0f}/s {row['slower']:6.3f}x slower" if "rate" in row else ""
        cheaper = f"  {row['cheaper']:5.1f} times less overhead than strace -f" if "cheaper" in row else ""
        begun = f"  ({row['begun']:.3f} s since it began)" if "begun" in row else ""
        print(
            f"{row['what']:32} {row['way']:10} {row['seconds']:7.3f} s {row['ratio']:6.3f}x{begun}{transfers}{cheaper}"
        )


if __name__ == "__main__":
    main()

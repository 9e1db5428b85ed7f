"""Builds and runs cow.c: the common model, searched by C written for it.

``python -m benchmarks.common.creference [--size S] [--rule 0|1] [--no-canon] [--check] [--runs N]``
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common.outcome import Failed, Missing, Outcome, must
from benchmarks.common.sizes import SIZES, Counts, Size
from cowcatcher.real.build import find_compiler

SOURCE = Path(__file__).with_name("cow.c")

#: -march=native was tried: no faster.
FLAGS = ("-std=gnu11", "-O3")


def compiler() -> str:
    found = find_compiler()
    if found is None:
        raise Missing("no C compiler: set CC, or install one (Debian: apt-get install gcc libc6-dev)")
    return found


def build(size: Size, rule: int, canonical: bool, folder: Path, check: bool = False) -> Path:
    """The program for this size. It has to be built for each: loops of known length are half its speed."""
    defines = [f"-D{name}={value}" for name, value in size.defines(rule, canonical).items()]
    program = folder / f"cow-{size.name}-{rule}-{int(canonical)}"
    must([compiler(), *FLAGS, *defines, *(["-DCHECK"] if check else []), SOURCE, "-o", program], folder)
    return program


def start(program: Path) -> Outcome:
    """Run it once."""
    ended = must([program], program.parent)
    said = dict(re.findall(r"^(\w+) (.*)$", ended.output, re.MULTILINE))
    if "WRONG" in ended.output or "states" not in said:
        raise Failed(f"{program.name}:\n{ended.output}")
    return Outcome(
        Counts(int(said["states"]), int(said["transitions"])),
        seconds=float(said["seconds"]),
        cpu_seconds=ended.cpu_seconds,
        bytes=ended.peak_bytes,
        found=int(said["incoherent"]),
        depth=int(said["incoherent_depth"]) if "incoherent_depth" in said else None,
        levels=int(said["levels"]),
        way=tuple(said.get("incoherent_way", "").split()),
    )


def measure(size: Size, rule: int = 0, canonical: bool = True, check: bool = False, runs: int = 1) -> list[Outcome]:
    """Build once, run so often."""
    with tempfile.TemporaryDirectory() as place:
        program = build(size, rule, canonical, Path(place), check)
        return [start(program) for _ in range(runs)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.common.creference", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="M")
    parser.add_argument("--rule", type=int, choices=(0, 1), default=0)
    parser.add_argument("--no-canon", action="store_true", help="keep the numbers that frames and slots got")
    parser.add_argument("--check", action="store_true", help="check properties 2 and 3 in each state")
    parser.add_argument("--runs", type=int, default=1, metavar="N")
    args = parser.parse_args()
    try:
        outcomes = measure(SIZES[args.size], args.rule, not args.no_canon, args.check, args.runs)
    except (Missing, Failed) as e:
        print(e, file=sys.stderr)
        return os.EX_UNAVAILABLE
    one = outcomes[0]
    print(f"{one.counts.states:,} states, {one.counts.transitions:,} transitions, {one.levels} levels")
    print(f"{one.found:,} incoherent; the first: {' '.join(one.way) or 'none'}")
    seconds = statistics.median(o.seconds for o in outcomes)
    cpu = statistics.median(o.cpu_seconds for o in outcomes)
    print(f"{seconds:.3f} s ({cpu:.3f} s of processor), {one.bytes_per_state:.1f} bytes a state")
    return 0


if __name__ == "__main__":
    sys.exit(main())

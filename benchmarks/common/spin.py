"""Runs SPIN on cow.pml: translates, compiles and runs its verifier, in a folder of its own.

``python -m benchmarks.common.spin [--size S] [--rule 0|1] [--no-canon] [--mode …] [--look-for …] [--runs N]``
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.creference import compiler
from benchmarks.common.outcome import Ended, Failed, Missing, Outcome, must
from benchmarks.common.sizes import COUNTS, SIZES, Counts, Size

SOURCE = Path(__file__).with_name("cow.pml")

#: Only safety is asked for, and with one process partial-order reduction has nothing to leave out: neither is to cost
#: anything. -O3, -march=native, -DSFH and -DNOVSZ were tried: no faster.
PLAIN = ("-w", "-O2", "-DSAFETY", "-DNOREDUCE", "-DNOFAIR", "-DNOBOUNDCHECK")

#: What the verifier counts besides: the state before init sets alive[0]; the step from there, and the one into it.
MORE_STATES, MORE_TRANSITIONS = 1, 2


@dataclass(frozen=True)
class Mode:
    """A way to search, as flags of the compiler and of the verifier."""

    what: str
    flags: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    breadth_first: bool = False


#: ``dfs`` is the fastest with one thread. ``bfs-par`` knows states by a hash of them, the others keep states whole.
MODES = {
    "dfs": Mode("depth-first", ("-DNOCOMP",)),
    "dfs-small": Mode("depth-first, states kept without what is the same in all", ()),
    "collapse": Mode("depth-first, states kept in parts", ("-DCOLLAPSE",)),
    "bfs": Mode("breadth-first", ("-DBFS", "-DNOCOMP"), breadth_first=True),
    "bfs-par": Mode("breadth-first, two processes", ("-DBFS_PAR",), ("-u2",), breadth_first=True),
}

#: What to look for, as cow.pml numbers it.
LOOK_FOR = {"nothing": 0, "properties": 1, "miscounting": 2, "target": 3}


def translator() -> str:
    found = shutil.which("spin")
    if found is None:
        raise Missing("no 'spin': install it (Debian: apt-get install spin)")
    return found


@dataclass(frozen=True)
class Verifier:
    """What SPIN made of the model at one size."""

    program: Path
    mode: Mode
    key: tuple[str, int, bool]
    look_for: int

    def start(self, first_only: bool = False) -> Outcome:
        """Run it once; to the end, or to the first state of the kind that is looked for."""
        arguments = [*self.mode.arguments, f"-w{self._table()}", "-n", "-c1" if first_only else "-c0"]
        if self.mode.breadth_first:
            return self._outcome(must([self.program, *arguments], self.program.parent), first_only)
        # The verifier sets this much memory aside, so it is asked for what is needed: tried out, once for each size.
        depth = self._known_depth()
        while True:
            ended = must([self.program, *arguments, "-b", f"-m{depth}"], self.program.parent)
            if "max search depth too small" not in ended.output:
                return self._outcome(ended, first_only)
            depth *= 2

    def _table(self) -> int:
        """Two to the power of this, slots: at least two for each state, as the verifier's own hints have it."""
        counts = COUNTS.get(self.key)
        return max(16, (2 * counts.states - 1).bit_length()) if counts else 24

    def _known_depth(self) -> int:
        size, _, canonical = self.key
        return {"S": 10_000, "M": 250_000, "L": 4_000_000}.get(size, 100_000) * (1 if canonical else 16)

    def _outcome(self, ended: Ended, first_only: bool) -> Outcome:
        said = ended.output
        errors = int(_number(r"errors: (\d+)", said))
        wrong = re.search(r"^.*(?:invalid end state \(|out of memory|Search not completed).*$", said, re.MULTILINE)
        if wrong and not (first_only and errors):
            raise Failed(f"{self.program.name}: {wrong[0].strip()}\n{said[-2000:]}")
        depths = [int(depth) - MORE_STATES for depth in re.findall(r"assertion violated .*\(at depth (\d+)\)", said)]
        # Looking is an option of the loop: where something is found, it is one transition more.
        transitions = int(_number(r"(\d+) transitions \(=", said)) - MORE_TRANSITIONS - errors
        shared = re.search(r"([\d.]+)\s+total shared memory usage", said)
        return Outcome(
            Counts(int(_number(r"(\d+) states, stored", said)) - MORE_STATES, transitions),
            seconds=float(_number(r"elapsed time ([\d.]+)", said)),
            cpu_seconds=ended.cpu_seconds,
            bytes=int(float(shared[1]) * 2**20) if shared else ended.peak_bytes,
            found=errors,
            depth=min(depths) if depths and self.mode.breadth_first else None,
        )


def _number(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    if found is None:
        raise Failed(f"the verifier did not say {pattern!r}\n{said[-2000:]}")
    return found[1]


def build(
    size: Size, rule: int, canonical: bool, folder: Path, mode: str = "dfs", look_for: str = "nothing"
) -> Verifier:
    """Raises Missing without SPIN or a C compiler."""
    chosen, number = MODES[mode], LOOK_FOR[look_for]
    spin, cc = translator(), compiler()
    defines = {**size.defines(rule, canonical), "LOOK_FOR": number}
    said = must([spin, "-a", *(f"-D{name}={value}" for name, value in defines.items()), SOURCE], folder).output
    if "Error" in said:
        raise Failed(said)
    # It prints eight digits of a count: not enough at size L.
    source = folder / "pan.c"
    source.write_text(source.read_text().replace("%9.8g", "%9.15g"))
    program = folder / "pan"
    must([cc, *PLAIN, *chosen.flags, source, "-o", program], folder)
    return Verifier(program, chosen, (size.name, rule, canonical), number)


def measure(
    size: Size,
    rule: int = 0,
    canonical: bool = True,
    mode: str = "dfs",
    look_for: str = "nothing",
    first_only: bool = False,
    runs: int = 1,
) -> list[Outcome]:
    """Build once, run so often."""
    with tempfile.TemporaryDirectory() as place:
        verifier = build(size, rule, canonical, Path(place), mode, look_for)
        return [verifier.start(first_only) for _ in range(runs)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.common.spin", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="M")
    parser.add_argument("--rule", type=int, choices=(0, 1), default=0)
    parser.add_argument("--no-canon", action="store_true", help="keep the numbers that frames and slots got")
    parser.add_argument("--mode", choices=MODES, default="dfs", help="default: dfs, the fastest with one thread")
    parser.add_argument("--look-for", choices=LOOK_FOR, default="nothing")
    parser.add_argument("--first", action="store_true", help="stop at the first state that is looked for")
    parser.add_argument("--runs", type=int, default=1, metavar="N")
    args = parser.parse_args()
    try:
        outcomes = measure(
            SIZES[args.size], args.rule, not args.no_canon, args.mode, args.look_for, args.first, args.runs
        )
    except (Missing, Failed) as e:
        print(e, file=sys.stderr)
        return os.EX_UNAVAILABLE
    one = outcomes[0]
    print(f"{MODES[args.mode].what}: {one.counts.states:,} states, {one.counts.transitions:,} transitions")
    if args.look_for != "nothing":
        print(f"{one.found:,} of what was looked for" + (f", the first after {one.depth} steps" if one.depth else ""))
    seconds = statistics.median(o.seconds for o in outcomes)
    cpu = statistics.median(o.cpu_seconds for o in outcomes)
    print(f"{seconds:.2f} s ({cpu:.2f} s of processor), {one.bytes_per_state:.1f} bytes a state")
    return 0


if __name__ == "__main__":
    sys.exit(main())

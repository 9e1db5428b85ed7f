"""``python -m benchmarks [--runs N] [--only model|search|real] [--json]``: how fast the checker is on this machine.

Every figure is a median of ``--runs`` runs (default 5) after one that is not counted; a ratio compares two medians
of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks import real, search
from cowcatcher.explore.verdict import Checker
from cowcatcher.kernels import KERNELS, kernel
from cowcatcher.litmus import parse_file
from cowcatcher.litmus.catalogue import resolve

SEED = "rdma_fork_wait"


def median(runs: int, action: Callable[[], object]) -> float:
    """Seconds; one run first that is not counted."""
    action()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def command(*words: str) -> Callable[[], object]:
    """A whole process, interpreter start included. Exit status 1 ("violated") is a result like 0."""

    def action() -> None:
        status = subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=False).returncode
        if status not in (0, 1):
            raise SystemExit(f"{' '.join(words)}: exit status {status}")

    return action


def states_per_second(runs: int) -> tuple[int, float]:
    """(states of all catalogue tests on one kernel, states per second of the interpreted search)."""
    tests = [parse_file(str(path)) for path in resolve(["all"])]
    chosen = kernel("v6.12")
    total = sum(Checker(test).check(chosen).states for test in tests)
    seconds = median(runs, lambda: [Checker(test).check(chosen) for test in tests])
    return total, total / seconds


def measure(runs: int) -> list[dict[str, str | float]]:
    bare = median(runs, command("-c", "pass"))
    rows: list[dict[str, str | float]] = [{"what": "bare interpreter start", "value": bare, "unit": "s"}]
    cold = median(runs, command("-m", "cowcatcher", "check", SEED, "--kernel", "v5.9-rc4"))
    rows.append({"what": f"check {SEED} --kernel v5.9-rc4, cold", "value": cold, "unit": "s"})
    rows.append({"what": "  in bare interpreter starts", "value": cold / bare, "unit": "x"})
    for jobs in ("1", str(os.cpu_count() or 1)):
        whole = median(
            max(runs // 2, 1), command("-m", "cowcatcher", "check", "all", "--kernel", "all", "--jobs", jobs)
        )
        rows.append({"what": f"catalogue x all {len(KERNELS)} kernels, --jobs {jobs}", "value": whole, "unit": "s"})
    states, rate = states_per_second(runs)
    rows.append({"what": "catalogue on v6.12: states", "value": states, "unit": ""})
    rows.append({"what": "interpreted search", "value": rate, "unit": "states/s"})
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    parser.add_argument("--only", choices=("model", "search", "real"), help="one part alone")
    parser.add_argument(
        "--sizes", default="M", metavar="SIZES", help="of the common model, joined by commas: S, M, L (default: M)"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    rows: list[dict[str, str | float]] = []
    if args.only in (None, "model"):
        rows += measure(args.runs)
    if args.only in (None, "search"):
        rows += search.rows(args.runs, args.sizes.split(","))
    if args.only in (None, "real"):
        rows += real.rows(args.runs)
    if args.json:
        print(json.dumps({"schema": "cowcatcher/1", "runs": args.runs, "rows": rows}, indent=2))
    else:
        for row in rows:
            if "why" in row:
                print(f"{row['what']:62} not applicable: {row['why']}")
            else:
                print(f"{row['what']:62} {row['value']:>12,.3f} {row['unit']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

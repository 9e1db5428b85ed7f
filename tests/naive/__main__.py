"""``python -m tests.naive --count 2000 --jobs 2``: that many random tests, engine against enumerator, with figures."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter

from cowcatcher.litmus import to_text
from tests.naive.compare import Compared, compare_random
from tests.random_tests import random_kernel, random_test


def _one(seed: int) -> tuple[int, Compared]:
    try:
        return seed, compare_random(seed)
    except Exception as error:
        return seed, Compared("different", f"{type(error).__name__}: {error}")


def main() -> int:
    """Goes on until ``--count`` tests have really been compared; 1 if any differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.naive", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="tests to compare, beside those too large to walk")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--show", type=int, default=10, help="differences to print in full")
    options = parser.parse_args()

    started = time.monotonic()
    counts: Counter[str] = Counter()
    violated: Counter[str] = Counter()
    naive = engine = finals = largest = shown = 0
    with multiprocessing.Pool(options.jobs) as pool:
        seeds = range(options.first, options.first + 4 * options.count)
        for seed, done in pool.imap(_one, seeds, chunksize=8):
            counts[done.status] += 1
            naive += done.naive_states
            engine += done.engine_states
            finals += done.finals
            largest = max(largest, done.naive_states)
            violated.update(v if " " not in v else v.split()[0] for v in done.violated)
            if done.status == "different" and shown < options.show:
                shown += 1
                print(f"--- seed {seed} on {random_kernel(seed).name}\n{to_text(random_test(seed))}{done.difference}\n")
            if counts["same"] + counts["different"] >= options.count:
                pool.terminate()
                break
    print(
        f"{counts['same'] + counts['different']} tests compared, {counts['different']} different; "
        f"{counts['too large']} too large, {counts['not modelled']} not modelled\n"
        f"{naive:,} states walked by the enumerator (at most {largest:,} in a test), {engine:,} by the engine, "
        f"{finals:,} final states\n"
        f"violated: {', '.join(f'{n} {name}' for name, n in sorted(violated.items()))}\n"
        f"{time.monotonic() - started:.0f} s with {options.jobs} jobs"
    )
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())

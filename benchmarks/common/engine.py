"""The product's engine on the common model.

``python -m benchmarks.common.engine [--size L] [--rule 0] [--threads 1 2] [--runs 3] [--exact] [--symmetry] [--order]
[--depths] [--cold]``

Times are medians; processor time is this process's, of all its threads, and says more than seconds when something else
is running. Without ``--symmetry`` counts are compared with those written down, and a difference ends the program; with
``--order`` (partial order) there are as many states, and fewer transitions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from numba.extending import register_jitable

from benchmarks.common import model
from benchmarks.common.sizes import COUNTS, SIZES, Size
from cowcatcher.engine.build import Namespace, digest_of, instantiate
from cowcatcher.engine.fingerprint import FIRST, finish, linear
from cowcatcher.engine.search import Found, Progress, Space, search
from cowcatcher.engine.words import beyond, copy_bytes, copy_state, plus_product, words_at

_SOURCE = Path(model.__file__)
FRAME_SIZE = model.FRAME_SIZE


@register_jitable
def sum_of(m, s, size):
    return linear(s, size, words_at(m))


@register_jitable
def sum_plus(m, low, high, field, change):
    keys = words_at(m)
    word = field >> 3
    return plus_product(low, high, keys[2 + 2 * word], keys[3 + 2 * word], change << ((field & 7) << 3))


@register_jitable
def print_of_sum(low, high):
    high = finish(high)
    if high == 0:
        return FIRST
    return high


@register_jitable
def copy_frame(to, at, source, source_at):
    copy_bytes(to, at, source, source_at, FRAME_SIZE)


def compiled(
    size: Size, rule: int, canonical: bool, symmetry: bool = False, order: bool = False
) -> tuple[Namespace, str]:
    """The model with its sizes and its rule bound, and the digest of that."""
    numbers = {**size.defines(rule, canonical), "SYMMETRY": int(symmetry), "ORDER": int(order)}
    digest = digest_of([_SOURCE, Path(__file__)], *sorted(numbers.items()))
    words = {
        "beyond": beyond,
        "copy_state": copy_state,
        "copy_frame": copy_frame,
        "sum_of": sum_of,
        "sum_plus": sum_plus,
        "print_of_sum": print_of_sum,
    }
    return instantiate(_SOURCE, {**numbers, **words}, digest), digest


def space(size: Size, rule: int = 0, canonical: bool = True, symmetry: bool = False, order: bool = False) -> Space:
    code, digest = compiled(size, rule, canonical, symmetry, order)
    return Space(
        f"common model, size {size.name}, rule {rule}",
        code.SIZE,
        code.WIDTH,
        code.expand,
        lambda keys: keys,
        [bytes(i == code.ALIVE for i in range(code.SIZE))],
        digest,
        own_fingerprints=True,
        fixed_size=True,
        judge=code.judge,
        note=code.HOW if order else -1,
    )


Row = dict[str, object]
#: Bits of what is timed: the first shortest witness of each.
WITNESSES = {"property 1": model.INCOHERENT, "deep target": model.DEEP}


def explore(its_space: Space, **how: object) -> tuple[Found, float]:
    """A search, and the processor time it took with all its threads."""
    before = time.process_time()
    found = search(its_space, **how)  # type: ignore[arg-type]
    return found, time.process_time() - before


def measure(
    size: Size, rule: int, *, symmetry: bool, threads: int, exact: bool, runs: int, memory: int, order: bool = False
) -> Row:
    its_space = space(size, rule, symmetry=symmetry, order=order)
    search(its_space, max_depth=1)  # compiled or loaded now
    seconds, processor = [], []
    for _ in range(runs):
        found, cpu = explore(its_space, threads=threads, exact=exact, memory=memory)
        if found.stopped:
            raise SystemExit(f"stopped: {found.stopped}")
        expected = COUNTS.get((size.name, rule, True))
        if (
            expected
            and not symmetry
            and (found.states, 0 if order else found.transitions)
            != (
                expected.states,
                0 if order else expected.transitions,
            )
        ):
            raise SystemExit(f"{found.states:,} states, {found.transitions:,} transitions; {expected} expected")
        seconds.append(found.seconds)
        processor.append(cpu)
    whole = statistics.median(seconds)
    row: Row = {
        "size": size.name,
        "rule": rule,
        "symmetry": symmetry,
        "order": order,
        "threads": threads,
        "exact": exact,
        "states": found.states,
        "transitions": found.transitions,
        "levels": len(found.levels),
        "seconds": whole,
        "processor": statistics.median(processor),
        "best_processor": min(processor),
        "states_per_second": found.states / whole,
        "ns_per_transition": whole / found.transitions * 1e9,
        "bytes_per_state": found.bytes_per_state,
        "chance_of_a_miss": found.chance_of_a_miss,
    }
    full = COUNTS.get((size.name, rule, True))
    if (symmetry or order) and full:
        row["effective_states_per_second"] = full.states / whole
    for name, bit in WITNESSES.items():
        found, _ = explore(
            its_space,
            threads=threads,
            exact=exact,
            memory=memory,
            keep_flagged={bit.bit_length() - 1: 1},
            until=bit,
        )
        row[f"{name}, seconds"] = found.seconds
        row[f"{name}, steps"] = found.flagged[0].depth if found.flagged else "none"
        row[f"{name}, way"] = (
            [step_name(label) for label, _ in found.path_of(found.flagged[0])] if found.flagged else []
        )
    return row


def step_name(label: int) -> str:
    return f"{model.STEP_NAMES[label & 15]}({label >> 4 & 15},{label >> 8})"


def by_depth(size: Size, rule: int, *, symmetry: bool, threads: int, memory: int, order: bool) -> list[Row]:
    """How time grows with depth: seconds when each level was done."""
    rows: list[Row] = []

    def note(progress: Progress) -> None:
        rows.append(
            {
                "depth": progress.depth,
                "states": progress.states,
                "transitions": progress.transitions,
                "waiting": progress.waiting,
                "memory": progress.memory,
                "seconds": progress.seconds,
            }
        )

    search(space(size, rule, symmetry=symmetry, order=order), threads=threads, memory=memory, on_level=note)
    return rows


def compile_seconds(size: Size) -> Row:
    """From nothing, and from the cache: a directory of its own for both."""
    before = os.environ.get("COWCATCHER_CACHE")
    with tempfile.TemporaryDirectory() as place:
        os.environ["COWCATCHER_CACHE"] = place
        times = []
        for _ in range(2):
            started, cpu = time.perf_counter(), time.process_time()
            search(space(size), max_depth=0)
            times.append((time.perf_counter() - started, time.process_time() - cpu))
    os.environ.pop("COWCATCHER_CACHE")
    if before is not None:
        os.environ["COWCATCHER_CACHE"] = before
    return {
        "cold compile, seconds": times[0][0],
        "cold compile, processor": times[0][1],
        "load from the cache, seconds": times[1][0],
        "load from the cache, processor": times[1][1],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.common.engine", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="M")
    parser.add_argument("--rule", type=int, choices=(0, 1), default=0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", type=int, default=4 << 30, metavar="BYTES")
    parser.add_argument("--exact", action="store_true", help="store whole states")
    parser.add_argument("--symmetry", action="store_true", help="one state for all that differ in names")
    parser.add_argument("--order", action="store_true", help="leave out steps that another order makes up for")
    parser.add_argument("--depths", action="store_true", help="seconds for each depth, too")
    parser.add_argument("--cold", action="store_true", help="how long compiling takes, too")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    size = SIZES[args.size]
    rows = [compile_seconds(size)] if args.cold else []
    for threads in args.threads:
        rows.append(
            measure(
                size,
                args.rule,
                symmetry=args.symmetry,
                threads=threads,
                exact=args.exact,
                runs=args.runs,
                memory=args.memory,
                order=args.order,
            )
        )
        if args.depths:
            rows += by_depth(
                size, args.rule, symmetry=args.symmetry, threads=threads, memory=args.memory, order=args.order
            )
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        for name, value in row.items():
            shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else value
            print(f"{name:32} {shown}")
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())

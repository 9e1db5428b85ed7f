"""Searching: the engine on the common model beside SPIN and C by hand, and on the whole model; all in one run."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from benchmarks.common import creference, spin
from benchmarks.common.outcome import Failed, Missing, Outcome
from benchmarks.common.sizes import SIZES, Size

Row: TypeAlias = dict[str, str | float]

#: What is hunted for the whole model's own rate, and for the seed's bug from nothing.
_RATE = ("v6.12", "pins,reads,swap,protection,advice", 5)
_SEED = ("hunt", "--kernel", "v5.9-rc4", "--alphabet", "pins", "--depth", "5")


def rows(runs: int, sizes: Sequence[str]) -> list[Row]:
    """Common model first, sizes as named; then the whole model."""
    found: list[Row] = []
    for name in sizes:
        found += _common(SIZES[name], runs)
    return [*found, *_whole_model(runs)]


def _common(size: Size, runs: int) -> Iterator[Row]:
    title = f"common model, size {size.name}"
    others = {
        "SPIN, depth first": lambda: spin.measure(size, 0, True, "dfs", "nothing", False, runs),
        "SPIN, breadth first": lambda: spin.measure(size, 0, True, "bfs", "nothing", False, runs),
        "SPIN, breadth first, 2 cores": lambda: spin.measure(size, 0, True, "bfs-par", "nothing", False, runs),
        "C by hand": lambda: creference.measure(size, 0, True, False, runs),
    }
    seconds: dict[str, float] = {}
    for name, measured in others.items():
        try:
            outcomes = measured()
        except (Missing, Failed) as why:
            yield {"what": f"{title}: {name}", "why": str(why)}
            continue
        seconds[name] = statistics.median(o.seconds for o in outcomes)
        yield from _outcome_rows(f"{title}: {name}", seconds[name], outcomes)
    yield from _engine(title, size, runs, seconds)


def _outcome_rows(title: str, seconds: float, outcomes: Sequence[Outcome]) -> Iterator[Row]:
    yield {"what": title, "value": seconds, "unit": "s"}
    yield {"what": "  states a second", "value": outcomes[0].counts.states / seconds, "unit": ""}
    yield {"what": "  memory", "value": outcomes[0].bytes_per_state, "unit": "bytes a state"}


def _engine(title: str, size: Size, runs: int, others: dict[str, float]) -> Iterator[Row]:
    from benchmarks.common import engine

    modes = ((False, False), (False, True), (True, False), (True, True))
    for (symmetry, order), threads in itertools.product(modes, (1, 2)):
        row = engine.measure(
            size, 0, symmetry=symmetry, threads=threads, exact=False, runs=runs, memory=6 << 30, order=order
        )
        seconds = float(str(row["seconds"]))
        name = f"{title}: engine, {threads} thread{'s' * (threads > 1)}"
        name += ", symmetry" * symmetry + ", partial order" * order
        yield {"what": name, "value": seconds, "unit": "s"}
        yield {"what": "  states", "value": float(str(row["states"])), "unit": ""}
        yield {"what": "  states a second", "value": float(str(row["states_per_second"])), "unit": ""}
        yield {"what": "  memory", "value": float(str(row["bytes_per_state"])), "unit": "bytes a state"}
        for other, its_seconds in others.items():
            yield {"what": f"  times as fast as {other}", "value": its_seconds / seconds, "unit": "x"}


def _whole_model(runs: int) -> Iterator[Row]:
    cold = _process(*_SEED, cache=True)
    yield {"what": "the seed's bug hunted from nothing, everything compiled first", "value": cold, "unit": "s"}
    _process(*_SEED)
    warm = [_process(*_SEED) for _ in range(runs)]
    yield {"what": "the same, compiled before", "value": statistics.median(warm), "unit": "s"}
    for threads in (1, 2):
        states, transitions, seconds = _hunted(runs, threads)
        name = f"hunt on {_RATE[0]}, {_RATE[1]}, depth {_RATE[2]}, {threads} thread{'s' * (threads > 1)}"
        yield {"what": name, "value": seconds, "unit": "s"}
        yield {"what": "  states", "value": states, "unit": ""}
        yield {"what": "  states a second", "value": states / seconds, "unit": ""}
        yield {"what": "  steps a second", "value": transitions / seconds, "unit": ""}


def _process(*words: str, cache: bool = False) -> float:
    """Seconds of a whole command, with an empty cache of compiled code if asked for."""
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | ({"COWCATCHER_CACHE": empty} if cache else {})
        started = time.perf_counter()
        command = [sys.executable, "-m", "cowcatcher", *words]
        status = subprocess.run(command, capture_output=True, env=environment, check=False).returncode
        if status not in (0, 1):
            raise SystemExit(f"{' '.join(words)}: exit status {status}")
        return time.perf_counter() - started


def _hunted(runs: int, threads: int) -> tuple[int, int, float]:
    from cowcatcher.hunt.alphabet import Size as HuntSize
    from cowcatcher.hunt.alphabet import letters_of
    from cowcatcher.hunt.search import Settings, hunt
    from cowcatcher.kernels import kernel

    name, alphabet, depth = _RATE
    size, settings = HuntSize(depth=depth), Settings(threads=threads)
    results = [hunt(letters_of(alphabet), size, kernel(name), settings) for _ in range(runs + 1)][1:]
    found = results[0].found
    return found.states, found.transitions, statistics.median(r.found.seconds for r in results)

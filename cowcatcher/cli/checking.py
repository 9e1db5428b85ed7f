"""Tests checked one after another, by several processes once it takes long; an interrupt loses nothing known."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from cowcatcher.cli.inputs import in_order
from cowcatcher.cli.screen import Progress
from cowcatcher.explore.search import Limits, Searcher, interpreted
from cowcatcher.explore.verdict import Checker
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.report.record import Record, check_document, result_record, test_record

Work: TypeAlias = Sequence[tuple[Test, tuple[Kernel, ...]]]

#: Starting processes costs more than most tests take; what is not done by then is worth it.
_ALONE = 5.0


def check_work(work: Work, limits: Limits, jobs: int | None = None, search: Searcher = interpreted) -> Record:
    """The document of everything found. Ctrl-C ends the work and not the report."""
    progress = Progress()
    found: list[list[Record]] = [[] for _ in work]
    interrupted = False
    started = time.monotonic()
    processes = jobs or os.cpu_count() or 1
    try:
        for number, (test, kernels) in enumerate(work):
            if processes > 1 and len(work) - number > 1 and time.monotonic() - started > _ALONE:
                _spread(work, number, limits, processes, found, progress, search)
                break
            for result in _results(test, kernels, limits, search):
                found[number].append(result)
                progress.show(f"{number + 1}/{len(work)} {test.name} {result['kernel']}")
    except KeyboardInterrupt:
        interrupted = True
    progress.clear()
    tests = [test_record(test, results) for (test, _), results in zip(work, found, strict=True)]
    return check_document(tests, in_order([k for _, kernels in work for k in kernels]), limits, interrupted)


def _results(test: Test, kernels: Sequence[Kernel], limits: Limits, search: Searcher) -> Iterator[Record]:
    checker = Checker(test, limits, search)
    for kernel in kernels:
        yield result_record(checker.check(kernel), checker.program)


# --- several processes ------------------------------------------------------------------------------------------------

_shared: tuple[Work, Limits, Searcher] | None = None


def _spread(
    work: Work, first: int, limits: Limits, processes: int, found: list[list[Record]], progress: Progress,
    search: Searcher,
) -> None:  # fmt: skip
    """The tests from ``first`` on, each by whichever process is free: forked, so only a test's number is sent there."""
    import multiprocessing

    global _shared
    _shared = work, limits, search
    left = range(first, len(work))
    pool = multiprocessing.get_context("fork").Pool(min(processes, len(left)), _leave_interrupts_to_parent)
    try:
        for number, results in pool.imap_unordered(_one, left):
            found[number] = results
            progress.show(f"{sum(1 for f in found if f)}/{len(work)} {work[number][0].name}")
        pool.close()
    finally:
        pool.terminate()
        pool.join()


def _one(number: int) -> tuple[int, list[Record]]:
    assert _shared is not None
    work, limits, search = _shared
    test, kernels = work[number]
    return number, list(_results(test, kernels, limits, search))


def _leave_interrupts_to_parent() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)

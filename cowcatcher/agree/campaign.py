"""Many random tests on one real kernel and its model; what disagrees is made smaller and confirmed."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing.pool import AsyncResult, Pool
from typing import Final, NamedTuple

from cowcatcher.agree.draw import random_story
from cowcatcher.agree.expect import Expected, expect
from cowcatcher.agree.judge import Compared, Status, judge
from cowcatcher.agree.shrink import smaller
from cowcatcher.agree.story import Story
from cowcatcher.agree.under_test import KernelUnderTest
from cowcatcher.explore.shrink import until_none_is_kept
from cowcatcher.kernels import Kernel, kernel
from cowcatcher.litmus import check, cond_text
from cowcatcher.litmus.ast import Test
from cowcatcher.real.lower import Facilities

#: Further runs of a test that disagrees, to tell a disagreement from a kernel that answers differently each time.
RERUNS: Final = 4
#: Smaller tests tried before a disagreement is taken as it is then.
MOST_TRIED: Final = 800
#: Disagreements that are made smaller, for each kernel; of those that look alike, the first one.
MOST_SHRUNK: Final = 6


class Prepared(NamedTuple):
    story: Story
    test: Test
    said: Expected | str


@dataclass(slots=True)
class Found:
    """Test ``number`` of the seed disagrees; ``compared`` is what was left of it after shrinking, if it was shrunk.

    ``like``: the number of one that looks alike and was shrunk in its place, or -1.
    """

    number: int
    compared: Compared
    looks: str
    shrunk: bool = False
    like: int = -1


@dataclass(slots=True)
class Campaign:
    """The tests ``first`` to ``first + count - 1`` of a seed on one kernel, and what came of those done so far."""

    on: KernelUnderTest
    seed: int
    first: int
    count: int
    done: int = 0
    seconds: float = 0.0
    statuses: Counter[Status] = field(default_factory=Counter)
    registers: int = 0
    asked: int = 0
    open: int = 0
    counted: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of what was not applicable
    unsure: dict[int, str] = field(default_factory=dict)  # could not be told, or flaky: number -> reason
    found: list[Found] = field(default_factory=list)

    def run(self, pool: Pool, stop: threading.Event, progress: Callable[[], None]) -> None:
        """``pool`` predicts the next tests while this kernel is busy with some. Ends early once ``stop`` is set."""
        began = time.monotonic()
        batches = [
            (at, min(self.on.batch, self.first + self.count - at))
            for at in range(self.first, self.first + self.count, self.on.batch)
        ]
        ahead = self._foretell(pool, batches[0])
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            prepared = ahead.get()
            if following is not None:
                ahead = self._foretell(pool, following)
            for number, compared in enumerate(compare(prepared, self.on), batch[0]):
                self._enter(number, compared)
            self.done += batch[1]
            self.seconds = time.monotonic() - began
            progress()
            if stop.is_set():
                return
            self._shrink()

    def _foretell(self, pool: Pool, batch: tuple[int, int]) -> AsyncResult[list[Prepared]]:
        return pool.apply_async(prepare, (self.seed, *batch, self.on.facilities, self.on.model.name))

    def _enter(self, number: int, compared: Compared) -> None:
        status = compared.status
        self.statuses[status] += 1
        if status is Status.NOT_APPLICABLE:
            self.reasons[compared.reason.split(": ")[-1]] += 1
        elif status in (Status.COULD_NOT_TELL, Status.FLAKY):
            self.unsure[number] = f"{status}: {compared.reason}"
        elif compared.seen is not None:
            self.registers += len(compared.seen.registers)
            self.asked += compared.asked - compared.open
            self.open += compared.open
            self.counted += compared.counted
        if status is Status.DISAGREE:
            self.found.append(Found(number, compared, _looks(compared)))

    def _shrink(self) -> None:
        """Those found that look like none before them."""
        shrunk = {found.looks: found.number for found in self.found if found.shrunk}
        for found in self.found:
            if not found.shrunk and found.like < 0:
                if found.looks in shrunk:
                    found.like = shrunk[found.looks]
                elif len(shrunk) < MOST_SHRUNK:
                    found.compared, found.shrunk = shrink(found.compared, self.on), True
                    shrunk[found.looks] = found.number


def _looks(compared: Compared) -> str:
    """What differs first, without names and values: two that look alike have one cause, most of the time."""
    test = compared.test
    names = {m.name for m in test.memory} | {a.name for a in test.actors}
    names |= {s.target for a in test.actors for s in a.body if s.target is not None}
    return re.sub(
        r"\w+", lambda word: "_" if word[0] in names or word[0].isdigit() else word[0], compared.differences[0]
    )


def run_all(
    campaigns: Sequence[Campaign], stop: threading.Event, at_once: int, progress: Callable[[], None] = lambda: None
) -> None:
    """Several kernels side by side. If it is interrupted, so are they, and what is done stands in ``campaigns``."""
    import multiprocessing
    import os

    # Forked before there are threads.
    processes = multiprocessing.get_context("fork").Pool(os.cpu_count(), _leave_interrupts_to_parent)
    with processes as pool, ThreadPoolExecutor(at_once) as threads:
        runs = [threads.submit(campaign.run, pool, stop, progress) for campaign in campaigns]
        try:
            for run in as_completed(runs):
                run.result()
        finally:
            stop.set()
            for run in runs:
                run.cancel()


def _leave_interrupts_to_parent() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


# --- some tests -------------------------------------------------------------------------------------------------------


def stories(seed: int, first: int, count: int, facilities: Facilities) -> Iterator[Story]:
    """The tests of a seed, from number ``first`` on."""
    for number in range(first, first + count):
        yield random_story(f"{seed} {number}", facilities)


def prepare(seed: int, first: int, count: int, facilities: Facilities, model: str) -> list[Prepared]:
    """Drawn, written down and predicted."""
    return _prepare(list(stories(seed, first, count, facilities)), kernel(model))


def _prepare(some: Sequence[Story], model: Kernel) -> list[Prepared]:
    tests = [story.test(f"random_{i}") for i, story in enumerate(some)]
    return [Prepared(story, test, expect(test, model)) for story, test in zip(some, tests, strict=True)]


def compare(prepared: Sequence[Prepared], on: KernelUnderTest) -> list[Compared]:
    """Every test once; those that disagree some more times."""
    compared = _once(prepared, on)
    suspects = [i for i, c in enumerate(compared) if c.status is Status.DISAGREE]
    again = _once([prepared[i] for i in suspects for _ in range(RERUNS)], on)
    for n, i in enumerate(suspects):
        compared[i] = _confirmed(compared[i], again[n * RERUNS : (n + 1) * RERUNS])
    return compared


def _once(prepared: Sequence[Prepared], on: KernelUnderTest) -> list[Compared]:
    runnable = [p.test for p in prepared if isinstance(p.said, Expected)]
    seen = iter(on.run(runnable)) if runnable else iter(())
    return [judge(*p, next(seen) if isinstance(p.said, Expected) else None) for p in prepared]


def _confirmed(compared: Compared, again: Sequence[Compared]) -> Compared:
    """Does the kernel say the same each time? If not, neither answer is one."""
    other = next((c for c in again if c.differences != compared.differences), None)
    if other is None:
        return compared
    reason = f"once: {'; '.join(compared.differences)}; then: {'; '.join(other.differences) or other.status}"
    return replace(compared, status=Status.FLAKY, reason=reason)


def shrink(compared: Compared, on: KernelUnderTest) -> Compared:
    """The smallest story found that still disagrees every time; with only those questions that show it.

    All candidates of a round are run at once, each several times: in a virtual machine it is the boot that takes long.
    """
    tried = 0

    def smaller_still(compared: Compared) -> Compared | None:
        nonlocal tried
        if tried >= MOST_TRIED:
            return None
        candidates = [story for story in smaller(compared.story) if not check(story.test("smaller"))]
        tried += len(candidates)
        runs = _once([p for p in _prepare(candidates, on.model) for _ in range(1 + RERUNS)], on)
        judged = (
            _confirmed(runs[i], runs[i + 1 : i + 1 + RERUNS])
            for i in range(0, len(runs), 1 + RERUNS)
            if runs[i].status is Status.DISAGREE
        )
        return next((c for c in judged if c.status is Status.DISAGREE), None)

    compared = until_none_is_kept(compared, smaller_still)
    shown = {d.split(": ")[0] for d in compared.differences}
    claims = [c for c in compared.test.claims if cond_text(c.cond) in shown] or compared.test.claims[:1]
    return replace(compared, test=compared.story.test("disagreement", claims))

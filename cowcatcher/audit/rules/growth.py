"""Mappings that grow in number until the kernel refuses more."""

from __future__ import annotations

from dataclasses import dataclass, field

from cowcatcher.audit.events import Advised, Execed, Exited, VmaCount
from cowcatcher.audit.family import Process
from cowcatcher.audit.finding import Finding, Moment, Severity
from cowcatcher.audit.ledger import Ledger
from cowcatcher.audit.rules.rule import Rule, Text, program_of
from cowcatcher.audit.story import Story
from cowcatcher.audit.trail import moment
from cowcatcher.audit.vmas import Seen

#: vm.max_map_count as kernels come, for traces in which nobody looked.
DEFAULT_LIMIT = 65530
#: A slope is believed over this many seconds, when that many mappings came; and matters if none is left by then.
#: Whoever watches is told after ``WATCHED``.
LONG_ENOUGH, WATCHED, ENOUGH, HORIZON = 60.0, 600.0, 1000, 86400.0
SAMPLES = 128


@dataclass(slots=True)
class Curve:
    """Counts over time, thinned out evenly, and registrations so far at each."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)
    every: int = 1
    skipped: int = 0
    looked_at: int = 0
    told: bool = False
    high: bool = False  # it has been more than half of the limit, whatever came after
    count: int = 0
    limit: int = 0
    last: Seen | None = None

    def add(self, time: float, count: int, registrations: int) -> None:
        self.skipped += 1
        if self.skipped < self.every and self.samples:
            return
        self.skipped = 0
        self.samples.append((time, count, registrations))
        if len(self.samples) == SAMPLES:
            self.samples = self.samples[::2]
            self.every *= 2

    def watched(self) -> float:
        return self.samples[-1][0] - self.samples[0][0] if self.samples else 0.0

    @property
    def first(self) -> int:
        return self.samples[0][1] if self.samples else 0

    def leaks(self, held: int, after: int) -> bool:
        """Does each registration leave a mapping behind: do they grow while what is registered does not?"""
        if not self.samples:
            return False
        made = after - self.samples[0][2]
        return made >= ENOUGH and held * 4 <= made and self.count - self.first >= max(ENOUGH, made / 2)

    def slope(self) -> float:
        """Mappings a second, if they grow and go on growing: the later half not slower than half of the whole."""
        if not self.samples:
            return 0.0
        (first, start, _), (now, count, _) = self.samples[0], self.samples[-1]
        if now - first < LONG_ENOUGH or count - start < ENOUGH:
            return 0.0
        whole = (count - start) / (now - first)
        middle = [s for s in self.samples if s[0] >= first + (now - first) / 2]
        quarter = [s for s in self.samples if s[0] >= first + (now - first) * 3 / 4]
        recent = min(_slope(half[0], now, count) for half in (middle, quarter) if half) if middle else 0.0
        return recent if recent >= whole / 2 else 0.0

    def per_registration(self, count: int, registrations: int) -> float:
        made = registrations - (self.samples[0][2] if self.samples else 0)
        return (count - self.first) / made if made else 0.0


def _slope(sample: tuple[float, int, int], now: float, count: int) -> float:
    return (count - sample[1]) / (now - sample[0]) if now > sample[0] else float("inf")


class VmaGrowth(Rule):
    name = "vma-growth"
    text = Text(
        "The number of mappings approaches vm.max_map_count.",
        "Each MADV_DONTFORK on part of a mapping splits it. At the limit mmap(), mprotect() and madvise() fail with "
        "ENOMEM and nothing is logged; malloc() fails with memory to spare.",
        "kvcache-ai/Mooncake#3639, #3660; rapidsai/dask-cuda#930; openucx/ucx#11573",
    )
    wants = (VmaCount, Advised, Exited, Execed)

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._curves: dict[int, Curve] = {}

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        if isinstance(event, VmaCount):
            self._count(story, seen, event)
        elif isinstance(event, Advised):
            self._from_the_trace(story, seen)
        elif isinstance(event, Execed) or event.task == seen.pid:
            self._over(story.process_of(event.task))

    def finish(self, story: Story) -> None:
        for process in list(story.known.values()):
            self._over(process)

    def _count(self, story: Story, seen: Seen, event: VmaCount) -> None:
        process = story.process_of(event.task)
        curve = self._curves.setdefault(process.pid, Curve())
        curve.add(event.time, event.count, process.registered)
        curve.last, curve.limit, curve.count = seen, event.limit, event.count
        if event.count * 2 > event.limit > 0:
            curve.high = True
            self._report(process, curve, event.count, event.limit, curve.slope(), seen)
        elif curve.watched() >= WATCHED:
            self._judge(process, curve)

    def _judge(self, process: Process, curve: Curve) -> bool:
        """Will the limit be reached, as it goes on now?"""
        slope = curve.slope()
        leaks = curve.leaks(len(process.memory.pins.registered), process.registered)
        if curve.limit > 0 and (leaks or (slope > 0 and (curve.limit - curve.count) / slope <= HORIZON)):
            self._report(process, curve, curve.count, curve.limit, slope, curve.last)
            return True
        return False

    def _over(self, process: Process) -> None:
        """The end: what was told while it grew is withdrawn if it has levelled off.

        Whoever counts does so now and then, and may miss the most: there were as many at least as the trace tells of.
        """
        curve = self._curves.pop(process.pid, None) or Curve()
        space = process.memory.space
        limit = curve.limit or DEFAULT_LIMIT
        few = process.registered * 2 < ENOUGH and len(space) * 2 <= limit and not curve.told
        if curve.last is None and (few or len(space) < ENOUGH):
            return
        count = max(curve.count, space.runs())
        if count * 2 > limit:
            self._report(process, curve, count, limit, 0.0, curve.last)
        elif curve.last is not None and self._judge(process, curve):
            return
        elif self._is_costly(process, count - curve.first):
            self._report(process, curve, count, limit, 0.0, curve.last, Severity.NOTE)
        elif curve.told and not curve.high:
            self.ledger.withdraw((self.name, program_of(process)))

    def _is_costly(self, process: Process, grown: int) -> bool:
        """It has not come near the limit, but each registration takes it nearer."""
        made = process.registered
        marked = sum(1 for _ in process.memory.space.not_copied())
        return made * 2 >= ENOUGH and grown >= max(ENOUGH, made / 2) and marked * 2 >= ENOUGH

    def _from_the_trace(self, story: Story, seen: Seen) -> None:
        """Where nobody counts: what the trace has made, when that is more than half of the usual limit."""
        process = story.process_of(seen.event.task)
        curve = self._curves.get(process.pid)
        pieces = len(process.memory.space)
        if pieces * 2 <= DEFAULT_LIMIT or (curve is not None and (curve.samples or pieces < curve.looked_at)):
            return
        curve = self._curves.setdefault(process.pid, Curve())
        curve.looked_at = pieces + pieces // 64
        count = process.memory.space.runs()
        if count * 2 > DEFAULT_LIMIT:
            self._report(process, curve, count, DEFAULT_LIMIT, 0.0, seen)

    def _report(
        self,
        process: Process,
        curve: Curve,
        count: int,
        limit: int,
        slope: float,
        seen: Seen | None,
        severity: Severity = Severity.WARNING,
    ) -> None:
        if count * 100 >= limit * 95:
            severity = Severity.ERROR
        key = (self.name, program_of(process))
        again, curve.told = curve.told, True
        if self.ledger.has_told(key, severity) if again else self.ledger.knows(key, severity):
            return
        pace = f", {slope * 60:.0f} more a minute: full in {_span((limit - count) / slope)}" if slope > 0 else ""
        each = curve.per_registration(count, process.registered)
        per = f" That is {each:.1f} for each registration." if each > 0 else ""
        finding = Finding(
            self.name,
            severity,
            f"{count} mappings of at most {limit}{pace}",
            process.pid,
            program_of(process),
            timeline=(*_timeline(curve), *([moment(seen, f"{count} mappings")] if seen is not None else [])),
            explanation=self.text.says + " " + self.text.matters + per,
            remedy="Give MADV_DOFORK with each deregistration; register fewer, larger buffers, of whole pages; leave "
            "fork protection away where the kernel copies pinned pages; or raise vm.max_map_count.",
            key=key,
        )
        self.ledger.report(finding)


def _timeline(curve: Curve) -> tuple[Moment, ...]:
    chosen = curve.samples[:: max(1, len(curve.samples) // 6)][:8]
    return tuple(Moment(time, 0, 0, f"{count} mappings") for time, count, _ in chosen)


def _span(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"

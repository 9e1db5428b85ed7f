"""Good news: a process that pinned and forked, and all was in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cowcatcher.audit.events import Event, Execed, Exited, Forked
from cowcatcher.audit.family import Process
from cowcatcher.audit.finding import Finding, Question, Severity
from cowcatcher.audit.ledger import Ledger
from cowcatcher.audit.rules.forks import DirectIoAcrossFork, ForkSharesPinned, is_copy
from cowcatcher.audit.rules.rule import Rule, Text, exposed, first_page, page_size, program_of
from cowcatcher.audit.story import Story
from cowcatcher.audit.trail import Trail
from cowcatcher.audit.vmas import Seen


@dataclass(slots=True)
class Tally:
    """How often one process forked, and how its pins fared at those forks that copied.

    ``over``: forks while something was registered. ``protected`` and ``shared``: of these, with DONTFORK in force on
    some of it, or with some of it in shared memory; ``exposed``: with some of it neither.
    """

    forks: int = 0
    spawns: int = 0
    over: int = 0
    protected: int = 0
    shared: int = 0
    exposed: int = 0
    trail: Trail | None = None
    stamp: int = -1
    last: tuple[bool, bool, bool] = (False, False, False)


class AllInOrder(Rule):
    """Reported under the name of the rule that found nothing."""

    name = ForkSharesPinned.name
    text: ClassVar[Text] = ForkSharesPinned.text
    wants: ClassVar[tuple[type[Event], ...]] = (Forked, Execed, Exited)

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._tallies: dict[int, Tally] = {}

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        match event:
            case Forked() if not event.thread:
                self._forked(story, seen, event)
            case Execed() | Exited() if isinstance(event, Execed) or event.task == seen.pid:
                self._over(story.process_of(event.task))

    def finish(self, story: Story) -> None:
        for process in list(story.known.values()):
            self._over(process)

    def _forked(self, story: Story, seen: Seen, event: Forked) -> None:
        tally = self._tallies.setdefault(seen.pid, Tally())
        if not is_copy(event):
            tally.spawns += 1
            return
        tally.forks += 1
        process = story.process_of(event.task)
        memory = process.memory
        if not memory.pins.registered:
            return
        if tally.stamp != memory.stamp:
            tally.stamp, tally.last = memory.stamp, _fared(process)
            if tally.trail is None and tally.last[0]:
                tally.trail = _trail(story, process, seen)
        protected, shared, bare = tally.last
        tally.over += 1
        tally.protected += protected
        tally.shared += shared
        tally.exposed += bare

    def _over(self, process: Process) -> None:
        tally = self._tallies.pop(process.pid, None)
        if tally is None or not (tally.forks or tally.spawns):
            return
        program = program_of(process)
        if process.registered and not tally.exposed and not self.ledger.has(ForkSharesPinned.name, program):
            self._report(process, ForkSharesPinned, _why(tally), tally.trail if tally.protected else None)
        if process.transfers > process.sent and not self.ledger.has(DirectIoAcrossFork.name, program):
            why = _not_while(tally.forks, "a direct transfer on unprotected private memory was in flight")
            if not tally.forks:
                why = "every child was started on the same memory (vfork, posix_spawn): nothing was copied"
            self._report(process, DirectIoAcrossFork, why, None)

    def _report(self, process: Process, rule: type[Rule], why: str, trail: Trail | None) -> None:
        finding = Finding(
            rule.name,
            Severity.GOOD,
            f"all in order: {why}",
            process.pid,
            program_of(process),
            explanation=f"{process.pid} pinned memory and started children. {rule.text.matters} Not so here: {why}.",
            key=(rule.name, "good", program_of(process)),
        )
        self.ledger.report(finding, trail, later=True)


def _fared(process: Process) -> tuple[bool, bool, bool]:
    """(some of it is kept from the child, some is shared memory, some is neither)"""
    memory = process.memory
    protected = shared = bare = False
    for pin in memory.pins.registered:
        bare |= next(exposed(memory, pin), None) is not None
        for r in pin.ranges:
            for _, kind in memory.space.over(r):
                protected |= kind is not None and kind.private is not False and not kind.is_copied
                shared |= kind is not None and kind.private is False
    return protected, shared, bare


def _trail(story: Story, process: Process, seen: Seen) -> Trail | None:
    for pin in process.memory.pins.registered:
        for r in pin.ranges:
            kind = process.memory.space.at(r.start)
            if kind is not None and kind.private is not False and not kind.is_copied:
                page = first_page(r, page_size(process.memory, r))
                pinned = pin.part_of(page) or page
                return Trail(story, Question.DEVICE_AND_OWNER, process, page, pinned, [pin], seen)
    return None


def _why(tally: Tally) -> str:
    if tally.over and tally.protected:
        forks = f"{tally.over} forks" if tally.over > 1 else "the fork"
        rest = ", or in shared memory," if tally.shared else ""
        return f"every registered byte was under MADV_DONTFORK{rest} at {forks}"
    if tally.over:
        return "what was registered lies in shared memory, which fork() does not copy"
    if tally.forks:
        return _not_while(tally.forks, "anything was registered")
    return "every child was started on the same memory (vfork, posix_spawn): nothing was copied"


def _not_while(forks: int, what: str) -> str:
    return f"it forked once, and not while {what}" if forks == 1 else f"none of its {forks:,} forks came while {what}"

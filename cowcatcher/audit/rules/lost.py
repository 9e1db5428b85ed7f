"""What could not be seen, where that matters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cowcatcher.audit.events import Advised, Execed, Exited, Forked, Library, Lost
from cowcatcher.audit.family import Process
from cowcatcher.audit.finding import Finding, Severity
from cowcatcher.audit.ledger import Ledger
from cowcatcher.audit.rules.forks import is_copy
from cowcatcher.audit.rules.rule import Rule, Text, program_of
from cowcatcher.audit.story import Story
from cowcatcher.audit.trail import moment
from cowcatcher.audit.vmas import Seen

#: Reasons that are kept apart, of one process or of the whole trace.
REASONS = 32


#: What is followed by the beginning of the line itself.
_QUOTING = re.compile(r"(not a line of strace|the line breaks off|neither a signal nor an end): .*", re.DOTALL)


@dataclass(slots=True)
class Loss:
    """The first of its kind, and how many there were."""

    seen: Seen
    times: int = 1


class LostSight(Rule):
    name = "lost-sight"
    text = Text(
        "Something that a finding would need could not be seen.",
        "No finding, here, is not the same as no mistake.",
        "the watcher's own word",
    )
    wants = (Lost, Advised, Library, Forked, Execed, Exited)

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._lost: dict[int, dict[str, Loss]] = {}
        self._of_the_trace: dict[str, Loss] = {}
        self._told: set[int] = set()
        self._holders: set[int] = set()  # processes that have the libraries, or protect something from fork
        self._forked: set[int] = set()
        self._any_held = self._any_forked = False

    def see(self, story: Story, seen: Seen) -> None:
        event, pid = seen.event, seen.pid
        match event:
            case Lost():
                self._note(story, seen, event)
                if event.matters:
                    self._holders.add(pid)
            case Library():
                self._holders.add(pid)
            case Advised():
                if event.advice == "DONTFORK":
                    self._holders.add(pid)
            case Forked():
                if is_copy(event):
                    self._any_forked = True
                    self._forked.add(pid)
                    if pid in self._lost and event.child not in self._lost:
                        self._lost[event.child] = self._lost[pid]
            case Execed() | Exited():
                if isinstance(event, Execed) or event.task == pid:
                    self._over(story, pid)

    def finish(self, story: Story) -> None:
        for pid in list(story.known):
            self._over(story, pid)
        for loss in self._of_the_trace.values():
            assert isinstance(loss.seen.event, Lost)
            if loss.seen.event.matters or (self._any_held and self._any_forked):
                self._report(0, "the trace", loss)

    def _note(self, story: Story, seen: Seen, event: Lost) -> None:
        """Said of a process that nobody knows, it is about the trace."""
        process = story.process_of(event.task)
        known = event.task > 0 and (bool(process.program) or not process.guessed)
        reasons = self._lost.setdefault(seen.pid, {}) if known else self._of_the_trace
        reason = plain(event.reason)
        if reason in reasons:
            reasons[reason].times += 1
        elif len(reasons) < REASONS:
            reasons[reason] = Loss(seen)

    def _over(self, story: Story, pid: int) -> None:
        reasons = self._lost.pop(pid, {})
        process = story.find(pid)
        held = pid in self._holders or (process is not None and _holds(process))
        forked = pid in self._forked
        self._holders.discard(pid)
        self._forked.discard(pid)
        self._any_held |= held
        if held and forked:
            for loss in reasons.values():
                self._report(pid, program_of(process) if process else f"process {pid}", loss)

    def _report(self, pid: int, program: str, loss: Loss) -> None:
        seen, event = loss.seen, loss.seen.event
        assert isinstance(event, Lost)
        key = (self.name, program, plain(event.reason))
        if seen.n in self._told and self.ledger.has_told(key, Severity.UNSURE):
            return  # a child goes on with what its parent lost
        self._told.add(seen.n)
        if self.ledger.knows(key, Severity.UNSURE):
            return
        finding = Finding(
            self.name,
            Severity.UNSURE,
            f"could not see everything: {event.reason}",
            pid,
            program,
            timeline=(moment(seen, f"lost sight: {event.reason}"),),
            explanation=f"{self.text.says} {self.text.matters}",
            remedy="",
            times=loss.times,
            key=key,
        )
        self.ledger.report(finding)


def _holds(process: Process) -> bool:
    """It pinned, or has files open that are read and written directly."""
    return process.registered + process.transfers > 0 or bool(process.direct)


def plain(reason: str) -> str:
    """The reason without its numbers, and without the line: line 17 is damaged as line 18 is."""
    return re.sub(r"0x[0-9a-f]+|\d+", "#", _QUOTING.sub(r"\1", reason))[:200]

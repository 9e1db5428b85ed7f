"""Recordings audited, and what was worked out by hand, in a form that the two can be held against each other in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cowcatcher.audit.auditor import Auditor
from cowcatcher.audit.events import Event, Lost
from cowcatcher.audit.finding import Finding
from cowcatcher.audit.judge import judge
from cowcatcher.audit.strace import events
from cowcatcher.kernels import Kernel

HERE = Path(__file__).parent
RECORDINGS = HERE / "recordings"
PROGRAMS = HERE / "programs"
JOBS = HERE / "jobs"


class Seen(NamedTuple):
    """What an audit said: its findings, and what it says it could not see."""

    findings: list[Finding]
    lost: list[str]

    @property
    def rules(self) -> list[str]:
        """Those of findings that are more than a note; with what is good or could not be told."""
        return sorted({f.rule for f in self.findings})

    def of(self, rule: str) -> Finding:
        """The only finding by this rule."""
        (found,) = [f for f in self.findings if f.rule == rule]
        return found


def audit(told: Iterable[Event], here: Kernel | None = None) -> Seen:
    auditor, lost = Auditor(), []
    for event in told:
        if isinstance(event, Lost):
            lost.append(event.reason)
        auditor.feed(event)
    return Seen([judge(finding, here) for finding in auditor.finish()], lost)


def audit_file(path: Path, here: Kernel | None = None) -> Seen:
    with path.open(errors="replace") as lines:
        return audit(events(lines), here)


def ranges(finding: Finding) -> list[str]:
    return [str(one) for one in finding.ranges]


def size(finding: Finding) -> int:
    return sum(one.size for one in finding.ranges)


def violated(finding: Finding) -> list[str]:
    """The kernels on which the derived test is violated, as the judge groups them."""
    if finding.judged is None:  # it is wrong, and no kernel could mend it
        return []
    return [group.kernel for group in finding.judged.groups if group.verdict == "violated"]

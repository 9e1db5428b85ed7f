"""An audit as a dictionary: what was watched, what was seen of it, and every finding with its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cowcatcher.audit.events import Range
from cowcatcher.audit.finding import Finding, Judged, Moment, OnKernel, Owned, Severity
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.printer import to_text
from cowcatcher.report.record import Record, document, kernel_record

#: What is worst comes first.
ORDER = (Severity.ERROR, Severity.WARNING, Severity.UNSURE, Severity.NOTE, Severity.GOOD)
#: What ``--error-exitcode``, a status of 1 and a CI's red light are for.
ALARMS = (Severity.ERROR, Severity.WARNING)


def audit_document(
    source: Record, seen: Record, findings: Iterable[Finding], here: Kernel | None, release: str, interrupted: bool
) -> Record:
    """``source``: mode and what was named; ``seen``: counts. ``here``: the model of the program's kernel, ``release``
    its name for itself; None and "" where that is not known, as for a trace from elsewhere.
    """
    ranked = gravest_first(findings)
    return document(
        "audit",
        source=source,
        kernel=None if here is None else kernel_record(here) | {"release": release},
        seen=seen,
        findings=[finding_record(f) for f in ranked],
        interrupted=interrupted,
        exit=status_of(ranked),
    )


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: (ORDER.index(f.severity), f.rule, f.process))


def status_of(findings: Sequence[Finding]) -> int:
    """1 if anything is wrong or about to be, else 3 if anything could not be told, else 0."""
    found = {f.severity for f in findings}
    return 1 if found & {*ALARMS} else 3 if Severity.UNSURE in found else 0


def finding_record(finding: Finding) -> Record:
    """Addresses are numbers, ranges half open, times seconds since the epoch (0: not known)."""
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "title": finding.title,
        "process": finding.process,
        "program": finding.program,
        "times": finding.times,
        "ranges": [_range(r) for r in finding.ranges],
        "owners": [_owned(o) for o in finding.owners],
        "timeline": [_moment(m) for m in finding.timeline],
        "explanation": finding.explanation,
        "remedy": finding.remedy,
        "left_out": list(finding.case.left_out) if finding.case else [],
        "question": finding.case.question.value if finding.case else "",
        "judged": None if finding.judged is None else _judged(finding.judged),
    }


def _range(found: Range) -> Record:
    return {"start": found.start, "end": found.end}


def _owned(owned: Owned) -> Record:
    return {**_range(owned.range), "kind": owned.kind, "who": owned.who}


def _moment(moment: Moment) -> Record:
    return {
        "time": moment.time,
        "line": moment.line,
        "task": moment.task,
        "text": moment.text,
        "stack": list(moment.stack),
    }


def _judged(judged: Judged) -> Record:
    return {
        "test": None if judged.test is None else to_text(judged.test),
        "here": None if judged.here is None else _on_kernel(judged.here),
        "kernels": [_on_kernel(k) for k in judged.groups],
        "small": None if judged.small is None else to_text(judged.small),
        "why_not": judged.why_not,
    }


def _on_kernel(found: OnKernel) -> Record:
    return {"kernel": found.kernel, "verdict": found.verdict, "because": found.because}

"""A finding as a ``.cow`` file: the test, with the line of the trace behind each statement, and what is assumed marked.

The text parses back to the very tree that was judged, and ``cowcatcher fmt`` leaves it as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from cowcatcher.audit.derive import Derived, Origin, derived
from cowcatcher.audit.events import Event
from cowcatcher.audit.finding import Case, Finding, Judged
from cowcatcher.audit.judge import judged_case
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.printer import to_text

_ASSUMED: Final = "assumed: not in the trace"
_WORD: Final = 64
#: Wrappers of system calls, and the tools that look on: who called them is of more interest.
_DULL: Final = re.compile(r"(libc|ld|libpthread|libcowcatcher|shim)[-.\d]")


def emit(finding: Finding, *, whole: bool = False) -> str:
    """The text of the file. ``whole``: the test as derived, not the one made small.

    Raises CannotDerive where there is no test.
    """
    assert finding.case is not None
    case = judged_case(finding)
    found = derived(case)
    test = _named(_chosen(finding, found, whole), finding)
    lines = to_text(test).splitlines()
    comments = dict(_comments(test, found, case, finding.program))
    page = [_with(line, comments.get(number)) for number, line in enumerate(lines)]
    text = "\n".join([*_above(page, _left_out(case, found)), *_reasons(finding.judged)])
    return text + "\n"


def file_name(finding: Finding) -> str:
    """``python3_fork_shares_pinned.cow``: a test stands in a file of its name."""
    return f"{_name(finding)}.cow"


def _chosen(finding: Finding, found: Derived, whole: bool) -> Test:
    judged = finding.judged
    if judged is None or judged.test is None:
        return found.test
    return judged.test if whole or judged.small is None else judged.small


def _named(test: Test, finding: Finding) -> Test:
    case = finding.case
    assert case is not None
    lines = [e.line for e in case.events if e.line]
    there = f"lines {min(lines)}..{max(lines)} of its trace" if lines else "watched live"
    source = _plain(f"recorded from {finding.program}, pid {finding.process}, {there}")
    description = "\n".join(filter(None, (_plain(finding.title), test.description)))
    return replace(test, name=_name(finding), description=description, sources=(source,))


def _name(finding: Finding) -> str:
    words = f"{finding.program.rpartition('/')[2]}_{finding.rule}"
    name = re.sub(r"[^A-Za-z0-9]+", "_", words.encode("ascii", "replace").decode()).strip("_")
    return (name if name[:1].isalpha() else f"a_{name}")[:_WORD].rstrip("_")


def _plain(text: str) -> str:
    """As a test may hold it: one line of printable ASCII."""
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())


# --- comments ---------------------------------------------------------------------------------------------------------


def _comments(test: Test, found: Derived, case: Case, program: str) -> Iterator[tuple[int, str]]:
    """(line of the printed test, what stands behind it). A statement takes one line, and they stand in order."""
    lines = to_text(test).splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith("memory {")) + 1
    yield number, _memory(found, case, program)
    for actor in test.actors:
        head = next(i for i in range(number, len(lines)) if lines[i].startswith(f"{actor.kind} {actor.name} "))
        for offset, statement in enumerate(actor.body, 1):
            origin = found.origins[statement.span.line - 1]
            yield head + offset, _said(origin, case, program)
        number = head + len(actor.body) + 1


def _memory(found: Derived, case: Case, program: str) -> str:
    where = f"{case.page}" if case.pinned == case.page else f"{case.page}, of which {case.pinned} is pinned"
    return where if found.mapped is None else f"{_of(case.events[found.mapped], case, program)}: {where}"


def _said(origin: Origin, case: Case, program: str) -> str:
    if origin.event is None:
        return f"{_ASSUMED}: {origin.note}"
    line = _of(case.events[origin.event], case, program)
    return f"{line}: {origin.note}" if origin.note else line


def _of(event: Event, case: Case, program: str) -> str:
    """``line 4711, 12:03:55.123400, python3[812], libibverbs.so.1!ibv_reg_mr``; the clock is UTC."""
    line = f"line {event.line}" if event.line else "seen live"
    return _plain(
        ", ".join(filter(None, (line, _clock(event.time), _task(event.task, case, program), _caller(event.stack))))
    )


def _clock(seconds: float) -> str:
    if seconds <= 0:
        return ""
    whole, part = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%H:%M:%S', time.gmtime(whole))}.{part:06}"


def _task(task: int, case: Case, program: str) -> str:
    """``python3[812]``; what is not the owner of the pin is called what it is to it: ``child[813]``."""
    name = case.processes.get(task, "task")
    name = program.rpartition("/")[2] if name == case.owner else name
    return name if str(task) in name else f"{name}[{task}]"


def _caller(stack: tuple[str, ...]) -> str:
    """The innermost frame that is nobody's wrapper, without its offset."""
    frames = [re.sub(r"\+0x[0-9a-f]+$", "", frame) for frame in stack]
    return next((frame for frame in frames if not _DULL.match(frame)), frames[0] if frames else "")


def _left_out(case: Case, found: Derived) -> list[str]:
    lines = [f"# left out: {_plain(text)}" for text in case.left_out]
    if found.repeated:
        lines.append(f"# left out: {found.repeated} more calls that only did again what stands here")
    return lines


def _reasons(judged: Judged | None) -> list[str]:
    """Which decision made which difference, behind the ``expect`` lines."""
    found = [] if judged is None else [f"# {g.kernel}: {_plain(g.because)}" for g in judged.groups if g.because]
    if judged is not None and judged.here is not None:
        because = f", {_plain(judged.here.because)}" if judged.here.because else ""
        found.append(f"# here ({judged.here.kernel}): {judged.here.verdict}{because}")
    return found


def _with(line: str, comment: str | None) -> str:
    return line if not comment else f"{line}  # {comment}"


def _above(page: list[str], lines: list[str]) -> list[str]:
    """Above the memory."""
    if not lines:
        return page
    at = next(i for i, line in enumerate(page) if line.startswith("memory {"))
    return [*page[:at], *lines, *page[at:]]

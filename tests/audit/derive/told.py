"""Cases as a trace tells them, in few words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from cowcatcher.audit.events import (
    Advised,
    Event,
    Execed,
    Exited,
    Forked,
    Freed,
    HugePages,
    Interface,
    Mapped,
    Moved,
    OpenedDirect,
    Overwritten,
    Pinned,
    Protected,
    Range,
    Signalled,
    Unmapped,
    Unpinned,
)
from cowcatcher.audit.finding import Case, Finding, Question, Severity

PAGE = Range(0x7F00_0000_1000, 0x7F00_0000_2000)
PART = Range(PAGE.start + 0x100, PAGE.start + 0x200)  # a buffer that has neighbours
PARENT, THREAD, CHILD, CHILD2 = 812, 813, 820, 821
NAMES = {PARENT: "parent", THREAD: "parent", CHILD: "child", CHILD2: "child2"}


@dataclass
class Trace:
    """Each method is a line of the trace."""

    pinned: Range = PAGE
    page: Range = PAGE
    events: list[Event] = field(default_factory=list)
    line: int = 0

    def _tell(self, kind: Any, *args: Any, task: int = PARENT, **more: Any) -> Trace:
        self.line += 1
        self.events.append(kind(1_700_000_000.0 + self.line, self.line, task, *args, **more))
        return self

    def mapped(self, prot: str = "rw-", private: bool = True, anonymous: bool = True, what: str = "") -> Trace:
        return self._tell(Mapped, self.page, prot, private, anonymous, self.page.size, what)

    def unmapped(self) -> Trace:
        return self._tell(Unmapped, self.page)

    def moved(self, by: int, keeps: bool = False) -> Trace:
        new = Range(self.page.start + by, self.page.end + by)
        return self._tell(Moved, self.page, new, keeps)

    def protected(self, prot: str) -> Trace:
        return self._tell(Protected, self.page, prot)

    def advised(self, advice: str, task: int = PARENT) -> Trace:
        return self._tell(Advised, self.page, advice, task=task)

    def taken(
        self, interface: Interface, writes: bool = True, detail: str = "", handle: str = "h1", task: int = PARENT
    ) -> Trace:
        stack = ("libc.so.6!ioctl+0x3d", f"lib{interface}.so.1!{interface}+0x1f")
        return self._tell(Pinned, handle, interface, (self.pinned,), writes, detail, task=task, stack=stack)

    def given_back(self, handle: str = "h1", task: int = PARENT) -> Trace:
        return self._tell(Unpinned, handle, task=task)

    def forked(self, child: int = CHILD, task: int = PARENT, begun: int = 0) -> Trace:
        return self._tell(Forked, child, False, False, "clone", begun, task=task)

    def ended(self, task: int = CHILD, signal: str = "") -> Trace:
        return self._tell(Exited, None if signal else 0, signal, task=task)

    def execed(self, task: int = CHILD) -> Trace:
        return self._tell(Execed, "/bin/true", task=task)

    def killed(self, at: int, task: int = CHILD) -> Trace:
        return self._tell(Signalled, "SIGSEGV", "SEGV_MAPERR", at, task=task).ended(task, "SIGSEGV")

    def freed(self) -> Trace:
        return self._tell(Freed, self.pinned)

    def overwritten(self) -> Trace:
        return self._tell(Overwritten, "h1", self.pinned)

    def opened(self, fd: int, filesystem: str) -> Trace:
        return self._tell(OpenedDirect, fd, "/data/file", filesystem)

    def huge(self) -> Trace:
        return self._tell(HugePages, Range(self.page.start & ~0x1FFFFF, self.page.end), 1 << 21, 1 << 21, False)

    def case(self, question: Question, owner: str = "parent") -> Case:
        return Case(question, tuple(self.events), NAMES, owner, self.page, self.pinned)


def partial() -> Trace:
    """The buffer takes a part of its page."""
    return Trace(pinned=PART)


def huge(size: int = 1 << 21) -> Trace:
    page = Range(0x7F00_0020_0000, 0x7F00_0020_0000 + size)
    return Trace(pinned=page, page=page)


def finding(case: Case, rule: str = "fork-shares-pinned", severity: Severity = Severity.ERROR) -> Finding:
    return Finding(rule, severity, "fork() shares 4 KiB that are pinned", PARENT, "/usr/bin/python3", case=case)


def of_other_processes(case: Case, by: int) -> Case:
    """The same, as other processes would have done it, later."""
    events = []
    for event in case.events:
        changed = replace(event, task=event.task + by, line=event.line + by)
        events.append(replace(changed, child=changed.child + by) if isinstance(changed, Forked) else changed)
    return replace(case, events=tuple(events), processes={task + by: name for task, name in case.processes.items()})

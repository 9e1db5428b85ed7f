"""A program's doings, told as tests need them: each method is an event, the line counts up by itself."""

from __future__ import annotations

from typing import Any

from cowcatcher.audit import events as ev
from cowcatcher.audit.auditor import Auditor
from cowcatcher.audit.events import PAGE, Event, Range
from cowcatcher.audit.finding import Finding, Severity

#: Where a test's buffers are, and the pages of one.
BUF = 0x7F0000000000
P = 100
C = 200


def at(page: int = 0, pages: int = 1) -> Range:
    """Whole pages of the test's memory."""
    return Range(BUF + page * PAGE, BUF + (page + pages) * PAGE)


class Tale:
    """``tale.fork()`` and so on; the task is ``P`` unless said. A second passes with each event."""

    def __init__(self, program: str = "/usr/bin/prog") -> None:
        self.events: list[Event] = []
        self.line = 0
        if program:
            self.exec(program)

    def tell(self, sort: type[Event], *args: Any, task: int = P, time: float = -1, **more: Any) -> Tale:
        self.line += 1
        self.events.append(sort(time if time >= 0 else float(self.line), self.line, task, *args, **more))
        return self

    def exec(self, path: str = "/bin/true", task: int = P, env: dict[str, str] | None = None) -> Tale:
        return self.tell(ev.Execed, path, tuple((env or {}).items()), task=task)

    def map(self, where: Range | None = None, private: bool = True, what: str = "", **more: Any) -> Tale:
        anonymous = more.pop("anonymous", not what or what == "[heap]")
        prot = more.pop("prot", "rw-")
        page = more.pop("page", PAGE)
        return self.tell(ev.Mapped, where or at(), prot, private, anonymous, page, what, **more)

    def unmap(self, where: Range | None = None, **more: Any) -> Tale:
        return self.tell(ev.Unmapped, where or at(), **more)

    def advise(self, advice: str, where: Range | None = None, **more: Any) -> Tale:
        return self.tell(ev.Advised, where or at(), advice, **more)

    def pin(self, where: Range | None = None, interface: str = "ibv_reg_mr", handle: str = "mr1", **more: Any) -> Tale:
        writes = more.pop("writes", True)
        detail = more.pop("detail", "")
        return self.tell(ev.Pinned, handle, interface, (where or at(),), writes, detail, **more)

    def unpin(self, handle: str = "mr1", **more: Any) -> Tale:
        return self.tell(ev.Unpinned, handle, **more)

    def read(self, where: Range | None = None, handle: str = "io1", **more: Any) -> Tale:
        return self.pin(where, "dio_read", handle, **{"detail": "fd 5, /data/f, ext4", **more})

    def fork(self, child: int = C, call: str = "fork", begun: int = 0, **more: Any) -> Tale:
        return self.tell(ev.Forked, child, False, False, call, begun, **more)

    def vfork(self, child: int = C, call: str = "vfork", **more: Any) -> Tale:
        return self.tell(ev.Forked, child, True, False, call, **more)

    def thread(self, child: int = P + 1, **more: Any) -> Tale:
        return self.tell(ev.Forked, child, True, True, "clone3", **more)

    def exit(self, task: int = C, status: int = 0) -> Tale:
        return self.tell(ev.Exited, status, task=task)

    def segv(self, address: int, task: int = C, code: str = "SEGV_MAPERR") -> Tale:
        return self.tell(ev.Signalled, "SIGSEGV", code, address, task=task)

    def chunks(self, where: Range, *owners: tuple[Range, str], **more: Any) -> Tale:
        return self.tell(ev.Chunks, where, owners, **more)

    def child_lives_on(self, task: int = C) -> Tale:
        return self.exec("/bin/true", task=task)

    def findings(self) -> list[Finding]:
        auditor = Auditor()
        for event in self.events:
            auditor.feed(event)
        return auditor.finish()

    def bad(self) -> list[str]:
        """Names of what is an error, a warning, or could not be told."""
        return [f.rule for f in self.findings() if f.severity not in (Severity.GOOD, Severity.NOTE)]

    def the(self, rule: str) -> Finding:
        """The one finding of a rule."""
        (found,) = [f for f in self.findings() if f.rule == rule]
        return found

    def told_at(self, number: int = -1) -> list[str]:
        """What was told the moment the event was fed."""
        auditor = Auditor()
        told = [[f.rule for f in auditor.feed(event)] for event in self.events]
        return told[number]

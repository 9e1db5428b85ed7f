"""Buffers that do not fill their pages."""

from __future__ import annotations

from cowcatcher.audit.events import Execed, Exited, Unpinned
from cowcatcher.audit.family import Process
from cowcatcher.audit.finding import Finding, Owned, Severity
from cowcatcher.audit.ledger import Key, Ledger
from cowcatcher.audit.pages import begins_amid, neighbours, page_map, unknown_beside
from cowcatcher.audit.pins import Pin
from cowcatcher.audit.rules.rule import LISTED, Rule, Text, key_of, page_size, program_of
from cowcatcher.audit.story import Story
from cowcatcher.audit.trail import moment
from cowcatcher.audit.vmas import Seen

#: Registrations of one place in a program that are looked at, when none of them was found to share a page.
LOOKED_AT = 200


class PartialPage(Rule):
    name = "partial-page"
    text = Text(
        "A registered buffer shares its first or last page with other data.",
        "Pages are pinned, protected from fork, and copied as a whole: what is done for the buffer happens to the "
        "other data too.",
        "rdma-core#1222, #1234; section 3.2 of the Copy-on-Pin paper, where the bystander's write moves the page",
    )
    wants = (Exited, Execed)
    wants_of_pinned = (Unpinned,)

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._looked: dict[Key, int] = {}

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        process = story.process_of(event.task)
        if isinstance(event, Unpinned):
            pin = process.memory.pins.get(process.pid, event.handle)
            if pin is not None:
                self._look(process, pin)
        elif isinstance(event, Execed) or event.task == process.pid:
            self._over(process)

    def finish(self, story: Story) -> None:
        for process in list(story.known.values()):
            self._over(process)

    def _over(self, process: Process) -> None:
        for pin in process.memory.pins.registered:
            if pin.seen.pid == process.pid:
                self._look(process, pin)

    def _look(self, process: Process, pin: Pin) -> None:
        """Others known to be there; or not known, but before the buffer, or it matters since the process has forked."""
        memory = process.memory
        if not pin.is_registered or not pin.ranges:
            return
        size = page_size(memory, pin.ranges[0])
        if all(r.start % size == 0 and r.end % size == 0 for r in pin.ranges):
            return
        key = key_of(self.name, process, pin)
        if self._looked.get(key, 0) >= LOOKED_AT or self.ledger.knows(key, Severity.NOTE):
            return
        self._looked[key] = self._looked.get(key, 0) + 1
        drawn = page_map(memory, pin.ranges, size)
        forked = bool(memory.copies) or memory.gone > 0
        others = neighbours(drawn) or (unknown_beside(drawn) if forked or begins_amid(list(drawn)) else [])
        if others:
            self.ledger.report(self._finding(process, pin, drawn, others, key), later=True)

    def _finding(self, process: Process, pin: Pin, drawn: tuple[Owned, ...], others: list[Owned], key: Key) -> Finding:
        who = ", ".join(dict.fromkeys(owned.who for owned in others))
        return Finding(
            self.name,
            Severity.NOTE,
            f"a buffer of {pin.interface} shares a page with: {who}",
            process.pid,
            program_of(process),
            ranges=pin.ranges[:LISTED],
            owners=drawn,
            timeline=(moment(pin.seen),),
            explanation=self.text.says + " " + self.text.matters,
            remedy="Give the buffer whole pages of its own: mmap(), or posix_memalign() with a size rounded up.",
            key=key,
        )

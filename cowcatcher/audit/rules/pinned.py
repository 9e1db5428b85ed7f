"""What happens to memory while a device holds it: given back, overwritten, moved."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from cowcatcher.audit.events import (
    PAGE,
    Advised,
    Event,
    Execed,
    Exited,
    Frames,
    Freed,
    Mapped,
    Moved,
    Overwritten,
    Range,
    Unmapped,
    Unpinned,
)
from cowcatcher.audit.family import Process
from cowcatcher.audit.finding import Finding, Question, Severity
from cowcatcher.audit.ledger import Key, Ledger
from cowcatcher.audit.pages import page_map, union
from cowcatcher.audit.pins import Pin
from cowcatcher.audit.rules.rule import (
    LISTED,
    Rule,
    Text,
    amount,
    exposed,
    first_page,
    in_bytes,
    key_of,
    page_size,
    program_of,
)
from cowcatcher.audit.story import TAKES_OUT, Story, believed, frames_of, is_told_again
from cowcatcher.audit.trail import Trail
from cowcatcher.audit.vmas import Seen

#: Pins that something is still to be found out about.
OPEN = 1024
GIVE_BACK_FIRST = "Give the registration back first, or wait for the transfer, and free the memory then."
AFTER_A_FORK = (
    " Here fork() came between, and write-protected the page: a write behind it goes to a copy, on most kernels, and "
    "the receiver gets what was sent. Whether the bytes were changed before the fork or after it was not seen."
)
AT_THE_END = "The process ended with the registration in place, and nothing was mapped there meanwhile."


class FreedWhilePinned(Rule):
    name = "freed-while-pinned"
    text = Text(
        "Memory was given back while a device still held it: unmapped, mapped over, dropped by madvise(), or freed.",
        "The pin keeps the page from other processes, but not in this one's page table: the device goes on with the "
        "old page, and what the program maps or allocates there next is another, or is overwritten by the device.",
        "rdma-core#1129 and the registration caches of openucx/ucx and ofiwg/libfabric, which exist to prevent it",
    )
    wants = (Exited,)
    wants_of_pinned = (Unmapped, Mapped, Advised, Moved, Freed)

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._told: dict[Pin, tuple[Process, Key]] = {}

    def see(self, story: Story, seen: Seen) -> None:
        process = story.process_of(seen.event.task)
        if isinstance(seen.event, Exited):
            if self._told and seen.event.task == process.pid:
                self._exits(process, seen.event)
            return
        where = _taken_out(seen.event)
        if where is None or (isinstance(seen.event, Mapped) and is_told_again(process.memory, seen.event)):
            return
        for pin in process.memory.pins.over(where):
            part = pin.part_of(where)
            if part is not None and self._matters(process, pin, part, seen.event):
                self._report(story, seen, process, pin, part)

    def _exits(self, process: Process, event: Exited) -> None:
        """What was given back just before the end, and never used again, does no harm: the end is the deregistration.

        The pins end with the process, whether the watcher says so or not.
        """
        for pin, (owner, key) in list(self._told.items()):
            if owner is not process:
                continue
            del self._told[pin]
            at = pin.ended.event if pin.ended is not None else event
            if (at.line, at.time) == (event.line, event.time):
                self.ledger.soften(key, Severity.NOTE, AT_THE_END)

    def _matters(self, process: Process, pin: Pin, part: Range, event: Event) -> bool:
        """A transfer that only reads what is unmapped reads what it should: the page stays until it is done."""
        if not pin.is_registered and pin.interface != "dio_read":
            return isinstance(event, Freed) and pin.interface in ("dio_write", "vmsplice", "msg_zerocopy")
        if isinstance(event, Advised) and event.advice != "REMOVE":
            kind = process.memory.space.at(part.start)
            return kind is None or kind.private is not False
        return True

    def _report(self, story: Story, seen: Seen, process: Process, pin: Pin, part: Range) -> None:
        how, other = _how(seen.event), isinstance(seen.event, Mapped)
        severity = Severity.ERROR if other else Severity.WARNING
        key = key_of(self.name, process, pin)
        again = pin in self._told
        if len(self._told) < OPEN:
            self._told[pin] = (process, key)
        if self.ledger.has_told(key, severity) if again else self.ledger.knows(key, severity):
            return
        page = first_page(part, page_size(process.memory, part))
        finding = Finding(
            self.name,
            severity,
            f"{how} of {amount(part.size)} that {pin.interface} still holds",
            process.pid,
            program_of(process),
            ranges=(part,),
            owners=page_map(process.memory, pin.ranges),
            explanation=self.text.says + " " + self.text.matters,
            remedy=GIVE_BACK_FIRST,
            key=key,
        )
        pinned = pin.part_of(page) or page
        self.ledger.report(finding, Trail(story, Question.FREED_UNDER_DEVICE, process, page, pinned, [pin], seen))


def _taken_out(event: Event) -> Range | None:
    match event:
        case Mapped():
            return believed(event.range, max(event.page, PAGE))
        case Unmapped():
            return believed(event.range)
        case Advised() if event.advice in TAKES_OUT:
            return believed(event.range)
        case Moved() if event.old.start != event.new.start:
            return believed(event.new)
        case Moved() if event.new.end < event.old.end:
            return believed(Range(event.new.end, event.old.end))
        case Freed():
            return event.range
    return None


def _how(event: Event) -> str:
    match event:
        case Mapped():
            return "another mapping in place"
        case Unmapped():
            return "munmap()"
        case Advised():
            return f"madvise(MADV_{event.advice})"
        case Moved():
            return "mremap() over, or out,"
    return "free()"


class OverwrittenInFlight(Rule):
    name = "overwritten-in-flight"
    text = Text(
        "The bytes of a transfer that only reads them were changed before it was over.",
        "MSG_ZEROCOPY and vmsplice() send the page itself, not a copy made at the call: whoever receives gets a "
        "mixture of old and new.",
        "Documentation/networking/msg_zerocopy.rst; vmsplice(2)",
    )
    wants = (Overwritten,)

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        assert isinstance(event, Overwritten)
        process = story.process_of(event.task)
        pin = process.memory.pins.get(process.pid, event.handle)
        if pin is not None and pin.torn:
            return  # what is at this address now is not what is being sent
        moved = pin is not None and _may_have_moved(process, pin)
        severity = Severity.UNSURE if moved else Severity.ERROR
        key = key_of(self.name, process, pin) if pin else (self.name, program_of(process), event.handle)
        if self.ledger.knows(key, severity):
            return
        interface = pin.interface if pin else event.handle
        finding = Finding(
            self.name,
            severity,
            f"bytes of {amount(event.range.size)} changed while {interface} had them in flight"
            + (": maybe only in a copy, made after fork()" if moved else ""),
            process.pid,
            program_of(process),
            ranges=(event.range,),
            explanation=self.text.says + " " + self.text.matters + (AFTER_A_FORK if moved else ""),
            remedy="Wait for the notification on the socket's error queue (MSG_ZEROCOPY), or until the pipe is read "
            "(vmsplice), before the buffer is used again.",
            key=key,
        )
        trail = None
        if pin is not None:
            page = first_page(event.range, page_size(process.memory, event.range))
            pinned = pin.part_of(page) or page
            forks = [fork] if moved and (fork := process.memory.last_fork) is not None else []
            trail = Trail(story, Question.DEVICE_AND_OWNER, process, page, pinned, [pin], seen, forks)
        if moved and trail is not None:  # no case: the test would ask whether they see one page, and they need not
            finding, trail = replace(finding, timeline=trail.timeline()), None
        self.ledger.report(finding, trail)


def _may_have_moved(process: Process, pin: Pin) -> bool:
    """A fork since has write-protected the page: whoever wrote then may have got a copy, and the page sent is whole."""
    memory = process.memory
    fork = memory.last_fork
    return fork is not None and fork.n > pin.seen.n and next(exposed(memory, pin), None) is not None


class Look(NamedTuple):
    """Pages of a pin seen to have moved, each with the frame before and after.

    The look may have been late: if the pin was over by then, that is told only afterwards. ``freed``: the memory had
    been given back by then.
    """

    pin: Pin
    process: Process
    seen: Seen
    pages: dict[int, tuple[int, int]]
    freed: bool = False


class MovedUnderPin(Rule):
    name = "moved-under-pin"
    text = Text(
        "The process has another physical page at this address than before, and a pin was held all the while.",
        "The device has the page that was there when it was pinned. What either writes, the other does not see.",
        "Documentation/core-api/pin_user_pages.rst; the seed of September 2020",
    )
    wants = (Exited, Execed)
    wants_of_pinned = (Frames, Unpinned)

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._open: dict[Pin, Look] = {}

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        process = story.process_of(event.task)
        if isinstance(event, Frames):
            self._looked(story, seen, event, process)
        elif isinstance(event, Unpinned):
            pin = process.memory.pins.get(process.pid, event.handle)
            if pin is not None:
                self._over(story, pin, event.time)
        elif isinstance(event, Execed) or event.task == process.pid:
            for pin in [p for p, look in self._open.items() if look.process is process]:
                self._over(story, pin, event.time)

    def finish(self, story: Story) -> None:
        for pin in list(self._open):
            self._report(story, self._open.pop(pin))

    def _looked(self, story: Story, seen: Seen, event: Frames, process: Process) -> None:
        for pin, pages in _moved(process, event).items():
            before = self._open.pop(pin, None)
            if before is not None:
                self._report(story, before)
            if len(self._open) < OPEN:
                self._open[pin] = Look(pin, process, seen, pages, pin.freed)
        for pin in [p for p in process.memory.pins.registered if p in self._open]:
            if self._open[pin].seen is not seen:
                self._report(story, self._open.pop(pin))

    def _over(self, story: Story, pin: Pin, time: float) -> None:
        """The pin's end was before the look, or after."""
        look = self._open.pop(pin, None)
        if look is not None and look.seen.event.time <= time:
            self._report(story, look)

    def _report(self, story: Story, look: Look) -> None:
        pin, process = look.pin, look.process
        key = key_of(self.name, process, pin)
        if not look.freed and self.ledger.knows(key, Severity.ERROR):
            return
        address, (old, new) = next(iter(look.pages.items()))
        page = Range(address, address + PAGE)
        moved = union(Range(a, a + PAGE) for a in look.pages)
        if look.freed:
            self._replaced(story, look, moved)
            return
        finding = Finding(
            self.name,
            Severity.ERROR,
            f"{amount(in_bytes(moved))} moved while {pin.interface} held it: {address:#x} from {old:#x} to {new:#x}",
            process.pid,
            program_of(process),
            ranges=tuple(moved[:LISTED]),
            explanation=self.text.says + " " + self.text.matters,
            remedy="See what came between: a fork, mprotect(), madvise(), swapping. MADV_DONTFORK cures the first; a "
            "kernel that copies pinned pages for the child cures it for all.",
            key=key,
        )
        pinned = pin.part_of(page) or page
        self.ledger.report(finding, Trail(story, Question.DEVICE_AND_OWNER, process, page, pinned, [pin], look.seen))

    def _replaced(self, story: Story, look: Look, moved: list[Range]) -> None:
        """It was given back before: that is the cause, and other memory has been put there."""
        pin, process = look.pin, look.process
        freed = FreedWhilePinned
        key = key_of(freed.name, process, pin)
        if self.ledger.has_told(key, Severity.ERROR):
            return
        page = Range(moved[0].start, moved[0].start + PAGE)
        finding = Finding(
            freed.name,
            Severity.ERROR,
            f"{amount(in_bytes(moved))} of other memory in place of what {pin.interface} still holds",
            process.pid,
            program_of(process),
            ranges=tuple(moved[:LISTED]),
            explanation=freed.text.says + " " + freed.text.matters,
            remedy=GIVE_BACK_FIRST,
            key=key,
        )
        pinned = pin.part_of(page) or page
        self.ledger.report(finding, Trail(story, Question.FREED_UNDER_DEVICE, process, page, pinned, [pin], look.seen))


def _moved(process: Process, event: Frames) -> dict[Pin, dict[int, tuple[int, int]]]:
    """Pages whose frame is another than the last one seen since the pin."""
    found: dict[Pin, dict[int, tuple[int, int]]] = {}
    for address, frame in frames_of(event) if len(process.memory.pins.registered) else ():
        if frame:
            for pin in process.memory.pins.over(Range(address, address + PAGE)):
                before = pin.frames.get(address, 0)
                if pin.is_registered and before and before != frame:
                    found.setdefault(pin, {})[address] = (before, frame)
    return found

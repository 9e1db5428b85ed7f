"""What a fork() does to memory that a device holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from cowcatcher.audit.events import PAGE, Exited, Forked, ForkFailed, Range
from cowcatcher.audit.family import Memory, Process
from cowcatcher.audit.finding import Finding, Question, Severity
from cowcatcher.audit.ledger import Key, Ledger
from cowcatcher.audit.pages import page_map, partial_pages, union
from cowcatcher.audit.pins import Pin
from cowcatcher.audit.rules.rule import (
    LISTED,
    Exposed,
    Rule,
    Text,
    amount,
    caller,
    exposed,
    first_page,
    in_bytes,
    key_of,
    program_of,
)
from cowcatcher.audit.rules.situations import Situations, asks, filesystem, gather, situation
from cowcatcher.audit.story import Story
from cowcatcher.audit.trail import Trail, moment
from cowcatcher.audit.vmas import Seen

#: A huge page's size where small ones have 4 KiB.
HUGE = 512 * PAGE
SPARE = (
    "MADV_DONTFORK on these buffers (not refused by any kernel; MADV_DOFORK on hugetlb is, since 7.0), shared memory, "
    "or posix_spawn()."
)
NOT_KNOWN = " Its mapping was not seen: private or shared is not known, and shared memory is not at risk."


def is_copy(event: Forked) -> bool:
    """Does it copy page tables? Threads, vfork() and posix_spawn() do not."""
    return not event.shares_mm and not event.thread


class Held(NamedTuple):
    """A pin, and where a fork would share its pages. ``certain``: its reference was there all through the fork."""

    pin: Pin
    exposed: list[Exposed]
    certain: bool = True


class ForkSharesPinned(Rule):
    name = "fork-shares-pinned"
    text = Text(
        "A registered pin lies on private memory, fork() copies the page table, no MADV_DONTFORK is in force there.",
        "fork() write-protects the page in both processes. Whoever writes first gets a copy, and if that is the "
        "process that registered it, its device keeps the old page: data is lost between the two without any error. "
        "It is enough that the fork happened; the child need not touch anything.",
        'rdma-core#883; "Re: [PATCH 1/4] mm: Trial do_wp_page() simplification", linux-mm, September 2020; '
        "70e806e4e645 and 4eae4efa2c29 copy pinned pages at fork",
    )
    wants = (Forked, Exited)

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._left: list[tuple[list[Process], Pin, Finding]] = []

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        process = story.process_of(event.task)
        memory = process.memory
        if not memory.pins.registered:
            return
        if isinstance(event, Exited):
            if event.task == process.pid and memory.copies:
                self._outlived(story, seen, process)
        elif isinstance(event, Forked) and is_copy(event) and not self.once(memory):
            self._forked(story, seen, process, event)

    def _forked(self, story: Story, seen: Seen, process: Process, event: Forked) -> None:
        memory = process.memory
        groups: dict[Key, list[Held]] = {}
        for pin in memory.pins.registered:
            for known, pieces in _by_knowledge(exposed(memory, pin)):
                key = key_of(self.name, process, pin, caller(event.stack), known)
                groups.setdefault(key, []).append(Held(pin, pieces))
        keys = [self._report(story, seen, process, key, held) for key, held in groups.items()]
        self.remember(memory, keys)

    def _report(self, story: Story, seen: Seen, process: Process, key: Key, held: list[Held]) -> Key:
        severity = Severity.ERROR if key[-1] else Severity.UNSURE
        if self.ledger.knows(key, severity):
            self.ledger.widen(key, _situations(story, process, held, seen))
            return key
        event = seen.event
        assert isinstance(event, Forked)
        ranges = _ranges(held)
        interface = held[0].pin.interface
        trail = _trail(story, Question.DEVICE_AND_OWNER, process, held, seen)
        finding = Finding(
            self.name,
            severity,
            f"{event.call}() shares {amount(in_bytes(ranges))} that {interface} has pinned, without MADV_DONTFORK",
            process.pid,
            program_of(process),
            ranges=tuple(ranges[:LISTED]),
            owners=page_map(process.memory, [r for h in held for r in h.pin.ranges], trail.page.size),
            explanation=self.text.says + " " + self.text.matters + ("" if key[-1] else NOT_KNOWN),
            remedy="Before the fork: madvise(MADV_DONTFORK) on whole pages that hold nothing but the buffer, or "
            "ibv_fork_init() before anything is registered. Or: memory that is shared (MAP_SHARED, memfd), or "
            "posix_spawn() in place of fork().",
            key=key,
        )
        key = self.ledger.report(finding, trail)
        self.ledger.widen(key, _situations(story, process, held, seen, trail), is_new=True)
        return key

    def _outlived(self, story: Story, seen: Seen, process: Process) -> None:
        """Who registered goes, and the registration stays, with a child that has the ring and a copy of the memory.

        Beside what was found at the fork: on no kernel are the child's pages those of the device for long. That the
        child uses them nobody sees; a child that does nothing at all may be about to end, too.
        """
        memory = process.memory
        for pin in memory.pins.registered:
            if pin.interface not in INHERITED or pin.seen.pid != process.pid:
                continue
            pieces = [e for e in exposed(memory, pin) if e.is_known]
            heirs = list(islice(_heirs(story, memory, pin, pieces), HEIRS))
            if not heirs:
                continue
            page = first_page(pieces[0].range, pieces[0].page_size)
            trail = Trail(story, Question.DEVICE_AND_OWNER, process, page, pin.part_of(page) or page, [pin], seen)
            finding = Finding(
                self.name,
                Severity.WARNING,
                f"{process.pid} has gone, and its child {{}} goes on with what {pin.interface} has pinned of it",
                process.pid,
                program_of(process),
                ranges=tuple(_ranges([Held(pin, pieces)])[:LISTED]),
                timeline=trail.timeline(),
                explanation="The pages of the process that registered them are the device's; its child, a daemon "
                "perhaps, has the same addresses and the same descriptor, but copies of the pages, or will have after "
                "its next write. What the child prepares there the device does not see, and the other way round. "
                "Whether the child uses them was not seen.",
                remedy="Register in the process that goes on: daemon() comes first. Or use shared memory.",
                key=key_of(self.name, process, pin, "outlived"),
            )
            # No case: there is no kernel on which two processes were to see one private page.
            self._left.append((heirs, pin, finding))

    def finish(self, story: Story) -> None:
        """Only now is it known whether the children did anything, or closed the descriptor first."""
        for heirs, pin, finding in self._left:
            left = sorted(
                (h for h in heirs if h.let_go.get(pin.event.handle, True)), key=lambda h: not (h.heard or h.ended)
            )
            if not left:
                continue
            title, severity = finding.title.format(left[0].pid), finding.severity
            if not left[0].heard and left[0].ended is None:  # not traced, perhaps
                title, severity = f"{title}, if it does: no event of it is in sight", Severity.UNSURE
            self.ledger.report(replace(finding, title=title, severity=severity))


#: Registrations that belong to a descriptor, which a child inherits.
INHERITED = ("io_uring_register", "vfio_map", "xdp_umem")


#: Children of one process that are asked.
HEIRS = 16


def _heirs(story: Story, memory: Memory, pin: Pin, pieces: list[Exposed]) -> Iterator[Process]:
    """Living processes that have these pages as fork() copied them, and have not closed what they belong to."""
    for copy, _ in memory.descendants():
        if copy.users and any(memory.is_same_page(e.range.start, copy) for e in pieces):
            heir = story.find(min(copy.users))
            if heir is not None and pin.event.handle not in heir.let_go:
                yield heir


class DirectIoAcrossFork(Rule):
    name = "direct-io-across-fork"
    text = Text(
        "A transfer that takes plain references (O_DIRECT) was in flight on private memory when fork() copied the page "
        "table, and no MADV_DONTFORK was in force there.",
        "The page is write-protected while the device works on it. If the process then writes to the same page, to the "
        "buffer or to anything beside it, it moves to a copy: what is read from the file never arrives, or the child's "
        "bytes are written to the file.",
        "open(2), NOTES on O_DIRECT; awslabs/mountpoint-s3#114; percona/galera#98; ltp dma_thread_diotest; the tests "
        "of section 3.2 of the Copy-on-Pin paper",
    )
    wants = (Forked,)
    transfers = ("dio_read", "dio_write", "process_vm")

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        assert isinstance(event, Forked)
        process = story.process_of(event.task)
        if not is_copy(event) or not (process.memory.pins.transfers or process.memory.recent):
            return
        groups: dict[Key, list[Held]] = {}
        for held in self._in_flight(process.memory, event):
            if held.pin.seen.pid == process.pid and _is_copied_through_cache(process, held.pin):
                continue
            for known, pieces in _by_knowledge(held.exposed):
                if known or held.pin.interface != "process_vm":  # of another's memory only the addresses may be known
                    words = held.pin.event.detail.split(", ")[2:]
                    key = key_of(self.name, process, held.pin, *words, caller(event.stack), known)
                    groups.setdefault(key, []).append(held._replace(exposed=pieces))
        for key, all_held in groups.items():
            self._report(story, seen, process, key, all_held)

    def _in_flight(self, memory: Memory, event: Forked) -> Iterator[Held]:
        """Still in flight; or, while the fork was under way, over."""
        for pin in memory.pins.transfers:
            if pin.interface in self.transfers:
                pieces = list(exposed(memory, pin))
                if pieces:
                    yield Held(pin, pieces, certain=not event.begun or pin.event.line < event.begun)
        for pin in memory.recent:
            ended = pin.ended
            if pin.interface in self.transfers and ended is not None and 0 < event.begun < ended.event.line:
                pieces = list(exposed(memory, pin))
                if pieces:
                    yield Held(pin, pieces, certain=False)

    def _report(self, story: Story, seen: Seen, process: Process, key: Key, held: list[Held]) -> None:
        held.sort(key=lambda h: not h.certain)
        pin = held[0].pin
        severity = Severity.UNSURE
        if key[-1]:
            severity = Severity.ERROR if pin.event.writes and held[0].certain else Severity.WARNING
        if self.ledger.knows(key, severity):
            self.ledger.widen(key, _situations(story, process, held, seen))
            return
        event = seen.event
        assert isinstance(event, Forked)
        ranges = _ranges(held)
        trail = _trail(story, asks(pin), process, held, seen)
        when = (
            "" if held[0].certain else " The transfer and the fork were under way together; which came first is open."
        )
        finding = Finding(
            self.name,
            severity,
            f"{event.call}() while {pin.interface} of {amount(in_bytes(list(pin.ranges)))} was in flight"
            + (f" ({pin.event.detail})" if pin.event.detail else ""),
            process.pid,
            program_of(process),
            ranges=tuple(ranges[:LISTED]),
            owners=page_map(process.memory, [r for h in held for r in h.pin.ranges], trail.page.size),
            explanation=self.text.says + " " + self.text.matters + when + ("" if key[-1] else NOT_KNOWN),
            remedy="Wait for the transfer before forking; or use posix_spawn() or vfork(), which copy nothing; or keep "
            "the buffer in shared memory, or in whole pages of its own under MADV_DONTFORK.",
            key=key,
        )
        key = self.ledger.report(finding, trail)
        self.ledger.widen(key, _situations(story, process, held, seen, trail), is_new=True)


#: Their direct I/O copies through the page cache: no reference to the user's buffer is taken.
COPIED = ("tmpfs", "ramfs")


def _is_copied_through_cache(process: Process, pin: Pin) -> bool:
    return filesystem(process, pin) in COPIED


class HugeCopyAtFork(Rule):
    name = "huge-copy-at-fork"
    text = Text(
        "fork() must copy pinned huge pages: private, registered, and without MADV_DONTFORK.",
        "Kernels that copy pinned pages at fork copy each of them there and then: fork() takes that much longer, needs "
        "that much memory, and with hugetlb fails with ENOMEM when the pool has no page left.",
        "aws/aws-ofi-nccl#69, #141, #179; 4eae4efa2c29 (hugetlb), d042035eaf5f (THP)",
    )
    wants = (Forked, ForkFailed)

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        process = story.process_of(event.task)
        if not process.memory.pins.registered:
            return
        if isinstance(event, ForkFailed):
            self._failed(seen, event, process)
        elif isinstance(event, Forked) and is_copy(event) and not self.once(process.memory):
            self._forked(story, seen, process)

    def _failed(self, seen: Seen, event: ForkFailed, process: Process) -> None:
        held = _known(process.memory)
        ranges = list(_hugetlb(held))
        key = (self.name, program_of(process), "failed")
        if not ranges or self.ledger.knows(key, Severity.ERROR):
            return
        moments = (*(h.pin.seen for h in held if any(e.page_size > PAGE for e in h.exposed)), seen)
        finding = Finding(
            self.name,
            Severity.ERROR,
            f"{event.call}() failed with {event.error}: it has {amount(in_bytes(ranges))} of pinned hugetlb to copy",
            process.pid,
            program_of(process),
            ranges=tuple(ranges[:LISTED]),
            timeline=tuple(moment(s) for s in moments[-LISTED:]),
            explanation=self.text.says + " " + self.text.matters,
            remedy=SPARE,
            key=key,
        )
        # No case: whether the pool of huge pages is large enough is no question to the model.
        self.ledger.report(finding)

    def _forked(self, story: Story, seen: Seen, process: Process) -> None:
        memory = process.memory
        keys: list[Key] = []
        held = _known(memory)
        pools = [list(_hugetlb(held)), list(_transparent(memory, held))]
        for hugetlb, ranges in ((True, pools[0]), (False, pools[1])):
            copied = in_bytes(ranges)
            if copied:
                keys.append(self._report(story, seen, process, held, ranges, hugetlb))
        self.remember(memory, keys)

    def _report(
        self, story: Story, seen: Seen, process: Process, held: list[Held], ranges: list[Range], hugetlb: bool
    ) -> Key:
        sort = "hugetlb" if hugetlb else "transparent huge"
        free = _free_bytes(process.memory, ranges) if hugetlb else -1
        copied = in_bytes(ranges)
        short = 0 <= free < copied
        severity = Severity.WARNING if short else Severity.NOTE
        key = (self.name, program_of(process), sort, caller(seen.event.stack))
        if self.ledger.knows(key, severity):
            return key
        huge = (h._replace(exposed=[e for e in h.exposed if any(r.overlap(e.range) for r in ranges)]) for h in held)
        inside = [h for h in huge if h.exposed]
        left = "" if free < 0 else f" {amount(free)} of huge pages are free" + (": not enough." if short else ".")
        finding = Finding(
            self.name,
            severity,
            f"fork() has {amount(copied)} of pinned {sort} pages to copy" + (", and too few are free" if short else ""),
            process.pid,
            program_of(process),
            ranges=tuple(ranges[:LISTED]),
            explanation=self.text.says + " " + self.text.matters + left,
            remedy=SPARE,
            key=key,
        )
        return self.ledger.report(finding, _trail(story, Question.DEVICE_AND_OWNER, process, inside, seen))


def _ranges(held: list[Held]) -> list[Range]:
    """The bytes of the pins that are exposed."""
    return union(
        part for h in held for r in h.pin.ranges for e in h.exposed if (part := r.overlap(e.range)) is not None
    )


def _trail(story: Story, question: Question, process: Process, held: list[Held], seen: Seen) -> Trail:
    """About the first page whose mapping is known, of the first pin that has one.

    Of a transfer rather one that it fills in part: what else is there, the program may write to meanwhile.
    """
    first = next((h for h in held if any(e.is_known for e in h.exposed)), held[0])
    piece = next((e for e in first.exposed if e.is_known), first.exposed[0])
    page = first_page(piece.range, piece.page_size)
    if not first.pin.is_registered:
        shared = (p for p in partial_pages(first.pin.ranges, piece.page_size) if piece.range.overlap(p))
        page = next(shared, page)
    pinned = first.pin.part_of(page) or page
    return Trail(story, question, process, page, pinned, [first.pin], seen)


def _by_knowledge(pieces: Iterable[Exposed]) -> list[tuple[bool, list[Exposed]]]:
    """Those whose mapping is known, and those whose is not: what is found there is not the same."""
    told: dict[bool, list[Exposed]] = {}
    for piece in pieces:
        told.setdefault(piece.is_known, []).append(piece)
    return sorted(told.items(), reverse=True)


def _situations(story: Story, process: Process, held: list[Held], seen: Seen, own: Trail | None = None) -> Situations:
    """All that differ, the one that the finding's ``own`` trail tells of first."""
    found: Situations = {}
    if own is not None:
        first = next(h for h in held if h.pin in own.pins)
        kind, whole = process.memory.space.at(own.page.start), own.pinned == own.page
        key = situation(process, first.pin, own.page, kind, whole, first.certain)
        found[key] = lambda: own
    for h in held:
        gather(found, story, process, h.pin, ((e.range, e.kind) for e in h.exposed), seen, (), h.certain)
    return found


def _known(memory: Memory) -> list[Held]:
    """What is registered here, as far as it is known how it is mapped."""
    return [Held(pin, [e for e in exposed(memory, pin) if e.is_known]) for pin in memory.pins.registered]


def _hugetlb(held: list[Held]) -> Iterator[Range]:
    yield from union(e.range for h in held for e in h.exposed if e.page_size > PAGE)


def _transparent(memory: Memory, held: list[Held]) -> Iterator[Range]:
    small = union(e.range for h in held for e in h.exposed if e.page_size == PAGE)
    told = [event.range for event in memory.huge if not event.hugetlb and event.bytes]
    huge = union([*told, *(block for h in held for block in _blocks(h.pin))])
    for where in huge:
        for piece in small:
            part = piece.overlap(where)
            if part is not None:
                yield part


def _blocks(pin: Pin) -> Iterator[Range]:
    """Transparent huge pages by their frames: as many neighbours as a huge page has, from a multiple of that on."""
    for address, frame in pin.frames.items():
        if address % HUGE == 0 and frame and frame % (HUGE // PAGE) == 0:
            number = HUGE // PAGE - 1
            if pin.frames.get(address + number * PAGE) == frame + number:
                yield Range(address, address + HUGE)


def _free_bytes(memory: Memory, ranges: list[Range]) -> int:
    """What the pool has left, as it was told last; -1: nobody looked."""
    for event in reversed(memory.huge):
        if event.hugetlb and event.free >= 0 and any(event.range.overlap(r) for r in ranges):
            return event.free * event.page
    return -1

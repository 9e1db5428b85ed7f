"""What MADV_DONTFORK takes from a child: the cure, and its side effects."""

from __future__ import annotations

from collections.abc import Iterator

from cowcatcher.audit.events import Forked, Range, Signalled
from cowcatcher.audit.family import Lack, Memory, Process
from cowcatcher.audit.finding import Finding, Owned, Question, Severity
from cowcatcher.audit.ledger import Key
from cowcatcher.audit.pages import is_amid_others, neighbours, owners, partial_pages, unknown_beside
from cowcatcher.audit.pins import Pin
from cowcatcher.audit.rules.forks import is_copy
from cowcatcher.audit.rules.rule import Rule, Text, first_page, key_of, page_size, program_of, whose
from cowcatcher.audit.story import Story
from cowcatcher.audit.trail import Trail
from cowcatcher.audit.vmas import Seen

ON_ITS_OWN = (
    "Give the buffer whole pages of its own: mmap(), or posix_memalign() with a size rounded up to pages. Where the "
    "kernel copies pinned pages at fork, leave MADV_DONTFORK away."
)


class DontforkNeighbours(Rule):
    name = "dontfork-neighbours"
    text = Text(
        "MADV_DONTFORK works on whole pages. Here it covers bytes that are not the pinned buffer's: the child lacks "
        "them.",
        "The child gets SIGSEGV when it touches what happens to lie on the same page: another malloc(), a FILE, its "
        "allocator's own records.",
        "rdma-core#1222, #1234; open-mpi/ompi#1363; pmem/rpma#751; ofiwg/libfabric#9792",
    )
    wants = (Forked, Signalled)

    def see(self, story: Story, seen: Seen) -> None:
        if isinstance(seen.event, Signalled):
            self._signalled(story, seen, seen.event)
        elif isinstance(seen.event, Forked) and is_copy(seen.event):
            self._forked(story, seen)

    def _forked(self, story: Story, seen: Seen) -> None:
        process = story.process_of(seen.event.task)
        memory = process.memory
        if not memory.pins.registered or self.once(memory):
            return
        keys: dict[Key, None] = {}
        for pin in memory.pins.registered:
            for page, drawn in _beside(memory, pin):
                severity = _severity(drawn)
                if severity is not None:
                    keys[self._report(story, seen, process, pin, page, drawn, severity)] = None
        self.remember(memory, list(keys))

    def _report(
        self, story: Story, seen: Seen, process: Process, pin: Pin, page: Range, drawn: list[Owned], severity: Severity
    ) -> Key:
        key = key_of(self.name, process, pin)
        if self.ledger.knows(key, severity):
            return key
        lost = neighbours(drawn) or unknown_beside(drawn)
        size = sum(owned.range.size for owned in lost)
        if severity is Severity.UNSURE:
            title = f"MADV_DONTFORK takes {size} bytes beside the buffer from the child; whose they are is not known"
        else:
            title = f"MADV_DONTFORK takes {size} bytes from the child that are not the buffer's"
            if not neighbours(drawn):
                title += ": on the heap, amid other allocations"
        finding = self._finding(process, severity, title, lost, drawn, key)
        pinned = pin.part_of(page) or page
        trail = Trail(story, Question.CHILD_READS_NEIGHBOUR, process, page, pinned, [pin], seen)
        return self.ledger.report(finding, trail)

    def _finding(
        self, process: Process, severity: Severity, title: str, lost: list[Owned], drawn: list[Owned], key: Key
    ) -> Finding:
        return Finding(
            self.name,
            severity,
            title,
            process.pid,
            program_of(process),
            ranges=tuple(owned.range for owned in lost),
            owners=tuple(drawn),
            explanation=self.text.says + " " + self.text.matters,
            remedy=ON_ITS_OWN,
            key=key,
        )

    def _signalled(self, story: Story, seen: Seen, event: Signalled) -> None:
        """It happened: a child touched what DONTFORK had kept from it."""
        blame = blamed(story, event)
        if blame is None or blame.owner is None or not blame.pins or blame.inside is not None:
            return
        pin = blame.pins[0]
        size = page_size(blame.owner.memory, Range(event.address, event.address + 1))
        page = first_page(Range(event.address, event.address + 1), size)
        drawn = owners(blame.owner.memory, page, [r for p in blame.pins for r in p.ranges])
        hit = [o for o in drawn if o.range.start <= event.address < o.range.end]
        title = f"a child got {event.signal} at {event.address:#x}, beside a buffer under MADV_DONTFORK"
        key = key_of(self.name, blame.owner, pin)
        finding = self._finding(blame.owner, Severity.ERROR, title, hit, drawn, key)
        pinned = pin.part_of(page) or page
        more = [*blame.lack.kind.provenance(), *blame.way]
        trail = Trail(story, Question.CHILD_READS_NEIGHBOUR, blame.owner, page, pinned, blame.pins, seen, more)
        self.ledger.report(finding, trail)


class DontforkChildTouches(Rule):
    name = "dontfork-child-touches"
    text = Text(
        "A child got SIGSEGV in memory that MADV_DONTFORK keeps from it: the pinned buffer itself, as far as is known.",
        "Whoever set MADV_DONTFORK assumed that children do not use the buffer; this one does.",
        "ROCm/rocm-systems#356; uccl-project/uccl#895; valkey-io/valkey#477",
    )
    wants = (Signalled,)

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        assert isinstance(event, Signalled)
        blame = blamed(story, event)
        if blame is None or (blame.pins and blame.inside is None) or blame.orphan is not None:
            return
        child = story.process_of(event.task)
        owner = blame.owner or child
        page = first_page(Range(event.address, event.address + 1), blame.lack.kind.page)
        advice = blame.lack.kind.dontfork
        library = whose(advice.event.stack) if advice is not None else ""
        unpinned = (
            "" if blame.inside else " No pin was seen there, so whether it is the buffer or lies beside it is open."
        )
        key = (self.name, program_of(owner), advice.event.stack[:3] if advice is not None else ())
        finding = Finding(
            self.name,
            Severity.ERROR,
            f"a child got {event.signal} at {event.address:#x}, in memory under MADV_DONTFORK"
            + (f" by {library}" if library else ""),
            owner.pid,
            program_of(owner),
            ranges=(blame.inside.ranges if blame.inside else (blame.lack.range,)),
            explanation=self.text.says + " " + self.text.matters + unpinned,
            remedy="Do not use the buffer in children, or copy what they need before the fork; or leave MADV_DONTFORK "
            "away where the kernel copies pinned pages at fork; or keep the buffer in shared memory.",
            key=key,
        )
        trail = None
        if blame.owner is not None:
            pinned = (blame.inside.part_of(page) if blame.inside else None) or page
            more = [*blame.lack.kind.provenance(), *blame.way]
            trail = Trail(story, Question.CHILD_READS_BUFFER, owner, page, pinned, blame.pins, seen, more)
        self.ledger.report(finding, trail)


class Blame:
    """A fault in memory that a child lacks: why it does, who has it, the pins there at the fork, the ``way`` here."""

    def __init__(self, lack: Lack, owner: Process | None, pins: list[Pin], way: list[Seen], address: int) -> None:
        self.lack, self.owner, self.pins, self.way = lack, owner, pins, way
        self.inside = next((p for p in pins for r in p.ranges if r.start <= address < r.end), None)
        self.orphan = None if owner is None or pins else owner.memory.orphans.at(address)


def blamed(story: Story, event: Signalled) -> Blame | None:
    """None: the fault has nothing to do with DONTFORK."""
    child = story.process_of(event.task)
    memory = child.memory
    if memory.space.at(event.address) is not None:
        return None
    lack = memory.lack(event.address)
    if lack is None:
        return None
    owner = story.find(lack.fork.pid)
    way = _way(owner.memory, memory) if owner is not None and owner is not child else None
    if owner is None or way is None:
        return Blame(lack, None, [], [], event.address)
    page = first_page(Range(event.address, event.address + 1), lack.kind.page)
    return Blame(lack, owner, list(_pins_at(owner.memory, page, lack.fork)), way, event.address)


def _way(above: Memory, below: Memory) -> list[Seen] | None:
    """The forks that lead from one memory to another; None: none do."""
    at: Memory | None = below
    forks: list[Seen] = []
    while at is not None and at is not above:
        forks = [*at.chain, *forks]
        at = at.origin
    return forks if at is above else None


def _pins_at(memory: Memory, page: Range, fork: Seen) -> Iterator[Pin]:
    """Registrations on the page that were there at the fork, and may be over by now."""
    for pin in memory.pins.over(page):
        if pin.is_registered and pin.seen.n < fork.n:
            yield pin
    for pin in memory.recent:
        ended = pin.ended
        if pin.is_registered and pin.part_of(page) and ended is not None and pin.seen.n < fork.n < ended.n:
            yield pin


def _beside(memory: Memory, pin: Pin) -> Iterator[tuple[Range, list[Owned]]]:
    """The pages under DONTFORK that the pin fills in part, each with its owners."""
    for where in pin.ranges:
        for page in partial_pages([where], page_size(memory, where)):
            kind = memory.space.at(page.start)
            if kind is not None and kind.dontfork is not None:
                yield page, owners(memory, page)


def _severity(drawn: list[Owned]) -> Severity | None:
    if neighbours(drawn) or is_amid_others(drawn):
        return Severity.WARNING
    return Severity.UNSURE if unknown_beside(drawn) else None

"""The events that make a finding's case: what led there, and, while the program goes on, what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cowcatcher.audit import events as ev
from cowcatcher.audit.events import Event, Range
from cowcatcher.audit.family import Memory, Process
from cowcatcher.audit.finding import Case, Moment, Question
from cowcatcher.audit.pins import Pin
from cowcatcher.audit.story import TAKES_OUT, Story, believed
from cowcatcher.audit.vmas import Seen

#: Processes in one case, pins of one page, events that are added after the finding.
PROCESSES = 5
PINS = 4
AFTER = 24
ON_MEMORY = (ev.Mapped, ev.Unmapped, ev.Protected, ev.Advised, ev.Freed)


class Trail:
    """What happened to ``page`` and to whoever shares it, up to the ``trigger`` and on from there."""

    def __init__(
        self,
        story: Story,
        question: Question,
        owner: Process,
        page: Range,
        pinned: Range,
        pins: Iterable[Pin] = (),
        trigger: Seen | None = None,
        more: Iterable[Seen] = (),
        without_advice: bool = False,
    ) -> None:
        self.question, self.owner, self.page, self.pinned = question, owner, page, pinned
        self.pids = [owner.pid]
        self.events: dict[int, Seen] = {}
        self.left_out: list[str] = []
        self._added = 0
        self._found_at = trigger.n if trigger is not None else story.n
        self._more_forks = 0
        self._without_advice = without_advice
        self._pins = self._the_pins(owner.memory, pins)
        self._family(story, owner.memory)
        self._memory(owner.memory)
        for pin in self._pins:
            self._add(pin.seen, *pin.log)
            self._file(owner, pin)
        self._add(*more)
        if trigger is not None:
            self._add(trigger)
            self._child(trigger)
        self._followed = set(self.pids)

    # --- what led there -----------------------------------------------------------------------------------------------

    def _the_pins(self, memory: Memory, given: Iterable[Pin]) -> list[Pin]:
        chosen = list(dict.fromkeys(given))[:PINS]
        others = [p for p in memory.pins.over(self.page) if p not in chosen and p.is_registered]
        if len(chosen) + len(others) > PINS:
            self.left_out.append(f"{len(chosen) + len(others) - PINS} more pins of the same page")
        return chosen + others[: PINS - len(chosen)]

    def _add(self, *seen: Seen) -> None:
        for s in seen:
            if not (self._without_advice and isinstance(s.event, ev.Advised) and s.event.advice == "DONTFORK"):
                self.events[s.n] = s

    def _family(self, story: Story, memory: Memory) -> None:
        """Who else has the page as fork() copied it: the living ones, some of them."""
        origin = memory.origin
        if origin is not None and origin.users and origin.is_same_page(self.page.start, memory):
            self._relative(memory.chain)
            self.pids.append(min(origin.users))
        many = 0
        for copy, chain in memory.descendants():
            if not copy.users or not memory.is_same_page(self.page.start, copy):
                continue
            if len(self.pids) < PROCESSES - 1:
                self._relative(chain)
                self.pids += [pid for pid in self._of(chain) if pid not in self.pids]
            else:
                many += 1
        if many:
            self.left_out.append(f"{many} more living processes that share the page as those here do")
        if memory.gone:
            self.left_out.append(f"{_children(memory.gone)} come and gone before: their copies went with them")

    def _relative(self, chain: Iterable[Seen]) -> None:
        self._add(*chain)

    def _of(self, chain: Iterable[Seen]) -> list[int]:
        return [pid for s in chain if isinstance(s.event, ev.Forked) for pid in (s.pid, s.event.child)]

    def _memory(self, memory: Memory) -> None:
        kind = memory.space.at(self.page.start)
        if kind is None or kind.made is None:
            self.left_out.append("the mapping: it was not seen")
        if kind is not None:
            self._add(*kind.provenance())

    def _file(self, owner: Process, pin: Pin) -> None:
        """The file of a direct transfer, as its detail names it: "fd 5, …"."""
        words = pin.event.detail.split(",")[0].split()
        if len(words) == 2 and words[0] == "fd" and words[1].isascii() and words[1].isdigit():
            opened = owner.direct.get(int(words[1]))
            if opened is not None:
                self._add(opened)

    def _child(self, trigger: Seen) -> None:
        event = trigger.event
        if isinstance(event, ev.Forked) and not event.thread and event.child not in self.pids:
            self.pids.append(event.child)
        elif trigger.pid not in self.pids:
            self.pids.append(trigger.pid)

    # --- what came of it ----------------------------------------------------------------------------------------------

    @property
    def pins(self) -> list[Pin]:
        return self._pins

    @property
    def followed(self) -> tuple[int, ...]:
        """Processes whose further events belong here."""
        return tuple(self._followed)

    def feed(self, seen: Seen) -> bool:
        """Take in what belongs here of the events after the finding. False: this trail has come to its end."""
        if seen.n in self.events or seen.pid not in self._followed:
            return True
        event = seen.event
        if isinstance(event, ev.Forked):
            self._more_forks += not event.shares_mm and not event.thread
            return True
        if not self._belongs(seen):
            return True
        self._add(seen)
        self._added += 1
        if isinstance(event, ev.Execed) or (isinstance(event, ev.Exited) and event.task == seen.pid):
            self._followed.discard(seen.pid)
        if self._added == AFTER:
            self.left_out.append("what happened later")
            self._followed.clear()
        elif seen.pid == self.owner.pid and isinstance(event, ev.Execed | ev.Exited):
            self._followed.clear()
        return bool(self._followed)

    def _belongs(self, seen: Seen) -> bool:
        event = seen.event
        if isinstance(event, ev.Execed | ev.Signalled):
            return True
        if isinstance(event, ev.Exited):
            return event.task == seen.pid
        if isinstance(event, ev.Unpinned):
            return seen.pid == self.owner.pid and any(event.handle == pin.event.handle for pin in self._pins)
        if isinstance(event, ev.Moved):
            return believed(event.old).overlap(self.page) is not None
        return isinstance(event, ON_MEMORY) and believed(event.range).overlap(self.page) is not None

    # --- what it comes to ---------------------------------------------------------------------------------------------

    def case(self) -> Case:
        """Events of tasks that are no process's here are told as the owner's: it has that memory by inheritance."""
        seen = [self.events[n] for n in sorted(self.events)]
        forked = [s.event.child for s in seen if isinstance(s.event, ev.Forked) and not s.event.thread]
        pids = list(dict.fromkeys([*self.pids, *forked]))
        names = _names(pids, seen)
        processes = {pid: names[pid] for pid in pids}
        told: list[Event] = []
        inherited = False
        for s in seen:
            if s.pid in names:
                processes.setdefault(s.event.task, names[s.pid])
                told.append(s.event)
            else:
                inherited = True
                told.append(replace(s.event, task=self.owner.pid))
        left_out = list(self.left_out)
        if inherited:
            left_out.append("whoever made the mapping before: it was inherited by fork, and they are gone")
        if self._more_forks:
            left_out.append(f"{self._more_forks} later forks")
        if self._without_advice:
            left_out.append("madvise(DONTFORK): to ask what would happen without it")
        page, pinned = self._at_the_start(seen)
        return Case(self.question, tuple(told), processes, names[self.owner.pid], page, pinned, tuple(left_out))

    def _at_the_start(self, seen: list[Seen]) -> tuple[Range, Range]:
        """Where the page was before mremap() moved it to where the finding has it."""
        page, pinned = self.page, self.pinned
        for s in reversed(seen):
            event = s.event
            if isinstance(event, ev.Moved) and s.n <= self._found_at and event.new.overlap(page):
                shift = event.old.start - event.new.start
                page = Range(page.start + shift, page.end + shift)
                pinned = Range(pinned.start + shift, pinned.end + shift)
        return page, pinned

    def timeline(self) -> tuple[Moment, ...]:
        return tuple(moment(self.events[n]) for n in sorted(self.events))


def _names(pids: list[int], seen: Iterable[Seen]) -> dict[int, str]:
    """parent, child, child2, grandchild, … by who made whom."""
    maker = {s.event.child: s.pid for s in seen if isinstance(s.event, ev.Forked) and not s.event.thread}

    def depth(pid: int) -> int:
        steps = 0
        while pid in maker and maker[pid] in pids and steps < len(pids):
            pid, steps = maker[pid], steps + 1
        return steps

    names: dict[int, str] = {}
    counts: dict[str, int] = {}
    for pid in pids:
        name = ("parent", "child", "grandchild")[min(depth(pid), 2)]
        counts[name] = counts.get(name, 0) + 1
        names[pid] = name if counts[name] == 1 else f"{name}{counts[name]}"
    return names


def moment(seen: Seen, text: str = "") -> Moment:
    event = seen.event
    return Moment(event.time, event.line, event.task, text or words(event), event.stack)


def words(event: Event) -> str:
    """What a timeline says of it."""
    match event:
        case ev.Forked():
            return f"{event.call}() makes {'thread' if event.thread else 'process'} {event.child}" + (
                ", on the same memory" if event.shares_mm and not event.thread else ""
            )
        case ev.ForkFailed():
            return f"{event.call}() fails with {event.error}"
        case ev.Execed():
            return f"execs {event.path}: a new memory"
        case ev.Exited():
            return f"is killed by {event.signal}" if event.signal else f"exits with {event.status}"
        case ev.Signalled():
            return f"{event.signal} ({event.code}) at {event.address:#x}"
        case ev.Mapped():
            sort = "private" if event.private else "shared"
            return f"maps {event.range} {event.prot} {sort} {event.what or 'anonymous'}".rstrip()
        case ev.Unmapped():
            return f"unmaps {event.range}"
        case ev.Moved():
            return f"mremap moves {event.old} to {event.new}"
        case ev.Protected():
            return f"mprotect {event.range} {event.prot}"
        case ev.Advised():
            return f"madvise({event.advice}) {event.range}"
        case ev.OpenedDirect():
            return f"opens {event.path} with O_DIRECT as fd {event.fd}"
        case ev.Pinned():
            shown = ", ".join(str(r) for r in event.ranges[:3]) + (", …" if len(event.ranges) > 3 else "")
            return f"{event.interface} takes {shown} as {event.handle}" + (f" ({event.detail})" if event.detail else "")
        case ev.Unpinned():
            return f"{event.handle} is given back"
        case ev.Freed():
            return f"the allocator gets {event.range} back"
        case ev.Overwritten():
            return f"the bytes of {event.handle} change in flight: {event.range}"
        case ev.CopiesAtFork():
            return f"fork() {'copies' if event.answer else 'does not copy'} registered pages: {event.why}"
        case ev.ForkInit():
            return f"ibv_fork_init() = {event.result}" + (f", by {event.by}" if event.by else "")
        case _:
            return type(event).__name__


def takes_out(event: Event) -> bool:
    """Does it take pages out of the mapping: munmap(), a mapping over it, MADV_DONTNEED and the like?"""
    return isinstance(event, ev.Mapped | ev.Unmapped) or (isinstance(event, ev.Advised) and event.advice in TAKES_OUT)


def _children(number: int) -> str:
    return "a child that had" if number == 1 else f"{number:,} children that had"

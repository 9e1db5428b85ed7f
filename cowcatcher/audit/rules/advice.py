"""MADV_DONTFORK at the wrong time: after the fork, or for longer than the registration."""

from __future__ import annotations

from collections.abc import Iterator

from cowcatcher.audit.events import Advised, Event, Execed, Exited, Forked, Pinned, Range, Signalled
from cowcatcher.audit.family import Memory, Orphan, Process
from cowcatcher.audit.finding import Finding, Question, Severity
from cowcatcher.audit.ledger import Key
from cowcatcher.audit.pages import union
from cowcatcher.audit.pins import Pin
from cowcatcher.audit.rules.dontfork import blamed
from cowcatcher.audit.rules.forks import is_copy
from cowcatcher.audit.rules.rule import LISTED, Rule, Text, caller, first_page, key_of, program_of, whose
from cowcatcher.audit.rules.situations import Situations, gather
from cowcatcher.audit.story import Story, believed
from cowcatcher.audit.trail import Trail
from cowcatcher.audit.vmas import Seen

#: Living children that are asked whether they share a page.
ASKED = 16


class DontforkTooLate(Rule):
    name = "dontfork-too-late"
    text = Text(
        "MADV_DONTFORK was set on a registered buffer after a fork whose child still lives with these pages.",
        "MADV_DONTFORK says what the next fork() does. What an earlier one shared stays shared and write-protected.",
        "bytedance/byteps#54; openucx/ucx#4325; rdma-core's ibv_fork_init(3)",
    )
    wants = (Advised, Pinned)

    def see(self, story: Story, seen: Seen) -> None:
        process = story.process_of(seen.event.task)
        memory = process.memory
        if not memory.copies:
            return
        event = seen.event
        if isinstance(event, Advised) and event.advice == "DONTFORK":
            where = believed(event.range)
            for pin in memory.pins.over(where):
                if pin.is_registered:
                    self._check(story, seen, process, pin, where, seen.n)
        elif isinstance(event, Pinned):
            pin = Pin(seen, event, event.ranges)
            if pin.is_registered:
                for where in _under_dontfork(memory, pin):
                    kind = memory.space.at(where.start)
                    if kind is not None and kind.dontfork is not None:
                        self._check(story, seen, process, pin, where, kind.dontfork.n)

    def _check(self, story: Story, seen: Seen, process: Process, pin: Pin, where: Range, advised: int) -> None:
        """Does a child live that was forked before the advice, with a page of the pin in ``where``?"""
        part = pin.part_of(where)
        if part is None:
            return
        chain = _sharer(process.memory, part.start, advised)
        kind = process.memory.space.at(part.start)
        if not chain or kind is None or kind.private is False:
            return
        fork = chain[0]
        before = pin.seen.n < fork.n
        severity = Severity.WARNING if before else Severity.NOTE
        key = key_of(self.name, process, pin, before)
        pieces = [(piece, k) for piece, k in process.memory.space.over(part) if k is not None]
        found: Situations = {}
        gather(found, story, process, pin, pieces, seen, chain)
        if self.ledger.knows(key, severity):
            self.ledger.widen(key, found)
            return
        page = first_page(part, kind.page)
        order = "registered, forked, then protected" if before else "forked, then registered and protected"
        finding = Finding(
            self.name,
            severity,
            f"MADV_DONTFORK for {pin.interface} comes after the fork: {order}",
            process.pid,
            program_of(process),
            ranges=(part,),
            explanation=self.text.says + " " + self.text.matters,
            remedy="Set MADV_DONTFORK, or call ibv_fork_init(), before the fork; or fork first and map the buffer "
            "afterwards.",
            key=key,
        )
        pinned = pin.part_of(page) or page
        self.ledger.report(finding, Trail(story, Question.DEVICE_AND_OWNER, process, page, pinned, [pin], seen, chain))
        self.ledger.widen(key, found, is_new=True)


def _under_dontfork(memory: Memory, pin: Pin) -> Iterator[Range]:
    for r in pin.ranges:
        for piece, kind in memory.space.over(r):
            if kind is not None and kind.dontfork is not None:
                yield piece


def _sharer(memory: Memory, address: int, before: int) -> tuple[Seen, ...]:
    """The forks that lead to a living copy of this page, the first of them before event ``before``; () for none."""
    for number, (copy, chain) in enumerate(memory.descendants()):
        if number == ASKED:
            break
        if copy.users and chain and chain[0].n < before and memory.is_same_page(address, copy):
            return chain
    return ()


def _is_together(a: Event, b: Event) -> bool:
    """The watcher tells several events of one line where the kernel does several things in one go."""
    return (a.line, a.time) == (b.line, b.time)


class DoforkMissing(Rule):
    name = "dofork-missing"
    text = Text(
        "The last registration on these pages is over, the MADV_DONTFORK that was given for it is still in force, and "
        "the memory stays mapped.",
        "Whatever uses this memory next is missing in children: they get SIGSEGV there. And each such range keeps a "
        "mapping of its own, until vm.max_map_count is reached.",
        "kvcache-ai/Mooncake#3660; rdma-core#1129; rsocket in rdma-core#1222",
    )
    wants = (Forked, Signalled, Exited, Execed)

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        process = story.process_of(event.task)
        if isinstance(event, Signalled):
            self._signalled(story, seen, event)
        elif not process.memory.orphans:
            return
        elif isinstance(event, Forked):
            if is_copy(event):
                self._forked(story, seen, process)
        elif isinstance(event, Execed) or event.task == process.pid:
            self._over(process, event)

    def finish(self, story: Story) -> None:
        for process in list(story.known.values()):
            self._over(process)

    def _forked(self, story: Story, seen: Seen, process: Process) -> None:
        memory = process.memory
        if self.once(memory):
            return
        keys: dict[Key, None] = {}
        for first, orphans in memory.orphans.groups(memory):
            key = self._key(process, first)
            if key not in keys and not self.ledger.knows(key, Severity.WARNING):
                self._report(story, seen, process, list(orphans), Severity.WARNING)
            keys[key] = None
        self.remember(memory, list(keys))

    def _over(self, process: Process, end: Event | None = None) -> None:
        """What ended with the process itself was not left behind."""
        for key, all_orphans in self._groups(process).items():
            orphans = [o for o in all_orphans if end is None or not _is_together(o.gone.event, end)]
            if (
                orphans
                and not self.ledger.has_told(key, Severity.WARNING)
                and not self.ledger.knows(key, Severity.NOTE)
            ):
                self.ledger.report(self._finding(process, orphans, Severity.NOTE, key))

    def _groups(self, process: Process) -> dict[Key, list[Orphan]]:
        groups: dict[Key, list[Orphan]] = {}
        for first, orphans in process.memory.orphans.groups(process.memory):
            groups.setdefault(self._key(process, first), []).extend(orphans)
        return groups

    def _signalled(self, story: Story, seen: Seen, event: Signalled) -> None:
        blame = blamed(story, event)
        if blame is not None and blame.owner is not None and blame.orphan is not None:
            self._report(story, seen, blame.owner, [blame.orphan], Severity.ERROR, blame.way)

    def _report(
        self,
        story: Story,
        seen: Seen,
        process: Process,
        orphans: list[Orphan],
        severity: Severity,
        way: list[Seen] | None = None,
    ) -> Key:
        orphan = orphans[0]
        key = self._key(process, orphan)
        if self.ledger.knows(key, severity):
            return key
        page = first_page(orphan.range, orphan.pin_page)
        if isinstance(seen.event, Signalled):
            page = first_page(Range(seen.event.address, seen.event.address + 1), orphan.pin_page)
        pinned = orphan.pin.part_of(page) or page
        more = [orphan.advice, orphan.gone, *(way or [])]
        trail = Trail(story, Question.CHILD_READS_BUFFER, process, page, pinned, [orphan.pin], seen, more)
        return self.ledger.report(self._finding(process, orphans, severity, key), trail)

    def _key(self, process: Process, orphan: Orphan) -> Key:
        return key_of(self.name, process, orphan.pin, caller(orphan.advice.event.stack))

    def _finding(self, process: Process, orphans: list[Orphan], severity: Severity, key: Key) -> Finding:
        orphan = orphans[0]
        library = whose(orphan.advice.event.stack)
        by = f" by {library}" if library else ""
        after = {
            Severity.ERROR: ", and a child got a signal there",
            Severity.WARNING: ", and then the process forked",
        }.get(severity, "")
        return Finding(
            self.name,
            severity,
            f"MADV_DONTFORK{by} outlives the registration by {orphan.pin.interface}{after}",
            process.pid,
            program_of(process),
            ranges=tuple(union(o.range for o in orphans)[:LISTED]),
            explanation=self.text.says + " " + self.text.matters,
            remedy="madvise(MADV_DOFORK) when the last registration of the page is over, or unmap it. Free memory only "
            "after it was deregistered.",
            key=key,
        )

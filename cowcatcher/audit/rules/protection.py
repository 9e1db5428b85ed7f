"""Who switched fork protection on, and what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cowcatcher.audit.events import REGISTERED, Advised, CopiesAtFork, Execed, Exited, Forked, ForkInit, Range
from cowcatcher.audit.family import Process
from cowcatcher.audit.finding import Finding, Severity
from cowcatcher.audit.ledger import OTHERS, Key, Ledger
from cowcatcher.audit.pages import union
from cowcatcher.audit.pins import Pin
from cowcatcher.audit.rules.forks import is_copy
from cowcatcher.audit.rules.rule import Rule, Text, page_size, program_of, whose
from cowcatcher.audit.rules.situations import Situations, gather
from cowcatcher.audit.story import Story
from cowcatcher.audit.trail import Trail, moment, words
from cowcatcher.audit.vmas import Kind, Seen

#: Variables by which users ask for it.
SWITCHES = ("RDMAV_FORK_SAFE", "IBV_FORK_SAFE", "RDMAV_HUGEPAGES_SAFE", "FI_EFA_FORK_SAFE", "UCX_IB_FORK_INIT")
VERBS = "libibverbs"
LIBRARIES = 16
#: Pins that the model is asked about.
ASKED_ABOUT = (*REGISTERED, "dio_read", "dio_write")


@dataclass(slots=True)
class _Done:
    """What one process did about it: calls of MADV_DONTFORK by library, pins, and a fork under its protection."""

    advisers: dict[str, int] = field(default_factory=dict)
    first: Seen | None = None
    trail: Trail | None = None
    situations: Situations = field(default_factory=dict)
    stamp: int = -1


class ForkProtection(Rule):
    name = "fork-protection"
    text = Text(
        "Memory is being protected from fork: somebody called ibv_fork_init(), set a variable that does, or called "
        "madvise(MADV_DONTFORK).",
        "It costs a mapping for each registration, and takes whole pages from children. Kernels that copy pinned "
        "pages at fork do not need it: rdma-core since 35 can say so (ibv_is_fork_initialized()), and since 51 "
        "ibv_fork_init() does nothing there.",
        "libibverbs/memory.c; rdma-core 67b00c383, 5a11b68ca; ofiwg/libfabric#9792; 6cc9e215eb27 (the kernel's word)",
    )
    wants = (ForkInit, CopiesAtFork, Advised, Forked, Execed, Exited)

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._done: dict[int, _Done] = {}
        self._word: CopiesAtFork | None = None  # the kernel's
        self._children: set[int] = set()  # what they have of it is their parent's doing, until they exec

    def see(self, story: Story, seen: Seen) -> None:
        event = seen.event
        match event:
            case CopiesAtFork():
                self._word = event
            case ForkInit():
                self._done.setdefault(seen.pid, _Done())
            case Advised() if event.advice == "DONTFORK":
                done = self._done.setdefault(seen.pid, _Done())
                done.first = done.first or seen
                library = whose(event.stack)
                if library in done.advisers or len(done.advisers) < LIBRARIES:
                    done.advisers[library] = done.advisers.get(library, 0) + 1
            case Forked() if not event.thread:
                self._children.add(event.child)
                if is_copy(event):
                    self._forked(story, seen)
            case Execed() | Exited() if isinstance(event, Execed) or event.task == seen.pid:
                self._over(story, story.process_of(event.task))
                self._children.discard(seen.pid)

    def finish(self, story: Story) -> None:
        for process in list(story.known.values()):
            self._over(story, process)

    def _forked(self, story: Story, seen: Seen) -> None:
        """A fork over pages that are protected: what would it do without? Each sort of them once."""
        done = self._done.get(seen.pid)
        if done is None or done.first is None:
            return
        process = story.process_of(seen.event.task)
        memory = process.memory
        if done.stamp == memory.stamp and not memory.pins.transfers:
            return
        done.stamp = memory.stamp
        for pin in (*memory.pins.registered, *memory.pins.transfers):
            if pin.interface in ASKED_ABOUT:
                fresh: Situations = {}
                gather(fresh, story, process, pin, _protected(process, pin), seen)
                for key, make in fresh.items():
                    if key not in done.situations:
                        trail = make() if len(done.situations) <= OTHERS else None
                        done.trail = done.trail or trail
                        done.situations[key] = _given(trail) if trail is not None else make

    def _over(self, story: Story, process: Process) -> None:
        done = self._done.pop(process.pid, None)
        inits = [s for s in process.fork_inits if s.pid == process.pid]
        switches = [f"{name}={value}" for name, value in process.env if name in SWITCHES]
        verbs = VERBS in process.libraries or process.verbs > 0 or bool(inits)
        inherited = process.pid in self._children and not process.verbs
        if not inits and not (switches and verbs and not inherited) and (done is None or not done.advisers):
            return
        done = done or _Done()
        if not verbs and not (process.registered or process.transfers) and set(done.advisers) == {program_of(process)}:
            return  # the program's own doing, for reasons of its own
        key: Key = (self.name, program_of(process))
        failed = [s for s in inits if isinstance(s.event, ForkInit) and s.event.result != 0]
        severity = Severity.WARNING if failed else Severity.NOTE
        if self.ledger.knows(key, severity):
            self.ledger.widen(key, done.situations)
            return
        known = _known(process, done, inits, switches)
        if self._word and verbs:
            known.append(f"{words(self._word)}.")
        shown = tuple(moment(s) for s in (*inits, *([done.first] if done.first else [])))
        finding = Finding(
            self.name,
            severity,
            _title(process, inits, failed, switches if verbs else [], done),
            process.pid,
            program_of(process),
            timeline=tuple(sorted(shown, key=lambda m: (m.line, m.time))) if done.trail is None else (),
            explanation=" ".join([self.text.says, *known, self.text.matters]),
            remedy="ibv_fork_init() goes before the first registration, in a process that forks without exec. Where it "
            "is not needed, unset the variable, or do not call it.",
            key=key,
        )
        key = self.ledger.report(finding, done.trail)
        self.ledger.widen(key, done.situations, is_new=True)


def _protected(process: Process, pin: Pin) -> Iterator[tuple[Range, Kind | None]]:
    for r in union(pin.ranges):
        for piece, kind in process.memory.space.over(r.pages(page_size(process.memory, r))):
            if kind is not None and kind.dontfork is not None and kind.private is not False:
                yield piece, kind


def _given(trail: Trail) -> Callable[[], Trail]:
    return lambda: trail


def _title(process: Process, inits: list[Seen], failed: list[Seen], switches: list[str], done: _Done) -> str:
    if failed:
        event = failed[0].event
        assert isinstance(event, ForkInit)
        return f"ibv_fork_init(){_by(failed[0])} failed with {event.result}: it comes too late, or the kernel refused"
    if switches and (not inits or _is_by_itself(inits[0])):
        return f"RDMA fork protection was switched on by the environment: {', '.join(switches)}"
    if inits:
        return f"RDMA fork protection was switched on{_by(inits[0])}"
    who = ", ".join(name for name in done.advisers if name) or "the program"
    if process.registered or process.transfers:
        return f"{who} protects memory from fork with MADV_DONTFORK"
    return f"{who} calls MADV_DONTFORK; no pin was seen, so what for is not known"


def _is_by_itself(seen: Seen) -> bool:
    """libibverbs calls ibv_fork_init() when the list of devices is asked for, if the environment says so."""
    callers = [whose((frame,)) for frame in seen.event.stack if not frame.startswith(f"{VERBS}.so.1!ibv_fork_init")]
    return bool(callers) and VERBS in callers[0]


def _by(seen: Seen) -> str:
    event = seen.event
    assert isinstance(event, ForkInit)
    who = event.by or next((w for w in (whose((frame,)) for frame in event.stack) if w and VERBS not in w), "")
    return f" by {who}" if who else ""


def _known(process: Process, done: _Done, inits: list[Seen], switches: list[str]) -> list[str]:
    """What was seen, a sentence each."""
    said = []
    if VERBS in process.libraries:
        said.append(f"{VERBS} is of rdma-core {process.libraries[VERBS]}.")
    if switches:
        said.append(f"The environment has {', '.join(switches)}.")
    for name, count in done.advisers.items():
        said.append(f"madvise(MADV_DONTFORK) was called {count} times by {name or 'somebody (no stack was taken)'}.")
    succeeded = any(isinstance(s.event, ForkInit) and s.event.result == 0 for s in inits)
    if succeeded and process.verbs and not done.advisers:
        said.append("Nothing was marked all the same: rdma-core found that this kernel copies pinned pages at fork.")
    return said

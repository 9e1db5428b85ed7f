"""From a test to the text that the agent executes, and from the agent's text back to what happened.

The text, one item a line, all numbers decimal unless said otherwise:

    test ID TIMEOUT_MS TRACE            begins a test; TRACE 1: pages after every step, not only after the last
    actor p|t|d OWNER                   in order, from 0; actor 0 is the first process; OWNER: a thread's process
    batched                             the per-CPU LRU batches are not flushed before each step
    map KIND TOUCH PAGES STRIDE LENGTH PROT      in order, from 0; TOUCH w, r or -; sizes in bytes; PROT as mprotect()
    cell MAPPING OFFSET VALUE           an initial value, in every page of the mapping
    pin BACKEND w|r                     in order, from 0; w: the device may write
    step ACTOR OP MAPPING PAGE OFFSET TARGET VALUE FATAL
                                        PAGE -1: the whole mapping; TARGET: an actor, event or pin; FATAL 1: a SIGSEGV
                                        ends the process
    run                                 executes it, in the order of its steps
    race RUNS SEED                      executes it RUNS times, every actor its own steps by itself (agent/race.c)

and the answers:

    test ID
    setup MAPPING WHAT ANSWER NUMBER    a preparation did not succeed
    lacks BACKEND WORDS                 what this machine lacks for a pin of the test
    pin STEP PIN PAGE PFN               the frame behind a pin when it was taken; PFN hexadecimal, 0: not to be had
    step STEP ANSWER NUMBER             ANSWER value, error (errno), signal, killed, not_run (its process is gone),
                                        blocked (waits for what can no longer come), iommu_fault
    page STEP ACTOR MAPPING PAGE STATE PFN MAPCOUNT FLAGS
                                        STATE present, swapped, empty (mapped, no page yet), none, unknown; PFN and
                                        FLAGS hexadecimal, 0: not to be had
    end ACTOR exit|signal NUMBER        a process that ended by itself
    done ID done|setup|timeout|waits STEP MICROSECONDS
                                        waits: a process would end, and wait for its direct I/O first

and those of a race:

    test ID
    at RUNS                             so many were made: a sign of life
    hangs ACTOR STEP                    the time was over, and this one was in the middle of a step
    outcome COUNT FIRST                 so many runs ended like this, the first of them being run FIRST; lines as above
                                        follow, with one more answer, refused (a device asked to use what is released
                                        already), and with frames that are numbered, not named
    uncounted COUNT                     so many runs ended in yet other ways
    done ID done|setup|timeout RUNS MICROSECONDS
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from cowcatcher.litmus.ast import Flags, Mapping, Name, Number, Place, Statement, Test
from cowcatcher.litmus.order import NoOrder, OrderedStep, argument, ordered
from cowcatcher.litmus.printer import statement_text
from cowcatcher.litmus.statements import SIGNATURES
from cowcatcher.real.backends import BACKENDS, DIRECT_IO, OWN, Backend, Class, choose

PAGE: Final = 4096
HUGE_PAGE: Final = 2 << 20
SECTOR: Final = 512
#: Cells of a page lie this far apart: a device that moves whole sectors leaves the others alone.
CELL_DISTANCE: Final = SECTOR
WHOLE: Final = -1
MAX_EVENTS: Final = 16

ADVICE: Final = {
    "DONTNEED": 4, "FREE": 8, "DONTFORK": 10, "DOFORK": 11, "MERGEABLE": 12, "UNMERGEABLE": 13, "HUGEPAGE": 14,
    "WIPEONFORK": 18, "KEEPONFORK": 19, "PAGEOUT": 21, "POPULATE_READ": 22, "POPULATE_WRITE": 23, "COLLAPSE": 25,
}  # fmt: skip
PROT: Final = {"NONE": 0, "R": 1, "RW": 3}

#: What takes long-term pins.
REGISTRATIONS: Final = {"io_uring_register", "ibv_reg_mr", "vfio_map", "xdp_umem"}
DIRECT: Final = {"dio_read", "dio_write"}
PLAIN: Final = {
    "load", "store", "fork", "vfork", "exit", "exec", "wait", "post", "await", "munmap", "mprotect", "mremap", "mlock",
    "madvise", "clear_refs", "uffd_wp", "uffd_wp_resolve", "unpin", "dma_read", "dma_write", "ksm_scan",
    "migrate",
}  # fmt: skip
REMOTE: Final = {
    "process_vm_readv": "vm_read", "process_vm_writev": "vm_write", "peek": "mem_read", "poke": "mem_write",
}  # fmt: skip


class NotApplicable(Exception):
    """This test cannot be run here; the text names the statement and what is missing."""


@dataclass(frozen=True, slots=True)
class Race:
    """How a test is raced: so many times, with delays drawn from ``seed``."""

    runs: int = 1000
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Facilities:
    """What the machine that will run the test has, as far as lowering depends on it."""

    swap: bool = False
    soft_dirty: bool = False
    huge_pages: bool = True  # in the pool, free
    #: Each backend, and what the machine lacks for it: "" if nothing.
    backends: abc.Mapping[str, str] = field(default_factory=lambda: {"uring": "", "pipe": ""})
    #: Which of them to take where there is a choice.
    prefer: tuple[str, ...] = ()
    #: What the machine lacks for ksm_scan(): "" if nothing.
    ksm: str = "ksmd, a daemon, would scan every process of this machine; a virtual machine (--on) can do it"
    nodes: int = 1  # of memory

    @classmethod
    def of_virtual(cls, backends: abc.Mapping[str, str], prefer: Sequence[str] = ()) -> Facilities:
        """What a virtual machine has, for all that is known before it has told."""
        return cls(swap=True, soft_dirty=True, backends=backends, prefer=tuple(prefer), ksm="", nodes=2)

    def __hash__(self) -> int:
        backends = frozenset(self.backends.items())
        return hash((self.swap, self.soft_dirty, self.huge_pages, backends, self.prefer, self.ksm, self.nodes))


class LoweredStep(NamedTuple):
    step: OrderedStep
    pin: int  # number of the pin it takes or uses, or -1


@dataclass(frozen=True, slots=True)
class Lowered:
    """A test for the agent: its text without the first and last line, and what the numbers in it mean."""

    test: Test
    lines: tuple[str, ...]
    steps: tuple[LoweredStep, ...]
    actors: tuple[str, ...]
    pins: tuple[tuple[str, Place], ...]  # name ("" if it has none) and what was pinned
    backends: tuple[str, ...]  # of each pin
    stand_ins: tuple[str, ...]
    notes: tuple[str, ...]
    race: Race | None = None

    def text(self, number: int, timeout: float, trace: bool) -> str:
        command = f"race {self.race.runs} {self.race.seed}" if self.race else "run"
        return "\n".join([f"test {number} {round(timeout * 1000)} {int(trace)}", *self.lines, command, ""])


def lower_each(tests: Iterable[Test], facilities: Facilities, race: Race | None = None) -> Iterator[Lowered | str]:
    """Each of them lowered, or why it is not applicable. What is the same test as the one before is lowered once."""
    last: Test | None = None
    form: Lowered | str = ""
    for test in tests:
        if test is not last:
            last = test
            try:
                form = lower(test, facilities, race)
            except (NotApplicable, NoOrder) as error:
                form = str(error)
        yield form


def lower(test: Test, facilities: Facilities | None = None, race: Race | None = None) -> Lowered:
    """Raises :class:`NotApplicable`, or ``NoOrder`` where the test is not to be raced and has no ordered form."""
    here = facilities or Facilities()
    steps = (
        ordered(test)
        if race is None
        else [OrderedStep(a.name, i, statement) for a in test.actors for i, statement in enumerate(a.body)]
    )

    def result(first_cell: int, spans: abc.Mapping[str, int]) -> Lowered:
        return _Lowering(test, here, first_cell=first_cell, spans=spans, racing=race is not None).result(steps)

    lowered = result(0, {})
    headroom = max((BACKENDS[name].headroom for name in lowered.backends), default=0)
    if any(BACKENDS[name].kind in DIRECT_IO.values() for name in lowered.backends):
        headroom = -(-headroom // SECTOR) * SECTOR  # whatever else is pinned, direct I/O begins at a whole sector
    spans = {
        place.name: BACKENDS[name].span
        for (_, place), name in zip(lowered.pins, lowered.backends, strict=True)
        if BACKENDS[name].span
    }
    return replace(result(headroom, spans) if headroom else lowered, race=race)


@dataclass
class _Lowering:
    test: Test
    facilities: Facilities
    first_cell: int = 0  # where in its page
    spans: abc.Mapping[str, int] = field(default_factory=dict)  # of which mapping a pin covers more than its page
    lines: list[str] = field(default_factory=list)
    pins: list[tuple[str, Place]] = field(default_factory=list)
    backends: list[tuple[Backend, bool]] = field(default_factory=list)  # of each pin, and whether the device may write
    pin_numbers: dict[str, int] = field(default_factory=dict)
    taken: dict[tuple[str, int], int] = field(default_factory=dict)  # in a race, by the statement that takes the pin
    released: set[str] = field(default_factory=set)
    scattered: set[str] = field(default_factory=set)  # mappings whose pages mremap() moved one by one
    protected: set[str] = field(default_factory=set)  # mappings that mprotect() has taken a permission from
    events: list[str] = field(default_factory=list)
    stand_ins: list[str] = field(default_factory=list)
    racing: bool = False

    def result(self, schedule: Sequence[OrderedStep]) -> Lowered:
        # The agent's actor 0 is the first process, wherever it stands in the text.
        first = next((a for a in self.test.actors if a.kind == "process"), None)
        if first is None:
            raise NotApplicable("the test has no process")
        order = [first, *(a for a in self.test.actors if a is not first)]
        self.actors = [a.name for a in order]
        for i, actor in enumerate(order):
            owner = self.actors.index(actor.process) if actor.kind == "thread" else i
            self.lines.append(f"actor {actor.kind[0]} {owner}")
        self._leave_batches()
        for mapping in self.test.memory:
            self._map(mapping)
        before = len(self.lines)
        if self.racing:
            self._prepare_race(schedule)
        steps = [self._step(step) for step in schedule]
        self.lines[before:before] = [f"pin {b.name} {'w' if writable else 'r'}" for b, writable in self.backends]
        how = "nothing made it happen" if self.racing else "did not happen by itself in an ordered run"
        notes = [f"kernel may {k.action}: {how}" for k in self.test.kernel_may]
        return Lowered(
            self.test, tuple(self.lines), tuple(steps), tuple(self.actors), tuple(self.pins),
            tuple(b.name for b, _ in self.backends),
            tuple(dict.fromkeys(self.stand_ins)), tuple(notes),
        )  # fmt: skip

    # --- memory -------------------------------------------------------------------------------------------------

    def _leave_batches(self) -> None:
        """Pages just touched are in a CPU's batch, all of them or none: it is flushed as a whole."""
        batched = [m.name for m in self.test.memory if "batched" in m.flags]
        if batched and len(batched) < len(self.test.memory):
            raise NotApplicable(
                f"{batched[0]} is batched and others are not: the per-CPU LRU batches are flushed whole"
            )
        if batched and sum(a.kind == "process" for a in self.test.actors) > 1:
            raise NotApplicable(
                f"{batched[0]} is batched: a process that ends flushes its CPU's batches, and all share one"
            )
        if batched:
            self.lines.append("batched")

    def _map(self, mapping: Mapping) -> None:
        if "crowded" in mapping.flags:
            raise NotApplicable(f"{mapping.name} is crowded: that needs 1024 further processes")
        if mapping.kind.startswith("hugetlb") and not self.facilities.huge_pages:
            raise NotApplicable(f"{mapping.name}: no huge page to be had (see /proc/sys/vm/nr_hugepages)")
        kind = "thp" if "thp" in mapping.flags else mapping.kind.removesuffix("_zero")
        stride = HUGE_PAGE if kind.startswith("hugetlb") else PAGE
        length = HUGE_PAGE if self._wants_huge_page(mapping) else mapping.pages * stride
        length = max(length, self.spans.get(mapping.name, 0))
        touch = "r" if mapping.kind == "anon_zero" else "w" if mapping.cells and mapping.kind != "file_private" else "-"
        number = self.test.memory.index(mapping)
        self.lines.append(f"map {kind} {touch} {mapping.pages} {stride} {length} {PROT[mapping.prot]}")
        for i, (_, value) in enumerate(mapping.cells):
            self.lines.append(f"cell {number} {self.first_cell + i * CELL_DISTANCE} {value}")

    def _wants_huge_page(self, mapping: Mapping) -> bool:
        """Does the mapping have to be as large as a huge page, with the pages of the test at its beginning?"""
        if "thp" in mapping.flags:
            return True
        return mapping.kind in ("anon", "anon_zero", "shared_anon") and self._advised(mapping, {"HUGEPAGE", "COLLAPSE"})

    def _advised(self, mapping: Mapping, advice: set[str]) -> bool:
        """Is some of this advice given about the mapping?"""
        given = (s for a in self.test.actors for s in a.body if s.op == "madvise" and argument(s) == mapping.name)
        return any(argument(s, 1) in advice for s in given)

    def _mapping(self, place: Place) -> tuple[int, Mapping]:
        for i, mapping in enumerate(self.test.memory):
            if mapping.name == place.name:
                return i, mapping
        raise NotApplicable(f"there is no mapping named {place.name}")

    def _cell_offset(self, mapping: Mapping, place: Place) -> int:
        names = [name for name, _ in mapping.cells]
        return self.first_cell + (names.index(place.cell) * CELL_DISTANCE if place.cell else 0)

    # --- statements ---------------------------------------------------------------------------------------------

    def _step(self, step: OrderedStep) -> LoweredStep:
        statement = step.statement
        op, text = statement.op, statement_text(statement)
        mapping = page = offset = target = value = 0
        pin = -1
        place = next((a for a in statement.args if isinstance(a, Place)), None)
        number = next((a.value for a in statement.args if isinstance(a, Number)), 0)
        if op == "clear_refs" and not self.facilities.soft_dirty:
            raise NotApplicable(f"{text}: this kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)")
        if op == "migrate" and self.facilities.nodes < 2:
            raise NotApplicable(
                f"{text}: no second memory node here; a virtual machine (--on) has one if its kernel has (CONFIG_NUMA)"
            )
        if op == "ksm_scan" and self.facilities.ksm:
            raise NotApplicable(f"{text}: {self.facilities.ksm}")
        if op in ("dma_read", "dma_write", "unpin"):
            assert place is not None
            pin = target = self._used_pin(statement, place)
            _, what = self._mapping(self.pins[pin][1])
            page, offset, value = place.index or 0, self._cell_offset(what, place), number
        elif op in ("post", "await"):
            target = self._event(argument(statement))
        elif op in ("fork", "vfork", "wait"):
            target = self.actors.index(argument(statement))
            if op == "vfork" and any(a.kind == "thread" and a.process == argument(statement) for a in self.test.actors):
                raise NotApplicable(f"{text}: a vfork child with threads would run them in its parent")
        elif op == "exec" and self._is_thread(step.actor):
            raise NotApplicable(f"{text} in thread {step.actor}: only a process's first thread can do that here")
        elif place is not None:
            mapping, what = self._mapping(place)
            word = op in ("load", "store", *REMOTE)
            whole = (place.index is None or what.name in self.spans) and not word
            page, value = WHOLE if whole else place.index or 0, number
            offset = self._cell_offset(what, place) if word else 0
            if what.name in self.scattered and whole:
                raise NotApplicable(f"{text}: pages of {what.name} were moved one by one and lie scattered")
            if op in REMOTE:
                op, target = REMOTE[op], self.actors.index(argument(statement, 0))
            elif op == "mremap" and not whole and what.pages > 1:
                self.scattered.add(what.name)
            elif op == "mprotect":
                value = PROT[argument(statement, 1)]
                if argument(statement, 1) != "RW":
                    self.protected.add(what.name)
            elif op == "madvise":
                value = self._advice(statement)
            elif op not in PLAIN:
                op, pin = "pin", self._taken_pin(step, what, place)
                target = pin
        elif op not in PLAIN:
            raise NotApplicable(f"{text}: the agent has no such statement")
        fatal = int(op in ("load", "store") and statement.target is None)
        actor = self.actors.index(step.actor)
        self.lines.append(f"step {actor} {op} {mapping} {page} {offset} {target} {value} {fatal}")
        return LoweredStep(step, pin)

    def _is_thread(self, actor: str) -> bool:
        return any(a.name == actor and a.kind == "thread" for a in self.test.actors)

    def _event(self, name: str) -> int:
        if name not in self.events:
            self.events.append(name)
        if len(self.events) > MAX_EVENTS:
            raise NotApplicable(f"more than {MAX_EVENTS} events")
        return self.events.index(name)

    def _advice(self, statement: Statement) -> int:
        name = argument(statement, 1)
        if name == "PAGEOUT" and not self.facilities.swap:
            raise NotApplicable(f"{statement_text(statement)}: without swap nothing is paged out (see swapon(8))")
        return ADVICE[name]

    # --- pins ---------------------------------------------------------------------------------------------------

    def _backend(self, statement: Statement, mapping: Mapping) -> tuple[Backend, bool]:
        """Which of the agent's ways to hold a page this statement is, and whether the device may write then."""
        op, text = statement.op, statement_text(statement)
        flags = next((set(a.names) for a in statement.args if isinstance(a, Flags)), set[str]())
        forces = False
        if op in ("vmsplice", "get"):
            kind, writable = Class.PLAIN, "WRITE" in flags
            if flags & {"WRITE", "FORCE", "LONGTERM"}:
                raise NotApplicable(f"{text}: the only FOLL_GET reference to be had here is vmsplice's, for reading")
        elif op in REGISTRATIONS:
            kind, writable = Class.LONGTERM, len(statement.args) == 1
            forces = op == "ibv_reg_mr"
        elif op == "odp_reg_mr":
            kind, writable = Class.ODP, True
        elif op == "pin":
            kind, writable = Class.LONGTERM, "WRITE" in flags
            if "LONGTERM" not in flags:
                raise NotApplicable(f"{text}: which interface takes short-term pins depends on the kernel")
            forces = "FORCE" in flags
        elif op in DIRECT:
            names = [a.text for a in statement.args if isinstance(a, Name)]
            kind, writable = DIRECT_IO[names[0] if names else "BLOCK"], op == "dio_read"
        else:
            raise NotApplicable(f"{text}: the agent has no such statement")
        usable = [name for name, lack in self.facilities.backends.items() if not lack]
        if self._advised(mapping, {"FREE"}):  # what then becomes of a page depends on who marks it dirty
            usable = [name for name in usable if BACKENDS[name].dirties == (op != "io_uring_register")]
        own, prefer = OWN.get(op, ""), self.facilities.prefer
        backend = choose(
            kind, writable, usable, own=own, forces=(forces and writable) or op == "ibv_reg_mr", prefer=prefer
        )
        if backend is None:
            raise NotApplicable(f"{text}: {self._none_of(kind, writable)}")
        if backend.name == "pipe" and mapping.kind.startswith("hugetlb") and mapping.pages > 1:
            raise NotApplicable(f"{text}: a pipe has too few slots for huge pages")
        if op == "ibv_reg_mr" and not writable and backend.name != OWN[op]:
            raise NotApplicable(f"{text}: older kernels pin it for writing all the same, {backend.what} does not")
        if forces and not backend.forces and self._may_be_unwritable(mapping):
            raise NotApplicable(f"{text}: {backend.what} does not override a protection, as this pin does (FOLL_FORCE)")
        if backend.span:
            self._refuse_to_span(text, backend, mapping)
        if backend.may_force and self._is_unwritable(mapping):
            raise NotApplicable(f"{text}: some kernels let {backend.what} override a protection, some do not")
        if kind in (Class.LONGTERM, Class.PLAIN) and backend.name != OWN.get(op):
            self.stand_ins.append(f"{backend.what} for {text}")
        return backend, writable

    def _may_be_unwritable(self, mapping: Mapping) -> bool:
        protects = (s for a in self.test.actors for s in a.body if s.op == "mprotect" and argument(s) == mapping.name)
        return mapping.prot == "R" or any(argument(s, 1) != "RW" for s in protects)

    def _is_unwritable(self, mapping: Mapping) -> bool:
        """May it be, when the pin is taken?"""
        if self.racing:
            return self._may_be_unwritable(mapping)
        return mapping.prot == "R" or mapping.name in self.protected

    def _refuse_to_span(self, text: str, backend: Backend, mapping: Mapping) -> None:
        if mapping.pages > 1:
            raise NotApplicable(f"{text}: {backend.what} covers {backend.span} bytes, more than the pages of a mapping")
        if len(mapping.cells) > 1:
            raise NotApplicable(f"{text}: {backend.what} writes a whole picture, which has room for one cell")

    def _prepare_race(self, schedule: Sequence[OrderedStep]) -> None:
        """The pins come first: an actor may use one that stands before the actor that takes it."""
        for step in schedule:
            self._refuse_in_race(step)
            statement = step.statement
            if SIGNATURES[statement.op].gives != "pin":
                continue
            if statement.target in self.pin_numbers:
                raise NotApplicable(f"{statement_text(statement)}: the name is taken; a race needs one for each pin")
            place = next(a for a in statement.args if isinstance(a, Place))
            self.taken[step.actor, step.index] = self._new_pin(
                statement, place, *self._backend(statement, self._mapping(place)[1])
            )

    def _taken_pin(self, step: OrderedStep, mapping: Mapping, place: Place) -> int:
        if (step.actor, step.index) in self.taken:
            return self.taken[step.actor, step.index]
        return self._new_pin(step.statement, place, *self._backend(step.statement, mapping))

    def _refuse_in_race(self, step: OrderedStep) -> None:
        """What the agent cannot do while others do something else. Raises :class:`NotApplicable`."""
        statement, text = step.statement, statement_text(step.statement)
        actors = {a.name: a for a in self.test.actors}
        process = actors[step.actor].process
        if statement.op == "ksm_scan":
            raise NotApplicable(f"{text}: a whole scan takes longer than a race")
        if statement.op in ("dma_read", "dma_write") and actors[step.actor].kind != "device":
            raise NotApplicable(f"{text} in {step.actor}: only a device accesses memory through a pin here")
        if statement.op != "mremap":
            return
        moved = argument(statement)
        for other in (a for a in self.test.actors if a.name != step.actor):
            for s in other.body:
                remote = s.op in REMOTE and argument(s, 0) == process and argument(s, 1) == moved
                names = any(isinstance(a, Place) and a.name == moved for a in s.args) or s.op == "fork"
                if remote or (other.kind == "thread" and other.process == process and names):
                    raise NotApplicable(f"{text}: {other.name} may use an address that is moved at that moment")

    def _new_pin(self, statement: Statement, place: Place, backend: Backend, writable: bool) -> int:
        number = len(self.pins)
        self.pins.append((statement.target or "", place))
        self.backends.append((backend, writable))
        if statement.target:
            self.pin_numbers[statement.target] = number
            self.released.discard(statement.target)
        return number

    def _used_pin(self, statement: Statement, place: Place) -> int:
        number, text = self.pin_numbers.get(place.name), statement_text(statement)
        if number is None:
            raise NotApplicable(f"{text}: in the ordered form {place.name} is not taken before it is used")
        if statement.op == "unpin":
            self.released.add(place.name)
        backend, writable = self.backends[number]
        late = backend.late or self.racing  # in a race it shows while it runs
        if place.name in self.released and statement.op != "unpin" and not late:
            raise NotApplicable(f"{text}: {backend.what} refuses to use memory once it is released")
        if statement.op == "dma_write" and not writable:
            raise NotApplicable(f"{text}: {backend.what} only reads this memory")
        if statement.op == "dma_read" and backend.span:
            raise NotApplicable(f"{text}: {backend.what} reads no memory")
        if statement.op == "dma_read" and backend.kind in DIRECT_IO.values() and writable:
            raise NotApplicable(f"{text}: a direct read writes memory and does not read it")
        return number

    def _none_of(self, kind: Class, writable: bool) -> str:
        """Nothing here takes such a pin: what would, and why it does not."""
        asked = set(self.facilities.prefer)
        able = [b for b in BACKENDS.values() if b.kind is kind and (b.writes if writable else b.reads)]
        able = [b for b in able if not b.asked or b.name in asked]
        there = {b.name: self.facilities.backends.get(b.name, "not on this machine") for b in able}
        lacks = [f"{BACKENDS[name].what}: {lack}" for name, lack in there.items() if lack]  # the rest is no stand-in
        what = f"{'writable' if writable else 'read-only'} {kind}"
        return f"no {what} is to be had here ({'; '.join(lacks) or 'no way to take one is known'})"

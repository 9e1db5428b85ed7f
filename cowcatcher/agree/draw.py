"""Random stories over all that a machine and the model both have; the same one for the same seed and facilities.

Each statement is drawn for somebody who can execute it then, and so that they meet: few pages, forks and pins more
often than anything else. Whether a statement can be drawn at all is asked of the model and of ``real.lower``: what
either of them learns is drawn from then on.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from cowcatcher.agree.story import Cast, Step, Story
from cowcatcher.explore.program import NotModelled, compile_test
from cowcatcher.litmus.ast import Actor, Arg, Flags, Mapping, Name, Number, Place, Statement, Test
from cowcatcher.litmus.names import read_only_because
from cowcatcher.litmus.order import argument
from cowcatcher.litmus.statements import FILESYSTEMS, SIGNATURES, Param
from cowcatcher.real.lower import Facilities, NotApplicable, lower

_KINDS: Final = ("anon",) * 8 + ("shared_anon", "file_private", "file_private", "file_shared", "memfd")
#: One time in so many, where there are such; each test has a few, and the pool is small.
_HUGE_KINDS: Final = ("hugetlb_private", "hugetlb_private", "hugetlb")
_HUGE_SHARE: Final = 0.08
#: (statement, weight): forks and pins more often than their share, so that they meet.
_ACTIONS: Final = (
    ("store", 7), ("load", 6), ("fork", 16), ("madvise", 6), ("pin", 4), ("remote", 4), ("mprotect", 3),
    ("munmap", 1.5), ("mlock", 1.5), ("mremap", 1), ("unpin", 1), ("exit", 1.5), ("wait", 3), ("exec", 0.3),
    ("clear_refs", 2), ("uffd_wp", 1.5), ("ksm_scan", 2), ("migrate", 2),
)  # fmt: skip
#: HUGEPAGE is not among them: the model takes it for advice that small pages do not heed.
_ADVICE: Final = (
    "DONTFORK", "DOFORK", "WIPEONFORK", "KEEPONFORK", "DONTNEED", "DONTNEED", "FREE", "POPULATE_READ", "POPULATE_WRITE",
)  # fmt: skip
_SWAP_ADVICE: Final = ("PAGEOUT",) * 6 + ("FREE",) * 2
#: Pins drawn more often than others.
_PIN_WEIGHTS: Final = {"io_uring_register": 4, "vmsplice": 4}
_REMOTE_READS: Final = ("process_vm_readv", "peek")
_REMOTE_WRITES: Final = ("process_vm_writev", "poke")
_PRIVATE_ANON: Final = ("anon", "anon_zero")
_DIRECT: Final = ("dio_read", "dio_write")
_MOST_PINS: Final = 4


def random_story(seed: int | str, facilities: Facilities) -> Story:
    """What could happen on a machine with these facilities."""
    return _Teller(random.Random(f"story {seed}"), facilities).story()


@functools.lru_cache(maxsize=4096)
def on_both_sides(statement: Statement, mapping: Mapping, facilities: Facilities) -> bool:
    """Do the model and a machine with these facilities have this statement, done to this kind of memory?"""
    test = Test("t", memory=(mapping,), actors=(Actor("process", "p", "p", (statement,)),))
    try:
        lower(test, facilities)
        compile_test(test)
    except (NotApplicable, NotModelled):
        return False
    return True


@functools.lru_cache(maxsize=256)
def pins_of(mapping: Mapping, facilities: Facilities) -> dict[str, tuple[tuple[Arg, ...], ...]]:
    """The pins that can be taken on this kind of memory: statement -> what may stand behind the place."""
    found: dict[str, tuple[tuple[Arg, ...], ...]] = {}
    place = Place(mapping.name)
    for op, signature in SIGNATURES.items():
        if signature.gives == "pin":
            ways = itertools.product(*(tuple(_arguments(param)) for param in signature.params[1:]))
            several = (tuple(arg for arg in way if arg is not None) for way in ways)
            able = tuple(w for w in several if on_both_sides(Statement(op, (place, *w), "m"), mapping, facilities))
            if able:
                found[op] = able
    return found


def _arguments(param: Param) -> Iterator[Arg | None]:
    """What may stand in this position behind a pin's place; None for nothing."""
    if param.optional:
        yield None
    match param.kind:
        case "READONLY":
            yield Name("READONLY")
        case "FILESYSTEM":
            yield from map(Name, FILESYSTEMS)
        case "GUP_FLAGS":
            for access, *more in itertools.product(("READ", "WRITE"), ("", "FORCE"), ("", "LONGTERM"), ("", "FAST")):
                yield Flags((access, *filter(None, more)))
        case _:
            raise AssertionError(f"{param.kind} behind the place of a pin")


def _shape(mapping: Mapping) -> Mapping:
    """What decides over what can be done to a mapping, and nothing else."""
    return Mapping("x", mapping.kind, (("", 1),) if mapping.cells else (), 1, mapping.prot, mapping.flags)


@dataclass
class _Teller:
    rng: random.Random
    facilities: Facilities
    memory: list[Mapping] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    owner: dict[str, str] = field(default_factory=dict)
    told: list[Step] = field(default_factory=list)
    registers: int = 0
    cast: Cast = field(init=False)

    def story(self) -> Story:
        rng = self.rng
        self.memory = self.some_memory()
        self.processes = ["p", "q", "s"][: rng.choices((1, 2, 3), (2, 5, 3))[0]]
        self.owner = {process: process for process in self.processes}
        for thread in ("t", "u")[: rng.choices((0, 1, 2), (6, 3, 1))[0]]:
            self.owner[thread] = rng.choice(self.processes)
        for device in ("d", "e")[: rng.choices((1, 2), (4, 1))[0]]:
            self.owner[device] = ""
        self.cast = Cast(self.owner)
        for _ in range(rng.randint(4, 14)):
            actor = rng.choice(self.cast.able())
            for statement in self.next_statements(actor):
                self.told.append(Step(actor, statement))
                self.cast.after(self.told[-1])
        self.a_last_look()
        return Story(tuple(self.memory), self.owner, tuple(self.told))

    def a_last_look(self) -> None:
        """Every process that is still there reads all it has."""
        self.told += self.cast.vfork_ends()
        for process in [p for p in self.processes if p in self.cast.born]:
            for mapping in self.memory:
                for page in range(mapping.pages):
                    place = self.cell_of(Place(mapping.name, page if mapping.pages > 1 else None), mapping)
                    self.told.append(Step(process, Statement("load", (place,), self.register(process))))

    # --- memory and places --------------------------------------------------------------------------------------------

    def some_memory(self) -> list[Mapping]:
        """One to three pages in one or two mappings.

        Files have contents, and so has shared memory of several pages: which neighbours of a page are mapped along with
        it depends on what the page cache has by then, and in the model on what it had at the beginning.
        """
        rng = self.rng
        several = rng.random() < 0.25
        sizes = [rng.randint(2, 3) if rng.random() < 0.3 else 2 if several else 1]
        if rng.random() < 0.15:
            sizes.append(1)
        return [self.mapping(name, pages) for name, pages in zip("xy", sizes, strict=False)]

    def mapping(self, name: str, pages: int) -> Mapping:
        rng = self.rng
        kind = rng.choice(_KINDS)
        cells: tuple[tuple[str, int], ...] = (("", rng.randint(1, 3)),)
        if rng.random() < _HUGE_SHARE and self.has_huge_pages():
            return Mapping(name, rng.choice(_HUGE_KINDS), cells)
        if rng.random() < 0.2:
            cells = (("a", rng.randint(0, 3)), ("b", rng.randint(0, 3)))
        elif rng.random() < 0.15 and kind in ("anon", "shared_anon") and (pages == 1 or kind == "anon"):
            cells = ()
        if kind == "anon" and not cells and rng.random() < 0.5:
            kind = "anon_zero"
        prot: Literal["R", "RW"] = "R" if rng.random() < 0.1 else "RW"
        return Mapping(name, kind, cells, pages, prot)

    def has_huge_pages(self) -> bool:
        load = Statement("load", (Place("x"),), "r")
        return all(on_both_sides(load, Mapping("x", kind, (("", 1),)), self.facilities) for kind in _HUGE_KINDS)

    def of(self, place: Place) -> Mapping:
        return next(m for m in self.memory if m.name == place.name)

    def page(self) -> Place:
        """A page, or a whole mapping."""
        mapping = self.rng.choice(self.memory)
        return Place(mapping.name, self.rng.randrange(mapping.pages) if self.rng.random() < 0.5 else None)

    def cell(self) -> Place:
        mapping = self.rng.choice(self.memory)
        page = self.rng.randrange(mapping.pages) if mapping.pages > 1 else None
        return self.cell_of(Place(mapping.name, page), mapping)

    def cell_of(self, place: Place, mapping: Mapping) -> Place:
        names = [name for name, _ in mapping.cells if name]
        return replace(place, cell=self.rng.choice(names)) if names else place

    # --- statements ---------------------------------------------------------------------------------------------------

    def next_statements(self, actor: str) -> Iterator[Statement]:
        statement = self.next_statement(actor)
        if statement is not None:
            yield statement
            if statement.op == "uffd_wp":  # what that gives after an error is not modelled
                yield Statement("uffd_wp_resolve", statement.args)

    def next_statement(self, actor: str) -> Statement | None:
        """Something that this actor can do now; None if what came to mind cannot be done."""
        rng = self.rng
        if not self.owner[actor]:
            return self.device_statement(actor)
        chosen = rng.choices([a for a, _ in _ACTIONS], [w for _, w in _ACTIONS])[0]
        match chosen:
            case "load":
                return Statement("load", (self.cell(),), self.register(actor))
            case "store":
                return self.perhaps_kept(actor, Statement("store", (self.cell(), self.value())))
            case "fork":
                return self.forking(actor)
            case "remote":
                return self.remote(actor)
            case "madvise":
                return self.advising(actor)
            case "mprotect":
                protection = Name(rng.choice(("NONE", "R", "R", "RW", "RW")))
                return self.perhaps_kept(actor, Statement("mprotect", (self.page(), protection)))
            case "munmap" | "mlock" | "migrate":
                return self.if_there_is(actor, Statement(chosen, (self.page(),)))
            case "mremap":
                return self.moving(actor)
            case "uffd_wp":
                place = self.page()
                one_vma = place.index is not None or not self.may_be_split(place)
                visiting = actor in self.cast.suspended.values()  # a vfork() child: its parent may have registered it
                if self.of(place).kind in _PRIVATE_ANON and one_vma and not visiting:
                    return self.if_there_is(actor, Statement(chosen, (place,)))
            case "clear_refs" | "ksm_scan":
                return self.if_there_is(actor, Statement(chosen))
            case "pin":
                return self.pinning()
            case "unpin":
                if self.cast.pins:
                    return self.perhaps_kept(actor, Statement("unpin", (Place(rng.choice(sorted(self.cast.pins))),)))
            case "wait":
                ended = [c for c in sorted(self.cast.ended) if self.cast.forked_by.get(c) == self.owner[actor]]
                if ended:
                    return self.perhaps_kept(actor, Statement("wait", (Name(rng.choice(ended)),)))
            case "exit":
                if len(self.cast.born) > 1 and not self.has_io_in_flight(actor):
                    return Statement("exit")
            case "exec":
                # A thread in vfork() would leave its process two address spaces, and the model has one for each.
                splits = any(self.owner[a] == actor for a in self.cast.suspended)
                if actor == self.owner[actor] and not splits and not self.has_io_in_flight(actor):
                    return self.perhaps_kept(actor, Statement("exec"))
        return None

    def if_there_is(self, actor: str, statement: Statement) -> Statement | None:
        place = next((arg for arg in statement.args if isinstance(arg, Place)), None)
        mapping = _shape(self.of(place) if place else self.memory[0])
        args = (Place(mapping.name), *statement.args[1:]) if place else statement.args
        there = on_both_sides(replace(statement, args=args), mapping, self.facilities)
        return self.perhaps_kept(actor, statement) if there else None

    def advising(self, actor: str) -> Statement | None:
        """PAGEOUT for private anonymous memory only: reclaim of the page cache and of shared memory is not modelled."""
        place = self.page()
        swaps = self.facilities.swap and self.of(place).kind in _PRIVATE_ANON
        advice = self.rng.choice(_ADVICE + (_SWAP_ADVICE if swaps else ()))
        return self.if_there_is(actor, Statement("madvise", (place, Name(advice))))

    def moving(self, actor: str) -> Statement | None:
        """Moving several VMAs and their holes came with v6.17; fault-around ends where a page was moved away."""
        place = self.page()
        leaves_hole = place.index is not None and self.of(place).kind not in _PRIVATE_ANON
        if self.of(place).pages > 1 and (leaves_hole or self.may_be_split(place)):
            return None
        return self.if_there_is(actor, Statement("mremap", (place,)))

    def may_be_split(self, place: Place) -> bool:
        """VMAs do not split in the model, and some system calls work on one VMA only."""
        ops = ("munmap", "mprotect", "mremap", "mlock", "madvise", "uffd_wp")
        return any(s.op in ops and argument(s) == place.name for _, s in self.told)

    def forking(self, actor: str) -> Statement | None:
        unborn = [p for p in self.processes if p not in {*self.cast.born, *self.cast.ended}]
        if not unborn:
            return None
        has_threads = any(process == unborn[0] and name != process for name, process in self.owner.items())
        op = "vfork" if self.rng.random() < 0.2 and not has_threads else "fork"
        return self.perhaps_kept(actor, Statement(op, (Name(unborn[0]),)))

    def remote(self, actor: str) -> Statement:
        process = Name(self.rng.choice(self.processes))
        op = self.rng.choice(_REMOTE_READS + _REMOTE_WRITES)
        if op in _REMOTE_READS:
            return Statement(op, (process, self.cell()), self.register(actor))
        return self.perhaps_kept(actor, Statement(op, (process, self.cell(), self.value())))

    # --- pins and devices ---------------------------------------------------------------------------------------------

    def pinning(self) -> Statement | None:
        taken = sum(SIGNATURES[step.statement.op].gives == "pin" for step in self.told)
        place = self.page()
        able = pins_of(_shape(self.of(place)), self.facilities)
        if taken >= _MOST_PINS or not able:
            return None
        op = self.rng.choices(list(able), [_PIN_WEIGHTS.get(op, 1) for op in able])[0]
        statement = Statement(op, (place, *self.rng.choice(able[op])), f"m{taken}")
        return None if self.on_disk(place) and _is_longterm(statement) else statement

    def has_io_in_flight(self, actor: str) -> bool:
        """A process that ends waits for its direct I/O."""
        takers = {s.target: self.owner[a] for a, s in self.told if s.op in _DIRECT}
        return any(takers.get(pin) == self.owner[actor] for pin in self.cast.pins)

    def on_disk(self, place: Place) -> bool:
        """A file system that tracks what is written refuses long-term pins, which files of the model do not have."""
        return self.of(place).kind == "file_shared"

    def device_statement(self, device: str) -> Statement:
        rng = self.rng
        pin = rng.choice(sorted(self.cast.pins))
        if rng.random() < 0.1:
            return Statement("unpin", (Place(pin),))
        taken = self.cast.pins[pin].args[0]
        assert isinstance(taken, Place)
        mapping = self.of(taken)
        pages = mapping.pages if taken.index is None else 1
        place = self.cell_of(Place(pin, rng.randrange(pages) if pages > 1 else None), mapping)
        op = self.cast.pins[pin].op
        writes = op == "dio_read" or (op != "dio_write" and rng.random() < 0.6)  # direct I/O goes one way
        if read_only_because(self.cast.pins[pin]) is None and writes:
            return self.perhaps_kept(device, Statement("dma_write", (place, self.value())))
        return Statement("dma_read", (place,), self.register(device))

    # --- registers and values -----------------------------------------------------------------------------------------

    def register(self, actor: str) -> str:
        self.registers += 1
        return f"{actor}{self.registers - 1}"

    def value(self) -> Number:
        return Number(self.rng.randint(4, 9))

    def perhaps_kept(self, actor: str, statement: Statement) -> Statement:
        """Mostly kept: what a statement answers is what is compared, and a store that nobody asks about may kill."""
        return replace(statement, target=self.register(actor)) if self.rng.random() < 0.9 else statement


def _is_longterm(statement: Statement) -> bool:
    if statement.op in ("pin", "get"):
        return any(isinstance(arg, Flags) and "LONGTERM" in arg.names for arg in statement.args)
    return statement.op not in ("vmsplice", *_DIRECT)

"""Random tests with one order: who does what next is told as a story, and events are put in to force it.

``tests.random_tests`` draws actors that run beside each other, which is what the checker is for. A real kernel can only
be asked about one order, and a test says something only as long as its actors are alive; so here each statement is
drawn for somebody who can execute it then. Memory, places and the statements themselves come from the same author.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cowcatcher.litmus.ast import Actor, Claim, Flags, Located, Mapping, Name, Place, Query, Statement, Test
from cowcatcher.litmus.order import argument
from cowcatcher.litmus.statements import SIGNATURES
from tests.random_tests import _Author

#: (statement, weight): forks and pins more often than their share, so that they meet.
_ACTIONS = (
    ("store", 7), ("load", 6), ("fork", 16), ("madvise", 6), ("pin", 4), ("remote", 4), ("mprotect", 3),
    ("munmap", 1.5), ("mlock", 1.5), ("mremap", 1), ("unpin", 1), ("exit", 1.5), ("wait", 3), ("exec", 0.3),
)  # fmt: skip
_ADVICE = (
    "DONTFORK", "DOFORK", "WIPEONFORK", "KEEPONFORK", "DONTNEED", "DONTNEED", "FREE", "POPULATE_READ", "POPULATE_WRITE",
)  # fmt: skip
_SWAP_ADVICE = ("PAGEOUT",) * 6 + ("FREE",) * 2
_PINS = ("io_uring_register",) * 4 + ("vmsplice",) * 4 + ("ibv_reg_mr", "vfio_map", "xdp_umem", "pin", "get")
_FLAGS = {"pin": (("WRITE", "LONGTERM"), ("WRITE", "LONGTERM", "FAST")), "get": (("READ",), ("READ", "FAST"))}
_REMOTE = ("process_vm_readv", "process_vm_writev", "peek", "poke")
_MOST_PINS = 4


class Step(NamedTuple):
    actor: str
    statement: Statement


@dataclass(frozen=True, slots=True)
class Story:
    """What happens, in order. ``owner``: each actor's process, "" for a device; the first one is there from the start.

    Steps that cannot happen any more, because what they need was taken out, are not told: see :meth:`told`.
    """

    memory: tuple[Mapping, ...]
    owner: dict[str, str]
    steps: tuple[Step, ...]

    def told(self) -> tuple[Step, ...]:
        """The steps that really are in the test; at the end nobody is left suspended in vfork()."""
        cast = _Cast(self.owner)
        kept: list[Step] = []
        for step in self.steps:
            if self._makes_sense(step, cast):
                kept.append(step)
                cast.after(step)
        while cast.suspended:
            ending = Step(cast.suspended[next(reversed(cast.suspended))], Statement("exit"))
            kept.append(ending)
            cast.after(ending)
        return tuple(
            s for s in kept if s.statement.op not in _REMOTE or argument(s.statement) in {*cast.born, *cast.ended}
        )

    def _makes_sense(self, step: Step, cast: _Cast) -> bool:
        statement = step.statement
        if step.actor not in cast.able():
            return False
        if statement.op == "wait":
            return (
                argument(statement) in cast.ended and cast.forked_by.get(argument(statement)) == cast.owner[step.actor]
            )
        if statement.op in ("dma_read", "dma_write", "unpin"):
            return argument(statement) in cast.pins
        return True

    def test(self, name: str, claims: Sequence[Claim] | None = None) -> Test:
        """Written down: an event for each actor, posted by whoever acted before it. By default all can be asked."""
        told = self.told()
        bodies: dict[str, list[Statement]] = {}
        before: Step | None = None
        for step in told:
            body = bodies.setdefault(step.actor, [])
            # Whoever called vfork() waits for its child, whose turn it is, and cannot post.
            if before is not None and before.actor != step.actor and before.statement.op != "vfork":
                handed_over = bodies[before.actor]
                at = len(handed_over) - (before.statement.op == "exit")
                handed_over.insert(at, Statement("post", (Name(f"go_{step.actor}"),)))
                body.append(Statement("await", (Name(f"go_{step.actor}"),)))
            body.append(step.statement)
            before = step
        first = next(iter(self.owner))
        there = {first, *(argument(s.statement) for s in told if s.statement.op in ("fork", "vfork"))}
        actors = tuple(
            _actor(name, owner, tuple(bodies.get(name, ())))
            for name, owner in self.owner.items()
            if (owner in there and (name == owner or name in bodies)) or (not owner and name in bodies)
        )
        asked = tuple(_questions(self, told, sorted(there))) if claims is None else tuple(claims)
        return Test(name, memory=self.memory, actors=actors, claims=asked)


def _actor(name: str, owner: str, body: tuple[Statement, ...]) -> Actor:
    return Actor("device" if not owner else "process" if name == owner else "thread", name, owner, body)


@dataclass
class _Cast:
    """Who can act, as the story goes on."""

    owner: dict[str, str]
    born: set[str] = field(default_factory=set)  # processes that run
    ended: set[str] = field(default_factory=set)
    own_program: set[str] = field(default_factory=set)
    suspended: dict[str, str] = field(default_factory=dict)  # actor -> the child of its vfork()
    entrance: str = ""  # the vfork child whose turn it is
    forked_by: dict[str, str] = field(default_factory=dict)
    pins: dict[str, Statement] = field(default_factory=dict)  # taken and not released

    def __post_init__(self) -> None:
        self.born.add(next(iter(self.owner)))

    def able(self) -> list[str]:
        if self.entrance:
            return [self.entrance]
        return [name for name, process in self.owner.items() if self._is_able(name, process)]

    def _is_able(self, name: str, process: str) -> bool:
        if not process:
            return bool(self.pins)
        gone = name != process and process in self.own_program
        return process in self.born and name not in self.suspended and not gone

    def after(self, step: Step) -> None:
        process, statement = self.owner[step.actor], step.statement
        self.entrance = ""
        if SIGNATURES[statement.op].gives == "pin" and statement.target:
            self.pins[statement.target] = statement
        match statement.op:
            case "fork" | "vfork":
                child = argument(statement)
                self.born.add(child)
                self.forked_by[child] = process
                if statement.op == "vfork":
                    self.suspended[step.actor] = self.entrance = child
            case "exit" | "exec":
                if statement.op == "exit":
                    self.born.remove(process)
                    self.ended.add(process)
                else:
                    self.own_program.add(process)
                self.suspended = {a: c for a, c in self.suspended.items() if c != process}
            case "unpin":
                del self.pins[argument(statement)]


def _questions(story: Story, told: Sequence[Step], processes: Sequence[str]) -> Iterator[Claim]:
    """Whatever can be asked about pages at the end: mapped or not, and which are the same frame."""
    cast = _Cast(story.owner)
    for step in told:
        cast.after(step)
    for mapping in story.memory:
        for page in range(mapping.pages):
            place = Place(mapping.name, page if mapping.pages > 1 else None)
            here = [Located(process, place) for process in processes]
            for pin, taken in cast.pins.items():
                where = taken.args[0]
                if isinstance(where, Place) and where.name == mapping.name and where.index in (None, page):
                    several = mapping.pages > 1 and where.index is None
                    here.append(Located(None, Place(pin, page if several else None)))
            for i, one in enumerate(here):
                if one.process is not None:
                    yield Claim("sometimes", Query("mapped", (one,)))
                for other in here[i + 1 :]:
                    yield Claim("sometimes", Query("same_page", (one, other)))


# --- drawing one ----------------------------------------------------------------------------------------------------


def random_story(seed: int | str, *, swap: bool = False, soft_dirty: bool = False) -> Story:
    """The same one for the same seed and facilities."""
    return _Teller(random.Random(f"story {seed}"), swap=swap, soft_dirty=soft_dirty).story()


@dataclass
class _Teller(_Author):
    swap: bool = False
    soft_dirty: bool = False
    told: list[Step] = field(default_factory=list)

    def story(self) -> Story:
        rng = self.rng
        self.memory = self.some_memory()
        self.processes = ["p", "q", "s"][: rng.choices((1, 2, 3), (2, 5, 3))[0]]
        self.owner = {process: process for process in self.processes}
        for thread in ("t", "u")[: rng.choices((0, 1, 2), (6, 3, 1))[0]]:
            self.owner[thread] = rng.choice(self.processes)
        for device in ("d", "e")[: rng.choices((1, 2), (4, 1))[0]]:
            self.owner[device] = ""
        cast = _Cast(self.owner)
        for _ in range(rng.randint(4, 14)):
            actor = rng.choice(cast.able())
            statement = self.next_statement(actor, cast)
            if statement is not None:
                self.told.append(Step(actor, statement))
                cast.after(self.told[-1])
        self.a_last_look(cast)
        return Story(tuple(self.memory), self.owner, tuple(self.told))

    def a_last_look(self, cast: _Cast) -> None:
        """Every process that is still there reads all it has."""
        while cast.suspended:
            self.told.append(Step(cast.suspended[next(reversed(cast.suspended))], Statement("exit")))
            cast.after(self.told[-1])
        for process in [p for p in self.processes if p in cast.born]:
            for mapping in self.memory:
                for page in range(mapping.pages):
                    place = self.cell_of(Place(mapping.name, page if mapping.pages > 1 else None), mapping)
                    self.told.append(Step(process, Statement("load", (place,), self.register(process))))

    def some_memory(self) -> list[Mapping]:
        """As always, but without what cannot be arranged on a real machine, and at times of more pages.

        Files have contents, and so has shared memory of several pages: which neighbours of a page are mapped along with
        it depends on what the page cache has by then, and in the model on what it had at the beginning.
        """
        memory = [replace(mapping, flags=()) for mapping in super().some_memory()]
        if self.rng.random() < 0.3:
            memory[0] = replace(memory[0], pages=self.rng.randint(2, 3))
        for i, mapping in enumerate(memory):
            untouched = ("anon", "anon_zero", "shared_anon") if mapping.pages == 1 else ("anon", "anon_zero")
            if not mapping.cells and mapping.kind not in untouched:
                memory[i] = replace(mapping, cells=(("", self.rng.randint(1, 3)),))
        return memory

    def next_statement(self, actor: str, cast: _Cast) -> Statement | None:
        """Something that this actor can do now; None if what came to mind cannot be done."""
        rng = self.rng
        if not self.owner[actor]:
            self.pins = dict(cast.pins)
            return self.device_statement(actor)
        chosen = rng.choices([a for a, _ in _ACTIONS], [w for _, w in _ACTIONS])[0]
        if self.soft_dirty and rng.random() < 0.04:
            chosen = "clear_refs"
        match chosen:
            case "fork":
                return self.forking(actor, cast)
            case "madvise":
                return self.advising(actor)
            case "pin":
                return self.pinning_now()
            case "unpin":
                if cast.pins:
                    return self.perhaps_kept(actor, Statement("unpin", (Place(rng.choice(sorted(cast.pins))),)))
            case "wait":
                children = [c for c in sorted(cast.ended) if cast.forked_by.get(c) == self.owner[actor]]
                if children:
                    return self.perhaps_kept(actor, Statement("wait", (Name(rng.choice(children)),)))
            case "exit":
                if len(cast.born) > 1:
                    return Statement("exit")
            case "exec":
                # A thread in vfork() would leave its process two address spaces, and the model has one for each.
                if actor == self.owner[actor] and not any(self.owner[a] == actor for a in cast.suspended):
                    return self.statement(actor, "exec")
            case _:
                return self.in_one_piece(self.statement(actor, chosen))
        return None

    def advising(self, actor: str) -> Statement:
        """PAGEOUT for private anonymous memory only: reclaim of the page cache and of shared memory is not modelled."""
        place = self.page()
        mapping = next(m for m in self.memory if m.name == place.name)
        swaps = self.swap and mapping.kind in ("anon", "anon_zero")
        advice = self.rng.choice(_ADVICE + (_SWAP_ADVICE if swaps else ()))
        return self.perhaps_kept(actor, Statement("madvise", (place, Name(advice))))

    def in_one_piece(self, statement: Statement) -> Statement | None:
        """VMAs do not split in the model, hence no mremap() where that shows.

        Moving several VMAs and the holes between them came with v6.17; fault-around ends where a page was moved away.
        """
        if statement.op != "mremap":
            return statement
        place = statement.args[0]
        assert isinstance(place, Place)
        mapping = next(m for m in self.memory if m.name == place.name)
        advised = {argument(s) for _, s in self.told if s.op in ("munmap", "mprotect", "mlock", "madvise")}
        splits = place.index is not None and mapping.kind not in ("anon", "anon_zero")
        return None if mapping.pages > 1 and (splits or place.name in advised) else statement

    def forking(self, actor: str, cast: _Cast) -> Statement | None:
        unborn = [p for p in self.processes if p not in {*cast.born, *cast.ended}]
        if not unborn:
            return None
        has_threads = any(process == unborn[0] and name != process for name, process in self.owner.items())
        op = "vfork" if self.rng.random() < 0.2 and not has_threads else "fork"
        return self.perhaps_kept(actor, Statement(op, (Name(unborn[0]),)))

    def pinning_now(self) -> Statement | None:
        taken = sum(SIGNATURES[step.statement.op].gives == "pin" for step in self.told)
        op, place = self.rng.choice(_PINS), self.page()
        if taken >= _MOST_PINS or (op not in ("vmsplice", "get") and self.on_disk(place)):
            return None
        args = (place, Flags(self.rng.choice(_FLAGS[op]))) if op in _FLAGS else (place,)
        return Statement(op, args, f"m{taken}")

    def on_disk(self, place: Place) -> bool:
        """A file system that tracks what is written refuses long-term pins, which files of the model do not have."""
        return any(m.name == place.name and m.kind == "file_shared" for m in self.memory)

    def perhaps_kept(self, actor: str, statement: Statement) -> Statement:
        """Mostly kept: what a statement answers is what is compared, and a store that nobody asks about may kill."""
        return replace(statement, target=self.register(actor)) if self.rng.random() < 0.9 else statement


# --- making one smaller ---------------------------------------------------------------------------------------------


def smaller(story: Story) -> Iterator[Story]:
    """Simpler stories, the boldest cuts first: without an actor, a mapping, a part of the steps, a page."""
    story = replace(story, steps=story.told())
    for name in list(story.owner)[1:]:
        gone = {actor for actor, process in story.owner.items() if name in (actor, process)}
        owner = {actor: process for actor, process in story.owner.items() if actor not in gone}
        yield replace(story, owner=owner, steps=tuple(s for s in story.steps if not _concerns(s, gone)))
    for mapping in story.memory if len(story.memory) > 1 else ():
        memory = tuple(m for m in story.memory if m is not mapping)
        yield _without_pins_of_nothing(replace(story, memory=memory))
    size = len(story.steps) // 2
    while size:
        for at in range(0, len(story.steps), size):
            yield replace(story, steps=story.steps[:at] + story.steps[at + size :])
        size //= 2
    for mapping in story.memory:
        if mapping.pages > 1:
            yield _with_one_page(story, mapping, mapping.pages - 1)
        if len(mapping.cells) > 1:
            yield _with_one_cell(story, mapping)


def _concerns(step: Step, names: set[str]) -> bool:
    words = {a.text for a in step.statement.args if isinstance(a, Name)}
    return step.actor in names or not words.isdisjoint(names)


def _without_pins_of_nothing(story: Story) -> Story:
    """Only the steps whose mapping is still there; uses of a pin that is gone are not told anyway."""
    known = {m.name for m in story.memory}
    pins = {s.statement.target for s in story.steps if SIGNATURES[s.statement.op].gives == "pin"}
    places = [next((a.name for a in s.statement.args if isinstance(a, Place)), None) for s in story.steps]
    kept = (s for s, place in zip(story.steps, places, strict=True) if place is None or place in known | pins)
    return replace(story, steps=tuple(kept))


def _with_one_page(story: Story, mapping: Mapping, dropped: int) -> Story:
    """One page less: what names the last one now names the one before, or no page at all if only one is left."""
    memory = tuple(replace(m, pages=m.pages - 1) if m is mapping else m for m in story.memory)
    of = {mapping.name, *(s.statement.target for s in story.steps if _pins(s.statement, mapping.name))}

    def change(place: Place) -> Place:
        if place.index is None or place.name not in of:
            return place
        return replace(place, index=min(place.index, dropped - 1) if dropped > 1 else None)

    return replace(story, memory=memory, steps=_changed(story.steps, change))


def _with_one_cell(story: Story, mapping: Mapping) -> Story:
    value = mapping.cells[0][1]
    memory = tuple(replace(m, cells=(("", value),)) if m is mapping else m for m in story.memory)
    of = {mapping.name, *(s.statement.target for s in story.steps if _pins(s.statement, mapping.name))}

    def change(place: Place) -> Place:
        return replace(place, cell=None) if place.name in of else place

    return replace(story, memory=memory, steps=_changed(story.steps, change))


def _pins(statement: Statement, mapping: str) -> bool:
    return SIGNATURES[statement.op].gives == "pin" and argument(statement) == mapping


def _changed(steps: Sequence[Step], change: Callable[[Place], Place]) -> tuple[Step, ...]:
    return tuple(
        Step(
            s.actor,
            replace(s.statement, args=tuple(change(a) if isinstance(a, Place) else a for a in s.statement.args)),
        )
        for s in steps
    )

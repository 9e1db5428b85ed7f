"""A test told as a story: who does what next. Events are put in to force that order.

A real kernel can only be asked about one order, and a test says something only as long as its actors are alive. A
story stays one whatever is taken out of it, which is what makes it easy to shrink.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cowcatcher.litmus.ast import Actor, Claim, Located, Mapping, Name, Place, Query, Statement, Test
from cowcatcher.litmus.order import argument
from cowcatcher.litmus.statements import SIGNATURES

#: Statements that reach into another process, which they name first.
REMOTE: Final = ("process_vm_readv", "process_vm_writev", "peek", "poke")


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
        cast = Cast(self.owner)
        kept: list[Step] = []
        for step, following in zip(self.steps, (*self.steps[1:], None), strict=False):
            if self._makes_sense(step, cast) and _is_whole(step, kept, following):
                kept.append(step)
                cast.after(step)
        kept += cast.vfork_ends()
        return tuple(
            s for s in kept if s.statement.op not in REMOTE or argument(s.statement) in {*cast.born, *cast.ended}
        )

    def _makes_sense(self, step: Step, cast: Cast) -> bool:
        statement = step.statement
        if step.actor not in cast.able():
            return False
        if statement.op == "wait":
            child = argument(statement)
            return child in cast.ended and cast.forked_by.get(child) == cast.owner[step.actor]
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


def _is_whole(step: Step, before: Sequence[Step], following: Step | None) -> bool:
    """A page that userfaultfd protects is released at once: a write would wait for that, and nobody acts meanwhile."""
    match step.statement.op:
        case "uffd_wp":
            return following is not None and _are_a_pair(step, following)
        case "uffd_wp_resolve":
            return bool(before) and _are_a_pair(before[-1], step)
    return True


def _are_a_pair(one: Step, other: Step) -> bool:
    ops = (one.statement.op, other.statement.op)
    same = (one.actor, one.statement.args) == (other.actor, other.statement.args)
    return ops == ("uffd_wp", "uffd_wp_resolve") and same


def _actor(name: str, owner: str, body: tuple[Statement, ...]) -> Actor:
    return Actor("device" if not owner else "process" if name == owner else "thread", name, owner, body)


@dataclass
class Cast:
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

    def vfork_ends(self) -> Iterator[Step]:
        """The exits after which nobody is suspended in vfork() any more, the last child's first."""
        while self.suspended:
            ending = Step(self.suspended[next(reversed(self.suspended))], Statement("exit"))
            yield ending
            self.after(ending)


def _questions(story: Story, told: Sequence[Step], processes: Sequence[str]) -> Iterator[Claim]:
    """Whatever can be asked about pages at the end: mapped or not, and which are the same frame."""
    cast = Cast(story.owner)
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

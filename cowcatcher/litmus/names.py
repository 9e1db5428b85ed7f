"""Who is called what in a test: the one pass over a tree that the checks and the condition reader look names up in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cowcatcher.litmus.ast import Actor, Flags, Mapping, Name, Place, Span, Statement, Test
from cowcatcher.litmus.statements import SIGNATURES

#: Statements that start the process they name.
FORKS = ("fork", "vfork")
_READ_ONLY_BY_NATURE = {
    "vmsplice": "vmsplice only hands the page to a reader",
    "dio_write": "a direct write only reads this memory",
}


@dataclass(frozen=True, slots=True)
class Use:
    """A statement and the actor it stands in."""

    actor: Actor
    statement: Statement

    @property
    def span(self) -> Span:
        return self.statement.span


@dataclass(slots=True)
class Names:
    """Everything a test declares, by name; where a name is declared twice the first one counts.

    ``unsure`` are targets of statements that nobody knows: they may be registers or pins.
    """

    mappings: dict[str, Mapping] = field(default_factory=dict)
    actors: dict[str, Actor] = field(default_factory=dict)
    pins: dict[str, Use] = field(default_factory=dict)
    registers: dict[str, Use] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    posts: dict[str, Name] = field(default_factory=dict)
    awaits: dict[str, Name] = field(default_factory=dict)
    forks: dict[str, Use] = field(default_factory=dict)

    @property
    def processes(self) -> list[str]:
        return [a.name for a in self.actors.values() if a.kind == "process"]

    def kind_of(self, name: str) -> str | None:
        """What ``name`` is in this test, with its article: "a mapping", "a device"; None if it is nothing."""
        if name in self.mappings:
            return "a mapping"
        if name in self.actors:
            return f"a {self.actors[name].kind}"
        if name in self.pins:
            return "a pin"
        if name in self.registers:
            return "a register"
        return "an event" if name in self.posts or name in self.awaits else None

    def pinned(self, pin: str) -> tuple[Mapping, int] | None:
        """The mapping that ``pin`` was taken on and how many pages it covers; None if that cannot be said."""
        use = self.pins.get(pin)
        place = use.statement.args[0] if use and use.statement.args else None
        if not isinstance(place, Place) or place.name not in self.mappings:
            return None
        mapping = self.mappings[place.name]
        return mapping, mapping.pages if place.index is None else 1

    def forked_by(self, process: str) -> str | None:
        """The process that forks ``process``, itself or by a thread; None if nobody does."""
        return self.forks[process].actor.process if process in self.forks else None

    def ancestors(self, process: str) -> Iterator[str]:
        """``process``, the process that forks it, and so on up; each once."""
        seen: set[str] = set()
        while process not in seen:
            yield process
            seen.add(process)
            if process not in self.forks:
                return
            process = self.forks[process].actor.process


def names_of(test: Test) -> Names:
    """The names that ``test`` declares."""
    names = Names()
    for mapping in test.memory:
        names.mappings.setdefault(mapping.name, mapping)
    for actor in test.actors:
        names.actors.setdefault(actor.name, actor)
        for statement in actor.body:
            _enter(names, Use(actor, statement))
    return names


def _enter(names: Names, use: Use) -> None:
    statement = use.statement
    signature = SIGNATURES.get(statement.op)
    if statement.target is not None:
        if signature is None:
            names.unsure.add(statement.target)
        elif signature.gives == "pin":
            names.pins.setdefault(statement.target, use)
        else:
            names.registers.setdefault(statement.target, use)
    first = statement.args[0] if statement.args else None
    if isinstance(first, Name):
        if statement.op in FORKS:
            names.forks.setdefault(first.text, use)
        elif statement.op == "post":
            names.posts.setdefault(first.text, first)
        elif statement.op == "await":
            names.awaits.setdefault(first.text, first)


def read_only_because(statement: Statement) -> str | None:
    """Why a device cannot write through the pin that ``statement`` takes; None if it can."""
    if statement.op in _READ_ONLY_BY_NATURE:
        return _READ_ONLY_BY_NATURE[statement.op]
    for arg in statement.args:
        if isinstance(arg, Flags) and "READ" in arg.names:
            return "it was taken with READ"
        if isinstance(arg, Name) and arg.text == "READONLY":
            return "it was taken READONLY"
    return None

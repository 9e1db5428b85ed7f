"""A test with something changed everywhere at once: other names, fewer pages, nothing that has lost its meaning.

Trees only; what a change does to a test's verdict is for others to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from cowcatcher.litmus.ast import (
    Actor,
    And,
    Arg,
    Claim,
    Compare,
    Cond,
    In,
    KernelMay,
    Located,
    Mapping,
    Name,
    Not,
    Number,
    Operand,
    Or,
    Place,
    Query,
    Register,
    Statement,
    Test,
)
from cowcatcher.litmus.names import FORKS
from cowcatcher.litmus.statements import SIGNATURES

Change: TypeAlias = Callable[[Place], Place]

#: Parameters that name something of the test's own; every other bare word is one of the language.
_NAMING = ("PROCESS", "EVENT")


def takes_pin(statement: Statement) -> bool:
    return SIGNATURES[statement.op].gives == "pin"


def place_of(statement: Statement) -> Place | None:
    """The place that a statement works on; None if it works on none."""
    return next((arg for arg in statement.args if isinstance(arg, Place)), None)


def pins_on(mapping: str, statements: Iterator[Statement]) -> set[str]:
    """The pins that are taken on a mapping."""
    taken = ((s.target, place_of(s)) for s in statements if takes_pin(s))
    return {pin for pin, place in taken if pin is not None and place is not None and place.name == mapping}


def statements_of(test: Test) -> Iterator[Statement]:
    for actor in test.actors:
        yield from actor.body


# --- places -----------------------------------------------------------------------------------------------------------


def with_places(statement: Statement, change: Change) -> Statement:
    """The statement with every place in it changed."""
    return replace(statement, args=tuple(change(arg) if isinstance(arg, Place) else arg for arg in statement.args))


def last_page_joined(of: set[str], pages: int) -> Change:
    """For a mapping that loses the last of its ``pages``: what names it now names the one before, or no page at all if
    only one is left. ``of`` are the mapping and the pins on it."""

    def change(place: Place) -> Place:
        if place.index is None or place.name not in of:
            return place
        return replace(place, index=min(place.index, pages - 2) if pages > 2 else None)

    return change


def without_cells(of: set[str]) -> Change:
    """For a mapping that has one value where it had several."""
    return lambda place: replace(place, cell=None) if place.name in of else place


def places_changed(test: Test, change: Change) -> Test:
    """Every place of the test: in statements, claims and ``kernel may`` lines. The memory itself stays as it is."""
    return replace(
        test,
        actors=tuple(replace(a, body=tuple(with_places(s, change) for s in a.body)) for a in test.actors),
        kernel_may=tuple(k if k.place is None else replace(k, place=change(k.place)) for k in test.kernel_may),
        claims=tuple(replace(c, cond=_cond(c.cond, lambda o: o, change)) for c in test.claims),
    )


def _cond(
    cond: Cond, operand: Callable[[Operand], Operand], place: Change, process: Callable[[str], str] = str
) -> Cond:
    """The condition with every operand, place and process in it changed."""
    match cond:
        case And() | Or():
            return replace(cond, items=tuple(_cond(c, operand, place, process) for c in cond.items))
        case Not():
            return replace(cond, item=_cond(cond.item, operand, place, process))
        case Compare():
            return replace(cond, left=operand(cond.left), right=operand(cond.right))
        case In():
            return replace(cond, left=operand(cond.left), values=tuple(map(operand, cond.values)))
        case Query():
            return replace(cond, args=tuple(_located(a, place, process) for a in cond.args))


def _located(located: Located, place: Change, process: Callable[[str], str]) -> Located:
    named = None if located.process is None else process(located.process)
    return replace(located, process=named, place=place(located.place))


# --- names and values -------------------------------------------------------------------------------------------------


def renamed(test: Test, names: dict[str, str]) -> Test:
    """Actors, mappings, cells, pins, registers and events by other names, where ``names`` has one; all at once.

    A cell is looked up as ``.name``, since it may be called like anything else.
    """

    def name(old: str) -> str:
        return names.get(old, old)

    def cell(old: str) -> str:
        return names.get(f".{old}", old)

    def place(old: Place) -> Place:
        return replace(old, name=name(old.name), cell=None if old.cell is None else cell(old.cell))

    def operand(old: Operand) -> Operand:
        return replace(old, name=name(old.name)) if isinstance(old, Register) else old

    def argument(arg: Arg, kind: str) -> Arg:
        if isinstance(arg, Place):
            return place(arg)
        return Name(name(arg.text)) if isinstance(arg, Name) and kind in _NAMING else arg

    def statement(old: Statement) -> Statement:
        kinds = (p.kind for p in SIGNATURES[old.op].params)
        args = tuple(argument(arg, kind) for arg, kind in zip(old.args, kinds, strict=False))
        return replace(old, args=args, target=None if old.target is None else name(old.target))

    return replace(
        test,
        memory=tuple(replace(m, name=name(m.name), cells=tuple((cell(c), v) for c, v in m.cells)) for m in test.memory),
        actors=tuple(
            replace(a, name=name(a.name), process=name(a.process), body=tuple(map(statement, a.body)))
            for a in test.actors
        ),
        kernel_may=tuple(k if k.place is None else replace(k, place=place(k.place)) for k in test.kernel_may),
        claims=tuple(replace(c, cond=_cond(c.cond, operand, place, name)) for c in test.claims),
    )


def revalued(test: Test, values: dict[int, int]) -> Test:
    """Other numbers for what is stored and compared with, all at once."""

    def number(old: Number) -> Number:
        return Number(values.get(old.value, old.value))

    def operand(old: Operand) -> Operand:
        return number(old) if isinstance(old, Number) else old

    def statement(old: Statement) -> Statement:
        return replace(old, args=tuple(number(arg) if isinstance(arg, Number) else arg for arg in old.args))

    return replace(
        test,
        memory=tuple(replace(m, cells=tuple((c, values.get(v, v)) for c, v in m.cells)) for m in test.memory),
        actors=tuple(replace(a, body=tuple(map(statement, a.body))) for a in test.actors),
        claims=tuple(replace(c, cond=_cond(c.cond, operand, lambda p: p)) for c in test.claims),
    )


def values_of(test: Test) -> list[int]:
    """The numbers in a test, each once, in the order in which a reader meets them."""
    found = [value for m in test.memory for _, value in m.cells]
    found += [arg.value for s in statements_of(test) for arg in s.args if isinstance(arg, Number)]

    def note(operand: Operand) -> Operand:
        if isinstance(operand, Number):
            found.append(operand.value)
        return operand

    for claim in test.claims:
        _cond(claim.cond, note, lambda p: p)
    return list(dict.fromkeys(found))


# --- what has lost its meaning ----------------------------------------------------------------------------------------


def tidied(test: Test) -> Test:
    """Without whatever cannot mean anything any more, because what it names is gone.

    Processes that nobody forks and threads of processes that are gone, devices and threads with nothing to do, uses of
    pins that nobody takes, awaits of events that nobody posts and posts that nobody awaits, and so on until nothing is
    left of that kind. Of a claim only so much goes that whatever violates the rest would have violated the whole.
    """
    while True:
        smaller = _tidied_once(test)
        if smaller == test:
            return test
        test = smaller


def _tidied_once(test: Test) -> Test:
    there = _Names(test)
    actors = []
    for actor in test.actors:
        if there.has_actor(actor):
            body = tuple(s for s in actor.body if there.means_something(actor, s))
            if body or actor.kind == "process":
                actors.append(replace(actor, body=body) if len(body) < len(actor.body) else actor)
    return replace(
        test,
        actors=tuple(actors),
        kernel_may=tuple(k for k in test.kernel_may if there.is_known(k)),
        claims=tuple(c for claim in test.claims if (c := there.rest(claim)) is not None),
    )


class _Names:
    """What there is in a test that something else can name."""

    def __init__(self, test: Test) -> None:
        first = next((a.name for a in test.actors if a.kind == "process"), None)
        self.mappings: dict[str, Mapping] = {m.name: m for m in test.memory}
        self.pins = {s.target for s in statements_of(test) if takes_pin(s) and s.target is not None}
        self.registers = {s.target for s in statements_of(test) if s.target is not None}
        self.forked_by: dict[str, str] = {}
        self.posted, self.awaited = set[str](), set[str]()
        names = {a.name for a in test.actors if a.kind == "process"}
        for actor in test.actors:
            for statement in actor.body:
                word = statement.args[0].text if statement.args and isinstance(statement.args[0], Name) else ""
                if statement.op in FORKS and word in names:
                    self.forked_by[word] = actor.process
                elif statement.op == "post":
                    self.posted.add(word)
                elif statement.op == "await":
                    self.awaited.add(word)
        self.processes = {n for n in names if n == first or n in self.forked_by}

    def has_actor(self, actor: Actor) -> bool:
        return actor.kind == "device" or actor.process in self.processes

    def is_known(self, may: KernelMay) -> bool:
        return may.place is None or may.place.name in self.mappings

    def means_something(self, actor: Actor, statement: Statement) -> bool:
        params = SIGNATURES[statement.op].params
        return all(
            self.is_there(actor, statement.op, p.kind, arg) for p, arg in zip(params, statement.args, strict=False)
        )

    def is_there(self, actor: Actor, op: str, kind: str, arg: Arg) -> bool:
        """Is there what an argument names?"""
        if isinstance(arg, Place):
            return arg.name in (self.pins if kind.startswith("PIN") else self.mappings)
        if isinstance(arg, Name) and kind == "PROCESS":
            own = op != "wait" or self.forked_by.get(arg.text) == actor.process
            return own and arg.text in self.processes
        if isinstance(arg, Name) and kind == "EVENT":
            return arg.text in (self.posted if op == "await" else self.awaited)
        return True

    def rest(self, claim: Claim) -> Claim | None:
        """What is left of a claim; None for nothing."""
        if self.can_be_asked(claim.cond):
            return claim
        part = Or if claim.kind == "never" else And
        if not isinstance(claim.cond, part):
            return None
        items = tuple(item for item in claim.cond.items if self.can_be_asked(item))
        return with_items(claim, items) if items else None

    def can_be_asked(self, cond: Cond) -> bool:
        known = True

        def operand(operand: Operand) -> Operand:
            nonlocal known
            known &= not isinstance(operand, Register) or operand.name in self.registers
            return operand

        def located(place: Place) -> Place:
            nonlocal known
            known &= place.name in self.mappings or place.name in self.pins
            return place

        def process(name: str) -> str:
            nonlocal known
            known &= name in self.processes
            return name

        _cond(cond, operand, located, process)
        return known


def with_items(claim: Claim, items: tuple[Cond, ...]) -> Claim:
    """The claim about some of the conditions that it joins."""
    assert isinstance(claim.cond, And | Or)
    return replace(claim, cond=items[0] if len(items) == 1 else replace(claim.cond, items=items))

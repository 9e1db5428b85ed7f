"""What makes a test smaller: every way to take one thing out of it, or to put something simpler in its place.

Each kind of reduction is a function that yields candidates, the boldest first. A candidate is a tree that makes sense
(``litmus.rewrite.tidied``), but nobody has asked yet whether it shows anything. No reduction undoes another, so that
trying them until none is kept comes to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias, TypeVar

from cowcatcher.litmus.ast import Actor, And, Claim, Flags, Mapping, Name, Or, Place, Statement, Test
from cowcatcher.litmus.rewrite import (
    last_page_joined,
    pins_on,
    place_of,
    places_changed,
    renamed,
    revalued,
    statements_of,
    takes_pin,
    tidied,
    values_of,
    with_items,
    without_cells,
)
from cowcatcher.litmus.statements import SIGNATURES

T = TypeVar("T")
Reduction: TypeAlias = Callable[[Test], Iterator[Test]]
#: A pin by interface -> the same by rule, with the flags that the interface uses; None if there is none.
ByRule: TypeAlias = Callable[[Statement], Statement | None]

#: The simplest first.
_KINDS: Final = (
    "anon", "anon_zero", "shared_anon", "memfd", "file_shared", "file_private", "hugetlb_private", "hugetlb",
)  # fmt: skip
_PROCESSES, _THREADS, _DEVICES = "pqsvwo", "tuhk", "defg"
_MAPPINGS, _CELLS = "xyz", "abcd"


def reductions(by_rule: ByRule | None = None) -> tuple[Reduction, ...]:
    """All of them, in the order in which they are best tried."""
    plain = () if by_rule is None else (lambda test: interfaces(test, by_rule),)
    return (
        actors, lines, statements, events, mappings, pages, cells, joined, *plain, flags, simpler_statements, targets,
        kinds, conditions, values, names,
    )  # fmt: skip


# --- something less ---------------------------------------------------------------------------------------------------


def actors(test: Test) -> Iterator[Test]:
    """Without a process, its threads and all that it forks; without a thread; without a device."""
    first = next((a for a in test.actors if a.kind == "process"), None)
    for actor in reversed(test.actors):
        if actor is not first:
            yield tidied(replace(test, actors=tuple(a for a in test.actors if actor.name not in (a.name, a.process))))


def lines(test: Test) -> Iterator[Test]:
    """Without one of the lines that stand by themselves: ``kernel may``, ``expect``, a claim, ``unchecked``."""
    if test.expects:
        yield replace(test, expects=())
    for i in range(len(test.expects)):
        yield replace(test, expects=_without(test.expects, i))
    for i in range(len(test.kernel_may)):
        yield replace(test, kernel_may=_without(test.kernel_may, i))
    for i in range(len(test.claims)):
        yield replace(test, claims=_without(test.claims, i))
    for i in range(len(test.unchecked)):
        yield replace(test, unchecked=_without(test.unchecked, i))


def _without(items: Sequence[T], i: int) -> tuple[T, ...]:
    return (*items[:i], *items[i + 1 :])


def statements(test: Test) -> Iterator[Test]:
    """Without one statement, the last one first."""
    for i in reversed(range(sum(len(a.body) for a in test.actors))):
        yield without_statements(test, i, i + 1)


def without_statements(test: Test, start: int, stop: int) -> Test:
    """Without some, counted through the test from top to bottom."""
    kept, at = [], 0
    for actor in test.actors:
        low, high = max(start - at, 0), max(stop - at, 0)
        kept.append(replace(actor, body=(*actor.body[:low], *actor.body[high:])))
        at += len(actor.body)
    return tidied(replace(test, actors=tuple(kept)))


def events(test: Test) -> Iterator[Test]:
    """Without an event: nobody posts it, nobody awaits it."""
    names = dict.fromkeys(_first_word(s) for s in statements_of(test) if s.op in ("post", "await"))
    for name in names:
        yield _leaving_out(test, partial(_is_event, name=name))


def _first_word(statement: Statement) -> str:
    word = statement.args[0]
    return word.text if isinstance(word, Name) else ""


def _is_event(statement: Statement, name: str) -> bool:
    return statement.op in ("post", "await") and _first_word(statement) == name


def mappings(test: Test) -> Iterator[Test]:
    for i in range(len(test.memory)):
        yield tidied(replace(test, memory=_without(test.memory, i)))


def pages(test: Test) -> Iterator[Test]:
    """Without one page of a mapping; what named it is gone too, or names the page before."""
    for mapping in test.memory:
        if mapping.pages > 1:
            fewer = _with_mapping(test, mapping, replace(mapping, pages=mapping.pages - 1))
            of = {mapping.name, *pins_on(mapping.name, statements_of(test))}
            for page in reversed(range(mapping.pages)):
                yield _without_page(fewer, of, page, mapping.pages)
            yield tidied(places_changed(fewer, last_page_joined(of, mapping.pages)))


def _without_page(test: Test, of: set[str], page: int, pages: int) -> Test:
    """``test`` already has one page less than ``pages``."""

    def moved(place: Place) -> Place:
        if place.name not in of or place.index is None:
            return place
        return replace(place, index=None if pages == 2 else place.index - (place.index > page))

    kept = _leaving_out(test, lambda s: _is_at(s, of, page))
    may = tuple(k for k in kept.kernel_may if k.place is None or k.place.name not in of or k.place.index != page)
    return tidied(places_changed(replace(kept, kernel_may=may), moved))


def _is_at(statement: Statement, of: set[str], page: int) -> bool:
    place = place_of(statement)
    return place is not None and place.name in of and place.index == page


def cells(test: Test) -> Iterator[Test]:
    """One value in a page instead of several; or one of them less."""
    for mapping in test.memory:
        if any(name for name, _ in mapping.cells):
            of = {mapping.name, *pins_on(mapping.name, statements_of(test))}
            single = _with_mapping(test, mapping, replace(mapping, cells=(("", mapping.cells[0][1]),)))
            yield places_changed(single, without_cells(of))
            for i in range(len(mapping.cells) if len(mapping.cells) > 1 else 0):
                gone = mapping.cells[i][0]
                fewer = _with_mapping(test, mapping, replace(mapping, cells=_without(mapping.cells, i)))
                yield _leaving_out(fewer, partial(_is_in, of=of, cell=gone))


def _is_in(statement: Statement, of: set[str], cell: str) -> bool:
    place = place_of(statement)
    return place is not None and place.name in of and place.cell == cell


# --- something simpler ------------------------------------------------------------------------------------------------


def joined(test: Test) -> Iterator[Test]:
    """One actor does what two did: a thread's statements are its process's own, two devices are one."""
    for thread in test.actors:
        owner = next((a for a in test.actors if thread.kind == "thread" and a.name == thread.process), None)
        if owner is not None:
            yield from _merged(test, thread, owner)
    devices = [a for a in test.actors if a.kind == "device"]
    for device in devices[1:]:
        yield from _merged(test, device, devices[0])


def _merged(test: Test, actor: Actor, into: Actor) -> Iterator[Test]:
    """Behind what the other one does, or before it."""
    ends = bool(into.body) and into.body[-1].op == "exit"
    own, end = (into.body[:-1], into.body[-1:]) if ends else (into.body, ())
    for body in ((*own, *actor.body, *end), (*actor.body, *own, *end)):
        both = replace(into, body=body, iommu=into.iommu or actor.iommu)
        yield tidied(replace(test, actors=tuple(both if a is into else a for a in test.actors if a is not actor)))


def interfaces(test: Test, by_rule: ByRule) -> Iterator[Test]:
    """A pin by rule instead of by interface."""
    yield from _each(test, lambda s: filter(None, (by_rule(s),)))


def flags(test: Test) -> Iterator[Test]:
    """A weaker pin: a flag less, or only to read."""
    yield from _each(test, _weaker)


def _weaker(statement: Statement) -> Iterator[Statement]:
    if statement.op not in ("pin", "get"):
        return
    place, asked = statement.args
    assert isinstance(asked, Flags)
    for flag in ("FORCE", "FAST", "LONGTERM"):
        if flag in asked.names:
            yield replace(statement, args=(place, Flags(tuple(f for f in asked.names if f != flag))))
    if "WRITE" in asked.names:
        yield replace(statement, args=(place, Flags(("READ", *(f for f in asked.names if f != "WRITE")))))


def simpler_statements(test: Test) -> Iterator[Test]:
    """An optional argument less; fork() for vfork(); a device without an IOMMU."""
    yield from _each(test, _plainer)
    for device in test.actors:
        if device.iommu:
            plain = replace(device, iommu=False)
            yield replace(test, actors=tuple(plain if a is device else a for a in test.actors))


def _plainer(statement: Statement) -> Iterator[Statement]:
    params = SIGNATURES[statement.op].params
    if statement.args and params[len(statement.args) - 1].optional:
        yield replace(statement, args=statement.args[:-1])
    if statement.op == "vfork":
        yield replace(statement, op="fork")


def targets(test: Test) -> Iterator[Test]:
    """Nobody keeps what a statement answers that need not be kept."""
    yield from _each(test, _forgetful)


def _forgetful(statement: Statement) -> Iterator[Statement]:
    used = takes_pin(statement) or SIGNATURES[statement.op].gives == "value"
    if statement.target is not None and not used:
        yield replace(statement, target=None)


def kinds(test: Test) -> Iterator[Test]:
    """Simpler memory: another kind, no option, one value."""
    for mapping in test.memory:
        for simpler in _simpler(mapping):
            yield _with_mapping(test, mapping, simpler)


def _simpler(mapping: Mapping) -> Iterator[Mapping]:
    for i in range(len(mapping.flags)):
        yield replace(mapping, flags=_without(mapping.flags, i))
    if mapping.prot != "RW":
        yield replace(mapping, prot="RW")
    for kind in _KINDS[: _KINDS.index(mapping.kind)] if mapping.kind in _KINDS else ():
        cells = () if kind == "anon_zero" else mapping.cells or (("", 1),)
        yield replace(mapping, kind=kind, cells=cells)


def conditions(test: Test) -> Iterator[Test]:
    """A part of a claim: whatever violates it violates the whole."""
    for i, claim in enumerate(test.claims):
        for part in _parts(claim):
            yield replace(test, claims=(*test.claims[:i], part, *test.claims[i + 1 :]))


def _parts(claim: Claim) -> Iterator[Claim]:
    if isinstance(claim.cond, Or if claim.kind == "never" else And):
        for i in range(len(claim.cond.items)):
            yield with_items(claim, _without(claim.cond.items, i))


def values(test: Test) -> Iterator[Test]:
    """1, 2, 3 in the order in which they come; 0 is what memory holds that nobody has written, and stays."""
    met = [value for value in values_of(test) if value]
    wanted = {value: i for i, value in enumerate(met, 1)}
    if any(value != other for value, other in wanted.items()):
        yield revalued(test, wanted)


def names(test: Test) -> Iterator[Test]:
    """The names that such things have in short tests: p, q; t; d; x, y; m; r0, r1."""
    wanted = canonical_names(test)
    if any(old.removeprefix(".") != new for old, new in wanted.items()):
        yield renamed(test, wanted)


def canonical_names(test: Test) -> dict[str, str]:
    """Old name -> new name, for everything that has one; of a cell's, ``.old``."""
    found: dict[str, str] = {}
    for letters, kind in ((_PROCESSES, "process"), (_THREADS, "thread"), (_DEVICES, "device")):
        found |= _named((a.name for a in test.actors if a.kind == kind), letters)
    found |= _named((m.name for m in test.memory), _MAPPINGS)
    found |= _named((f".{c}" for m in test.memory for c, _ in m.cells if c), _CELLS)
    told = list(statements_of(test))
    taken = dict.fromkeys(s.target for s in told if takes_pin(s) and s.target is not None)
    found |= {pin: f"m{i or ''}" for i, pin in enumerate(taken)}
    kept = dict.fromkeys(s.target for s in told if s.target is not None and s.target not in taken)
    found |= {register: f"r{i}" for i, register in enumerate(kept)}
    told_of = dict.fromkeys(_first_word(s) for s in told if s.op in ("post", "await"))
    return found | {event: f"e{i}" for i, event in enumerate(told_of)}


def _named(old: Iterable[str], letters: str) -> dict[str, str]:
    """The first few get a letter each, the others the last letter and a number."""
    return {name: letters[i] if i < len(letters) else f"{letters[-1]}{i}" for i, name in enumerate(dict.fromkeys(old))}


# --- one thing changed ------------------------------------------------------------------------------------------------


def _each(test: Test, change: Callable[[Statement], Iterable[Statement]]) -> Iterator[Test]:
    """The test with one statement replaced by what ``change`` makes of it, for each statement and each such."""
    for at, actor in enumerate(test.actors):
        for i, statement in enumerate(actor.body):
            for other in change(statement):
                body = (*actor.body[:i], other, *actor.body[i + 1 :])
                changed = replace(actor, body=body)
                yield tidied(replace(test, actors=(*test.actors[:at], changed, *test.actors[at + 1 :])))


def _leaving_out(test: Test, gone: Callable[[Statement], bool]) -> Test:
    bodies = (replace(a, body=tuple(s for s in a.body if not gone(s))) for a in test.actors)
    return tidied(replace(test, actors=tuple(bodies)))


def _with_mapping(test: Test, mapping: Mapping, other: Mapping) -> Test:
    return replace(test, memory=tuple(other if m is mapping else m for m in test.memory))

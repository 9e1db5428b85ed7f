"""What a story becomes with something taken out: the candidates for a smaller test that still disagrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cowcatcher.agree.story import Step, Story
from cowcatcher.litmus.ast import Mapping, Name, Place, Statement
from cowcatcher.litmus.order import argument
from cowcatcher.litmus.statements import SIGNATURES


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

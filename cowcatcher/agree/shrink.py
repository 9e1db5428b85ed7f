"""What a story becomes with something taken out: the candidates for a smaller test that still disagrees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cowcatcher.agree.story import Step, Story
from cowcatcher.explore.shrink import part_sizes
from cowcatcher.litmus.ast import Mapping, Name
from cowcatcher.litmus.rewrite import (
    Change,
    last_page_joined,
    pins_on,
    place_of,
    takes_pin,
    with_places,
    without_cells,
)


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
    for size in part_sizes(len(story.steps)):
        for at in range(0, len(story.steps), size):
            yield replace(story, steps=story.steps[:at] + story.steps[at + size :])
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
    pins = {s.statement.target for s in story.steps if takes_pin(s.statement)}
    places = [None if (place := place_of(s.statement)) is None else place.name for s in story.steps]
    kept = (s for s, place in zip(story.steps, places, strict=True) if place is None or place in known | pins)
    return replace(story, steps=tuple(kept))


def _with_one_page(story: Story, mapping: Mapping, left: int) -> Story:
    """One page less: what names the last one now names the one before, or no page at all if only one is left."""
    memory = tuple(replace(m, pages=left) if m is mapping else m for m in story.memory)
    return _changed(replace(story, memory=memory), last_page_joined(_known_as(story, mapping), left + 1))


def _with_one_cell(story: Story, mapping: Mapping) -> Story:
    value = mapping.cells[0][1]
    memory = tuple(replace(m, cells=(("", value),)) if m is mapping else m for m in story.memory)
    return _changed(replace(story, memory=memory), without_cells(_known_as(story, mapping)))


def _known_as(story: Story, mapping: Mapping) -> set[str]:
    """The mapping, and the pins on it."""
    return {mapping.name, *pins_on(mapping.name, (s.statement for s in story.steps))}


def _changed(story: Story, change: Change) -> Story:
    return replace(story, steps=tuple(Step(s.actor, with_places(s.statement, change)) for s in story.steps))

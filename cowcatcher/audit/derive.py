"""A litmus test made of a case: the trace's events on one page, and what no tracer sees, marked as assumed.

The events become statements one by one, in the order that the trace gives them: what one process did after another had
done something waits for it. What the trace does not order stays in no order: two threads inside of system calls at the
same time, the end of a child (it may come earlier than it was seen to, unless somebody went on only afterwards), and
everything that is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

from cowcatcher.audit.acts import CannotDerive as CannotDerive
from cowcatcher.audit.acts import page_story
from cowcatcher.audit.ask import ask
from cowcatcher.audit.draft import Draft
from cowcatcher.audit.draft import Origin as Origin
from cowcatcher.audit.finding import Case
from cowcatcher.audit.fold import folded
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.checks import check
from cowcatcher.litmus.order import NoOrder, ordered


@dataclass(frozen=True, slots=True)
class Derived:
    """``test``, where each statement's span has as its line the number of its origin, counted from 1.

    A statement keeps its span whatever the shrinker makes of it. ``mapped``: the event that made the memory.
    ``repeated``: acts that only did again what is in the test. ``further``: it takes a step that the trace has not.
    ``guessed``: what nobody saw and the test has to say.
    """

    test: Test
    origins: tuple[Origin, ...]
    mapped: int | None
    repeated: int
    further: bool
    guessed: tuple[str, ...]


def derive(case: Case) -> Test:
    """A test that ``litmus.check`` takes, of any size. Raises CannotDerive, which names what cannot be expressed."""
    return derived(case).test


def derived(case: Case, some_file: str = "") -> Derived:
    """``derive``, with where each statement comes from; files that nobody told of lie on ``some_file``.

    Raises CannotDerive.
    """
    story = page_story(case)
    acts, repeated = folded(story.acts, story.root)
    draft = Draft(case, story, acts, some_file)
    claims = ask(draft, case.question)
    actors, origins = draft.actors()
    name = case.question.name.lower()
    test = Test(name, case.question.value.capitalize(), memory=(draft.memory,), actors=actors, claims=claims)
    _must_be_well_formed(test)
    return Derived(test, origins, story.mapped, repeated, draft.further, tuple(draft.guessed))


def _must_be_well_formed(test: Test) -> None:
    mistakes = check(test, bounded=False)
    if mistakes:
        raise CannotDerive(f"a test of it would be none: {mistakes[0].message}")
    try:
        ordered(test)
    except NoOrder as why:
        raise CannotDerive(f"the order of the trace cannot be kept with what is assumed: {why}") from None

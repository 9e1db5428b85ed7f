"""A test's ordered form: one schedule, statement by statement, for machines on which nothing but order can be chosen.

The rule: keep running the current actor until it blocks, then the first actor in the order of the text that can run.
An actor blocks at ``await`` of an event that nobody has posted, at ``wait`` for a process that has not ended, in
``vfork`` until the child has its own program or has ended, and at the end of its body; a process that reaches the end
of its body is still there. Where that rule alone runs into a deadlock, the nearest schedule that does not is taken.
``kernel may`` actions have no place in an ordered form: none of them happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from cowcatcher.litmus.ast import Actor, Name, Place, Statement, Test

#: Schedules looked at before giving up; the largest test of the catalogue needs one.
MAX_TRIED: Final = 5_000


@dataclass(frozen=True, slots=True)
class OrderedStep:
    """One statement of the schedule: whose, which of its body, and the statement."""

    actor: str
    index: int
    statement: Statement


class NoOrder(Exception):
    """Every schedule ends with an actor waiting for what never comes; the text says who waits for what."""


def argument(statement: Statement, position: int = 0) -> str:
    """The word at ``position`` of the statement's arguments: a process, an event, a pin, a mapping."""
    arg = statement.args[position]
    if isinstance(arg, Name):
        return arg.text
    if isinstance(arg, Place):
        return arg.name
    raise TypeError(f"{statement.op}: argument {position + 1} is no name")


class _Effects(NamedTuple):
    """What the first so many statements of one actor did, taken together."""

    posted: dict[str, int]  # event -> how often, less how often it was taken
    born: tuple[str, ...]
    suspended_by: str  # the child of its vfork(), if the last one was one
    gone: bool
    own_program: bool


def _effects(actor: Actor) -> list[_Effects]:
    """For each number of statements that the actor can have executed."""
    so_far = [_Effects({}, (), "", False, False)]
    for statement in actor.body:
        posted, born, suspended_by, gone, own_program = so_far[-1]
        match statement.op:
            case "post" | "await":
                event = argument(statement)
                posted = posted | {event: posted.get(event, 0) + (1 if statement.op == "post" else -1)}
            case "fork" | "vfork":
                born = (*born, argument(statement))
                suspended_by = argument(statement) if statement.op == "vfork" else suspended_by
            case "exit":
                gone = True
            case "exec":
                own_program = True
        so_far.append(_Effects(posted, born, suspended_by, gone, own_program))
    return so_far


class _Machine:
    """The schedule's whole state follows from how far each actor has got; this works it out."""

    def __init__(self, test: Test) -> None:
        self.actors = test.actors
        self.first = next((a.name for a in test.actors if a.kind == "process"), "")
        self.effects = [_effects(actor) for actor in test.actors]

    def runnable(self, at: tuple[int, ...]) -> tuple[list[int], list[str]]:
        """Who can run next, in the order of the text, and of the others who are there: what they wait for."""
        posted: dict[str, int] = {}
        born, gone, own_program = {self.first}, set[str](), set[str]()
        suspended_by: dict[str, str] = {}
        for actor, effects, upto in zip(self.actors, self.effects, at, strict=True):
            done = effects[upto]
            for event, times in done.posted.items():
                posted[event] = posted.get(event, 0) + times
            born.update(done.born)
            if done.gone:
                gone.add(actor.process)
            if done.own_program:
                own_program.add(actor.process)
            if done.suspended_by:
                suspended_by[actor.name] = done.suspended_by
        able: list[int] = []
        waiting: list[str] = []
        for i, (actor, upto) in enumerate(zip(self.actors, at, strict=True)):
            if upto == len(actor.body):
                continue
            if actor.kind != "device" and (actor.process not in born or actor.process in gone):
                continue
            if actor.kind == "thread" and actor.process in own_program:
                continue
            child = suspended_by.get(actor.name, "")
            why = f"is suspended in vfork({child}) until {child} reaches exec() or exit()"
            if not child or child in gone or child in own_program:
                why = _waits(actor.body[upto], posted, gone)
            if why:
                waiting.append(f"{actor.name} {why}")
            else:
                able.append(i)
        return able, waiting


def _waits(statement: Statement, posted: dict[str, int], gone: set[str]) -> str:
    """What the statement waits for, or "" if it can go ahead."""
    if statement.op == "await" and posted.get(argument(statement), 0) <= 0:
        return f"waits for post({argument(statement)})"
    if statement.op == "wait" and argument(statement) not in gone:
        return f"waits for {argument(statement)} to end"
    return ""


def ordered(test: Test) -> tuple[OrderedStep, ...]:
    """The test's schedule; :class:`NoOrder` when there is none."""
    machine = _Machine(test)
    at = (0,) * len(test.actors)
    taken: list[int] = []
    dead_ends: set[tuple[int, ...]] = set()
    stuck: list[str] = []

    def choices(at: tuple[int, ...], current: int) -> Iterator[int]:
        able, waiting = machine.runnable(at)
        if not able and not stuck:
            stuck.extend(waiting)
        if current in able:  # stay with it
            able.remove(current)
            able.insert(0, current)
        return iter(able)

    pending = [choices(at, 0)]
    while machine.runnable(at) != ([], []):
        choice = next(pending[-1], None)
        if choice is None:
            dead_ends.add(at)
            if not taken or len(dead_ends) > MAX_TRIED:
                raise NoOrder("no order of the statements lets every actor finish: " + "; ".join(stuck))
            pending.pop()
            at = _moved(at, taken.pop(), -1)
            continue
        ahead = _moved(at, choice, 1)
        if ahead in dead_ends:
            continue
        at = ahead
        taken.append(choice)
        pending.append(choices(at, choice))
    position = [0] * len(test.actors)
    steps = []
    for i in taken:
        actor = test.actors[i]
        steps.append(OrderedStep(actor.name, position[i], actor.body[position[i]]))
        position[i] += 1
    return tuple(steps)


def _moved(at: tuple[int, ...], actor: int, by: int) -> tuple[int, ...]:
    return (*at[:actor], at[actor] + by, *at[actor + 1 :])

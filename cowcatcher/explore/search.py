"""Breadth-first search through every interleaving: the first way to a bad state is a shortest one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

from cowcatcher.explore.checks import CHECK_BITS, broken_in_state, promise_held
from cowcatcher.explore.checks import unbalanced as is_unbalanced
from cowcatcher.explore.effects import reduced
from cowcatcher.explore.successors import Stepper
from cowcatcher.kernels import Kernel
from cowcatcher.state import Machine

#: Is what has been found by now enough? Asked of an ``Exploration`` or what is as much of one as a search has by then.
Enough: TypeAlias = "Callable[[Any], bool]"
#: (task, state that its step led to), from the first step on.
Way: TypeAlias = list[tuple[int, bytes]]

#: Rough cost of one stored state beside its bytes: dictionary entry, list slots, object headers.
_OVERHEAD = 220
_LOOK_EVERY = 2048


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a search gives up; what it has found by then stands, what it has not found is *could not tell*.

    ``states`` is for the interpreter; compiled code goes on for as long as there is memory, or to its own limit.
    """

    states: int = 2_000_000
    seconds: float = 600.0
    memory: int = 4 << 30  # bytes, as estimated from the states stored
    compiled_states: int | None = None

    @property
    def states_reached(self) -> str:
        return f"the limit of {self.states:,} states"

    def reached(self, states: int, started: float, size: int) -> str:
        if states >= self.states:
            return self.states_reached
        if time.monotonic() - started > self.seconds:
            return f"the limit of {self.seconds:g} seconds"
        if states * (size + _OVERHEAD) > self.memory:
            return f"the limit of {self.memory >> 20:,} MiB of memory"
        return ""


@dataclass(slots=True)
class Exploration:
    """Everything reachable: states in the order found, how each was reached first, which are final, what broke first.

    ``broken`` maps a check to (state it was broken in or left from, task that broke it or -1, state that it led to).
    """

    states: list[bytes] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    task: list[int] = field(default_factory=list)
    depth: int = 0
    transitions: int = 0
    finals: list[int] = field(default_factory=list)
    broken: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)
    promised: bool = False
    stopped: str = ""  # why the search did not finish; empty if it did
    covered: int = 0  # where it stopped, every execution of at most so many steps had been judged (reduced: that ends)
    reduced: bool = False  # whether steps that commute were taken in one order only
    longer: set[str] = field(default_factory=set)
    #: Another search for what is broken, without reduction, until it has found as much as this one. It is given this
    #: one and does not hold it: a cycle would keep millions of states until the collector comes.
    again: Callable[[Explored], Explored] | None = None

    engine: ClassVar[str] = "interpreted"
    chance_of_a_miss: ClassVar[float] = 0.0
    questions: ClassVar[frozenset[str] | None] = None
    _unreduced: Explored | None = None

    @property
    def n_states(self) -> int:
        return len(self.states)

    def endings(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        return ((i, self.states[self.finals[i]]) for i in range(start, len(self.finals)))

    def ways(self, endings: Sequence[int]) -> list[Way]:
        return [self.path(self.finals[i]) for i in endings]

    def way_to_broken(self, check: str) -> Way:
        if self.reduced and self._unreduced is None and self.again is not None:
            self._unreduced = self.again(self)
        if self._unreduced is not None and check in self._unreduced.broken:
            return self._unreduced.way_to_broken(check)
        if self.reduced:
            self.longer.add(check)
        at, task, following = self.broken[check]
        return [*self.path(at), (task, following)]

    def unbalanced(self, m: Machine) -> Way | None:
        return next((self.path(i) for i in self.finals if is_unbalanced(m, self.states[i])), None)

    def path(self, state: int) -> Way:
        """A shortest way to a state."""
        steps: Way = []
        while self.parent[state] >= 0:
            steps.append((self.task[state], self.states[state]))
            state = self.parent[state]
        steps.reverse()
        return steps


class Explored(Protocol):
    """What any search leaves for a verdict; an ``Exploration`` says what the fields mean.

    ``broken`` has the checks that were found broken as its keys. Endings are the states in which the test is over,
    numbered from 0 in order of distance. ``questions``: what the kernel was asked, where facts and answers were not
    recorded. ``chance_of_a_miss`` is the probability that any state was taken for another one.

    If it is ``reduced``, steps that commute were taken in one order only (``explore.commuting``). ``longer``: checks to
    which the way that was given may not be a shortest one, since looking for that would have gone beyond the limits.
    """

    @property
    def engine(self) -> str: ...
    @property
    def chance_of_a_miss(self) -> float: ...
    @property
    def questions(self) -> frozenset[str] | None: ...
    @property
    def n_states(self) -> int: ...
    @property
    def transitions(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def stopped(self) -> str: ...
    @property
    def covered(self) -> int: ...
    @property
    def reduced(self) -> bool: ...
    @property
    def longer(self) -> set[str]: ...
    @property
    def moved(self) -> set[int]: ...
    @property
    def promised(self) -> bool: ...
    @property
    def broken(self) -> Mapping[str, Any]: ...

    def endings(self, start: int = 0) -> Iterator[tuple[int, bytes]]: ...
    def ways(self, endings: Sequence[int]) -> list[Way]: ...
    def way_to_broken(self, check: str) -> Way: ...
    def unbalanced(self, m: Machine) -> Way | None: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What is searched: a machine on a kernel, where it begins, and which tasks are the kernel's own."""

    m: Machine
    kernel: Kernel
    initial: bytes
    kernel_tasks: frozenset[int]


class Searcher(Protocol):
    """A search that verdicts can be made from. It may go on for a while when it has found ``enough``."""

    def __call__(self, subject: Subject, limits: Limits, enough: Enough | None = None) -> Explored: ...


def as_much_as(this: Explored) -> Enough:
    """Has another search found everything broken that this one has?"""
    return lambda other: this.broken.keys() <= other.broken.keys()


def interpreted(subject: Subject, limits: Limits, enough: Enough | None = None) -> Exploration:
    """``search`` as any other search is called: the kernel's answers are in the machine. With reduction."""
    m = reduced(subject.m, subject.kernel.rules())
    found = search(m, subject.initial, subject.kernel_tasks, limits, enough)

    found.again = lambda this: in_every_order(subject, limits, as_much_as(this))
    return found


def in_every_order(subject: Subject, limits: Limits, enough: Enough | None = None) -> Exploration:
    """``interpreted``, without reduction."""
    return search(subject.m, subject.initial, subject.kernel_tasks, limits, enough)


def search(
    m: Machine,
    initial: bytes,
    kernel_tasks: frozenset[int],
    limits: Limits,
    enough: Enough | None = None,
) -> Exploration:
    """Explore everything that can follow ``initial``, in order of distance; deterministic.

    Of a machine that is ``reduced`` not every state is looked at, but every final one is, and at its distance.

    ``enough`` is asked whenever something new is broken or a final state is found: whether that will do. It stops the
    search then and there, with what has been found.
    """
    stepper = Stepper(m, kernel_tasks)
    started = time.monotonic()
    found = Exploration([initial], [-1], [-1], reduced=bool(m.reduces))
    index: dict[bytes, int] = {initial: 0}
    depth_of = [0]
    at = broken_before = 0
    while at < len(found.states):
        if at % _LOOK_EVERY == _LOOK_EVERY - 1:
            found.stopped = limits.reached(len(found.states), started, m.size)
            if found.stopped:
                found.covered = max(depth_of[at] - 1, 0)
                break
        state = found.states[at]
        moved: set[int] = set()
        for task, broken, following in stepper.successors(state):
            found.transitions += 1
            moved.add(task)
            if broken:
                _note(found, broken, at, task, following)
            if following not in index:
                index[following] = len(found.states)
                found.states.append(following)
                found.parent.append(at)
                found.task.append(task)
                depth_of.append(depth_of[at] + 1)
                broken = broken_in_state(m, following)
                if broken:
                    _note(found, broken, at, task, following)
                if not found.promised and promise_held(m, following):
                    found.promised = True
        found.moved |= moved
        final = stepper.is_final(state, moved)
        if final:
            found.finals.append(at)
        if enough is not None and (final or len(found.broken) > broken_before):
            broken_before = len(found.broken)
            if enough(found):
                break
        at += 1
    found.depth = depth_of[-1]
    return found


def _note(found: Exploration, bits: int, at: int, task: int, following: bytes) -> None:
    for name, bit in CHECK_BITS.items():
        if bits & bit and name not in found.broken:
            found.broken[name] = (at, task, following)

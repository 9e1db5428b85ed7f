"""A single test searched by the engine, with what a verdict needs: the contract of ``explore.search.Explored``.

The engine knows numbers of states, flags and ways. What it does not keep, ``expand`` says of each state as a bit (see
``expand.STATE_BREAKS``), of which the first one is kept. The states in which the test is over are written by ``expand``
into memory reserved for them. The way to one of them is found by a second search that stops there; most verdicts need
none. So is a shortest way to a broken check, if the first search was reduced (``explore.commuting``). Every way is
taken once more by the interpreter before anybody is told of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cowcatcher.compiled import expand as bits
from cowcatcher.compiled.context import asked
from cowcatcher.compiled.space import space_of
from cowcatcher.engine.search import Flagged, Found, Progress, states_that_fit
from cowcatcher.engine.search import search as search_space
from cowcatcher.engine.store import Reserve
from cowcatcher.explore.checks import CHECK_BITS
from cowcatcher.explore.effects import reduced
from cowcatcher.explore.search import Enough, Explored, Limits, Subject, Way
from cowcatcher.explore.successors import Stepper
from cowcatcher.state import Machine

_FINAL_BIT = bits.FINAL.bit_length() - 1
#: The part of the memory allowed that is for states in which the test is over. They are sorted when the engine's own
#: memory has been given back, which takes twice as much again for a moment.
_FOR_ENDINGS = 4


@dataclass
class CompiledSearch:
    """Searches as it is told; called like any other search, see ``explore.search.Searcher``.

    ``watch`` is told of progress. ``announce`` is called before the model is compiled, which happens once. ``spent``
    are seconds of those allowed that are gone already. ``reduces``: steps that commute are taken in one order only.
    """

    threads: int = 2
    exact: bool = False
    announce: Callable[[str], None] | None = None
    watch: Callable[[Progress], None] | None = None
    spent: float = 0.0
    reduces: bool = True

    def __call__(self, subject: Subject, limits: Limits, enough: Enough | None = None) -> CompiledExploration:
        """Everything that can follow; whether that is ``enough`` is asked after each distance.

        Raises TooLarge and CannotCompile.
        """
        return _Run(self, subject, limits, enough).run()

    def fit(self, subject: Subject, limits: Limits) -> int:
        """About how many states there is memory for."""
        return states_that_fit(limits.memory - limits.memory // _FOR_ENDINGS, subject.m.size, self.exact)


@dataclass
class CompiledExploration:
    """What was found. Endings are numbered by distance, and within one distance by their bytes."""

    n_states: int
    transitions: int
    depth: int
    stopped: str
    covered: int
    moved: set[int]
    promised: bool
    broken: Mapping[str, Way]
    chance_of_a_miss: float
    questions: frozenset[str]
    memory: int
    seconds: float  # of searching, without compiling
    _unbalanced: Way | None
    _endings: _Endings
    _run: _Run
    reduced: bool
    engine: str = field(default="compiled", init=False)
    longer: set[str] = field(default_factory=set, init=False)
    #: Another search for what is broken, without reduction.
    again: Callable[[Explored], Explored] | None = field(default=None, init=False)
    _unreduced: Explored | None = field(default=None, init=False)

    def endings(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        return ((i, self._endings[i]) for i in range(start, len(self._endings)))

    def way_to_broken(self, check: str) -> Way:
        if self.reduced and self._unreduced is None:
            self._unreduced = self.again(self) if self.again is not None else self._run.again()
        if self._unreduced is not None and check in self._unreduced.broken:
            return self._unreduced.way_to_broken(check)
        if self.reduced:
            self.longer.add(check)
        return self.broken[check]

    def unbalanced(self, m: Machine) -> Way | None:
        return self._unbalanced

    def ways(self, endings: Sequence[int]) -> list[Way]:
        """By searching once more for each, ``MOST_TARGETS`` of them at a time."""
        found: list[Way] = []
        for first in range(0, len(endings), bits.MOST_TARGETS):
            some = endings[first : first + bits.MOST_TARGETS]
            deepest = max(self._endings.level_of(i) for i in some)
            found += self._run.ways_to([self._endings[i] for i in some], deepest)
        return found


class _Endings:
    """States in which the test is over, each once, those of each distance in order."""

    def __init__(self, rows: NDArray[np.uint8], ends: Sequence[int], size: int) -> None:
        self._size = size
        self._levels = [np.unique(_as_wholes(rows[a:b])) for a, b in zip([0, *ends], [*ends, len(rows)], strict=True)]
        self._starts = np.cumsum([0, *(len(level) for level in self._levels)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def level_of(self, number: int) -> int:
        return int(np.searchsorted(self._starts, number, side="right")) - 1

    def __getitem__(self, number: int) -> bytes:
        level = self.level_of(number)
        return bytes(self._levels[level][number - self._starts[level]])[: self._size]


def _as_wholes(rows: NDArray[np.uint8]) -> NDArray[Any]:
    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1]))).ravel()


class _Run:
    """One search, and those for the ways to its endings."""

    def __init__(self, settings: CompiledSearch, subject: Subject, limits: Limits, enough: Enough | None) -> None:
        self.settings = settings
        self.subject = subject
        self.limits = limits
        self.enough = enough
        self.had_enough = False
        kernel = subject.kernel
        self.m = m = reduced(subject.m, kernel.rules()) if settings.reduces else subject.m
        self.space = space = space_of(m, kernel, subject.initial, subject.kernel_tasks, hunts=False)
        self.record = space.context
        self.reason = ""
        self.level_ends: list[int] = []  # how many endings there were when a level was done
        self.states_at_end = 1
        self.room = max(limits.memory // _FOR_ENDINGS // space.size, 1)
        self.kept = Reserve(8 + self.room * space.size)
        self.count = self.kept.view(np.int64, 1)
        self.broken: Mapping[str, Way] = {}

    def run(self) -> CompiledExploration:
        self.record["endings"], self.record["endings_room"] = self.kept.address, self.room
        wanted = [*range(3), *range(bits.STATE_BREAKS, bits.STATE_BREAKS + 3), bits.UNBALANCED, bits.PROMISE]
        wanted += [bits.KERNEL_ACTS + task for task in self.subject.kernel_tasks]
        found = self._search(dict.fromkeys(wanted, 1), self._level_done, self._tick)
        self.record["endings"] = 0  # ways are found by executing them again
        self._look_at_room()
        first = _first(found.flagged)
        done = _Done(self, found, first)
        # What follows needs the memory; everything that is needed of the search has been taken from it.
        found._search = None
        size = self.space.size
        count = min(int(self.count[0]), self.room)
        if "memory" in done.stopped:  # what comes after the last distance that was done may not be found again
            count = self.level_ends[-1] if self.level_ends else 0
        rows = self.kept.bytes[8 : 8 + count * size].reshape(count, size)
        ends = self.level_ends if found.levels else []
        return done.exploration(_Endings(rows, ends, self.subject.m.size))

    def _search(
        self,
        wanted: dict[int, int],
        on_level: Callable[[Progress], bool],
        on_tick: Callable[[Progress], bool] | None,
    ) -> Found:
        found = search_space(
            self.space,
            threads=self.settings.threads,
            memory=self.limits.memory - self.limits.memory // _FOR_ENDINGS,
            exact=self.settings.exact,
            keep_flagged=wanted,
            on_level=on_level,
            on_tick=on_tick,
            announce=self.settings.announce,
        )
        if found.stopped == "interrupted":
            raise KeyboardInterrupt
        return found

    # --- limits ---------------------------------------------------------------------------------------------------

    def _level_done(self, progress: Progress) -> bool:
        self.level_ends.append(min(int(self.count[0]), self.room))
        self.states_at_end = progress.states
        if self.enough is not None and self.enough(_SoFar(self, progress)):
            self.had_enough = True
        return self._tick(progress) or self.had_enough

    def _tick(self, progress: Progress) -> bool:
        if self.settings.watch:
            self.settings.watch(progress)
        states, seconds = self.limits.compiled_states, self.limits.seconds
        if states is not None and progress.states >= states:
            self.reason = f"the limit of {states:,} states"
        elif progress.seconds + self.settings.spent > seconds:
            self.reason = f"the limit of {seconds:g} seconds"
        self._look_at_room()
        return bool(self.reason)

    def _look_at_room(self) -> None:
        if int(self.count[0]) > self.room:
            self.reason = self.out_of_memory

    @property
    def out_of_memory(self) -> str:
        return f"the limit of {self.limits.memory >> 20:,} MiB of memory"

    def ending_so_far(self, number: int) -> bytes:
        size = self.space.size
        return bytes(self.kept.bytes[8 + number * size : 8 + (number + 1) * size])[: self.m.size]

    # --- ways -----------------------------------------------------------------------------------------------------

    def again(self) -> CompiledExploration:
        """What is broken in some state, searched for in every order, and so at its distance."""
        broken = {name for name in CHECK_BITS if name in self.broken}
        settings = replace(self.settings, reduces=False)
        return _Run(settings, self.subject, self.limits, lambda found: broken <= found.broken.keys()).run()

    def ways_to(self, states: Sequence[bytes], deepest: int) -> list[Way]:
        """A shortest way to each of these states, none of which is further away than ``deepest``."""
        targets = b"".join(state.ljust(self.space.size, b"\0") for state in states)
        there = Reserve(len(targets))
        there.bytes[: len(targets)] = np.frombuffer(targets, dtype=np.uint8)
        self.record["targets"], self.record["n_targets"] = there.address, len(states)
        places = [bits.TARGET + i for i in range(len(states))]
        try:
            found = self._search(dict.fromkeys(places, 1), lambda p: p.depth >= deepest, None)
        finally:
            self.record["n_targets"] = 0
        first = _first(found.flagged)
        return [self.way(found, first[place]) for place in places]

    def way(self, found: Found, flagged: Flagged) -> Way:
        steps = found.path(flagged.parent) if flagged.step < 0 else found.path_of(flagged)
        return self._confirmed([(label >> 8, state[: self.subject.m.size]) for label, state in steps])

    def _confirmed(self, way: Way) -> Way:
        """The same way, which the interpreter can take as well."""
        stepper = Stepper(self.subject.m, self.subject.kernel_tasks)
        at = self.subject.initial
        for task, state in way:
            if not any(t == task and s == state for t, _, s in stepper.successors(at)):
                raise AssertionError("compiled code takes a step that the interpreted model does not have")
            at = state
        return way


class _SoFar:
    """A search under way: enough of an ``Explored`` to say whether it has found enough. Endings may come twice."""

    def __init__(self, run: _Run, progress: Progress) -> None:
        self._run = run
        self.broken = {
            name: None for name, bit in CHECK_BITS.items() if progress.flagged & (bit | bit << bits.STATE_BREAKS)
        }

    def endings(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        return ((i, self._run.ending_so_far(i)) for i in range(start, self._run.level_ends[-1]))


def _first(flagged: Sequence[Flagged]) -> dict[int, Flagged]:
    """The first for each bit; they come in order of distance."""
    found: dict[int, Flagged] = {}
    for one in flagged:
        for bit in range(one.bits.bit_length()):
            if one.bits >> bit & 1:
                found.setdefault(bit, one)
    return found


class _Done:
    """A search that is over, as what a verdict is made from."""

    def __init__(self, run: _Run, found: Found, first: dict[int, Flagged]) -> None:
        self.run = run
        self.found = found
        self.first = first
        self.broken = {}
        for name, bit in CHECK_BITS.items():
            nearest = self._nearest(bit.bit_length() - 1)
            if nearest is not None:
                self.broken[name] = run.way(found, nearest)
        unbalanced = first.get(bits.UNBALANCED)
        self.unbalanced = None if unbalanced is None else run.way(found, unbalanced)
        run.broken = self.broken
        self.stopped = self._why_stopped()
        self.chance = found.chance_of_a_miss

    def _nearest(self, bit: int) -> Flagged | None:
        """A check is broken by a step, or by a state that it led to."""
        ways = [f for f in (self.first.get(bit), self.first.get(bits.STATE_BREAKS + bit)) if f is not None]
        return min(ways, key=lambda f: f.depth, default=None)

    def _why_stopped(self) -> str:
        if self.run.had_enough:
            return ""
        if self.run.reason or not self.found.stopped:
            return self.run.reason
        return self.run.out_of_memory if "memory" in self.found.stopped else self.found.stopped

    def exploration(self, endings: _Endings) -> CompiledExploration:
        found, run = self.found, self.run
        levels = len(found.levels)
        # Every level that is done counts; of the next its states are known, and perhaps some of what they lead to.
        depth = max(levels - 1, 0) + (found.states > sum(found.levels)) + (found.states > run.states_at_end)
        return CompiledExploration(
            n_states=found.states,
            transitions=found.transitions,
            depth=depth,
            stopped=self.stopped,
            covered=max(levels - 1, 0),
            moved={task for task in run.subject.kernel_tasks if bits.KERNEL_ACTS + task in self.first},
            promised=bits.PROMISE in self.first,
            broken=self.broken,
            chance_of_a_miss=self.chance,
            questions=asked(run.record),
            memory=found.memory + int(run.count[0]) * run.space.size,
            seconds=found.seconds,
            _unbalanced=self.unbalanced,
            _endings=endings,
            _run=run,
            reduced=bool(run.m.reduces),
        )

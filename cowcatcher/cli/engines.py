"""Which search checks a test: interpreted at once, compiled when it is worth while; and the announcement of that."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from typing import Any

from cowcatcher.cli import screen
from cowcatcher.cli.parser import Problem
from cowcatcher.explore.search import (
    Enough,
    Exploration,
    Explored,
    Limits,
    Searcher,
    Subject,
    as_much_as,
    in_every_order,
    interpreted,
)

#: States that the interpreter looks at before it gives way: a few seconds' work.
GIVES_WAY = 100_000
INSTALL = "pip install numba"


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine", choices=("auto", "interpreted", "compiled"), default="auto",
        help=f"compiled: many times as fast, after compiling once (needs {INSTALL}); auto (default): compiled for "
        f"what takes more than {GIVES_WAY:,} states",
    )  # fmt: skip
    group.add_argument(
        "--exact", action="store_true", help="compiled: compare whole states, not fingerprints; takes more memory"
    )
    group.add_argument(
        "--no-reduction", action="store_true",
        help="take steps that commute in every order, not in one of them; more states, the same verdicts",
    )  # fmt: skip


def search_of(args: argparse.Namespace, threads: int = 2) -> Searcher:
    """The search that is asked for. Raises Problem if it needs what is not there."""
    if args.engine == "interpreted":
        if args.exact:
            raise Problem("--exact is for the compiled engine; the interpreted one always compares whole states")
        return in_every_order if args.no_reduction else interpreted
    if args.engine == "compiled":
        if not _installed():
            raise Problem(f"--engine compiled needs numba, which is not installed: {INSTALL}")
        return Compiled(args.exact, threads, not args.no_reduction)
    return Auto(Compiled(args.exact, threads, not args.no_reduction))


def _installed() -> bool:
    import importlib.util

    return importlib.util.find_spec("numba") is not None


@dataclass
class Compiled:
    """The compiled search, imported when it is first used, as that alone takes longer than most checks."""

    exact: bool = False
    threads: int = 2
    reduces: bool = True
    _search: Any = None

    def __call__(self, subject: Subject, limits: Limits, enough: Enough | None = None) -> Explored:
        try:
            return self.attempt(subject, limits, enough)
        except CannotBeCompiled as why:
            raise Problem(f"{why}\n--engine interpreted takes it as it is.") from why

    def attempt(self, subject: Subject, limits: Limits, enough: Enough | None = None, spent: float = 0.0) -> Explored:
        """``spent``: seconds of those allowed that are gone. Raises CannotBeCompiled."""
        import multiprocessing

        from cowcatcher.compiled.build import CannotCompile
        from cowcatcher.compiled.context import TooLarge

        progress = screen.Progress()
        search = self.search()
        search.spent = spent
        if multiprocessing.parent_process() is not None:  # one of several that check other tests meanwhile
            search.threads = 1
        else:
            search.watch = lambda now: progress.show(
                f"{subject.kernel.name}: {now.states:,} states, depth {now.depth}, {now.memory >> 20:,} MiB, "
                f"{now.states / max(now.seconds, 0.1):,.0f} states/s"
            )
        try:
            found: Explored = search(subject, limits, enough)
        except (TooLarge, CannotCompile) as why:
            raise CannotBeCompiled(str(why)) from why
        finally:
            progress.clear()
        return found

    def search(self) -> Any:
        if self._search is None:
            from cowcatcher.compiled.check import CompiledSearch

            self._search = CompiledSearch(self.threads, self.exact, _announce, reduces=self.reduces)
        return self._search


class CannotBeCompiled(Exception):
    """The test or a decision is more than compiled code can take; the message says which."""


def _announce(_: str) -> None:
    screen.warn("compiling the model for this processor, once for all tests: a minute or so")


@dataclass
class Auto:
    """Interpreted, which begins at once; a search that passes ``gives_way`` states is begun anew by compiled code."""

    compiled: Compiled
    gives_way: int = GIVES_WAY
    _large: set[tuple[object, ...]] = field(default_factory=set)
    _said: set[str] = field(default_factory=set)

    def __call__(self, subject: Subject, limits: Limits, enough: Enough | None = None) -> Explored:
        interpreted = self._interpreted
        if limits.states <= self.gives_way or not _installed():
            found = interpreted(subject, limits, enough)
            if found.stopped == limits.states_reached and not _installed():
                self._say(f"compiled code could go on from {limits.states:,} states: {INSTALL}")
            return found
        test = tuple(subject.m[1:])  # all of it but the kernel's decisions
        started = time.monotonic()
        if test not in self._large:
            few = replace(limits, states=self.gives_way)
            found = interpreted(subject, few, enough)
            if found.stopped != few.states_reached:
                if found.reduced:
                    found.again = lambda this: self._in_every_order(subject, limits, as_much_as(this))
                return found
            self._large.add(test)
            self._say(
                f"more than {self.gives_way:,} states: compiled code begins anew, with {self._room(subject, limits)}"
            )
        try:
            return self.compiled.attempt(subject, limits, enough, time.monotonic() - started)
        except CannotBeCompiled as why:
            self._say(f"{why}; so it is interpreted")
            return interpreted(subject, limits, enough)

    def _interpreted(self, subject: Subject, limits: Limits, enough: Enough | None = None) -> Exploration:
        return (interpreted if self.compiled.reduces else in_every_order)(subject, limits, enough)

    def _in_every_order(self, subject: Subject, limits: Limits, enough: Enough) -> Explored:
        return Auto(replace(self.compiled, reduces=False, _search=None), self.gives_way)(subject, limits, enough)

    def _room(self, subject: Subject, limits: Limits) -> str:
        states = self.compiled.search().fit(subject, limits)
        return f"at most {limits.memory >> 20:,} MiB, which is room for about {states / 1e6:,.0f} million states"

    def _say(self, text: str) -> None:
        """Once."""
        if text not in self._said:
            self._said.add(text)
            screen.warn(text)

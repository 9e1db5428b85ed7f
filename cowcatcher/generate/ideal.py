"""What everybody must read if memory is shared as it is meant to be, whatever the kernel does about it.

Private memory: a fork gives the child a copy of its own, once and for all. A pin that promises something stays with the
memory of whoever took it: the device reads what the owner wrote last, and the owner what the device wrote. A short
reference to read (a pipe's, a direct write's) promises less: its page may be left behind by the owner's next write, but
never does it show what somebody else wrote. Shared memory is one for all.

No frames, no counts, no faults: that is what makes it something to hold a kernel against. Every order that a word
leaves open is gone through, an event at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from cowcatcher.generate.word import Event, Word, WordError, promises, writes
from cowcatcher.litmus.ast import Mapping

#: What a register holds at the end: a value, an error, "ok", or ANY where nobody can say.
Value: TypeAlias = int | str
ANY: Final = "any"
SEGV: Final = "SIGSEGV"
#: Statements whose register is asked about; of a store only whether it was possible.
READS: Final = ("load", "dma_read", "peek")
#: Orders looked at before a word is left without a claim.
MOST: Final = 20_000

_SHARED = ("shared_anon", "file_shared", "memfd", "hugetlb")
_ANON = ("anon", "anon_zero")
_PROT = {"NONE": 0, "R": 1, "RW": 2}


@dataclass(frozen=True, slots=True)
class _View:
    """The mapping as one process has it. ``page`` is what it holds, not where."""

    page: int
    prot: int
    dontfork: bool = False
    wipe: bool = False
    lazyfree: bool = False
    locked: bool = False


@dataclass(frozen=True, slots=True)
class _Pin:
    """``page`` is -1 if taking it failed or nobody can say."""

    page: int
    owner: str
    promises: bool
    follows: bool = False  # no reference: whatever the owner has there at the time
    held: bool = True


@dataclass(frozen=True, slots=True)
class _State:
    pages: tuple[int, ...]
    views: tuple[tuple[str, _View | None], ...]  # of the processes that are there
    pins: tuple[tuple[int, _Pin], ...] = ()

    def view(self, process: str) -> _View | None:
        return dict(self.views).get(process)

    def seen(self, process: str, view: _View | None) -> _State:
        return replace(self, views=tuple(sorted((dict(self.views) | {process: view}).items())))

    def pin(self, number: int) -> _Pin:
        return dict(self.pins).get(number, _NOT_THERE)

    def pinned(self, number: int, pin: _Pin) -> _State:
        return replace(self, pins=tuple(sorted((dict(self.pins) | {number: pin}).items())))

    def with_page(self, page: int, value: int) -> _State:
        return replace(self, pages=(*self.pages[:page], value, *self.pages[page + 1 :]))

    def new_page(self, value: int) -> tuple[_State, int]:
        return replace(self, pages=(*self.pages, value)), len(self.pages)


_NOT_THERE = _Pin(-1, "", False)
_After: TypeAlias = Iterator[tuple[_State, Value]]


@dataclass(frozen=True, slots=True)
class Ideal:
    """A mapping, and what each event of a word does to it."""

    mapping: Mapping
    values: tuple[int, ...]  # what each event writes

    @property
    def shared(self) -> bool:
        return self.mapping.kind in _SHARED

    def outcomes(self, word: Word) -> set[tuple[Value, ...]]:
        """What the events may give, one tuple for each way it can go; empty if there are too many ways."""
        order = _Order(word)
        nothing: tuple[Value, ...] = ("",) * len(word.events)
        begun = (frozenset[int](), self.initial(), nothing)
        reached, pending = {begun}, [begun]
        found = set[tuple[Value, ...]]()
        while pending:
            done, state, given = pending.pop()
            if len(done) == len(word.events):
                found.add(given)
            for i in order.next(done):
                for after, value in self.step(state, i, word.events[i]):
                    following = (done | {i}, after, (*given[:i], value, *given[i + 1 :]))
                    if following not in reached:
                        reached.add(following)
                        pending.append(following)
            if len(reached) > MOST:
                return set()
        return found

    def initial(self) -> _State:
        return _State((self._fresh(),), (("p", _View(0, _PROT[self.mapping.prot])),))

    def _fresh(self) -> int:
        return self.mapping.cells[0][1] if self.mapping.cells else 0

    def step(self, state: _State, number: int, event: Event) -> _After:
        """Every way in which one event can go."""
        op = event.letter.op
        if event.actor == "d" or op == "unpin":
            return self._device(state, number, event)
        if state.view(event.process) is None and (event.process not in dict(state.views) or op not in _WITHOUT_MEMORY):
            return iter([(state, SEGV if op in ("load", "store") else ANY)])
        match op:
            case "load":
                return self._load(state, event.process)
            case "store":
                return self._store(state, event.process, self.values[number])
            case "fork":
                return self._fork(state, event)
            case "exit":
                return iter([(replace(state, views=tuple(v for v in state.views if v[0] != event.process)), "ok")])
            case "wait" | "clear_refs":
                return iter([(state, "ok")])
            case "mremap" | "munmap" | "mprotect" | "mlock":
                return iter([(self._mapping(state, event), "ok")])
            case "madvise":
                return self._madvise(state, event)
            case "peek" | "poke":
                return self._remote(state, number, event)
        return self._pin(state, event)

    # --- processes ----------------------------------------------------------------------------------------------------

    def _load(self, state: _State, process: str) -> _After:
        view = state.view(process)
        assert view is not None
        yield (state, state.pages[view.page] if view.prot else SEGV)

    def _store(self, state: _State, process: str, value: int, forced: bool = False) -> _After:
        view = state.view(process)
        assert view is not None
        if view.prot < 2 and not forced:
            yield state, SEGV
            return
        state = state.seen(process, replace(view, lazyfree=False))
        yield state.with_page(view.page, value), "ok"
        if not self.shared and self._may_be_left_behind(state, view.page):
            moved, page = state.new_page(value)
            yield moved.seen(process, replace(view, page=page, lazyfree=False)), "ok"

    def _may_be_left_behind(self, state: _State, page: int) -> bool:
        on_it = [pin for _, pin in state.pins if pin.page == page and pin.held]
        return bool(on_it) and not any(pin.promises for pin in on_it)

    def _fork(self, state: _State, event: Event) -> _After:
        view = state.view(event.process)
        if view is None or view.dontfork:
            yield state.seen(event.child, None), "ok"
        elif self.shared:
            yield state.seen(event.child, replace(view, locked=False)), "ok"
        else:
            copied, page = state.new_page(0 if view.wipe else state.pages[view.page])
            yield copied.seen(event.child, replace(view, page=page, locked=False)), "ok"

    def _mapping(self, state: _State, event: Event) -> _State:
        view = state.view(event.process)
        assert view is not None
        match event.letter.op:
            case "mremap":
                return self._moved(state, event.process)
            case "munmap":
                return state.seen(event.process, None)
            case "mlock":
                return state.seen(event.process, replace(view, locked=True))
        return state.seen(event.process, replace(view, prot=_PROT[event.argument]))

    def _moved(self, state: _State, process: str) -> _State:
        """What watches an address has lost it."""
        for number, pin in state.pins:
            if pin.follows and pin.owner == process:
                state = state.pinned(number, _NOT_THERE)
        return state

    def _madvise(self, state: _State, event: Event) -> _After:
        view = state.view(event.process)
        assert view is not None
        match event.letter.advice:
            case "DONTFORK" | "DOFORK":
                view = replace(view, dontfork=event.letter.advice == "DONTFORK")
            case "WIPEONFORK" | "KEEPONFORK" if self.mapping.kind in _ANON:
                view = replace(view, wipe=event.letter.advice == "WIPEONFORK")
            case "FREE" if self.mapping.kind in _ANON and not view.locked:
                # What is in swap is thrown away at once, what is in memory when that runs short, or never.
                yield self._discarded(state, event.process, 0)
                view = replace(view, lazyfree=True)
            case "DONTNEED" if not self.shared and not view.locked:
                yield self._discarded(state, event.process, self._fresh() if self.mapping.kind not in _ANON else 0)
                return
            case "PAGEOUT" if view.lazyfree:
                yield self._discarded(state, event.process, 0)
        yield state.seen(event.process, view), "ok"

    def _discarded(self, state: _State, process: str, value: int) -> tuple[_State, Value]:
        view = state.view(process)
        assert view is not None
        state, page = state.new_page(value)
        return state.seen(process, replace(view, page=page, lazyfree=False)), "ok"

    def _remote(self, state: _State, number: int, event: Event) -> _After:
        """By force: that a private mapping may not be read or written is nothing to a debugger."""
        view = state.view(event.argument)
        if view is None or (self.shared and view.prot < 2):
            yield state, ANY
        elif event.letter.op == "poke":
            yield from self._store(state, event.argument, self.values[number], forced=True)
        else:
            yield state, state.pages[view.page]

    # --- pins and the device ------------------------------------------------------------------------------------------

    def _pin(self, state: _State, event: Event) -> _After:
        view = state.view(event.process)
        assert view is not None
        able = view.prot == 2 if writes(event) and "FORCE" not in event.argument else view.prot > 0
        odp = event.letter.op == "odp_reg_mr"
        pin = _Pin(view.page if able else -1, event.process, promises(event), odp)
        yield state.pinned(event.pin, pin), "ok" if able else ANY

    def _device(self, state: _State, number: int, event: Event) -> _After:
        pin = state.pin(event.pin)
        if event.letter.op == "unpin":
            yield state.pinned(event.pin, replace(pin, held=False)), "ok"
            return
        page = pin.page
        if pin.follows:
            view = state.view(pin.owner)
            page = view.page if view is not None and view.prot == 2 else -1
        if page < 0 or not pin.held:
            yield state, ANY
        elif event.letter.op == "dma_read":
            yield state, state.pages[page]
        else:
            yield state.with_page(page, self.values[number]), "ok"


#: What a process can do that has nothing mapped.
_WITHOUT_MEMORY = ("fork", "exit", "wait", "peek", "poke", "clear_refs")


@dataclass(frozen=True, slots=True)
class _Order:
    """Which events can come next: those of which everything that has to come before is over."""

    word: Word

    def before(self, i: int) -> Iterator[int]:
        event = self.word.events[i]
        yield from event.needs
        if self.word.after[i] >= 0:
            yield self.word.after[i]
        earlier = (j for j in reversed(range(i)) if self.word.events[j].actor == event.actor)
        yield from [j for j, _ in zip(earlier, range(1), strict=False)]
        if event.letter.op == "exit":  # a process is over when all that it does in the word is
            yield from (j for j in range(i) if self.word.events[j].process == event.process)

    def next(self, done: frozenset[int]) -> Iterator[int]:
        for i in range(len(self.word.events)):
            if i not in done and all(j in done for j in self.before(i)):
                yield i


def sequential(word: Word, ideal: Ideal) -> Sequence[Value]:
    """What the events give in the order of the text, for a word to be refused that cannot happen.

    Raises WordError if something is done to memory that its process does not have.
    """
    state = ideal.initial()
    given: list[Value] = []
    for i, event in enumerate(word.events):
        state, value = next(ideal.step(state, i, event))
        if value == ANY:
            raise WordError(f"{event.text}: {_why(event)}")
        given.append(value)
    return given


def _why(event: Event) -> str:
    if event.letter.op in ("dma_read", "dma_write"):
        return "nothing is behind that pin any more"
    if event.letter.takes_pin:
        return f"{event.process} has no memory there that could be pinned like that"
    return f"{event.argument if event.letter.argument == 'process' else event.process} has no memory there"

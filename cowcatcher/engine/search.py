"""Breadth-first search of a space of states, with one thread or several, within a bound of memory.

A level is all states that so many costed steps lead to and no fewer; steps that cost nothing stay within a level, and a
level is closed under them before the next begins. So the first way to a state is one with fewest costed steps, and
fewest free ones among these as far as the last costed step goes. What is found does not depend on the number of
threads.
"""

from __future__ import annotations

import bisect
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from cowcatcher.engine import checkpoint, core, fingerprint
from cowcatcher.engine.build import Namespace, cache_home, digest_of, instantiate
from cowcatcher.engine.fingerprint import chance_of_a_miss, keys
from cowcatcher.engine.store import LINK_BYTES, Reserve, Store

SEED = 20200821
#: Candidates that a thread can keep of one round, and states that it expands in one.
_CANDIDATES = 1 << 16
_ROUND_OF_ONE = 1 << 8
_ROUND_OF_SEVERAL = 1 << 14
#: Fingerprints that a thread remembers to have seen a moment ago; they fit its second-level cache.
_RECENT = 1 << 14
#: A round is made shorter than that only to say that there is no memory.
_LEAST_ROUND = 64
#: New states that one thread takes room for at a time.
_ROOM = 1 << 17
_TICK = 0.5

#: What was done (as the model numbers it) and the state it led to.
Step = tuple[int, bytes]


@dataclass(frozen=True)
class Space:
    """What is searched: states of ``size`` bytes (a multiple of 8), at most ``width`` successors each.

    ``expand`` and ``judge`` are compiled functions as in ``core``; ``context`` is what they get as ``m``, or a function
    that makes it from the address of the fingerprints' keys. ``digest`` names what they were compiled from, and
    ``identity`` what must be the same besides for a saved search to go on. With ``fixed_size`` the loops are compiled
    for this size alone, which is faster and takes a compilation for each size.

    ``note``: the byte at this place of a state is no part of it, but a note by which ``expand`` tells itself how the
    state was found; of several ways to a state the first one's is kept. The model makes the fingerprints, without it.
    """

    name: str
    size: int
    width: int
    expand: Any
    context: Any
    initial: Sequence[bytes]
    digest: str
    stays: bool = False
    own_fingerprints: bool = False
    fixed_size: bool = False
    judge: Any = None
    identity: str = ""
    note: int = -1

    def __post_init__(self) -> None:
        if self.note >= 0 and (self.stays or not self.own_fingerprints):
            raise ValueError("a note needs fingerprints that the model makes, and steps that all cost something")


@dataclass(frozen=True, slots=True)
class Flagged:
    """A step that broke something: the state that it left from, which of its steps it was, the properties as bits."""

    bits: int
    parent: int
    step: int  # -1: nothing was done, the state itself is what is meant
    depth: int  # costed steps, this one included


@dataclass(frozen=True, slots=True)
class Progress:
    depth: int
    states: int
    transitions: int
    waiting: int
    memory: int
    seconds: float
    level_done: bool
    flagged: int = 0  # properties of which a broken one has been kept


#: Told how far it is; True to stop.
Watcher = Callable[[Progress], bool | None]


@dataclass
class Found:
    """What a search has found. ``stopped`` says why it did not finish.

    All states that ``complete`` costed steps or fewer lead to are among those found.
    """

    states: int = 0
    transitions: int = 0
    levels: list[int] = field(default_factory=list)
    flagged: list[Flagged] = field(default_factory=list)
    #: New states that were found broken when they were first reached, by property.
    flagged_states: list[int] = field(default_factory=lambda: [0] * 7)
    finals: int = 0
    kept_finals: list[int] = field(default_factory=list)
    stopped: str = ""
    complete: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    memory: int = 0
    exact: bool = False
    seed: int = SEED
    _search: Any = None

    @property
    def depth(self) -> int:
        return len(self.levels) - 1

    @property
    def bytes_per_state(self) -> float:
        return self.memory / max(self.states, 1)

    @property
    def chance_of_a_miss(self) -> float:
        return 0.0 if self.exact else chance_of_a_miss(self.states)

    def path(self, number: int) -> list[Step]:
        """A shortest way to a state: what was done and where it led, from the first step on."""
        return self._search.path(number) if self._search else []

    def path_of(self, flagged: Flagged) -> list[Step]:
        return self._search.path(flagged.parent, flagged.step) if self._search else []

    def let_go(self) -> None:
        """Give the states' memory back; ways cannot be asked for any more."""
        self._search = None

    def start_of(self, number: int) -> bytes:
        """The initial state that ``path`` begins in."""
        return bytes(self._search.start_of(number))


class _Crew:
    """Threads that do the same with different arguments and wait for one another."""

    def __init__(self, count: int) -> None:
        self._calls: list[Callable[[], object] | None] = [None] * count
        self._go = [threading.Semaphore(0) for _ in range(count)]
        self._done = threading.Semaphore(0)
        self._failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, args=(me,), daemon=True) for me in range(1, count)]
        for thread in self._threads:
            thread.start()

    def _work(self, me: int) -> None:
        while True:
            self._go[me].acquire()
            call = self._calls[me]
            if call is None:
                return
            try:
                call()
            except BaseException as e:
                self._failed.append(e)
            self._done.release()

    def run(self, calls: Sequence[Callable[[], object]]) -> None:
        for me in range(1, len(calls)):
            self._calls[me] = calls[me]
            self._go[me].release()
        calls[0]()
        for _ in range(1, len(calls)):
            self._done.acquire()
        if self._failed:
            raise self._failed[0]

    def dismiss(self) -> None:
        for me in range(1, len(self._calls)):
            self._calls[me] = None
            self._go[me].release()
        for thread in self._threads:
            thread.join()


#: What has been loaded or compiled in this process, by digest and cache: loading takes a third of a second.
_LOADED: dict[tuple[str, Path], Namespace] = {}


def compiled_for(space: Space) -> Namespace:
    bindings: dict[str, Any] = {
        "expand": space.expand,
        "WIDTH": space.width,
        "STAYS": space.stays,
        "OWN_FINGERPRINTS": space.own_fingerprints,
        "NOTE": space.note,
    }
    if space.fixed_size:
        bindings["SIZE"] = space.size
    if space.judge is not None:
        bindings |= {"judge": space.judge, "JUDGES": True}
    words = [(name, value) for name, value in bindings.items() if name not in ("expand", "judge")]
    digest = digest_of([Path(core.__file__)], space.digest, *words)
    key = digest, cache_home()
    if key not in _LOADED:
        _LOADED[key] = instantiate(Path(core.__file__), bindings, digest)
    return _LOADED[key]


def _signatures(context: Any) -> dict[str, tuple[Any, ...]]:
    typeof: Any = numba.typeof
    m, row, rows, number = typeof(context), types.int64[::1], types.int64[:, ::1], types.int64
    return {
        "expand_states": (m, row, row),
        "insert_candidates": (row, rows, number),
        "append_states": (m, row, row, number, number),
        "run_alone": (m, row, rows, number, number, number),
        "grow": (number,) * 5,
        "successors_of": (m, row, row, number),
        "print_of": (row, number),
    }


class _Thread:
    """The buffers of one thread, and the row of numbers that says where they are."""

    def __init__(self, space: Space, me: int, threads: int, row: NDArray[np.int64], candidates: int) -> None:
        size, width = space.size, space.width
        batch = core.BATCH + width
        capacity = candidates + 2 * batch
        flagged = capacity + 3 * batch
        parts = {
            core.T_OUT: (batch + 1) * size + 64,
            core.T_FPS: batch * 8,
            core.T_LABELS: batch * 4,
            core.T_FLAGS: batch,
            core.T_WHICH: (batch + 1) * 4,
            core.T_STEP_OF: (batch + 1) * 2,
            core.T_PARENT_OF: (batch + 1) * 4,
            core.T_LINE_OF: (batch + 1) * 8,
            core.T_RECENT: _RECENT * 8,
            core.T_STATES: capacity * size,
            core.T_PRINTS: capacity * 8,
            core.T_PARENTS: capacity * 4,
            core.T_STEPS: capacity * 2,
            core.T_BITS: capacity,
            core.T_FLAGGED: flagged * 24,
            core.T_JUDGED: flagged * 24,
            core.T_FINALS: (capacity + 2 * batch) * 8,
            core.T_PLACES: capacity * 8,
            core.T_NEW: threads * 8,
            core.T_LATER: threads * 8,
            core.T_BIT_COUNTS: 64,
        }
        offsets: dict[int, int] = {}
        total = 0
        for part, length in parts.items():
            offsets[part] = total
            total += -(-length // 64) * 64 + 64
        self.bytes = total
        self.memory = Reserve(total)
        self._offsets = offsets
        self.row = row
        for part, offset in offsets.items():
            row[part] = self.memory.address + offset
        row[core.T_ME] = me
        row[core.T_RECENT_MASK] = _RECENT - 1
        row[core.T_CAPACITY] = capacity
        row[core.T_FLAGGED_CAPACITY] = row[core.T_JUDGED_CAPACITY] = flagged
        row[core.T_FINALS_CAPACITY] = capacity + 2 * batch
        self.capacity = capacity
        self.new = self.words(core.T_NEW, threads)
        self.later = self.words(core.T_LATER, threads)
        self.bit_counts = self.words(core.T_BIT_COUNTS, 7)

    def words(self, part: int, count: int) -> NDArray[Any]:
        return self.memory.view(np.int64, count, self._offsets[part])

    def bytes_of(self, part: int, count: int) -> NDArray[np.uint8]:
        return self.memory.bytes[self._offsets[part] : self._offsets[part] + count]

    def forget_recent(self) -> None:
        self.words(core.T_RECENT, _RECENT)[:] = 0

    def candidates(self, count: int, size: int) -> list[NDArray[np.uint8]]:
        """The bytes of the first candidates: states, fingerprints, parents, steps, flags."""
        parts = (core.T_STATES, core.T_PRINTS, core.T_PARENTS, core.T_STEPS, core.T_BITS)
        return [self.bytes_of(p, count * w) for p, w in zip(parts, (size, 8, 4, 2, 1), strict=True)]


class Search:
    """One search under way: ``run`` it, ask the ``Found`` afterwards."""

    def __init__(
        self,
        space: Space,
        *,
        threads: int,
        memory: int,
        exact: bool,
        seed: int,
        keep_flagged: Mapping[int, int],
        keep_finals: int,
        announce: Callable[[str], None] | None,
        round_states: int | None = None,
    ) -> None:
        if space.size % 8 or not 0 < space.width < core.NOBODY:
            raise ValueError("states must be whole words, successors fewer than 65,535")
        self.space = space
        self.keys = keys(seed, space.size)
        context = space.context
        self.context = context(int(self.keys.ctypes.data)) if callable(context) else context
        self.code = compiled_for(space)
        self.found = Found(exact=exact, seed=seed, _search=self)
        self.found.compile_seconds = self.code.compile(_signatures(self.context), announce)
        self.g = np.zeros(core.G_COUNT, dtype=np.int64)
        self.rows = np.zeros((threads, core.T_COUNT), dtype=np.int64)
        self.store = Store(space.size, memory, exact, space.stays, self.code.grow)
        self.alone = threads == 1 and not space.stays
        self.round = round_states or (_ROUND_OF_ONE if self.alone else _ROUND_OF_SEVERAL)
        candidates = self.round * space.width if self.alone else _CANDIDATES
        self.threads = [_Thread(space, me, threads, self.rows[me], candidates) for me in range(threads)]
        self.store.fixed = sum(thread.bytes for thread in self.threads)
        self.caps = dict(keep_flagged)
        self.keep_finals = keep_finals
        self.seen_flagged: set[tuple[int, int]] = set()
        self.flagged_later: dict[tuple[int, int], Flagged] = {}
        self.n_later: Counter[int] = Counter()
        self.level = 0
        self.starts = [0]  # number of the first state of each level
        self.next = 0  # the state to be expanded next
        self.level_end = 0
        self.merged: int | None = None  # deferred states that have been merged, while that is under way
        self.seconds_before = 0.0
        self.max_depth: int | None = None
        self.n_initial = 0
        self._fill_g(exact, threads)

    def _fill_g(self, exact: bool, threads: int) -> None:
        g, store = self.g, self.store
        g[core.G_SIZE] = self.space.size
        g[core.G_TABLE] = store.table.address
        g[core.G_LATER] = store.later.address
        g[core.G_DEFERRED] = store.deferred.addresses(0)[0]
        g[core.G_BLOCKS] = store.queue.table_address
        g[core.G_SHIFT] = store.queue.shift
        g[core.G_PARENTS] = int(store.parents.ctypes.data)
        g[core.G_STEPS] = int(store.steps.ctypes.data)
        g[core.G_KEYS] = int(self.keys.ctypes.data)
        g[core.G_EXACT] = exact
        g[core.G_THREADS] = threads
        self._refresh()

    def _refresh(self) -> None:
        self.g[core.G_BUCKETS] = self.store.table.buckets
        self.g[core.G_LATER_BUCKETS] = self.store.later.buckets
        self.g[core.G_STATES] = self.store.states
        self.g[core.G_WANTED] = sum(1 << bit for bit, cap in self.caps.items() if cap > 0)

    # --- what all rounds do ---------------------------------------------------------------------------------------

    def _insert(self, crew: _Crew, found: int) -> str:
        """Second and third phase for the candidates in the threads' buffers; why not, if there is no room."""
        later = found if self.space.stays else 0
        reason = self.store.room_for(found, later)
        self._refresh()
        if reason:
            return reason
        store, code, g = self.store, self.code, self.g
        crew.run([partial(code.insert_candidates, g, self.rows, me) for me in range(len(self.threads))])
        base, later_base = store.states, store.deferred.count
        calls: list[Callable[[], object]] = []
        for thread in self.threads:
            arguments = (self.context, g, thread.row, base, later_base)
            calls.append(partial(code.append_states, *arguments))
            base += int(thread.new.sum())
            later_base += int(thread.later.sum())
        crew.run(calls)
        store.table.entries += base - store.states
        store.states = base
        return ""

    def _candidates_of_round(self, crew: _Crew) -> int:
        """First phase for the next states of the queue; how many were expanded, in order and without a gap."""
        end = self.store.states if self.space.stays else self.level_end
        count = len(self.threads)
        share = min(self.round, -(-(end - self.next) // count))
        at = self.next
        for thread in self.threads:
            thread.row[core.T_FROM] = at
            at = min(at + share, end)
            thread.row[core.T_TO] = at
        wanted = [int(thread.row[core.T_TO]) for thread in self.threads]
        crew.run([partial(self.code.expand_states, self.context, self.g, thread.row) for thread in self.threads])
        reached = self.next
        cut = False
        for thread, want in zip(self.threads, wanted, strict=True):
            if cut:  # what comes before was not finished: not yet
                self._discard(thread)
                continue
            reached = int(thread.row[core.T_TO])
            cut = reached < want
        return reached - self.next

    @staticmethod
    def _discard(thread: _Thread) -> None:
        for what in (core.T_FOUND, core.T_TRANSITIONS, core.T_N_FLAGGED, core.T_N_FINALS):
            thread.row[what] = 0
        thread.forget_recent()

    def _round(self, crew: _Crew) -> str:
        if self.alone:
            return self._rounds_alone(crew)
        full_round = self.round
        while True:
            expanded = self._candidates_of_round(crew)
            reason = self._insert(crew, int(sum(thread.row[core.T_FOUND] for thread in self.threads)))
            if not reason:
                break
            for thread in self.threads:
                self._discard(thread)
            if self.round <= _LEAST_ROUND:
                self.round = full_round
                return reason
            self.round //= 4
        self.round = full_round
        self._drain(self.next + expanded)
        return ""

    def _rounds_alone(self, crew: _Crew) -> str:
        """Rounds in which one thread does everything, as many as there is room for without asking again."""
        store, row, width = self.store, self.rows[0], self.space.width
        room = max(_ROOM, 2 * self.round * width)
        reason = store.room_for(room)
        while reason and room > width:
            room = max(room // 4, width)  # so many at least: else no state could be expanded
            reason = store.room_for(room)
        self._refresh()
        if reason:
            return reason
        before = store.states
        row[core.T_FROM] = self.next
        self.code.run_alone(
            self.context, self.g, self.rows, self.level_end, max(min(self.round, room // width), 1), room
        )
        store.states = int(self.g[core.G_STATES])
        store.table.entries += store.states - before
        self._drain(int(row[core.T_FROM]))
        return ""

    def _drain(self, reached: int) -> None:
        """Take note of what the threads have found since the last time; all states below ``reached`` are expanded."""
        for thread in self.threads:
            self._keep_flagged(thread.words(core.T_FLAGGED, 3 * int(thread.row[core.T_N_FLAGGED])))
            self.found.transitions += int(thread.row[core.T_TRANSITIONS])
            self._keep_finals(thread)
            if self.space.stays:
                self._defer(thread)
        for thread in self.threads:
            self._keep_judged(thread, self.level + (not self.space.stays))
            for what in (core.T_N_FLAGGED, core.T_TRANSITIONS, core.T_N_FINALS):
                thread.row[what] = 0
        self.next = reached
        if not self.store.exact:
            self.store.queue.let_go(self.next)

    def _defer(self, thread: _Thread) -> None:
        kept = int(thread.row[core.T_FOUND])
        if kept:
            self.store.deferred.append(thread.candidates(kept, self.space.size), kept)
            self.store.later.entries += int(thread.later.sum())

    def _keep_judged(self, thread: _Thread, depth: int) -> None:
        self._keep_flagged(thread.words(core.T_JUDGED, 3 * int(thread.row[core.T_N_JUDGED])), depth)
        thread.row[core.T_N_JUDGED] = 0

    def _keep_flagged(self, records: NDArray[np.int64], depth: int = -1) -> None:
        for where, bits, mark in records.reshape(-1, 3).tolist():
            step = -1 if where & core.NOBODY == core.NOBODY else where & core.NOBODY
            there = depth
            if depth < 0:
                free = step < 0 or (self.space.stays and bits & core.STAY)
                there = self.level + (not free)
            flagged = Flagged(bits & ~core.STAY, where >> 16, step, there)
            if self.space.stays and there > self.level and self.merged is None:
                self._keep_later(flagged, mark)
            else:
                self._keep(flagged, mark)

    def _keep_later(self, flagged: Flagged, mark: int) -> None:
        """What is found in this level later on is nearer, and is to be kept first."""
        if (mark, flagged.bits) in self.flagged_later:
            return
        wanted = [bit for bit, cap in self.caps.items() if flagged.bits >> bit & 1 and self.n_later[bit] < cap]
        if wanted:
            self.flagged_later[mark, flagged.bits] = flagged
            self.n_later.update(wanted)

    def _keep(self, flagged: Flagged, mark: int) -> None:
        bits = flagged.bits & sum(1 << bit for bit, cap in self.caps.items() if cap > 0)
        if not bits or (mark, bits) in self.seen_flagged:
            return
        if flagged.step >= 0:
            self.seen_flagged.add((mark, bits))
        for bit in self.caps:
            self.caps[bit] -= bits >> bit & 1
        self.found.flagged.append(replace(flagged, bits=bits))

    def _keep_finals(self, thread: _Thread) -> None:
        count = int(thread.row[core.T_N_FINALS])
        self.found.finals += count
        room = self.keep_finals - len(self.found.kept_finals)
        if count and room > 0:
            self.found.kept_finals += thread.words(core.T_FINALS, min(count, room)).tolist()

    def _merge(self, crew: _Crew) -> str:
        """What costed steps lead to becomes the next level, but for what the level before has, too."""
        deferred, thread = self.store.deferred, self.threads[0]
        parts = (core.T_STATES, core.T_PRINTS, core.T_PARENTS, core.T_STEPS, core.T_BITS)
        own = [int(thread.row[part]) for part in parts]
        for other in self.threads:
            other.row[core.T_FOUND] = 0
        reason = ""
        self.merged = self.merged or 0
        while self.merged < deferred.count:
            piece = min(deferred.count - self.merged, thread.capacity)
            thread.row[list(parts)] = deferred.addresses(self.merged)
            thread.row[core.T_FOUND] = piece
            reason = self._insert(crew, piece)
            if reason:
                break
            self._keep_judged(thread, self.level + 1)
            self.merged += piece
        thread.row[list(parts)] = own
        thread.row[core.T_FOUND] = 0
        if not reason:
            self.merged = None
            deferred.clear()
            self.store.later.clear()
        return reason

    # --- the whole ------------------------------------------------------------------------------------------------

    def begin(self, crew: _Crew) -> str:
        """Insert the initial states."""
        thread = self.threads[0]
        states = thread.bytes_of(core.T_STATES, len(self.space.initial) * self.space.size)
        states[:] = np.frombuffer(b"".join(self.space.initial), dtype=np.uint8)
        prints = thread.words(core.T_PRINTS, len(self.space.initial))
        for i in range(len(self.space.initial)):
            h = self.code.print_of(self.g, int(states.ctypes.data) + i * self.space.size)
            prints.view(np.uint64)[i] = h
        thread.memory.view(np.uint32, len(prints), int(thread.row[core.T_PARENTS]) - thread.memory.address)[:] = 0
        thread.bytes_of(core.T_BITS, len(prints))[:] = core.STAY
        thread.row[core.T_FOUND] = len(prints)
        reason = self._insert(crew, len(prints))
        self.n_initial = self.level_end = self.store.states
        # in exact mode numbers of initial states that were given twice are not those of the list
        self.found.states = self.store.states
        return reason

    def run(
        self,
        crew: _Crew,
        max_depth: int | None,
        until: int,
        on_level: Watcher | None,
        on_tick: Watcher | None,
        asked_to_stop: Callable[[], bool],
    ) -> Found:
        started = time.perf_counter()
        ticked = started
        found, store = self.found, self.store
        reason = "" if store.states else self.begin(crew)

        def progress(level_done: bool) -> Progress:
            seconds = self.seconds_before + time.perf_counter() - started
            waiting = store.states - self.next + store.deferred.count
            flagged = 0
            for one in found.flagged if level_done else ():
                flagged |= one.bits
            return Progress(
                self.level, store.states, found.transitions, waiting, store.used, seconds, level_done, flagged
            )

        while not reason:
            last = max_depth is not None and self.level >= max_depth
            self.g[core.G_COSTED] = not last
            if last and not self.space.stays:
                found.levels.append(self.level_end - self.starts[-1])
                break
            while (
                not reason
                and self.merged is None
                and self.next < (store.states if self.space.stays else self.level_end)
            ):
                reason = self._round(crew)
                if until and any(flagged.bits & until for flagged in found.flagged):
                    reason = reason or "found what was looked for"
                if asked_to_stop():
                    reason = reason or "interrupted"
                if on_tick and time.perf_counter() - ticked > _TICK and not reason:
                    ticked = time.perf_counter()
                    if on_tick(progress(False)):
                        reason = "told to"
            if reason:
                break
            if self.space.stays:
                for (mark, _), flagged in self.flagged_later.items():
                    self._keep(flagged, mark)
                self.flagged_later.clear()
                self.n_later.clear()
                self.level_end = self.level_end if self.merged is not None else store.states
                reason = self._merge(crew)
                if reason:
                    found.complete = self.level
                    break
            found.levels.append(self.level_end - self.starts[-1])
            found.complete = self.level + (not self.space.stays and store.states > self.level_end)
            stop = bool(on_level(progress(True))) if on_level else False
            if self.level_end == store.states:
                break
            self.starts.append(self.level_end)
            self.level_end = store.states
            self.level += 1
            if stop:
                reason = "told to"
        found.stopped = reason
        found.states = store.states
        found.memory = store.used
        found.flagged_states = np.sum([thread.bit_counts for thread in self.threads], axis=0).tolist()
        found.seconds = self.seconds_before + time.perf_counter() - started
        return found

    # --- saved and resumed ----------------------------------------------------------------------------------------

    def _same(self) -> str:
        return checkpoint.identity(
            space=self.space.digest,
            identity=self.space.identity,
            size=self.space.size,
            initial=list(self.space.initial),
            stays=self.space.stays,
            exact=self.store.exact,
            seed=self.found.seed,
            max_depth=self.max_depth,
            layout=(core.SPARE, core.PARTS, Path(fingerprint.__file__).read_text()),
        )

    def save(self, path: Path) -> None:
        """Write everything to a file that ``resume`` can go on from, with more memory or other threads."""
        store, found = self.store, self.found
        facts = {
            "states": store.states,
            "entries": store.table.entries,
            "later_entries": store.later.entries,
            "deferred": store.deferred.count,
            "merged": self.merged,
            "level": self.level,
            "starts": self.starts,
            "next": self.next,
            "level_end": self.level_end,
            "n_initial": self.n_initial,
            "transitions": found.transitions,
            "levels": found.levels,
            "complete": found.complete,
            "flagged": [astuple(flagged) for flagged in found.flagged],
            "flagged_later": [(mark, astuple(flagged)) for (mark, _), flagged in self.flagged_later.items()],
            "flagged_states": found.flagged_states,
            "finals": found.finals,
            "kept_finals": found.kept_finals,
            "caps": list(self.caps.items()),
            "seen": sorted(self.seen_flagged),
            "seconds": found.seconds,
        }
        first = 0 if store.exact else self.next
        pieces = {
            "table": [store.table.memory],
            "later": [store.later.memory if self.space.stays else np.empty(0, dtype=np.uint64)],
            "parents": [store.parents[: store.states]],
            "steps": [store.steps[: store.states]],
            "queue": store.queue.states(first, store.states),
        }
        for i, piece in enumerate(store.deferred.arrays()):
            pieces[f"deferred{i}"] = [piece]
        checkpoint.save(path, self._same(), facts, pieces)

    def resume(self, path: Path) -> None:
        """Take the place of a search that was saved."""
        saved = checkpoint.Saved(path, self._same())
        facts, store, found = saved.facts, self.store, self.found
        pieces = dict(saved.pieces())
        states = int(facts["states"])
        first = 0 if store.exact else int(facts["next"])
        store.queue.begin_at(first)
        needed = store.used + sum(piece.nbytes for piece in pieces.values())
        if needed > store.memory or states > store.most_states:
            raise checkpoint.Refused(f"{path}: needs {needed >> 20:,} MiB of memory, to begin with")
        if not store.queue.makes_room(states, store.memory - store.used):
            raise checkpoint.Refused(f"{path}: needs more memory than {store.memory >> 20:,} MiB")
        store.table.restore(pieces["table"], int(facts["entries"]))
        if self.space.stays:
            store.later.restore(pieces["later"], int(facts["later_entries"]))
        store.parents[:states] = pieces["parents"]
        store.steps[:states] = pieces["steps"]
        store.queue.write(first, pieces["queue"])
        store.states = states
        for i in range(len(store.deferred.widths)):
            store.deferred.restore(i, pieces[f"deferred{i}"])
        store.deferred.count = store.deferred.peak = int(facts["deferred"])
        self.merged = facts["merged"]
        self.level, self.starts, self.next = int(facts["level"]), list(facts["starts"]), int(facts["next"])
        self.level_end, self.n_initial = int(facts["level_end"]), int(facts["n_initial"])
        found.transitions, found.levels = int(facts["transitions"]), list(facts["levels"])
        found.complete, found.finals = int(facts["complete"]), int(facts["finals"])
        found.flagged = [Flagged(*flagged) for flagged in facts["flagged"]]
        found.kept_finals = list(facts["kept_finals"])
        self.caps = {int(bit): int(cap) for bit, cap in facts["caps"]}
        for mark, flagged in facts["flagged_later"]:
            self._keep_later(Flagged(*flagged), mark)
        self.threads[0].bit_counts[:] = facts["flagged_states"]
        self.seen_flagged = {(int(mark), int(bits)) for mark, bits in facts["seen"]}
        self.seconds_before = float(facts["seconds"])
        self._refresh()

    # --- the way to a state ---------------------------------------------------------------------------------------

    def depth_of(self, number: int) -> int:
        return bisect.bisect_right(self.starts, number) - 1

    def start_of(self, number: int) -> bytes:
        while number >= self.n_initial:
            number = int(self.store.parents[number])
        return bytes(self.space.initial[number])

    def path(self, number: int, last_step: int = -1) -> list[Step]:
        steps = [last_step] if last_step >= 0 else []
        while number >= self.n_initial:
            steps.append(int(self.store.steps[number]))
            number = int(self.store.parents[number])
        thread, size = self.threads[0], self.space.size
        state = np.frombuffer(self.space.initial[number], dtype=np.uint8).copy()
        path: list[Step] = []
        for step in reversed(steps):
            self.code.successors_of(self.context, self.g, thread.row, int(state.ctypes.data))
            label = int(thread.bytes_of(core.T_LABELS, (step + 1) * 4).view(np.int32)[step])
            state = thread.bytes_of(core.T_OUT, (step + 1) * size)[step * size :].copy()
            path.append((label, state.tobytes()))
        return path


def search(
    space: Space,
    *,
    threads: int = 1,
    memory: int = 2 << 30,
    exact: bool = False,
    seed: int = SEED,
    max_depth: int | None = None,
    keep_flagged: Mapping[int, int] | None = None,
    keep_finals: int = 0,
    until: int = 0,
    on_level: Watcher | None = None,
    on_tick: Watcher | None = None,
    announce: Callable[[str], None] | None = None,
    round_states: int | None = None,
    save: Path | None = None,
    resume: Path | None = None,
) -> Found:
    """Everything that can be reached in at most ``max_depth`` costed steps.

    ``keep_flagged`` maps a property's bit to how many of the steps that break it are kept, in order of distance;
    the search ends early when one of the properties in the mask ``until`` has been found broken. Ctrl-C ends it at the
    end of the round.
    """
    this = Search(
        space,
        threads=threads,
        memory=memory,
        exact=exact,
        seed=seed,
        keep_flagged=keep_flagged or {},
        keep_finals=keep_finals,
        announce=announce,
        round_states=round_states,
    )
    this.max_depth = max_depth
    if resume:
        this.resume(resume)
    crew = _Crew(threads)
    try:
        with _Interrupt() as interrupt:
            found = this.run(crew, max_depth, until, on_level, on_tick, interrupt)
            if save and found.stopped:
                this.save(save)
            return found
    finally:
        crew.dismiss()


class _Interrupt:
    """Ctrl-C as a question: asked between rounds, so that nothing is left half done. A second one is obeyed at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> _Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def __call__(self) -> bool:
        return self._asked

    def __exit__(self, *exc: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


def states_that_fit(memory: int, size: int, exact: bool) -> int:
    """About how many states a bound of memory is for, to be said before a search begins."""
    table = 8 / 0.65
    waiting = size if exact else 0.4 * size
    return int(memory / (table + LINK_BYTES + waiting))


__all__ = ["SEED", "Flagged", "Found", "Iterable", "Progress", "Search", "Space", "Step", "search", "states_that_fit"]

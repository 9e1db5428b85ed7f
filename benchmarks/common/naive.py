"""The common model as README.md tells it, one sentence after the other: interpreted, slow, and nothing clever.

``python -m benchmarks.common.naive [--size S] [--rule 0|1] [--no-canon]``
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.common.sizes import SIZES, Counts, Size

Thing = TypeVar("Thing")


class GuardFalse(Exception):
    """This step does not exist in this state."""


def require(guard: bool) -> None:
    if not guard:
        raise GuardFalse


@dataclass
class Pte:
    pfn: int = 0
    wr: int = 0
    swp: int = 0
    df: int = 0


@dataclass
class Frame:
    ref: int = 0
    map: int = 0
    pin: int = 0
    exc: int = 0
    val: int = 0


@dataclass
class Pin:
    dpfn: int = 0
    drw: int = 0
    dp: int = 0
    dv: int = 0


@dataclass
class Slot:
    scnt: int = 0
    sval: int = 0
    scache: int = 0


@dataclass
class Machine:
    """One state. Numbers that name something are one higher than what they name; 0 names nothing."""

    size: Size
    rule: int
    alive: list[int] = field(default_factory=list)
    ptes: list[list[Pte]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    obs: int = 0

    # Small words

    def copied(self) -> Machine:
        return Machine(
            self.size,
            self.rule,
            self.alive[:],
            [[Pte(t.pfn, t.wr, t.swp, t.df) for t in table] for table in self.ptes],
            [Frame(f.ref, f.map, f.pin, f.exc, f.val) for f in self.frames],
            [Pin(n.dpfn, n.drw, n.dp, n.dv) for n in self.pins],
            [Slot(s.scnt, s.sval, s.scache) for s in self.slots],
            self.obs,
        )

    def frozen(self) -> tuple[object, ...]:
        """Something to look up in a dict: every field of the state."""
        return (
            tuple(self.alive),
            tuple((t.pfn, t.wr, t.swp, t.df) for t in self.all_ptes()),
            tuple((f.ref, f.map, f.pin, f.exc, f.val) for f in self.frames),
            tuple((n.dpfn, n.drw, n.dp, n.dv) for n in self.pins),
            tuple((s.scnt, s.sval, s.scache) for s in self.slots),
            self.obs,
        )

    def all_ptes(self) -> list[Pte]:
        return [pte for table in self.ptes for pte in table]

    def frame_of(self, number: int) -> Frame:
        assert number > 0
        return self.frames[number - 1]

    def may_reuse(self, frame: Frame) -> bool:
        return frame.ref == 1

    def must_copy(self, frame: Frame) -> bool:
        return self.rule == 1 and frame.pin > 0

    def allocate(self) -> int:
        """Number of the lowest free frame, with one reference from now on."""
        for number, frame in enumerate(self.frames, 1):
            if frame.ref == 0:
                assert frame == Frame()
                frame.ref = 1
                return number
        raise GuardFalse

    def drop_ref(self, frame: Frame) -> None:
        frame.ref -= 1
        if frame.ref == 0:
            frame.val = frame.exc = 0

    def copy(self, frame: Frame) -> int:
        """Number of a new frame, mapped once and exclusive, with the same contents."""
        number = self.allocate()
        new = self.frame_of(number)
        new.map = new.exc = 1
        new.val = frame.val
        return number

    def write_fault(self, pte: Pte) -> None:
        if pte.wr:
            return
        if pte.pfn == 0:
            pte.pfn = self.copy(Frame(val=0))
            pte.wr = 1
            return
        old = self.frame_of(pte.pfn)
        if self.may_reuse(old):
            old.exc = 1
        else:
            pte.pfn = self.copy(old)
            old.map -= 1
            self.drop_ref(old)
        pte.wr = 1

    def drop_swap_pte(self, slot: Slot) -> None:
        slot.scnt -= 1
        if slot.scnt == 0:
            slot.sval = 0
            if slot.scache:
                self.drop_ref(self.frame_of(slot.scache))
                slot.scache = 0

    # Steps

    def store(self, p: int, v: int, x: int) -> None:
        pte = self.ptes[p][v]
        require(self.alive[p] == 1 and pte.swp == 0)
        self.write_fault(pte)
        self.frame_of(pte.pfn).val = x

    def load(self, p: int, v: int) -> None:
        pte = self.ptes[p][v]
        require(self.alive[p] == 1 and pte.pfn != 0)
        self.obs = self.frame_of(pte.pfn).val

    def fork(self, p: int) -> None:
        require(self.alive[p] == 1 and 0 in self.alive)
        q = self.alive.index(0)
        for mine, childs in zip(self.ptes[p], self.ptes[q], strict=True):
            if mine.df:
                continue
            if mine.swp:
                childs.swp = mine.swp
                self.slots[mine.swp - 1].scnt += 1
            elif mine.pfn:
                frame = self.frame_of(mine.pfn)
                if self.must_copy(frame):
                    childs.pfn = self.copy(frame)
                    childs.wr = 1
                else:
                    childs.pfn = mine.pfn
                    frame.ref += 1
                    frame.map += 1
                    frame.exc = 0
                    mine.wr = childs.wr = 0
        self.alive[q] = 1

    def exit(self, p: int) -> None:
        require(self.alive[p] == 1 and sum(self.alive) > 1)
        for v, pte in enumerate(self.ptes[p]):
            if pte.swp:
                self.drop_swap_pte(self.slots[pte.swp - 1])
            elif pte.pfn:
                frame = self.frame_of(pte.pfn)
                frame.map -= 1
                self.drop_ref(frame)
            self.ptes[p][v] = Pte()
        for pin in self.pins:
            if pin.dp == p + 1:
                pin.dp = pin.dv = 0
        self.alive[p] = 0

    def pin(self, p: int, v: int, rw: int) -> None:
        pte = self.ptes[p][v]
        unused = [pin for pin in self.pins if pin.dpfn == 0]
        require(self.alive[p] == 1 and unused != [] and pte.swp == 0)
        if rw:
            self.write_fault(pte)
        else:
            require(pte.pfn != 0)
        frame = self.frame_of(pte.pfn)
        frame.ref += 1
        frame.pin += 1
        unused[0].dpfn, unused[0].drw, unused[0].dp, unused[0].dv = pte.pfn, rw, p + 1, v

    def unpin(self, d: int) -> None:
        require(self.pins[d].dpfn != 0)
        frame = self.frame_of(self.pins[d].dpfn)
        frame.pin -= 1
        self.drop_ref(frame)
        self.pins[d] = Pin()

    def dma_write(self, d: int, x: int) -> None:
        require(self.pins[d].drw == 1)
        self.frame_of(self.pins[d].dpfn).val = x

    def dma_read(self, d: int) -> None:
        require(self.pins[d].dpfn != 0)
        self.obs = self.frame_of(self.pins[d].dpfn).val

    def dontfork(self, p: int, v: int) -> None:
        require(self.alive[p] == 1 and self.ptes[p][v].df == 0)
        self.ptes[p][v].df = 1

    def swapout(self, f: int) -> None:
        frame = self.frames[f]
        require(frame.map > 0)
        cached = [s for s, slot in enumerate(self.slots) if slot.scache == f + 1]
        empty = [s for s, slot in enumerate(self.slots) if slot.scnt == 0]
        require(cached + empty != [])
        s = (cached + empty)[0]
        slot = self.slots[s]
        if not cached:
            slot.scache = f + 1
            frame.ref += 1
        frame.exc = 0
        for pte in self.all_ptes():
            if pte.pfn == f + 1:
                pte.pfn, pte.wr, pte.swp = 0, 0, s + 1
                slot.scnt += 1
                frame.map -= 1
                frame.ref -= 1
        if frame.ref == 1:
            slot.sval = frame.val
            slot.scache = 0
            self.drop_ref(frame)

    def swapin(self, p: int, v: int) -> None:
        pte = self.ptes[p][v]
        require(self.alive[p] == 1 and pte.swp != 0)
        slot = self.slots[pte.swp - 1]
        if slot.scache == 0:
            slot.scache = self.allocate()
            self.frame_of(slot.scache).val = slot.sval
            slot.sval = 0
        frame = self.frame_of(slot.scache)
        frame.ref += 1
        frame.map += 1
        pte.pfn, pte.wr, pte.swp = slot.scache, 0, 0
        self.drop_swap_pte(slot)

    # Canonical numbers

    def renumber(self) -> None:
        """Slots in the order in which swap ptes name them; frames as ptes, then pins, then swap-cache entries do."""
        named = [pte.swp for pte in self.all_ptes()]
        place = new_numbers(named, len(self.slots))
        for pte in self.all_ptes():
            pte.swp = place[pte.swp]
        self.slots = reordered(self.slots, place)
        named = [pte.pfn for pte in self.all_ptes()]
        named += [pin.dpfn for pin in self.pins]
        named += [slot.scache for slot in self.slots]
        place = new_numbers(named, len(self.frames))
        for pte in self.all_ptes():
            pte.pfn = place[pte.pfn]
        for pin in self.pins:
            pin.dpfn = place[pin.dpfn]
        for slot in self.slots:
            slot.scache = place[slot.scache]
        self.frames = reordered(self.frames, place)

    # Properties

    def coherent(self) -> bool:
        for pin in self.pins:
            if pin.drw and pin.dp:
                pte = self.ptes[pin.dp - 1][pin.dv]
                if pte.swp == 0 and pte.pfn != pin.dpfn:
                    return False
        return True

    def counted_right(self) -> bool:
        """Every count is the number of things that it counts, and a free frame has nothing."""
        for number, frame in enumerate(self.frames, 1):
            mapped = [pte for pte in self.all_ptes() if pte.pfn == number]
            pinned = [pin for pin in self.pins if pin.dpfn == number]
            cached = [slot for slot in self.slots if slot.scache == number]
            if (frame.map, frame.pin) != (len(mapped), len(pinned)) or len(cached) > 1:
                return False
            if frame.ref != frame.map + frame.pin + len(cached):
                return False
            if frame.ref == 0 and frame != Frame():
                return False
            if any(pte.wr for pte in mapped) and frame.map != 1:
                return False
        for number, slot in enumerate(self.slots, 1):
            if slot.scnt != len([pte for pte in self.all_ptes() if pte.swp == number]):
                return False
            if slot.scnt == 0 and slot != Slot():
                return False
        return True


def new_numbers(named: list[int], count: int) -> list[int]:
    """old number -> new number, both from 1: what is named first comes first, what is not named comes last."""
    order: list[int] = []
    for number in [*named, *range(1, count + 1)]:
        if number and number not in order:
            order.append(number)
    return [0] + [order.index(number) + 1 for number in range(1, count + 1)]


def reordered(things: list[Thing], place: list[int]) -> list[Thing]:
    pairs = sorted(zip(place[1:], things, strict=True), key=lambda pair: pair[0])
    return [thing for _, thing in pairs]


def first_state(size: Size, rule: int) -> Machine:
    return Machine(
        size,
        rule,
        alive=[1] + [0] * (size.processes - 1),
        ptes=[[Pte() for _ in range(size.pages)] for _ in range(size.processes)],
        frames=[Frame() for _ in range(size.frames)],
        pins=[Pin() for _ in range(size.pins)],
        slots=[Slot() for _ in range(size.slots)],
    )


Step = tuple[str, Callable[..., None], tuple[int, ...]]


def all_steps(size: Size) -> list[Step]:
    """(name, function, arguments) of whatever may be tried in any state."""
    steps: list[Step] = []
    pages = [(p, v) for p in range(size.processes) for v in range(size.pages)]
    for p, v in pages:
        steps += [("store", Machine.store, (p, v, x)) for x in range(1, size.values)]
        steps.append(("load", Machine.load, (p, v)))
        steps += [("pin", Machine.pin, (p, v, rw)) for rw in (0, 1)]
        steps.append(("dontfork", Machine.dontfork, (p, v)))
        steps.append(("swapin", Machine.swapin, (p, v)))
    for p in range(size.processes):
        steps.append(("fork", Machine.fork, (p,)))
        steps.append(("exit", Machine.exit, (p,)))
    for d in range(size.pins):
        steps.append(("unpin", Machine.unpin, (d,)))
        steps += [("dma_write", Machine.dma_write, (d, x)) for x in range(1, size.values)]
        steps.append(("dma_read", Machine.dma_read, (d,)))
    steps += [("swapout", Machine.swapout, (f,)) for f in range(size.frames)]
    return steps


def successors(machine: Machine, steps: list[Step], canonical: bool) -> Iterator[tuple[str, Machine]]:
    for name, function, arguments in steps:
        after = machine.copied()
        try:
            function(after, *arguments)
        except GuardFalse:
            continue
        if canonical:
            after.renumber()
        yield f"{name}{arguments}", after


@dataclass
class Found:
    """What there is to be found."""

    counts: Counts
    levels: int
    #: States in which a living owner's page is not the one that it pinned, and the steps to the first of them.
    incoherent: int
    first_incoherent: list[str]


def explore(size: Size, rule: int, canonical: bool) -> Found:
    """Every reachable state, by number of steps. AssertionError if anything is ever counted wrong."""
    steps = all_steps(size)
    start = first_state(size, rule)
    came_from: dict[object, tuple[object, str]] = {start.frozen(): (None, "")}
    transitions = levels = incoherent = 0
    first: list[str] = []
    level = [start]
    while level:
        levels += 1
        following = []
        for machine in level:
            here = machine.frozen()
            assert machine.counted_right(), here
            if not machine.coherent():
                incoherent += 1
                first = first or way_to(here, came_from)
            for name, after in successors(machine, steps, canonical):
                transitions += 1
                there = after.frozen()
                if there not in came_from:
                    came_from[there] = (here, name)
                    following.append(after)
        level = following
    return Found(Counts(len(came_from), transitions), levels, incoherent, first)


def way_to(state: object, came_from: dict[object, tuple[object, str]]) -> list[str]:
    way: list[str] = []
    while True:
        state, name = came_from[state]
        if state is None:
            return way[::-1]
        way.append(name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.common.naive", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--rule", type=int, choices=(0, 1), default=0)
    parser.add_argument("--no-canon", action="store_true", help="keep the numbers that frames and slots got")
    args = parser.parse_args()
    found = explore(SIZES[args.size], args.rule, not args.no_canon)
    print(f"{found.counts.states:,} states, {found.counts.transitions:,} transitions, {found.levels} levels")
    print(f"{found.incoherent:,} incoherent; the first: {', '.join(found.first_incoherent) or 'none'}")


if __name__ == "__main__":
    main()

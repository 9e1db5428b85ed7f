"""A word becomes a test: statements, the posts and awaits that force its order, and the claim that follows from it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from cowcatcher.generate.ideal import ANY, READS, SEGV, Ideal, Value, sequential
from cowcatcher.generate.letters import PROCESS_OF
from cowcatcher.generate.word import PARALLEL, Event, Word, WordError, read_word
from cowcatcher.litmus.ast import (
    Actor,
    And,
    Arg,
    Claim,
    Compare,
    Cond,
    ErrorName,
    Flags,
    In,
    Mapping,
    Name,
    Number,
    Operand,
    Or,
    Place,
    Register,
    Statement,
    Test,
)
from cowcatcher.litmus.lexer import MAX_WORD
from cowcatcher.litmus.printer import mapping_text
from cowcatcher.litmus.statements import MAX_VALUE

#: More ways than this to end, and a claim says of each register by itself what it may hold.
_MOST_ENDINGS = 8
_WRITES = ("store", "dma_write", "poke")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a word is played on: the memory, what happened to it before, and which piece of it is meant.

    ``value`` is where values move, ``pages`` what is pinned, advised and unmapped; ``extras`` are more processes.
    """

    mapping: Mapping = field(default_factory=lambda: Mapping("x", "anon", (("", 1),)))
    setup: tuple[Statement, ...] = ()
    extras: tuple[Actor, ...] = ()
    value: Place = field(default_factory=lambda: Place("x"))
    pages: Place = field(default_factory=lambda: Place("x"))

    def pinned(self, pin: str) -> Place:
        """The piece of a pin on ``pages`` where values move."""
        return Place(pin, None if self.pages.index is not None else self.value.index)


BARE = Stage()


def write_test(text: str, stage: Stage = BARE, name: str = "") -> Test:
    """The test of a word. Raises WordError.

    >>> from cowcatcher.litmus import to_text
    >>> print(to_text(write_test("RegMr Fork Store.p Dma.r")), end="")
    test regmr_fork_store_dma_r
    "p registers an RDMA memory region; p forks c; p writes 2; the device reads."
    source "cowcatcher generate RegMr Fork Store.p Dma.r"
    <BLANKLINE>
    memory {
        x = anon(1)
    }
    <BLANKLINE>
    process p {
        m = ibv_reg_mr(x)
        fork(c)
        store(x, 2)
        post(e1)
    }
    <BLANKLINE>
    process c {
    }
    <BLANKLINE>
    device d {
        await(e1)
        r = dma_read(m)
    }
    <BLANKLINE>
    always r == 2
    """
    word = read_word(text)
    kind = "" if stage.mapping == BARE.mapping else stage.mapping.kind
    return _Writer(word, stage).test(name or name_of(word, kind))


def name_of(word: Word, kind: str = "") -> str:
    """``regmr_fork_store_dma_r``; a long one is cut, and told apart by a checksum."""
    told = " ".join(re.sub(r"(?<!Dma)\.p\b", "", event) for event in word.text.split())
    told = told.replace(f" {PARALLEL} ", "__").replace("Dma.r", "DmaRead").replace("Dma.w", "DmaWrite")
    told = told.replace("DmaRead", "dma_r").replace("DmaWrite", "dma_w").lower()
    name = re.sub(r"[^a-z0-9_]+", "_", f"{told} {kind}").strip("_")
    if len(name) <= MAX_WORD:
        return name
    checksum = f"_{zlib.crc32(f'{word.text} {kind}'.encode()):08x}"
    return name[: MAX_WORD - len(checksum)].rstrip("_") + checksum


class _Writer:
    def __init__(self, word: Word, stage: Stage) -> None:
        self.word, self.stage = word, stage
        self.values = _values(word, stage.mapping)
        ideal = Ideal(stage.mapping, self.values)
        sequential(word, ideal)
        self.endings = sorted(ideal.outcomes(word), key=repr)
        self.may_fail = {i for ending in self.endings for i, value in enumerate(ending) if value == SEGV}
        self.registers = dict(self._registers())
        pins = [i for i, e in enumerate(word.events) if e.letter.takes_pin]
        self.pins = [f"m{n + 1}" if len(pins) > 1 else "m" for n in range(len(pins))]

    def _registers(self) -> Iterator[tuple[int, str]]:
        """Event -> its register. A store that may be refused has one, so that nobody dies of it."""
        wanted = [
            i
            for i, e in enumerate(self.word.events)
            if e.letter.op in READS or (e.letter.op == "store" and i in self.may_fail)
        ]
        for n, i in enumerate(wanted, 1):
            yield i, f"r{n}" if len(wanted) > 1 else "r"

    def test(self, name: str) -> Test:
        return Test(
            name,
            description=self._description(),
            sources=(f"cowcatcher generate {self._quoted()}{self._memory()}",),
            memory=(self.stage.mapping,),
            actors=tuple(self._actors()),
            claims=tuple(self._claims()),
        )

    def _quoted(self) -> str:
        return f"'{self.word.text}'" if re.search(r"[|\[]", self.word.text) else self.word.text

    def _memory(self) -> str:
        told = mapping_text(self.stage.mapping).partition(" = ")[2]
        return "" if self.stage.mapping == BARE.mapping else f" --memory '{told}'"

    def _description(self) -> str:
        told = []
        for i, event in enumerate(self.word.events):
            argument = event.argument
            if event.letter.op == "unpin":
                argument = self.pins[event.pin]
            told.append(
                event.letter.told.format(actor=event.actor, argument=argument, child=event.child, value=self.values[i])
            )
        return "; ".join(told) + "."

    # --- statements ---------------------------------------------------------------------------------------------------

    def _statement(self, i: int) -> Statement:
        event, stage = self.word.events[i], self.stage
        op, register = event.letter.op, self.registers.get(i)
        number = Number(self.values[i])
        args: tuple[Arg, ...]
        match op:
            case "load":
                args = (stage.value,)
            case "store":
                args = (stage.value, number)
            case "fork" | "wait":
                args = (Name(event.child),)
            case "exit" | "clear_refs":
                args = ()
            case "dma_read":
                args = (stage.pinned(self.pins[event.pin]),)
            case "dma_write":
                args = (stage.pinned(self.pins[event.pin]), number)
            case "unpin":
                args = (Place(self.pins[event.pin]),)
            case "peek":
                args = (Name(event.argument), stage.value)
            case "poke":
                args = (Name(event.argument), stage.value, number)
            case "madvise":
                args = (stage.pages, Name(event.letter.advice))
            case "pin" | "get":
                return Statement(op, (stage.pages, Flags(tuple(event.argument.split("|")))), self.pins[event.pin])
            case _:
                args = (stage.pages, *((Name(event.argument),) if event.argument else ()))
        return Statement(op, args, self.pins[event.pin] if event.letter.takes_pin else register)

    def _actors(self) -> Iterator[Actor]:
        events = self.word.events
        there = ["p", *(e.child for e in events if e.letter.op == "fork")]
        order = [*there, *(a for a in ("t", "d") if any(e.actor == a for e in events))]
        bodies: dict[str, list[Statement]] = {actor: [] for actor in order}
        bodies["p"] += self.stage.setup
        before, behind = self._events()
        for i, event in enumerate(events):
            body = bodies[event.actor]
            posts = [Statement("post", (Name(e),)) for e in behind[i]]
            body += [Statement("await", (Name(e),)) for e in before[i]]
            # Nothing comes behind an exit: what waits for it knows that it is about to happen.
            body += [*posts, self._statement(i)] if event.letter.op == "exit" else [self._statement(i), *posts]
        yield from (_actor(name, bodies[name]) for name in order if name not in ("t", "d"))
        yield from self.stage.extras
        yield from (_actor(name, bodies[name]) for name in order if name in ("t", "d"))

    def _events(self) -> tuple[list[list[str]], list[list[str]]]:
        """What each event awaits and what it posts: only what is not in order anyway."""
        events = self.word.events
        before: list[list[str]] = [[] for _ in events]
        behind: list[list[str]] = [[] for _ in events]
        known: list[set[int]] = []  # of each event, those that are over before it begins
        number = 0
        for i, event in enumerate(events):
            over = set[int]()
            own = [j for j in range(i) if events[j].actor == event.actor]
            for j in own[-1:] or [f for f in event.needs if events[f].child == event.process][:1]:
                if not self._starts_with(j, event) and j not in own:
                    continue
                over |= known[j] | {j}
            if event.letter.op == "wait":
                gone = event.needs[-1]
                over |= known[gone] | {gone}
            for j in sorted({*event.needs, self.word.after[i]} - {-1}, reverse=True):
                if j not in over:
                    number += 1
                    behind[j].append(f"e{number}")
                    before[i].append(f"e{number}")
                    over |= known[j] | {j}
            known.append(over)
        return before, behind

    def _starts_with(self, j: int, event: Event) -> bool:
        """A process's own actor begins when it is forked; a thread of the first process is there before anything."""
        forked = self.word.events[j]
        return forked.letter.op == "fork" and forked.child == event.process and PROCESS_OF[event.actor] == event.actor

    # --- claims -------------------------------------------------------------------------------------------------------

    def _claims(self) -> Iterator[Claim]:
        asked = [i for i in self.registers if all(ending[i] != ANY for ending in self.endings)]
        asked = [i for i in asked if self.word.events[i].letter.op in READS or self._always_fails(i)]
        endings = list(dict.fromkeys(tuple(ending[i] for i in asked) for ending in self.endings))
        if not asked or not endings:
            return
        fixed = [n for n in range(len(asked)) if len({ending[n] for ending in endings}) == 1]
        conds = [self._equals(asked[n], endings[0][n]) for n in fixed]
        open_ = [n for n in range(len(asked)) if n not in fixed]
        if len(open_) == 1 or len(endings) > _MOST_ENDINGS:
            conds += [self._is_one_of(asked[n], [ending[n] for ending in endings]) for n in open_]
        elif open_:
            ways = [tuple(self._equals(asked[n], ending[n]) for n in open_) for ending in endings]
            conds.append(Or(tuple(And(way) for way in ways)))
        yield Claim("always", conds[0] if len(conds) == 1 else And(tuple(conds)))

    def _always_fails(self, i: int) -> bool:
        return all(ending[i] == SEGV for ending in self.endings)

    def _equals(self, i: int, value: Value) -> Cond:
        return Compare(Register(self.registers[i]), "==", _operand(value))

    def _is_one_of(self, i: int, values: Sequence[Value]) -> Cond:
        return In(Register(self.registers[i]), tuple(map(_operand, sorted(set(values), key=repr))))


def _operand(value: Value) -> Operand:
    return Number(value) if isinstance(value, int) else ErrorName(value)


def _values(word: Word, mapping: Mapping) -> tuple[int, ...]:
    """What each event writes: a value of its own, that memory does not hold at first."""
    values, following = [], max([1, *(value for _, value in mapping.cells)])
    for event in word.events:
        writes = event.letter.op in _WRITES
        following += writes
        values.append(following if writes else 0)
    if following > MAX_VALUE:
        raise WordError(f"more than {MAX_VALUE} values are written")
    return tuple(values)


def _actor(name: str, body: Sequence[Statement]) -> Actor:
    if name in ("t", "d"):
        return Actor("thread" if name == "t" else "device", name, PROCESS_OF[name], tuple(body))
    return Actor("process", name, name, tuple(body))


def happens(text: str, stage: Stage = BARE) -> bool:
    """Is it a word, and can it happen?"""
    try:
        word = read_word(text)
        sequential(word, Ideal(stage.mapping, _values(word, stage.mapping)))
    except WordError:
        return False
    return True


def unnamed(test: Test) -> Test:
    """Without what only tells where it comes from: for finding out whether two words say the same."""
    return replace(test, name="", description="", sources=())

"""A word read: letters become events, each with who does it, to which child or pin, and what it needs to come first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cowcatcher.generate.letters import ALLOWED, LETTERS, PARENT, PROCESS_OF, SHORT, Letter
from cowcatcher.litmus.errors import nearest
from cowcatcher.litmus.parser import canonical_flags

_FORM = re.compile(r"(?P<name>[A-Za-z]+)(?P<rest>(?:\.\w+|\[[^\]]*\])*)")
_PIECE = re.compile(r"\.(\w+)|\[([^\]]*)\]")
PARALLEL = "|"


class WordError(Exception):
    """A word that cannot be one; the message names the letter and says what could stand there."""


@dataclass(frozen=True, slots=True)
class Event:
    """One letter in its place.

    ``child`` is the process forked, gone or waited for; ``pin`` the pin taken or used, counted from 0, or -1.
    ``needs`` are the events, by number, that must be over before it, besides what its own actor did earlier.
    """

    text: str
    letter: Letter
    actor: str
    argument: str
    child: str = ""
    pin: int = -1
    needs: tuple[int, ...] = ()

    @property
    def process(self) -> str:
        return PROCESS_OF[self.actor]


@dataclass(frozen=True, slots=True)
class Word:
    """``events`` in the order of the text; ``after`` says of each which one it follows in its part, -1 for none."""

    text: str
    events: tuple[Event, ...]
    after: tuple[int, ...]


def read_word(text: str) -> Word:
    """Raises WordError.

    >>> [event.letter.op for event in read_word("RegMr Fork Store.p Dma.r").events]
    ['ibv_reg_mr', 'fork', 'store', 'dma_read']
    """
    parts = [part.split() for part in _split_parts(text)]
    if not all(parts):
        raise WordError("a word has a letter, and so has each of its parts: 'Fork Load.c', 'Fork Store.p | Load.c'")
    reader = _Reader()
    for part in parts:
        reader.begin_part()
        for word, following in zip(part, (*part[1:], ""), strict=True):
            reader.read(word, following)
    told = f" {PARALLEL} ".join(" ".join(part) for part in parts)
    return Word(told, tuple(reader.events), tuple(reader.after))


def _split_parts(text: str) -> list[str]:
    """At every ``|`` that does not stand between brackets."""
    return re.split(r"\|(?![^\[]*\])", text)


@dataclass
class _Reader:
    events: list[Event] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    previous: int = -1
    born: dict[str, int] = field(default_factory=lambda: {"p": -1})  # process -> its fork
    gone: dict[str, int] = field(default_factory=dict)  # process -> its exit
    waited: set[str] = field(default_factory=set)
    pins: list[int] = field(default_factory=list)
    released: set[int] = field(default_factory=set)

    def begin_part(self) -> None:
        self.previous = -1

    def read(self, text: str, following: str) -> None:
        letter, actor, argument = parse_letter(text)
        if not actor and letter.op == "wait":
            actor = self.last_parent()
        actor = actor or letter.actor
        self.add(self.placed(text, letter, actor, argument))
        if letter.op == "exit" and following and not following.startswith("Wait"):
            parent = PARENT[PROCESS_OF[actor]]
            if parent and parent not in self.gone:
                self.add(self.placed(f"Wait.{parent}", LETTERS["Wait"], parent, ""))

    def last_parent(self) -> str:
        return PARENT[next((e.child for e in reversed(self.events) if e.letter.op == "exit"), "c")]

    def add(self, event: Event) -> None:
        self.after.append(self.previous)
        self.previous = len(self.events)
        self.events.append(event)

    def placed(self, text: str, letter: Letter, actor: str, argument: str) -> Event:
        process = PROCESS_OF[actor]
        needs = []
        if process and process not in self.born:
            raise WordError(f"{text}: {actor} is not there yet; {_birth(process)} comes first")
        if process in self.gone:
            raise WordError(f"{text}: {process} has exited before")
        if process and self.born[process] >= 0:
            needs.append(self.born[process])
        child, pin, here = "", -1, len(self.events)
        match letter.op:
            case "fork":
                child = self.next_child(text, process)
                self.born[child] = here
            case "exit":
                child = process
                self.gone[process] = here
            case "wait":
                child = self.next_gone(text, process)
                needs.append(self.gone[child])
            case "peek" | "poke":
                if argument not in self.born or argument in self.gone or argument == process:
                    raise WordError(f"{text}: there is no other process {argument} at that time")
                needs += [self.born[argument]] if self.born[argument] >= 0 else []
            case "dma_read" | "dma_write" | "unpin":
                pin = self.used_pin(text, argument)
                needs.append(self.pins[pin])
                if letter.op == "unpin":
                    self.released.add(pin)
                if letter.op == "dma_write":
                    self.must_be_writable(text, pin)
            case _ if letter.takes_pin:
                pin = len(self.pins)
                self.pins.append(here)
        return Event(text, letter, actor, argument, child, pin, tuple(needs))

    def next_child(self, text: str, process: str) -> str:
        names = [child for child, parent in PARENT.items() if parent == process and child not in self.born]
        if not names:
            raise WordError(f"{text}: {process} has forked all the children that words have names for")
        return names[0]

    def next_gone(self, text: str, process: str) -> str:
        for child in self.gone:
            if PARENT[child] == process and child not in self.waited:
                self.waited.add(child)
                return child
        raise WordError(f"{text}: no child of {process} has exited; ChildExit comes first")

    def used_pin(self, text: str, argument: str) -> int:
        number = int(argument) - 1 if argument else len(self.pins) - 1
        if not 0 <= number < len(self.pins):
            raise WordError(f"{text}: no such pin is taken before; RegMr, Pin, Fixed ... come first")
        if number in self.released:
            raise WordError(f"{text}: that pin is released already")
        return number

    def must_be_writable(self, text: str, pin: int) -> None:
        taken = self.events[self.pins[pin]]
        if not writes(taken):
            raise WordError(f"{text}: a device cannot write through {taken.text}")


def _birth(process: str) -> str:
    return "Fork" if PARENT[process] == "p" else f"Fork.{PARENT[process]}"


def writes(taken: Event) -> bool:
    """May a device write through this pin?"""
    op = taken.letter.op
    if op in ("pin", "get"):
        return "WRITE" in taken.argument
    return op not in ("vmsplice", "dio_write") and taken.argument != "READONLY"


def promises(taken: Event) -> bool:
    """Does the page stay with its owner: is the pin for writing, or long-term?"""
    if taken.letter.op in ("pin", "get"):
        return "WRITE" in taken.argument or "LONGTERM" in taken.argument
    return taken.letter.op not in ("vmsplice", "dio_write")


# --- one letter -------------------------------------------------------------------------------------------------------


def parse_letter(text: str) -> tuple[Letter, str, str]:
    """(letter, actor or "", argument or its default)."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise WordError(f"'{text}' is no letter; one is written Name, Name.actor or Name.actor[argument]")
    suffixes = [suffix for suffix, _ in _PIECE.findall(form["rest"]) if suffix]
    arguments = [inner for suffix, inner in _PIECE.findall(form["rest"]) if not suffix]
    name = form["name"]
    if name == "Dma" and suffixes:
        name = f"Dma.{suffixes.pop(0)}"
    letter = LETTERS.get(name)
    if letter is None:
        near = nearest(name, LETTERS)
        raise WordError(f"no letter is called '{name}'{_meant(near)}\n'cowcatcher generate --list' explains them.")
    if len(suffixes) > 1 or len(arguments) > 1:
        raise WordError(f"{text}: one actor, one argument")
    return letter, _actor(text, letter, suffixes), _argument(text, letter, arguments)


def _actor(text: str, letter: Letter, suffixes: Sequence[str]) -> str:
    if not suffixes:
        return ""
    actor = suffixes[0]
    if actor not in PROCESS_OF:
        raise WordError(f"{text}: no actor is called '{actor}'; there are {', '.join(PROCESS_OF)}")
    if (actor == "d") != (letter.actor == "d") and not (actor == "d" and letter.op == "unpin"):
        raise WordError(f"{text}: {'a device cannot do that' if actor == 'd' else 'only the device can do that'}")
    if letter.op == "exit" and actor == "t":
        raise WordError(f"{text}: a thread does not exit by itself; its process does")
    return actor


def _argument(text: str, letter: Letter, arguments: Sequence[str]) -> str:
    if not arguments:
        return letter.default
    argument = arguments[0]
    if letter.argument == "pin" and argument.isdigit():
        return argument
    words = argument.split("|") if letter.argument == "flags" else [argument]
    allowed = ALLOWED.get(letter.argument, ())
    for word in words:
        if word not in allowed:
            what = "the number of a pin" if letter.argument == "pin" else " or ".join(allowed) or "nothing"
            raise WordError(f"{text}: in the brackets of {letter.name} stands {what}{_meant(nearest(word, allowed))}")
    if letter.argument == "flags":
        flags = canonical_flags(dict.fromkeys(SHORT.get(word, word) for word in words))
        if ("READ" in flags) == ("WRITE" in flags):
            raise WordError(f"{text}: either R or W")
        return "|".join(flags)
    return argument


def _meant(near: str | None) -> str:
    return f"; did you mean '{near}'?" if near else ""

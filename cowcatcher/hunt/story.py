"""Ways through a hunt's space, as programs: who began which statement, and the test that this is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

from cowcatcher.hunt.alphabet import MEMORY, PROCESSES, memory_of
from cowcatcher.hunt.space import RESULT, HuntSpace, needs_register
from cowcatcher.litmus.ast import Actor, Claim, Expect, KernelMay, KernelRange, Name, Place, Statement, Test


class Begun(NamedTuple):
    """A task begins one of its statements."""

    task: int
    number: int


#: Statements in the order in which they were begun.
Word: TypeAlias = tuple[Begun, ...]
#: Per task the numbers of its statements.
Shape: TypeAlias = tuple[tuple[int, ...], ...]


def word_of(space: HuntSpace, way: Iterable[tuple[int, bytes]], initial: bytes) -> Word:
    """The statements that a way begins: a step of a task that was idle. ``way``: (label, state led to)."""
    found = []
    before = initial
    for label, state in way:
        task, number = label >> 8, label & 255
        if space.is_idle(before, task):
            found.append(Begun(task, number))
        before = state
    return tuple(found)


def by_task(space: HuntSpace, word: Word) -> Shape:
    """Per task the numbers of its statements: what a test says, which leaves the order of the tasks open.

    Of the kernel's own it says only that they may happen.
    """
    shape = []
    for task, everything in enumerate(space.repertoires):
        numbers = tuple(b.number for b in word if b.task == task)
        shape.append(numbers[:1] and (0,) if everything.kind == "kernel" else numbers)
    return tuple(shape)


def is_part_of(small: Sequence[Sequence[int]], large: Sequence[Sequence[int]]) -> bool:
    """Can ``small`` be had from ``large`` by leaving statements out?"""
    return all(_is_subsequence(a, b) for a, b in zip(small, large, strict=True))


def _is_subsequence(small: Sequence[int], large: Sequence[int]) -> bool:
    rest = iter(large)
    return all(number in rest for number in small)


def smallest(word: Word, keeps: Callable[[Word], bool]) -> Word:
    """The word without whatever can be left out, one statement after another, as long as ``keeps`` says yes."""
    at = 0
    while at < len(word):
        shorter = word[:at] + word[at + 1 :]
        if keeps(shorter):
            word, at = shorter, 0
        else:
            at += 1
    return word


def name_of(space: HuntSpace, word: Word) -> str:
    """The letters in order; whose it was stands before those that are not the first process's."""
    parts = []
    for task, number in word:
        who = space.repertoires[task].name
        letter = space.letter(task, number).name
        first = who == PROCESSES[0] or space.repertoires[task].kind in ("device", "kernel")
        parts.append(letter if first else f"{who}_{letter}")
    return "_".join(parts) or "nothing"


def program_of(space: HuntSpace, word: Word, name: str, description: str = "", expects: Sequence[Expect] = ()) -> Test:
    """The program of a word, each actor's statements in their order and nothing between the actors."""
    actors, may = [], []
    named = {PROCESSES[0]}
    for task, everything in enumerate(space.repertoires):
        numbers = [b.number for b in word if b.task == task]
        if everything.kind == "kernel":
            if numbers:
                may.append(KernelMay(everything.letters[0].op, Place(MEMORY)))
            continue
        body = tuple(_named(everything.statements[b.number], place) for place, b in enumerate(word) if b.task == task)
        for statement in body:
            if statement.op in ("fork", "vfork") and isinstance(statement.args[0], Name):
                named.add(statement.args[0].text)
        actors.append(Actor(everything.kind, everything.name, everything.process, body))
    there = tuple(a for a in actors if a.body or a.name in named)
    return Test(
        name, description, memory=memory_of(space.size), actors=there, kernel_may=tuple(may), expects=tuple(expects)
    )


def ordered_test_of(space: HuntSpace, word: Word, name: str, claims: Sequence[Claim] | None) -> Test:
    """The program of a word with everything in the word's order; the i-th statement's result is ``r<i>``."""
    from cowcatcher.agree.story import Step, Story

    owner = {r.name: r.process for r in space.repertoires if r.kind != "kernel"}
    steps = []
    for place, (task, number) in enumerate(word):
        statement = space.repertoires[task].statements[number]
        if statement.op != "exit":
            statement = replace(statement, target=statement.target or result_name(place))
        steps.append(Step(space.repertoires[task].name, statement))
    return Story(memory_of(space.size), owner, tuple(steps)).test(name, claims)


def _named(statement: Statement, place: int) -> Statement:
    return replace(statement, target=result_name(place)) if needs_register(statement) else statement


def result_name(place: int) -> str:
    """The register of the ``place``-th statement of an ordered test, from 0."""
    return f"{RESULT}{place + 1}"


def expect(kernel: str, verdict: Literal["holds", "violated"], check: str | None = None) -> Expect:
    """What a test that was found says of one kernel."""
    return Expect(verdict, (KernelRange(kernel, kernel, True),), check.upper() if check else None)


def unique_name(name: str, taken: set[str]) -> str:
    """A name no longer than file systems and eyes like, and not taken; then it is."""
    name = name[:56].rstrip("_")
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique)
    return unique

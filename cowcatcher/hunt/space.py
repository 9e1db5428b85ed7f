"""The machine of a hunt: everybody may do anything of the alphabet, whenever it is free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cowcatcher.compiled.expand import IDLE
from cowcatcher.explore.program import Program, compile_test, initial_state
from cowcatcher.hunt.alphabet import MEMORY, Letter, Repertoire, Size, memory_of, repertoires
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import KernelMay, Place, Statement, Test
from cowcatcher.litmus.statements import SIGNATURES
from cowcatcher.state import T_PC, T_PHASE, TASK_SIZE, Machine

#: Where results go.
RESULT = "r"


@dataclass(frozen=True, slots=True)
class HuntSpace:
    """``repertoires`` are in the order of the program's tasks; a task's statements are numbered as its repertoire's."""

    size: Size
    repertoires: tuple[Repertoire, ...]
    program: Program

    def machine(self, kernel: Kernel) -> Machine:
        return self.program.on(kernel.rules())

    def initial(self, kernel: Kernel) -> bytes:
        """As a test begins, and everybody idle."""
        m = self.machine(kernel)
        s = initial_state(self.program, m)
        for task, everything in enumerate(self.repertoires):
            if everything.kind != "kernel":
                s[m.tasks + task * TASK_SIZE + T_PC] = self.idle(task)
        return bytes(s)

    def idle(self, task: int) -> int:
        """Where a task stands that does nothing (see ``compiled.expand``)."""
        return len(self.program.layout.programs[task]) + IDLE

    def is_idle(self, state: bytes, task: int) -> bool:
        t = self.program.layout.tasks + task * TASK_SIZE
        if self.repertoires[task].kind == "kernel":
            return state[t + T_PHASE] == 0
        return state[t + T_PHASE] == 0 and state[t + T_PC] == self.idle(task)

    def letter(self, task: int, number: int) -> Letter:
        return self.repertoires[task].letters[number]


def hunt_space(letters: Sequence[Letter], size: Size, results: bool = False) -> HuntSpace:
    """The space of all programs that these letters make. Raises NotModelled for a letter that the model lacks.

    What gives a value has a register to put it in, as in a test; it is forgotten at once. ``results``: every statement
    has one, so that an error, or a SIGSEGV that would have been its process's death, can be looked at.
    """
    everybody = repertoires(letters, size)
    actors = [
        replace(r.actor, body=tuple(_with_register(s) if results or needs_register(s) else s for s in r.statements))
        for r in everybody
        if r.kind != "kernel"
    ]
    may = tuple(KernelMay(letter.op, Place(MEMORY)) for letter in letters if letter.who == "kernel")
    test = Test(name="hunt", memory=memory_of(size), actors=tuple(actors), kernel_may=may)
    return HuntSpace(size, everybody, compile_test(test))


def needs_register(statement: Statement) -> bool:
    return SIGNATURES[statement.op].gives == "value"


def _with_register(statement: Statement) -> Statement:
    if statement.op == "exit":
        return statement  # never returns
    return replace(statement, target=statement.target or RESULT)

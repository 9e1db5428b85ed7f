"""A witness in few words: who did which statement, and where one was interrupted by another actor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cowcatcher.explore.program import Program
from cowcatcher.explore.verdict import Step
from cowcatcher.litmus.ast import KernelMay, Statement
from cowcatcher.litmus.printer import place_text, statement_text
from cowcatcher.mm.phases import STEP_NAMES
from cowcatcher.state import T_PC, T_PHASE, TASK_SIZE


def witness_record(program: Program, witness: Sequence[Step]) -> list[dict[str, Any]]:
    """One entry for every stretch in which an actor works on one statement without interruption.

    ``steps`` are the names of its steps; ``part`` says whether the stretch is the ``whole`` statement, or its
    ``begin``, ``middle`` or ``end``.
    """
    parts: list[dict[str, Any]] = []
    open_part: tuple[int, int] | None = None
    at = [(0, 0)] * len(program.tasks)  # pc, phase
    for step in witness:
        pc, phase = at[step.task]
        info = program.tasks[step.task]
        if open_part != (step.task, pc):
            parts.append(
                {
                    "actor": info.name,
                    "statement": _text(info.statements[pc]),
                    "part": "middle" if phase else "begin",
                    "steps": [],
                }
            )
            open_part = (step.task, pc)
        name = STEP_NAMES.get(phase, "")
        if name:
            parts[-1]["steps"].append(name)
        t = program.layout.tasks + step.task * TASK_SIZE
        at[step.task] = (step.state[t + T_PC], step.state[t + T_PHASE])
        if not step.state[t + T_PHASE]:
            parts[-1]["part"] = {"begin": "whole", "middle": "end"}[parts[-1]["part"]]
            open_part = None
    return parts


def _text(statement: Statement | KernelMay) -> str:
    if isinstance(statement, Statement):
        return statement_text(statement)
    return f"{statement.action}({place_text(statement.place) if statement.place else ''})"

"""Tests raced on a real kernel: every actor executes its statements by itself, all at once, many times over.

What comes of it is a number of outcomes, each with how often it was seen. A run in which an actor waits for what nobody
is left to do is an outcome like any other; see agent/race.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cowcatcher.real.host import Observation, Seen, Status, read_ordered

if TYPE_CHECKING:
    from cowcatcher.real.lower import Lowered


def read_race(
    lowered: Lowered, answers: list[list[str]], timeout: float, wrapper: Sequence[str] | None = None
) -> Observation:
    """One test's answers, understood. Without their last line the agent was lost. ``wrapper``: as for read_answers."""
    before: list[list[str]] = []
    chunks: list[list[list[str]]] = []
    hangs: list[str] = []
    made = uncounted = microseconds = 0
    for words in answers:
        match words:
            case ["at", runs]:
                made = int(runs)
            case ["hangs", actor, step]:
                hangs.append(_statement(lowered, int(actor), int(step)))
            case ["uncounted", count]:
                uncounted = int(count)
            case ["outcome", _, _]:
                chunks.append([words])
            case ["done", _, _, runs, time]:
                made, microseconds = int(runs), int(time)
            case _:
                (chunks[-1] if chunks else before).append(words)
    how = answers[-1][2] if answers and answers[-1][0] == "done" else "crash"
    outcomes = tuple(_seen(lowered, chunk, timeout, wrapper) for chunk in chunks)
    status: Status = "ok"
    reason = ""
    if how == "crash":
        status, reason = "crash", f"the agent did not survive run {made + 1} or one soon after"
    elif how == "setup":
        failed = read_ordered(lowered, [*before, ["done", "0", "setup", "0", "0"]], timeout)
        status, reason = failed.status, failed.reason
    elif how == "timeout":
        status, reason = "timeout", f"{'; '.join(hangs) or 'a run'} took longer than {timeout:g} s"
    elif outcomes and all(s.observation.status == "not applicable" for s in outcomes):
        status, reason = "not applicable", outcomes[0].observation.reason
    none = read_ordered(lowered, [["done", "0", "done", "0", "0"]], timeout)
    return replace(
        none, status=status, reason=reason, outcomes=outcomes, made=made, uncounted=uncounted, microseconds=microseconds
    )


def _seen(lowered: Lowered, chunk: list[list[str]], timeout: float, wrapper: Sequence[str] | None) -> Seen:
    (_, count, first), *lines = chunk
    seen = read_ordered(lowered, [*lines, ["done", "0", "done", "0", "0"]], timeout, wrapper)
    late = next((int(words[1]) for words in lines if words[0] == "step" and words[2] == "refused"), None)
    if late is not None:
        step, pin = lowered.steps[late]
        what = _statement(lowered, lowered.actors.index(step.actor), late)
        reason = f"{what}: {lowered.backends[pin]} does not use what is released already"
        seen = replace(seen, status="not applicable", reason=reason)
    return Seen(int(count), int(first), seen)


def _statement(lowered: Lowered, actor: int, step: int) -> str:
    from cowcatcher.litmus.printer import statement_text

    who = lowered.actors[actor]
    if step >= len(lowered.steps) or lowered.steps[step].step.actor != who:
        return f"{who}, between two statements,"
    return f"{who}: {statement_text(lowered.steps[step].step.statement)}"

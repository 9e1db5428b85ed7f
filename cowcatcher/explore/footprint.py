"""What a test asked of a kernel: every question with its facts, and the answer.

Decisions are pure functions of small facts, so answers are kept instead of computed again; and a second kernel that
gives the same answers to the same questions has, by construction, the same state graph. A test is explored once for all
kernels that cannot be told apart by it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from cowcatcher.decision import Decisions
from cowcatcher.kernels import QUESTIONS, Kernel

Asked = dict[tuple[str, tuple[int, ...]], int]


def recording(kernel: Kernel) -> tuple[Decisions, Asked]:
    """The kernel's answers, and the record that fills while they are used."""
    asked: Asked = {}

    def remember(question: str, answer: Callable[..., int]) -> Callable[..., int]:
        def ask(*facts: int) -> int:
            key = (question, facts)
            known = asked.get(key)
            if known is None:
                known = asked[key] = int(answer(*facts))
            return known

        return ask

    rules = SimpleNamespace(**{q: remember(q, kernel.decisions[q].answer) for q in QUESTIONS})
    return cast(Decisions, rules), asked


def answers_alike(kernel: Kernel, asked: Asked) -> bool:
    """Would this kernel have given every recorded answer?"""
    return all(int(kernel.decisions[q].answer(*facts)) == answer for (q, facts), answer in asked.items())

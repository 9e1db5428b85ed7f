"""What a decision is: one answer to one of the questions of ``cowcatcher.decision``, with where it came from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cowcatcher.decision import Decisions

#: Every question, in the order of the protocol.
QUESTIONS: tuple[str, ...] = tuple(
    name for name, value in vars(Decisions).items() if not name.startswith("_") and callable(value)
)

Answer = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Decision:
    """A named answer.

    ``commits`` are the upstream commits that brought it (ids in ``commits.COMMITS``), empty for what had been there
    before the modelled history and for proposals. ``source`` is ``file:function``. The docstring of ``answer`` says
    what it is for, or what goes wrong without it.
    """

    name: str
    question: str
    answer: Answer
    commits: tuple[str, ...] = ()
    source: str = ""

    @property
    def doc(self) -> str:
        """The answer's docstring, unindented."""
        return inspect.getdoc(self.answer) or ""


class BadDecision(Exception):
    """A decision that answers no known question, or takes the wrong number of facts."""


def decision(question: str, *commits: str, source: str = "") -> Callable[[Answer], Decision]:
    """Make a function the answer to ``question``; its name becomes the decision's.

    Raises BadDecision if there is no such question or the function does not take its facts. A user's own patch is
    such a function in a file of their own (``--decision my_patch.py``).
    """

    def register(answer: Answer) -> Decision:
        name = answer.__name__
        if question not in QUESTIONS:
            raise BadDecision(_unknown_question(name, question))
        wanted = _facts(getattr(Decisions, question))[1:]
        found = _facts(answer)
        if len(found) != len(wanted):
            raise BadDecision(
                f"{name}: the question {question!r} gives {len(wanted)} facts ({', '.join(wanted) or 'none'}), "
                f"but the function takes {len(found)} ({', '.join(found) or 'none'})"
            )
        return Decision(name, question, answer, commits, source)

    return register


def _facts(function: Callable[..., Any]) -> list[str]:
    """Positional parameters; read from the code object, since inspect.signature() is slow where a start is counted."""
    code = function.__code__
    return list(code.co_varnames[: code.co_argcount])


def _unknown_question(name: str, question: str) -> str:
    import difflib

    near = difflib.get_close_matches(question, QUESTIONS, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; the questions are: {', '.join(QUESTIONS)}"
    return f"{name}: there is no question {question!r}{hint}"

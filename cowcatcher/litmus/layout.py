"""What stands on a line of its own in the canonical text.

The parser lists a file's units in the order of the text, with where each stands; the printer lists a tree's units in
canonical order. Printing is the same for both, so ``fmt`` and ``to_text`` cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from cowcatcher.litmus.ast import Actor, Claim, Expect, KernelMay, Mapping, Statement

Role: TypeAlias = Literal[
    "test", "description", "source", "memory", "actor", "close", "mapping", "statement",
    "kernel_may", "claim", "unchecked", "expect",
]  # fmt: skip
Node: TypeAlias = Actor | Claim | Expect | KernelMay | Mapping | Statement | str


@dataclass(frozen=True, slots=True)
class Unit:
    """One line to print, and where it stood.

    ``node`` is what to print; for an "actor" its head, with an empty body; a text for the roles that are only a text.
    ``start`` and ``stop`` are offsets into the source, ``line`` and ``last_line`` the same in lines; 0 in a tree's.
    """

    role: Role
    node: Node
    start: int = 0
    stop: int = 0
    line: int = 0
    last_line: int = 0

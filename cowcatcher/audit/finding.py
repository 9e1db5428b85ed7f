"""What an audit has to say: findings, and the case that each makes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from cowcatcher.audit.events import Event, Range
from cowcatcher.litmus.ast import Test


class Severity(enum.Enum):
    """``ERROR``: it happened, or this kernel lets it happen. ``WARNING``: it takes one more step of the program's.

    ``NOTE``: worth knowing. ``GOOD``: something that is not needed, or not at risk, here. ``UNSURE``: could not tell.
    """

    ERROR = "error"
    WARNING = "warning"
    UNSURE = "could not tell"
    NOTE = "note"
    GOOD = "good"


class Question(enum.Enum):
    """What a test derived from the trace is to ask. Each names what the program may do next, as it was not traced."""

    DEVICE_AND_OWNER = "does the device still see what its owner stores, and the owner what the device writes?"
    DEVICE_READS_FOREIGN = "does the device read bytes that another process stored?"
    CHILD_READS_NEIGHBOUR = "can the child read what lies on the same page?"
    CHILD_READS_BUFFER = "can the child read the buffer itself?"
    CHILD_SEES_DEVICE = "does the child see what the device writes for its parent?"
    FREED_UNDER_DEVICE = "does the owner see what the device writes after the memory was given back?"


@dataclass(frozen=True, slots=True)
class Owned:
    """A piece of a page and whose it is: ``kind`` is "pinned", "neighbour", "allocator", "unused" or "unknown"."""

    range: Range
    kind: str
    who: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A line of a finding's timeline. ``line`` of the trace, 0 if it was seen live."""

    time: float
    line: int
    task: int
    text: str
    stack: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """What a derived test is made from: the events that touch the finding's pages and processes, in their order.

    ``page`` is the page at risk, ``pinned`` the part of it that the device uses: less than the page, or the whole.
    ``processes`` are names by task, of every task in ``events`` (threads have their process's name); the first one owns
    the pin. ``left_out`` says in words what of the trace is not in ``events``, and why that changes nothing.
    """

    question: Question
    events: tuple[Event, ...]
    processes: dict[int, str]
    owner: str
    page: Range
    pinned: Range
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OnKernel:
    """The checker's word on one kernel: ``verdict`` is a value of explore.verdict.Verdict, ``because`` the decision."""

    kernel: str
    verdict: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the derived test says. ``here`` is the kernel the program runs on, None where that is not known.

    ``groups`` are all modelled kernels, neighbours of one verdict together ("v5.7..v5.8", "holds"). ``small`` is the
    shrunk test where it is violated anywhere.
    """

    test: Test | None
    here: OnKernel | None
    groups: tuple[OnKernel, ...]
    small: Test | None = None
    why_not: str = ""  # no test could be derived, or checked, and why


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about one program. ``key`` is equal for findings that say the same of other ranges or times.

    ``others`` are the cases of other sorts of memory in it, each with its timeline; ``unjudged`` more have none.
    """

    rule: str  # a name in rules.RULES: "fork-shares-pinned"
    severity: Severity
    title: str
    process: int
    program: str
    ranges: tuple[Range, ...] = ()
    owners: tuple[Owned, ...] = ()
    timeline: tuple[Moment, ...] = ()
    explanation: str = ""  # the rule, in words
    remedy: str = ""
    case: Case | None = None
    others: tuple[tuple[Case, tuple[Moment, ...]], ...] = ()
    unjudged: int = 0
    judged: Judged | None = None
    times: int = 1  # how often it was found, with other ranges
    key: tuple[object, ...] = field(default=(), compare=False)

"""The syntax tree of a ``.cow`` test.

Plain frozen records with the place in the file each came from. The tree says what was written and nothing about what
it means: no kernel, no model, no default filled in from elsewhere. Two trees that differ only in their spans compare
equal, so that ``parse(print(tree)) == tree`` can be stated as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Span:
    """Where something stands in the text: 1-based line, 1-based columns, ``end`` one past the last column."""

    line: int
    col: int
    end: int


NOWHERE = Span(0, 0, 0)


def _span() -> Span:
    return NOWHERE


@dataclass(frozen=True, slots=True)
class Place:
    """A piece of a mapping or of a pin: ``buf``, ``buf[1]``, ``heap.a``, ``buf[1].a``, ``mr[0]``."""

    name: str
    index: int | None = None
    cell: str | None = None
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    """A bare word in argument position: a process, an event, an advice, a protection, a filesystem."""

    text: str
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Number:
    """A small whole number, 0..15 where it is a value."""

    value: int
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Flags:
    """``WRITE|LONGTERM``: words joined by ``|``, in the order of the text's canonical form."""

    names: tuple[str, ...]
    span: Span = field(default_factory=_span, compare=False)


Arg: TypeAlias = Place | Name | Number | Flags


@dataclass(frozen=True, slots=True)
class Statement:
    """``target = op(args)``; ``target`` is a register or a pin, by the signature of ``op`` (see ``statements``)."""

    op: str
    args: tuple[Arg, ...] = ()
    target: str | None = None
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of ``memory { … }``.

    ``cells`` are (name, initial value) in order of the text; a single unnamed value is ``(("", v),)`` and an untouched
    mapping has no cells written (``anon()`` is ``()``). ``flags`` are bare options such as ``thp`` or ``batched``.
    """

    name: str
    kind: str
    cells: tuple[tuple[str, int], ...] = ()
    pages: int = 1
    prot: Literal["R", "RW"] = "RW"
    flags: tuple[str, ...] = ()
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Actor:
    """``process NAME``, ``thread NAME of PROCESS`` or ``device NAME [iommu]``.

    ``process`` is the owner's name for a thread, the actor's own name for a process, and "" for a device.
    """

    kind: Literal["process", "thread", "device"]
    name: str
    process: str
    body: tuple[Statement, ...]
    iommu: bool = False
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class KernelMay:
    """``kernel may ACTION(place)``: something the kernel may do at any moment, any number of times, or never."""

    action: str
    place: Place | None = None
    span: Span = field(default_factory=_span, compare=False)


# --- conditions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Located:
    """``PROCESS:place`` (a page as that process maps it), or a pin's place when ``process`` is None."""

    process: str | None
    place: Place
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Register:
    name: str
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class ErrorName:
    """``SIGSEGV``, ``EFAULT`` …: what a register holds when its statement failed."""

    name: str
    span: Span = field(default_factory=_span, compare=False)


Operand: TypeAlias = Register | Number | ErrorName


@dataclass(frozen=True, slots=True)
class Compare:
    left: Operand
    op: Literal["==", "!="]
    right: Operand
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class In:
    left: Operand
    values: tuple[Operand, ...]
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Query:
    """A question about the final state: ``same_page(A, B)``, ``mapped(P:x)``, ``maybe_pinned(A)``."""

    op: Literal["same_page", "mapped", "maybe_pinned"]
    args: tuple[Located, ...]
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    item: Cond
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class And:
    """Two or more conditions; a nested ``and`` is flattened by the parser, so the tree is unique."""

    items: tuple[Cond, ...]
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Or:
    items: tuple[Cond, ...]
    span: Span = field(default_factory=_span, compare=False)


Cond: TypeAlias = Compare | In | Query | Not | And | Or


@dataclass(frozen=True, slots=True)
class Claim:
    """``always COND``, ``never COND``, ``sometimes COND`` over the final states."""

    kind: Literal["always", "never", "sometimes"]
    cond: Cond
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class KernelRange:
    """``A..B``, ``A..``, ``..B`` or one name (``first == last``, ``single``); names as written, for ``kernels``."""

    first: str | None
    last: str | None
    single: bool = False
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Expect:
    """``expect holds on RANGES`` or ``expect violated [CHECK] on RANGES``; ``check`` is upper-case, or None."""

    verdict: Literal["holds", "violated"]
    ranges: tuple[KernelRange, ...]
    check: str | None = None
    span: Span = field(default_factory=_span, compare=False)


@dataclass(frozen=True, slots=True)
class Test:
    """One whole file. Comments are not part of it; ``format_source`` works on the text, and loses none."""

    name: str
    description: str = ""
    sources: tuple[str, ...] = ()
    memory: tuple[Mapping, ...] = ()
    actors: tuple[Actor, ...] = ()
    kernel_may: tuple[KernelMay, ...] = ()
    claims: tuple[Claim, ...] = ()
    unchecked: tuple[str, ...] = ()
    expects: tuple[Expect, ...] = ()
    path: str = field(default="", compare=False)
    text: str = field(default="", compare=False, repr=False)
    span: Span = field(default_factory=_span, compare=False)

    __test__ = False  # pytest must not collect it

    def mapping(self, name: str) -> Mapping | None:
        """The mapping of that name, or None."""
        return next((m for m in self.memory if m.name == name), None)

    def actor(self, name: str) -> Actor | None:
        """The actor of that name, or None."""
        return next((a for a in self.actors if a.name == name), None)

"""Hypothesis strategies for tests.

``trees()`` gives trees of every form the grammar knows, with names that need not mean anything: for the printer and the
parser. ``litmus_tests()`` gives small tests that ``check`` finds nothing wrong with: for everything behind the parser.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from hypothesis import strategies as st

from cowcatcher.litmus.ast import (
    Actor,
    And,
    Arg,
    Claim,
    Compare,
    Cond,
    ErrorName,
    Expect,
    Flags,
    In,
    KernelMay,
    KernelRange,
    Located,
    Mapping,
    Name,
    Not,
    Number,
    Operand,
    Or,
    Place,
    Query,
    Register,
    Statement,
    Test,
)
from cowcatcher.litmus.names import read_only_because
from cowcatcher.litmus.statements import (
    ADVICES,
    CHECKS,
    ERRORS,
    FILESYSTEMS,
    GUP_FLAGS,
    KERNEL_ACTIONS,
    MAPPING_FLAGS,
    MAPPING_KINDS,
    MAX_VALUE,
    PROTECTIONS,
    SIGNATURES,
    ParamKind,
    Signature,
)

PROTS: tuple[Literal["R", "RW"], ...] = ("RW", "R")
ACTOR_KINDS: tuple[Literal["process", "thread", "device"], ...] = ("process", "thread", "device")
CLAIM_KINDS: tuple[Literal["always", "never", "sometimes"], ...] = ("always", "never", "sometimes")
_RESERVED = {"and", "or", "not", "in", *ERRORS}
_CELL_RESERVED = {"pages", "prot", *MAPPING_FLAGS}

# --- trees: any form ----------------------------------------------------------------------------------------------

names = st.one_of(
    st.sampled_from(
        ["a", "buf", "mr", "parent", "child", "test", "memory", "of", "expect", "on", "holds", "may", "R", "_0"]
    ),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda n: n not in _RESERVED),
)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
values = st.integers(0, MAX_VALUE)
places = st.builds(Place, names, st.none() | st.integers(0, 9), st.none() | names)
gup_flags = st.lists(st.sampled_from(GUP_FLAGS), min_size=1, unique=True).map(
    lambda flags: Flags(tuple(f for f in GUP_FLAGS if f in flags))
)


def _args(kind: ParamKind) -> st.SearchStrategy[Arg]:
    words = {"PROT": PROTECTIONS, "ADVICE": ADVICES, "FILESYSTEM": FILESYSTEMS, "READONLY": ("READONLY",)}
    if kind in ("PLACE", "PAGES", "PIN", "PIN_PLACE"):
        return places
    if kind == "VALUE":
        return st.builds(Number, values)
    if kind == "GUP_FLAGS":
        return gup_flags
    return st.builds(Name, st.sampled_from(words[kind]) if kind in words else names)


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    signature = draw(st.sampled_from(sorted(SIGNATURES.values(), key=lambda s: s.op)))
    needed = sum(not p.optional for p in signature.params)
    count = draw(st.integers(needed, len(signature.params)))
    args = tuple(draw(_args(p.kind)) for p in signature.params[:count])
    return Statement(signature.op, args, draw(st.none() | names))


@st.composite
def mappings(draw: st.DrawFn) -> Mapping:
    cell = names.filter(lambda n: n not in _CELL_RESERVED)
    cells = draw(
        st.just(())
        | values.map(lambda v: (("", v),))
        | st.lists(st.tuples(cell, values), min_size=1, max_size=4).map(tuple)
    )
    flags = draw(st.sets(st.sampled_from(MAPPING_FLAGS)))
    return Mapping(
        draw(names),
        draw(st.sampled_from(MAPPING_KINDS)),
        cells,
        draw(st.integers(1, 8)),
        draw(st.sampled_from(PROTS)),
        tuple(f for f in MAPPING_FLAGS if f in flags),
    )


@st.composite
def actors(draw: st.DrawFn) -> Actor:
    kind = draw(st.sampled_from(ACTOR_KINDS))
    name = draw(names)
    process = {"process": name, "thread": draw(names), "device": ""}[kind]
    body = tuple(draw(st.lists(statements(), max_size=5)))
    return Actor(kind, name, process, body, kind == "device" and draw(st.booleans()))


operands: st.SearchStrategy[Operand] = st.one_of(
    st.builds(Register, names), st.builds(Number, values), st.builds(ErrorName, st.sampled_from(ERRORS))
)
_located = st.builds(Located, st.none() | names, places)
_atoms: st.SearchStrategy[Cond] = st.one_of(
    st.builds(Compare, operands, st.sampled_from(("==", "!=")), operands),
    st.builds(In, operands, st.lists(operands, min_size=1, max_size=3).map(tuple)),
    st.builds(
        Query,
        st.sampled_from(("same_page", "mapped", "maybe_pinned")),
        st.lists(_located, min_size=1, max_size=2).map(tuple),
    ),
)


def _larger(inner: st.SearchStrategy[Cond]) -> st.SearchStrategy[Cond]:
    several = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(st.builds(Not, inner), several.map(lambda c: joined(And, c)), several.map(lambda c: joined(Or, c)))


def joined(kind: type[And] | type[Or], conds: list[Cond]) -> Cond:
    """``conds`` joined, with nested ones of the same kind made part of the outer one, as the parser does."""
    return kind(tuple(i for c in conds for i in (c.items if isinstance(c, kind) else (c,))))


conditions: st.SearchStrategy[Cond] = st.recursive(_atoms, _larger, max_leaves=8)
claims = st.builds(Claim, st.sampled_from(CLAIM_KINDS), conditions)
kernel_names = st.sampled_from(["v5.7", "v5.9-rc4", "5.10.y", "v6.0", "nocop", "break-cow-at-pin", "5.14.0-362.el9"])
kernel_ranges = st.one_of(
    kernel_names.map(lambda n: KernelRange(n, n, single=True)),
    st.tuples(st.none() | kernel_names, st.none() | kernel_names).filter(any).map(lambda ends: KernelRange(*ends)),
)


@st.composite
def expects(draw: st.DrawFn) -> Expect:
    ranges = tuple(draw(st.lists(kernel_ranges, min_size=1, max_size=3)))
    check = draw(st.none() | st.sampled_from([c.upper() for c in CHECKS]))
    return Expect("violated", ranges, check) if draw(st.booleans()) else Expect("holds", ranges)


@st.composite
def kernel_mays(draw: st.DrawFn) -> KernelMay:
    action = draw(st.sampled_from(sorted(KERNEL_ACTIONS)))
    return KernelMay(action, draw(places) if KERNEL_ACTIONS[action] else None)


def trees() -> st.SearchStrategy[Test]:
    """Any tree that the grammar can give, whatever it means."""
    return st.builds(
        Test,
        name=names,
        description=st.lists(texts, max_size=3).map("\n".join),
        sources=st.lists(texts.filter(str.strip), max_size=2).map(tuple),
        memory=st.lists(mappings(), max_size=3).map(tuple),
        actors=st.lists(actors(), max_size=3).map(tuple),
        kernel_may=st.lists(kernel_mays(), max_size=2).map(tuple),
        claims=st.lists(claims, max_size=3).map(tuple),
        unchecked=st.lists(st.sampled_from(CHECKS), max_size=3, unique=True).map(tuple),
        expects=st.lists(expects(), max_size=3).map(tuple),
    )


# --- litmus_tests: small, and right -------------------------------------------------------------------------------


@dataclass
class _Draft:
    """A test while it is drawn: the names that exist so far."""

    memory: list[Mapping]
    bodies: dict[str, list[Statement]] = field(default_factory=dict)
    processes: list[str] = field(default_factory=list)
    owner: dict[str, str] = field(default_factory=dict)
    pins: dict[str, tuple[Statement, Mapping, int]] = field(default_factory=dict)
    registers: list[str] = field(default_factory=list)


@st.composite
def litmus_tests(draw: st.DrawFn, max_statements: int = 4, devices: bool = True) -> Test:
    """A test without a mistake: one to three processes, perhaps a thread and a device, at most ``max_statements``
    statements an actor besides the forks, waits, events and DMA that tie the actors together."""
    draft = _Draft(draw(_memory()))
    threads = _cast(draw, draft)
    for actor in list(draft.bodies):
        for _ in range(draw(st.integers(0, max_statements))):
            _task_statement(draw, draft, actor)
    _forks(draw, draft)
    actors = [_actor(draft, name, threads) for name in draft.bodies]
    if devices and draft.pins and draw(st.booleans()):
        actors.append(_device(draw, draft))
    _event(draw, actors)
    kernel_may = draw(st.lists(_kernel_may(draft), max_size=1))
    return Test(
        name="generated",
        memory=tuple(draft.memory),
        actors=tuple(actors),
        kernel_may=tuple(kernel_may),
        claims=tuple(draw(st.lists(_claim(draft), max_size=2))),
    )


@st.composite
def _memory(draw: st.DrawFn) -> list[Mapping]:
    found = []
    for name in ("x", "y")[: draw(st.integers(1, 2))]:
        kind = draw(st.sampled_from(("anon", "anon", "anon", *MAPPING_KINDS)))
        cells = draw(st.sampled_from(((), (("", 1),), (("", 2),), (("a", 1), ("b", 2)))))
        prot = draw(st.sampled_from(PROTS))
        found.append(Mapping(name, kind, () if kind == "anon_zero" else cells, draw(st.sampled_from((1, 1, 2))), prot))
    return found


def _cast(draw: st.DrawFn, draft: _Draft) -> list[str]:
    """Draw the processes and threads; the threads' names."""
    draft.processes = ["p", "q", "s"][: draw(st.integers(1, 3))]
    threads = ["t"] if draw(st.integers(0, 3)) == 0 else []
    for name in [*draft.processes, *threads]:
        draft.bodies[name] = []
        draft.owner[name] = name
    for thread in threads:
        draft.owner[thread] = draw(st.sampled_from(draft.processes))
    return threads


_TIED = ("fork", "vfork", "wait", "post", "await", "exit")
_FREE = [s for s in SIGNATURES.values() if s.where == "task" and s.op not in _TIED]


def _task_statement(draw: st.DrawFn, draft: _Draft, actor: str) -> None:
    signature = draw(st.sampled_from(_FREE))
    if signature.gives == "pin" and len(draft.pins) >= 3:
        return
    statement = _statement(draw, draft, actor, signature)
    draft.bodies[actor].append(statement)


def _statement(draw: st.DrawFn, draft: _Draft, actor: str, signature: Signature) -> Statement:
    mapping = draw(st.sampled_from(draft.memory))
    index = draw(st.integers(0, mapping.pages - 1)) if mapping.pages > 1 else draw(st.sampled_from((None, 0)))
    page = Place(mapping.name, index)
    args: list[Arg] = []
    for param in signature.params:
        if param.optional and draw(st.booleans()):
            break
        if param.kind == "PLACE":
            args.append(_with_cell(draw, page, mapping))
        elif param.kind == "PAGES":
            args.append(page if draw(st.booleans()) else Place(mapping.name))
        elif param.kind == "PROCESS":
            args.append(Name(draw(st.sampled_from(draft.processes))))
        elif param.kind == "GUP_FLAGS":
            args.append(_sane_flags(draw))
        else:
            args.append(draw(_args(param.kind)))
    statement = Statement(signature.op, tuple(args))
    if signature.gives == "pin":
        pin = f"m{len(draft.pins)}"
        taken = args[0]
        assert isinstance(taken, Place)
        statement = replace(statement, target=pin)
        draft.pins[pin] = (statement, mapping, mapping.pages if taken.index is None else 1)
    elif signature.gives == "value" or draw(st.integers(0, 3)) == 0:
        statement = replace(statement, target=_register(draft, actor))
    return statement


def _sane_flags(draw: st.DrawFn) -> Flags:
    extra = draw(st.sets(st.sampled_from(("FORCE", "LONGTERM", "FAST")), max_size=2))
    chosen = {draw(st.sampled_from(("READ", "WRITE"))), *extra}
    return Flags(tuple(f for f in GUP_FLAGS if f in chosen))


def _with_cell(draw: st.DrawFn, page: Place, mapping: Mapping) -> Place:
    cells = [name for name, _ in mapping.cells if name]
    return replace(page, cell=draw(st.sampled_from(cells))) if cells else page


def _register(draft: _Draft, actor: str) -> str:
    draft.registers.append(f"{actor}_r{len(draft.registers)}")
    return draft.registers[-1]


def _forks(draw: st.DrawFn, draft: _Draft) -> None:
    """Every process but the first is forked by an earlier one, at any point; perhaps waited for."""
    for i, child in enumerate(draft.processes[1:], start=1):
        parent = draw(st.sampled_from(draft.processes[:i]))
        body = draft.bodies[draw(st.sampled_from([a for a, owner in draft.owner.items() if owner == parent]))]
        at = draw(st.integers(0, len(body)))
        op = draw(st.sampled_from(("fork", "fork", "fork", "vfork")))
        body.insert(at, Statement(op, (Name(child),)))
        if draw(st.booleans()):
            body.insert(draw(st.integers(at + 1, len(body))), Statement("wait", (Name(child),)))
    for body in draft.bodies.values():
        if draw(st.integers(0, 3)) == 0:
            body.append(Statement("exit"))


def _actor(draft: _Draft, name: str, threads: list[str]) -> Actor:
    kind = "thread" if name in threads else "process"
    return Actor(kind, name, draft.owner[name], tuple(draft.bodies[name]))  # type: ignore[arg-type]


def _device(draw: st.DrawFn, draft: _Draft) -> Actor:
    body = []
    for _ in range(draw(st.integers(1, 3))):
        pin = draw(st.sampled_from(sorted(draft.pins)))
        statement, mapping, pages = draft.pins[pin]
        place = Place(pin, draw(st.integers(0, pages - 1)) if pages > 1 else None)
        place = _with_cell(draw, place, mapping)
        if read_only_because(statement) is None and draw(st.booleans()):
            body.append(Statement("dma_write", (place, Number(draw(values)))))
        else:
            body.append(Statement("dma_read", (place,), _register(draft, "d")))
    return Actor("device", "d", "", tuple(body), draw(st.booleans()))


def _event(draw: st.DrawFn, actors: list[Actor]) -> None:
    """Perhaps one event from one actor to another."""
    if len(actors) < 2 or draw(st.booleans()):
        return
    order = draw(st.permutations(range(len(actors))))
    for index, op in zip(order, ("post", "await"), strict=False):
        actor = actors[index]
        last = len(actor.body) - any(s.op == "exit" for s in actor.body)
        at = draw(st.integers(0, last))
        body = (*actor.body[:at], Statement(op, (Name("go"),)), *actor.body[at:])
        actors[index] = replace(actor, body=body)


@st.composite
def _kernel_may(draw: st.DrawFn, draft: _Draft) -> KernelMay:
    action = draw(st.sampled_from(sorted(KERNEL_ACTIONS)))
    return KernelMay(action, Place(draw(st.sampled_from(draft.memory)).name) if KERNEL_ACTIONS[action] else None)


@st.composite
def _claim(draw: st.DrawFn, draft: _Draft) -> Claim:
    kind = draw(st.sampled_from(CLAIM_KINDS))
    return Claim(kind, draw(st.recursive(_sensible(draft), _larger, max_leaves=3)))


@st.composite
def _sensible(draw: st.DrawFn, draft: _Draft) -> Cond:
    process, mapping = draw(st.sampled_from(draft.processes)), draw(st.sampled_from(draft.memory))
    located = Located(process, Place(mapping.name, 0))
    choice = draw(st.integers(0, 3 if draft.registers else 1))
    if choice == 0:
        return Query("mapped", (located,))
    if choice == 1:
        other = Located(draw(st.sampled_from(draft.processes)), Place(mapping.name, 0))
        return Query("same_page", (located, other))
    register = Register(draw(st.sampled_from(draft.registers)))
    if choice == 2:
        return In(register, (Number(draw(values)), ErrorName("SIGSEGV")))
    return Compare(register, draw(st.sampled_from(("==", "!="))), Number(draw(values)))

"""Claims evaluated on final states: what the actors saw, and where the pages are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from cowcatcher import state as st
from cowcatcher.explore.program import Program
from cowcatcher.litmus.ast import And, Compare, Cond, In, Located, Not, Number, Operand, Or, Query, Register
from cowcatcher.mm import page as pg
from cowcatcher.state import Machine

#: A register's content: a value, "ok" for success without a value, an error name, or None if never assigned.
Value: TypeAlias = int | str | None


def register_values(program: Program, m: Machine, s: bytes) -> dict[str, Value]:
    """Every register of a state, by name."""
    return {name: decode(s[m.regs + i]) for i, name in enumerate(program.names.registers)}


def decode(code: int) -> Value:
    if code == st.UNSET:
        return None
    if code == st.OK:
        return "ok"
    return code - st.VALUE0 if code < st.ERROR0 else st.ERRORS[code - st.ERROR0]


def holds(cond: Cond, program: Program, m: Machine, s: bytes, values: dict[str, Value]) -> bool:
    """Does the condition hold in this state? A register that was never assigned equals nothing."""
    if isinstance(cond, And):
        return all(holds(c, program, m, s, values) for c in cond.items)
    if isinstance(cond, Or):
        return any(holds(c, program, m, s, values) for c in cond.items)
    if isinstance(cond, Not):
        return not holds(cond.item, program, m, s, values)
    if isinstance(cond, Compare):
        equal = _equal(_operand(cond.left, values), _operand(cond.right, values))
        return equal if cond.op == "==" else not equal
    if isinstance(cond, In):
        left = _operand(cond.left, values)
        return any(_equal(left, _operand(v, values)) for v in cond.values)
    return _query(cond, program, m, s)


def _operand(operand: Operand, values: dict[str, Value]) -> Value:
    if isinstance(operand, Register):
        return values[operand.name]
    return operand.value if isinstance(operand, Number) else operand.name


def _equal(left: Value, right: Value) -> bool:
    return left is not None and left == right


def _query(query: Query, program: Program, m: Machine, s: bytes) -> bool:
    if query.op == "mapped":
        where = query.args[0]
        return bool(s[_vma(where, program, m, s)] & st.VM_MAPPED) if _mm(where, program, m, s) >= 0 else False
    pfns = [_pfn(a, program, m, s) for a in query.args]
    if query.op == "same_page":
        return pfns[0] == pfns[1] and pfns[0] != st.NO_PFN
    return pfns[0] != st.NO_PFN and bool(pg.folio_maybe_dma_pinned(list(s), st.folio_at(m, pfns[0])))


def _mm(where: Located, program: Program, m: Machine, s: bytes) -> int:
    assert where.process is not None
    process = program.names.processes.index(where.process)
    return s[m.procs + process * st.PROC_SIZE + st.P_MM] - 1


def _page(where: Located, program: Program) -> int:
    return program.names.page_of[where.place.name] + (where.place.index or 0)


def _vma(where: Located, program: Program, m: Machine, s: bytes) -> int:
    return st.vma_at(m, _mm(where, program, m, s), _page(where, program))


def _pfn(where: Located, program: Program, m: Machine, s: bytes) -> int:
    """The frame behind a place: a pin's, or what a process's page table (or its swap entry) leads to; 0 for none."""
    if where.process is None:
        pin = program.names.pins.index(where.place.name)
        return s[st.pin_page_at(m, pin, where.place.index or 0) + st.PIN_PFN]
    mm = _mm(where, program, m, s)
    if mm < 0:
        return st.NO_PFN
    pte = st.pte_at(m, mm, _page(where, program))
    if s[pte + st.PTE_SLOT]:
        return s[st.slot_at(m, s[pte + st.PTE_SLOT] - 1) + st.SLOT_PFN]
    return s[pte + st.PTE_PFN] if s[pte + st.PTE_BITS] & st.PRESENT else st.NO_PFN


def registers_of(cond: Cond) -> Iterator[str]:
    """Names of the registers that a condition reads."""
    if isinstance(cond, And | Or):
        for item in cond.items:
            yield from registers_of(item)
    elif isinstance(cond, Not):
        yield from registers_of(cond.item)
    elif isinstance(cond, Compare | In):
        operands = (cond.left, cond.right) if isinstance(cond, Compare) else (cond.left, *cond.values)
        for operand in operands:
            if isinstance(operand, Register):
                yield operand.name


def queries_of(cond: Cond) -> Iterator[Query]:
    """The questions about pages that a condition asks."""
    if isinstance(cond, And | Or):
        for item in cond.items:
            yield from queries_of(item)
    elif isinstance(cond, Not):
        yield from queries_of(cond.item)
    elif isinstance(cond, Query):
        yield cond


def premises_of(cond: Cond) -> Iterator[Cond]:
    """``not A or B``, ``x != 1 or B`` mean "if A then B": the premises A that must come true for B to be tested."""
    if isinstance(cond, Or):
        for item in cond.items:
            if isinstance(item, Not):
                yield item.item
            elif isinstance(item, Compare) and item.op == "!=":
                yield Compare(item.left, "==", item.right)

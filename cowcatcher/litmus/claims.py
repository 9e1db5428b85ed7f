"""Checks of what a test claims and expects."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from cowcatcher.litmus.ast import (
    And,
    Compare,
    Cond,
    ErrorName,
    Expect,
    In,
    Located,
    Not,
    Number,
    Operand,
    Or,
    Query,
    Register,
    Span,
)
from cowcatcher.litmus.errors import quoted
from cowcatcher.litmus.scope import Scope
from cowcatcher.litmus.statements import CHECKS, ERRORS

KnownKernels: TypeAlias = Collection[str] | Callable[[str], bool]

_QUERY_ARGS = {"same_page": 2, "mapped": 1, "maybe_pinned": 1}
_QUERY_USAGE = {
    "same_page": "same_page(A, B), A and B each PROCESS:x or a pin",
    "mapped": "mapped(PROCESS:x)",
    "maybe_pinned": "maybe_pinned(A), A being PROCESS:x or a pin",
}


class ClaimChecks(Scope):
    """Checks of conditions and expectations."""

    def cond(self, cond: Cond) -> None:
        if isinstance(cond, And | Or):
            for item in cond.items:
                self.cond(item)
        elif isinstance(cond, Not):
            self.cond(cond.item)
        elif isinstance(cond, Query):
            self.query(cond)
        elif isinstance(cond, In):
            self.comparison(cond.left, cond.values, cond.span)
        else:
            self.comparison(cond.left, (cond.right,), cond.span, cond)

    def comparison(
        self, left: Operand, others: tuple[Operand, ...], span: Span, compare: Compare | None = None
    ) -> None:
        operands = (left, *others)
        for operand in operands:
            self.operand(operand)
        if not any(isinstance(o, Register) for o in operands):
            self.error(span, "this says nothing about the test: no register is in it")
        for operand in operands:
            if isinstance(operand, Register) and operand.name in self.names.pins:
                self.pin_compared(operand, [o for o in operands if o is not operand])

    def pin_compared(self, pin: Register, others: list[Operand]) -> None:
        """A pin is a handle: the one thing a claim can ask about it is whether taking it failed, and how."""
        for other in others:
            if not isinstance(other, ErrorName):
                self.error(
                    pin.span,
                    f"{quoted(pin.name)} is a pin: only an error's name can be compared with it",
                    expected=[f"{pin.name} == EFAULT", f"{pin.name} != EFAULT"],
                )
                return

    def operand(self, operand: Operand) -> None:
        if isinstance(operand, Number):
            self.value(operand)
        elif isinstance(operand, ErrorName):
            if operand.name not in ERRORS:
                self.error(
                    operand.span,
                    f"no error is called {quoted(operand.name)}",
                    expected=ERRORS,
                    word=operand.name,
                    known=ERRORS,
                )
        elif operand.name not in self.names.registers and operand.name not in self.names.pins:
            self.unknown_register(operand)

    def unknown_register(self, register: Register) -> None:
        name = register.name
        if name in self.names.mappings:
            self.unknown(
                name, register.span, "a register", self.names.registers, hint=f"load it first: r = load({name})"
            )
        elif name.isupper() and len(name) > 2 and name[0] in "ES":
            if name not in self.skipped:
                self.error(
                    register.span,
                    f"no register and no error is called {quoted(name)}",
                    expected=ERRORS,
                    word=name,
                    known=[*ERRORS, *self.names.registers],
                )
        else:
            self.unknown(name, register.span, "a register", self.names.registers)

    def query(self, query: Query) -> None:
        wanted = _QUERY_ARGS[query.op]
        if len(query.args) != wanted:
            self.error(
                query.span,
                f"{query.op} asks about {wanted} page{'s' * (wanted != 1)}, not {len(query.args)}",
                hint="written " + _QUERY_USAGE[query.op],
            )
        for located in query.args:
            self.located(query, located)

    def located(self, query: Query, located: Located) -> None:
        if located.process is not None:
            self.process_name(located.process, located.span, "what stands before ':'")
            self.place(located.place, whole=False)
        elif query.op == "mapped":
            owners = self.names.processes if located.place.name in self.names.mappings else []
            self.error(
                located.span,
                f"mapped asks about a process's mapping: whose {quoted(located.place.name)}?",
                expected=[f"{p}:{located.place.name}" for p in owners] or ["PROCESS:x"],
            )
        elif located.place.name in self.names.mappings:
            self.error(
                located.span,
                f"{quoted(located.place.name)} is a mapping: say as which process maps it",
                expected=[f"{p}:{located.place.name}" for p in self.names.processes],
            )
        else:
            self.pin(located.place)

    def expect(self, expect: Expect, known_kernels: KnownKernels | None) -> None:
        names = [c.upper() for c in CHECKS]
        if expect.check is not None and expect.check not in names:
            self.error(
                self.word_span(expect.span, expect.check),
                f"no standing check is called {quoted(expect.check)}",
                expected=names,
                word=expect.check,
                known=names,
            )
        elif expect.check is not None and expect.check.lower() in self.test.unchecked:
            self.error(
                self.word_span(expect.span, expect.check),
                f"{expect.check} cannot be violated here",
                hint=f"'unchecked {expect.check.lower()}' turns it off",
            )
        for item in expect.ranges:
            for name in dict.fromkeys((item.first, item.last)):
                if name is not None and known_kernels is not None:
                    self.kernel(name, self.word_span(item.span, name), known_kernels)

    def kernel(self, name: str, span: Span, known: KnownKernels) -> None:
        if known(name) if callable(known) else name in known:
            return
        names = [] if callable(known) else sorted(known)
        self.error(span, f"no kernel is called {quoted(name)}", word=name, known=names)

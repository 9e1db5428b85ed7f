"""The grammar of claims and of expectations.

A claim may go on over several lines inside of parentheses and braces, and behind ``and``, ``or``, ``not``, ``==``,
``!=`` and ``,``.
"""

from __future__ import annotations

from typing import Final, Literal, cast

from cowcatcher.litmus.ast import (
    And,
    Claim,
    Compare,
    Cond,
    ErrorName,
    Expect,
    In,
    KernelRange,
    Located,
    Not,
    Number,
    Operand,
    Or,
    Query,
    Register,
)
from cowcatcher.litmus.cursor import CONNECTIVES, Cursor
from cowcatcher.litmus.errors import Report, quoted
from cowcatcher.litmus.lexer import Token
from cowcatcher.litmus.statements import ERRORS

MAX_DEPTH: Final = 32
QUERIES: Final = ("same_page", "mapped", "maybe_pinned")


class ConditionReader(Cursor):
    """Reads ``always COND`` and ``expect VERDICT on RANGES``."""

    def __init__(self, tokens: list[Token], report: Report) -> None:
        super().__init__(tokens, report)
        self.depth = 0
        self.claims: list[Claim] = []
        self.expects: list[Expect] = []

    # --- claims ---------------------------------------------------------------------------------------------------

    def claim(self) -> None:
        start = self.pos
        kind = cast(Literal["always", "never", "sometimes"], self.next().text)
        cond = self.either()
        node = Claim(kind, cond, self.span_from(start))
        self.claims.append(node)
        self.unit("claim", node, start)

    def either(self) -> Cond:
        """Conditions joined by ``or``; a nested ``or`` becomes part of the outer one."""
        start = self.pos
        items = [self.both()]
        while self.continues("or"):
            self.next()
            self.continue_line()
            items.append(self.both())
        flat = [i for item in items for i in (item.items if isinstance(item, Or) else (item,))]
        return flat[0] if len(items) == 1 else Or(tuple(flat), self.span_from(start))

    def both(self) -> Cond:
        start = self.pos
        items = [self.unary()]
        while self.continues("and"):
            self.next()
            self.continue_line()
            items.append(self.unary())
        if len(items) == 1:
            return items[0]
        flat = [i for item in items for i in (item.items if isinstance(item, And) else (item,))]
        return And(tuple(flat), self.span_from(start))

    def continues(self, word: str) -> bool:
        """Whether ``word`` follows, inside of parentheses also on the next line."""
        if self.depth:
            self.through_newlines("and", "or", ")")
        return self.at(word)

    def unary(self) -> Cond:
        if not self.at("not", "("):
            return self.atom()
        if self.depth >= MAX_DEPTH:
            self.fail(f"conditions nested too deep: the limit is {MAX_DEPTH}")
        opening = self.pos
        self.depth += 1
        try:
            return self.denied() if self.next().text == "not" else self.parenthesised(opening)
        finally:
            self.depth -= 1

    def denied(self) -> Cond:
        start = self.pos - 1
        self.continue_line()
        item = self.unary()
        return Not(item, self.span_from(start))

    def parenthesised(self, opening: int) -> Cond:
        self.continue_line()
        item = self.either()
        self.through_newlines(")")
        if not self.at(")"):
            line = self.tokens[opening].line
            self.fail(expected=["')'", "'and'", "'or'"], hint=f"a parenthesis was opened on line {line}")
        self.next()
        return item

    def atom(self) -> Cond:
        start = self.pos
        if self.here.kind == "name" and self.ahead().text == "(":
            return self.query(start)
        left = self.operand()
        if self.accept("in"):
            return In(left, self.values(), self.span_from(start))
        if not self.at("==", "!="):
            hint = "equality is written ==" if self.at("=") else None
            self.fail(expected=["'=='", "'!='", "'in'"], hint=hint)
        op = cast(Literal["==", "!="], self.next().text)
        self.continue_line()
        node = Compare(left, op, self.operand(), self.span_from(start))
        if self.at("==", "!="):
            self.fail("one comparison directly behind another", hint="write a == b and b == c")
        return node

    def values(self) -> tuple[Operand, ...]:
        """``{1, 2, EFAULT}``."""
        self.expect("{", hint="a set of values is written in {1, 2}")
        self.continue_line()
        found = [self.operand()]
        self.continue_line()
        while not self.at("}"):
            self.expect(",", "'}'")
            self.continue_line()
            found.append(self.operand())
            self.continue_line()
        self.next()
        return tuple(found)

    def operand(self) -> Operand:
        token = self.here
        if token.kind == "number":
            return Number(int(self.next().text), token.span)
        if token.kind != "name" or token.text in CONNECTIVES:
            self.fail(expected=["a register", "a number", "an error's name such as EFAULT"])
        self.next()
        if token.text in ERRORS:
            return ErrorName(token.text, token.span)
        if self.at("[", ".", ":"):
            self.fail(
                f"{quoted(token.text)} is not a register here",
                at=token,
                hint="a claim is about registers; load the memory into one first",
            )
        return Register(token.text, token.span)

    def query(self, start: int) -> Query:
        word = self.next()
        if word.text not in QUERIES:
            self.fail(
                f"no question is called {quoted(word.text)}",
                at=word,
                expected=[f"{q}(...)" for q in QUERIES],
                known=QUERIES,
            )
        self.next()
        self.continue_line()
        args = [self.located()]
        self.through_newlines(",", ")")
        while not self.at(")"):
            self.expect(",", "')'")
            self.continue_line()
            args.append(self.located())
            self.through_newlines(",", ")")
        self.next()
        op = cast(Literal["same_page", "mapped", "maybe_pinned"], word.text)
        return Query(op, tuple(args), self.span_from(start))

    def located(self) -> Located:
        start = self.pos
        process = None
        if self.ahead().text == ":":
            process = self.expect_name("a process's name").text
            self.next()
        place = self.place("PROCESS:x or a pin")
        return Located(process, place, self.span_from(start))

    # --- expectations ---------------------------------------------------------------------------------------------

    def expectation(self) -> None:
        start = self.pos
        self.next()
        if not self.at("holds", "violated"):
            self.fail(expected=["'holds'", "'violated'"], known=["holds", "violated"])
        verdict = cast(Literal["holds", "violated"], self.next().text)
        check = None
        if verdict == "violated" and self.here.kind == "name" and not self.at("on"):
            check = self.next().text
        self.expect("on", hint="an expectation is written: expect holds on v5.9.., v5.10.y")
        ranges = [self.kernel_range()]
        while self.accept(","):
            self.continue_line()
            ranges.append(self.kernel_range())
        node = Expect(verdict, tuple(ranges), check, self.span_from(start))
        self.expects.append(node)
        self.unit("expect", node, start)

    def kernel_range(self) -> KernelRange:
        start = self.pos
        if self.accept(".."):
            last = self.kernel_name("the last kernel of the range")
            return KernelRange(None, last, span=self.span_from(start))
        first = self.kernel_name("a kernel's name")
        if not self.accept(".."):
            return KernelRange(first, first, single=True, span=self.span_from(start))
        last_name = None
        if self.here.kind not in ("eol", "end") and not self.at(","):
            last_name = self.kernel_name("the last kernel of the range", "the line's end")
        return KernelRange(first, last_name, span=self.span_from(start))

    def kernel_name(self, *what: str) -> str:
        """Words joined by ``.`` and ``-`` without a blank between: ``v5.9-rc4``, ``5.10.y``, ``break-cow-at-pin``."""
        if self.here.kind not in ("name", "number", "word"):
            self.fail(expected=what, hint="such as v5.9, v5.9-rc4, v5.10.y, or a range v5.9..v6.1, v5.9.., ..v5.8")
        text = self.next().text
        while self.at(".", "-") and self.adjacent():
            text += self.next().text
            if self.here.kind not in ("name", "number", "word") or not self.adjacent():
                self.fail(expected=["the rest of a kernel's name"], hint=f"read so far: '{text}'")
            text += self.next().text
        if self.here.kind in ("name", "number", "word"):
            self.fail(expected=["','", "'..'", "the line's end"])
        return text

    def adjacent(self) -> bool:
        return self.tokens[self.pos - 1].stop == self.here.start

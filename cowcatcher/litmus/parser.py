"""Text to tree, by recursive descent: the file, its blocks and its statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, cast

from cowcatcher.litmus.ast import Actor, Arg, Flags, KernelMay, Mapping, Name, Number, Span, Statement, Test
from cowcatcher.litmus.checks import check_into
from cowcatcher.litmus.conditions import ConditionReader
from cowcatcher.litmus.cursor import ITEMS, Failure
from cowcatcher.litmus.errors import LitmusError, Report, quoted
from cowcatcher.litmus.layout import Node, Role, Unit
from cowcatcher.litmus.lexer import MAX_BYTES, Comment, Token, lex, normal
from cowcatcher.litmus.scope import CAN_STAND, usage
from cowcatcher.litmus.statements import (
    CHECKS,
    GUP_FLAGS,
    KERNEL_ACTIONS,
    MAPPING_FLAGS,
    MAPPING_KINDS,
    MAX_VALUE,
    SIGNATURES,
    ParamKind,
)

_HERD = {"exists": "sometimes", "forall": "always", "assert": "always"}
_CONTROL = ("if", "else", "while", "for", "do", "loop", "repeat")
_PLACES: tuple[ParamKind, ...] = ("PLACE", "PAGES", "PIN", "PIN_PLACE")


def parse(text: str, path: str = "<input>") -> Test:
    """The test that ``text`` describes; ``LitmusError`` with every mistake if it has any, in form or in meaning."""
    parsed = parse_form(text, path)
    check_into(parsed.report, parsed.test, skipped=parsed.skipped)
    parsed.report.raise_if_any()
    return parsed.test


def parse_file(path: str | Path) -> Test:
    """``parse`` on a file; its stem must be the test's name. A file that cannot be read is a ``LitmusError`` too."""
    where = str(path)
    parsed = parse_form(read_text(path), where)
    check_into(parsed.report, parsed.test, skipped=parsed.skipped)
    stem = Path(path).stem
    if parsed.test.name and parsed.test.name != stem:
        parsed.report.error(
            parsed.test.span,
            f"the test is named {quoted(parsed.test.name)}, its file {quoted(stem)}",
            hint="a test's name is its file's name: rename one of the two",
        )
    parsed.report.raise_if_any()
    return parsed.test


def read_text(path: str | Path) -> str:
    """A file's text, no more than just past the size limit; bytes that are no text come out as lone surrogates."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as problem:  # ValueError: a path with a NUL in it
        report = Report("", str(path))
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        report.error(Span(0, 0, 0), f"cannot be read: {reason}")
        raise LitmusError(report) from problem
    return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What could be read of a text: the tree (of the parts in order), the mistakes, and what ``fmt`` needs besides."""

    test: Test
    report: Report
    units: list[Unit]
    comments: list[Comment]
    skipped: frozenset[str]


def parse_form(text: str, path: str = "<input>") -> Parsed:
    """Read ``text`` for its form alone; mistakes are in the report, nothing is raised."""
    if len(text) > MAX_BYTES:
        report = Report("", path)
        report.error(Span(0, 0, 0), f"the file is too long: the limit is {MAX_BYTES // 1024} KiB")
        return Parsed(Test(name="", path=path), report, [], [], frozenset())
    text = normal(text)
    report = Report(text, path)
    lexed = lex(text, report)
    parser = _Parser(lexed.tokens, report)
    test = parser.test(path, text)
    return Parsed(test, report, parser.units, lexed.comments, frozenset(parser.skipped))


class _Parser(ConditionReader):
    def __init__(self, tokens: list[Token], report: Report) -> None:
        super().__init__(tokens, report)
        self.name = ""
        self.description: list[str] = []
        self.sources: list[str] = []
        self.memory: list[Mapping] = []
        self.memory_line = 0
        self.actors: list[Actor] = []
        self.kernel_may: list[KernelMay] = []
        self.unchecked: list[str] = []

    # --- the file -------------------------------------------------------------------------------------------------

    def test(self, path: str, text: str) -> Test:
        self.skip_eols()
        span = self.here.span
        self.guarded(self.header, in_block=False)
        self.skip_eols()
        while self.here.kind == "string":
            self.guarded(self.description_line, in_block=False)
            self.skip_eols()
        while self.here.kind != "end":
            self.guarded(self.item, in_block=False)
            self.skip_eols()
        return Test(
            name=self.name,
            description="\n".join(self.description),
            sources=tuple(self.sources),
            memory=tuple(self.memory),
            actors=tuple(self.actors),
            kernel_may=tuple(self.kernel_may),
            claims=tuple(self.claims),
            unchecked=tuple(self.unchecked),
            expects=tuple(self.expects),
            path=path,
            text=text,
            span=span,
        )

    def header(self) -> None:
        start = self.pos
        if not self.at("test"):
            self.missing_header()
        self.next()
        self.name = self.expect_name("the test's name").text
        self.unit("test", self.name, start)

    def missing_header(self) -> None:
        """Report it; if the first line is an item all the same, leave it to be read as one."""
        hint = "the first line of a test is 'test NAME'"
        if self.here.kind == "end":
            self.fail("the file is empty", expected=["'test NAME'"])
        self.report_at(self.here, expected=["'test NAME'"], known=["test"], hint=hint)
        if self.here.text in ITEMS:
            self.item()
            self.end_of_line(False)
        raise Failure

    def description_line(self) -> None:
        start = self.pos
        self.description.append(self.next().value)
        self.unit("description", self.description[-1], start)

    def item(self) -> None:
        token = self.here
        rule = self.rules().get(token.text) if token.kind == "name" else None
        if rule is None:
            self.unknown_item(token)
        rule()

    def rules(self) -> dict[str, Callable[[], None]]:
        return {
            "source": self.source,
            "memory": self.memory_block,
            "process": self.process,
            "thread": self.thread,
            "device": self.device,
            "kernel": self.kernel,
            "always": self.claim,
            "never": self.claim,
            "sometimes": self.claim,
            "unchecked": self.unchecked_line,
            "expect": self.expectation,
        }

    def unknown_item(self, token: Token) -> NoReturn:
        if token.text == "test":
            self.report_at(token, "a second 'test': one test a file")
            self.skipped.update(t.text for t in self.tokens[self.pos :] if t.kind == "name")
            self.pos = len(self.tokens) - 1
            raise Failure
        if token.kind == "string":
            self.fail("a description stands right under the line 'test NAME'")
        hint = None
        if token.text in _HERD:
            hint = f"herd's '{token.text}' is written '{_HERD[token.text]}' here"
        elif token.text == "}":
            hint = "no block is open here"
        elif token.text in SIGNATURES:
            hint = "a statement stands inside of a process, a thread or a device"
        self.fail(expected=[f"'{i}'" for i in ITEMS], known=ITEMS, hint=hint)

    def source(self) -> None:
        start = self.pos
        self.next()
        token = self.expect_kind("string", 'a text in double quotes, such as "Re: [PATCH] mm: ..., 15 Sep 2020"')
        if not token.value.strip():
            self.fail("an empty source", at=token)
        self.sources.append(token.value)
        self.unit("source", token.value, start)

    def unchecked_line(self) -> None:
        start = self.pos
        self.next()
        token = self.expect_kind("name", *CHECKS)
        if token.text not in CHECKS:
            self.fail(f"no standing check is called {quoted(token.text)}", at=token, expected=CHECKS, known=CHECKS)
        if token.text in self.unchecked:
            self.fail(f"{quoted(token.text)} is turned off twice", at=token)
        self.unchecked.append(token.text)
        self.unit("unchecked", token.text, start)

    def kernel(self) -> None:
        start = self.pos
        self.next()
        self.expect("may")
        token = self.expect_kind("name", *(f"'{a}'" for a in KERNEL_ACTIONS))
        if token.text not in KERNEL_ACTIONS:
            self.fail(
                f"nothing the kernel may do is called {quoted(token.text)}",
                at=token,
                expected=[f"'{a}'" for a in KERNEL_ACTIONS],
                known=KERNEL_ACTIONS,
            )
        place = None
        if KERNEL_ACTIONS[token.text]:
            self.expect("(", hint=f"say where: kernel may {token.text}(buf)")
            place = self.place("a mapping or a page of it (buf[1])")
            self.expect(")")
        node = KernelMay(token.text, place, self.span_from(start))
        self.kernel_may.append(node)
        self.unit("kernel_may", node, start)

    # --- blocks ---------------------------------------------------------------------------------------------------

    def block(self, role: Role, node: Node, start: int, rule: Callable[[], None]) -> None:
        """``{ … }`` around lines of ``rule``. A block that was never closed ends where a top-level item starts."""
        self.through_newlines("{")
        opening = self.expect("{")
        self.unit(role, node, start)
        while True:
            self.skip_eols()
            if self.at("}"):
                self.next()
                self.unit("close", "", self.pos - 1)
                return
            if self.here.kind == "end" or self.starts_item(self.here, self.ahead()):
                self.unclosed(opening)
                return
            self.guarded(rule, in_block=True)

    def unclosed(self, opening: Token) -> None:
        self.report.error(opening.span, "this block is never closed", expected=["a '}' of its own"])
        if self.here.kind != "end":  # stay in front of the item, with a line's end to read first
            self.pos -= 1

    def memory_block(self) -> None:
        start = self.pos
        token = self.next()
        if self.memory_line:
            self.report_at(token, "a second 'memory' block", hint=f"the first one is on line {self.memory_line}")
        self.memory_line = self.memory_line or token.line
        self.block("memory", "", start, self.mapping)

    def mapping(self) -> None:
        start = self.pos
        name = self.expect_name("a mapping's name").text
        self.expect("=", hint="a mapping is written NAME = KIND(VALUE), such as buf = anon(1)")
        kind = self.expect_kind("name", *MAPPING_KINDS)
        if kind.text not in MAPPING_KINDS:
            self.fail(
                f"no kind of mapping is called {quoted(kind.text)}",
                at=kind,
                expected=MAPPING_KINDS,
                known=MAPPING_KINDS,
            )
        self.expect("(", hint=f"without a value it is {kind.text}()")
        options = _Options()
        more = not self.at(")")
        while more:
            self.option(options)
            more = self.accept(",")
            if not more and not self.at(")"):
                self.fail(expected=["','", "')'"])
        self.next()
        node = options.mapping(name, kind.text, self.span_from(start))
        self.memory.append(node)
        self.unit("mapping", node, start)

    def option(self, options: _Options) -> None:
        """One of ``1``, ``a=1``, ``pages=2``, ``prot=R``, ``thp``."""
        token = self.here
        if token.kind == "number":
            if options.cells:
                self.fail("more than one value", hint="several variables in one page are named cells: anon(a=1, b=2)")
            options.cells.append(("", self.initial_value("a value 0..15")))
            return
        self.expect_kind("name", "a value 0..15", "a cell such as a=1", "'pages=N'", "'prot=R'", *MAPPING_FLAGS)
        if self.accept("="):
            self.named_option(options, token)
        elif token.text not in MAPPING_FLAGS:
            self.unknown_option(token)
        elif token.text in options.flags:
            self.fail(f"{quoted(token.text)} is said twice", at=token)
        else:
            options.flags.append(token.text)

    def unknown_option(self, token: Token) -> NoReturn:
        self.fail(
            f"no option is called {quoted(token.text)}",
            at=token,
            expected=["pages=N", "prot=R", *MAPPING_FLAGS, "a cell such as a=1"],
            known=[*MAPPING_FLAGS, "pages", "prot"],
        )

    def named_option(self, options: _Options, token: Token) -> None:
        if token.text in ("pages", "prot"):
            if token.text in options.said:
                self.fail(f"{quoted(token.text)} is said twice", at=token)
            options.said.add(token.text)
        if token.text == "pages":
            options.pages = int(self.expect_kind("number", "a number of pages").text)
        elif token.text == "prot":
            if not self.at("R", "RW"):
                self.fail(expected=["R", "RW"], known=["R", "RW"])
            options.prot = cast(Literal["R", "RW"], self.next().text)
        elif token.text in MAPPING_FLAGS:
            self.fail(f"{quoted(token.text)} takes no value", at=token)
        elif self.here.kind == "name":  # prto=R
            self.unknown_option(token)
        elif any(name == "" for name, _ in options.cells):
            self.fail("a mapping has either one value or named cells", at=token)
        else:
            options.cells.append((token.text, self.initial_value("the cell's value, 0..15")))

    def initial_value(self, what: str) -> int:
        token = self.expect_kind("number", what)
        if int(token.text) > MAX_VALUE:
            self.fail(f"the value {token.text} is too large", at=token, expected=[CAN_STAND["VALUE"]])
        return int(token.text)

    def process(self) -> None:
        start = self.pos
        self.next()
        name = self.expect_name("a process's name").text
        self.actor(Actor("process", name, name, (), span=self.span_from(start)), start)

    def thread(self) -> None:
        start = self.pos
        self.next()
        name = self.expect_name("a thread's name").text
        self.expect("of", hint="a thread belongs to a process: thread NAME of PROCESS { ... }")
        owner = self.expect_name("the name of the thread's process").text
        self.actor(Actor("thread", name, owner, (), span=self.span_from(start)), start)

    def device(self) -> None:
        start = self.pos
        self.next()
        name = self.expect_name("a device's name").text
        iommu = self.accept("iommu")
        self.actor(Actor("device", name, "", (), iommu, span=self.span_from(start)), start)

    def actor(self, head: Actor, start: int) -> None:
        body: list[Statement] = []
        self.block("actor", head, start, lambda: self.statement(body))
        self.actors.append(Actor(head.kind, head.name, head.process, tuple(body), head.iommu, head.span))

    # --- statements -----------------------------------------------------------------------------------------------

    def statement(self, body: list[Statement]) -> None:
        start = self.pos
        target = None
        if self.here.kind == "name" and self.ahead().text == "=":
            target = self.expect_name("a register's or a pin's name").text
            self.next()
        op = self.expect_kind("name", "a statement", hint=self.store_hint())
        if not self.at("(") or op.text in _CONTROL:
            self.not_a_call(op)
        self.next()
        node = Statement(op.text, self.args(op), target, self.span_from(start))
        body.append(node)
        self.unit("statement", node, start)

    def store_hint(self) -> str | None:
        """Advice for who writes ``r = 3``: a register is set by a statement, memory by ``store``."""
        if self.here.kind == "number":
            return "memory is written by store(x, v), a register by a statement such as r = load(x)"
        return None

    def not_a_call(self, op: Token) -> NoReturn:
        if op.text in SIGNATURES:
            self.fail(expected=["'('"], hint=usage(op.text))
        if self.at("[", ".", "="):
            self.fail(f"{quoted(op.text)} cannot be assigned like this", at=op, hint="memory is written by store(x, v)")
        if op.text in _CONTROL:
            self.fail("a test has no conditions and no loops", at=op, hint="actors run straight from top to bottom")
        self.fail(expected=["'('", "'='"], hint="a register is set with =" if self.at("==") else None)

    def args(self, op: Token) -> tuple[Arg, ...]:
        """Arguments up to the closing parenthesis, each read as the parameter it stands for."""
        signature = SIGNATURES.get(op.text)
        kinds: list[ParamKind] = [p.kind for p in signature.params] if signature else []
        args: list[Arg] = []
        while not self.at(")"):
            if args:
                self.comma(op)
            args.append(self.arg(op, kinds[len(args)] if len(args) < len(kinds) else None))
        self.next()
        return tuple(args)

    def comma(self, op: Token) -> None:
        if not self.accept(","):
            self.fail(expected=["','", "')'"], hint=usage(op.text))

    def arg(self, op: Token, kind: ParamKind | None) -> Arg:
        token = self.here
        if token.kind == "number":
            return Number(int(self.next().text), token.span)
        if token.kind != "name":
            self.fail(expected=[CAN_STAND[kind] if kind else "an argument"], hint=usage(op.text))
        if kind == "GUP_FLAGS" or (kind is None and self.ahead().text == "|"):
            return self.flags()
        if kind in _PLACES or self.ahead().text in ("[", "."):
            return self.place("a place in memory")
        return Name(self.next().text, token.span)

    def flags(self) -> Flags:
        start = self.pos
        names = [self.expect_kind("name", *GUP_FLAGS).text]
        while self.accept("|"):
            names.append(self.expect_kind("name", *GUP_FLAGS).text)
        return Flags(canonical_flags(names), self.span_from(start))


class _Options:
    """What stands between the parentheses of a mapping, while it is read."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, int]] = []
        self.pages = 1
        self.prot: Literal["R", "RW"] = "RW"
        self.flags: list[str] = []
        self.said: set[str] = set()

    def mapping(self, name: str, kind: str, span: Span) -> Mapping:
        flags = tuple(f for f in MAPPING_FLAGS if f in self.flags)
        return Mapping(name, kind, tuple(self.cells), self.pages, self.prot, flags, span)


def canonical_flags(names: Iterable[str]) -> tuple[str, ...]:
    """Flags in the order of the table, unknown ones behind in the order given."""
    order = {name: i for i, name in enumerate(GUP_FLAGS)}
    return tuple(sorted(names, key=lambda name: order.get(name, len(order))))

"""What a test must keep besides its grammar: every name means something, every statement can be carried out.

Each check is one method that reports and goes on. A test with mistakes of form is checked too; a name that stands in
the part which could not be read is given the benefit of the doubt.
"""

from __future__ import annotations

from cowcatcher.litmus.ast import Actor, Arg, Flags, KernelMay, Mapping, Name, Number, Place, Span, Statement, Test
from cowcatcher.litmus.claims import ClaimChecks, KnownKernels
from cowcatcher.litmus.errors import Diagnostic, Report, quoted
from cowcatcher.litmus.names import FORKS, Use, read_only_because
from cowcatcher.litmus.scope import CAN_STAND, usage
from cowcatcher.litmus.statements import (
    ADVICES,
    CHECKS,
    FILESYSTEMS,
    GUP_FLAGS,
    KERNEL_ACTIONS,
    MAPPING_FLAGS,
    MAPPING_KINDS,
    MAX_ACTORS,
    MAX_CELLS,
    MAX_PAGES,
    MAX_PINS,
    MAX_PROCESSES,
    MAX_STATEMENTS,
    MAX_VALUE,
    PROTECTIONS,
    SIGNATURES,
    Param,
    ParamKind,
    Signature,
)

_WORDS: dict[ParamKind, tuple[str, ...]] = {
    "PROT": PROTECTIONS,
    "ADVICE": ADVICES,
    "FILESYSTEM": FILESYSTEMS,
    "READONLY": ("READONLY",),
}
_WHERE = {"task": "a process or a thread", "device": "a device", "both": "any actor"}
#: Statements that never hand control back, so that there is nothing to assign and nothing may follow.
_FINAL = ("exit",)


def check(test: Test, known_kernels: KnownKernels | None = None, *, bounded: bool = True) -> list[Diagnostic]:
    """Every mistake in the meaning of ``test``. Kernel names are looked at only if ``known_kernels`` is given.

    Without ``bounded`` a test may be of any size, as one is that was recorded and has not been made smaller yet.
    """
    report = Report(test.text, test.path)
    _Checker(report, test, frozenset()).run(known_kernels, bounded)
    return list(report)


def check_into(
    report: Report, test: Test, known_kernels: KnownKernels | None = None, skipped: frozenset[str] = frozenset()
) -> None:
    """``check`` into a report that may already hold mistakes of form; ``skipped`` are the words behind those."""
    _Checker(report, test, skipped).run(known_kernels)


class _Checker(ClaimChecks):
    def run(self, known_kernels: KnownKernels | None, bounded: bool = True) -> None:
        if bounded:
            self.limits()
        self.unique_names()
        for mapping in self.test.memory:
            self.mapping(mapping)
        self.first_process()
        for actor in self.test.actors:
            self.actor(actor)
        self.forks()
        self.events()
        for action in self.test.kernel_may:
            self.kernel_may(action)
        for claim in self.test.claims:
            self.cond(claim.cond)
        self.unchecked()
        for expect in self.test.expects:
            self.expect(expect, known_kernels)

    # --- the test as a whole --------------------------------------------------------------------------------------

    def limits(self) -> None:
        test = self.test
        pins = [s for a in test.actors for s in a.body if s.op in SIGNATURES and SIGNATURES[s.op].gives == "pin"]
        self.limit([a.span for a in test.actors if a.kind == "process"], MAX_PROCESSES, "processes")
        self.limit([a.span for a in test.actors], MAX_ACTORS, "actors")
        self.limit([s.span for a in test.actors for s in a.body], MAX_STATEMENTS, "statements")
        self.limit([s.span for s in pins], MAX_PINS, "pins")
        pages = sum(m.pages for m in test.memory)
        if pages > MAX_PAGES and all(m.pages <= MAX_PAGES for m in test.memory):
            self.error(test.memory[-1].span, f"{pages} pages of memory in all: the limit is {MAX_PAGES}")

    def limit(self, spans: list[Span], most: int, what: str) -> None:
        if len(spans) > most:
            self.error(spans[most], f"{len(spans)} {what}: the limit is {most}")

    def unique_names(self) -> None:
        """One name, one thing: a reader never has to ask which of two is meant."""
        seen: dict[str, tuple[str, Span]] = {}
        for mapping in self.test.memory:
            self.declare(seen, mapping.name, "a mapping", mapping.span, again=False)
        for actor in self.test.actors:
            self.declare(seen, actor.name, f"a {actor.kind}", actor.span, again=False)
        for actor in self.test.actors:
            for statement in actor.body:
                self.declare_target(seen, statement)
        for event in (*self.names.posts.values(), *self.names.awaits.values()):
            self.declare(seen, event.text, "an event", event.span, again=True)

    def declare_target(self, seen: dict[str, tuple[str, Span]], statement: Statement) -> None:
        if statement.target is None or statement.op not in SIGNATURES:
            return
        if SIGNATURES[statement.op].gives == "pin":
            self.declare(seen, statement.target, "a pin", statement.span, again=False)
        else:
            self.declare(seen, statement.target, "a register", statement.span, again=True)

    def declare(self, seen: dict[str, tuple[str, Span]], name: str, kind: str, span: Span, again: bool) -> None:
        """Enter ``name``; ``again`` tells whether the same kind of thing may come up twice."""
        if name not in seen:
            seen[name] = (kind, span)
            return
        before, where = seen[name]
        if before == kind and again:
            return
        hint = f"the first one is on line {where.line}" if where.line else None
        if before == kind:
            self.error(span, f"there is already {kind} called {quoted(name)}", hint=hint)
        else:
            self.error(span, f"{quoted(name)} is {before} already: it cannot be {kind} too", hint=hint)

    def first_process(self) -> None:
        if not self.incomplete and not self.names.processes:
            self.error(self.test.span, "a test needs a process", expected=["process NAME { ... }"])

    def unchecked(self) -> None:
        for name in self.test.unchecked:
            if name not in CHECKS:
                self.error(
                    self.test.span,
                    f"no standing check is called {quoted(name)}",
                    expected=CHECKS,
                    word=name,
                    known=CHECKS,
                )
        if not self.incomplete and not self.test.claims and set(self.test.unchecked) >= set(CHECKS):
            self.error(
                self.test.span,
                "nothing is claimed: no claim, and every standing check is turned off",
                expected=["always COND", "never COND", "sometimes COND"],
            )

    # --- memory ---------------------------------------------------------------------------------------------------

    def mapping(self, mapping: Mapping) -> None:
        span = mapping.span
        if mapping.kind not in MAPPING_KINDS:
            self.error(
                span,
                f"no kind of mapping is called {quoted(mapping.kind)}",
                expected=MAPPING_KINDS,
                word=mapping.kind,
                known=MAPPING_KINDS,
            )
        if not 1 <= mapping.pages <= MAX_PAGES:
            self.error(span, f"pages={mapping.pages}: a mapping has 1..{MAX_PAGES} pages")
        for flag in mapping.flags:
            if flag not in MAPPING_FLAGS:
                self.error(
                    span, f"no option is called {quoted(flag)}", expected=MAPPING_FLAGS, word=flag, known=MAPPING_FLAGS
                )
        if mapping.kind == "anon_zero" and mapping.cells:
            self.error(
                span,
                "anon_zero is touched by a read only: it holds 0 and takes no value",
                hint="anon(v) is touched by a write of v",
            )
        if mapping.kind.startswith("hugetlb") and "thp" in mapping.flags:
            self.error(span, "hugetlb memory is never part of a transparent huge page", hint="drop thp, or use anon")
        self.cells(mapping)

    def cells(self, mapping: Mapping) -> None:
        names = [name for name, _ in mapping.cells]
        if len(names) > MAX_CELLS:
            self.error(mapping.span, f"{len(names)} cells in one page: the limit is {MAX_CELLS}")
        for name in sorted({n for n in names if names.count(n) > 1}):
            self.error(mapping.span, f"there are two cells called {quoted(name)}")
        for name, value in mapping.cells:
            if not 0 <= value <= MAX_VALUE:
                said = f"{name}={value}" if name else f"the value {value}"
                self.error(mapping.span, f"{said} is too large", expected=[CAN_STAND["VALUE"]])

    # --- actors and statements ------------------------------------------------------------------------------------

    def actor(self, actor: Actor) -> None:
        if actor.kind == "thread":
            self.process_name(actor.process, actor.span, f"the owner of thread {quoted(actor.name)}")
        for i, statement in enumerate(actor.body):
            self.statement(actor, statement)
            if statement.op in _FINAL and i + 1 < len(actor.body):
                self.error(actor.body[i + 1].span, f"nothing behind {statement.op}() is ever reached")

    def statement(self, actor: Actor, statement: Statement) -> None:
        signature = SIGNATURES.get(statement.op)
        where = "device" if actor.kind == "device" else "task"
        if signature is None:
            here = [s.op for s in SIGNATURES.values() if s.where in (where, "both")]
            self.error(
                self.word_span(statement.span, statement.op),
                f"no statement is called {quoted(statement.op)}",
                expected=here,
                word=statement.op,
                known=SIGNATURES,
            )
            return
        if signature.where not in (where, "both"):
            self.error(
                self.word_span(statement.span, statement.op),
                f"a {actor.kind} cannot {quoted(statement.op)}: that is for {_WHERE[signature.where]}",
            )
        self.target(actor, statement, signature)
        self.arguments(statement, signature)
        self.special(actor, statement)

    def target(self, actor: Actor, statement: Statement, signature: Signature) -> None:
        op, target = statement.op, statement.target
        if target is None:
            if signature.gives == "value":
                self.error(statement.span, f"the value of {op} goes nowhere", expected=[f"a register: r = {op}(...)"])
            return
        if op in _FINAL:
            self.error(statement.span, f"{op}() never returns: there is nothing to assign to {quoted(target)}")
        first = self.names.registers.get(target)
        if signature.gives != "pin" and first and first.actor.name != actor.name:
            self.error(
                statement.span,
                f"register {quoted(target)} is assigned by {first.actor.name} and by {actor.name}",
                hint="give each actor a register of its own",
            )

    def arguments(self, statement: Statement, signature: Signature) -> None:
        args, params = statement.args, signature.params
        least = sum(not p.optional for p in params)
        if not least <= len(args) <= len(params):
            count = str(least) if least == len(params) else f"{least} or {len(params)}"
            noun = "argument" if len(params) == 1 else "arguments"
            self.error(
                statement.span, f"{statement.op} takes {count} {noun}, not {len(args)}", hint=usage(statement.op)
            )
        for param, arg in zip(params, args, strict=False):
            self.argument(statement, param, arg)

    def argument(self, statement: Statement, param: Param, arg: Arg) -> None:
        """Dispatch on the parameter's kind; an argument of another form altogether is one error for all kinds."""
        kind = param.kind
        if kind == "PLACE" and isinstance(arg, Place):
            self.place(arg, moves_value=True)
        elif kind == "PAGES" and isinstance(arg, Place):
            self.place(arg, cell_allowed=False)
        elif kind == "PIN" and isinstance(arg, Place):
            self.whole_pin(arg)
        elif kind == "PIN_PLACE" and isinstance(arg, Place):
            self.pin(arg, moves_value=True)
        elif kind == "VALUE" and isinstance(arg, Number):
            self.value(arg)
        elif kind == "GUP_FLAGS" and isinstance(arg, Flags):
            self.gup_flags(arg)
        elif kind == "PROCESS" and isinstance(arg, Name):
            self.process_name(arg.text, arg.span, f"what {statement.op} names")
        elif kind in _WORDS and isinstance(arg, Name):
            self.word(arg, statement, param)
        elif not (kind == "EVENT" and isinstance(arg, Name)):
            self.error(
                arg.span,
                f"{_arg_text(arg)} cannot be the {param.name} of {statement.op}",
                expected=[CAN_STAND[kind]],
                hint=usage(statement.op),
            )

    def word(self, arg: Name, statement: Statement, param: Param) -> None:
        words = _WORDS[param.kind]
        if arg.text not in words:
            self.error(
                arg.span,
                f"{quoted(arg.text)} cannot be the {param.name} of {statement.op}",
                expected=words,
                word=arg.text,
                known=words,
            )

    def gup_flags(self, flags: Flags) -> None:
        for name in dict.fromkeys(flags.names):
            if name not in GUP_FLAGS:
                self.error(
                    self.word_span(flags.span, name),
                    f"no flag is called {quoted(name)}",
                    expected=GUP_FLAGS,
                    word=name,
                    known=GUP_FLAGS,
                )
            elif flags.names.count(name) > 1:
                self.error(flags.span, f"flag {name} is said twice")
        read, write = "READ" in flags.names, "WRITE" in flags.names
        if read and write:
            self.error(flags.span, "READ and WRITE exclude each other")
        elif not read and not write and all(n in GUP_FLAGS for n in flags.names):
            self.error(flags.span, "the flags do not say whether memory is read or written", expected=["READ", "WRITE"])

    def special(self, actor: Actor, statement: Statement) -> None:
        """What a signature cannot say."""
        first = statement.args[0] if statement.args else None
        if statement.op == "dma_write" and isinstance(first, Place) and first.name in self.names.pins:
            self.writable(first)
        elif statement.op == "wait" and isinstance(first, Name):
            self.wait(actor, statement, first)

    def writable(self, place: Place) -> None:
        pin = self.names.pins[place.name]
        if because := read_only_because(pin.statement):
            self.error(
                place.span, f"a device cannot write through {quoted(place.name)}: {because}", hint=_taken_on(pin)
            )

    def wait(self, actor: Actor, statement: Statement, child: Name) -> None:
        if child.text not in self.names.processes or child.text in self.skipped:
            return
        fork = self.names.forks.get(child.text)
        if fork is None or self.names.forked_by(child.text) != actor.process:
            own = [name for name in self.names.processes if self.names.forked_by(name) == actor.process]
            self.error(
                child.span,
                f"{quoted(actor.process)} cannot wait for {quoted(child.text)}: it did not fork it",
                expected=own,
            )
        elif fork.actor is actor and _index(actor, statement) < _index(actor, fork.statement):
            self.error(statement.span, f"wait({child.text}) stands before fork({child.text})")

    # --- processes and events -------------------------------------------------------------------------------------

    def forks(self) -> None:
        """Each process but the first is started exactly once, and not by a descendant of its own."""
        started: set[str] = set()
        for actor in self.test.actors:
            for statement in actor.body:
                if statement.op in FORKS and statement.args and isinstance(statement.args[0], Name):
                    self.fork(actor, statement.args[0], started)
        for name in self.names.processes[1:]:
            if name not in self.names.forks and name not in self.skipped:
                self.error(
                    self.names.actors[name].span,
                    f"process {quoted(name)} is never started",
                    expected=[f"fork({name}) in another process"],
                    hint="only the first process exists from the start",
                )

    def fork(self, actor: Actor, child: Name, started: set[str]) -> None:
        processes = self.names.processes
        if child.text not in processes:
            return
        if child.text == actor.process:
            self.error(
                child.span,
                f"process {quoted(child.text)} forks itself",
                hint="the child of a fork is a process of its own, with a block of its own",
            )
        elif child.text == processes[0]:
            self.error(child.span, f"process {quoted(child.text)} exists from the start: it cannot be forked")
        elif child.text in self.names.ancestors(actor.process):
            self.error(child.span, f"process {quoted(child.text)} is an ancestor of {quoted(actor.process)}")
        elif child.text in started:
            hint = _taken_on(self.names.forks[child.text], "forked")
            self.error(child.span, f"process {quoted(child.text)} is forked twice", hint=hint)
        started.add(child.text)

    def events(self) -> None:
        posts = self.names.posts
        for name, event in self.names.awaits.items():
            if name not in posts and name not in self.skipped:
                self.error(
                    event.span,
                    f"event {quoted(name)} is awaited, but nobody posts it",
                    expected=list(posts) or [f"post({name}) in another actor"],
                    word=name,
                    known=posts,
                )

    # --- top-level lines ------------------------------------------------------------------------------------------

    def kernel_may(self, action: KernelMay) -> None:
        if action.action not in KERNEL_ACTIONS:
            self.error(
                action.span,
                f"nothing the kernel may do is called {quoted(action.action)}",
                expected=KERNEL_ACTIONS,
                word=action.action,
                known=KERNEL_ACTIONS,
            )
        elif KERNEL_ACTIONS[action.action] != (action.place is not None):
            wanted = f"{action.action}(x)" if action.place is None else action.action
            self.error(action.span, f"'kernel may {action.action}' is written 'kernel may {wanted}'")
        elif action.place is not None:
            self.place(action.place, cell_allowed=False)


def _arg_text(arg: Arg) -> str:
    if isinstance(arg, Number):
        return f"the number {arg.value}"
    if isinstance(arg, Flags):
        return quoted("|".join(arg.names))
    if isinstance(arg, Name):
        return quoted(arg.text)
    index = "" if arg.index is None else f"[{arg.index}]"
    return quoted(arg.name + index + ("" if arg.cell is None else "." + arg.cell))


def _taken_on(use: Use, verb: str = "taken") -> str | None:
    return f"{verb} on line {use.span.line}, by {use.actor.name}" if use.span.line else None


def _index(actor: Actor, statement: Statement) -> int:
    return next(i for i, s in enumerate(actor.body) if s is statement)

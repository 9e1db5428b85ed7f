"""Is a test violated in the same way? What a smaller test has to keep, and what shows that nothing else is at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cowcatcher import state as st
from cowcatcher.explore import claims as cl
from cowcatcher.explore.checks import unbalanced
from cowcatcher.explore.program import NotModelled, Program, compile_test, initial_state
from cowcatcher.explore.reductions import without_statements
from cowcatcher.explore.search import Explored, Limits, Searcher, Subject, interpreted
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict, Violation, kernel_tasks
from cowcatcher.kernels import Kernel, is_known
from cowcatcher.litmus.ast import Expect, Flags, KernelRange, Name, Statement, Test
from cowcatcher.litmus.printer import claim_text
from cowcatcher.litmus.statements import GUP_FLAGS
from cowcatcher.state import Machine


def focused(test: Test, violation: Violation) -> Test:
    """The test with nothing in it but the claim or the standing check that is violated.

    Claims are judged each by itself, so the others decide over nothing; what is expected of kernels is left out.
    """
    claims = tuple(c for c in test.claims if violation.kind == "claim" and claim_text(c) == violation.text)
    return replace(test, claims=claims[:1], expects=())


def verdict_of(test: Test, kernel: Kernel, check: str, limits: Limits, search: Searcher = interpreted) -> Verdict:
    """Is this standing check violated, or with "" the test's only claim? The search may stop at the first violation."""
    try:
        program = compile_test(test)
    except NotModelled:
        return Verdict.NOT_APPLICABLE
    m = program.on(kernel.rules())
    violated = _violated(program, m, check)
    subject = Subject(m, kernel, bytes(initial_state(program, m)), kernel_tasks(program))
    found = search(subject, limits, violated)
    if violated(found) or (not check and not found.stopped and _never_true(program, m, found)):
        return Verdict.VIOLATED
    return Verdict.UNKNOWN if found.stopped else Verdict.HOLDS


def _violated(program: Program, m: Machine, check: str) -> Callable[[Explored], bool]:
    """Has it been violated by now? Asked after every final state."""
    looked_at: tuple[Explored | None, int] = None, 0

    def finals(found: Explored) -> Iterator[bytes]:
        nonlocal looked_at
        start = looked_at[1] if looked_at[0] is found else 0
        for number, state in found.endings(start):
            looked_at = found, number + 1
            yield state

    seen = False

    def violated(found: Explored) -> bool:
        nonlocal seen
        if check and check != "balanced":
            return check in found.broken
        seen = seen or any(unbalanced(m, s) if check else _fails(program, m, s) for s in finals(found))
        return seen

    return violated


def _fails(program: Program, m: Machine, state: bytes) -> bool:
    claim = program.test.claims[0]
    true = cl.holds(claim.cond, program, m, state, cl.register_values(program, m, state))
    return claim.kind != "sometimes" and true == (claim.kind == "never")


def _never_true(program: Program, m: Machine, found: Explored) -> bool:
    claim = program.test.claims[0]
    states = (state for _, state in found.endings())
    return claim.kind == "sometimes" and not any(
        cl.holds(claim.cond, program, m, s, cl.register_values(program, m, s)) for s in states
    )


@dataclass(slots=True)
class StillViolated:
    """Says yes to a test that is violated in the same way on ``kernel``, and holds on all of ``holds_on``.

    A candidate of which that cannot be told is not kept; ``unsure`` and ``not_applicable`` count those.
    """

    violation: Violation
    kernel: Kernel
    holds_on: Sequence[Kernel] = ()
    limits: Limits = field(default_factory=Limits)
    search: Searcher = interpreted
    unsure: int = 0
    not_applicable: int = 0

    def __call__(self, test: Test) -> bool:
        verdict = self.verdict(test)
        if verdict is Verdict.VIOLATED:
            other = self.first_that_differs(test)
            verdict = verdict if other is None else other.verdict
            if other is not None and verdict is Verdict.VIOLATED:
                return False
        self.unsure += verdict is Verdict.UNKNOWN
        self.not_applicable += verdict is Verdict.NOT_APPLICABLE
        return verdict is Verdict.VIOLATED

    def first_that_differs(self, test: Test) -> CheckResult | None:
        """The first result of those kernels on which it is to hold that is another one."""
        checker = Checker(test, self.limits, self.search)
        results = (checker.check(kernel) for kernel in self.holds_on)
        return next((found for found in results if found.verdict is not Verdict.HOLDS), None)

    def verdict(self, test: Test) -> Verdict:
        """Of the claim or the check alone. A test that has lost its claim has nothing to violate."""
        check = self.violation.name if self.violation.kind == "check" else ""
        if not check and (len(test.claims) != 1 or test.claims[0].kind != self.violation.name):
            return Verdict.HOLDS
        if check in test.unchecked:
            return Verdict.HOLDS
        return verdict_of(test, self.kernel, check, self.limits, self.search)

    def rerun(self, test: Test) -> CheckResult:
        """The result on the kernel, with every execution looked at."""
        return Checker(test, self.limits, self.search).check(self.kernel)


def empty(test: Test) -> Test:
    """The control: the same memory and actors, and nobody does anything. Only the standing checks can be asked."""
    return replace(test, actors=tuple(replace(a, body=()) for a in test.actors), claims=(), kernel_may=())


@dataclass(frozen=True, slots=True)
class Needed:
    """What a statement is good for: without it, ``verdict`` comes out on ``kernel``."""

    actor: str
    statement: Statement
    kernel: Kernel
    verdict: Verdict


def needed(test: Test, keeps: StillViolated) -> list[Needed]:
    """Every statement, from top to bottom, and what comes out without it; on the kernel of the violation if that makes
    the difference, else on the one on which it was to hold."""
    found = []
    for i, (actor, statement) in enumerate((a.name, s) for a in test.actors for s in a.body):
        without = without_statements(test, i, i + 1)
        verdict = keeps.verdict(without)
        other = keeps.first_that_differs(without) if verdict is Verdict.VIOLATED else None
        kernel = keeps.kernel if other is None else other.kernel
        found.append(Needed(actor, statement, kernel, verdict if other is None else other.verdict))
    return found


def expecting(test: Test, keeps: StillViolated, original: str) -> Test:
    """With a description that says what it is left of, and ``expect`` lines that say what was kept."""
    check = keeps.violation.name.upper() if keeps.violation.kind == "check" else None
    lines = [Expect("violated", (_named(keeps.kernel),), check)]
    if keeps.holds_on:
        lines.append(Expect("holds", tuple(map(_named, keeps.holds_on))))
    what = check.lower() if check else "the claim"
    description = f"What is left of {original}, with {what} violated on {keeps.kernel.name}."
    # A kernel that a user has changed has no name that an expect line could know.
    known = () if any(not is_known(r.first or "") for e in lines for r in e.ranges) else tuple(lines)
    return replace(test, description=description, expects=known)


def _named(kernel: Kernel) -> KernelRange:
    return KernelRange(kernel.name, kernel.name, single=True)


def by_rule(kernel: Kernel) -> Callable[[Statement], Statement | None]:
    """Pins by interface as pins by rule, with the flags that the interface uses on this kernel."""
    rules = kernel.rules()

    def plain(statement: Statement) -> Statement | None:
        word = statement.args[1].text if len(statement.args) > 1 and isinstance(statement.args[1], Name) else ""
        match statement.op:
            case "ibv_reg_mr":
                foll = rules.foll_rdma(int(word == "READONLY"))
            case "io_uring_register":
                foll = rules.foll_io_uring()
            case "vfio_map":
                foll = rules.foll_vfio(int(word == "READONLY"))
            case "xdp_umem":
                foll = rules.foll_xdp()
            case "vmsplice":
                foll = rules.foll_vmsplice()
            case "dio_read" | "dio_write":
                ask = {"NFS": rules.foll_dio_nfs, "FUSE": rules.foll_dio_fuse}.get(word, rules.foll_dio_block)
                foll = ask(int(statement.op == "dio_read"))
            case _:
                return None
        names = {name for name in GUP_FLAGS if name != "READ" and foll & int(getattr(st, f"FOLL_{name}"))}
        names |= set() if "WRITE" in names else {"READ"}
        op = "pin" if foll & st.FOLL_PIN else "get"
        return replace(statement, op=op, args=(statement.args[0], Flags(tuple(f for f in GUP_FLAGS if f in names))))

    return plain

"""From a search to a verdict: claims and standing checks, outcomes, witnesses, and how sure one can be."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from cowcatcher.explore import claims as cl
from cowcatcher.explore.checks import unbalanced
from cowcatcher.explore.claims import Value
from cowcatcher.explore.footprint import Asked, answers_alike, recording
from cowcatcher.explore.program import NotModelled, Program, compile_test, initial_state
from cowcatcher.explore.search import Exploration, Limits, search
from cowcatcher.kernels import Kernel, UnknownKernel, kernel_range
from cowcatcher.litmus.ast import Claim, Expect, Test
from cowcatcher.litmus.statements import CHECKS
from cowcatcher.state import T_PC, T_PHASE, TASK_SIZE, Machine


class Verdict(enum.Enum):
    """What a check found. The first two are the only ones that say something about the kernel."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNKNOWN = "could not tell"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a witness: which task, and the (canonical) state it led to."""

    task: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Violation:
    """A claim or a standing check that fails. ``witness`` is a shortest way there; empty for a failed ``sometimes``."""

    kind: str  # "claim" or "check"
    name: str  # "always", "never", "sometimes", or the check's name
    text: str  # the claim as written in canonical form, or what the check says
    witness: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way the test can end: what the registers hold, how the claims' questions are answered, who is stuck."""

    registers: dict[str, Value]
    queries: dict[str, bool]
    stuck: tuple[str, ...]
    states: int  # distinct final states that look like this
    good: bool  # no claim is violated by it


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One test on one kernel."""

    test: Test
    kernel: Kernel
    verdict: Verdict
    violations: tuple[Violation, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    vacuous: tuple[str, ...] = ()
    reason: str = ""  # why not applicable or could not tell, and what was covered
    states: int = 0
    transitions: int = 0
    depth: int = 0
    finals: int = 0
    seconds: float = 0.0
    same_as: str = ""  # the kernel whose search this result was taken from: it gave the same answers throughout

    def violated_checks(self) -> set[str]:
        return {v.name for v in self.violations if v.kind == "check"}


@dataclass(slots=True)
class _Explored:
    kernel: Kernel
    asked: Asked
    result: CheckResult


@dataclass(slots=True)
class Checker:
    """Checks one test on any number of kernels, exploring once for all that it cannot tell apart."""

    test: Test
    limits: Limits = field(default_factory=Limits)
    program: Program | None = None
    not_modelled: str = ""
    _explored: list[_Explored] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self.program = compile_test(self.test)
        except NotModelled as why:
            self.not_modelled = str(why)

    def check(self, kernel: Kernel) -> CheckResult:
        """The verdict on ``kernel``."""
        if self.program is None:
            return CheckResult(self.test, kernel, Verdict.NOT_APPLICABLE, reason=self.not_modelled)
        for earlier in self._explored:
            if answers_alike(kernel, earlier.asked):
                return replace(earlier.result, kernel=kernel, seconds=0.0, same_as=earlier.kernel.name)
        rules, asked = recording(kernel)
        m = self.program.on(rules)
        started = time.monotonic()
        found = search(m, bytes(initial_state(self.program, m)), kernel_tasks(self.program), self.limits)
        result = judge(self.program, m, kernel, found)
        result = replace(result, seconds=time.monotonic() - started)
        self._explored.append(_Explored(kernel, asked, result))
        return result


def check(test: Test, kernel: Kernel, limits: Limits | None = None) -> CheckResult:
    """One test, one kernel, every interleaving."""
    return Checker(test, limits or Limits()).check(kernel)


def check_all(
    test: Test,
    kernels: Iterable[Kernel],
    limits: Limits | None = None,
    progress: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """One test on several kernels, in their order."""
    checker = Checker(test, limits or Limits())
    results = []
    for kernel in kernels:
        results.append(checker.check(kernel))
        if progress:
            progress(results[-1])
    return results


def kernel_tasks(program: Program) -> frozenset[int]:
    """Indices of the tasks that are the kernel's own."""
    return frozenset(i for i, task in enumerate(program.tasks) if task.kind == "kernel")


# --- judging ----------------------------------------------------------------------------------------------------------


def judge(program: Program, m: Machine, kernel: Kernel, found: Exploration) -> CheckResult:
    """Claims, standing checks, outcomes and vacuity of a finished (or stopped) search."""
    test = program.test
    finals = [(i, found.states[i]) for i in found.finals]
    values = [cl.register_values(program, m, s) for _, s in finals]
    truth = [
        [cl.holds(c.cond, program, m, s, v) for (_, s), v in zip(finals, values, strict=True)] for c in test.claims
    ]

    violations: list[Violation] = []
    for claim, true in zip(test.claims, truth, strict=True):
        violations += _judge_claim(claim, true, found, bool(found.stopped))
    violations += _judge_checks(program, m, found, finals)
    outcomes = _outcomes(program, m, finals, values, truth)
    vacuous = _vacuous(program, m, found, finals, values, truth)
    if violations:
        verdict = Verdict.VIOLATED
        reason = f"stopped at {found.stopped}: other outcomes and violations may be missing" if found.stopped else ""
    elif found.stopped:
        verdict = Verdict.UNKNOWN
        reason = f"stopped at {found.stopped}, having seen all executions up to {found.covered} steps"
    else:
        verdict, reason = Verdict.HOLDS, ""
    return CheckResult(
        test, kernel, verdict, tuple(violations), outcomes, vacuous, reason,
        len(found.states), found.transitions, found.depth, len(finals),
    )  # fmt: skip


def _judge_claim(claim: Claim, true: list[bool], found: Exploration, stopped: bool) -> list[Violation]:
    from cowcatcher.litmus import cond_text

    text = f"{claim.kind} {cond_text(claim.cond)}"
    if claim.kind == "sometimes":
        return [] if any(true) or stopped else [Violation("claim", claim.kind, text, ())]
    bad = claim.kind == "never"
    for position, holds in enumerate(true):
        if holds == bad:
            return [Violation("claim", claim.kind, text, _witness(found.path(found.finals[position])))]
    return []


def _judge_checks(program: Program, m: Machine, found: Exploration, finals: list[tuple[int, bytes]]) -> list[Violation]:
    violations = []
    for name in CHECKS:
        if name in program.test.unchecked:
            continue
        if name in found.broken:
            at, task, following = found.broken[name]
            witness = _witness([*found.path(at), (task, following)])
            violations.append(Violation("check", name, CHECK_TEXT[name], witness))
        if name == "balanced":
            for i, state in finals:
                if unbalanced(m, state):
                    violations.append(Violation("check", name, CHECK_TEXT[name], _witness(found.path(i))))
                    break
    return violations


CHECK_TEXT = {
    "coherent": "the physical page stays with the process that pinned it",
    "isolated": "what is stored in private memory is never seen by another process",
    "alive": "no DMA and no mapping reaches a freed page",
    "balanced": "when all have ended and all pins are released, every count is back to zero",
}


def _witness(path: list[tuple[int, bytes]]) -> tuple[Step, ...]:
    return tuple(Step(task, state) for task, state in path)


def _outcomes(
    program: Program,
    m: Machine,
    finals: list[tuple[int, bytes]],
    values: list[dict[str, Value]],
    truth: list[list[bool]],
) -> tuple[Outcome, ...]:
    from cowcatcher.litmus import cond_text

    queries = {cond_text(q): q for c in program.test.claims for q in cl.queries_of(c.cond)}
    table: dict[tuple[object, ...], Outcome] = {}
    for position, ((_, state), registers) in enumerate(zip(finals, values, strict=True)):
        answers = {text: cl.holds(q, program, m, state, registers) for text, q in queries.items()}
        stuck = _stuck(program, m, state)
        good = all(
            true[position] == (claim.kind == "always")
            for claim, true in zip(program.test.claims, truth, strict=True)
            if claim.kind != "sometimes"
        )
        key = (*registers.values(), *answers.values(), stuck)
        seen = table.get(key)
        table[key] = Outcome(
            registers, answers, stuck, (seen.states if seen else 0) + 1, good and (not seen or seen.good)
        )
    return tuple(sorted(table.values(), key=lambda o: (str(list(o.registers.values())), str(o.queries), o.stuck)))


def _stuck(program: Program, m: Machine, state: bytes) -> tuple[str, ...]:
    """Actors that wait for something that never came: "device waits at await(doorbell)" is an outcome, not an error."""
    from cowcatcher.state import EXITED, P_STATE, PROC_SIZE, T_PROC, UNBORN

    stuck = []
    for index, info in enumerate(program.tasks):
        t = m.tasks + index * TASK_SIZE
        process = state[t + T_PROC]
        if process and state[m.procs + (process - 1) * PROC_SIZE + P_STATE] in (UNBORN, EXITED):
            continue
        if info.kind != "kernel" and (state[t + T_PHASE] or state[t + T_PC] < len(m.programs[index])):
            stuck.append(info.name)
    return tuple(stuck)


def _vacuous(
    program: Program, m: Machine, found: Exploration, finals: list[tuple[int, bytes]],
    values: list[dict[str, Value]], truth: list[list[bool]],
) -> tuple[str, ...]:  # fmt: skip
    """Reasons why something held without having been put to the test."""
    from cowcatcher.litmus import cond_text

    if found.stopped:
        return ()
    reasons = []
    if not finals:
        reasons.append("no execution ever ends, so no claim was evaluated")
    for claim in program.test.claims:
        for name in sorted(set(cl.registers_of(claim.cond))):
            if finals and all(v[name] is None for v in values):
                reasons.append(f"{claim.kind} {cond_text(claim.cond)}: {name} is never assigned")
        for premise in cl.premises_of(claim.cond):
            if not any(cl.holds(premise, program, m, s, v) for (_, s), v in zip(finals, values, strict=True)):
                reasons.append(f"{claim.kind} {cond_text(claim.cond)}: {cond_text(premise)} never happens")
    if (
        program.names.pins
        and "coherent" not in program.test.unchecked
        and not found.promised
        and _takes_promise(program)
    ):
        reasons.append("coherent: no pin that promises anything is ever held")
    for index, info in enumerate(program.tasks):
        if info.kind == "kernel" and index not in found.moved:
            reasons.append(f"{info.name} never happens")
    return tuple(reasons)


def _takes_promise(program: Program) -> bool:
    """Does the test take a pin for which ``coherent`` is meant?"""
    return any(
        s.op not in ("odp_reg_mr", "vmsplice", "dio_write") and s.op != "get"
        for a in program.test.actors
        for s in a.body
        if s.target in program.names.pins
    )


# --- expectations -----------------------------------------------------------------------------------------------------


def expectations(test: Test, kernel: Kernel) -> tuple[Expect, ...]:
    """The ``expect`` lines that speak of this kernel."""
    return tuple(e for e in test.expects if any(_covers(r.first, r.last, r.single, kernel) for r in e.ranges))


def _covers(first: str | None, last: str | None, single: bool, kernel: Kernel) -> bool:
    try:
        return any(k.name == kernel.name for k in kernel_range(first, last, single))
    except UnknownKernel:
        return False


def as_expected(result: CheckResult) -> bool | None:
    """Is the verdict what the test expects of this kernel? None if it expects nothing, or nothing was found out."""
    wanted = expectations(result.test, result.kernel)
    if not wanted or result.verdict in (Verdict.UNKNOWN, Verdict.NOT_APPLICABLE):
        return None
    return all(_meets(result, e) for e in wanted)


def _meets(result: CheckResult, expect: Expect) -> bool:
    if expect.verdict != result.verdict.value:
        return False
    return expect.check is None or expect.check.lower() in result.violated_checks()

"""From a search to a verdict: claims and standing checks, outcomes, witnesses, and how sure one can be."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from cowcatcher.explore import claims as cl
from cowcatcher.explore.claims import Value
from cowcatcher.explore.effects import keeps
from cowcatcher.explore.footprint import answers_alike, recording
from cowcatcher.explore.program import NotModelled, Program, compile_test, initial_state
from cowcatcher.explore.search import Explored, Limits, Searcher, Subject, Way, interpreted
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
    engine: str = "interpreted"  # or "compiled"
    chance_of_a_miss: float = 0.0  # that any state was taken for another one: not 0 if fingerprints were compared
    reduced: bool = False  # steps that commute were taken in one order only

    def violated_checks(self) -> set[str]:
        return {v.name for v in self.violations if v.kind == "check"}


@dataclass(slots=True)
class _Earlier:
    """A result, and whether it is another kernel's, too."""

    result: CheckResult
    alike: Callable[[Kernel], bool]


@dataclass(slots=True)
class Checker:
    """Checks one test on any number of kernels, exploring once for all that it cannot tell apart."""

    test: Test
    limits: Limits = field(default_factory=Limits)
    search: Searcher = interpreted
    program: Program | None = None
    not_modelled: str = ""
    _earlier: list[_Earlier] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self.program = compile_test(self.test)
        except NotModelled as why:
            self.not_modelled = str(why)

    def check(self, kernel: Kernel) -> CheckResult:
        """The verdict on ``kernel``."""
        if self.program is None:
            return CheckResult(self.test, kernel, Verdict.NOT_APPLICABLE, reason=self.not_modelled)
        for earlier in self._earlier:
            if earlier.alike(kernel):
                return replace(earlier.result, kernel=kernel, seconds=0.0, same_as=earlier.result.kernel.name)
        rules, asked = recording(kernel)
        m = self.program.on(rules)
        started = time.monotonic()
        initial = bytes(initial_state(self.program, m))
        found = self.search(Subject(m, kernel, initial, kernel_tasks(self.program)), self.limits)
        result = judge(self.program, m, kernel, found)
        result = replace(result, seconds=time.monotonic() - started)
        # What was asked before and after a search, of the initial state for one, is recorded in any case.
        questions = None if found.questions is None else found.questions | {question for question, _ in asked}
        kept = keeps(m, kernel.rules())

        def alike(other: Kernel) -> bool:
            if kept != keeps(m, other.rules()):  # asked beside the record, and the states looked at depend on it
                return False
            return answers_alike(other, asked) if questions is None else _same(kernel, other, questions)

        self._earlier.append(_Earlier(result, alike))
        return result


def _same(kernel: Kernel, other: Kernel, questions: Iterable[str]) -> bool:
    """Nothing was recorded but which questions were asked: to each of these both must have the very same answer."""
    return all(kernel.decisions[q].answer is other.decisions[q].answer for q in questions)


def check(test: Test, kernel: Kernel, limits: Limits | None = None) -> CheckResult:
    """One test, one kernel, every interleaving."""
    return Checker(test, limits or Limits()).check(kernel)


def check_all(
    test: Test,
    kernels: Iterable[Kernel],
    limits: Limits | None = None,
    progress: Callable[[CheckResult], None] | None = None,
    search: Searcher = interpreted,
) -> list[CheckResult]:
    """One test on several kernels, in their order."""
    checker = Checker(test, limits or Limits(), search)
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


@dataclass(slots=True)
class _Ending:
    """All final states that differ in nothing that the test asks for; ``state`` is the nearest of them."""

    number: int
    state: bytes
    values: dict[str, Value]
    queries: dict[str, bool]
    truth: list[bool]  # of each claim's condition
    stuck: tuple[str, ...]
    states: int = 0


def judge(program: Program, m: Machine, kernel: Kernel, found: Explored) -> CheckResult:
    """Claims, standing checks, outcomes and vacuity of a finished (or stopped) search."""
    test = program.test
    endings = _endings(program, m, found)
    violations = _judge_claims(test.claims, endings, found)
    violations += _judge_checks(program, m, found)
    outcomes = _outcomes(test.claims, endings)
    vacuous = _vacuous(program, m, found, endings)
    if violations:
        verdict = Verdict.VIOLATED
        reason = f"stopped at {found.stopped}: other outcomes and violations may be missing" if found.stopped else ""
        longer = " and ".join(v.name for v in violations if v.kind == "check" and v.name in found.longer)
        if longer:
            reason += f"{'; ' * bool(reason)}the way to {longer} may not be a shortest one, for the same limit"
    elif found.stopped:
        verdict = Verdict.UNKNOWN
        executions = "executions that end within" if found.reduced else "executions up to"
        reason = f"stopped at {found.stopped}, having seen all {executions} {found.covered} steps"
    else:
        verdict, reason = Verdict.HOLDS, ""
    return CheckResult(
        test, kernel, verdict, tuple(violations), outcomes, vacuous, reason,
        found.n_states, found.transitions, found.depth, sum(e.states for e in endings),
        engine=found.engine, chance_of_a_miss=found.chance_of_a_miss, reduced=found.reduced,
    )  # fmt: skip


def _endings(program: Program, m: Machine, found: Explored) -> list[_Ending]:
    """Final states are many, ways to end are few: each is worked out once. In order of distance."""
    from cowcatcher.litmus import cond_text

    queries = {cond_text(q): q for c in program.test.claims for q in cl.queries_of(c.cond)}
    parts = [slice(m.regs, m.inherited)]
    parts += [slice(t + T_PC, t + T_PHASE + 1) for t in range(m.tasks, m.tasks + m.n_tasks * TASK_SIZE, TASK_SIZE)]
    parts.append(slice(m.procs, m.mms))
    table: dict[tuple[object, ...], _Ending] = {}
    for number, state in found.endings():
        answers = tuple(cl.holds(q, program, m, state, {}) for q in queries.values())
        key = (*(state[part] for part in parts), answers)
        seen = table.get(key)
        if seen is None:
            values = cl.register_values(program, m, state)
            truth = [cl.holds(c.cond, program, m, state, values) for c in program.test.claims]
            seen = table[key] = _Ending(
                number, state, values, dict(zip(queries, answers, strict=True)), truth, _stuck(program, m, state)
            )
        seen.states += 1
    return list(table.values())


def _judge_claims(claims: Sequence[Claim], endings: Sequence[_Ending], found: Explored) -> list[Violation]:
    from cowcatcher.litmus import cond_text

    violations: list[Violation] = []
    failing: list[int] = []  # the nearest ending that violates it, for each but the last kind of claim
    for place, claim in enumerate(claims):
        text = f"{claim.kind} {cond_text(claim.cond)}"
        if claim.kind == "sometimes":
            if not found.stopped and not any(e.truth[place] for e in endings):
                violations.append(Violation("claim", claim.kind, text, ()))
            continue
        bad = [e.number for e in endings if e.truth[place] == (claim.kind == "never")]
        if bad:
            failing.append(min(bad))
            violations.append(Violation("claim", claim.kind, text, ()))
    ways = iter(found.ways(failing) if failing else [])
    return [v if v.name == "sometimes" else replace(v, witness=_witness(next(ways))) for v in violations]


def _judge_checks(program: Program, m: Machine, found: Explored) -> list[Violation]:
    violations = []
    for name in CHECKS:
        if name in program.test.unchecked:
            continue
        if name in found.broken:
            violations.append(Violation("check", name, CHECK_TEXT[name], _witness(found.way_to_broken(name))))
        if name == "balanced" and (way := found.unbalanced(m)) is not None:
            violations.append(Violation("check", name, CHECK_TEXT[name], _witness(way)))
    return violations


CHECK_TEXT = {
    "coherent": "the physical page stays with the process that pinned it",
    "isolated": "what is stored in private memory is never seen by another process",
    "alive": "no DMA and no mapping reaches a freed page",
    "balanced": "when all have ended and all pins are released, every count is back to zero",
}


def _witness(way: Way) -> tuple[Step, ...]:
    return tuple(Step(task, state) for task, state in way)


def _outcomes(claims: Sequence[Claim], endings: Sequence[_Ending]) -> tuple[Outcome, ...]:
    """Endings that look alike from outside, though not every actor need stand at the same place."""
    table: dict[tuple[object, ...], Outcome] = {}
    for ending in endings:
        good = all(
            true == (claim.kind == "always")
            for claim, true in zip(claims, ending.truth, strict=True)
            if claim.kind != "sometimes"
        )
        key = (*ending.values.values(), *ending.queries.values(), ending.stuck)
        seen = table.get(key)
        table[key] = Outcome(
            ending.values,
            ending.queries,
            ending.stuck,
            (seen.states if seen else 0) + ending.states,
            good and (not seen or seen.good),
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


def _vacuous(program: Program, m: Machine, found: Explored, endings: Sequence[_Ending]) -> tuple[str, ...]:
    """Reasons why something held without having been put to the test."""
    from cowcatcher.litmus import cond_text

    if found.stopped:
        return ()
    reasons = []
    if not endings:
        reasons.append("no execution ever ends, so no claim was evaluated")
    for claim in program.test.claims:
        for name in sorted(set(cl.registers_of(claim.cond))):
            if endings and all(e.values[name] is None for e in endings):
                reasons.append(f"{claim.kind} {cond_text(claim.cond)}: {name} is never assigned")
        for premise in cl.premises_of(claim.cond):
            if not any(cl.holds(premise, program, m, e.state, e.values) for e in endings):
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

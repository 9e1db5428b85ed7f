"""The dictionary behind ``explain``: a witness step by step, the answers that mattered, and what would have helped."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.explore.bisect import Cure
from cowcatcher.explore.guards import Guard
from cowcatcher.explore.trace import Asked, Picture, TraceStep
from cowcatcher.explore.verdict import CheckResult, Violation
from cowcatcher.kernels import KERNELS, Kernel
from cowcatcher.report.kernel_record import decision_record
from cowcatcher.report.record import Record, document, kernel_record, outcome_record

#: Answers after which a page moves, goes away, or is written under somebody's eyes.
_TURNING = {
    ("wp_can_reuse", 0), ("wp_can_reuse", 1), ("wp_waits_for_page_lock", 0), ("lazyfree_discards", 1),
    ("swapin_is_exclusive", 0), ("swapin_is_exclusive", 1), ("gup_forced_write_ok", 1), ("fork_leaves_out", 1),
}  # fmt: skip


def explain_document(
    result: CheckResult,
    violation: Violation | None,
    initial: Picture,
    steps: Sequence[TraceStep],
    cures: Sequence[Cure],
    guards: Sequence[Guard],
    nearest: CheckResult | None,
) -> Record:
    """``violation`` is the one explained, None if the test holds; ``steps`` its trace, ``initial`` what was before."""
    test, kernel = result.test, result.kernel
    return document(
        "explain",
        test=test.name,
        path=test.path,
        description=test.description,
        kernel=kernel_record(kernel) | {"summary": kernel.summary},
        verdict=result.verdict.value,
        reason=result.reason,
        vacuous=list(result.vacuous),
        states=result.states,
        reduced=result.reduced,
        engine=result.engine,
        chance_of_a_miss=result.chance_of_a_miss,
        violations=[
            {"kind": v.kind, "name": v.name, "text": v.text, "depth": len(v.witness)} for v in result.violations
        ],
        explained=None
        if violation is None
        else {"kind": violation.kind, "name": violation.name, "text": violation.text},
        actors=_actors(steps),
        initial=initial,
        steps=[_step_record(kernel, s) for s in steps],
        turning=_turning(kernel, steps),
        cures=[_cure_record(kernel, cure, steps) for cure in cures],
        guards=[
            {
                "decision": decision_record(g.decision),
                "without": decision_record(g.without),
                "violations": [v.name for v in g.result.violations],
            }
            for g in guards
        ],
        nearest=None
        if nearest is None
        else {"kernel": nearest.kernel.name, "violations": [v.name for v in nearest.violations]},
        outcomes=[outcome_record(o) for o in result.outcomes],
    )


def _actors(steps: Sequence[TraceStep]) -> list[str]:
    """Those who do anything, in the order of the test."""
    return [name for _, name in sorted({(s.task, s.actor) for s in steps})]


def _step_record(kernel: Kernel, step: TraceStep) -> Record:
    return {
        "number": step.number,
        "actor": step.actor,
        "statement": step.statement,
        "step": step.step,
        "result": step.result,
        "changes": [
            {"subject": c.subject, "field": c.field, "before": c.before, "after": c.after} for c in step.changes
        ],
        "asked": [
            {"question": a.question, "decision": a.decision_name, "facts": dict(a.facts), "answer": a.answer}
            for a in step.asked
        ],
    }


def _asked_record(kernel: Kernel, step: TraceStep, asked: Asked) -> Record:
    return {
        "step": step.number,
        "question": asked.question,
        "facts": dict(asked.facts),
        "answer": asked.answer,
        "decision": decision_record(kernel.decisions[asked.question]),
    }


def _turning(kernel: Kernel, steps: Sequence[TraceStep]) -> Record | None:
    """The last answer that moved a page: one about a pinned page, if there is any."""
    found = [(s, a) for s in steps for a in s.asked if (a.question, a.answer) in _TURNING]
    pinned = [(s, a) for s, a in found if a.facts.get("pinned")]
    if not found:
        return None
    return _asked_record(kernel, *(pinned or found)[-1])


def _cure_record(kernel: Kernel, cure: Cure, steps: Sequence[TraceStep]) -> Record:
    """``asked`` is where the witness met the decision that the cure replaces, if it did."""
    met = [(s, a) for s in steps for a in s.asked if a.question == cure.decision.question]
    told = next((x for x in reversed(met) if x[1].facts.get("pinned")), met[-1] if met else None)
    return {
        "decision": decision_record(cure.decision),
        "replaced_by": decision_record(cure.replaced_by),
        "kernel": cure.kernel.name if cure.kernel else None,
        "later": _is_later(cure.kernel, kernel),
        "asked": None if told is None else _asked_record(kernel, *told),
    }


def _is_later(cured: Kernel | None, kernel: Kernel) -> bool:
    """Does the cure come after this kernel on the line (or after the one it branches from)?"""
    while kernel.place is None and kernel.base in KERNELS:
        kernel = KERNELS[kernel.base]
    return cured is not None and cured.place is not None and kernel.place is not None and cured.place > kernel.place

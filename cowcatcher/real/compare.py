"""What runs on a real kernel say about a test's claims, and whether the model allows what was seen.

Five answers are kept apart. *Holds* and *violated* are about the runs that were made, each in the ordered form; *could
not tell* means a run ended without what the claim asks about (no frame numbers for an ordinary user, a crash, a time
limit); *not applicable* means the test cannot be run on this machine; *flaky* means that runs of one test differed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from cowcatcher.litmus.ast import (
    And,
    Claim,
    Compare,
    Cond,
    ErrorName,
    In,
    Located,
    Not,
    Number,
    Operand,
    Or,
    Query,
    Register,
    Test,
)
from cowcatcher.real.host import OK, Observation, Page

#: A register valuation as the model gives it: None for a register never assigned.
Valuation: TypeAlias = Mapping[str, int | str | None]


class Verdict(StrEnum):
    HOLDS = "holds"
    VIOLATED = "violated"
    COULD_NOT_TELL = "could not tell"
    NOT_APPLICABLE = "not applicable"
    FLAKY = "flaky"


@dataclass(frozen=True, slots=True)
class ClaimResult:
    claim: Claim
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``allowed`` and ``as_predicted`` are None where the model was not asked or there is no outcome to look for."""

    test: str
    verdict: Verdict
    claims: tuple[ClaimResult, ...]
    reason: str = ""
    allowed: bool | None = None
    as_predicted: bool | None = None
    differences: tuple[str, ...] = ()  # "r0: 1 here, 2 in the model", against the prediction
    runs: int = 0


#: Why an ordinary user is not told which page is which.
HIDDEN_FRAMES: Final = "frame numbers are shown to CAP_SYS_ADMIN only"


class _Unknown(Exception):
    """A condition needs something that this run does not have; the text says what."""


def holds(cond: Cond, test: Test, seen: Observation) -> tuple[bool | None, str]:
    """The condition's truth in the final state that was seen: None, and why, if it cannot be told."""
    match cond:
        case Compare():
            same = _equal(_value(cond.left, seen), _value(cond.right, seen))
            return same == (cond.op == "=="), ""
        case In():
            return any(_equal(_value(cond.left, seen), _value(v, seen)) for v in cond.values), ""
        case Not():
            truth, why = holds(cond.item, test, seen)
            return (None if truth is None else not truth), why
        case And() | Or():
            decisive = isinstance(cond, Or)  # the truth value that settles it, whatever the others are
            parts = [holds(item, test, seen) for item in cond.items]
            if any(truth is decisive for truth, _ in parts):
                return decisive, ""
            why = next((why for truth, why in parts if truth is None), "")
            return (None if why else not decisive), why
        case Query():
            try:
                return _query(cond, seen), ""
            except _Unknown as e:
                return None, str(e)


def _value(operand: Operand, seen: Observation) -> int | str | None:
    match operand:
        case Register():
            return seen.registers.get(operand.name)
        case Number():
            return operand.value
        case ErrorName():
            return operand.name


def _equal(left: int | str | None, right: int | str | None) -> bool:
    """A register that was never assigned equals nothing."""
    return left is not None and left == right


def _query(query: Query, seen: Observation) -> bool:
    if query.op == "mapped":
        page = _page(query.args[0], seen)
        return page is not None and page.state != "none"
    if query.op == "same_page":
        frames = [_frame(located, seen) for located in query.args]
        return frames[0] is not None and frames[0] == frames[1]
    raise _Unknown("the kernel does not show whether it takes a page for pinned")


def _page(located: Located, seen: Observation) -> Page | None:
    """The page as that process has it; None if the process is gone."""
    place = located.place
    for page in seen.pages:
        if (page.process, page.mapping, page.index) == (located.process, place.name, place.index or 0):
            if page.state == "unknown":
                raise _Unknown(f"the page table of {page.process} could not be read")
            return page
    return None


def _frame(located: Located, seen: Observation) -> int | None:
    """The frame number behind it; None if nothing is."""
    if located.process is None:
        frame = seen.pinned.get((located.place.name, located.place.index or 0))
        if frame is None and seen.pins.get(located.place.name) == OK:
            raise _Unknown(HIDDEN_FRAMES)
        return frame
    page = _page(located, seen)
    if page is None or page.state in ("none", "empty"):
        return None
    if page.state == "swapped":
        raise _Unknown(
            f"{page.process}:{page.mapping} is swapped out: the frame in the swap cache, if any, is not shown"
        )
    if page.pfn is None:
        raise _Unknown(HIDDEN_FRAMES)
    return page.pfn


def evaluate(test: Test, seen: Observation) -> tuple[ClaimResult, ...]:
    """Every claim of the test, held against one run."""
    if seen.status != "ok":
        verdict = Verdict.NOT_APPLICABLE if seen.status == "not applicable" else Verdict.COULD_NOT_TELL
        return tuple(ClaimResult(claim, verdict, seen.reason) for claim in test.claims)
    return tuple(_evaluate(claim, test, seen) for claim in test.claims)


def _evaluate(claim: Claim, test: Test, seen: Observation) -> ClaimResult:
    truth, why = holds(claim.cond, test, seen)
    if truth is None:
        return ClaimResult(claim, Verdict.COULD_NOT_TELL, why)
    if claim.kind == "sometimes":
        if truth:
            return ClaimResult(claim, Verdict.HOLDS)
        return ClaimResult(claim, Verdict.COULD_NOT_TELL, "not seen in the ordered form; another order may show it")
    return ClaimResult(claim, Verdict.HOLDS if truth == (claim.kind == "always") else Verdict.VIOLATED)


def compare(
    test: Test,
    runs: Sequence[Observation],
    allowed: Iterable[Valuation] | None = None,
    predicted: Valuation | None = None,
) -> Comparison:
    """All runs of one test against its claims, and against the outcomes of a model.

    ``allowed``: every final valuation that the model can reach. ``predicted``: the one it reaches in the ordered form.
    """
    per_run = [evaluate(test, seen) for seen in runs]
    bad = next((seen for seen in runs if seen.status != "ok"), None)
    if bad is not None or not runs:
        same = bad is not None and all(seen.status == "not applicable" for seen in runs)
        verdict = Verdict.NOT_APPLICABLE if same else Verdict.COULD_NOT_TELL
        reason = bad.reason if bad is not None else "no run was made"
        return Comparison(
            test.name, verdict, per_run[runs.index(bad)] if bad is not None else (), reason, runs=len(runs)
        )
    first = runs[0]
    as_predicted = None if predicted is None else all(agrees(predicted, seen) for seen in runs)
    within = None if allowed is None else _all_allowed(runs, list(allowed))
    within = as_predicted or within  # the ordered form is one of the executions
    differences = () if predicted is None else _differences(predicted, first)
    claims = per_run[0]
    if reason := _how_runs_differ(runs, per_run):
        verdict = Verdict.FLAKY
    elif any(c.verdict is Verdict.VIOLATED for c in claims):
        verdict, reason = Verdict.VIOLATED, ""
    elif unsure := next((c for c in claims if c.verdict is Verdict.COULD_NOT_TELL), None):
        verdict, reason = Verdict.COULD_NOT_TELL, unsure.why
    else:
        verdict = Verdict.HOLDS
    return Comparison(test.name, verdict, claims, reason, within, as_predicted, differences, len(runs))


def agrees(valuation: Valuation, seen: Observation) -> bool:
    """Did the run end with these values?"""
    return all(seen.registers.get(name) == value for name, value in valuation.items())


def _all_allowed(runs: Sequence[Observation], valuations: list[Valuation]) -> bool:
    return all(any(agrees(v, seen) for v in valuations) for seen in runs)


def _differences(predicted: Valuation, seen: Observation) -> tuple[str, ...]:
    def said(value: int | str | None) -> str:
        return "not assigned" if value is None else str(value)

    return tuple(
        f"{name}: {said(seen.registers.get(name))} here, {said(value)} in the model"
        for name, value in predicted.items()
        if seen.registers.get(name) != value
    )


def _how_runs_differ(runs: Sequence[Observation], per_run: Sequence[tuple[ClaimResult, ...]]) -> str:
    """In what two runs of the test differed, or "". Which frame a page lies in is chance; what was read is not."""
    for seen, claims in zip(runs, per_run, strict=True):
        names = sorted({*seen.registers, *runs[0].registers})
        for name in names:
            here, there = seen.registers.get(name), runs[0].registers.get(name)
            if here != there:
                return f"{name} was {there} in run 1 and {here} in run {seen.run + 1}"
        if seen.deaths != runs[0].deaths:
            return f"run 1 and run {seen.run + 1} differ in how their processes ended"
        if [c.verdict for c in claims] != [c.verdict for c in per_run[0]]:
            return f"run 1 and run {seen.run + 1} differ in a claim about pages"
    return ""

"""What a race of a test says: every outcome that was seen, how often, and whether the model of the kernel allows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cowcatcher.explore.claims import queries_of
from cowcatcher.litmus import cond_text
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.printer import claim_text
from cowcatcher.real.compare import ClaimResult, evaluate, holds
from cowcatcher.real.host import Observation, Seen
from cowcatcher.report.prediction import Predicted
from cowcatcher.report.record import Record


def stress_record(test: Test, seen: Observation, predicted: Predicted) -> Record:
    """One test raced on one kernel. ``verdict`` is about the claims, ``standing`` about what the model allows."""
    rows = _rows(test, seen.outcomes)
    for row in rows:
        row["allowed"] = _is_allowed(row, predicted)
        row["ordered"] = _is_ordered(row, predicted)
    unseen = [o for o in predicted.outcomes or () if not any(_like(row, o) for row in rows if not row["reason"])]
    claims = _claims(test, seen)
    record: Record = {
        "verdict": _verdict(seen, rows, claims),
        "reason": seen.reason or next((row["reason"] for row in rows if row["reason"]), ""),
        "predicted": None,
        "not_predicted": predicted.why_not if predicted.outcomes is None else "",
        "statuses": [seen.status],
        "runs": seen.made,
        "uncounted": seen.uncounted,
        "seconds": round(seen.microseconds / 1e6, 3),
        "outcomes": rows,
        "unseen": unseen,
        "modelled": None if predicted.outcomes is None else len(predicted.outcomes),
        "claims": claims,
        "stand_ins": list(seen.stand_ins),
        "notes": list(seen.notes),
    }
    return {"standing": _standing(record), **record}


def _rows(test: Test, outcomes: Sequence[Seen]) -> list[Record]:
    """The outcomes as far as the test can tell them apart, the most frequent one first."""
    names = list(dict.fromkeys(s.target for a in test.actors for s in a.body if s.target is not None))
    queries = {cond_text(q): q for c in test.claims for q in queries_of(c.cond)}
    merged: dict[str, Record] = {}
    for one in outcomes:
        seen = one.observation
        violated = [c for c in evaluate(test, seen) if c.claim.kind != "sometimes" and c.verdict == "violated"]
        row: Record = {
            "registers": {name: seen.registers.get(name) for name in names},
            "queries": {text: holds(q, test, seen)[0] for text, q in queries.items()},
            "stuck": sorted(seen.blocked),
            "deaths": {who: how for who, how in sorted(seen.deaths.items()) if how != "exit"},
            "violates": [claim_text(c.claim) for c in violated],
            "reason": seen.reason,
        }
        known = merged.setdefault(repr(row), {"count": 0, "first": one.first, **row})
        known["count"] += one.count
        known["first"] = min(known["first"], one.first)
    return sorted(merged.values(), key=lambda row: (-row["count"], row["first"]))


def _like(row: Record, outcome: Mapping[str, Any]) -> bool:
    """Is this what was seen? A question that the kernel did not answer is not held against it."""
    return (
        row["registers"] == outcome["registers"]
        and row["stuck"] == outcome["stuck"]
        and all(row["queries"][text] in (None, truth) for text, truth in outcome["queries"].items())
    )


def _is_allowed(row: Record, predicted: Predicted) -> bool | None:
    """None where the run says nothing about the kernel, or the model does not say what it allows."""
    if row["reason"] or predicted.outcomes is None:
        return None
    return any(_like(row, outcome) for outcome in predicted.outcomes)


def _is_ordered(row: Record, predicted: Predicted) -> bool:
    if predicted.registers is None or row["reason"]:
        return False
    return _like(row, {"registers": predicted.registers, "queries": predicted.queries or {}, "stuck": row["stuck"]})


def _claims(test: Test, seen: Observation) -> list[Record]:
    told = [(one.count, evaluate(test, one.observation)) for one in seen.outcomes]
    if not told:
        return []
    return [_claim([(count, results[i]) for count, results in told], seen) for i in range(len(test.claims))]


def _claim(told: Sequence[tuple[int, ClaimResult]], seen: Observation) -> Record:
    """A claim over all runs: how many bore it out, and how many went against it."""
    claim = told[0][1].claim
    counts = {word: sum(count for count, one in told if one.verdict == word) for word in ("holds", "violated")}
    unsure = seen.made - sum(counts.values())
    why = ""
    if claim.kind == "sometimes":
        verdict = "holds" if counts["holds"] else "could not tell"
        why = "" if counts["holds"] else f"not seen in {seen.made} runs"
    elif counts["violated"]:
        verdict = "violated"
    else:
        verdict = "could not tell" if unsure else "holds"
        why = next((one.why for _, one in told if one.why), "") if unsure else ""
    return {"text": claim_text(claim), "verdict": verdict, "why": why, **counts}


def _verdict(seen: Observation, rows: Sequence[Record], claims: Sequence[Record]) -> str:
    verdicts = [c["verdict"] for c in claims]
    if seen.status == "not applicable":
        return "not applicable"
    if "violated" in verdicts:
        return "violated"
    if _went_wrong(seen.status, seen.uncounted, rows) or "could not tell" in verdicts:
        return "could not tell"
    return "holds"


def _went_wrong(status: str, uncounted: int, rows: Sequence[Record]) -> bool:
    return status != "ok" or bool(uncounted) or not rows or any(row["reason"] for row in rows)


def _standing(record: Record) -> str:
    """``pass``: nothing was seen but what the model allows. What a run that went wrong would have shown is open."""
    if record["verdict"] == "not applicable":
        return "skip"
    if any(row["allowed"] is False for row in record["outcomes"]):
        return "fail"
    if _went_wrong(record["statuses"][0], record["uncounted"], record["outcomes"]):
        return "unknown"
    if record["modelled"] is None:  # the claims decide
        return {"holds": "pass", "violated": "fail"}.get(record["verdict"], "unknown")
    return "pass"

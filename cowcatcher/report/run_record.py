"""The dictionary behind ``run``: what was seen on the kernel of this machine, and what the model says of it."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.explore.ordered import Prediction
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.printer import claim_text
from cowcatcher.real.compare import Comparison
from cowcatcher.real.host import Observation
from cowcatcher.report.record import Record, document, kernel_record


def run_document(
    release: str, kernel: Kernel, repeat: int, tests: Sequence[Record], interrupted: bool = False
) -> Record:
    """``kernel`` is the modelled one that stands for ``release``."""
    standings = [t["standing"] for t in tests]
    summary = {name: standings.count(name) for name in ("pass", "fail", "unknown", "skip")}
    return document(
        "run",
        release=release,
        kernel=kernel_record(kernel) | {"summary": kernel.summary},
        repeat=repeat,
        tests=list(tests),
        interrupted=interrupted,
        summary={"tests": len(tests), **summary},
        exit=130 if interrupted else exit_status(summary),
    )


def exit_status(summary: dict[str, int]) -> int:
    """1 if the kernel did anything that the model rules out; 3 if a run went wrong, or none could be made; else 0."""
    if summary["fail"]:
        return 1
    return 3 if summary["unknown"] or not summary["pass"] else 0


def run_record(
    test: Test, runs: Sequence[Observation], found: Comparison, prediction: Prediction | None, not_predicted: str = ""
) -> Record:
    """One test; ``not_predicted`` says why there is no prediction."""
    claims = [
        {
            "text": claim_text(c.claim),
            "verdict": c.verdict.value,
            "why": c.why,
            "predicted": _claim_verdict(c.claim.kind, prediction.claims[i]) if prediction else None,
        }
        for i, c in enumerate(found.claims)
    ]
    first = runs[0] if runs else None
    record: Record = {
        "name": test.name,
        "path": test.path,
        "description": test.description,
        "verdict": found.verdict.value,
        "reason": found.reason,
        "predicted": _predicted_verdict(claims) if prediction else None,
        "not_predicted": not_predicted,
        "as_predicted": found.as_predicted,
        "allowed": found.allowed,
        "differences": list(found.differences),
        "claims": claims,
        "registers": dict(first.registers) if first else {},
        "blocked": list(first.blocked) if first else [],
        "statuses": [seen.status for seen in runs],
        "log": [
            {"actor": d.actor, "statement": d.statement, "result": d.result, "outcome": d.outcome} for d in first.log
        ]
        if first
        else [],
        "stand_ins": list(first.stand_ins) if first else [],
        "notes": list(first.notes) if first else [],
        "microseconds": [seen.microseconds for seen in runs],
    }
    return record | {"standing": _standing(record)}


def _claim_verdict(kind: str, truth: bool) -> str:
    """What the model's ordered form says of a claim: a ``sometimes`` that was not met stays open, as on a machine."""
    if kind == "sometimes":
        return "holds" if truth else "could not tell"
    return "holds" if truth == (kind == "always") else "violated"


def _predicted_verdict(claims: Sequence[Record]) -> str:
    verdicts = [c["predicted"] for c in claims]
    return next((v for v in ("violated", "could not tell") if v in verdicts), "holds")


def _standing(record: Record) -> str:
    """``pass`` if the kernel did what the model says, whatever that means for the claims; see ``record.standing``."""
    if record["verdict"] == "not applicable":
        return "skip"
    if record["allowed"] is False:
        return "fail"
    if record["verdict"] == "flaky" or any(status != "ok" for status in record["statuses"]):
        return "unknown"
    if any(_contradicts(c) for c in record["claims"]):
        return "fail"
    if record["as_predicted"] is None:
        return {"holds": "pass", "violated": "fail"}.get(record["verdict"], "unknown")
    return "pass" if record["as_predicted"] else "fail"


def _contradicts(claim: Record) -> bool:
    told = ("holds", "violated")
    return claim["verdict"] in told and claim["predicted"] in told and claim["verdict"] != claim["predicted"]

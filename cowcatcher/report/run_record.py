"""The dictionary behind ``run`` and ``report``: what each kernel was seen to do beside what its own model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.order import NoOrder
from cowcatcher.litmus.printer import claim_text
from cowcatcher.real.backends import promised
from cowcatcher.real.compare import HIDDEN_FRAMES, agrees, compare, evaluate
from cowcatcher.real.host import Observation, Page
from cowcatcher.real.lower import Facilities, NotApplicable, lower
from cowcatcher.real.recording import HOST, Header, OnKernel, Recording
from cowcatcher.report.prediction import Predicted
from cowcatcher.report.record import Record, document, exit_status
from cowcatcher.report.stress_record import stress_record

STANDINGS = ("pass", "fail", "unknown", "skip")
#: Of a test of which there is no run on that kernel: the recording ends before it.
MISSING = "missing"

#: By the model's name and the test's number.
Predictions = Mapping[tuple[str, int], Predicted]


def run_document(recording: Recording, predictions: Predictions, interrupted: bool = False) -> Record:
    """Everything that a recording says. ``interrupted``: by Ctrl-C, just now."""
    header = recording.header
    tests: list[Record] = []
    for number, test in enumerate(header.tests):
        results: list[Record] = []
        for kernel in header.kernels:
            runs = recording.runs(kernel.name, number)
            predicted = predictions.get((kernel.model["name"], number), Predicted(why_not="the model was not asked"))
            result = _missing()
            if runs:
                raced = header.options.stress is not None
                result = stress_record(test, runs[0], predicted) if raced else result_record(test, runs, predicted)
            results.append({"on": kernel.name, **result})
        tests.append({"name": test.name, "path": test.path, "description": test.description, "results": results})
    standings = [result["standing"] for test in tests for result in test["results"]]
    summary = {name: standings.count(name) for name in (*STANDINGS, MISSING)}
    missing = {kernel.name: recording.missing(kernel.name) for kernel in header.kernels}
    status = exit_status(summary)
    return document(
        "run",
        record=str(recording.path) if recording.path else None,
        made=dict(header.made),
        on=[_kernel_record(kernel, recording.machines.get(kernel.name, ())) for kernel in header.kernels],
        repeat=header.options.repeat,
        stress={"runs": header.options.stress, "seed": header.options.seed} if header.options.stress else None,
        tests=tests,
        missing={name: count for name, count in missing.items() if count},
        interrupted=interrupted,
        would_add=_would_add(header, tests),
        summary={"tests": len(tests), "results": len(standings), **summary},
        exit=130 if interrupted else 3 if status == 0 and any(missing.values()) else status,
    )


def _would_add(header: Header, tests: Sequence[Record]) -> Record:
    """How many more of this machine's results root could tell, and virtual machines could have at all."""
    here = [
        (test, result)
        for test, row in zip(header.tests, tests, strict=True)
        for kernel, result in zip(header.kernels, row["results"], strict=True)
        if kernel.name == HOST and result["standing"] != MISSING
    ]
    hidden = [r for _, r in here if HIDDEN_FRAMES in (r["reason"], *(c["why"] for c in r["claims"]))]
    limited = [r for _, r in here if r["standing"] == "skip" and "RLIMIT_MEMLOCK" in r["reason"]]
    return {
        "root": 0 if header.made.get("root") else len(hidden) + len(limited),
        "virtual_machine": sum(r["standing"] == "skip" and _fits_a_machine(t) for t, r in here)
        if len(header.kernels) == 1
        else 0,
    }


def _fits_a_machine(test: Test) -> bool:
    """Would it run in a virtual machine, as far as can be told without one?"""
    try:
        lower(test, Facilities.of_virtual(promised(None, modules=True)))
    except (NotApplicable, NoOrder):
        return False
    return True


def _kernel_record(kernel: OnKernel, machines: Sequence[Record]) -> Record:
    """``machines``: what is known of each time that it was set going."""
    last = machines[-1] if machines else {}
    return {
        "name": kernel.name,
        "release": kernel.release,
        "uname": last.get("uname", ""),
        "image": dict(kernel.image),
        "kernel": dict(kernel.model),
        "seconds": round(sum(m["seconds"] for m in machines), 3),
        "boot": last.get("boot"),
        "lost": sum(m.get("lost", 0) for m in machines),
        "log": last.get("log"),
        "problems": list(last.get("problems", ())),
    }


def _missing() -> Record:
    return {"standing": MISSING, "verdict": None, "predicted": None, "reason": "", "claims": [], "runs": 0}


def result_record(test: Test, runs: Sequence[Observation], predicted: Predicted) -> Record:
    """One test on one kernel; registers, log and pages are those of the first run."""
    found = compare(test, runs, predicted.allowed, predicted.registers)
    first = runs[0]
    claims = [
        {
            "text": claim_text(c.claim),
            "verdict": c.verdict.value,
            "why": c.why,
            "predicted": _claim_verdict(c.claim.kind, predicted.claims[i]) if predicted.claims is not None else None,
        }
        for i, c in enumerate(found.claims)
    ]
    record: Record = {
        "verdict": found.verdict.value,
        "reason": found.reason,
        "predicted": _predicted_verdict(claims) if predicted.claims is not None else None,
        "not_predicted": predicted.why_not,
        "as_predicted": found.as_predicted,
        "allowed": found.allowed,
        "differences": list(found.differences),
        "claims": claims,
        "runs": len(runs),
        "outcomes": _outcomes(test, runs, predicted),
        "registers": dict(first.registers),
        "blocked": list(first.blocked),
        "statuses": [seen.status for seen in runs],
        "log": [
            {
                "actor": d.actor,
                "statement": d.statement,
                "result": d.result,
                "outcome": d.outcome,
                "pages": [_page_record(page) for page in d.pages],
            }
            for d in first.log
        ],
        "pages": [_page_record(page) for page in first.pages],
        "pinned": [{"pin": pin, "page": page, "frame": frame} for (pin, page), frame in first.pinned.items()],
        "stand_ins": list(first.stand_ins),
        "backends": dict(first.backends),
        "notes": list(first.notes),
        "microseconds": [seen.microseconds for seen in runs],
    }
    return {"standing": _standing(record), **record}


def _page_record(page: Page) -> Record:
    return {
        "process": page.process, "mapping": page.mapping, "page": page.index, "state": page.state,
        "frame": page.pfn, "mapped": page.mapcount, "flags": page.flags,
    }  # fmt: skip


def _outcomes(test: Test, runs: Sequence[Observation], predicted: Predicted) -> list[Record]:
    """How often the runs ended how, the most frequent first. Two that differ only in frame numbers ended alike."""
    found: list[Record] = []
    for seen in runs:
        outcome = {
            "status": seen.status,
            "registers": dict(seen.registers),
            "deaths": dict(seen.deaths),
            "claims": [claim.verdict.value for claim in evaluate(test, seen)],
            "allowed": _allowed(seen, predicted),
        }
        for other in found:
            if other.items() >= outcome.items():
                other["count"] += 1
                break
        else:
            found.append({"count": 1, **outcome})
    return sorted(found, key=lambda outcome: -int(outcome["count"]))


def _allowed(seen: Observation, predicted: Predicted) -> bool | None:
    """Can the model end like this run? None if that is not known."""
    if seen.status != "ok" or predicted.registers is None:
        return None
    if agrees(predicted.registers, seen):
        return True
    return None if predicted.allowed is None else any(agrees(one, seen) for one in predicted.allowed)


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

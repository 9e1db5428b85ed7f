"""Results as dictionaries of plain values: what ``--json`` prints and what every other rendering is made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cowcatcher import __version__
from cowcatcher.explore.claims import Value
from cowcatcher.explore.program import Program
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import CheckResult, Outcome, as_expected, expectations
from cowcatcher.kernels import KERNELS, Kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.report.witness import witness_record

SCHEMA = "cowcatcher/1"

Record = dict[str, Any]


def document(command: str, **content: Any) -> Record:
    """The outermost dictionary of any command's JSON."""
    return {"schema": SCHEMA, "version": __version__, "command": command, **content}


def kernel_record(kernel: Kernel) -> Record:
    """Enough to print a result's kernel: ``place`` on the line, None beside it; ``variant_of`` if a user changed it."""
    variant_of = None if kernel.name in KERNELS else kernel.base
    return {"name": kernel.name, "place": kernel.place, "variant_of": variant_of}


def test_record(test: Test, results: Sequence[Record]) -> Record:
    return {
        "name": test.name,
        "path": test.path,
        "description": test.description,
        "sources": list(test.sources),
        "results": list(results),
    }


def result_record(result: CheckResult, program: Program | None) -> Record:
    """One test on one kernel. ``program`` is what was explored; None if the test is not applicable."""
    return {
        "kernel": result.kernel.name,
        "verdict": result.verdict.value,
        "expected": [{"verdict": e.verdict, "check": e.check} for e in expectations(result.test, result.kernel)],
        "as_expected": as_expected(result),
        "violations": [
            {
                "kind": v.kind,
                "name": v.name,
                "text": v.text,
                "depth": len(v.witness),
                "witness": witness_record(program, v.witness) if program else [],
            }
            for v in result.violations
        ],
        "vacuous": list(result.vacuous),
        "reason": result.reason,
        "outcomes": [outcome_record(o) for o in result.outcomes],
        "states": result.states,
        "transitions": result.transitions,
        "depth": result.depth,
        "finals": result.finals,
        "seconds": round(result.seconds, 6),
        "same_as": result.same_as or None,
        "engine": result.engine,
        "chance_of_a_miss": result.chance_of_a_miss,
        "reduced": result.reduced,
    }


def outcome_record(outcome: Outcome) -> Record:
    registers: dict[str, Value] = dict(outcome.registers)
    return {
        "registers": registers,
        "queries": dict(outcome.queries),
        "stuck": list(outcome.stuck),
        "states": outcome.states,
        "good": outcome.good,
    }


def limits_record(limits: Limits) -> Record:
    return {
        "states": limits.states,
        "compiled_states": limits.compiled_states,
        "seconds": limits.seconds,
        "memory": limits.memory,
    }


def check_document(
    tests: Sequence[Record], kernels: Iterable[Kernel], limits: Limits, interrupted: bool = False
) -> Record:
    """Everything that one run of ``check`` found. ``kernels`` are those of any test, in the order of columns."""
    summary = _summary(tests)
    return document(
        "check",
        limits=limits_record(limits),
        kernels=[kernel_record(k) for k in kernels],
        tests=list(tests),
        interrupted=interrupted,
        summary=summary,
        exit=130 if interrupted else exit_status(summary),
    )


def standing(result: Record) -> str:
    """What a result means for its test: ``pass``, ``fail``, ``unknown`` or ``skip``.

    A verdict is no test result: ``violated`` passes where it is expected, and ``holds`` fails where it is not.
    """
    if result["verdict"] == "could not tell":
        return "unknown"
    if result["verdict"] == "not applicable":
        return "skip"
    if result["as_expected"] is None:
        return "pass" if result["verdict"] == "holds" else "fail"
    return "pass" if result["as_expected"] else "fail"


def vacuous(result: Record) -> bool:
    """Did it hold without having been put to the test? What is violated was."""
    return result["verdict"] == "holds" and bool(result["vacuous"])


def _summary(tests: Sequence[Record]) -> Record:
    results = [r for t in tests for r in t["results"]]
    standings = [standing(r) for r in results]
    return {
        "tests": len(tests),
        "results": len(results),
        **{name: standings.count(name) for name in ("pass", "fail", "unknown", "skip")},
        "vacuous": sum(1 for r in results if vacuous(r)),
    }


def exit_status(summary: Record) -> int:
    """1 if anything failed; else 3 if anything could not be told, or nothing at all could be checked; else 0."""
    if summary["fail"]:
        return 1
    return 3 if summary["unknown"] or not summary["pass"] else 0

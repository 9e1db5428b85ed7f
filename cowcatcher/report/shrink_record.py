"""The dictionary behind ``shrink``: what was kept, what it took, the test that is left, and the controls."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.explore.calmest import calmest
from cowcatcher.explore.program import compile_test
from cowcatcher.explore.same import Needed, StillViolated
from cowcatcher.explore.shrink import Shrunk, Size, size_of
from cowcatcher.explore.verdict import CheckResult, Verdict
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.printer import claim_text, statement_text, to_text
from cowcatcher.report.record import Record, document, kernel_record
from cowcatcher.report.witness import witness_record


def shrink_document(
    original: Test,
    found: Shrunk,
    test: Test,
    keeps: StillViolated,
    rerun: CheckResult,
    control: CheckResult,
    needed: Sequence[Needed],
) -> Record:
    """``test`` is what is left; ``rerun`` its result on the kernel, ``control`` that of it without any statement."""
    kept = keeps.violation
    violation = next((v for v in rerun.violations if (v.kind, v.name) == (kept.kind, kept.name)), None)
    program = compile_test(test)
    witness = calmest(program, keeps.kernel, violation).witness if violation else ()
    reproduced = violation is not None
    return document(
        "shrink",
        test=original.name,
        path=original.path,
        kernel=kernel_record(keeps.kernel),
        kept={"kind": kept.kind, "name": kept.name, "text": kept.text},
        left=claim_text(test.claims[0]) if kept.kind == "claim" else kept.text,
        holds_on=[k.name for k in keeps.holds_on],
        before=_size_record(size_of(original)),
        after=_size_record(size_of(test)),
        tried=found.tried,
        accepted=found.accepted,
        skipped=found.skipped,
        unsure=keeps.unsure,
        not_applicable=keeps.not_applicable,
        minimal=found.minimal,
        reproduced=reproduced,
        control={"verdict": control.verdict.value, "violations": [v.name for v in control.violations]},
        needed=[
            {
                "actor": n.actor,
                "statement": statement_text(n.statement),
                "kernel": n.kernel.name,
                "verdict": n.verdict.value,
            }
            for n in needed
        ],
        states=rerun.states,
        engine=rerun.engine,
        chance_of_a_miss=rerun.chance_of_a_miss,
        depth=len(witness),
        witness=witness_record(program, witness),
        text=to_text(test),
        interrupted=not found.minimal,
        exit=130 if not found.minimal else 0 if reproduced and control.verdict is Verdict.HOLDS else 1,
    )


def _size_record(size: Size) -> Record:
    return {"statements": size.statements, "processes": size.processes, "pages": size.pages}

"""Show the shortest way to a violation, step by step, and name the decision at fault.

One column for each actor, time runs downwards; each step stands for one critical section and carries the name of the
kernel function. Of several ways that are as short, it is the one with the fewest changes of actor. Below it, who
decided what, which commit brought that decision, and which one cures it. If the test holds, the report says which
decisions that rests on.

Examples:
  cowcatcher explain rdma_fork_write.cow --kernel v5.9-rc4
  cowcatcher explain rdma_fork_write.cow --kernel v5.9-rc4 --check always --full
  cowcatcher explain rdma_fork_write.cow --kernel v5.9           why it holds
  cowcatcher explain rdma_fork_write.cow --kernel v5.9 --decision my_patch.py

Exit status: 0 if there was something to explain; 3 if the verdict could not be told or the test is not applicable.
"""

from __future__ import annotations

import argparse

from cowcatcher.cli import engines, inputs, screen
from cowcatcher.cli.parser import FINE, UNSURE, Problem, add_limits
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict, Violation


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("test", metavar="TEST", help="a file, a built-in test, or -")
    parser.add_argument(
        "--kernel", "-k", required=True, metavar="KERNEL", help="one kernel: v5.9-rc4, 6.8, v5.10.y, ..."
    )
    inputs.add_decision_option(parser)
    parser.add_argument(
        "--check", metavar="NAME", help="what to explain: always, never, sometimes, coherent, isolated, alive, balanced"
    )
    parser.add_argument("--full", action="store_true", help="every step, every change, every question")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    add_limits(parser)
    engines.add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    from cowcatcher.explore.bisect import cures
    from cowcatcher.explore.calmest import calmest
    from cowcatcher.explore.guards import guards, nearest
    from cowcatcher.explore.trace import initial_picture, trace
    from cowcatcher.report.explain_record import explain_document

    test = inputs.one_test([args.test])
    kernel = inputs.one_kernel(args.kernel, inputs.decisions_from(args.decision))
    limits = inputs.limits_of(args)
    search = engines.search_of(args)
    checker = Checker(test, limits, search)
    result = checker.check(kernel)
    violation = _wanted(result, args.check)
    program = checker.program
    if program and violation:
        violation = calmest(program, kernel, violation)
    holds = result.verdict is Verdict.HOLDS
    doc = explain_document(
        result,
        violation,
        initial_picture(program, kernel) if program else {},
        trace(program, kernel, violation.witness) if program and violation else [],
        cures(test, kernel, limits, search),
        guards(test, kernel, limits, search),
        nearest(test, kernel, Verdict.VIOLATED if holds else Verdict.HOLDS, limits, search)
        if violation or holds
        else None,
    )
    if args.json:
        screen.write_json(doc)
    else:
        from cowcatcher.report.explain_text import explain_text

        screen.write(explain_text(doc, screen.style_of(args), args.full))
    return FINE if violation or holds else UNSURE


def _wanted(result: CheckResult, name: str | None) -> Violation | None:
    """The violation asked for; by default the one with the shortest witness, one without any being the last choice."""
    if name is None:
        return min(result.violations, key=lambda v: (not v.witness, len(v.witness)), default=None)
    for violation in result.violations:
        if violation.name == name:
            return violation
    if not result.violations:
        return None
    there = ", ".join(v.name for v in result.violations)
    raise Problem(f"'{name}' is not violated by {result.test.name} on {result.kernel.name}; violated: {there}")

"""Make a test smaller, as long as it is violated in the same way.

Taken out or made simpler: actors, statements, events, mappings, pages, cells, claims; threads become their processes,
interfaces the plain pins that they take, flags weaker, memory plain, values small. What is kept is that the same
standing check or the same claim is violated on the kernel, and that the test still holds on the kernels of --holds-on.
Nothing can be taken from the result alone, which is run once more, and so is the same test with no statement at all.

A claim alone is soon violated by nothing, as by a device that reads too early. So where a claim is to stay violated,
the test is to hold on the nearest kernel on which it does, unless --holds-on says otherwise.

What is printed is a test: the report stands in its comments.

Examples:
  cowcatcher shrink rdma_long_lived --kernel v5.9-rc4
  cowcatcher shrink my_test.cow --kernel v5.18 --holds-on v5.19 -o small.cow
  cowcatcher shrink vmsplice_child --kernel v5.7 --claim 1 --json

Exit status: 0 if the test was made as small as it gets, or was so already; 1 if the result says nothing, since it is
violated even with no statement; 2 if the test is not violated on the kernel, or does not hold where it is to; 3 if that
could not be told; 130 if it was interrupted: the smallest test so far was printed.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

from cowcatcher.cli import engines, inputs, screen
from cowcatcher.cli.parser import UNSURE, Problem, add_limits, positive
from cowcatcher.explore.same import StillViolated, by_rule, empty, expecting, focused, needed
from cowcatcher.explore.search import Limits, Searcher
from cowcatcher.explore.shrink import Shrunk, shrink, size_of
from cowcatcher.explore.verdict import Checker, CheckResult, Verdict, Violation
from cowcatcher.kernels import Kernel, select
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.printer import claim_text
from cowcatcher.litmus.statements import CHECKS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("test", metavar="TEST", help="a file, a built-in test, or -")
    parser.add_argument("--kernel", "-k", required=True, metavar="KERNEL", help="one kernel, on which it is violated")
    inputs.add_decision_option(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", choices=CHECKS, metavar="NAME", help=f"keep this standing check violated: {', '.join(CHECKS)}"
    )
    what.add_argument(
        "--claim",
        type=positive,
        metavar="N",
        help="keep the N-th claim violated (default: what is violated first)",
    )
    parser.add_argument(
        "--holds-on", action="append", default=[], metavar="RANGE",
        help="kernels on which it must go on holding (default: none; for a claim the nearest where it does)",
    )  # fmt: skip
    parser.add_argument("--output", "-o", metavar="FILE", help="write the test there, named after the file")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    add_limits(parser)
    engines.add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    from cowcatcher.report.shrink_record import shrink_document

    original = inputs.one_test([args.test])
    test = _as_called(original, args.output)
    kernel = inputs.one_kernel(args.kernel, inputs.decisions_from(args.decision))
    limits = inputs.limits_of(args)
    search = engines.search_of(args)
    violation = _wanted(test, Checker(test, limits, search).check(kernel), args)
    focus = focused(test, violation)
    holds_on = _holds_on(focus, violation, kernel, args.holds_on, limits, search)
    keeps = StillViolated(violation, kernel, holds_on, limits, search)
    _must_hold(focus, keeps)
    found = _shrink(focus, keeps)
    result = expecting(found.test, keeps, original.name)
    doc = shrink_document(
        original, found, result, keeps, keeps.rerun(result), Checker(empty(result), limits).check(kernel),
        needed(result, keeps) if found.minimal else [],
    )  # fmt: skip
    _show(doc, args)
    status: int = doc["exit"]
    return status


def _show(doc: dict[str, object], args: argparse.Namespace) -> None:
    from cowcatcher.report.shrink_text import shrink_report, shrink_text

    if args.output:
        try:
            Path(args.output).write_text(shrink_text(doc), encoding="ascii")
        except OSError as error:
            raise Problem(f"{args.output}: cannot be written: {error.strerror}") from error
    if args.json:
        screen.write_json(doc)
    else:
        screen.write(shrink_report(doc, screen.style_of(args)) if args.output else shrink_text(doc))


def _as_called(test: Test, output: str | None) -> Test:
    """A file's test is called like the file."""
    if output is None:
        return test
    path = Path(output)
    if path.suffix != ".cow" or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{,63}", path.stem):
        raise Problem(f"--output {output}: a test stands in a file called NAME.cow, NAME being letters, digits and _")
    return replace(test, name=path.stem)


def _wanted(test: Test, result: CheckResult, args: argparse.Namespace) -> Violation:
    """The violation to keep: the one that is named, or the one with the shortest witness."""
    where = f"{test.name} on {result.kernel.name}"
    if result.verdict in (Verdict.UNKNOWN, Verdict.NOT_APPLICABLE):
        raise Problem(f"{where}: {result.verdict.value}: {result.reason}", UNSURE)
    if not result.violations:
        raise Problem(f"{where}: holds, so there is no violation to keep; 'cowcatcher check' tells where there is one")
    found = list(result.violations)
    named = ""
    if args.check:
        named, found = args.check, [v for v in found if v.kind == "check" and v.name == args.check]
    elif args.claim:
        if args.claim > len(test.claims):
            raise Problem(f"--claim {args.claim}: {test.name} has {len(test.claims)}")
        named = claim_text(test.claims[args.claim - 1])
        found = [v for v in found if v.text == named]
    if not found:
        raise Problem(f"{where}: '{named}' is not violated; violated: {', '.join(v.name for v in result.violations)}")
    return min(found, key=lambda v: (not v.witness, len(v.witness)))


def _holds_on(
    test: Test, violation: Violation, kernel: Kernel, named: list[str], limits: Limits, search: Searcher
) -> tuple[Kernel, ...]:
    from cowcatcher.explore.guards import nearest

    if named:
        return tuple({k.name: k for text in named if text != "none" for k in select(text)}.values())
    near = nearest(test, kernel, Verdict.HOLDS, limits, search) if violation.kind == "claim" else None
    return () if near is None else (near.kernel,)


def _must_hold(test: Test, keeps: StillViolated) -> None:
    other = keeps.first_that_differs(test)
    if other is None:
        return
    unsure = other.verdict is not Verdict.VIOLATED
    failing = other.reason if unsure else ", ".join(v.name for v in other.violations)
    raise Problem(f"--holds-on {other.kernel.name}: {other.verdict.value} there ({failing})", UNSURE if unsure else 2)


def _shrink(test: Test, keeps: StillViolated) -> Shrunk:
    progress = screen.Progress()

    def show(found: Shrunk) -> None:
        left = size_of(found.test).statements
        progress.show(f"{found.tried} candidates tried, {found.accepted} accepted, {left} statements left")

    found = shrink(test, keeps, by_rule=by_rule(keeps.kernel), progress=show)
    progress.clear()
    return found

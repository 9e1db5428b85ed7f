"""Find the decision, hence the commit, that changes a test's verdict.

The test is checked on one kernel after another. Where the verdict changes, the new kernel's decisions are tried on the
old one, alone, in pairs and so on: the smallest set that changes the verdict by itself is reported, with its commits.

Examples:
  cowcatcher bisect rdma_fork_write.cow
  cowcatcher bisect rdma_fork_write.cow --kernel v5.9..v6.0
  cowcatcher bisect rdma_fork_write.cow --kernel v5.9-rc4 --decision my_patch.py    what does my patch change?

Exit status: 0 if every verdict could be told; 3 if one could not, or none; whether anything changed does not matter.
"""

from __future__ import annotations

import argparse

from cowcatcher.cli import engines, inputs, screen
from cowcatcher.cli.parser import FINE, UNSURE, add_limits
from cowcatcher.kernels import LINE, select


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("test", metavar="TEST", help="a file, a built-in test, or -")
    parser.add_argument(
        "--kernel", "-k", metavar="RANGE", help="kernels, compared in this order (default: the line, oldest first)"
    )
    inputs.add_decision_option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    add_limits(parser)
    engines.add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    from cowcatcher.explore.bisect import bisect
    from cowcatcher.explore.verdict import Verdict, check_all
    from cowcatcher.report.bisect_text import bisect_document, bisect_text

    test = inputs.one_test([args.test])
    decisions = inputs.decisions_from(args.decision)
    chosen = select(args.kernel) if args.kernel else LINE
    kernels = [*chosen, *([chosen[-1].with_decisions(*decisions)] if decisions else [])]
    limits = inputs.limits_of(args)
    search = engines.search_of(args)
    results = check_all(test, kernels, limits, search=search)
    doc = bisect_document(test, kernels, results, bisect(test, kernels, limits, search))
    if args.json:
        screen.write_json(doc)
    else:
        screen.write(bisect_text(doc, screen.style_of(args)))
    told = [r for r in results if r.verdict in (Verdict.HOLDS, Verdict.VIOLATED)]
    return FINE if told and not any(r.verdict is Verdict.UNKNOWN for r in results) else UNSURE

"""Check tests on modelled kernels: every interleaving, every claim, every standing check.

TESTS are files, directories, names of built-in tests or groups, or - for standard input. One test on one kernel gives
the whole story: verdict, shortest witness, every outcome. One test on several kernels gives a line for each group of
kernels that came out alike. Several tests give a matrix.

A test with very many states is searched by compiled code, if numba is installed; on standard error it is said when.

Examples:
  cowcatcher check rdma_fork_write.cow
  cowcatcher check rdma_fork_write.cow --kernel v5.9-rc4
  cowcatcher check tests/ --kernel v5.19.. --ktap
  cowcatcher check tests/ --decision my_patch.py --json
  cowcatcher check large.cow --engine compiled --exact --max-memory 12G

Exit status: 0 if every verdict is as expected, or 'holds' where the test expects nothing; 1 if any is not; else 3 if
any could not be told, or if nothing could be checked at all; 2 if a test or an argument is wrong: then nothing is
checked. A vacuous 'holds' is marked and counts as holding; a test that is not applicable does not count.
"""

from __future__ import annotations

import argparse

from cowcatcher.cli import checking, engines, inputs, screen
from cowcatcher.cli.parser import add_limits, positive


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tests", nargs="+", metavar="TESTS", help="files, directories, built-in tests or groups")
    inputs.add_kernel_options(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document")
    form.add_argument("--ktap", action="store_true", help="KTAP, as the kernel's own tests print it")
    parser.add_argument("--outcomes", action="store_true", help="show every outcome of every test")
    parser.add_argument("--jobs", "-j", type=positive, metavar="N", help="processes for long work (default: one a CPU)")
    add_limits(parser)
    engines.add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    tests = inputs.load_tests(args.tests)
    decisions = inputs.decisions_from(args.decision)
    work = [(test, inputs.kernels_for(test, args.kernel, decisions)) for test in tests]
    doc = checking.check_work(work, inputs.limits_of(args), args.jobs, engines.search_of(args))
    if args.json:
        screen.write_json(doc)
    elif args.ktap:
        from cowcatcher.report.check_ktap import check_ktap

        screen.write(check_ktap(doc))
    else:
        from cowcatcher.report.check_text import check_text

        screen.write(check_text(doc, screen.style_of(args), args.outcomes))
    status: int = doc["exit"]
    return status

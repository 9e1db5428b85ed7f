"""Run tests on the kernel of this machine, and compare what was seen with what the model predicts for it.

A test is run in its ordered form: one actor at a time, each statement to its end. Real memory, real processes, real
pins (io_uring, vmsplice, O_DIRECT and others; a stand-in is named where an interface needs hardware). The result of a
test is not its verdict: a test passes if the kernel does what the model of that kernel does, be it to violate the
claims.

Examples:
  cowcatcher run seed
  cowcatcher run rdma_fork_wait.cow                 one test: every statement as it was executed
  cowcatcher run all --repeat 10 --ktap

Exit status: 0 if every test that could be run came out as the model says; 1 if one did not, or was violated with no
prediction to go by; else 3 if a run crashed, timed out or was flaky, or if nothing could be run ('cowcatcher doctor'
says what is missing).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from cowcatcher.cli import inputs, screen
from cowcatcher.cli.parser import UNSURE, Problem, positive, seconds
from cowcatcher.kernels import Kernel, kernel_of_release
from cowcatcher.litmus.ast import Test
from cowcatcher.report.record import Record


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tests", nargs="+", metavar="TESTS", help="files, directories, built-in tests or groups")
    parser.add_argument("--repeat", "-n", type=positive, default=1, metavar="N", help="runs of each test (default: 1)")
    parser.add_argument("--timeout", type=seconds, default=10.0, metavar="S", help="seconds for one run (default: 10)")
    parser.add_argument(
        "--kernel", "-k", metavar="KERNEL", help="the modelled kernel to compare with (default: by uname -r)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document")
    form.add_argument("--ktap", action="store_true", help="KTAP, as the kernel's own tests print it")


def run(args: argparse.Namespace) -> int:
    from cowcatcher.report.run_record import run_document
    from cowcatcher.report.run_text import run_ktap, run_text

    tests = inputs.load_tests(args.tests)
    release = os.uname().release
    kernel = inputs.one_kernel(args.kernel, ()) if args.kernel else kernel_of_release(release, os.uname().version)
    records, interrupted = _run_all(tests, kernel, args)
    doc = run_document(release, kernel, args.repeat, records, interrupted)
    if args.json:
        screen.write_json(doc)
    else:
        screen.write(run_ktap(doc) if args.ktap else run_text(doc, screen.style_of(args)))
    status: int = doc["exit"]
    return status


def _run_all(tests: Sequence[Test], kernel: Kernel, args: argparse.Namespace) -> tuple[list[Record], bool]:
    """The records, and whether Ctrl-C cut them short."""
    from cowcatcher.real.build import BuildError
    from cowcatcher.real.host import AgentError

    progress = screen.Progress()
    records: list[Record] = []
    try:
        for number, test in enumerate(tests, 1):
            progress.show(f"{number}/{len(tests)} {test.name}")
            records.append(_run_one(test, kernel, args))
    except KeyboardInterrupt:
        return records, True
    except (BuildError, AgentError) as error:
        raise Problem(f"{error}\nTry 'cowcatcher doctor'.", UNSURE) from error
    finally:
        progress.clear()
    return records, False


def _run_one(test: Test, kernel: Kernel, args: argparse.Namespace) -> Record:
    from cowcatcher.real.compare import compare
    from cowcatcher.real.host import run_host
    from cowcatcher.report.prediction import prediction_for
    from cowcatcher.report.run_record import run_record

    runs = run_host([test], timeout=args.timeout, repeat=args.repeat)
    predicted = prediction_for(test, kernel)
    found = compare(test, runs, predicted.allowed, predicted.registers)
    return run_record(test, runs, found, predicted.prediction, predicted.why_not)

"""Run tests on the kernel of this machine, or on others in virtual machines, and compare with what the model predicts.

A test is run in its ordered form: one actor at a time, each statement to its end. Real memory, real processes, real
pins (io_uring, vmsplice, O_DIRECT and others; a stand-in is named where an interface needs hardware). The result of a
test is not its verdict: a test passes if the kernel does what the model of that kernel does, be it to violate the
claims.

With --on, kernels that 'cowcatcher kernels install' has fetched are booted under QEMU (qemu-system-x86_64), several at
once where cores and memory allow, and each is compared with the model of its own release. A virtual machine that is
lost is no failed test: what it was at could not be told, and another one does the rest.

Examples:
  cowcatcher run seed
  cowcatcher run rdma_fork_wait.cow                 one test: every statement as it was executed
  cowcatcher run all --repeat 10 --ktap
  cowcatcher run seed --on host,5.10,6.1,7.3        a table: tests x kernels
  cowcatcher run all --on all --json                this kernel and every installed one

Exit status: 0 if every test that could be run came out as the model says; 1 if one did not, or was violated with no
prediction to go by; else 3 if a run crashed, timed out or was flaky, or if nothing could be run ('cowcatcher doctor'
says what is missing).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cowcatcher.cli import inputs, screen
from cowcatcher.cli.parser import UNSURE, Problem, positive, seconds
from cowcatcher.kernels import Kernel, kernel_of_release
from cowcatcher.litmus.ast import Test
from cowcatcher.report.record import Record

if TYPE_CHECKING:
    from cowcatcher.real.host import Observation
    from cowcatcher.real.images import KernelImage
    from cowcatcher.real.vm import Report


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tests", nargs="+", metavar="TESTS", help="files, directories, built-in tests or groups")
    parser.add_argument("--repeat", "-n", type=positive, default=1, metavar="N", help="runs of each test (default: 1)")
    parser.add_argument("--timeout", type=seconds, default=10.0, metavar="S", help="seconds for one run (default: 10)")
    parser.add_argument(
        "--kernel", "-k", metavar="KERNEL", help="the modelled kernel to compare with (default: by uname -r)"
    )
    parser.add_argument(
        "--on", default="host", metavar="KERNELS",
        help="host (default), names of installed kernels such as 5.10,7.3, or all: host and every installed one",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document")
    form.add_argument("--ktap", action="store_true", help="KTAP, as the kernel's own tests print it")


def run(args: argparse.Namespace) -> int:
    from cowcatcher.report.run_record import run_document
    from cowcatcher.report.run_text import run_ktap, run_text

    tests = inputs.load_tests(args.tests)
    if args.on != "host":
        return _run_on(tests, args)
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
    from cowcatcher.real.host import run_host

    return _judge(test, kernel, run_host([test], timeout=args.timeout, repeat=args.repeat))


def _judge(test: Test, kernel: Kernel, runs: Sequence[Observation]) -> Record:
    from cowcatcher.real.compare import compare
    from cowcatcher.report.prediction import prediction_for
    from cowcatcher.report.run_record import run_record

    predicted = prediction_for(test, kernel)
    found = compare(test, runs, predicted.allowed, predicted.registers)
    return run_record(test, runs, found, predicted.prediction, predicted.why_not)


# --- several kernels --------------------------------------------------------------------------------------------------


def _run_on(tests: Sequence[Test], args: argparse.Namespace) -> int:
    from cowcatcher.report.run_table import table_document, table_ktap, table_text

    if args.kernel:
        raise Problem(
            "--kernel names the model of one kernel; with --on, each is compared with that of its own release"
        )
    host, images = _named(args.on)
    columns, interrupted = _columns(tests, host, images, args)
    order = ["host", *(image.name for image in images)]
    columns.sort(key=lambda column: order.index(column[0]["name"]))
    rows = [[records[i] for _, records in columns] for i in range(len(tests))] if columns else []
    doc = table_document([about for about, _ in columns], rows, args.repeat, interrupted)
    if args.json:
        screen.write_json(doc)
    else:
        screen.write(table_ktap(doc) if args.ktap else table_text(doc, screen.style_of(args)))
    status: int = doc["exit"]
    return status


def _named(words: str) -> tuple[bool, list[KernelImage]]:
    """Whether the kernel of this machine is among them, and the others, each once."""
    from cowcatcher.real import images

    host = False
    found: dict[str, KernelImage] = {}
    for word in words.split(","):
        name = word.strip()
        if name in ("host", "all"):
            host = True
        if name == "all":
            there = images.installed()
            if not there:
                raise Problem("no kernel is installed; 'cowcatcher kernels install all' fetches eight", UNSURE)
            found.update({image.name: image for image in there})
        elif name != "host":
            try:
                found[name] = images.image(name)
            except images.ImageError as error:
                raise Problem(f"--on: {error}") from error
    return host, list(found.values())


def _columns(
    tests: Sequence[Test], host: bool, images: Sequence[KernelImage], args: argparse.Namespace
) -> tuple[list[tuple[Record, list[Record]]], bool]:
    """What there is to tell about each kernel and its tests' records; whether Ctrl-C cut that short."""
    import time

    from cowcatcher.real.build import BuildError
    from cowcatcher.real.host import AgentError, run_host
    from cowcatcher.real.images import ImageError
    from cowcatcher.real.qemu import VmError
    from cowcatcher.real.vm import run_vms, version_of
    from cowcatcher.report.run_table import column_record

    models = {image.name: kernel_of_release(version_of(image)) for image in images}
    columns: list[tuple[Record, list[Record]]] = []
    progress = screen.Progress()

    def judged(kernel: Kernel, runs: Sequence[Observation]) -> list[Record]:
        return [_judge(t, kernel, runs[i * args.repeat : (i + 1) * args.repeat]) for i, t in enumerate(tests)]

    def finished(image: KernelImage, report: Report) -> None:
        about = column_record(
            image.name, version_of(image), models[image.name], report.seconds,
            uname=report.release, boot=round(report.boot, 3), lost=report.lost,
            log=str(report.log), problems=list(report.problems),
        )  # fmt: skip
        columns.append((about, judged(models[image.name], report.observations)))
        progress.show(f"{len(columns)}/{len(images) + host} kernels; {image.name} is done")

    try:
        if host:
            progress.show(f"0/{len(images) + 1} kernels")
            began, release = time.monotonic(), os.uname().release
            kernel = kernel_of_release(release)
            runs = run_host(tests, timeout=args.timeout, repeat=args.repeat)
            columns.append((column_record("host", release, kernel, time.monotonic() - began), judged(kernel, runs)))
        run_vms(tests, images, timeout=args.timeout, repeat=args.repeat, finished=finished)
    except KeyboardInterrupt:
        return columns, True
    except (BuildError, AgentError, VmError, ImageError) as error:
        raise Problem(f"{error}\nTry 'cowcatcher doctor'.", UNSURE) from error
    finally:
        progress.clear()
    return columns, False

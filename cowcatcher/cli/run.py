"""Run tests on the kernel of this machine, or on others in virtual machines, and compare with what the model predicts.

A test is run in its ordered form: one actor at a time, each statement to its end. Real memory, real processes, real
pins (io_uring, vmsplice, O_DIRECT and others; a stand-in is named where an interface needs hardware). The result of a
test is not its verdict: a test passes if the kernel does what the model of that kernel does, be it to violate the
claims.

With --stress, a test is not run in order but raced, many times: every actor executes its statements by itself, with
random delays. All outcomes are shown with how often they were seen; a test passes if the model allows each of them.

With --on, kernels that 'cowcatcher kernels install' has fetched are booted under QEMU (qemu-system-x86_64), several at
once where cores and memory allow, and each is compared with the model of its own release. A virtual machine that is
lost is no failed test: what it was at could not be told, and another one does the rest. NAME+CONTROL is a kernel of
'cowcatcher kernels build' that breaks one rule, compared with the model that breaks it, too.

A run is recorded as it goes, in a file of its own; whatever ends it, 'run --resume' goes on with what is missing, and
'cowcatcher report' shows it again.

Examples:
  cowcatcher run seed
  cowcatcher run rdma_fork_wait.cow                 one test: every statement as it was executed
  cowcatcher run all --repeat 10 --ktap
  cowcatcher run torn_snapshot --stress 5000        a histogram of outcomes
  cowcatcher run seed --on host,5.10,6.1,7.3        a table: tests x kernels
  cowcatcher run all --on all --record run.jsonl    this kernel and every installed one
  cowcatcher run --resume run.jsonl
  cowcatcher run seed --on 6.1 --trace --deterministic    the same frames each time
  cowcatcher run seed --on 7.3-controls,7.3-controls+fork-ignores-pins

Exit status: 0 if every test that could be run came out as the model says; 1 if one did not, or was violated with no
prediction to go by; else 3 if a run crashed, timed out or was flaky, or if nothing could be run ('cowcatcher doctor'
says what is missing); 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Final

from cowcatcher.cli import inputs, report, screen
from cowcatcher.cli.parser import FAILED, UNSURE, Problem, memory, positive, seconds
from cowcatcher.real.qemu import MEMORY

#: Nanoseconds that an instruction takes where they are counted, as a power of 2.
SHIFT: Final = 3
MOST_SHIFT: Final = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tests", nargs="*", metavar="TESTS", help="files, directories, built-in tests or groups")
    parser.add_argument(
        "--on", metavar="KERNELS",
        help="host (default), names of installed kernels such as 5.10,7.3, or all: host and every installed one",
    )  # fmt: skip
    options = parser.add_argument_group("how tests are run", "recorded, and the same in a run that is resumed")
    options.add_argument("--repeat", "-n", type=positive, metavar="N", help="runs of each test (default: 1)")
    options.add_argument(
        "--stress", type=positive, nargs="?", const=1000, metavar="N",
        help="race each test N times instead, every actor by itself (default: 1000); see docs/stress.md",
    )  # fmt: skip
    options.add_argument("--seed", type=int, metavar="S", help="chooses the delays of --stress (default: 1)")
    options.add_argument("--timeout", type=seconds, metavar="S", help="seconds for one run (default: 10)")
    options.add_argument("--trace", action="store_true", default=None, help="note the pages after every step")
    options.add_argument(
        "--device", metavar="NAMES",
        help="what takes pins where there is a choice, such as vfio or uring,xdp ('cowcatcher doctor' lists them)",
    )  # fmt: skip
    options.add_argument(
        "--kernel", "-k", metavar="KERNEL", dest="model",
        help="the modelled kernel to compare with (default: by uname -r)",
    )  # fmt: skip
    machine = parser.add_argument_group("virtual machines", "recorded, too")
    machine.add_argument("--smp", type=positive, metavar="N", help="processors of each (default: 1)")
    machine.add_argument(
        "--memory",
        type=memory,
        metavar="SIZE",
        help=f"of each (default: {MEMORY}M; some kernels do not start with less than 128M)",
    )
    machine.add_argument(
        "--deterministic", type=shift, nargs="?", const=SHIFT, metavar="SHIFT",
        help=f"count instructions, 2^SHIFT ns each (default: {SHIFT}): runs repeat byte for byte, frame numbers "
        "included; another SHIFT, another interleaving of interrupts",
    )  # fmt: skip
    files = parser.add_argument_group("recording").add_mutually_exclusive_group()
    files.add_argument("--record", metavar="FILE", help="where to (default: a new file that 'report --list' names)")
    files.add_argument("--resume", metavar="FILE", help="go on with a run that was interrupted, as it was begun")
    report.add_form(parser)


def shift(text: str) -> int:
    if not text.isdigit() or int(text) > MOST_SHIFT:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to {MOST_SHIFT} is wanted, not '{text}'")
    return int(text)


def run(args: argparse.Namespace) -> int:
    from cowcatcher.cli import running
    from cowcatcher.real.build import BuildError
    from cowcatcher.real.host import AgentError
    from cowcatcher.real.images import ImageError
    from cowcatcher.real.qemu import VmError
    from cowcatcher.real.recording import HOST, Options, RecordingError
    from cowcatcher.report.run_record import run_document

    given = {f.name: value for f in fields(Options) if (value := getattr(args, f.name)) is not None}
    if args.resume:
        if args.tests or args.on or given:
            raise Problem("--resume FILE takes tests, kernels and options from the file; none can be given beside it")
        recorder, on = running.resume(args.resume)
    else:
        if args.stress and (args.repeat or args.trace):
            raise Problem(
                "--stress says how many runs there are, and looks at pages at their end: no --repeat, no --trace"
            )
        if args.seed is not None and (args.seed < 0 or not args.stress):
            raise Problem("--seed: a whole number that is not negative, for --stress")
        if not args.tests:
            raise Problem("run: name tests, a group such as 'seed', or 'all'\nTry 'cowcatcher run --help'.")
        if args.device is not None:
            given["device"] = inputs.backends(args.device)
        options = Options(**given)
        tests, on = inputs.load_tests(args.tests), running.targets(args.on or HOST, options)
        recorder = running.start(tests, on, options, args.record)
    interrupted, problem = False, ""
    with recorder:
        try:
            running.carry_out(recorder, on)
        except KeyboardInterrupt:
            interrupted = True
            recorder.reread()
        except (BuildError, AgentError, VmError, ImageError, RecordingError) as error:
            problem = f"{error}\nTry 'cowcatcher doctor'."
            if not recorder.recording.seen:
                recorder.discard()
                raise Problem(problem, UNSURE) from error
        except Exception:  # a mistake of ours: what was seen is not lost with it
            if recorder.recording.path:
                screen.warn(f"what was seen until then is recorded: cowcatcher report {recorder.recording.path}")
            raise
        predictions = running.predictions(recorder.recording, None if problem else recorder)
    status = report.show(run_document(recorder.recording, predictions, interrupted), args)
    if problem:
        raise Problem(problem, FAILED if status == FAILED else UNSURE)
    return status

"""Watch a real program: which memory it pins, who shares it after fork(), and whether that matters on this kernel.

Traced are mappings, madvise(), fork() and exec(), and whatever pins memory or takes it for a transfer: ibv_reg_mr() and
its kin, io_uring fixed buffers, O_DIRECT, vmsplice(), MSG_ZEROCOPY, VFIO, AF_XDP, process_vm_readv(). A finding tells
the exact bytes, whose the rest of the page is, the events in their order, who caused them, and the rule; a test is made
of it, and checked on this kernel and on all others. What needs no cure here is said, too.

  cowcatcher audit -- CMD ...     run a program; its input, output, signals and exit status are as without us,
                                  the report goes to standard error, or to -o FILE
  cowcatcher audit -p PID         watch a running one until Ctrl-C, or for --seconds, or until it ends
  cowcatcher audit --strace FILE  read what 'strace -f' wrote elsewhere, at any time; - is standard input

Examples:
  cowcatcher audit -- ./my_server --port 7000
  cowcatcher audit -o report.txt --emit found.cow -- python3 train.py
  cowcatcher audit -p 4711 --watch --json >> findings.jsonl
  cowcatcher audit --strace trace.txt --kernel v5.4
  strace -f -ttt -s 512 -o trace.txt ./my_program; cowcatcher audit --strace trace.txt

Exit status: with -- CMD that of the program, or that of --error-exitcode if there is an error or a warning among the
findings. With -p and --strace: 0 if there is none; 1 if there is one; else 3 if something could not be told, or nothing
could be watched; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cowcatcher.cli import inputs
from cowcatcher.cli.parser import UNSURE, Problem, positive, seconds

if TYPE_CHECKING:
    from cowcatcher.audit.live import Options
    from cowcatcher.kernels import Kernel


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "cowcatcher audit [options] (-- CMD ... | -p PID | --strace FILE)"
    parser.add_argument("command", nargs="*", metavar="CMD", help="behind --: the program to run, and its arguments")
    parser.add_argument("--pid", "-p", type=positive, metavar="PID", help="a running process, with all its threads")
    parser.add_argument("--strace", metavar="FILE", help="a trace that strace -f made; - for standard input")
    report = parser.add_argument_group("the report")
    report.add_argument("--json", action="store_true", help="one JSON document; with --watch a line for each finding")
    report.add_argument("--full", action="store_true", help="notes and good news with all their evidence, too")
    report.add_argument("--output", "-o", metavar="FILE", help="where the report goes (- for standard output)")
    report.add_argument(
        "--emit", metavar="PATH",
        help="write the gravest finding as a small test to PATH.cow; or to a directory, a test for each",
    )  # fmt: skip
    report.add_argument(
        "--error-exitcode", type=exit_status, metavar="N",
        help="with -- CMD: the exit status if there is an error or a warning",
    )  # fmt: skip
    report.add_argument(
        "--kernel", "-k", metavar="KERNEL",
        help="the modelled kernel that the program runs on (default: by uname -r; not known for --strace)",
    )  # fmt: skip
    inputs.add_decision_option(report)
    live = parser.add_argument_group("watching")
    live.add_argument("--watch", action="store_true", help="tell each finding in a line when it is found")
    live.add_argument(
        "--seconds", type=seconds, metavar="S",
        help="with -p: stop after so long; with -- CMD: watch a daemon that it leaves behind for so long (default: 2)",
    )  # fmt: skip
    live.add_argument("--every", type=seconds, metavar="S", help="look at /proc every so often (default: 2)")
    live.add_argument(
        "--tracer", choices=("strace", "bpftrace"), default="strace",
        help="bpftrace never stops the program; it takes root, and -- CMD (default: strace)",
    )  # fmt: skip
    live.add_argument("--stacks", action="store_true", help="whole backtraces, by strace -k: slow")
    live.add_argument("--io", action="store_true", help="stop at every read and write, too: exact, and slow")
    live.add_argument("--no-shim", action="store_true", help="preload nothing: callers and ibv_reg_mr() are not seen")


def exit_status(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 255:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to 255 is wanted, not '{text}'")
    return int(text)


def run(args: argparse.Namespace) -> int:
    if sum((bool(args.command), args.pid is not None, args.strace is not None)) != 1:
        raise Problem(
            "audit: say what to watch: '-- CMD ...' runs a program, '-p PID', '--strace FILE'"
            "\nTry 'cowcatcher audit --help'."
        )
    if args.error_exitcode and not args.command:
        raise Problem("audit: --error-exitcode goes with '-- CMD ...'; elsewhere 1 says that something is wrong")
    if args.seconds and args.strace is not None:
        raise Problem("audit: --seconds goes with '-p PID' and with '-- CMD ...'")
    if args.tracer == "bpftrace" and (not args.command or args.stacks or args.io or args.no_shim):
        raise Problem("audit: --tracer bpftrace goes with '-- CMD ...'; --stacks, --io and --no-shim are for strace")
    if args.strace is not None:
        return _trace(args)
    return _command(args) if args.command else _process(args)


def _trace(args: argparse.Namespace) -> int:
    from cowcatcher.audit.strace import TraceError, events, open_trace
    from cowcatcher.cli.auditing import Session

    if args.decision and not args.kernel:
        raise Problem("audit: --decision changes the kernel of the program: name that with --kernel")
    here, release = _named_kernel(args) if args.kernel else (None, "")
    session = Session(args, {"mode": "trace", "file": args.strace}, here, release)
    try:
        session.watch(events(open_trace(args.strace)))
    except TraceError as error:
        raise Problem(str(error)) from error
    if session.nothing_whole:
        raise Problem(f"{args.strace}: no line of it is whole as strace writes them, so nothing is known from it")
    return session.report()


def _command(args: argparse.Namespace) -> int:
    from cowcatcher.audit.live import launch
    from cowcatcher.cli.auditing import Session

    session = Session(args, {"mode": "command", "command": args.command}, *_this_kernel(args))
    with _tracer(), launch(args.command, _options(args)) as traced:
        session.watch(traced.events())
        status = traced.wait()
    session.source["status"] = status
    found = session.report()
    if found == 1 and args.error_exitcode:
        return int(args.error_exitcode)
    return status if status >= 0 else _ended_by(-status)


def _ended_by(number: int) -> int:
    """End as the program did: whoever started us sees the same signal. No core of ours beside the program's."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    os.kill(os.getpid(), number)
    return 128 + number  # if the signal is blocked


def _process(args: argparse.Namespace) -> int:
    from cowcatcher.audit.live import attach
    from cowcatcher.cli.auditing import Session

    session = Session(args, {"mode": "process", "pid": args.pid}, *_this_kernel(args))
    with _tracer(), _stopped_by_signals(), attach(args.pid, _options(args)) as traced:
        session.watch(traced.events())
    session.interrupted = False  # Ctrl-C is how one stops watching
    return session.report()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the watching as Ctrl-C does: the process is let go, and the report comes."""

    def stop(number: int, frame: object) -> None:
        for each in before:  # once is enough: what comes now is the report
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _this_kernel(args: argparse.Namespace) -> tuple[Kernel, str]:
    """The model of the kernel that is running, and its release; or what was named."""
    from cowcatcher.kernels import kernel_of_release

    name = os.uname()
    decisions = inputs.decisions_from(args.decision)
    if args.kernel:
        return _named_kernel(args)
    kernel = kernel_of_release(name.release, name.version)
    return (kernel.with_decisions(*decisions) if decisions else kernel), name.release


def _named_kernel(args: argparse.Namespace) -> tuple[Kernel, str]:
    """The kernel of --kernel: a modelled one, or what ``uname -r`` says of any; and what was said."""
    from cowcatcher.kernels import UnknownKernel, kernel_of_release

    decisions = inputs.decisions_from(args.decision)
    try:
        kernel = inputs.one_kernel(args.kernel, decisions)
    except UnknownKernel:
        if not args.kernel[:1].isdigit():
            raise
        kernel = kernel_of_release(args.kernel)
        kernel = kernel.with_decisions(*decisions) if decisions else kernel
    return kernel, "" if decisions or args.kernel.lstrip("v") == kernel.name.lstrip("v") else args.kernel


def _options(args: argparse.Namespace) -> Options:
    from cowcatcher.audit.live import Options

    default = Options()
    after = args.seconds or default.linger
    return Options(
        tracer=args.tracer, shim=not args.no_shim, stacks=args.stacks, io=args.io, every=args.every or default.every,
        seconds=args.seconds if args.pid is not None else None, linger=after,
    )  # fmt: skip


@contextmanager
def _tracer() -> Iterator[None]:
    """What the tracer cannot do is the user's to know, with the next step."""
    from cowcatcher.audit.live import TraceError

    try:
        yield
    except TraceError as error:
        raise Problem(str(error), UNSURE) from error

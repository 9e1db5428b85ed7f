"""Litmus tests for Linux copy-on-write, fork and pinned pages.

A test is a small program of memory events. cowcatcher runs it through every interleaving on any modelled kernel, says
which of its claims hold, shows the shortest way to a violation, and names the commit that is to blame or that cures it;
and it runs the same test on the kernel of this machine.

Examples:
  cowcatcher check rdma_fork_write.cow                       every kernel from v5.7 on
  cowcatcher explain rdma_fork_write.cow --kernel v5.9-rc4   how it fails, step by step
  cowcatcher bisect rdma_fork_write.cow                      which commit broke it, which one fixed it
  cowcatcher check tests/ --decision my_patch.py --ktap      a rule of your own, in CI

'cowcatcher COMMAND --help' tells more about a command.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from cowcatcher.cli.parser import BROKEN_PIPE, INTERNAL, INTERRUPTED, USAGE, Problem, command_parser, program_parser

#: Command, and what it does in one line. Its module is imported when it is used and not before.
COMMANDS = {
    "check": "check tests on modelled kernels, every interleaving",
    "explain": "show the shortest way to a violation, and the decision at fault",
    "bisect": "find the decision, hence the commit, that changes a verdict",
    "shrink": "make a test smaller that is violated",
    "generate": "write tests from short words of events",
    "hunt": "search for tests that nobody wrote",
    "run": "run tests on real kernels and compare with the model",
    "report": "show the report of a recorded run again",
    "audit": "watch a real program: what it pins, who forks, is it at risk",
    "agree": "hold the model against real kernels, by random tests",
    "kernels": "list the modelled kernels and their decisions",
    "fmt": "lay tests out canonically",
    "doctor": "tell what this machine can do for 'run'",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. Mistakes of the user end in a message, never in a traceback."""
    _line_buffered()
    try:
        status = _run(argv)
        sys.stdout.flush()
    except Problem as problem:
        _complain(str(problem))
        return problem.status
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _pipe_closed()
    except Exception as error:
        mistake = _mistake(error)
        if mistake is None:
            raise
        _complain(mistake)
        return USAGE
    return status


def _run(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parse(words)
    except SystemExit as done:  # argparse, after --help and --version
        return int(done.code or 0)
    try:
        status: int = args.run(args)
    except (Problem, BrokenPipeError):
        raise
    except Exception as error:
        if _mistake(error) is not None:
            raise
        return _bug()
    return status


def _parse(words: list[str]) -> argparse.Namespace:
    """The arguments of the command that is named; its module, and no other command's, is imported."""
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words:
        program_parser(__doc__ or "", COMMANDS).print_help()
        raise SystemExit(USAGE)
    if words[0] in ("-h", "--help", "--version"):
        program_parser(__doc__ or "", COMMANDS).parse_args(words[:1])
    if words[0].startswith("-"):
        raise Problem("the command comes first, then its options\nTry 'cowcatcher --help'.")
    if words[0] not in COMMANDS:
        raise Problem(_no_such_command(words[0]))
    return command_parser(words[0]).parse_args(words[1:])


def _no_such_command(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(COMMANDS), 1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; there are: {', '.join(COMMANDS)}"
    return f"there is no command '{name}'{hint}\nTry 'cowcatcher --help'."


def _mistake(error: Exception) -> str | None:
    """The message of an error that is the user's to mend; None for one that is ours.

    The errors are looked up by name: whoever raised one has imported its module, nobody else need.
    """
    for module, name in (
        ("cowcatcher.litmus.errors", "LitmusError"),
        ("cowcatcher.kernels.kernel", "UnknownKernel"),
        ("cowcatcher.kernels.decision", "BadDecision"),
    ):
        found = getattr(sys.modules.get(module), name, None)
        if found is not None and isinstance(error, found):
            return str(error)
    return None


def _bug() -> int:
    import traceback

    from cowcatcher import __version__

    traceback.print_exc()
    _complain(f"this is a mistake of cowcatcher {__version__} itself; please report it, with the lines above")
    return INTERNAL


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    print(f"cowcatcher: {message}", file=sys.stderr)


def _line_buffered() -> None:
    """Whole lines, also into a pipe: the last one stands there after a crash, and none is doubled by a fork."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True, errors="backslashreplace")


def _pipe_closed() -> int:
    """Whoever read our output has had enough. Python would complain once more while it exits."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE

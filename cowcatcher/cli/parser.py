"""The command line's frame: a parser for each command, made when it is used; help from docstrings, errors that help."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from typing import Any, NoReturn

FINE = 0
FAILED = 1
USAGE = 2
UNSURE = 3
INTERNAL = 4
INTERRUPTED = 130
BROKEN_PIPE = 141

EXIT_STATUS = """Exit status:
  0    everything as expected
  1    something was violated, or came out otherwise than expected
  2    wrong usage or bad input; nothing was checked
  3    nothing failed, but something could not be told, or nothing could be checked at all
  4    cowcatcher itself failed: a mistake of ours, or no room for the output
  130  interrupted; what was found until then was printed
  141  the reader of the output went away"""


class Problem(Exception):
    """Something that the user can mend: the message says what, and what to do next."""

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.status = status


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and where to read on."""

    def __init__(self, prog: str, doc: str, epilog: str = "") -> None:
        super().__init__(
            prog=prog, description=doc.strip(), epilog=epilog, formatter_class=_Formatter, allow_abbrev=False
        )  # fmt: skip

    def error(self, message: str) -> NoReturn:
        command = self.prog.partition(" ")[2]
        what = f"{command}: {message}" if command else message
        raise Problem(f"{what}\nTry '{self.prog} --help'.")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The same help on every terminal."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, **(kwargs | {"width": 100, "max_help_position": 28}))


def program_parser(doc: str, commands: Mapping[str, str]) -> Parser:
    """The parser for what stands before a command: --help and --version."""
    from cowcatcher import __version__

    width = max(len(name) for name in commands) + 2
    listed = "\n".join(f"  {name.ljust(width)}{summary}" for name, summary in commands.items())
    parser = Parser("cowcatcher", doc, f"commands:\n{listed}\n\n{EXIT_STATUS}")
    parser.usage = "cowcatcher COMMAND ..."
    parser.add_argument("--version", action="version", version=f"cowcatcher {__version__}")
    return parser


def command_parser(name: str) -> Parser:
    """The parser of one command, from the command's own module, which is imported by this."""
    module = importlib.import_module(f"cowcatcher.cli.{name}")
    parser = Parser(f"cowcatcher {name}", module.__doc__ or "")
    module.arguments(parser)
    add_common(parser)
    parser.set_defaults(run=module.run)
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto",
        help="colour: auto (default) means on a terminal, unless NO_COLOR is set",
    )  # fmt: skip
    parser.add_argument("--width", type=positive, metavar="N", help="columns of the output (default: 100)")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Where a search gives up; each is for one test on one kernel."""
    group = parser.add_argument_group("limits", "for one test on one kernel; past them the answer is 'could not tell'")
    group.add_argument(
        "--max-states", type=number, metavar="N", help="states (default: 2,000,000; compiled, what memory holds)"
    )
    group.add_argument("--max-seconds", type=seconds, metavar="S", help="seconds (default: 600)")
    group.add_argument("--max-memory", type=memory, metavar="M", help="memory, such as 512M or 4G (default: 4G)")


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is wanted, not '{text}'")
    return int(text)


def number(text: str) -> int:
    return positive(text.replace(",", "").replace("_", ""))


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of seconds is wanted, not '{text}'")
    return value


def memory(text: str) -> int:
    """ "512M", "4G", "1.5GiB", plain bytes."""
    digits = text.rstrip("BbIi")
    unit = {"K": 10, "M": 20, "G": 30, "T": 40}.get(digits[-1:].upper(), 0)
    try:
        value = int(float(digits[:-1] if unit else digits) * (1 << unit))
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"an amount of memory such as 512M or 4G is wanted, not '{text}'")
    return value

"""Lay tests out canonically: one indentation, one spacing, nothing reordered, no comment lost.

Files are rewritten in place; - reads standard input and writes standard output. Only the form of a test matters: one
whose meaning has mistakes is laid out all the same.

Examples:
  cowcatcher fmt tests/
  cowcatcher fmt --check tests/       for CI: change nothing, exit 1 if anything would change
  cowcatcher fmt --diff my_test.cow   show what would change

Exit status: 0; 1 if --check or --diff found something to change; 2 if a file cannot be read as a test.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cowcatcher.cli import screen
from cowcatcher.cli.parser import FAILED, FINE, Problem
from cowcatcher.litmus.errors import LitmusError
from cowcatcher.litmus.parser import read_text
from cowcatcher.litmus.printer import format_source


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, directories, or -")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--check", action="store_true", help="change nothing; name the files that would change")
    form.add_argument("--diff", action="store_true", help="change nothing; show what would change")


def run(args: argparse.Namespace) -> int:
    looking = args.check or args.diff
    mistakes: list[str] = []
    changed = 0
    for name in _files(args.files):
        before = sys.stdin.read() if name == "-" else read_text(name)
        try:
            after = format_source(before, "<stdin>" if name == "-" else name)
        except LitmusError as error:
            mistakes.append(str(error))
            continue
        if name == "-" and not looking:
            screen.write(after)
        elif before != after:
            changed += 1
            _tell(name, before, after, args)
    if mistakes:
        raise Problem("\n".join(["some files cannot be read as tests and were left alone", *mistakes]))
    return FAILED if looking and changed else FINE


def _files(words: list[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        if word != "-" and Path(word).is_dir():
            found += sorted(str(p) for p in Path(word).rglob("*.cow"))
        else:
            found.append(word)
    return found


def _tell(name: str, before: str, after: str, args: argparse.Namespace) -> None:
    if args.check:
        screen.write(f"would lay out {name}\n")
    elif args.diff:
        import difflib

        lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, name)
        screen.write("".join(line if line.endswith("\n") else line + "\n" for line in lines))
    else:
        try:
            Path(name).write_text(after, encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise Problem(f"{name}: cannot be written: {error.strerror}") from error
        screen.write(f"laid out {name}\n")

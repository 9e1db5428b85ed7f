"""List the modelled kernels, describe one, compare two, or list every decision.

A kernel is a table of decisions, one answer to each question on which kernels differ. A decision is a small function;
your own, in a Python file given with --decision to 'check' and others, takes the place of the kernel's.

Examples:
  cowcatcher kernels                          all of them
  cowcatcher kernels v5.9                     one, with its changes, commits and sources (also: kernels show v5.9)
  cowcatcher kernels diff v5.9-rc4 v5.9       what differs
  cowcatcher kernels decisions                every question and every answer, with commits

Exit status: 0, or 2 if there is no such kernel.
"""

from __future__ import annotations

import argparse

from cowcatcher.cli import screen
from cowcatcher.cli.parser import FINE, Problem
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="NAME, or: show NAME, diff NAME NAME, decisions; nothing lists all"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace) -> int:
    style = screen.style_of(args)
    doc, text = _found(args.words, style)
    if args.json:
        screen.write_json(doc)
    else:
        screen.write(text)
    return FINE


def _found(words: list[str], style: Style) -> tuple[Record, str]:
    from cowcatcher.kernels import KERNELS, all_decisions, kernel
    from cowcatcher.report import kernel_record as record
    from cowcatcher.report import kernels_text as text

    match words:
        case []:
            doc = record.kernels_document(list(KERNELS.values()))
            return doc, text.kernels_text(doc, style)
        case ["decisions"]:
            doc = record.decisions_document(list(all_decisions()))
            return doc, text.decisions_text(doc, style)
        case ["diff", before, after]:
            doc = record.diff_document(kernel(before), kernel(after))
            return doc, text.diff_text(doc, style)
        case ["show", name] | [name] if name not in ("show", "diff"):
            doc = record.kernels_document([kernel(name)])
            return doc, text.kernel_text(doc["kernels"][0], style)
    raise Problem(
        f"kernels: cannot make sense of '{' '.join(words)}'; what can stand there is NAME, show NAME, diff NAME NAME, "
        "decisions, or nothing"
    )

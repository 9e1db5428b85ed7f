"""List the modelled kernels, describe one, compare two, or list every decision; install real ones to boot.

A kernel is a table of decisions, one answer to each question on which kernels differ. A decision is a small function;
your own, in a Python file given with --decision to 'check' and others, takes the place of the kernel's.

Real kernels are Debian's. This machine's own apt fetches and verifies them into the user's cache; nothing is installed
on the system, and no privilege is needed. An interrupted install goes on where it was. There are: 5.10, 6.1, 6.12,
6.16, 6.18, 7.0, 7.2, 7.3.

'build' makes a small kernel from source, in which a boot parameter breaks one rule at a time: NAME+CONTROL stands for
such a known-bad kernel in 'cowcatcher run --on'. The source is one of Debian's, by its series, or a tarball, or a tree,
which is only read: what is edited is copied. An interrupted build goes on where it was.

Examples:
  cowcatcher kernels                          all of them
  cowcatcher kernels v5.9                     one, with its changes, commits and sources (also: kernels show v5.9)
  cowcatcher kernels diff v5.9-rc4 v5.9       what differs
  cowcatcher kernels decisions                every question and every answer, with commits
  cowcatcher kernels install all              real kernels, the small cloud flavour: about 100 MB each on disk
  cowcatcher kernels install 6.1 7.3 --flavour full
  cowcatcher kernels install --image arch/x86/boot/bzImage --modules . --name mine
  cowcatcher kernels build 7.3                makes 7.3-controls, some minutes on an idle machine
  cowcatcher kernels build ~/linux --stock --name mine
  cowcatcher kernels images                   which are installed, their controls, and what they take
  cowcatcher kernels remove 6.16 7.3-full

Exit status: 0, or 2 if there is no such kernel, or 3 if a kernel or a part of it could not be had.
"""

from __future__ import annotations

import argparse

from cowcatcher.cli import kernel_images, screen
from cowcatcher.cli.parser import FINE, Problem
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="WORD",
        help="NAME, or: show NAME, diff NAME NAME, decisions, install NAME...|all, build SOURCE, images, "
        "remove NAME...; nothing lists all that are modelled",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON document")
    kernel_images.arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.words[:1] and args.words[0] in kernel_images.VERBS:
        return kernel_images.run(args)
    kernel_images.no_options(args)
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
        "decisions, install, build, images, remove, or nothing"
    )

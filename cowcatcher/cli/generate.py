"""Write tests from short words of events, as diy7 does from cycles of relaxations.

A word is told in order, one event after another: 'RegMr Fork Store.p Dma.r' registers a page, forks, writes, and has
the device read. Parts with | between them are in no order, but that a child is there once it was forked, and a pin
once it was taken. The claim follows from the word: everybody reads what he would read if memory were shared as it is
meant to be. --list explains the letters.

--all-words N writes every word of at most N letters that can happen and ends with somebody reading. --axes cow.c writes
the whole cross product of the axes of the kernel's own tools/testing/selftests/mm/cow.c: a test for each of its own.

With --check nothing is written: the tests are checked, and what came out is shown.

Examples:
  cowcatcher generate RegMr Fork Store.p Dma.r
  cowcatcher generate 'RegMr Fork Store.p Dma.r | Load.c' --check
  cowcatcher generate Fork Vmsplice.c Munmap.c Store.p Dma.r --memory hugetlb_private -o tests
  cowcatcher generate --all-words 4 --letters 'RegMr Fork Store.p Load.c Dma.r' --check --kernel v5.9-rc4
  cowcatcher generate --axes cow.c -o cow_c
  cowcatcher generate --axes cow.c --check
  cowcatcher generate --list

Exit status: 0; 2 if a word cannot be one. With --check: 0 if every verdict could be told, whatever it is; 3 if one
could not, or none; 130 if it was interrupted: what was found until then was printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cowcatcher.cli import checking, inputs, screen
from cowcatcher.cli.parser import FINE, Problem, add_limits, positive
from cowcatcher.generate.word import WordError
from cowcatcher.generate.write import BARE, Stage
from cowcatcher.report.generate_record import Item, generate_document
from cowcatcher.report.record import Record

_AXES = ("cow.c",)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="WORD", help="the letters of one word")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", "-l", action="store_true", help="explain the letters, with an example each")
    what.add_argument("--all-words", type=positive, metavar="N", help="every word of at most N letters")
    what.add_argument("--axes", choices=_AXES, metavar="FILE", help="the axes of a file of the kernel's tests: cow.c")
    parser.add_argument(
        "--letters", metavar="LETTERS", help="with --all-words: the letters to spell with, joined by commas or blanks"
    )
    parser.add_argument(
        "--memory", metavar="KIND", help="the memory, such as anon_zero or 'hugetlb_private(1)' (default: anon(1))"
    )
    parser.add_argument("--output", "-o", metavar="DIR", help="write each test into a file there")
    parser.add_argument("--check", action="store_true", help="check the tests instead, and show what came out")
    inputs.add_kernel_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--jobs", "-j", type=positive, metavar="N", help="processes for long work (default: one a CPU)")
    add_limits(parser)


def run(args: argparse.Namespace) -> int:
    from cowcatcher.report.generate_text import generate_text, letters_text

    if args.list:
        return _show(letters_text(screen.style_of(args)))
    items = _items(args)
    checked = _checked(items, args) if args.check else None
    doc = generate_document(items, checked)
    if args.output:
        _write(items, Path(args.output))
    if args.json:
        screen.write_json(doc)
    elif args.check or not args.output:
        screen.write(generate_text(doc, screen.style_of(args)))
    else:
        screen.write(f"{sum(item.test is not None for item in items)} tests written to {args.output}\n")
    status: int = doc["exit"]
    return status


def _show(text: str) -> int:
    screen.write(text)
    return FINE


def _items(args: argparse.Namespace) -> list[Item]:
    """What is asked for; a single way of asking."""
    asked = [name for name in ("all_words", "axes") if getattr(args, name)]
    if bool(args.words) + len(asked) != 1:
        raise Problem(
            "generate: name a word, or --all-words N, or --axes cow.c, or --list\nTry 'cowcatcher generate --help'."
        )
    if args.letters and not args.all_words:
        raise Problem("--letters goes with --all-words")
    if args.axes:
        if args.memory:
            raise Problem("--memory: the axes of cow.c have kinds of memory of their own")
        return _axes()
    try:
        return _words(args)
    except WordError as error:
        raise Problem(str(error)) from error


def _words(args: argparse.Namespace) -> list[Item]:
    from cowcatcher.generate.every import USUAL, every_word
    from cowcatcher.generate.word import read_word
    from cowcatcher.generate.write import write_test

    stage = _stage(args.memory)
    if args.all_words:
        letters = args.letters.replace(",", " ").split() if args.letters else USUAL
        progress, found = screen.Progress(), []
        for word, test in every_word(args.all_words, letters, stage):
            found.append(Item(word, "", test))
            progress.show(f"{len(found):,} words: {word}")
        progress.clear()
        return found
    text = " ".join(args.words)
    return [Item(read_word(text).text, "", write_test(text, stage))]


def _axes() -> list[Item]:
    from cowcatcher.generate.cow_c import cells

    return [Item(cell.case.title, cell.kind.title, cell.test, cell.kind.why_not) for cell in cells()]


def _stage(memory: str | None) -> Stage:
    return BARE if memory is None else Stage(inputs.mapping_of(memory))


def _checked(items: list[Item], args: argparse.Namespace) -> Record:
    decisions = inputs.decisions_from(args.decision)
    tests = [item.test for item in items if item.test is not None]
    work = [(test, inputs.kernels_for(test, args.kernel, decisions)) for test in tests]
    return checking.check_work(work, inputs.limits_of(args), args.jobs)


def _write(items: list[Item], directory: Path) -> None:
    from cowcatcher.litmus.printer import to_text

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for item in items:
            if item.test is not None:
                (directory / f"{item.test.name}.cow").write_text(to_text(item.test), encoding="ascii")
    except OSError as error:
        raise Problem(f"--output {directory}: {error.strerror}") from error

"""Show the report of a recorded run again, as 'cowcatcher run' showed it; also of one that was interrupted.

Every run is recorded: what was asked, on which kernels, every observation as it was made, what the model said. The
default is the last one. One that was cut short, by whatever, is shown as far as it goes, with what is missing;
'cowcatcher run --resume FILE' goes on with it.

Examples:
  cowcatcher report                                 the last run once more
  cowcatcher report run.jsonl --json
  cowcatcher report --list                          the recordings there are

Exit status: as that of 'cowcatcher run', and 3 if anything is missing and nothing failed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cowcatcher.cli import screen
from cowcatcher.cli.parser import FINE, UNSURE, Problem


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="a recording (default: the last one that was made)")
    parser.add_argument("--list", "-l", action="store_true", help="list the recordings that are kept")
    add_form(parser)


def add_form(parser: argparse.ArgumentParser) -> None:
    """In what form a run is shown."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document")
    form.add_argument("--ktap", action="store_true", help="KTAP, as the kernel's own tests print it")
    form.add_argument("--full", action="store_true", help="a line of the table for each test, however many there are")


def run(args: argparse.Namespace) -> int:
    from cowcatcher.cli.running import predictions
    from cowcatcher.real import recording
    from cowcatcher.report.run_record import run_document

    if args.list:
        if args.file:
            raise Problem("report: --list takes no file")
        screen.write("".join(f"{path}\n" for path in recording.kept()))
        return FINE
    path = Path(args.file) if args.file else next(reversed(recording.kept()), None)
    if path is None:
        raise Problem(f"there is no recording in {recording.directory()}; 'cowcatcher run' makes one", UNSURE)
    try:
        rec = recording.read(path)
    except recording.RecordingError as error:
        raise Problem(str(error)) from error
    return show(run_document(rec, predictions(rec)), args)


def show(doc: dict[str, object], args: argparse.Namespace) -> int:
    """In the form that was asked for; the exit status."""
    from cowcatcher.report.run_ktap import run_ktap
    from cowcatcher.report.run_text import run_text
    from cowcatcher.report.stress_text import stress_ktap, stress_text

    if args.json:
        screen.write_json(doc)
    elif doc["stress"]:
        screen.write(stress_ktap(doc) if args.ktap else stress_text(doc, screen.style_of(args)))
    else:
        screen.write(run_ktap(doc) if args.ktap else run_text(doc, screen.style_of(args), args.full))
    status = doc["exit"]
    assert isinstance(status, int)
    return status

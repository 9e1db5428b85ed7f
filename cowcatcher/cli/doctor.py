"""Tell what this machine can do: what 'cowcatcher run' needs, what is there, and how to get what is not.

Every line is something tried or looked up on this machine just now. Nothing is changed.

Examples:
  cowcatcher doctor
  cowcatcher doctor --json

Exit status: 0 if tests can be run on this kernel at all; 3 if something without which none can is missing.
"""

from __future__ import annotations

import argparse

from cowcatcher.cli import screen
from cowcatcher.cli.parser import FINE, UNSURE


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace) -> int:
    from cowcatcher.real.probe import probe
    from cowcatcher.report.doctor_text import doctor_document, doctor_text

    doc = doctor_document(probe())
    if args.json:
        screen.write_json(doc)
    else:
        screen.write(doctor_text(doc, screen.style_of(args)))
    return FINE if doc["able"] else UNSURE

"""An audit carried out: events in; findings told as they come, and in the end the report and the tests."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cowcatcher.audit.auditor import Auditor
from cowcatcher.audit.derive import CannotDerive
from cowcatcher.audit.emit import emit, file_name
from cowcatcher.audit.events import Event
from cowcatcher.audit.finding import Finding
from cowcatcher.audit.judge import Judge, applies
from cowcatcher.audit.seen import Seen
from cowcatcher.cli import screen
from cowcatcher.cli.parser import Problem
from cowcatcher.kernels import Kernel
from cowcatcher.report.audit_record import audit_document, finding_record, gravest_first
from cowcatcher.report.audit_text import audit_text, finding_line
from cowcatcher.report.style import Style

#: Events between two lines of progress.
_OFTEN = 4096


class Session:
    """One audit. ``source`` says what is watched; the report goes where the arguments say.

    With a program of its own standard output is the program's, so the report goes to standard error.
    """

    def __init__(self, args: argparse.Namespace, source: dict[str, Any], here: Kernel | None, release: str) -> None:
        self.source = source
        self.interrupted = False
        self._args = args
        self._here, self._release = here, release
        self._stream = sys.stderr if source["mode"] == "command" else sys.stdout
        self._auditor, self._judge, self._seen = Auditor(), Judge(here), Seen()
        self._progress = screen.Progress()
        self._told: dict[tuple[object, ...], tuple[str, str]] = {}
        if args.output and args.output != "-":
            with self._out("w"):  # better now than after an hour
                pass

    def watch(self, events: Iterable[Event]) -> None:
        """Until there are no more, or Ctrl-C."""
        try:
            for number, event in enumerate(events):
                self._seen.count(event)
                for finding in self._auditor.feed(event):
                    if self._args.watch and applies(judged := self._judge.judge(finding)):
                        self._tell(judged)
                if number % _OFTEN == 0 and self.source["mode"] == "trace":
                    self._progress.show(f"line {event.line:,}, {number:,} events")
        except KeyboardInterrupt:
            self.interrupted = True
        self._progress.clear()

    @property
    def nothing_whole(self) -> bool:
        """There was something to read, and no part of it made sense."""
        return bool(self._seen.lost) and self._seen.lost == self._seen.events

    def _tell(self, finding: Finding) -> None:
        """Once, and again if it has another severity by then."""
        said = finding.severity.value, finding.title
        if self._told.get(finding.key) == said:
            return
        self._told[finding.key] = said
        record = finding_record(finding)
        line = json.dumps(record) if self._args.json else finding_line(record, self._style())
        with self._out("a") as out:
            screen.write(line + "\n", out)

    def report(self) -> int:
        """Print it, write the tests that were asked for; 0, 1 or 3 by the findings."""
        findings = self._judged()
        doc = audit_document(
            self.source, self._seen.record(), findings, self._here, self._release, self.interrupted
        )  # fmt: skip
        if not self._args.json:
            self._write(audit_text(doc, self._style(), self._args.full))
        elif not self._args.watch:
            self._write(json.dumps(doc, indent=2) + "\n")
        else:  # every line is a finding: those that were not told yet, or are graver or lighter in the end
            for finding in findings:
                self._tell(finding)
        if self._args.emit:
            write_tests(Path(self._args.emit), gravest_first(findings))
        status: int = doc["exit"]
        return status

    def _judged(self) -> list[Finding]:
        found = self._auditor.finish()
        judged = []
        for number, finding in enumerate(found, 1):
            self._progress.show(f"checking what was found on every kernel: {number} of {len(found)}")
            judged.append(self._judge.judge(finding))
        self._progress.clear()
        return list(filter(applies, judged))

    def _write(self, text: str) -> None:
        with self._out("a" if self._args.watch else "w") as out:
            screen.write(text, out)

    def _style(self) -> Style:
        return screen.style_of(self._args, None if self._args.output not in (None, "-") else self._stream)

    @contextmanager
    def _out(self, mode: str) -> Iterator[IO[str]]:
        if self._args.output in (None, "-"):
            yield sys.stdout if self._args.output else self._stream
            return
        try:
            with open(self._args.output, mode, encoding="utf-8") as out:
                yield out
        except OSError as error:
            raise Problem(f"-o {self._args.output}: cannot be written: {error.strerror}") from error


def write_tests(path: Path, findings: Sequence[Finding]) -> None:
    """``--emit``: the first of ``findings`` that makes a test to the file, or all that do to the directory."""
    tests: dict[str, str] = {}
    reasons = []
    for finding in findings:
        if finding.case is None:
            continue
        try:
            name, text = file_name(finding), emit(finding)
        except CannotDerive as why:
            reasons.append(f"{finding.rule}: {why.reason}")
            continue
        tests.setdefault(name, text)
        if path.suffix == ".cow":
            tests = {path.name: _called(text, name, path)}
            break
    if not tests:
        reason = "; ".join(reasons) or "there is no finding that a test can be made of"
        screen.warn(f"--emit {path}: nothing was written: {reason}")
        return
    directory = path.parent if path.suffix == ".cow" else path
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in tests.items():
            (directory / name).write_text(text, encoding="ascii")
            screen.warn(f"written: {directory / name}")
    except OSError as error:
        raise Problem(f"--emit {path}: cannot be written: {error.strerror}") from error


def _called(text: str, name: str, path: Path) -> str:
    """A test is called like its file."""
    return text.replace(f"test {name.removesuffix('.cow')}\n", f"test {path.stem}\n", 1)

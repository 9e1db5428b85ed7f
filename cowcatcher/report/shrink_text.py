"""The report of ``shrink``: a test, with what was done to it and what it shows in the comments above."""

from __future__ import annotations

from cowcatcher.report.check_text import witness_lines
from cowcatcher.report.prose import listed
from cowcatcher.report.record import Record
from cowcatcher.report.style import PLAIN, Style, counted, wrapped

_COMMENT = "# "


def shrink_text(doc: Record) -> str:
    """A whole ``.cow`` file."""
    plain = Style(width=PLAIN.width - len(_COMMENT))
    head = "\n".join(f"{_COMMENT}{line}".rstrip() for line in _report(doc, plain))
    return f"{head}\n\n{doc['text']}"


def shrink_report(doc: Record, style: Style) -> str:
    """What stands in the comments, for when the test itself went to a file."""
    return "\n".join(_report(doc, style)) + "\n"


def _report(doc: Record, style: Style) -> list[str]:
    title = f"{style.strong(doc['test'])} on {doc['kernel']['name']}, made smaller: {_kept(doc)}"
    lines = [*wrapped(title, style.width, "", "  "), *_reduction(doc, style)]
    if doc["interrupted"]:
        lines += wrapped("Interrupted: the smallest test so far, and perhaps not the smallest there is.", style.width)
    if not doc["reproduced"]:
        lines += ["", style.bad("Run once more, it is not violated.")]
    elif doc["witness"]:
        lines += ["", f"A shortest way to violate it, {counted(doc['depth'], 'step')}:", *witness_lines(doc["witness"])]
    return [*lines, "", *_control(doc, style), *_needed(doc, style)]


def _kept(doc: Record) -> str:
    kept = doc["kept"]
    what = f"'{doc['left']}'" if kept["kind"] == "claim" else kept["name"]
    holds = f", which holds on {listed(doc['holds_on'])}" if doc["holds_on"] else ""
    return f"{what} is violated{holds}"


def _reduction(doc: Record, style: Style) -> list[str]:
    """``17 statements, 3 processes, 2 pages -> 5, 2, 1; 143 candidates tried, 12 accepted``"""
    before, after = doc["before"], doc["after"]
    was = ", ".join(counted(before[what], one, many) for what, one, many in _UNITS)
    tried = f"{counted(doc['tried'], 'candidate')} tried, {doc['accepted']:,} accepted"
    unsure = [
        f"{doc[key]:,} {text}"
        for key, text in (("unsure", "could not be told"), ("not_applicable", "not applicable"))
        if doc[key]
    ]
    if unsure:
        tried += f"; not kept because {' and '.join(unsure)}"
    return wrapped(f"{was} -> {', '.join(str(after[what]) for what, _, _ in _UNITS)}; {tried}", style.width, "", "  ")


_UNITS = (
    ("statements", "statement", "statements"),
    ("processes", "process", "processes"),
    ("pages", "page", "pages"),
)


def _control(doc: Record, style: Style) -> list[str]:
    control = doc["control"]
    text = "Control: the same memory and actors without any statement: "
    if control["verdict"] == "holds":
        return wrapped(f"{text}holds.", style.width, "", "  ")
    failing = f" ({', '.join(control['violations'])})" if control["violations"] else ""
    return wrapped(f"{text}{style.bad(control['verdict'])}{failing}.", style.width, "", "  ")


def _needed(doc: Record, style: Style) -> list[str]:
    """By minimality every statement is needed; the last one stands for them."""
    needed = doc["needed"]
    if not needed:
        return []
    last = next((n for n in reversed(needed) if n["verdict"] == "holds"), needed[-1])
    without = f"without {last['actor']}'s {last['statement']}: {last['verdict']} on {last['kernel']}."
    if len(needed) == 1:
        return wrapped(f"Needed: {without}", style.width, "", "  ")
    return wrapped(f"Needed: each of the {len(needed)} statements; the last one, {without}", style.width, "", "  ")

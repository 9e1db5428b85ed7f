"""The report of ``run`` as text and as KTAP: what was seen on this machine beside what the model predicts."""

from __future__ import annotations

from cowcatcher.real.host import OK
from cowcatcher.report.check_ktap import result_line
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, columns, counted, wrapped


def run_text(doc: Record, style: Style) -> str:
    lines = [
        f"Linux {doc['release']}, modelled as {doc['kernel']['name']}; {counted(doc['repeat'], 'run')} of each test"
    ]
    tests: list[Record] = doc["tests"]
    if tests:
        lines += ["", *_table(doc, style)]
    if len(tests) == 1:
        lines += _story(tests[0], style)
    lines += ["", _summary(doc, style)]
    if doc["interrupted"]:
        lines.append("Interrupted: the tests that are missing were not run.")
    return "\n".join(lines) + "\n"


def _table(doc: Record, style: Style) -> list[str]:
    rows = [[style.faint(title) for title in ("test", "here", f"model ({doc['kernel']['name']})", "")]]
    for test in doc["tests"]:
        mark = {"pass": "", "fail": style.bad("DIFFERS"), "unknown": style.unsure("?"), "skip": ""}[test["standing"]]
        rows.append([test["name"], _colored(test, style), test["predicted"] or "-", mark])
    lines = columns(rows)
    notes = [line for test in doc["tests"] for line in _notes(test, style)]
    return [*lines, "", *notes] if notes else lines


def _colored(test: Record, style: Style) -> str:
    word: str = test["verdict"]
    if test["standing"] == "fail":
        return style.bad(word)
    return {"holds": style.good, "violated": style.known}.get(word, style.unsure)(word)


def _notes(test: Record, style: Style) -> list[str]:
    return [line for note in notes_of(test) for line in wrapped(f"{test['name']}: {note}", style.width, "  ", "    ")]


def notes_of(test: Record) -> list[str]:
    """Why a line of the table says less than a verdict, or something else than the model."""
    told = []
    if test["reason"]:
        told.append(f"{test['verdict']}: {test['reason']}")
    if test["standing"] == "fail":
        told += test["differences"]
        told += [
            f"{c['text']}: {c['verdict']} here, {c['predicted']} in the model"
            for c in test["claims"]
            if c["predicted"] not in (None, c["verdict"])
        ]
        if test["allowed"] is False:
            told.append("no execution of the model ends like this")
    if test["not_predicted"] and test["verdict"] != "not applicable":
        told.append(f"no prediction: {test['not_predicted']}")
    return told


def _story(test: Record, style: Style) -> list[str]:
    """One test alone: every statement as it was executed, every claim."""
    lines: list[str] = []
    if test["log"]:
        rows = [
            [f"{number:>4}", step["actor"], step["statement"], _came_of(step)]
            for number, step in enumerate(test["log"], 1)
        ]
        lines += ["", "In this order, each statement to its end:", *columns(rows)]
    if test["claims"]:
        lines += [
            "",
            *(f"  {c['text']}: {c['verdict']}" + (f" ({c['why']})" if c["why"] else "") for c in test["claims"]),
        ]
    for stand_in in test["stand_ins"]:
        lines += wrapped(f"stand-in: {stand_in}", style.width, "  ", "    ")
    for note in test["notes"]:
        lines += wrapped(f"note: {note}", style.width, "  ", "    ")
    return lines


def _came_of(step: Record) -> str:
    if step["outcome"] == "value":
        return "" if step["result"] in (None, OK) else f"-> {step['result']}"
    return f"-> {step['result'] or step['outcome'].replace('_', ' ')}"


def standings_text(summary: Record, style: Style, skipped: str) -> str:
    """How many results stand how; ``skipped`` says what those are that were not applicable."""
    parts = [style.good(f"{summary['pass']} as the model says")]
    if summary["fail"]:
        parts.append(style.bad(f"{summary['fail']} DIFFER"))
    if summary["unknown"]:
        parts.append(style.unsure(f"{summary['unknown']} could not be told"))
    if summary["skip"]:
        parts.append(style.unsure(f"{summary['skip']} {skipped}"))
    return ", ".join(parts)


def _summary(doc: Record, style: Style) -> str:
    summary = doc["summary"]
    text = f"{counted(summary['tests'], 'test')}: {standings_text(summary, style, 'not applicable here')}"
    nothing = not doc["interrupted"] and not (summary["pass"] or summary["fail"] or summary["unknown"])
    return text + ("\nNothing could be run; 'cowcatcher doctor' says what is missing." if nothing else "")


def run_ktap(doc: Record) -> str:
    """One result line a test; ``ok`` means that the kernel did what the model says."""
    lines = ["KTAP version 1", f"1..{len(doc['tests'])}"]
    for number, test in enumerate(doc["tests"], 1):
        lines.append(f"# {test['name']}: {test['verdict']} here, {test['predicted'] or 'nothing'} predicted")
        lines += [f"# {difference}" for difference in test["differences"]]
        directive = ""
        if test["standing"] == "skip":
            directive = f"SKIP {test['reason']}"
        elif test["standing"] == "unknown":
            directive = f"{'TIMEOUT' if 'timeout' in test['statuses'] else 'ERROR'} {test['reason']}"
        lines.append(result_line(number, test["name"], test["standing"] in ("pass", "skip"), directive))
    summary = doc["summary"]
    lines.append(
        f"# Totals: pass:{summary['pass']} fail:{summary['fail']} xfail:0 xpass:0 "
        f"skip:{summary['skip']} error:{summary['unknown']}"
    )
    return "\n".join(lines) + "\n"

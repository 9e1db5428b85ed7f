"""The report of ``run --stress``: a histogram of outcomes for each test, as litmus7 prints one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cowcatcher.real.host import OK
from cowcatcher.report.check_ktap import result_line
from cowcatcher.report.record import Record
from cowcatcher.report.run_text import standings
from cowcatcher.report.style import Style, columns, counted, wrapped

NOT_ALLOWED = "not allowed by the model"


def stress_text(doc: Record, style: Style) -> str:
    lines = _head(doc, style)
    for test in doc["tests"]:
        for result in test["results"]:
            if result["standing"] in ("skip", "missing"):
                continue
            name = test["name"] if len(doc["on"]) == 1 else f"{test['name']} on {result['on']}"
            lines += ["", *_histogram(name, result, style)]
    skipped = [(t["name"], r) for t in doc["tests"] for r in t["results"] if r["standing"] == "skip"]
    if skipped:
        lines.append("")
    for reason in dict.fromkeys((r["on"], r["reason"]) for _, r in skipped):
        names = [name for name, r in skipped if (r["on"], r["reason"]) == reason]
        on = "" if len(doc["on"]) == 1 else f" on {reason[0]}"
        lines += wrapped(f"not applicable{on}: {', '.join(names)}: {reason[1]}", style.width, "", "  ")
    return "\n".join([*lines, "", *_summary(doc, style)]) + "\n"


def _head(doc: Record, style: Style) -> list[str]:
    lines = []
    for on in doc["on"]:
        name = "" if on["name"] == "host" else f"{on['name']}: "
        lost = f"; {counted(on['lost'], 'virtual machine')} lost" if on["lost"] else ""
        text = f"{name}Linux {on['release']}, modelled as {on['kernel']['name']}; {on['seconds']:.1f} s{lost}"
        lines += wrapped(text, style.width, "", "  ")
    stress = doc["stress"]
    return [*lines, f"Each test raced {counted(stress['runs'], 'time')}, delays by seed {stress['seed']}"]


def _histogram(name: str, result: Record, style: Style) -> list[str]:
    seen = sum(1 for row in result["outcomes"] if row["allowed"])
    of = "" if result["modelled"] is None else f"; {seen} of {counted(result['modelled'], 'allowed outcome')} seen"
    rate = f", {result['runs'] / result['seconds']:.0f} a second" if result["seconds"] else ""
    lines = [f"{style.strong(name)}: {_verdict(result, style)}{of}{rate}"]
    rows = [
        [f"{row['count']}/{result['runs']}", ">" if row["ordered"] else "", _ending(row), _marks(row, style)]
        for row in result["outcomes"]
    ]
    rows += [["0", "*", _ending(row), style.faint("allowed, not seen")] for row in result["unseen"]]
    lines += ["  " + line for line in columns(rows, right=frozenset({0}))]
    if result["uncounted"]:
        lines.append(f"  {counted(result['uncounted'], 'run')} ended in yet other ways")
    for claim in result["claims"]:
        if claim["verdict"] != "holds":
            why = f" ({claim['why']})" if claim["why"] else ""
            lines += wrapped(f"{claim['text']}: {claim['verdict']}{why}", style.width, "  ", "    ")
    for what in ("reason", "not_predicted"):
        if result[what]:
            said = "no model: " if what == "not_predicted" else ""
            lines += wrapped(said + result[what], style.width, "  ", "    ")
    return lines


def _verdict(result: Record, style: Style) -> str:
    word = {"holds": style.good, "violated": style.known}.get(result["verdict"], style.unsure)(result["verdict"])
    return f"{word}, {style.bad(NOT_ALLOWED.upper())}" if result["standing"] == "fail" else word


def _ending(row: Mapping[str, Any]) -> str:
    """What tells the outcome from others: values, answers about pages, who is stuck or was killed."""
    values = [f"{name}={'-' if v is None else v};" for name, v in row["registers"].items() if v != OK]
    values += [
        f"{text}={'?' if truth is None else 'yes' if truth else 'no'};" for text, truth in row["queries"].items()
    ]
    values += [f"{who} waits for ever;" for who in row["stuck"]]
    values += [f"{who}: {how};" for who, how in row.get("deaths", {}).items()]
    return " ".join(values) or "(nothing is asked)"


def _marks(row: Record, style: Style) -> str:
    marks = [style.bad(NOT_ALLOWED)] if row["allowed"] is False else []
    marks += [style.known(f"violates {text}") for text in row["violates"]]
    marks += [style.unsure("could not tell")] if row["reason"] else []
    return "; ".join(marks)


def _summary(doc: Record, style: Style) -> list[str]:
    summary = doc["summary"]
    parts = standings(summary, style, passed="within what the model allows", failed="NOT")
    results = [r for t in doc["tests"] for r in t["results"] if r["standing"] not in ("skip", "missing")]
    modelled = sum(r["modelled"] or 0 for r in results)
    seen = modelled - sum(len(r["unseen"]) for r in results)
    lines = [f"{counted(summary['results'], 'result')}: {', '.join(parts)}"]
    if modelled:
        lines.append(
            f"{seen} of {counted(modelled, 'allowed outcome')} seen in {sum(r['runs'] for r in results):,} runs"
        )
    lines.append("> the ordered form's outcome; * allowed by the model, and not seen; - never assigned")
    if doc["missing"] and doc["record"]:
        lines.append(f"Not finished; to go on: cowcatcher run --resume {doc['record']}")
    return [line for text in lines for line in wrapped(text, style.width, "", "  ")]


def stress_ktap(doc: Record) -> str:
    """One result line for each test on each kernel; ``ok``: nothing was seen that the model does not allow."""
    several = len(doc["on"]) > 1
    results = [(test["name"], result) for test in doc["tests"] for result in test["results"]]
    lines = ["KTAP version 1", f"1..{len(results)}"]
    for number, (test, result) in enumerate(results, 1):
        if result["standing"] == "missing":
            continue
        for row in result["outcomes"]:
            marks = "; ".join(["", *([NOT_ALLOWED] if row["allowed"] is False else []), *row["violates"]])
            lines.append(f"# {row['count']}/{result['runs']} {_ending(row)}{marks}")
        directive = ""
        if result["standing"] == "skip":
            directive = f"SKIP {result['reason']}"
        elif result["standing"] == "unknown":
            directive = f"{'TIMEOUT' if 'timeout' in result['statuses'] else 'ERROR'} {result['reason']}"
        name = f"{test} on {result['on']}" if several else test
        lines.append(result_line(number, name, result["standing"] in ("pass", "skip"), directive))
    summary = doc["summary"]
    lines.append(
        f"# Totals: pass:{summary['pass']} fail:{summary['fail']} xfail:0 xpass:0 "
        f"skip:{summary['skip']} error:{summary['unknown']}"
    )
    return "\n".join(lines) + "\n"

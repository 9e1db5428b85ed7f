"""The report of ``run`` as text: tests x kernels, what was seen beside what the model says, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from cowcatcher.real.host import OK
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, columns, counted, wrapped

_SIGNS = {"holds": ".", "violated": "X", "could not tell": "?", "not applicable": "-", "flaky": "~", None: " "}
#: A test more than this, and those that came out alike everywhere, as the model says, share a line.
_FEW = 30
#: What stands before a reason: "r0 = io_uring_register(x): ".
_STATEMENT = re.compile(r"^(\w+ = )?\w+\([^:]*\)( in thread \w+)?: ")


def run_text(doc: Record, style: Style, full: bool = False) -> str:
    """``full``: every test has a line of its own in the table, however many there are."""
    lines = _kernels(doc, style)
    tests: list[Record] = doc["tests"]
    if any(True for _ in _results(doc)):
        lines += ["", *_table(doc, style, full or len(tests) <= _FEW)]
    if len(tests) == len(doc["on"]) == 1:
        lines += _story(tests[0]["results"][0], style)
    for part in (_details(doc, style), _reasons(doc, style)):
        lines += ["", *part] if part else []
    lines += ["", *_summary(doc, style)]
    return "\n".join(lines) + "\n"


def _results(doc: Record) -> Iterator[tuple[Record, Record]]:
    """Every test with each of its results, without what was not run."""
    return ((t, r) for t in doc["tests"] for r in t["results"] if r["standing"] != "missing")


# --- what was asked ---------------------------------------------------------------------------------------------------


def _kernels(doc: Record, style: Style) -> list[str]:
    runs = f"{counted(doc['repeat'], 'run')} of each test"
    if len(doc["on"]) == 1:
        (only,) = doc["on"]
        name = "" if only["name"] == "host" else f"{only['name']}: "
        text = f"{name}Linux {only['release']}, modelled as {only['kernel']['name']}; {runs}{_machines(only)}"
        return wrapped(text, style.width, "", "  ")
    head = [style.faint(title) for title in ("kernel", "Linux", "modelled as", "seconds", "")]
    rows = [
        [on["name"], on["release"], on["kernel"]["name"], f"{on['seconds']:.1f}", _machines(on).removeprefix("; ")]
        for on in doc["on"]
    ]
    return [f"{counted(len(rows), 'kernel')}, {runs}:", *columns([head, *rows], right=frozenset({3}))]


def _machines(on: Record) -> str:
    return f"; {counted(on['lost'], 'virtual machine')} lost" if on["lost"] else ""


# --- the table --------------------------------------------------------------------------------------------------------


def _table(doc: Record, style: Style, every: bool) -> list[str]:
    """In words where they fit into the width, in signs where they do not."""
    for words in (True, False):
        lines = _rows(doc, style, every, words)
        if not words or all(len(line) <= style.width for line in _rows(doc, Style(), every, True)):
            break
    return [*lines, "", *wrapped(_legend(doc, words), style.width)]


def _rows(doc: Record, style: Style, every: bool, words: bool) -> list[str]:
    indent = "" if every else "  "
    lines: list[str] = []
    rows = [[style.faint("test"), *(style.faint(on["name"]) for on in doc["on"])]]
    shared: dict[int, list[str]] = {}  # behind which row, and what
    for group, tests in _groups(doc["tests"]):
        own = [t for t in tests if every or not _alike(t)]
        if not every:
            rows.append([style.strong(group)])
        rows += [[indent + t["name"], *(_cell(r, style, words) for r in t["results"])] for t in own]
        shared[len(rows) - 1] = _shared([t for t in tests if t not in own], doc, style, words)
    for number, line in enumerate(columns(rows)):
        lines += [line, *shared.get(number, ())]
    return lines


def _groups(tests: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """By the directory or group that they come from."""
    found: dict[str, list[Record]] = {}
    for test in tests:
        found.setdefault(test["path"].rpartition("/")[0] or "tests", []).append(test)
    return iter(found.items())


def _alike(test: Record) -> bool:
    """Did every kernel do the same, as its model says?"""
    return len({(r["verdict"], r["standing"]) for r in test["results"]}) == 1 and _plain(test["results"][0])


def _plain(result: Record) -> bool:
    return result["standing"] == "skip" or (
        result["standing"] == "pass" and result["predicted"] in (None, result["verdict"])
    )


def _shared(tests: Sequence[Record], doc: Record, style: Style, words: bool) -> list[str]:
    """One line for all that came out the same way on every kernel."""
    found: dict[str, list[str]] = {}
    for test in tests:
        found.setdefault(_cell(test["results"][0], style, words), []).append(test["name"])
    where = f" on all {len(doc['on'])}" if len(doc["on"]) > 1 else ""
    lines = []
    for cell, names in found.items():
        lines += wrapped(f"{cell}{where}: {', '.join(names)}", style.width, "  ", "      ")
    return lines


def _cell(result: Record, style: Style, words: bool) -> str:
    def said(verdict: str | None) -> str:
        if words and verdict in ("holds", "violated", "flaky"):
            return verdict
        return _SIGNS[verdict]

    standing, verdict, predicted = result["standing"], result["verdict"], result["predicted"]
    if standing == "missing":
        return ""
    if standing == "skip":
        return style.faint(said(verdict))
    if standing == "unknown":
        return style.unsure(said(verdict) + _how_often(result))
    if standing == "fail":
        mark = " DIFFERS" if words else "!"
        return style.bad(f"{said(verdict)}/{said(predicted) if predicted else 'no model'}{mark}")
    text = said(verdict) if predicted in (None, verdict) else f"{said(verdict)}/{said(predicted)}"
    return {"holds": style.good, "violated": style.known}.get(verdict, style.unsure)(text)


def _how_often(result: Record) -> str:
    """``7/10``: the most frequent outcome, where there are several."""
    return f" {result['outcomes'][0]['count']}/{result['runs']}" if len(result["outcomes"]) > 1 else ""


def _legend(doc: Record, words: bool) -> str:
    """What stands in the table and does not speak for itself."""
    found = list(_results(doc))
    verdicts = {v for _, r in found for v in (r["verdict"], r["predicted"])}
    names = {sign: name for name, sign in _SIGNS.items() if name in verdicts and not (words and len(name or "") < 9)}
    parts = [f"{sign} {name}" for sign, name in names.items() if name]
    if words and any(r["predicted"] not in (None, r["verdict"]) for _, r in found):
        parts.append("holds/violated: seen / in the model")
    elif not words:
        parts.append("one sign: seen, and in the model; two, as in ./X: seen / in the model")
        parts.append("! differs")
    if any(r["standing"] == "fail" and r["predicted"] is None for _, r in found):
        parts.append("no model: the claims themselves decide")
    return "; ".join(parts)


# --- why --------------------------------------------------------------------------------------------------------------


def _details(doc: Record, style: Style) -> list[str]:
    """What is otherwise than the model says, or was not the same each time: each thing once, with where it was seen."""
    lines = []
    for test in doc["tests"]:
        told: dict[str, list[str]] = {}
        for result in test["results"]:
            for note in _notes(result):
                told.setdefault(note, []).append(result["on"])
        for note, where in told.items():
            lines += wrapped(f"{test['name']}{_on(where, doc)}: {note}", style.width, "  ", "    ")
    return lines


def _notes(result: Record) -> list[str]:
    if result["standing"] not in ("fail", "unknown"):
        return []
    told = [f"{result['verdict']}: {result['reason']}"] if result["reason"] else []
    if len(result["outcomes"]) > 1:
        told += [f"{o['count']}/{result['runs']}: {_outcome(o)}" for o in result["outcomes"]]
    if result["standing"] == "fail":
        told += result["differences"]
        told += [
            f"{c['text']}: {c['verdict']} here, {c['predicted']} in the model"
            for c in result["claims"]
            if c["predicted"] not in (None, c["verdict"])
        ]
        if result["allowed"] is False:
            told.append("no execution of the model ends like this")
    return told


def _outcome(outcome: Record) -> str:
    values = [f"{name}={value}" for name, value in outcome["registers"].items() if value != OK]
    ends = [f"{who} ended by {how}" for who, how in outcome["deaths"].items() if how != "exit"]
    status = [outcome["status"]] if outcome["status"] != "ok" else []
    return " ".join([*status, *values, *ends]) or "no register was assigned"


def _reasons(doc: Record, style: Style) -> list[str]:
    """Why there is no verdict, or none of the model: each reason once, the most frequent first."""
    lines: list[str] = []
    for what, why in (("not applicable", "reason"), ("could not tell", "reason"), ("no prediction", "not_predicted")):
        found: dict[str, list[tuple[str, str]]] = {}
        for test, result in _results(doc):
            if result["standing"] != "unknown" and result[why] and what in (result["verdict"], "no prediction"):
                if what == "no prediction" and result["standing"] == "skip":
                    continue
                reason = _STATEMENT.sub("", result[why])
                found.setdefault(reason, []).append((test["name"], result["on"]))
        for reason, where in sorted(found.items(), key=lambda item: -len(item[1])):
            lines += wrapped(f"{what}: {reason}: {_where(where, doc)}", style.width, "  ", "    ")
    return lines


def _where(where: Iterable[tuple[str, str]], doc: Record) -> str:
    """Which tests on which kernels; few tests are named and many are counted."""
    tests: dict[str, list[str]] = {}
    for test, on in where:
        tests.setdefault(test, []).append(on)
    same: dict[tuple[str, ...], list[str]] = {}
    for test, kernels in tests.items():
        same.setdefault(tuple(kernels), []).append(test)
    return "; ".join(
        (", ".join(names) if len(names) <= 3 else counted(len(names), "test")) + _on(kernels, doc)
        for kernels, names in same.items()
    )


def _on(where: Sequence[str], doc: Record) -> str:
    return "" if len(where) == len(doc["on"]) else f" on {', '.join(where)}"


# --- one test alone ---------------------------------------------------------------------------------------------------


def _story(result: Record, style: Style) -> list[str]:
    """Every statement as it was executed, every claim."""
    if result["standing"] == "missing":
        return []
    lines: list[str] = []
    if result["log"]:
        rows = [
            [f"{number:>4}", step["actor"], step["statement"], _came_of(step)]
            for number, step in enumerate(result["log"], 1)
        ]
        lines += ["", "In this order, each statement to its end:", *columns(rows)]
    if result["claims"]:
        lines += [
            "",
            *(f"  {c['text']}: {c['verdict']}" + (f" ({c['why']})" if c["why"] else "") for c in result["claims"]),
        ]
    for stand_in in result["stand_ins"]:
        lines += wrapped(f"stand-in: {stand_in}", style.width, "  ", "    ")
    for note in result["notes"]:
        lines += wrapped(f"note: {note}", style.width, "  ", "    ")
    return lines


def _came_of(step: Record) -> str:
    if step["outcome"] == "value":
        return "" if step["result"] in (None, OK) else f"-> {step['result']}"
    return f"-> {step['result'] or step['outcome'].replace('_', ' ')}"


# --- the end ----------------------------------------------------------------------------------------------------------


def _summary(doc: Record, style: Style) -> list[str]:
    summary = doc["summary"]
    parts = [style.good(f"{summary['pass']} as the model says")]
    if summary["fail"]:
        parts.append(style.bad(f"{summary['fail']} DIFFER"))
    if summary["unknown"]:
        parts.append(style.unsure(f"{summary['unknown']} could not be told"))
    if summary["skip"]:
        parts.append(style.unsure(f"{summary['skip']} not applicable"))
    if summary["missing"]:
        parts.append(style.unsure(f"{summary['missing']} not run"))
    on = f" on {counted(len(doc['on']), 'kernel')}" if len(doc["on"]) > 1 else ""
    lines = wrapped(f"{counted(summary['tests'], 'test')}{on}: {', '.join(parts)}", style.width, "", "  ")
    if doc["missing"]:
        total = sum(doc["missing"].values())
        where = ", ".join(f"{count} on {name}" for name, count in doc["missing"].items())
        lines += wrapped(f"Not finished: {counted(total, 'run')} missing ({where}).", style.width, "", "  ")
        if doc["record"]:
            lines.append(f"To go on: cowcatcher run --resume {doc['record']}")
    elif not (summary["pass"] or summary["fail"] or summary["unknown"]):
        lines.append("Nothing could be run; 'cowcatcher doctor' says what is missing.")
    return lines

"""The report of ``run`` as text: tests x kernels, what was seen beside what the model says, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from string import ascii_lowercase
from typing import NamedTuple

from cowcatcher.real.host import OK
from cowcatcher.real.recording import HOST
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, columns, counted, wrapped

_SIGNS = {"holds": ".", "violated": "X", "flaky": "~", "could not tell": "?", "not applicable": "-", None: " "}
#: A test more than this, and those that came out alike everywhere, as the model says, share a line.
_FEW = 30
#: What stands before a reason: "r0 = io_uring_register(x): ".
_STATEMENT = re.compile(r"^(\w+ = )?\w+\([^:]*\)( in thread \w+)?: ")


def run_text(doc: Record, style: Style, full: bool = False) -> str:
    """``full``: every test has a line of its own in the table, however many there are."""
    tests: list[Record] = doc["tests"]
    form = _form(doc, style, full or len(tests) <= _FEW)
    lines = _kernels(doc, style, form)
    if _asked(doc):
        lines += ["", *_rows(doc, style, form)]
        if legend := _legend(doc, form):
            lines += ["", *wrapped(legend, style.width)]
    if len(tests) == len(doc["on"]) == 1:
        lines += _story(tests[0]["results"][0], style)
    if details := _details(doc, style):
        lines += ["", "Otherwise than the model says, or not told:", *details]
    lines += _reasons(doc, style)
    lines += ["", *_summary(doc, style)]
    return "\n".join(lines) + "\n"


def _results(doc: Record) -> Iterator[tuple[Record, Record]]:
    """Every test with each of its results, without what was not run."""
    return ((t, r) for t in doc["tests"] for r in t["results"] if r["standing"] != "missing")


def _asked(doc: Record) -> list[str]:
    """The kernels that anything was seen of."""
    names = {result["on"] for _, result in _results(doc)}
    return [on["name"] for on in doc["on"] if on["name"] in names]


# --- what was asked ---------------------------------------------------------------------------------------------------


def _kernels(doc: Record, style: Style, form: Form) -> list[str]:
    runs = f"{counted(doc['repeat'], 'run')} of each test"
    if len(doc["on"]) == 1:
        (only,) = doc["on"]
        name = "" if only["name"] == HOST else f"{only['name']}: "
        remarks = "".join(f"; {remark}" for remark in _remarks(only, doc))
        text = f"{name}Linux {only['release']}, modelled as {only['kernel']['name']}; {runs}{remarks}"
        return wrapped(text, style.width, "", "  ")
    head = [style.faint(title) for title in ("kernel", "Linux", "modelled as", "seconds", "")]
    rows = [
        [on["name"], on["release"], on["kernel"]["name"], f"{on['seconds']:.1f}" if on["seconds"] else "",
         ", ".join(_remarks(on, doc))]
        for on in doc["on"]
    ]  # fmt: skip
    if form.letters:
        head.insert(0, "")
        rows = [[letter, *row] for letter, row in zip(ascii_lowercase, rows, strict=False)]
    right = frozenset({4 if form.letters else 3})
    return [f"{counted(len(rows), 'kernel')}, {runs}:", *columns([head, *rows], right=right)]


def _remarks(on: Record, doc: Record) -> list[str]:
    lost = [f"{counted(on['lost'], 'machine')} lost"] if on["lost"] else []
    missing = doc["missing"].get(on["name"])
    return lost + ([f"{counted(missing, 'run')} missing"] if missing else [])


# --- the table --------------------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """``every``: each test has a line. ``words``: verdicts in words. ``letters``: they stand for the kernels."""

    every: bool
    words: bool = True
    letters: bool = False


def _form(doc: Record, style: Style, every: bool) -> Form:
    """The most telling one that fits into the width."""
    forms = [Form(every), Form(every, words=False)]
    if len(doc["on"]) <= len(ascii_lowercase):
        forms.append(Form(every, words=False, letters=True))
    fits = (f for f in forms if all(len(line) <= style.width for line in _rows(doc, Style(width=style.width), f)))
    return next(fits, forms[-1])


def _rows(doc: Record, style: Style, form: Form) -> list[str]:
    indent = "" if form.every else "  "
    names = [on["name"] for on in doc["on"]]
    rows = [[style.faint(title) for title in ("test", *(ascii_lowercase if form.letters else names)[: len(names)])]]
    shared: dict[int, list[str]] = {}  # behind which row, and what
    for group, tests in _groups(doc["tests"]):
        own = [t for t in tests if form.every or not _alike(t)]
        if not form.every:
            rows.append([style.strong(group)])
        rows += [[indent + t["name"], *(_cell(r, style, form) for r in t["results"])] for t in own]
        shared[len(rows) - 1] = _shared([t for t in tests if t not in own], doc, style, form)
    lines: list[str] = []
    for number, line in enumerate(columns(rows)):
        lines += [line, *shared.get(number, ())]
    return lines


def _groups(tests: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """By the directory or group that they come from."""
    found: dict[str, list[Record]] = {}
    for test in tests:
        found.setdefault(test["path"].rpartition("/")[0] or "tests", []).append(test)
    return iter(found.items())


def _telling(test: Record) -> list[Record]:
    """Its results, without those of kernels on which it is not applicable; these too if there are no others."""
    found = [r for r in test["results"] if r["standing"] != "missing"]
    return [r for r in found if r["standing"] != "skip"] or found


def _alike(test: Record) -> bool:
    """Did every kernel that can run it do the same, as its model says?"""
    found = _telling(test)
    return len({(r["verdict"], r["standing"]) for r in found}) == 1 and _plain(found[0])


def _plain(result: Record) -> bool:
    return result["standing"] == "skip" or (
        result["standing"] == "pass" and result["predicted"] in (None, result["verdict"])
    )


def _shared(tests: Sequence[Record], doc: Record, style: Style, form: Form) -> list[str]:
    """One line for all that came out the same way on the same kernels."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    order = list(_SIGNS)
    for test in sorted(tests, key=lambda test: order.index(_telling(test)[0]["verdict"])):
        where = tuple(r["on"] for r in _telling(test))
        found.setdefault((_cell(_telling(test)[0], style, form), where), []).append(test["name"])
    lines = []
    for (cell, where), names in found.items():
        on = _on(where, doc) or (f" on all {len(where)}" if len(doc["on"]) > 1 else "")
        lines += wrapped(f"{cell}{on}: {', '.join(names)}", style.width, "  ", "      ")
    return lines


def _cell(result: Record, style: Style, form: Form) -> str:
    def said(verdict: str | None) -> str:
        if form.words and verdict in ("holds", "violated", "flaky"):
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
        mark = " DIFFERS" if form.words else "!"
        return style.bad(f"{said(verdict)}/{said(predicted) if predicted else 'none'}{mark}")
    text = said(verdict) if predicted in (None, verdict) else f"{said(verdict)}/{said(predicted)}"
    return {"holds": style.good, "violated": style.known}.get(verdict, style.unsure)(text)


def _how_often(result: Record) -> str:
    """``7/10``: the most frequent outcome, where there are several."""
    return f" {result['outcomes'][0]['count']}/{result['runs']}" if len(result["outcomes"]) > 1 else ""


def _legend(doc: Record, form: Form) -> str:
    """What stands in the table and does not speak for itself."""
    found = [r for _, r in _results(doc)]
    shown = {v for r in found for v in (r["verdict"], r["predicted"])}
    told_by_itself = ("holds", "violated", "flaky") if form.words else ()
    parts = [f"{sign} {name}" for name, sign in _SIGNS.items() if name and name in shown and name not in told_by_itself]
    if any(r["standing"] in ("pass", "fail") and r["predicted"] not in (None, r["verdict"]) for r in found):
        parts.append(
            f"{'holds/violated' if form.words else './X'}: seen / in the model, where that says something else"
        )
    if not form.words and any(r["standing"] == "fail" for r in found):
        parts.append("! differs")
    if any(r["standing"] == "fail" and r["predicted"] is None for r in found):
        parts.append("/none: no model, the claims decide")
    if not form.every:
        parts.append("tests that came out alike, as the model says, share a line (--full: one each)")
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
        told += [f"{o['count']}/{result['runs']}: {outcome_text(o)}" for o in result["outcomes"]]
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


def outcome_text(outcome: Record) -> str:
    """How a run ended, in a line."""
    told = [] if outcome["status"] == "ok" else [outcome["status"]]
    told += [f"{name}={value}" for name, value in outcome["registers"].items() if value != OK]
    told += [f"{who} ended by {how}" for who, how in outcome["deaths"].items() if how != "exit"]
    ruled_out = ", which the model rules out" if outcome["allowed"] is False else ""
    return (" ".join(told) or "no register has a value") + ruled_out


def _reasons(doc: Record, style: Style) -> list[str]:
    """Why there is no verdict, or none of the model: each reason once, the most frequent first."""
    found: dict[str, dict[str, list[tuple[str, str]]]] = {}  # what there is not, why, of which test on which kernel
    for test, result in _results(doc):
        whys = []
        if result["standing"] != "unknown" and result["reason"]:
            whys.append((result["verdict"], result["reason"]))
        if result["standing"] != "skip" and result["not_predicted"]:
            whys.append(("no prediction", result["not_predicted"]))
        for what, why in whys:
            where = found.setdefault(what, {}).setdefault(_STATEMENT.sub("", why), [])
            where.append((test["name"], result["on"]))
    lines: list[str] = []
    for what, reasons in found.items():
        lines += ["", f"{what.capitalize()}:"]
        for why, where in sorted(reasons.items(), key=lambda item: -len(item[1])):
            lines += wrapped(f"{_where(where, doc)}: {why}", style.width, "  ", "    ")
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
    others = [name for name in _asked(doc) if name not in where]
    if not others:
        return ""
    return f" on all but {', '.join(others)}" if len(others) < min(4, len(where)) else f" on {', '.join(where)}"


# --- one test alone ---------------------------------------------------------------------------------------------------


def _story(result: Record, style: Style) -> list[str]:
    """Every statement as it was executed, every claim, and where the pages were."""
    if result["standing"] == "missing":
        return []
    lines: list[str] = []
    if result["log"]:
        lines += ["", "In this order, each statement to its end:", *columns(_steps(result["log"]))]
    if result["claims"]:
        lines += [
            "",
            *(f"  {c['text']}: {c['verdict']}" + (f" ({c['why']})" if c["why"] else "") for c in result["claims"]),
        ]
    frames = [_page(page) for page in result["pages"]]
    frames += [f"{pin['pin']}[{pin['page']}] pins frame {pin['frame']:x}" for pin in result["pinned"]]
    if frames:
        lines += ["", *wrapped(f"In the end: {'; '.join(frames)}", style.width, "  ", "    ")]
    if result["backends"]:
        taken = "; ".join(f"{statement} by {name}" for statement, name in result["backends"].items())
        lines += wrapped(f"pins: {taken}", style.width, "  ", "    ")
    for stand_in in result["stand_ins"]:
        lines += wrapped(f"stand-in: {stand_in}", style.width, "  ", "    ")
    for note in result["notes"]:
        lines += wrapped(f"note: {note}", style.width, "  ", "    ")
    return lines


def _steps(log: Sequence[Record]) -> Iterator[list[str]]:
    """Of a traced run, behind each statement the pages that are not as they were."""
    before: Sequence[Record] = ()
    for number, step in enumerate(log, 1):
        changed = "; ".join(_page(page) for page in step["pages"] if page not in before)
        before = step["pages"]
        yield [f"{number:>4}", step["actor"], step["statement"], _came_of(step), *([changed] if changed else [])]


def _page(page: Record) -> str:
    name = f"{page['process']}:{page['mapping']}[{page['page']}]"
    if page["frame"] is None:
        return f"{name} {page['state']}"
    return f"{name} frame {page['frame']:x}" + (f" mapped {page['mapped']}x" if page["mapped"] != 1 else "")


def _came_of(step: Record) -> str:
    if step["outcome"] == "value":
        return "" if step["result"] in (None, OK) else f"-> {step['result']}"
    return f"-> {step['result'] or step['outcome'].replace('_', ' ')}"


# --- the end ----------------------------------------------------------------------------------------------------------


def standings(summary: Record, style: Style, *, passed: str, failed: str) -> list[str]:
    """How many tests stand how: those that passed in any case, the others where there are some."""
    parts = [style.good(f"{summary['pass']} {passed}")]
    if summary["fail"]:
        parts.append(style.bad(f"{summary['fail']} {failed}"))
    if summary["unknown"]:
        parts.append(style.unsure(f"{summary['unknown']} could not be told"))
    if summary["skip"]:
        parts.append(style.unsure(f"{summary['skip']} not applicable"))
    if summary["missing"]:
        parts.append(style.unsure(f"{summary['missing']} not run"))
    return parts


def _summary(doc: Record, style: Style) -> list[str]:
    summary = doc["summary"]
    parts = standings(summary, style, passed="as the model says", failed="DIFFER")
    on = f" on {counted(len(doc['on']), 'kernel')}" if len(doc["on"]) > 1 else ""
    lines = wrapped(f"{counted(summary['tests'], 'test')}{on}: {', '.join(parts)}", style.width, "", "  ")
    more = doc["would_add"]
    if more["root"]:
        lines += wrapped(
            f"As root, {counted(more['root'], 'result')} more could be told: frame numbers are shown to CAP_SYS_ADMIN, "
            "and memory is locked without limit.", style.width, "", "  "
        )  # fmt: skip
    if more["virtual_machine"]:
        lines += wrapped(
            f"In virtual machines, which have swap, soft-dirty bits and every device that needs no hardware, "
            f"{counted(more['virtual_machine'], 'test')} more can be run: --on 7.3 (see 'cowcatcher kernels install').",
            style.width, "", "  ",
        )  # fmt: skip
    if doc["missing"]:
        lines.append(f"Not finished: {counted(sum(doc['missing'].values()), 'run')} missing.")
        if doc["record"]:
            lines.append(f"To go on: cowcatcher run --resume {doc['record']}")
    elif not (summary["pass"] or summary["fail"] or summary["unknown"]):
        lines.append("Nothing could be run; 'cowcatcher doctor' says what is missing.")
    return lines

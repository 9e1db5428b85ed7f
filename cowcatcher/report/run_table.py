"""``run --on``: tests x kernels, what each kernel was seen to do beside what its own model says."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.kernels import Kernel
from cowcatcher.report.check_ktap import result_line
from cowcatcher.report.record import Record, document, kernel_record
from cowcatcher.report.run_record import exit_status
from cowcatcher.report.run_text import notes_of, standings_text
from cowcatcher.report.style import Style, columns, counted, wrapped

STANDINGS = ("pass", "fail", "unknown", "skip")


def column_record(name: str, release: str, kernel: Kernel, seconds: float, **more: object) -> Record:
    """A kernel that was asked: ``kernel`` is the modelled one that stands for it. ``more``: figures of its machines."""
    return {
        "name": name,
        "release": release,
        "kernel": kernel_record(kernel) | {"summary": kernel.summary},
        "seconds": round(seconds, 3),
        **more,
    }


def table_document(
    on: Sequence[Record], tests: Sequence[Sequence[Record]], repeat: int, interrupted: bool = False
) -> Record:
    """``tests``: for each test the records that ``run_record`` makes, one for each of ``on``."""
    rows = []
    for results in tests:
        first = results[0]
        shared = {key: first[key] for key in ("name", "path", "description")}
        own = [
            {"on": column["name"], **{key: value for key, value in result.items() if key not in shared}}
            for column, result in zip(on, results, strict=True)
        ]
        rows.append(shared | {"results": own})
    standings = [result["standing"] for row in rows for result in row["results"]]
    summary = {name: standings.count(name) for name in STANDINGS}
    return document(
        "run",
        on=list(on),
        repeat=repeat,
        tests=rows,
        interrupted=interrupted,
        summary={"tests": len(rows), "results": len(standings), **summary},
        exit=130 if interrupted else exit_status(summary),
    )


def table_text(doc: Record, style: Style) -> str:
    lines = []
    for column in doc["on"]:
        text = f"{column['name']}: Linux {column['release']}, modelled as {column['kernel']['name']}; "
        text += f"{counted(doc['repeat'], 'run')} of each test in {column['seconds']:.1f} s"
        if column.get("lost"):
            text += f"; {counted(column['lost'], 'virtual machine')} lost"
        lines += wrapped(text, style.width, "", "  ")
    if doc["tests"] and doc["on"]:
        rows = [[style.faint("test"), *(style.faint(column["name"]) for column in doc["on"])]]
        rows += [[test["name"], *(_cell(result, style) for result in test["results"])] for test in doc["tests"]]
        lines += ["", *columns(rows)]
        lines += ["", *wrapped("One word: seen, and what the model says. Two, as in holds/violated: seen / model. "
                               "-: not applicable. ?: could not tell.", style.width)]  # fmt: skip
        if notes := _notes(doc, style):
            lines += ["", *notes]
    lines += ["", _summary(doc, style)]
    if doc["interrupted"]:
        lines.append("Interrupted: what is missing was not run to its end.")
    return "\n".join(lines) + "\n"


def _cell(result: Record, style: Style) -> str:
    seen, predicted = result["verdict"], result["predicted"]
    if result["standing"] == "skip":
        return style.faint("-")
    if result["standing"] == "unknown":
        return style.unsure("flaky" if seen == "flaky" else "?")
    if result["standing"] == "fail":
        return style.bad(f"{_short(seen)}/{_short(predicted) if predicted else 'no model'} DIFFERS")
    word = _short(seen) if predicted in (None, seen) else f"{_short(seen)}/{_short(predicted)}"
    return {"holds": style.good, "violated": style.known}.get(seen, style.unsure)(word)


def _short(verdict: str) -> str:
    return "?" if verdict == "could not tell" else verdict


def _notes(doc: Record, style: Style) -> list[str]:
    """Each thing once, with the kernels that it was seen on."""
    lines = []
    for test in doc["tests"]:
        told: dict[str, list[str]] = {}
        for result in test["results"]:
            for note in notes_of(result):
                told.setdefault(note, []).append(result["on"])
        for note, where in told.items():
            on = "" if len(where) == len(doc["on"]) else f" on {', '.join(where)}"
            lines += wrapped(f"{test['name']}{on}: {note}", style.width, "  ", "    ")
    return lines


def _summary(doc: Record, style: Style) -> str:
    what = f"{counted(doc['summary']['tests'], 'test')} on {counted(len(doc['on']), 'kernel')}"
    return f"{what}: {standings_text(doc['summary'], style, 'not applicable')}"


def table_ktap(doc: Record) -> str:
    """One result line for each test on each kernel; ``ok`` means that the kernel did what its model says."""
    results = [(test["name"], result) for test in doc["tests"] for result in test["results"]]
    lines = ["KTAP version 1", f"1..{len(results)}"]
    for number, (name, result) in enumerate(results, 1):
        lines.append(f"# {name} on {result['on']}: {result['verdict']}, {result['predicted'] or 'nothing'} predicted")
        lines += [f"# {difference}" for difference in result["differences"]]
        directive = ""
        if result["standing"] == "skip":
            directive = f"SKIP {result['reason']}"
        elif result["standing"] == "unknown":
            directive = f"{'TIMEOUT' if 'timeout' in result['statuses'] else 'ERROR'} {result['reason']}"
        ok = result["standing"] in ("pass", "skip")
        lines.append(result_line(number, f"{name} on {result['on']}", ok, directive))
    summary = doc["summary"]
    lines.append(
        f"# Totals: pass:{summary['pass']} fail:{summary['fail']} xfail:0 xpass:0 "
        f"skip:{summary['skip']} error:{summary['unknown']}"
    )
    return "\n".join(lines) + "\n"

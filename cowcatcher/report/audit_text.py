"""``audit`` for people: what is wrong first, each with its bytes, page, events and verdict; then the rest in short."""

from __future__ import annotations

from collections.abc import Callable

from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, columns, counted, wrapped

#: Told in full; the others are a line or two each, unless all is wanted.
_IN_FULL = ("error", "warning", "could not tell")
#: Events of one finding that are listed unless all are wanted.
_EVENTS = 12


def audit_text(doc: Record, style: Style, full: bool = False) -> str:
    lines = _head(doc, style)
    for finding in doc["findings"]:
        if full or finding["severity"] in _IN_FULL:
            lines += ["", *finding_lines(finding, style, _started(doc), full)]
    if not full:
        lines += _in_short([f for f in doc["findings"] if f["severity"] not in _IN_FULL], style)
    lines += ["", *_sum(doc, style)]
    return "\n".join(lines) + "\n"


def finding_line(finding: Record, style: Style) -> str:
    """One finding in one line, as watching prints it."""
    where = f"{finding['program'] or 'process'}[{finding['process']}]"
    severity = _PAINT[finding["severity"]](style, finding["severity"])
    return f"{severity}  {finding['rule']}  {where}: {finding['title']}"


def finding_lines(finding: Record, style: Style, started: float = 0.0, full: bool = False) -> list[str]:
    """One finding with all its evidence. Times are told from ``started`` on."""
    times = f" (and {counted(finding['times'] - 1, 'time')} more)" if finding["times"] > 1 else ""
    lines = wrapped(finding_line(finding, style) + times, style.width, "", "    ")
    for paragraph in filter(None, [finding["explanation"], _remedy(finding)]):
        lines += wrapped(paragraph, style.width, "  ", "  ")
    if finding["ranges"]:
        lines += [
            "",
            *_section("Memory", [[_bytes(r), counted(r["end"] - r["start"], "byte")] for r in finding["ranges"]]),
        ]
    if finding["owners"]:
        lines += ["", *_section("Page", [[_bytes(o), o["kind"], o["who"]] for o in finding["owners"]])]
    if finding["timeline"]:
        lines += ["", *_timeline(finding, style, started, full)]
    return lines + _judged(finding, style)


def _remedy(finding: Record) -> str:
    return f"What to do: {finding['remedy']}" if finding["remedy"] else ""


_PAINT: dict[str, Callable[[Style, str], str]] = {
    "error": Style.bad,
    "warning": Style.known,
    "could not tell": Style.unsure,
    "note": Style.strong,
    "good": Style.good,
}


def _started(doc: Record) -> float:
    told = [m["time"] for f in doc["findings"] for m in f["timeline"] if m["time"]]
    return float(doc["seen"].get("started") or (min(told) if told else 0.0))


def _head(doc: Record, style: Style) -> list[str]:
    source, seen, kernel = doc["source"], doc["seen"], doc["kernel"]
    what = " ".join(source["command"]) if source["mode"] == "command" else ""
    what = what or (source["file"] if source["mode"] == "trace" else f"process {source['pid']}")
    where = (
        ", on " + (f"{kernel['release']} (modelled as {kernel['name']})" if kernel["release"] else kernel["name"])
        if kernel
        else "; the kernel it ran on is not known: name it with --kernel"
    )
    parts = [counted(seen["events"], "event"), counted(seen["processes"], "process", "processes")]
    parts += [counted(seen["forks"], "fork"), counted(seen["pins"], "pin")]
    parts += [f"{counted(seen['lost'], 'thing')} that could not be seen"] if seen["lost"] else []
    lines = wrapped(f"{style.strong(what)}: {', '.join(parts)}{where}", style.width, "", "  ")
    if doc["interrupted"]:
        lines.append(style.unsure("Interrupted: this is what was known by then."))
    elif source["mode"] == "command" and (living := seen.get("living", 0)):
        left = counted(living, "process that it left behind goes on", "processes that it left behind go on")
        lines.append(f"{left}, not watched any more (--seconds).")
    return lines


def _bytes(found: Record) -> str:
    return f"{found['start']:#x}-{found['end']:#x}"


def _section(title: str, rows: list[list[str]]) -> list[str]:
    return [f"  {title}", *(f"    {line}" for line in columns(rows))]


def _timeline(finding: Record, style: Style, started: float, full: bool) -> list[str]:
    moments = finding["timeline"]
    shown = moments if full or len(moments) <= _EVENTS else [*moments[: _EVENTS // 2], *moments[-_EVENTS // 2 :]]
    left = len(moments) - len(shown)
    rows = [_row(m, started) for m in shown]
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  Events"]
    for place, (moment, row) in enumerate(zip(shown, rows, strict=True)):
        if left and place == _EVENTS // 2:
            lines.append(f"    ... {counted(left, 'more event')} (--full)")
        start = "    " + "  ".join(cell.rjust(width) for cell, width in zip(row, wide, strict=True)) + "  "
        lines += wrapped(moment["text"], style.width, start, " " * len(start))
        if moment["stack"]:
            lines += wrapped(style.faint("by " + " < ".join(moment["stack"])), style.width, " " * (len(start) + 2))
    return lines


def _row(moment: Record, started: float) -> list[str]:
    line = f"line {moment['line']}" if moment["line"] else "seen live"
    time = f"+{max(moment['time'] - started, 0):.3f} s" if moment["time"] and started else ""
    return [line, time, str(moment["task"])]


def _judged(finding: Record, style: Style) -> list[str]:
    judged = finding["judged"]
    if judged is None:
        return []
    if judged["why_not"] and not judged["kernels"]:
        return ["", *wrapped(f"No test: {judged['why_not']}.", style.width, "  ", "  ")]
    lines = ["", *wrapped(f"Asked of the model: {finding['question']}", style.width, "  ", "  ")]
    if judged["here"] is not None:
        here = judged["here"]
        because = f": {here['because']}" if here["because"] else ""
        lines += wrapped(f"here, {here['kernel']}  {_verdict(here, style)}{because}", style.width, "    ", "      ")
    for row in judged["kernels"]:
        because = f": {row['because']}" if row["because"] else ""
        lines += wrapped(f"{row['kernel']}  {_verdict(row, style)}{because}", style.width, "    ", "      ")
    lines += [f"  Left out of the test: {text}" for text in finding["left_out"]]
    if judged["small"]:
        lines += [
            "",
            "  As a test (--emit writes it)",
            *(f"    {line}".rstrip() for line in judged["small"].splitlines()),
        ]
    return lines


def _verdict(row: Record, style: Style) -> str:
    paint = {"holds": style.good, "violated": style.bad}.get(row["verdict"], style.unsure)
    return paint(row["verdict"])


def _in_short(findings: list[Record], style: Style) -> list[str]:
    lines = [""] if findings else []
    for finding in findings:
        lines += wrapped(finding_line(finding, style), style.width, "", "    ")
        judged = finding["judged"]
        here = judged and judged["here"]
        if judged and not here and judged["kernels"]:
            told = "; ".join(f"{row['kernel']} {row['verdict']}" for row in judged["kernels"])
            lines += wrapped(f"which kernel it was is not known: {told}", style.width, "    ", "    ")
        if finding["severity"] == "good" and here and here["because"]:
            word = "not needed here" if finding["rule"] == "fork-protection" else "at no risk here"
            lines += wrapped(f"{word}: {here['because']}", style.width, "    ", "    ")
    return lines


def _sum(doc: Record, style: Style) -> list[str]:
    counts: dict[str, int] = {}
    for finding in doc["findings"]:
        counts[finding["severity"]] = counts.get(finding["severity"], 0) + 1
    if not counts:
        text = "Nothing to report: " + (
            "no memory was pinned." if not doc["seen"]["pins"] else "nothing that was pinned is at risk."
        )
        return wrapped(style.good(text), style.width)
    names = {"error": "error", "warning": "warning", "note": "note"}
    told = [counted(n, names[s]) if s in names else f"{n} {s}" for s, n in counts.items()]
    return wrapped(f"{', '.join(told)}.", style.width)

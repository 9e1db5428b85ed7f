"""Kernels, their differences and all decisions as text."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.report.prose import cited
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, columns, wrapped


def kernels_text(doc: Record, style: Style) -> str:
    """One line a kernel, by kind."""
    titles = {
        "line": "The line of releases: each entry is the one before with the changes named",
        "stable": "Stable series that differ",
        "proposal": "Proposals, never merged in this form",
    }
    lines: list[str] = []
    for kind, title in titles.items():
        found = [k for k in doc["kernels"] if k["kind"] == kind]
        if found:
            lines += ["", style.strong(title)]
            lines += [f"  {line}" for line in columns([[k["name"], k["summary"]] for k in found])]
    lines += ["", "A release that is not listed means the newest entry not after it: v6.8 is v6.5."]
    return "\n".join(lines[1:]) + "\n"


def kernel_text(kernel: Record, style: Style) -> str:
    """One kernel in full."""
    lines = [f"{style.strong(kernel['name'])}: {kernel['summary']}"]
    if kernel["base"]:
        lines.append(f"based on {kernel['base']}")
    proposal = kernel["proposal"]
    if proposal:
        lines += ["", f'"{proposal["title"]}"', f"{proposal['who']}, {proposal['date']}", proposal["link"]]
        lines += wrapped(proposal["note"], style.width)
    lines += ["", "What it changed:" if kernel["base"] else "What it decides:"]
    for decision in kernel["changes"]:
        lines += ["", *_decision(decision, style)]
    if not kernel["changes"]:
        lines.append("  nothing that is modelled")
    if kernel["base"]:
        lines += ["", "All its decisions:"]
        lines += [f"  {line}" for line in columns([[q, d] for q, d in kernel["decisions"].items()])]
    return "\n".join(lines) + "\n"


def diff_text(doc: Record, style: Style) -> str:
    """What one kernel answers differently from another."""
    lines = [f"{doc['before']} -> {doc['after']}: {len(doc['differences'])} of their decisions differ"]
    for entry in doc["differences"]:
        lines += ["", style.strong(entry["question"])]
        for sign, side in (("-", entry["before"]), ("+", entry["after"])):
            lines += _signed(sign, side, style)
    return "\n".join(lines) + "\n"


def _signed(sign: str, decision: Record, style: Style) -> list[str]:
    colored = style.bad if sign == "-" else style.good
    lines = [colored(f"{sign} {decision['name']}")]
    lines += wrapped(decision["doc"], style.width, "    ")
    return lines + _commits(decision["commits"], style, "    ")


def decisions_text(doc: Record, style: Style) -> str:
    """Every question, and under it every answer that some kernel gives."""
    lines: list[str] = []
    for question, about in doc["questions"].items():
        lines += ["", style.strong(f"{question}({', '.join(about['facts'])})")]
        lines += wrapped(about["asks"], style.width, "  ")
        for decision in doc["decisions"]:
            if decision["question"] == question:
                lines += _decision(decision, style, "  ")
    return "\n".join(lines[1:]) + "\n"


def _decision(decision: Record, style: Style, indent: str = "  ") -> list[str]:
    since = f"  since {decision['taken_by']}" if decision["taken_by"] else "  never on the line"
    lines = [f"{indent}{style.good(decision['name'])}{style.faint(since)}"]
    lines += wrapped(decision["doc"], style.width, indent + "  ")
    if decision["source"]:
        lines.append(f"{indent}  {style.faint(decision['source'])}")
    return lines + _commits(decision["commits"], style, indent + "  ")


def _commits(commits: Sequence[Record], style: Style, indent: str) -> list[str]:
    lines = []
    for commit in commits:
        first = f", in {commit['first']}" if commit["first"] else ""
        stable = f"; also in {', '.join(commit['stable'])}" if commit["stable"] else ""
        lines += wrapped(f"commit {cited([commit])}{first}{stable}", style.width, indent, indent + "  ")
        if commit["link"]:
            lines.append(f"{indent}  {commit['link']}")
    return lines

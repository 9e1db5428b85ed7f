"""``hunt`` for people: how much was searched, and what was found in it, by class."""

from __future__ import annotations

from cowcatcher.report.check_text import witness_lines
from cowcatcher.report.hunt_record import blamed_text, cures_text
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, columns, counted, wrapped

#: Findings of one class that are listed unless all are wanted.
_SHOWN = 8


def hunt_text(doc: Record, style: Style, full: bool = False, directory: str = "") -> str:
    lines: list[str] = []
    for hunt in doc["hunts"]:
        lines += [*(["", ""] if lines else []), *_hunt(hunt, style, full)]
    if doc["interrupted"]:
        lines += ["", style.unsure("Interrupted: this is what was known by then.")]
    if directory:
        lines += ["", f"Written to {directory}."]
    return "\n".join(lines) + "\n"


def _hunt(hunt: Record, style: Style, full: bool) -> list[str]:
    title = style.strong(hunt["kernel"]["name"])
    if hunt["against"]:
        title += f" against {style.strong(hunt['against']['name'])}"
    lines = [title, *wrapped(_space(hunt), style.width, "  ", "  "), *wrapped(_effort(hunt), style.width, "  ", "  ")]
    if hunt["stopped"]:
        lines += wrapped(style.unsure(f"Not finished: {hunt['stopped']}."), style.width, "  ", "  ")
    if hunt["cut"]:
        lines.append("  " + style.unsure("More violating states than are looked at: findings may be missing."))
    for group in hunt["classes"]:
        lines += ["", *_class(group, style, full)]
    if hunt["differences"]:
        lines += ["", *_differences(hunt, style, full)]
    if hunt["untold"]:
        text = f"{counted(hunt['untold'], 'more way')} after which they differ, that no ordered test tells."
        lines += ["", *wrapped(text, style.width, "  ", "  ")]
    if not hunt["classes"] and not hunt["differences"] and not hunt["untold"]:
        what = "No difference" if hunt["against"] else "No violation"
        lines += ["", f"  {style.good(what)} in what was searched."]
    return lines


def _space(hunt: Record) -> str:
    who = [
        counted(hunt["processes"], "process", "processes"),
        f"{counted(hunt['pages'], 'page')} of {hunt['memory_kind']}",
        counted(hunt["pins"], "pin"),
    ]
    if hunt["threads"]:
        who.insert(1, counted(hunt["threads"], "more thread"))
    how = "in one order, each statement to its end" if hunt["against"] else "in every interleaving"
    reclaims = ", each reclaim counted as one" if "reclaim" in hunt["letters"] else ""
    depth = hunt["complete"] if hunt["stopped"] else hunt["depth"]
    return (
        f"every program of at most {counted(max(depth, 0), 'statement')}{reclaims}, {how}; {', '.join(who)}; "
        f"letters {' '.join(hunt['letters'])}"
    )


def _effort(hunt: Record) -> str:
    rate = hunt["transitions"] / hunt["seconds"] if hunt["seconds"] else 0
    text = f"{counted(hunt['states'], 'state')}, {counted(hunt['transitions'], 'step')}, {hunt['seconds']:.1f} s"
    if hunt["seconds"] >= 1:
        text += f" ({rate / 1e6:.1f} million steps a second)"
    if not hunt["exact"] and hunt["states"]:
        text += f"; that a state was missed has a probability of at most {hunt['chance_of_a_miss']:.1g}"
    return text


def _class(group: Record, style: Style, full: bool) -> list[str]:
    count = counted(len(group["findings"]), "minimal program")
    lines = wrapped(f"{style.bad(group['check'])} is violated by {count}. {cures_text(group)}", style.width, "  ", "  ")
    shown = group["findings"] if full else group["findings"][:_SHOWN]
    lines += _listed(shown)
    if len(shown) < len(group["findings"]):
        lines.append(f"    and {len(group['findings']) - len(shown)} more (--full)")
    smallest = group["findings"][0]
    lines += ["", f"  The smallest, {smallest['name']}, step by step:"]
    return lines + [f"  {line}" for line in witness_lines(smallest["witness"])]


def _listed(findings: list[Record]) -> list[str]:
    return [f"    {line}" for line in columns([f["name"], _program(f)] for f in findings)]


def _program(finding: Record) -> str:
    return " | ".join(f"{name}: {'; '.join(body)}" for name, body in finding["actors"].items() if body)


def _differences(hunt: Record, style: Style, full: bool) -> list[str]:
    here, there = hunt["kernel"]["name"], hunt["against"]["name"]
    groups: dict[tuple[str, ...], list[Record]] = {}
    for difference in hunt["differences"]:
        key = (difference["kind"], *(d["name"] for d in difference["blamed"]))
        groups.setdefault(key, []).append(difference)
    count = counted(len(hunt["differences"]), "minimal program")
    lines = [f"  {count} behave differently, in {counted(len(groups), 'way')}:"]
    for group in groups.values():
        first = group[0]
        what = f"{first['what']}: {first['here']} on {here}, {first['there']} on {there}"
        lines += ["", f"    {style.strong(first['name'])}"]
        lines += wrapped(_program(first), style.width, "      ", "        ")
        lines += wrapped(f"{what}. {blamed_text(first, here, there)}", style.width, "      ", "      ")
        others = group[1:] if full else group[1:_SHOWN]
        if others:
            left = len(group) - 1 - len(others)
            names = ", ".join(d["name"] for d in others) + (f" and {left} more (--full)" if left else "")
            lines += wrapped(f"So do {names}.", style.width, "      ", "      ")
    return lines

"""A witness drawn as swim lanes: time runs downwards, one column an actor. Plain ASCII, fit for a mail."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.report.prose import answer_text, facts_text
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, wrapped

_GAP = 2
_NARROWEST = 24
#: Fields that come and go within a statement and are told in full only.
_PASSING = {"mmap_lock", "write_protect_seq", "count", "vma"}


def timeline(doc: Record, style: Style, full: bool = False) -> list[str]:
    """The steps of ``doc``. Steps that change nothing worth telling are folded into the next, unless ``full``."""
    steps: list[Record] = doc["steps"]
    if not steps:
        return []
    actors: list[str] = doc["actors"]
    blocks = _blocks(steps, full, _telling(doc))
    gutter = max(len(b["numbers"]) for b in blocks) + 1
    wide = (style.width - gutter - _GAP * len(actors)) // len(actors)
    if wide < _NARROWEST:
        return _as_list(blocks, style, gutter)
    gap = " " * _GAP
    lines = [
        (" " * gutter + gap + gap.join(a.ljust(wide) for a in actors)).rstrip(),
        "-" * gutter + gap + gap.join("-" * wide for _ in actors),
    ]
    for block in blocks:
        column = actors.index(block["actor"])
        left = " " * (column * (wide + _GAP))
        for position, line in enumerate(_fitted(block["lines"], wide)):
            number = block["numbers"].rjust(gutter) if position == 0 else " " * gutter
            lines.append((number + gap + left + line).rstrip())
    return lines


def _as_list(blocks: Sequence[Record], style: Style, gutter: int) -> list[str]:
    """Too many actors for columns: one below the other, each step with its actor's name."""
    lines = []
    for block in blocks:
        first, *rest = block["lines"]
        told = [(f"{block['actor']}: {first[1]}", first[0]), *((text, depth) for depth, text in rest)]
        for position, (text, depth) in enumerate(told):
            number = block["numbers"].rjust(gutter) if position == 0 else " " * gutter
            indent = number + "  " + "  " * depth
            lines += wrapped(text, style.width, indent, " " * (len(indent) + 2))
    return lines


def _fitted(lines: Sequence[tuple[int, str]], width: int) -> list[str]:
    return [line for depth, text in lines for line in wrapped(text, width, "  " * depth, "  " * (depth + 1))]


def _telling(doc: Record) -> set[tuple[int, str]]:
    """(step, question) of the answers that the explanation speaks of."""
    asked = [doc["turning"], *(c["asked"] for c in doc["cures"])]
    return {(a["step"], a["question"]) for a in asked if a}


def _blocks(steps: Sequence[Record], full: bool, telling: set[tuple[int, str]]) -> list[Record]:
    """What is drawn together: numbers, actor, and lines with their depth."""
    blocks: list[Record] = []
    open_statement: tuple[str, str] | None = None
    began: set[tuple[str, str]] = set()
    waiting: list[Record] = []  # steps of one actor that are folded into their next one
    for position, step in enumerate(steps):
        told = _told(step, full, telling)
        following = steps[position + 1] if position + 1 < len(steps) else None
        goes_on = following is not None and _key(following) == _key(step) and step["result"] is None
        if not full and not told and goes_on:
            waiting.append(step)
            continue
        key = _key(step)
        first = waiting[0] if waiting else step
        lines: list[tuple[int, str]] = []
        if open_statement != key:
            lines.append((0, step["statement"] + ("  (goes on)" if key in began else "")))
        if step["step"] != _verb(step["statement"]):
            lines.append((1, step["step"]))
        depth = 1 + len([1 for line in lines if line[0] == 1])
        lines += [(depth, text) for text in told]
        numbers = str(step["number"]) if first is step else f"{first['number']}-{step['number']}"
        blocks.append({"numbers": numbers, "actor": step["actor"], "lines": lines or [(1, step["step"])]})
        waiting = []
        ended = step["result"] is not None or (
            not goes_on and following is not None and following["actor"] == step["actor"]
        )
        began = (began - {key}) if ended else began | {key}
        open_statement = None if ended else key
    return blocks


def _key(step: Record) -> tuple[str, str]:
    return step["actor"], step["statement"]


def _verb(statement: str) -> str:
    return statement.split(" = ", 1)[-1].split("(", 1)[0]


def _told(step: Record, full: bool, telling: set[tuple[int, str]]) -> list[str]:
    """Changes, answers and the result of a step, as short lines."""
    told = []
    for asked in step["asked"]:
        if full or (step["number"], asked["question"]) in telling:
            facts = facts_text(asked["facts"], full)
            question = f"{asked['question']}({facts})" if full else facts or asked["question"]
            told.append(f"{question} => {asked['decision']}: {answer_text(asked)}")
    told += _changes(step["changes"], full)
    if step["result"] is not None and (full or step["result"] != "ok"):
        told.append(f"gives {step['result']}")
    return told


def _changes(changes: Sequence[Record], full: bool) -> list[str]:
    """One line for each thing that changed."""
    by_subject: dict[str, list[str]] = {}
    for change in changes:
        text = _change(change, full)
        if text:
            by_subject.setdefault(change["subject"], []).append(text)
    return [f"{subject}: {', '.join(texts)}" for subject, texts in by_subject.items()]


def _change(change: Record, full: bool) -> str:
    field, before, after = change["field"], change["before"], change["after"]
    if not full and (field in _PASSING or change["subject"].startswith("register ")):
        return ""
    if field in ("pte", "state", "on"):
        if not full and after in ("none", "being taken"):
            return "" if before in ("", "none") else f"{before} -> none"
        if not before or before in ("none", "being taken", "not started") or field == "state":
            return f"on {after}" if field == "on" else after or "gone"
        return f"{before} -> {after or 'gone'}"
    if not before:
        return f"{field} {after}"
    return f"{field} {before} -> {after or 'gone'}"

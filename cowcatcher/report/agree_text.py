"""The report of ``agree`` as text: a row for each kernel, then whatever is not in agreement."""

from __future__ import annotations

from collections.abc import Iterator

from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, columns, counted, wrapped

_TITLES = (
    "on", "Linux", "model", "tests", "agree", "DISAGREE", "not applicable", "could not tell", "flaky", "registers",
    "pages asked", "mapcounts", "a second",
)  # fmt: skip
_FIGURES = ("not_applicable", "could_not_tell", "flaky", "registers", "questions", "mapcounts")
_REASONS = 5


def agree_text(doc: Record, style: Style) -> str:
    rows = [[style.faint(title) for title in _TITLES], *(_row(on, style) for on in doc["kernels"])]
    lines = columns(rows, right=frozenset(range(3, len(_TITLES))))
    for on in doc["kernels"]:
        lines += [line for note in _notes(on) for line in wrapped(f"{on['name']}: {note}", style.width, "  ", "    ")]
    for on in doc["kernels"]:
        for found in on["disagreements"]:
            lines += ["", *_disagreement(on, found, style)]
        lines += [f"{on['name']}: kept in {path}" for path in on["kept"]]
    unfinished = [on["go_on"] for on in doc["kernels"] if on["go_on"]]
    if unfinished:
        lines += ["", "Interrupted. The rest of the tests:", *(f"  {words}" for words in unfinished)]
    return "\n".join(lines) + "\n"


def _row(on: Record, style: Style) -> list[str]:
    disagree = f"{on['disagree']:,}"
    return [
        on["name"], on["release"], on["kernel"]["name"], f"{on['tests']:,}", f"{on['agree']:,}",
        style.bad(disagree) if on["disagree"] else disagree,
        *(f"{on[key]:,}" for key in _FIGURES),
        f"{on['tests'] / on['seconds']:.0f}" if on["seconds"] else "-",
    ]  # fmt: skip


def _notes(on: Record) -> Iterator[str]:
    reasons = list(on["not_applicable_because"].items())
    for reason, count in reasons[:_REASONS]:
        yield f"{count:,} not applicable: {reason}"
    if on["open"]:
        yield f"{counted(on['open'], 'question')} about pages left open by the kernel"
    for unsure in on["unsure"][:_REASONS]:
        yield f"test {unsure['number']}: {unsure['reason']}"
    if len(on["unsure"]) > _REASONS:
        yield f"{len(on['unsure']) - _REASONS} more could not be told or were flaky (--json has all)"
    if on["lost"]:
        yield f"{counted(on['lost'], 'virtual machine')} lost"


def _disagreement(on: Record, found: Record, style: Style) -> list[str]:
    what = "made smaller:" if found["shrunk"] else f"again: {found['again']}"
    if found["like"] is not None:
        what = f"it looks like test {found['like']}; {what}"
    lines = [style.bad(f"{on['name']}: test {found['number']} disagrees; {what}")]
    if found["shrunk"]:
        lines += [f"  {line}".rstrip() for line in found["test"].splitlines()]
    return [*lines, *(f"  {difference}" for difference in found["differences"])]

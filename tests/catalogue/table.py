"""``python -m tests.catalogue.table``: writes docs/decisions.md, every decision with its origin and its test."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from cowcatcher.decision import Decisions
from cowcatcher.explore.verdict import CheckResult
from cowcatcher.kernels import KERNELS, LINE, PROPOSAL_NAMES, QUESTIONS, Decision, Kernel, all_decisions, previous
from cowcatcher.kernels.commits import COMMITS, PROPOSALS
from cowcatcher.litmus.catalogue import find
from tests.catalogue.checked import checker, name_of
from tests.catalogue.mutation import PROPOSAL_FAILS_IN, UNTOLD, kills

TARGET = Path(__file__).resolve().parents[2] / "docs" / "decisions.md"

_HEAD = """# Decisions

A modelled kernel is one answer to each of these questions. This file is written by
`python -m tests.catalogue.table`; a test fails if it is out of date.

*Told by* names the test of the catalogue that comes out otherwise if the decision is put back to the one before it,
on which kernels, and what is found there instead. An answer without a commit had been there before the first kernel of
the line, or its commit is not known.
"""


def render() -> str:
    """The whole file."""
    decisions: dict[str, list[Decision]] = {q: [] for q in QUESTIONS}
    proposed = {d.name for n in PROPOSAL_NAMES for d in KERNELS[n].changes if not _on_line(d)}
    for decision in all_decisions():
        if decision.name not in proposed:
            decisions[decision.question].append(decision)
    lines = [_HEAD]
    for question, answers in decisions.items():
        lines += [f"## {question}", "", _text(inspect.getdoc(getattr(Decisions, question)) or ""), ""]
        lines += ["| answer | on | since | what it is for | told by |", "|---|---|---|---|---|"]
        lines += [_row(a) for a in answers]
        lines.append("")
    lines += _proposals()
    return "\n".join(lines) + "\n"


def _on_line(decision: Decision) -> bool:
    return any(k.decisions[decision.question].name == decision.name for k in LINE)


def _row(decision: Decision) -> str:
    cells = (f"`{decision.name}`", _kernels(decision), _origin(decision), _purpose(decision), _told(decision))
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def _kernels(decision: Decision) -> str:
    """``v5.9..v5.18, v5.10.y``."""
    taken = [k for k in LINE if k.decisions[decision.question].name == decision.name]
    beside = [
        k.name
        for k in KERNELS.values()
        if k.place is None and k.name not in PROPOSAL_NAMES and k.decisions[decision.question].name == decision.name
    ]
    return ", ".join([*(_span(run) for run in _runs(taken)), *beside])


def _runs(kernels: list[Kernel] | tuple[Kernel, ...]) -> Iterator[list[Kernel]]:
    """Kernels that follow each other on the line, together."""
    run: list[Kernel] = []
    for kernel in kernels:
        if run and kernel.place != (run[-1].place or 0) + 1:
            yield run
            run = []
        run.append(kernel)
    if run:
        yield run


def _span(run: list[Kernel]) -> str:
    return run[0].name if len(run) == 1 else f"{run[0].name}..{run[-1].name}"


def _origin(decision: Decision) -> str:
    return "<br>".join(_commit(c) for c in decision.commits)


def _commit(commit: str) -> str:
    found = COMMITS[commit]
    return f"[{found.id}]({found.link}) {found.subject} ({found.first})"


def _purpose(decision: Decision) -> str:
    """The first sentence of the docstring, and the one that says what goes wrong without it."""
    sentences = re.split(r"(?<=[.:])\s+(?=[A-Z])", _text(decision.doc))
    return " ".join(s for i, s in enumerate(sentences) if i == 0 or s.startswith("Without it"))


def _text(doc: str) -> str:
    return re.sub(r"\s+", " ", doc.replace("``", "`")).strip()


def _told(decision: Decision) -> str:
    if previous(decision) is None:
        return ""
    if decision.name in UNTOLD:
        return f"no test: {UNTOLD[decision.name]}"
    kill = next(kills(decision))
    on = ", ".join(_span(run) for run in _runs(kill.kernels))
    return (
        f"[{name_of(kill.path)}](../cowcatcher/litmus/catalogue/{name_of(kill.path)}.cow) on {on}: {_found(kill.found)}"
    )


def _found(result: CheckResult) -> str:
    """``violated (always, coherent) instead of holds``."""
    broken = ", ".join(dict.fromkeys(v.name for v in result.violations))
    return f"violated ({broken}) instead of holds" if broken else "holds instead of violated"


def _proposals() -> list[str]:
    lines = [
        "## Proposals",
        "",
        "Rules that were discussed or built for comparison, and where each was not enough.",
        "",
    ]
    lines += ["| kernel | what | who, when | not enough in |", "|---|---|---|---|"]
    for name in PROPOSAL_NAMES:
        about = PROPOSALS[name]
        path = find(PROPOSAL_FAILS_IN[name])
        assert path is not None
        failed = _found(checker(path).check(KERNELS[name])).removesuffix(" instead of holds")
        link = f"[{name_of(path)}](../cowcatcher/litmus/catalogue/{name_of(path)}.cow): {failed}"
        lines.append(f"| `{name}` | [{about.title}]({about.link}) | {about.who}, {about.date} | {link} |")
    return lines


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render(), encoding="utf-8")

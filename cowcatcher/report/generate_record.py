"""The dictionary behind ``generate``: the tests, and with ``--check`` what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.printer import to_text
from cowcatcher.report.record import Record, document


@dataclass(frozen=True, slots=True)
class Item:
    """A generated test: its word or its case, the kind of memory if there are several, and why there is no test."""

    title: str
    group: str
    test: Test | None
    why_not: str = ""


def generate_document(items: Sequence[Item], checked: Record | None) -> Record:
    """``checked`` is the document of ``check`` about those that are tests, in their order; None if nothing was."""
    results = iter(checked["tests"]) if checked else iter(())
    return document(
        "generate",
        tests=[
            {
                "name": item.test.name if item.test else None,
                "title": item.title,
                "group": item.group or None,
                "text": to_text(item.test) if item.test else None,
                "why_not": item.why_not or None,
                "results": next(results)["results"] if checked and item.test else [],
            }
            for item in items
        ],
        kernels=checked["kernels"] if checked else [],
        checked=checked is not None,
        interrupted=bool(checked and checked["interrupted"]),
        exit=_exit(checked),
    )


def _exit(checked: Record | None) -> int:
    """A generated test expects nothing, so no verdict is wrong; but each should be one."""
    if checked is None:
        return 0
    if checked["interrupted"]:
        return 130
    verdicts = {r["verdict"] for t in checked["tests"] for r in t["results"]}
    return 0 if verdicts & {"holds", "violated"} and "could not tell" not in verdicts else 3

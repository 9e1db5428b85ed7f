"""What ``hunt`` found, as plain values, and each finding as a ``.cow`` file with what is known of it above."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.explore.program import compile_test
from cowcatcher.hunt.against import Difference
from cowcatcher.hunt.hunt import Finding, FindingClass, classes
from cowcatcher.hunt.search import Hunt
from cowcatcher.litmus.printer import statement_text, to_text
from cowcatcher.report.check_text import witness_lines
from cowcatcher.report.kernel_record import decision_record
from cowcatcher.report.prose import listed, with_commits
from cowcatcher.report.record import Record, document, kernel_record, result_record
from cowcatcher.report.style import wrapped

_WIDTH = 98


def hunt_document(hunts: Sequence[Hunt], interrupted: bool) -> Record:
    records = [hunt_record(h) for h in hunts]
    return document("hunt", hunts=records, interrupted=interrupted, exit=_exit(records, interrupted))


def _exit(hunts: Sequence[Record], interrupted: bool) -> int:
    """130, or 1 if anything was found, or 3 if a search did not get through, or 0."""
    if interrupted:
        return 130
    if any(h["classes"] or h["differences"] for h in hunts):
        return 1
    return 3 if any(h["stopped"] or h["cut"] for h in hunts) or not hunts else 0


def hunt_record(hunt: Hunt) -> Record:
    found = hunt.found
    return {
        "kernel": kernel_record(hunt.kernel),
        "against": kernel_record(hunt.against) if hunt.against else None,
        "processes": hunt.size.processes,
        "pages": hunt.size.pages,
        "pins": hunt.size.pins,
        "memory_kind": hunt.size.memory.kind,
        "threads": hunt.size.threads,
        "depth": hunt.size.depth,
        "letters": [letter.name for letter in hunt.letters],
        "states": found.states,
        "transitions": found.transitions,
        "levels": list(found.levels),
        "complete": found.complete,
        "stopped": found.stopped,
        "cut": hunt.cut,
        "untold": hunt.untold,
        "seconds": round(found.seconds, 3),
        "memory": found.memory,
        "exact": found.exact,
        "chance_of_a_miss": found.chance_of_a_miss,
        "classes": [_class_record(c) for c in classes(hunt.findings)],
        "differences": [_difference_record(d) for d in hunt.differences],
    }


def _class_record(group: FindingClass) -> Record:
    return {
        "check": group.check,
        "cured_by": [decision_record(d) for d in group.cured_by],
        "findings": [_finding_record(f) for f in group.findings],
    }


def _finding_record(finding: Finding) -> Record:
    result = result_record(finding.result, compile_test(finding.test))
    witness = next(v["witness"] for v in result["violations"] if v["name"] == finding.check)
    return {
        "name": finding.test.name,
        "statements": len(finding.word),
        "actors": _actors(finding),
        "seen": finding.seen,
        "text": to_text(finding.test),
        "witness": witness,
    }


def _actors(finding: Finding | Difference) -> dict[str, list[str]]:
    bodies = {a.name: [statement_text(s) for s in a.body if s.op not in ("post", "await")] for a in finding.test.actors}
    return bodies | {"kernel": [f"may {m.action}" for m in finding.test.kernel_may]}


def _difference_record(difference: Difference) -> Record:
    return {
        "name": difference.test.name,
        "kind": difference.kind,
        "statements": len(difference.word),
        "actors": _actors(difference),
        "what": difference.what,
        "here": difference.here,
        "there": difference.there,
        "blamed": [decision_record(d) for d in difference.blamed],
        "text": to_text(difference.test),
    }


def files_of(doc: Record) -> dict[str, str]:
    """Path -> text of a ``.cow`` file for everything that was found; below a kernel's name if there are several."""
    files: dict[str, str] = {}
    for hunt in doc["hunts"]:
        folder = f"{hunt['kernel']['name']}/" if len(doc["hunts"]) > 1 else ""
        for group in hunt["classes"]:
            for finding in group["findings"]:
                files[f"{folder}{finding['name']}.cow"] = _commented(_about(hunt, group, finding), finding["text"])
        for difference in hunt["differences"]:
            about = _about_difference(hunt, difference)
            files[f"{folder}{difference['name']}.cow"] = _commented(about, difference["text"])
    return files


def _commented(lines: Sequence[str], text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n" + text


def _about(hunt: Record, group: Record, finding: Record) -> list[str]:
    return [
        *wrapped(f"On {hunt['kernel']['name']} {group['check']} is violated. {cures_text(group)}", _WIDTH),
        "",
        f"A shortest way, {len(finding['witness'])} steps:",
        *witness_lines(finding["witness"]),
    ]


def cures_text(group: Record) -> str:
    """Which answers cure a class, as a sentence."""
    if not group["cured_by"]:
        return "No other answer to a single question cures it."
    return f"Cured by any of {listed([with_commits(d) for d in group['cured_by']])}."


def _about_difference(hunt: Record, difference: Record) -> list[str]:
    here, there = hunt["kernel"]["name"], hunt["against"]["name"]
    text = f"{difference['what']}: {difference['here']} on {here}, {difference['there']} on {there}."
    return wrapped(f"{text} {blamed_text(difference, here, there)}", _WIDTH)


def blamed_text(difference: Record, here: str, there: str) -> str:
    """Which single answer makes the difference, as a sentence."""
    if not difference["blamed"]:
        return f"No single answer of {here} makes {there} do the same."
    which = " or ".join(with_commits(d) for d in difference["blamed"])
    return f"With {which} alone {there} does what {here} does."

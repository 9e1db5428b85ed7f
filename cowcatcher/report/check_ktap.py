"""The report of ``check`` as KTAP (Documentation/dev-tools/ktap.rst): the kernels are a test's subtests."""

from __future__ import annotations

from cowcatcher.report.check_text import shortest_witness
from cowcatcher.report.record import Record, standing, vacuous
from cowcatcher.report.style import PLAIN


def check_ktap(doc: Record) -> str:
    """A verdict as expected is ``ok``; what could not be told is ``not ok … # TIMEOUT``, since a limit was reached."""
    lines = ["KTAP version 1", f"1..{len(doc['tests'])}"]
    for number, test in enumerate(doc["tests"], 1):
        lines += [f"  {line}".rstrip() for line in _subtests(test)]
        lines.append(result_line(number, test["name"], *_overall(test)))
    totals = [standing(r) for t in doc["tests"] for r in t["results"]]
    lines.append(
        f"# Totals: pass:{totals.count('pass')} fail:{totals.count('fail')} xfail:0 xpass:0 "
        f"skip:{totals.count('skip')} error:{totals.count('unknown')}"
    )
    if doc["interrupted"]:
        lines.append("# interrupted: what is missing was not checked")
    return "\n".join(lines) + "\n"


def _subtests(test: Record) -> list[str]:
    lines = ["KTAP version 1", f"1..{len(test['results'])}"]
    for number, result in enumerate(test["results"], 1):
        lines += [f"# {line}" for line in _diagnostics(result)]
        lines.append(result_line(number, result["kernel"], *_of(result)))
    return lines


def _of(result: Record) -> tuple[bool, str]:
    """ok or not, and the directive."""
    meaning = standing(result)
    if meaning == "skip":
        return True, f"SKIP {result['reason']}"
    if meaning == "unknown":
        return False, f"TIMEOUT could not tell: {result['reason']}"
    return meaning == "pass", ""


def _overall(test: Record) -> tuple[bool, str]:
    standings = [standing(r) for r in test["results"]]
    if standings and all(s == "skip" for s in standings):
        return True, f"SKIP {test['results'][0]['reason']}"
    return not ("fail" in standings or "unknown" in standings) and bool(standings), ""


def _diagnostics(result: Record) -> list[str]:
    lines = []
    if result["verdict"] in ("holds", "violated"):
        wanted = " and ".join(e["verdict"] + (f" {e['check']}" if e["check"] else "") for e in result["expected"])
        lines.append(f"{result['verdict']}, expected: {wanted or 'nothing'}")
    if standing(result) == "fail":
        lines += [
            f"{v['kind']} fails: {v['text'] if v['kind'] == 'claim' else v['name']}" for v in result["violations"]
        ]
        if result["violations"]:
            lines += shortest_witness(result, PLAIN)
    if vacuous(result):
        lines += [f"vacuous: {why}" for why in result["vacuous"]]
    return lines


def result_line(number: int, name: str, ok: bool, directive: str) -> str:
    tail = f" # {_one_line(directive)}" if directive else ""
    return f"{'ok' if ok else 'not ok'} {number} {_one_line(name)}{tail}"


def _one_line(text: str) -> str:
    """A description may hold neither ``#`` nor a line break."""
    return " ".join(text.replace("#", " ").split())

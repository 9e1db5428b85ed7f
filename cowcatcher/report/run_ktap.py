"""The report of ``run`` as KTAP (Documentation/dev-tools/ktap.rst)."""

from __future__ import annotations

from cowcatcher.report.check_ktap import result_line
from cowcatcher.report.record import Record
from cowcatcher.report.run_text import outcome_text


def run_ktap(doc: Record) -> str:
    """One result line for each test on each kernel; ``ok`` means that the kernel did what its model says."""
    several = len(doc["on"]) > 1
    results = [(test["name"], result) for test in doc["tests"] for result in test["results"]]
    lines = ["KTAP version 1", f"1..{len(results)}"]
    for number, (test, result) in enumerate(results, 1):
        if result["standing"] == "missing":  # a plan that is not met is how KTAP says it
            continue
        name = f"{test} on {result['on']}" if several else test
        lines.append(f"# {name}: {result['verdict']}, {result['predicted'] or 'nothing'} predicted")
        lines += [f"# {difference}" for difference in result["differences"]]
        if len(result["outcomes"]) > 1:
            lines += [f"# {o['count']}/{result['runs']}: {outcome_text(o)}" for o in result["outcomes"]]
        directive = ""
        if result["standing"] == "skip":
            directive = f"SKIP {result['reason']}"
        elif result["standing"] == "unknown":
            directive = f"{'TIMEOUT' if 'timeout' in result['statuses'] else 'ERROR'} {result['reason']}"
        lines.append(result_line(number, name, result["standing"] in ("pass", "skip"), directive))
    summary = doc["summary"]
    lines.append(
        f"# Totals: pass:{summary['pass']} fail:{summary['fail']} xfail:0 xpass:0 "
        f"skip:{summary['skip']} error:{summary['unknown']}"
    )
    if doc["missing"]:
        lines.append(f"# not finished: {sum(doc['missing'].values())} runs are missing")
    return "\n".join(lines) + "\n"

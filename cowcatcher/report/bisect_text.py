"""``bisect``: the places along the line where a verdict changes, and the smallest sets of decisions that change it."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.explore.bisect import Flip
from cowcatcher.explore.verdict import CheckResult
from cowcatcher.kernels import Kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.report.check_text import range_text
from cowcatcher.report.kernel_record import decision_record
from cowcatcher.report.prose import cited
from cowcatcher.report.record import Record, document, kernel_record
from cowcatcher.report.style import Style, wrapped


def bisect_document(
    test: Test, kernels: Sequence[Kernel], results: Sequence[CheckResult], flips: Sequence[Flip]
) -> Record:
    """``results`` are those of ``kernels``, in the same order."""
    return document(
        "bisect",
        test=test.name,
        path=test.path,
        description=test.description,
        kernels=[kernel_record(k) for k in kernels],
        verdicts=[
            {
                "kernel": r.kernel.name,
                "verdict": r.verdict.value,
                "violations": _names(r),
                "reason": r.reason,
                "engine": r.engine,
                "chance_of_a_miss": r.chance_of_a_miss,
            }
            for r in results
        ],
        flips=[
            {
                "direction": f.direction,
                "before": f.before.name,
                "after": f.after.name,
                "violations": _names(f.before_result if f.direction == "fixed" else f.after_result),
                "decisions": [decision_record(d) for d in f.decisions],
                "replaced": [decision_record(f.before.decisions[d.question]) for d in f.decisions],
                "others": [[decision_record(d) for d in other] for other in f.others],
            }
            for f in flips
        ],
    )


def _names(result: CheckResult) -> list[str]:
    return [v.name for v in result.violations]


def bisect_text(doc: Record, style: Style) -> str:
    lines = [style.strong(doc["test"])]
    if doc["description"]:
        lines += wrapped(doc["description"], style.width)
    lines += ["", *_verdicts(doc, style)]
    for flip in doc["flips"]:
        lines += ["", *_flip(flip, style)]
    if not doc["flips"]:
        lines += ["", "The verdict never changes along these kernels."]
    return "\n".join(lines) + "\n"


def _verdicts(doc: Record, style: Style) -> list[str]:
    """The line, neighbours with the same verdict drawn together."""
    places = {k["name"]: k["place"] for k in doc["kernels"]}
    runs: list[list[Record]] = []
    for verdict in doc["verdicts"]:
        if runs and runs[-1][-1]["verdict"] == verdict["verdict"] and places[verdict["kernel"]] is not None:
            runs[-1].append(verdict)
        else:
            runs.append([verdict])
    names = [range_text([v["kernel"] for v in run], doc["kernels"]) for run in runs]
    width = max(map(len, names), default=0)
    colored = {"holds": style.good, "violated": style.bad}
    return [
        f"  {name.ljust(width)}  {colored.get(run[0]['verdict'], style.unsure)(run[0]['verdict'])}"
        + (f"  ({run[0]['reason']})" if run[0]["reason"] else "")
        for name, run in zip(names, runs, strict=True)
    ]


def _flip(flip: Record, style: Style) -> list[str]:
    word = style.good("Fixed") if flip["direction"] == "fixed" else style.bad("Broken")
    lines = [f"{word} between {flip['before']} and {flip['after']} ({', '.join(flip['violations'])}), by:"]
    for decision, before in zip(flip["decisions"], flip["replaced"], strict=True):
        lines += wrapped(
            f"`{decision['name']}` instead of `{before['name']}` ({decision['question']})", style.width, "  ", "    "
        )
        for commit in decision["commits"]:
            since = f", in {commit['first']}" if commit["first"] else ""
            stable = f"; also in {', '.join(commit['stable'])}" if commit["stable"] else ""
            lines += wrapped(f"{cited([commit])}{since}{stable}", style.width, "    ", "      ")
        lines += wrapped(decision["doc"], style.width, "    ", "    ")
    if len(flip["decisions"]) > 1:
        lines.append("  Each of these is needed; together they suffice.")
    for other in flip["others"]:
        lines.append("  So would, by itself: " + ", ".join(f"`{d['name']}`" for d in other))
    return lines

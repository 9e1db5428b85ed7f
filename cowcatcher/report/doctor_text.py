"""``doctor``: what this machine can do, and the next step for what it cannot."""

from __future__ import annotations

from collections.abc import Sequence

from cowcatcher.real.probe import Capability
from cowcatcher.report.record import Record, document
from cowcatcher.report.style import Style, wrapped

#: Without these no test runs on the kernel of this machine.
_NEEDED = ("kernel", "C compiler", "4 KiB pages")


def doctor_document(capabilities: Sequence[Capability]) -> Record:
    return document(
        "doctor",
        able=all(c.ok for c in capabilities if c.name in _NEEDED),
        capabilities=[
            {"name": c.name, "ok": c.ok, "needed": c.name in _NEEDED, "why": c.why, "next_step": c.next_step}
            for c in capabilities
        ],
    )


def doctor_text(doc: Record, style: Style) -> str:
    width = max(len(c["name"]) for c in doc["capabilities"])
    lines = []
    for capability in doc["capabilities"]:
        word = "yes" if capability["ok"] else "NO" if capability["needed"] else "no"
        colored = style.good if capability["ok"] else style.bad if capability["needed"] else style.unsure
        start = f"{capability['name'].ljust(width)}  {colored(word.ljust(3))}  "
        indent = " " * (width + 7)
        lines += wrapped(capability["why"], style.width, start, indent)
        if not capability["ok"] and capability["next_step"]:
            lines += wrapped(f"-> {capability['next_step']}", style.width, indent, indent + "   ")
    lines.append("")
    if doc["able"]:
        lines.append("Tests can be run on this kernel; those that need what is missing say so.")
    else:
        lines.append(
            "Tests cannot be run on this kernel yet: see NO above. 'check' and 'explain' need nothing of this."
        )
    return "\n".join(lines) + "\n"

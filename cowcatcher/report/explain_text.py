"""The report of ``explain``: the timeline, then a paragraph that names the decision at fault and its commit."""

from __future__ import annotations

from cowcatcher.report.check_text import outcome_table
from cowcatcher.report.prose import clause, listed, with_commits
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, counted, wrapped
from cowcatcher.report.timeline import timeline


def explain_text(doc: Record, style: Style, full: bool = False) -> str:
    lines = [_title(doc, style)]
    if doc["description"]:
        lines += wrapped(doc["description"], style.width)
    if doc["verdict"] == "violated":
        lines += ["", *_violated(doc, style, full)]
    elif doc["verdict"] == "holds":
        lines += ["", *_holds(doc, style)]
    else:
        lines += ["", *wrapped(doc["reason"], style.width)]
    return "\n".join(lines) + "\n"


def _title(doc: Record, style: Style) -> str:
    colored = {"violated": style.bad, "holds": style.good}.get(doc["verdict"], style.unsure)
    return f"{style.strong(doc['test'])} on {doc['kernel']['name']}: {colored(doc['verdict'])}"


# --- violated ---------------------------------------------------------------------------------------------------------


def _violated(doc: Record, style: Style, full: bool) -> list[str]:
    explained = doc["explained"]
    lines = []
    if doc["steps"]:
        lines += wrapped(
            f"The shortest way to violate {_named(explained)}: {counted(len(doc['steps']), 'step')}.", style.width
        )
        lines += wrapped("At first " + _first(doc) + ".", style.width)
        lines += ["", *timeline(doc, style, full)]
        lines += wrapped(f"=> {_end(doc)}", style.width, "", "   ")
    else:
        lines += wrapped(f"No execution satisfies {explained['text']}.", style.width)
        lines += ["", *outcome_table(doc, style)]
    lines += ["", *wrapped(why(doc), style.width)]
    others = [v for v in doc["violations"] if v["text"] != explained["text"]]
    if others:
        lines.append("")
        lines += [
            line
            for v in others
            for line in wrapped(
                f"Also violated: {_named(v)}, by {counted(v['depth'], 'step')} (--check {v['name']}).", style.width
            )
        ]
    return lines


def _named(violation: Record) -> str:
    return f"'{violation['text']}'" if violation["kind"] == "claim" else f"{violation['name']} ({violation['text']})"


def _first(doc: Record) -> str:
    """What there is before the first step."""
    parts = []
    for subject, fields in doc["initial"].items():
        if "pte" in fields:
            parts.append(f"{subject} has {'no page' if fields['pte'] == 'none' else fields['pte']}")
        elif subject.startswith("page "):
            parts.append(f"{subject} holds {fields['holds']} with refcount {fields['refcount']}")
    return listed(parts) or "there is nothing"


def _end(doc: Record) -> str:
    """What is wrong now, from what the steps left behind."""
    now: dict[str, dict[str, str]] = {subject: dict(fields) for subject, fields in doc["initial"].items()}
    for step in doc["steps"]:
        for change in step["changes"]:
            now.setdefault(change["subject"], {})[change["field"]] = change["after"]
    if doc["explained"]["kind"] == "claim":
        registers = [
            f"{s.removeprefix('register ')} is {f['value']}" for s, f in now.items() if s.startswith("register ")
        ]
        told = [text for text in registers if not text.endswith(" ok")]
        return f"In the end {listed(told) or 'no register was assigned'}; claimed: {doc['explained']['text']}."
    if doc["explained"]["name"] == "coherent":
        pins = [
            f"{s} is on {f['on']}"
            for s, f in now.items()
            if s.startswith("pin ") and f.get("state") == "held" and f.get("on")
        ]
        ptes = [f"{s} has {f['pte']}" for s, f in now.items() if f.get("pte") and s.partition(":")[0] in doc["actors"]]
        return f"{listed(pins + ptes)}: not coherent any more."
    return f"{doc['explained']['name']} is broken by this step: not true any more that {doc['explained']['text']}."


def why(doc: Record) -> str:
    """The paragraph: what was decided, by which decision and commit, and what cures it."""
    turning = doc["turning"]
    later = [c for c in doc["cures"] if c["later"]]
    earlier = [c for c in doc["cures"] if c["kernel"] and not c["later"]]
    sentences = []
    if turning:
        told = clause(turning).replace(f"`{turning['decision']['name']}`", with_commits(turning["decision"]))
        sentences.append(f"On {doc['kernel']['name']}, {_who(doc, turning)} {told} (step {turning['step']}).")
        sentences += _moves(doc, turning["step"])
    sentences += _enabled(doc, [*later, *earlier][:1])
    if later:
        sentences += _cured(later)
    if earlier:
        found = listed([f"{with_commits(c['replaced_by'])} of {c['kernel']}" for c in earlier])
        sentences.append(f"So would going back to {found}." if later else f"Before, {found} kept it from happening.")
    if not doc["cures"]:
        sentences.append("No other kernel's answer to a single question cures it" + _elsewhere(doc) + ".")
    return " ".join(sentences)


def _who(doc: Record, asked: Record) -> str:
    step = doc["steps"][asked["step"] - 1]
    return f"{step['actor']}'s {step['statement']}"


def _elsewhere(doc: Record) -> str:
    nearest = doc["nearest"]
    return f"; several together do, see 'cowcatcher bisect' for {nearest['kernel']}, where it holds" if nearest else ""


def _moves(doc: Record, after: int) -> list[str]:
    """Where the page table leads after the turn, and who stays behind."""
    for step in doc["steps"][after - 1 :]:
        for change in step["changes"]:
            if (
                change["field"] == "pte"
                and change["before"].startswith("page ")
                and change["after"].startswith("page ")
            ):
                old, new = (" ".join(change[side].split()[:2]) for side in ("before", "after"))
                if old != new:
                    return [f"{change['subject']} moves to {new}{_left_behind(doc, step['number'], old)}."]
    return []


def _left_behind(doc: Record, number: int, page: str) -> str:
    """The pins that are held on the page which has been left."""
    on: dict[str, str] = {}
    held: set[str] = set()
    for step in doc["steps"][:number]:
        for change in step["changes"]:
            if change["field"] == "on":
                on[change["subject"]] = change["after"]
            elif change["field"] == "state" and change["subject"].startswith("pin "):
                (held.add if change["after"] == "held" else held.discard)(change["subject"])
    pins = sorted(pin.removeprefix("pin ") for pin in held if page in on.get(pin, "").split(", "))
    return f", while {listed(pins)} {'keeps' if len(pins) == 1 else 'keep'} {page}" if pins else ""


def _enabled(doc: Record, cures: list[Record]) -> list[str]:
    """What made the turn possible: the answers that a cure would replace."""
    turning = doc["turning"]
    sentences = []
    for asked in [c["asked"] for c in cures if c["asked"]]:
        if turning and asked["question"] == turning["question"]:
            continue
        start = "It comes to that because" if turning else f"On {doc['kernel']['name']},"
        sentences.append(f"{start} {_who(doc, asked)} {clause(asked)} (step {asked['step']}).")
    return sentences


def _cured(later: list[Record]) -> list[str]:
    """The first kernel that cures it, with commits; those that come later, by name."""
    first = later[0]
    new, old = with_commits(first["replaced_by"]), first["decision"]["name"]
    sentences = [f"{first['kernel']} cures it: {new} instead of `{old}`."]
    if later[1:]:
        names = listed([f"`{c['replaced_by']['name']}` ({c['kernel']})" for c in later[1:]])
        sentences.append(f"So does, later and by itself, {names}.")
    return sentences


# --- holds ------------------------------------------------------------------------------------------------------------


def _holds(doc: Record, style: Style) -> list[str]:
    states = counted(doc["states"], "state") + "; steps that commute in one order only" * doc["reduced"]
    text = f"Every interleaving was looked at ({states}): no claim and no standing check is violated."
    if doc["chance_of_a_miss"]:
        text += f" The probability that a state was missed is at most {doc['chance_of_a_miss']:.1g}."
    lines = wrapped(text, style.width)
    lines += [line for reason in doc["vacuous"] for line in wrapped(f"But it is vacuous: {reason}.", style.width)]
    if doc["outcomes"]:
        lines += ["", *outcome_table(doc, style)]
    if doc["guards"]:
        text = "What it rests on: with another answer in its place, all else being equal, the test is violated."
    else:
        text = "It does not rest on any single decision: no other kernel's answer to one question breaks it."
    lines += ["", *wrapped(text, style.width)]
    for guard in doc["guards"]:
        lines += wrapped(_guard(guard), style.width, "  - ", "    ")
    nearest = doc["nearest"]
    text = "It is violated on no kernel of the line."
    if nearest:
        failing = ", ".join(nearest["violations"])
        text = f"The nearest kernel on which it is violated is {nearest['kernel']} ({failing})."
    return [*lines, "", *wrapped(text, style.width)]


def _guard(guard: Record) -> str:
    without = guard["without"]
    where = f" ({without['taken_by']})" if without["taken_by"] else ""
    return f"{with_commits(guard['decision'])}; with `{without['name']}`{where}: {', '.join(guard['violations'])}"

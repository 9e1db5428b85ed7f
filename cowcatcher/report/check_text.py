"""The report of ``check`` as text: one test on one kernel, one test on many, or a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from cowcatcher.report.record import Record, standing, vacuous
from cowcatcher.report.style import Style, columns, counted, wrapped

SYMBOLS = {"holds": ".", "violated": "X", "could not tell": "?", "not applicable": "-"}
COLUMN = 2  # characters: the symbol, and a mark behind it
_NAMES, _FAILING = 32, 40  # columns for the kernels of a group and for what fails on them
_TALLEST = 9  # characters of a name that is written from top to bottom


def check_text(doc: Record, style: Style, outcomes: bool = False) -> str:
    """The whole report; ``outcomes`` adds the tables of outcomes where they are not shown anyway."""
    tests: list[Record] = doc["tests"]
    if len(tests) == 1 and len(tests[0]["results"]) == 1:
        lines = single(tests[0], tests[0]["results"][0], style)
    elif len(tests) == 1:
        lines = per_test(doc, tests[0], style, outcomes)
    else:
        lines = matrix(doc, style)
        if outcomes:
            for test in tests:
                lines += ["", *_outcome_groups(doc, test, style)]
    lines += _footer(doc, style)
    return "\n".join(lines) + "\n"


# --- one test, one kernel ---------------------------------------------------------------------------------------------


def single(test: Record, result: Record, style: Style) -> list[str]:
    """Verdict, what failed, a shortest way to it, every outcome."""
    lines = [f"{test['name']} on {result['kernel']}: {_verdict(result, style)}"]
    if test["description"]:
        lines += wrapped(test["description"], style.width)
    if result["reason"]:
        lines += ["", *wrapped(result["reason"], style.width, "  ")]
    for violation in result["violations"]:
        lines += ["", *_violation(violation, style)]
    if result["violations"]:
        lines += ["", *shortest_witness(result, style)]
    if vacuous(result):
        lines += ["", "Vacuous, so this says less than it seems to:"]
        lines += [line for why in result["vacuous"] for line in wrapped(why, style.width, "  ", "    ")]
    if result["outcomes"]:
        lines += ["", *outcome_table(result, style)]
    if result["states"]:
        lines += ["", _effort(result)]
    return lines


def _verdict(result: Record, style: Style) -> str:
    word = _colored(result, result["verdict"], style)
    if result["as_expected"] is None:
        return f"{word}, and nothing in the test expects it" if standing(result) == "fail" else word
    if result["as_expected"]:
        return f"{word}, as expected"
    return f"{word}, {style.bad('NOT AS EXPECTED')} ({_expected(result)})"


def _expected(result: Record) -> str:
    return " and ".join(e["verdict"] + (f" {e['check']}" if e["check"] else "") for e in result["expected"])


def _violation(violation: Record, style: Style) -> list[str]:
    if violation["kind"] == "claim":
        failed = "in no execution" if violation["name"] == "sometimes" else "claim"
        return wrapped(f"{violation['text']}   ({failed})", style.width, "  ")
    return wrapped(f"{violation['name']}: {violation['text']}   (standing check)", style.width, "  ")


def shortest_witness(result: Record, style: Style) -> list[str]:
    """The shortest of the witnesses, one line for every stretch of a statement that nobody interrupted."""
    found = [v for v in result["violations"] if v["witness"]]
    if not found:
        return ["No execution of the test satisfies it."]
    violation = min(found, key=lambda v: v["depth"])
    of = violation["name"] if violation["kind"] == "check" else violation["text"]
    head = f"A shortest way to violate {of}, {counted(violation['depth'], 'step')}:"
    return [head, *witness_lines(violation["witness"])]


def witness_lines(witness: Sequence[Record]) -> list[str]:
    """A witness, one line for every stretch of a statement."""
    return columns(
        (f"{number:>4}", part["actor"], part["statement"] + _part(part)) for number, part in enumerate(witness, 1)
    )


def _part(part: Record) -> str:
    """Where a statement that was interrupted begins or goes on."""
    steps = part["steps"]
    if part["part"] == "whole":
        return ""
    where = f": {steps[0]}" + (f" .. {steps[-1]}" if len(steps) > 1 else "") if steps else ""
    return f"   [{ {'begin': 'begins', 'middle': 'goes on', 'end': 'ends'}[part['part']] }{where}]"


def outcome_table(result: Record, style: Style) -> list[str]:
    """Every way in which the test can end; what each register holds, and in how many final states."""
    outcomes: Sequence[Record] = result["outcomes"]
    if not outcomes:
        return ["No execution ever ends."]
    registers = _telling(outcomes)
    queries = list(outcomes[0]["queries"])
    stuck = any(o["stuck"] for o in outcomes)
    head = ["", *registers, *queries, *(["stuck"] if stuck else []), "states"]
    rows = [
        [
            "  " if o["good"] else " X",
            *(_value(o["registers"][r]) for r in registers),
            *("yes" if o["queries"][q] else "no" for q in queries),
            *([", ".join(o["stuck"]) or "-"] if stuck else []),
            f"{o['states']:,}",
        ]
        for o in outcomes
    ]
    bad = sum(1 for o in outcomes if not o["good"])
    title = counted(len(outcomes), "outcome") + (" so far" if result["verdict"] == "could not tell" else "")
    if bad:
        title += f", {bad} of them violating a claim (X)"
    return [title + ":", *columns([head, *rows], right=frozenset({len(head) - 1}))]


def _telling(outcomes: Sequence[Record]) -> list[str]:
    """The registers worth a column: not those that merely say, every time, that something succeeded."""
    names = list(outcomes[0]["registers"])
    return [name for name in names if {o["registers"][name] for o in outcomes} != {"ok"}]


def _value(value: int | str | None) -> str:
    return "-" if value is None else str(value)


def _effort(result: Record) -> str:
    text = (
        f"{counted(result['states'], 'state')}, {counted(result['transitions'], 'step')} between them, "
        f"at most {result['depth']:,} deep, {result['seconds']:.3f} s"
    )
    if result["engine"] == "compiled":
        text += "; compiled" + _missed(result)
    if result["reduced"]:
        text += "; steps that commute in one order only"
    return text + (f"; same as {result['same_as']}" if result["same_as"] else "")


def _missed(result: Record) -> str:
    """What comparing fingerprints leaves open, where that matters: a violation that was found is one."""
    chance = result["chance_of_a_miss"]
    if not chance or result["verdict"] != "holds":
        return ""
    return f", by fingerprints: the probability that a state was missed is at most {chance:.1g}"


# --- one test, many kernels -------------------------------------------------------------------------------------------


def per_test(doc: Record, test: Record, style: Style, outcomes: bool) -> list[str]:
    """Kernels in groups that came out alike."""
    lines = [style.strong(test["name"]) + (f"  {test['path']}" if test["path"] else "")]
    if test["description"]:
        lines += wrapped(test["description"], style.width)
    lines.append("")
    groups = grouped(doc, test["results"])
    rows = [[style.faint(title) for title in ("kernels", "found", "expected", "what fails")]]
    for names, result in groups:
        cells = wrapped(names, _NAMES), [_found(result, style)], [_expected(result) or "-"], _what_fails(result)
        rows += [list(row) for row in zip_longest(*cells, fillvalue="")]
    lines += columns(rows)
    for names, result in groups:
        lines += _notes(names, result, style)
    lines += _witnesses(groups, style)
    if outcomes:
        lines += ["", *_outcome_groups(doc, test, style)]
    first_bad = next((r for r in test["results"] if r["violations"]), None)
    if first_bad:
        lines += ["", f"To see how: cowcatcher explain {test['path'] or test['name']} {_selecting(doc, first_bad)}"]
    return lines


def _witnesses(groups: Sequence[tuple[str, Record]], style: Style) -> list[str]:
    """For every group that violates the test, the shortest way; said once where several go the same."""
    ways: dict[str, tuple[list[str], list[str]]] = {}
    for names, result in groups:
        if result["violations"]:
            way = shortest_witness(result, style)
            ways.setdefault(repr(way), ([], way))[0].append(names)
    return [
        line
        for names, way in ways.values()
        for line in ["", *wrapped(f"On {', '.join(names)}: {way[0][0].lower()}{way[0][1:]}", style.width), *way[1:]]
    ]


def _selecting(doc: Record, result: Record) -> str:
    """The options that select this result's kernel."""
    kernel = next(k for k in doc["kernels"] if k["name"] == result["kernel"])
    return f"--kernel {kernel['variant_of']} --decision FILE" if kernel["variant_of"] else f"--kernel {kernel['name']}"


def _found(result: Record, style: Style) -> str:
    marks = ("!" if standing(result) == "fail" else "") + ("~" if vacuous(result) else "")
    return _colored(result, f"{result['verdict']} {marks}".rstrip(), style)


def _what_fails(result: Record) -> list[str]:
    failing = "; ".join(v["text"] if v["kind"] == "claim" else v["name"] for v in result["violations"])
    return wrapped(failing, _FAILING)


def _notes(names: str, result: Record, style: Style) -> list[str]:
    """What the line of a group leaves open: unexpected, vacuous, why nothing could be said."""
    notes = []
    if result["as_expected"] is False:
        notes.append(f"! {names}: expected {_expected(result)}, found {result['verdict']}{_checks(result)}")
    elif standing(result) == "fail":
        notes.append(f"! {names}: violated, and nothing in the test expects it")
    if result["reason"]:
        notes.append(f"{SYMBOLS[result['verdict']]} {names}: {result['verdict']}: {result['reason']}")
    if vacuous(result):
        notes.append(f"~ {names}: holds, but vacuous: {'; '.join(result['vacuous'])}")
    return [line for note in notes for line in wrapped(note, style.width, "  ", "    ")]


def _checks(result: Record) -> str:
    return f" ({', '.join(v['name'] for v in result['violations'])})" if result["violations"] else ""


def _outcome_groups(doc: Record, test: Record, style: Style) -> list[str]:
    lines: list[str] = []
    for names, result in grouped(doc, test["results"], by_outcomes=True):
        if result["outcomes"]:
            lines += ["", f"{test['name']} on {names}: {outcome_table(result, style)[0]}"]
            lines += outcome_table(result, style)[1:]
    return lines[1:]


def grouped(doc: Record, results: Sequence[Record], by_outcomes: bool = False) -> list[tuple[str, Record]]:
    """(names of the kernels, one of their results) for results that say the same, in order of their first kernel."""
    groups: dict[str, list[Record]] = {}
    for result in results:
        violations = [v["text"] for v in result["violations"]]
        key = [result["verdict"], violations, result["expected"], result["vacuous"], result["reason"]]
        if by_outcomes:
            key.append(result["outcomes"])
        groups.setdefault(repr(key), []).append(result)
    return [(range_text([r["kernel"] for r in group], doc["kernels"]), group[0]) for group in groups.values()]


def range_text(names: Iterable[str], kernels: Iterable[Record]) -> str:
    """Names, neighbours on the line drawn together: ``v5.7..v5.9-rc4, v5.11, precop, (v5.7..v5.8)+my_patch``."""
    known = {k["name"]: k for k in kernels}
    runs: list[tuple[str, list[tuple[str, int | None]]]] = []  # what the user added, and the kernels it was added to
    for name in names:
        base = known[name]["variant_of"] or name
        added = name.removeprefix(base)
        place = known[base]["place"] if base in known else None
        run = next((members for suffix, members in runs if suffix == added and _follows(place, members)), None)
        if run is None:
            runs.append((added, [(base, place)]))
        else:
            run.append((base, place))
    return ", ".join(_run_text(added, [name for name, _ in members]) for added, members in runs)


def _follows(place: int | None, members: list[tuple[str, int | None]]) -> bool:
    last = members[-1][1]
    return place is not None and last is not None and place == last + 1


def _run_text(added: str, names: list[str]) -> str:
    if len(names) == 1:
        return names[0] + added
    text = f"{names[0]}..{names[-1]}"
    return f"({text}){added}" if added else text


# --- many tests -------------------------------------------------------------------------------------------------------


def matrix(doc: Record, style: Style) -> list[str]:
    """Tests down, kernels across, one symbol each; below it everything that did not go as it should."""
    kernels = [k["name"] for k in doc["kernels"]]
    tests: list[Record] = doc["tests"]
    label = max([len(t["name"]) for t in tests], default=0) + 2
    per_block = max(1, (style.width - label) // COLUMN)
    lines: list[str] = []
    for start in range(0, len(kernels), per_block):
        block = kernels[start : start + per_block]
        above = heads(block)
        lines += [style.faint(line) for line in upright(list(above), label)]
        for group, test in _with_groups(tests):
            if group:
                lines.append(style.faint(group))
            by_kernel = {r["kernel"]: r for r in test["results"]}
            cells = "".join(_cell(by_kernel.get(name), style) for name in block)
            lines.append((test["name"].ljust(label) + cells).rstrip())
        lines.append("")
        lines += [line for head, name in above.items() if head != name for line in [f"{head} = {name}"]]
    lines.append(_legend(tests))
    details = [line for test in tests for line in _details(doc, test, style)]
    return [*lines, "", *details] if details else lines


def _with_groups(tests: Sequence[Record]) -> Iterator[tuple[str, Record]]:
    """Each test, the first of a directory with that directory's name; no names if all come from one."""
    places = [test["path"].rpartition("/")[0] for test in tests]
    several = len(set(places)) > 1
    for before, place, test in zip(["", *places], places, tests, strict=False):
        yield (place + "/" if several and place and place != before else ""), test


def heads(names: Sequence[str]) -> dict[str, str]:
    """What stands above a column: the kernel's name if it is short, else a letter that is explained below."""
    letters = iter("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return {name if len(name) <= _TALLEST else next(letters, name): name for name in names}


def upright(names: Sequence[str], indent: int) -> list[str]:
    """The names written from top to bottom, ending on the same line."""
    height = max(len(n) for n in names)
    padded = [n.rjust(height) for n in names]
    return [" " * indent + "".join(n[row].ljust(COLUMN) for n in padded).rstrip() for row in range(height)]


def _cell(result: Record | None, style: Style) -> str:
    if result is None:
        return " " * COLUMN
    mark = "!" if standing(result) == "fail" else "~" if vacuous(result) else " "
    sign = (SYMBOLS[result["verdict"]] + mark).rstrip()
    return _colored(result, sign, style) + " " * (COLUMN - len(sign))


def _legend(tests: Sequence[Record]) -> str:
    results = [r for t in tests for r in t["results"]]
    verdicts = {r["verdict"] for r in results}
    parts = [f"{symbol} {word}" for word, symbol in SYMBOLS.items() if word in verdicts]
    if any(standing(r) == "fail" for r in results):
        parts.append("! not as expected")
    if any(vacuous(r) for r in results):
        parts.append("~ vacuous")
    return "   ".join(parts)


def _details(doc: Record, test: Record, style: Style) -> list[str]:
    lines = [line for names, result in grouped(doc, test["results"]) for line in _notes(names, result, style)]
    return [test["name"], *lines] if lines else []


# --- common -----------------------------------------------------------------------------------------------------------


def _colored(result: Record, text: str, style: Style) -> str:
    meaning = standing(result)
    if meaning == "fail":
        return style.bad(text)
    if meaning == "pass":
        return style.good(text) if result["verdict"] == "holds" else style.known(text)
    return style.unsure(text)


def _footer(doc: Record, style: Style) -> list[str]:
    """How the whole run came out. A single verdict needs no sum, but says what the exit status means by it."""
    summary = doc["summary"]
    lines = [""]
    if summary["results"] > 1 or doc["interrupted"]:
        lines += wrapped(summary_text(doc, style), style.width, "", "  ")
    if doc["interrupted"]:
        lines.append("Interrupted: what is missing above was not checked.")
    elif summary["results"] and not summary["pass"] and not summary["fail"] and not summary["unknown"]:
        lines.append("Nothing could be checked.")
    return lines if len(lines) > 1 else []


def summary_text(doc: Record, style: Style) -> str:
    summary = doc["summary"]
    what = f"{counted(summary['tests'], 'test')} on {counted(len(doc['kernels']), 'kernel')}"
    parts = [style.good(f"{summary['pass']} as expected")]
    if summary["fail"]:
        parts.append(style.bad(f"{summary['fail']} NOT AS EXPECTED"))
    for name, words in (("unknown", "could not tell"), ("skip", "not applicable"), ("vacuous", "vacuous")):
        if summary[name]:
            parts.append(style.unsure(f"{summary[name]} {words}"))
    return f"{what}: {', '.join(parts)}"

"""The report of ``generate``: tests as they stand in files, or a table of what came out, and the letters explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cowcatcher.generate.letters import LETTERS, PARENT
from cowcatcher.report.check_text import COLUMN, SYMBOLS, heads, per_test, range_text, single, upright
from cowcatcher.report.record import Record
from cowcatcher.report.style import Style, columns, counted, wrapped

_INDENT = "  "


def letters_text(style: Style) -> str:
    """Every letter, what it does, and an example."""
    rows = [[style.faint(title) for title in ("letter", "example", "", "what it is")]]
    for letter in LETTERS.values():
        argument = f"[{letter.argument}]" if letter.argument else ""
        rows.append([letter.name, letter.example, argument, letter.help])
    children = ", ".join(f"{child} (forked by {parent})" for child, parent in PARENT.items() if parent)
    return "\n".join([
        "A letter is Name, Name.actor, Name[argument] or Name.actor[argument].",
        *wrapped(f"Actors: p, the first process; t, a thread of it; {children}; d, the device.", style.width),
        *wrapped("In order, but for parts with | between them. Unless said otherwise it is p that acts.", style.width),
        "",
        *columns(rows),
    ]) + "\n"  # fmt: skip


def generate_text(doc: Record, style: Style) -> str:
    """The tests themselves, or what came of checking them."""
    tests: list[Record] = doc["tests"]
    if doc["checked"]:
        lines = [*_one(doc, tests[0], style)] if len(tests) == 1 else [*_table(doc, style)]
        if doc["interrupted"]:
            lines += ["", "Interrupted: what is missing was not checked."]
        return "\n".join(lines) + "\n"
    written = [t for t in tests if t["text"]]
    if len(written) == 1:
        return str(written[0]["text"])
    return "\n".join(f"# --- {t['name']}.cow\n{t['text']}" for t in written)


def _one(doc: Record, test: Record, style: Style) -> list[str]:
    """One word: the test, and the report that check gives."""
    told = {"name": test["name"], "path": "", "description": "", "sources": [], "results": test["results"]}
    lines = [*test["text"].splitlines(), ""]
    if len(test["results"]) == 1:
        return lines + single(told, test["results"][0], style)
    # Where to explain it is another matter: there is no file yet.
    return lines + [line for line in per_test(doc, told, style, False) if not line.startswith("To see how")]


# --- a table ----------------------------------------------------------------------------------------------------------


def _table(doc: Record, style: Style) -> Iterator[str]:
    """Cases down, kernels across; kinds of memory that say nothing in a line, words that hold everywhere counted."""
    tests: list[Record] = doc["tests"]
    names = [k["name"] for k in doc["kernels"]]
    grouped: dict[str, list[Record]] = {}
    for test in tests:
        grouped.setdefault(test["group"] or "", []).append(test)
    shown = {group: [t for t in found if _is_worth_a_row(t)] for group, found in grouped.items()}
    label = max((len(t["title"]) for found in shown.values() for t in found), default=0) + len(_INDENT) + 1
    per_block = max(1, (style.width - label + 1) // COLUMN)
    for start in range(0, len(names), per_block) if any(shown.values()) else ():
        block = names[start : start + per_block]
        above = heads(block)
        yield from (style.faint(line) for line in upright(list(above), label))
        for group, found in shown.items():
            yield from _block(group, found, block, label, style)
        yield ""
        yield from (f"{head} = {name}" for head, name in above.items() if head != name)
    if any(shown.values()):
        yield ", ".join(f"{sign} {word}" for word, sign in SYMBOLS.items() if word in _verdicts(tests))
    yield from _left_out(grouped, style)
    yield ""
    yield from _summary(doc, tests, style)


def _block(group: str, found: Sequence[Record], names: Sequence[str], label: int, style: Style) -> Iterator[str]:
    if found and group:
        yield style.strong(group)
    for test in found:
        by_kernel = {r["kernel"]: r for r in test["results"]}
        cells = "".join(_cell(by_kernel.get(name), style) for name in names)
        yield f"{_INDENT}{test['title']}".ljust(label) + cells.rstrip()


def _cell(result: Record | None, style: Style) -> str:
    if result is None:
        return " " * COLUMN
    sign = SYMBOLS[result["verdict"]]
    colored = {"holds": style.good, "violated": style.bad}.get(result["verdict"], style.unsure)
    return colored(sign) + " " * (COLUMN - 1)


def _is_worth_a_row(test: Record) -> bool:
    """A case of cow.c that could be checked; a word that does not hold everywhere."""
    verdicts = _verdicts([test])
    if test["group"]:
        return bool(verdicts - {"not applicable"})
    return bool(verdicts - {"holds"})


def _verdicts(tests: Sequence[Record]) -> set[str]:
    return {r["verdict"] for t in tests for r in t["results"]}


def _left_out(grouped: dict[str, list[Record]], style: Style) -> Iterator[str]:
    """Which kinds of memory have no rows, and why."""
    why: dict[str, list[str]] = {}
    for group, found in grouped.items():
        if group and not any(map(_is_worth_a_row, found)):
            reasons = dict.fromkeys(r["reason"] for t in found for r in t["results"])
            reasons |= dict.fromkeys(t["why_not"] for t in found if t["why_not"])
            what = "not applicable" if found[0]["text"] else "cannot be written"
            why.setdefault(f"{what} ({'; '.join(reasons)})", []).append(f"{group}: {len(found)}")
    for reason, groups in why.items():
        yield from wrapped(f"- {reason}: {'; '.join(groups)}", style.width, "", "  ")


def _summary(doc: Record, tests: Sequence[Record], style: Style) -> Iterator[str]:
    checked = [t for t in tests if _verdicts([t]) - {"not applicable"}]
    parts = [f"{counted(len(tests), 'test')}: {len(checked)} checked on {counted(len(doc['kernels']), 'kernel')}"]
    others = {
        "not applicable": sum(bool(t["text"]) and t not in checked for t in tests),
        "that cannot be written": sum(not t["text"] for t in tests),
    }
    parts += [f"{number} {what}" for what, number in others.items() if number]
    yield from wrapped(", ".join(parts) + ".", style.width)
    violated = {
        k["name"]: sum(r["verdict"] == "violated" for t in tests for r in t["results"] if r["kernel"] == k["name"])
        for k in doc["kernels"]
    }
    alike: dict[int, list[str]] = {}
    for name, number in violated.items():
        alike.setdefault(number, []).append(name)
    told = [f"{number} on {range_text(names, doc['kernels'])}" for number, names in alike.items() if number]
    yield from wrapped(f"Violated: {'; '.join(told) or 'none'}.", style.width, "", "    ")

"""Kernels that are wrong on purpose: edits to a kernel's source that let a boot parameter break one rule at a time.

``edits.toml`` names places by file, function and expression; this module finds them and puts the edits
in. README.md says what else is here, and under which licence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CONFIG: Final = HERE / "tiny.config"
PARAMETER: Final = "cowcatcher_break"
#: What comes into the source beside the edits: the file here, and its place there.
FILES: Final = {"cowcatcher.h": "include/linux/cowcatcher.h", "cowcatcher.c": "mm/cowcatcher.c"}
RULES_HEADER: Final = "include/linux/cowcatcher_rules.h"
MAKEFILE: Final = "mm/Makefile"
#: The two generations of kernels, told apart by whether this file knows this name.
_MARKER: Final = ("include/linux/page-flags.h", "PageAnonExclusive")


class NoPlace(Exception):
    """An edit does not fit this source; the text says which, and what was looked for."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One expression in one function, and what it becomes: {} is what it was, BROKEN whether the rule is broken.

    ``times``: how often it has to be there; ``at`` counts from 1, 0 means all of them.
    """

    file: str
    function: str
    find: str
    put: str
    times: int = 1
    at: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """``edits``: the set of edits ("counting", "marking") that fits a generation of kernels."""

    name: str
    says: str
    edits: dict[str, tuple[Edit, ...]]


@dataclass(frozen=True, slots=True)
class State:
    """Several rules broken together, for the state that some kernel was in."""

    name: str
    says: str
    set: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edited:
    """``files``: paths and their new contents. ``left_out``: rules without a place in this source, and why."""

    files: dict[str, str]
    set: str
    rules: tuple[str, ...]
    left_out: dict[str, str]


@lru_cache(maxsize=1)
def _tables() -> tuple[tuple[Rule, ...], tuple[State, ...]]:
    import tomllib

    tables = tomllib.loads((HERE / "edits.toml").read_text())
    rules = tuple(
        Rule(t["name"], t["says"], {s: tuple(Edit(**e) for e in t[s]) for s in ("counting", "marking") if s in t})
        for t in tables["rule"]
    )
    return rules, tuple(State(t["name"], t["says"], t["set"], tuple(t["rules"])) for t in tables["state"])


def rules() -> tuple[Rule, ...]:
    return _tables()[0]


def states() -> tuple[State, ...]:
    return _tables()[1]


def edit(read: Callable[[str], str]) -> Edited:
    """The source with every rule put in for which there is a place. ``read`` gives a file's text, by its path.

    Raises NoPlace if there is none for any rule.
    """
    path, marker = _MARKER
    try:
        generation = "marking" if marker in read(path) else "counting"
    except OSError as error:
        raise NoPlace(f"{path}: {error.strerror}: this is no Linux source, or one too old to be edited") from error
    originals: dict[str, str] = {}
    changes: dict[str, list[tuple[int, int, str]]] = {}
    put_in: list[str] = []
    left_out: dict[str, str] = {}
    for rule in rules():
        if generation not in rule.edits:
            continue
        try:
            found = [
                (e.file, *change) for e in rule.edits[generation] for change in _changes(e, rule.name, read, originals)
            ]
        except NoPlace as error:
            left_out[rule.name] = str(error)
            continue
        for file, *change in found:
            changes.setdefault(file, []).append(tuple(change))  # type: ignore[arg-type]
        put_in.append(rule.name)
    if not put_in:
        raise NoPlace("no rule has a place in this source; " + "; ".join(left_out.values()))
    files = {file: _included(_changed(originals[file], spots)) for file, spots in changes.items()}
    files |= {there: (HERE / here).read_text() for here, there in FILES.items()}
    files[RULES_HEADER] = "".join(f"RULE({_c_name(name)})\n" for name in put_in)
    files[MAKEFILE] = read(MAKEFILE).rstrip("\n") + "\n\nobj-y += cowcatcher.o\n"
    return Edited(files, generation, tuple(put_in), left_out)


def _c_name(rule: str) -> str:
    return rule.replace("-", "_")


def _changes(
    wanted: Edit, rule: str, read: Callable[[str], str], originals: dict[str, str]
) -> Iterator[tuple[int, int, str]]:
    """Where the edit's expression begins and ends, and the edit, with the rule's name in it."""
    try:
        text = originals.setdefault(wanted.file, read(wanted.file))
    except OSError as error:
        raise NoPlace(f"{wanted.file}: {error.strerror}") from error
    spots = list(find(text, wanted.function, wanted.find))
    if len(spots) != wanted.times:
        raise NoPlace(
            f"{wanted.file}: {wanted.function}(): '{wanted.find}' is there {len(spots)} times, not {wanted.times}"
        )
    put = wanted.put.replace("BROKEN", f"cowcatcher_breaks({_c_name(rule)})")
    for begin, end in spots[wanted.at - 1 : wanted.at] if wanted.at else spots:
        yield begin, end, put


def find(text: str, function: str, expression: str) -> Iterator[tuple[int, int]]:
    """Where this expression is in the bodies of C functions of that name; white space may differ, comments are none."""
    code = _without_comments(text)
    words = [re.escape(word) for word in expression.split()]
    before = r"\b" if expression[0].isalnum() else ""
    after = r"\b" if expression[-1].isalnum() else ""
    pattern = re.compile(before + r"\s+".join(words) + after)
    for begin, end in _bodies(code, function):
        yield from (match.span() for match in pattern.finditer(code, begin, end))


def _bodies(code: str, function: str) -> Iterator[tuple[int, int]]:
    """Definitions of the function: a name at the beginning of a line or behind a type there, parameters, a block."""
    for match in re.finditer(rf"^(?:\w[\w \t*]*[ \t*])?{re.escape(function)}\(", code, re.M):
        behind = _matching(code, match.end() - 1, "(", ")")
        opening = re.compile(r"(?:\s|__\w+(?:\([^)]*\))?)*\{").match(code, behind)
        if opening:
            yield opening.end(), _matching(code, opening.end() - 1, "{", "}")


def _matching(code: str, at: int, opens: str, closes: str) -> int:
    """Behind what closes the bracket at this place."""
    depth = 0
    for match in re.compile(rf"[{re.escape(opens + closes)}]").finditer(code, at):
        depth += 1 if match[0] == opens else -1
        if depth == 0:
            return match.end()
    return len(code)


_HIDDEN: Final = re.compile(r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""", re.S)


def _without_comments(text: str) -> str:
    """Comments and the insides of literals blanked out, every other character where it was."""
    return _HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _changed(text: str, changes: Sequence[tuple[int, int, str]]) -> str:
    """All changes made; of several to the same expression, each is put around those before it."""
    spots: dict[tuple[int, int], str] = {}
    for begin, end, put in changes:
        spots[begin, end] = put.replace("{}", spots.get((begin, end), text[begin:end]))
    last = len(text)
    for (begin, end), put in sorted(spots.items(), reverse=True):
        if end > last:
            raise NoPlace(f"two edits overlap at '{text[begin:end]}'")
        text, last = text[:begin] + put + text[end:], begin
    return text


def _included(text: str) -> str:
    """With our header before the first one that the file includes."""
    return re.sub(r"^(?=#include )", "#include <linux/cowcatcher.h>\n", text, count=1, flags=re.M)

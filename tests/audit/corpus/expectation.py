"""What an audit is to say of a program of the corpus: read from the program's own head.

find: RULE[|RULE] RANGES SEVERITY[|SEVERITY]    must be found; RANGES are names that the program says, joined by "+",
                                                exactly those bytes; "~" before: some of them; "-": whatever
says: RULE WORDS                                a finding of this rule has these words somewhere
allow: RULE…                                    may be found too, in a clean one as less than an alarm; "-" for none;
                                                good news may always come
never: RULE…                                    must not be found, at whatever severity
only: live                                      strace's text does not show it: the shim does, or /proc
needs: WORD…                                    what the program may lack here; it then exits with 77, or is not built
build: FLAGS…                                   for the compiler
env: NAME=VALUE…                                is set when the program runs
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
_LINE = re.compile(r"^(?: \* )?(find|says|allow|never|only|needs|build|env): (.*)$", re.M)

#: What somebody has to do something about, and what nobody has to.
ALARMS = frozenset({"error", "warning"})
SEVERITIES = ALARMS | {"could not tell", "note", "good"}

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Found:
    """A finding, as far as the corpus compares it."""

    rule: str
    severity: str
    ranges: Ranges
    text: str = ""

    def __str__(self) -> str:
        return f"{self.rule} ({self.severity}) " + " ".join(f"{start:#x}-{end:#x}" for start, end in self.ranges)


@dataclass(frozen=True)
class Wanted:
    rules: frozenset[str]
    names: tuple[str, ...]
    severities: frozenset[str]
    some: bool = False

    def __str__(self) -> str:
        return f"{'|'.join(sorted(self.rules))} {'~' * self.some}{'+'.join(self.names) or '-'}"

    def is_met(self, found: Found, said: dict[str, Ranges]) -> bool:
        return found.severity in self.severities and self.is_told(found, said)

    def is_told(self, found: Found, said: dict[str, Ranges]) -> bool:
        """The rule and the bytes are right, however severe."""
        if found.rule not in self.rules:
            return False
        if not self.names:
            return True
        mine, theirs = joined(r for name in self.names for r in said[name]), joined(found.ranges)
        if self.some:
            return any(max(a, c) < min(b, d) for a, b in mine for c, d in theirs)
        return mine == theirs


@dataclass(frozen=True)
class Program:
    path: Path
    find: tuple[Wanted, ...] = ()
    says: tuple[tuple[str, str], ...] = ()
    allow: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    build: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def clean(self) -> bool:
        return self.path.parent.name == "clean"

    def complaints(self, found: Iterable[Found], said: dict[str, Ranges]) -> Iterator[str]:
        """What is wrong with this audit of it: missed, or a false alarm."""
        found = list(found)
        for wanted in self.find:
            if not any(wanted.is_met(f, said) for f in found):
                alike = [str(f) for f in found if f.rule in wanted.rules]
                yield f"missed: {wanted}" + (f" ({'; '.join(alike)})" if alike else "")
        for rule, words in self.says:
            if not any(f.rule == rule and words in f.text for f in found):
                yield f"missed: {rule} does not say {words!r}"
        expected = {rule for wanted in self.find for rule in wanted.rules}
        for f in found:
            if self._is_false(f, expected):
                yield f"false: {f}"

    def _is_false(self, found: Found, expected: set[str]) -> bool:
        if found.rule in self.never:
            return True
        if self.clean:
            return found.severity in ALARMS or (found.rule not in self.allow and found.severity != "good")
        return found.severity not in {"note", "good"} and found.rule not in expected | self.allow


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """In order, those that touch as one."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return tuple(result)


def _wanted(text: str) -> Wanted:
    rules, names, severities = text.split()
    chosen = SEVERITIES if severities == "any" else frozenset(s.replace("-", " ") for s in severities.split("|"))
    assert chosen <= SEVERITIES, severities
    some = names.startswith("~")
    return Wanted(
        frozenset(rules.split("|")), () if names == "-" else tuple(names.removeprefix("~").split("+")), chosen, some
    )


def read(path: Path) -> Program:
    head = path.read_text().split("*/\n", 2)[1] if path.suffix == ".c" else path.read_text().split('"""')[1]
    lines = [(m[1], m[2].strip()) for m in _LINE.finditer(head)]

    def words(key: str) -> Iterator[str]:
        return (word for k, text in lines if k == key for word in text.split() if word != "-")

    says = (text.split(" ", 1) for k, text in lines if k == "says")
    return Program(
        path,
        tuple(_wanted(text) for k, text in lines if k == "find"),
        tuple((rule, rest) for rule, rest in says),
        frozenset(words("allow")),
        frozenset(words("never")),
        frozenset(words("only")),
        frozenset(words("needs")),
        tuple(words("build")),
        dict(pair.split("=", 1) for pair in words("env")),
    )


def programs(kind: str) -> list[Program]:
    """Of ``faulty`` or ``clean``."""
    return [read(path) for path in sorted((HERE / kind).iterdir()) if path.suffix in {".c", ".py"}]


def ranges_said(path: Path) -> dict[str, Ranges]:
    """What the program wrote down, by name: several of one name are one set of bytes."""
    said: dict[str, Ranges] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, text = line.partition(" ")
        start, end = (int(number, 16) for number in text.split("-"))
        said[name] = (*said.get(name, ()), (start, end))
    return said

"""A kernel is a table: question -> decision. Looked up by name, by release, by range; compared; changed by a user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from cowcatcher.decision import Decisions
from cowcatcher.kernels import history
from cowcatcher.kernels.decision import QUESTIONS, BadDecision, Decision


class UnknownKernel(Exception):
    """No such kernel; the message says what there is, or what was probably meant."""


@dataclass(frozen=True)
class Kernel:
    """One modelled kernel.

    ``place`` is its position on the line, or None beside it. ``base`` is what ``changes`` apply to: the entry before
    it on the line, or the kernel it branches from; None for the first.
    """

    name: str
    summary: str
    base: str | None
    place: int | None
    changes: tuple[Decision, ...]
    decisions: dict[str, Decision]

    def rules(self) -> Decisions:
        """The answers, as the model asks for them."""
        return cast(Decisions, SimpleNamespace(**{q: d.answer for q, d in self.decisions.items()}))

    def with_decisions(self, *changes: Decision, name: str | None = None) -> Kernel:
        """This kernel with some answers replaced; named after them unless a name is given."""
        label = name or "+".join([self.name, *(d.name for d in changes)])
        return Kernel(
            label, f"{self.name} with {', '.join(d.name for d in changes)}", self.name, None, changes,
            self.decisions | {d.question: d for d in changes},
        )  # fmt: skip

    def diff(self, other: Kernel) -> list[tuple[Decision, Decision]]:
        """(this kernel's, the other's) decision for every question they answer differently."""
        return [
            (self.decisions[q], other.decisions[q])
            for q in QUESTIONS
            if self.decisions[q].name != other.decisions[q].name
        ]


def _build() -> dict[str, Kernel]:
    kernels: dict[str, Kernel] = {}
    before: Kernel | None = None
    for place, entry in enumerate(history.LINE):
        decisions = dict(before.decisions) if before else {}
        decisions |= {d.question: d for d in entry.changes}
        name = before.name if before else None
        before = Kernel(entry.name, entry.summary, name, place, entry.changes, decisions)
        kernels[entry.name] = before
    for entry in (*history.BESIDE, *history.PROPOSALS):
        assert entry.base is not None
        decisions = kernels[entry.base].decisions | {d.question: d for d in entry.changes}
        kernels[entry.name] = Kernel(entry.name, entry.summary, entry.base, None, entry.changes, decisions)
    return kernels


KERNELS: dict[str, Kernel] = _build()
LINE: tuple[Kernel, ...] = tuple(k for k in KERNELS.values() if k.place is not None)
PROPOSAL_NAMES: tuple[str, ...] = tuple(e.name for e in history.PROPOSALS)

_RELEASE = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:-rc(\d+))?")


def _release_key(text: str) -> tuple[int, int, int] | None:
    """(major, minor, rc) with a final release after all its candidates; None if it is no release."""
    match = _RELEASE.match(text)
    if match is None:
        return None
    major, minor, _, rc = match.groups()
    return int(major), int(minor), int(rc) if rc else 99


#: v5.9's rules are those of its seventh candidate.
_EARLIER_CANDIDATES = {"v5.9": (5, 9, 7)}


def _since(kernel: Kernel) -> tuple[int, int, int]:
    key = _EARLIER_CANDIDATES.get(kernel.name) or _release_key(kernel.name)
    assert key is not None
    return key


def kernel(name: str) -> Kernel:
    """The kernel of that name: an exact name, or a release (``v6.8``, ``6.8``), which means the newest entry not
    after it; ``v7.3+fork-ignores-pins`` is one with rules that are broken on purpose.

    Raises UnknownKernel.
    """
    if "+" in name:
        from cowcatcher.kernels.controls import break_rules

        return break_rules(kernel(name.partition("+")[0]), name.split("+")[1:])
    for candidate in (name, f"v{name}"):
        if candidate in KERNELS:
            return KERNELS[candidate]
    key = _release_key(name)
    if key is None or not _RELEASE.fullmatch(name):
        raise UnknownKernel(_unknown(name))
    series = _series(name)
    if series is not None:
        return series
    return max((k for k in LINE if _since(k) <= key), key=_since, default=LINE[0])


def _series(release: str) -> Kernel | None:
    """The modelled stable series of a release with a patch level (``5.10.223``); None if there is none."""
    match = _RELEASE.match(release)
    if match is None or not int(match.group(3) or 0):
        return None
    return KERNELS.get(f"v{match.group(1)}.{match.group(2)}.y")


def kernel_of_release(release: str, version: str = "") -> Kernel:
    """The model of a running kernel, by ``uname -r`` and ``uname -v``.

    Distributions freeze the patch level in the release (``5.10.0-28-amd64``) and tell it in the version, if at all
    (``#1 SMP Debian 5.10.209-2``). Such a kernel is of the stable series, whatever its patch level; one with a patch
    level of its own, too. Raises UnknownKernel.
    """
    match = _RELEASE.match(release)
    if match is None:
        raise UnknownKernel(f"cannot tell a release from {release!r}; name the kernel with --kernel")
    major, minor, patch, rc = match.groups()
    candidate = _CANDIDATE.search(release)
    if rc or candidate:
        return kernel(f"v{major}.{minor}-rc{rc or (candidate and candidate[1])}")
    told = re.search(rf"\b{major}\.{minor}\.(\d+)", version)
    built = _ABI.match(release)
    if (told and int(told[1])) or (patch and int(patch)) or built:
        return KERNELS.get(f"v{major}.{minor}.y") or kernel(f"v{major}.{minor}")
    return kernel(f"v{major}.{minor}")


#: A release candidate behind a patch level (``5.9.0-rc5+``), and a distribution's build number (``5.10.0-28-amd64``).
_CANDIDATE = re.compile(r"-rc(\d+)")
_ABI = re.compile(r"\d+\.\d+\.0-\d+")


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, KERNELS, 1)
    hint = f"; did you mean {near[0]}?" if near else "; 'cowcatcher kernels' lists them"
    return f"no kernel is called {name!r}{hint}"


def kernel_range(first: str | None, last: str | None, single: bool = False) -> tuple[Kernel, ...]:
    """The kernels of ``first..last`` along the line, both ends included; one kernel if ``single``.

    Raises UnknownKernel for a name that is none, or an end that does not lie on the line.
    """
    if single:
        assert first is not None
        return (kernel(first),)
    low = _place(first) if first else 0
    high = _place(last) if last else len(LINE) - 1
    if low > high:
        raise UnknownKernel(f"the range {first}..{last} is empty: {last} comes before {first}")
    return LINE[low : high + 1]


def _place(name: str) -> int:
    found = kernel(name)
    if found.place is None:
        raise UnknownKernel(f"{found.name} stands beside the line of releases and cannot end a range; name it alone")
    return found.place


def select(text: str) -> tuple[Kernel, ...]:
    """Kernels by a command-line selection: names and ranges joined by commas; ``all``, ``line``, ``proposals``.

    Raises UnknownKernel.
    """
    chosen: dict[str, Kernel] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        for found in _select_one(part):
            chosen[found.name] = found
    if not chosen:
        raise UnknownKernel("no kernel is named; try --kernel v5.9-rc4, --kernel v5.9.. or --kernel all")
    return tuple(chosen.values())


def _select_one(part: str) -> Iterable[Kernel]:
    if part == "all":
        return KERNELS.values()
    if part == "line":
        return LINE
    if part == "proposals":
        return tuple(KERNELS[name] for name in PROPOSAL_NAMES)
    if ".." in part:
        first, last = part.split("..", 1)
        return kernel_range(first or None, last or None)
    return (kernel(part),)


def is_known(name: str) -> bool:
    """May ``name`` stand in an ``expect`` line?"""
    try:
        kernel(name)
    except UnknownKernel:
        return False
    return True


def previous(decision: Decision) -> Decision | None:
    """The answer that this one replaced on the line; None for the first, and for proposals."""
    for k in LINE:
        if k.place and k.decisions[decision.question].name == decision.name:
            before = LINE[k.place - 1].decisions[decision.question]
            if before.name != decision.name:
                return before
    return None


def introduced_by(decision: Decision) -> Kernel | None:
    """The first kernel of the line that takes this decision."""
    return next((k for k in LINE if k.decisions[decision.question].name == decision.name), None)


def all_decisions() -> Iterator[Decision]:
    """Every decision that any kernel takes, by question, oldest first, each once."""
    for question in QUESTIONS:
        seen: set[str] = set()
        for k in KERNELS.values():
            found = k.decisions[question]
            if found.name not in seen:
                seen.add(found.name)
                yield found


def load_decisions(path: str | Path) -> tuple[Decision, ...]:
    """The decisions defined in a user's Python file (functions under ``@decision(question)``). The file is executed.

    Raises BadDecision if it cannot be read, fails, or defines none.
    """
    import runpy

    try:
        names = runpy.run_path(str(path))
    except BadDecision:
        raise
    except OSError as error:
        raise BadDecision(f"{path}: {error.strerror}") from error
    except Exception as error:
        raise BadDecision(f"{path}: {type(error).__name__}: {error}") from error
    found = tuple(value for value in names.values() if isinstance(value, Decision))
    own = tuple(d for d in found if d.answer.__code__.co_filename == str(path))
    if not own:
        raise BadDecision(f"{path}: defines no decision; write a function under @decision('fork_copies_now')")
    return own

"""All distinct minimal violations of the standing checks that an alphabet can make, on one kernel.

The search reaches every state that any program of the alphabet reaches, whatever the interleaving, nearest first. Each
violating state gives the program that led to it. Of these only the smallest are kept (no other one is had from them by
leaving statements out), and each of them is checked again by itself: by the interpreter, in all its interleavings, and
with each of its statements left out in turn, after which it must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cowcatcher.explore.bisect import Cure, cures
from cowcatcher.explore.checks import CHECK_BITS
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import CheckResult, Verdict, check
from cowcatcher.hunt.space import HuntSpace
from cowcatcher.hunt.story import Shape, Word, by_task, expect, is_part_of, name_of, program_of, smallest, unique_name
from cowcatcher.kernels import Decision, Kernel
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.checks import check as mistakes

#: For one small program; none has come near it.
_LIMITS = Limits(states=5_000_000, seconds=1200)


@dataclass(frozen=True, slots=True)
class Finding:
    """A minimal program that violates ``check`` on the hunted kernel. ``seen``: violating states that it stands for."""

    test: Test
    word: Word
    check: str
    result: CheckResult
    cures: tuple[Cure, ...]
    seen: int

    @property
    def cured_by(self) -> tuple[Decision, ...]:
        """The answers each of which cures it alone, those that came later first."""
        return tuple(cure.replaced_by for cure in self.cures)


@dataclass(frozen=True, slots=True)
class FindingClass:
    """Findings that break the same check and are cured by the same answers, the smallest first."""

    check: str
    cured_by: tuple[Decision, ...]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Candidates:
    """The smallest of the violating programs that were seen, per standing check."""

    space: HuntSpace
    #: Check and shape -> a word of that shape, and violating states that it stands for.
    kept: dict[tuple[str, Shape], tuple[Word, int]] = field(default_factory=dict)

    def add(self, check_name: str, word: Word) -> None:
        """Words must come in order of length: then what is kept already is never larger than what comes."""
        shape = by_task(self.space, word)
        for (name, smaller), (other, seen) in self.kept.items():
            if name == check_name and is_part_of(smaller, shape):
                self.kept[name, smaller] = other, seen + 1
                return
        self.kept[check_name, shape] = word, 1

    def found(self) -> list[tuple[str, Word, int]]:
        """(check, word, violating states it stands for), shortest first."""
        found = [(name, word, seen) for (name, _), (word, seen) in self.kept.items()]
        return sorted(found, key=lambda f: (len(f[1]), list(CHECK_BITS).index(f[0]), f[1]))


def findings(
    space: HuntSpace,
    kernel: Kernel,
    violating: Iterable[tuple[int, Word]],
    progress: Callable[[str], None] | None = None,
) -> Iterator[Finding]:
    """From (check bits, word) of violating states, shortest first, to distinct minimal tests, each checked again.

    A word whose program does not violate the check by itself would be a mistake of the search: RuntimeError.
    """
    candidates = Candidates(space)
    for bits, word in violating:
        for name, bit in CHECK_BITS.items():
            if bits & bit:
                candidates.add(name, word)
    kept: dict[str, list[Shape]] = {}
    names: set[str] = set()
    for name, word, seen in candidates.found():
        if progress:
            progress(f"looking again at {name_of(space, word)}")
        smaller = minimal(space, kernel, name, word)
        shape = by_task(space, smaller)
        if any(is_part_of(other, shape) for other in kept.get(name, [])):
            continue  # smaller than the search could know: its way needed a statement that another program does without
        kept.setdefault(name, []).append(shape)
        test = program_of(
            space, smaller, unique_name(name_of(space, smaller), names), _describe(kernel, name),
            [expect(kernel.name, "violated", name)],
        )  # fmt: skip
        result = check(test, kernel, _LIMITS)
        yield Finding(test, smaller, name, result, tuple(cures(test, kernel, _LIMITS)), seen)


def minimal(space: HuntSpace, kernel: Kernel, check_name: str, word: Word) -> Word:
    """The word without whatever it does not need, so that leaving out any one statement more makes its program hold."""
    if not violates(space, kernel, check_name, word):
        raise RuntimeError(f"the search says that {name_of(space, word)} violates {check_name}, the checker does not")
    return smallest(word, lambda shorter: violates(space, kernel, check_name, shorter))


def violates(space: HuntSpace, kernel: Kernel, check_name: str, word: Word) -> bool:
    """Does the program of the word violate the check? What is no test (a pin is missing, say) does not."""
    test = program_of(space, word, "candidate")
    if mistakes(test):
        return False
    result = check(test, kernel, _LIMITS)
    if result.verdict is Verdict.UNKNOWN:
        raise RuntimeError(
            f"{name_of(space, word)} on {kernel.name}: {result.reason}; no program was that large before"
        )
    return result.verdict is Verdict.VIOLATED and check_name in result.violated_checks()


def classes(found: Sequence[Finding]) -> list[FindingClass]:
    """Findings by what they break and what cures them, in the order in which the first of each class was found."""
    grouped: dict[tuple[str, tuple[str, ...]], list[Finding]] = {}
    for finding in found:
        key = finding.check, tuple(sorted(d.name for d in finding.cured_by))
        grouped.setdefault(key, []).append(finding)
    return [FindingClass(group[0].check, group[0].cured_by, tuple(group)) for group in grouped.values()]


def _describe(kernel: Kernel, check_name: str) -> str:
    return f"Found by hunting on {kernel.name}: {check_name} is violated, and not if any one statement is left out."


__all__ = ["Candidates", "Finding", "FindingClass", "classes", "findings", "minimal", "violates"]

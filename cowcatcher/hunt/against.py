"""Programs that behave differently on two kernels: the smallest, in which everything happens in one order.

Both kernels execute every program of the alphabet side by side, each statement to its end before the next begins. A way
is followed until the two differ: in a result, in which pages are the same, in a standing check, in who has to wait. The
smallest ones are told as ordered tests, which a real kernel can be asked as well, and predicted again by the
interpreter on both kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cowcatcher.explore.claims import Value
from cowcatcher.explore.ordered import Prediction, predict
from cowcatcher.hunt.alphabet import MEMORY
from cowcatcher.hunt.space import HuntSpace
from cowcatcher.hunt.story import Begun, Word, by_task, name_of, ordered_test_of
from cowcatcher.kernels import Decision, Kernel
from cowcatcher.litmus.ast import Claim, Compare, ErrorName, Located, Not, Number, Place, Query, Register, Test
from cowcatcher.litmus.checks import check as mistakes


@dataclass(frozen=True, slots=True)
class Difference:
    """A minimal program and in what it differs; ``here`` and ``there`` are the first and the second kernel's answers.

    ``decisions``: the first kernel's answers each of which makes the difference alone, put into the second kernel.
    """

    test: Test
    word: Word
    what: str
    here: str
    there: str
    decisions: tuple[Decision, ...]
    seen: int


def word_of_pairs(way: Iterable[tuple[int, bytes]]) -> Word:
    """Every step of a pair's way is a whole statement."""
    return tuple(Begun(label >> 8, label & 255) for label, _ in way)


def differences(
    space: HuntSpace,
    here: Kernel,
    there: Kernel,
    words: Iterable[Word],
    progress: Callable[[str], None] | None = None,
) -> list[Difference]:
    """From words after which the two kernels differ, shortest first, to distinct minimal ordered tests.

    A word is left out if a smaller one is part of it, or if it cannot be told as a test (somebody would have to wait).
    """
    kept: dict[tuple[tuple[int, ...], ...], tuple[Word, int]] = {}
    for word in words:
        small = _minimal(space, here, there, word)
        if small is None:
            continue
        shape = by_task(small, len(space.repertoires))
        first, seen = kept.get(shape, (small, 0))
        kept[shape] = first, seen + 1
        if progress and not seen:
            progress(f"{len(kept)} programs differ, the last one is {name_of(space, small)}")
    found = []
    names: set[str] = set()
    for word, seen in sorted(kept.values(), key=lambda k: (len(k[0]), k[0])):
        name = name_of(space, word)[:56].rstrip("_")
        while name in names:
            name += "_2"
        names.add(name)
        difference = _told(space, here, there, word, name)
        if difference is not None:
            what, in_here, in_there, claim = difference
            test = ordered_test_of(space, word, name, [claim])
            found.append(Difference(test, word, what, in_here, in_there, _blamed(test, here, there), seen))
    return found


def _minimal(space: HuntSpace, here: Kernel, there: Kernel, word: Word) -> Word | None:
    """The word without whatever it does not need to differ; None if it is no test or does not differ as one."""
    if _told(space, here, there, word, "candidate") is None:
        return None
    at = 0
    while at < len(word):
        shorter = word[:at] + word[at + 1 :]
        if shorter and _told(space, here, there, shorter, "candidate") is not None:
            word, at = shorter, 0
        else:
            at += 1
    return word


def _told(
    space: HuntSpace, here: Kernel, there: Kernel, word: Word, name: str
) -> tuple[str, str, str, Claim] | None:
    """(what differs, here, there, the claim that is true here and false there); None if nothing does."""
    test = ordered_test_of(space, word, name, _questions(space))
    if mistakes(test):
        return None
    one, other = predict(test, here), predict(test, there)
    for register, value in one.registers.items():
        if value != other.registers[register]:
            return register, _shown(value), _shown(other.registers[register]), _claim_about(register, value, other)
    for claim, true, true_there in zip(test.claims, one.claims, other.claims, strict=True):
        if true != true_there and isinstance(claim.cond, Query):
            from cowcatcher.litmus import cond_text

            cond = claim.cond if true else Not(claim.cond)
            return cond_text(claim.cond), "yes" if true else "no", "yes" if true_there else "no", Claim("always", cond)
    if one.broken != other.broken:
        check = sorted(one.broken ^ other.broken)[0]
        verdicts = ["violated" if check in side.broken else "holds" for side in (one, other)]
        return check, verdicts[0], verdicts[1], Claim("always", Query("mapped", (_located(space, "p"),)))
    return None


def _claim_about(register: str, value: Value, other: Prediction) -> Claim:
    """What the first kernel makes true and the second does not."""
    if value is None or value == "ok":
        there = other.registers[register]
        operand = Number(there) if isinstance(there, int) else ErrorName(str(there))
        return Claim("never", Compare(Register(register), "==", operand))
    operand = Number(value) if isinstance(value, int) else ErrorName(value)
    return Claim("always", Compare(Register(register), "==", operand))


def _shown(value: Value) -> str:
    return "not executed" if value is None else str(value)


def _questions(space: HuntSpace) -> list[Claim] | None:
    """None: whatever can be asked of the story's pages (see agree.story)."""
    return None


def _located(space: HuntSpace, process: str) -> Located:
    return Located(process, Place(MEMORY, 0 if space.size.pages > 1 else None))


def _blamed(test: Test, here: Kernel, there: Kernel) -> tuple[Decision, ...]:
    """Which of the second kernel's answers, exchanged alone for the first one's, makes it behave like the first?"""
    wanted = predict(test, here)
    blamed = []
    for ours, _ in here.diff(there):
        tried = predict(test, there.with_decisions(ours))
        if tried.registers == wanted.registers and tried.claims == wanted.claims and tried.broken == wanted.broken:
            blamed.append(ours)
    return tuple(blamed)

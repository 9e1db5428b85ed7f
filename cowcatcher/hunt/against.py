"""Programs that behave differently on two kernels: the smallest, in which everything happens in one order.

Both kernels execute every program of the alphabet side by side, each statement to its end before the next begins. After
each it is asked whether they differ that did not before: in a result, in which pages are the same, in a standing check.
The smallest such programs are told as ordered tests, which a real kernel can be asked as well, and predicted again by
the interpreter on both kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

from cowcatcher.compiled.expand import CHECKS_DIFFER, PAGES_DIFFER, REGISTERS_DIFFER
from cowcatcher.explore.claims import Value
from cowcatcher.explore.ordered import Prediction, predict
from cowcatcher.hunt.alphabet import MEMORY
from cowcatcher.hunt.space import HuntSpace
from cowcatcher.hunt.story import (
    Begun,
    Shape,
    Word,
    by_task,
    expect,
    is_part_of,
    name_of,
    ordered_test_of,
    smallest,
    unique_name,
)
from cowcatcher.kernels import Decision, Kernel
from cowcatcher.litmus import cond_text
from cowcatcher.litmus.ast import Claim, Compare, ErrorName, Located, Not, Number, Place, Query, Register, Test
from cowcatcher.litmus.checks import check as mistakes
from cowcatcher.litmus.order import NoOrder
from cowcatcher.litmus.statements import CHECKS

Kind: TypeAlias = Literal["results", "pages", "checks"]


#: How ``compiled.expand.expand_pair`` flags it.
BIT: dict[Kind, int] = {"results": REGISTERS_DIFFER, "pages": PAGES_DIFFER, "checks": CHECKS_DIFFER}
#: In what two kernels may differ: what statements give, which pages are the same, which standing checks are broken.
KINDS: tuple[Kind, ...] = ("results", "pages", "checks")


@dataclass(frozen=True, slots=True)
class Difference:
    """A minimal program and in what it differs; ``here`` and ``there`` are the first and the second kernel's answers.

    ``blamed``: the first kernel's answers each of which, put into the second one, makes that behave like the first.
    """

    test: Test
    word: Word
    kind: Kind
    what: str
    here: str
    there: str
    blamed: tuple[Decision, ...]


class _Told(NamedTuple):
    """``claim`` is true on the first kernel and false on the second."""

    what: str
    here: str
    there: str
    claim: Claim


def word_of_pairs(way: Iterable[tuple[int, bytes]]) -> Word:
    """Every step of a pair's way is a whole statement."""
    return tuple(Begun(label >> 8, label & 255) for label, _ in way)


@dataclass(slots=True)
class Untold:
    """Ways after which the two differ and that no ordered test tells: somebody would have to wait, say."""

    count: int = 0


def differences(
    space: HuntSpace,
    here: Kernel,
    there: Kernel,
    differing: Iterable[tuple[int, Word]],
    untold: Untold,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Difference]:
    """From words after which the two kernels differ, shortest first, to distinct minimal ordered tests of each kind.

    ``differing``: in what, as ``expand_pair`` flags it, and the word. What is a part of what was found is not looked
    at, and what cannot be told as a test is counted.
    """
    kept: dict[Kind, list[Shape]] = {kind: [] for kind in KINDS}
    names: set[str] = set()
    for bits, word in differing:
        shape = by_task(space, word)
        for kind in (kind for kind in KINDS if bits & BIT[kind]):
            if any(is_part_of(smaller, shape) for smaller in kept[kind]):
                continue
            small = _minimal(space, here, there, word, kind)
            if small is None:
                untold.count += 1
                continue
            kept[kind].append(by_task(space, small))
            if progress:
                progress(f"{sum(map(len, kept.values()))} programs differ; the last one: {name_of(space, small)}")
            yield _difference(space, here, there, kind, small, names)


def _difference(space: HuntSpace, here: Kernel, there: Kernel, kind: Kind, word: Word, names: set[str]) -> Difference:
    name = unique_name(name_of(space, word), names)
    told = _told(space, here, there, word, kind)
    assert told is not None
    description = f"{told.what}: {told.here} on {here.name}, {told.there} on {there.name}. Found by hunting."
    test = ordered_test_of(space, word, name, [told.claim])
    if kind == "checks":
        broken = told.what if told.here == "violated" else None
        expects = (
            expect(here.name, "violated" if broken else "holds", broken),
            expect(there.name, "holds" if broken else "violated", None if broken else told.what),
        )
    else:  # the claim alone is what differs
        test = replace(test, unchecked=tuple(CHECKS))
        expects = (expect(here.name, "holds"), expect(there.name, "violated"))
    test = replace(test, description=description, expects=expects)
    return Difference(test, word, kind, told.what, told.here, told.there, _blamed(test, here, there))


def _minimal(space: HuntSpace, here: Kernel, there: Kernel, word: Word, kind: Kind) -> Word | None:
    """The word without whatever it does not need to differ; None if it is no test, or does not differ in this."""
    if _told(space, here, there, word, kind) is None:
        return None
    return smallest(word, lambda shorter: bool(shorter) and _told(space, here, there, shorter, kind) is not None)


def _told(space: HuntSpace, here: Kernel, there: Kernel, word: Word, kind: Kind) -> _Told | None:
    """In what the two differ after this word; None if in nothing of this kind, or if it is no test."""
    test = ordered_test_of(space, word, "candidate", None)
    if mistakes(test):
        return None
    try:
        one, other = predict(test, here), predict(test, there)
    except NoOrder:
        return None
    if kind == "results":
        for register, value in one.registers.items():
            if value != other.registers[register]:
                if {value, other.registers[register]} == {None, "ok"}:
                    return None  # the language has no word for "was executed"
                claim = _claim_about(register, value, other)
                return _Told(register, _shown(value), _shown(other.registers[register]), claim)
    elif kind == "pages":
        for claim, true, true_there in zip(test.claims, one.claims, other.claims, strict=True):
            if true != true_there:
                cond = claim.cond if true else Not(claim.cond)
                return _Told(cond_text(claim.cond), _yes(true), _yes(true_there), Claim("always", cond))
    elif one.broken != other.broken:
        check = sorted(one.broken ^ other.broken)[0]
        verdicts = ["violated" if check in side.broken else "holds" for side in (one, other)]
        where = Located("p", Place(MEMORY, 0 if space.size.pages > 1 else None))
        return _Told(check, verdicts[0], verdicts[1], Claim("sometimes", Query("mapped", (where,))))
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


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _blamed(test: Test, here: Kernel, there: Kernel) -> tuple[Decision, ...]:
    """Which of the second kernel's answers, exchanged alone for the first one's, makes it behave like the first?"""
    wanted = predict(test, here)
    blamed = []
    for ours, _ in here.diff(there):
        tried = predict(test, there.with_decisions(ours))
        if (tried.registers, tried.claims, tried.broken) == (wanted.registers, wanted.claims, wanted.broken):
            blamed.append(ours)
    return tuple(blamed)

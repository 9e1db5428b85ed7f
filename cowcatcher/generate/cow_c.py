"""The cross product of the axes of the kernel's own ``tools/testing/selftests/mm/cow.c``, one test for each cell.

Written down after the file as it is in v7.3: its three tables of test cases (``anon_test_cases``,
``anon_thp_test_cases``, ``non_anon_test_cases``) and what each table is run with. Sizes of huge pages are the
machine's, so THP and hugetlb stand here for one size each. A case is a word; a kind is the stage it is played on.

Two things are said differently here. gup_test's pins are written out as flags. And where cow.c looks at a second,
shared mapping of a file to see that a write to the private one has not reached it, a forked child's mapping is looked
at, since a test has no two mappings of one file: it shows the page cache as well, as long as the child writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from cowcatcher.generate.write import BARE, Stage, write_test
from cowcatcher.litmus.ast import Actor, Mapping, Name, Place, Statement, Test

SOURCE: Final = "tools/testing/selftests/mm/cow.c"


@dataclass(frozen=True, slots=True)
class Case:
    """``title`` is cow.c's own, ``name`` ours, ``word`` what happens."""

    title: str
    name: str
    word: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of memory. ``stage`` is None if the language cannot say it; ``why_not`` then says what is missing.

    ``first`` are letters that come before each case's own.
    """

    title: str
    name: str
    stage: Stage | None
    first: str = ""
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A test of cow.c: a case on a kind. ``test`` is None where the kind cannot be said."""

    case: Case
    kind: Kind
    test: Test | None


def _pin(fast: bool) -> str:
    return "Pin[R|LONGTERM|FAST]" if fast else "Pin[R|LONGTERM]"


def _pins(title: str, name: str, before: str) -> Iterator[Case]:
    """A read-only pin on a page in some state, slow and fast: what is written later must be seen through it."""
    for fast in (False, True):
        gup, short = ("GUP-fast", "fast_pin") if fast else ("GUP", "pin")
        yield Case(title.format(gup), name.format(short), f"{before} {_pin(fast)} Store.p Dma.r".strip())


_READ_ONLY = "Mprotect.p[R] ClearRefs Mprotect.p[RW]"  # mapped R/O, and mprotect() has not mapped it R/W again
_TO_AND_FRO = "Mprotect.p[R] Mprotect.p[RW]"  # so that mprotect() may map it R/W again, to save a fault

ANON_CASES: Final = (
    Case("Basic COW after fork()", "cow", "Fork Load.c Store.p Load.c"),
    Case("Basic COW after fork() with mprotect() optimization", "cow_mprotect",
         f"Fork Load.c {_TO_AND_FRO} Store.p Load.c"),
    Case("vmsplice() + unmap in child", "vmsplice_child", "Fork Load.c Vmsplice.c Munmap.c Store.p Dma.r"),
    Case("vmsplice() + unmap in child with mprotect() optimization", "vmsplice_child_mprotect",
         f"Fork Load.c Vmsplice.c Munmap.c {_TO_AND_FRO} Store.p Dma.r"),
    Case("vmsplice() before fork(), unmap in parent after fork()", "vmsplice_before_fork",
         "Vmsplice Fork Munmap.p Store.c Dma.r"),
    Case("vmsplice() + unmap in parent after fork()", "vmsplice_after_fork", "Fork Vmsplice Munmap.p Store.c Dma.r"),
    Case("R/O-mapping a page registered as iouring fixed buffer", "iouring_ro", f"Fixed {_READ_ONLY} Store.p Dma.r"),
    Case("fork() with an iouring fixed buffer", "iouring_fork", "Fixed Fork Store.p Dma.r"),
    *_pins("R/O {} pin on R/O-mapped shared page", "ro_{}_shared", "Fork"),
    *_pins("R/O {} pin on R/O-mapped previously-shared page", "ro_{}_previously_shared", "Fork ChildExit Wait"),
    *_pins("R/O {} pin on R/O-mapped exclusive page", "ro_{}_exclusive", _READ_ONLY),
)  # fmt: skip

NON_ANON_CASES: Final = (
    Case("Basic COW", "cow", "Load.p Fork Load.c Store.p Load.c"),
    *_pins("R/O longterm {} pin", "ro_{}", "Load.p"),
)

# --- kinds ------------------------------------------------------------------------------------------------------------

_HALVES = Mapping("x", "anon", (("", 1),), 2, "RW", ("thp",))
_BOTH, _LOWER, _UPPER = Place("x"), Place("x", 0), Place("x", 1)


def _halves(*setup: Statement, part: Place = _BOTH, extras: tuple[Actor, ...] = ()) -> Stage:
    """A huge page of two pages; ``part`` is the one that is meant, or both."""
    value = _LOWER if part is _BOTH else part
    return Stage(_HALVES, setup, extras, value, part)


def _advise(place: Place, advice: str) -> Statement:
    return Statement("madvise", (place, Name(advice)))


def _protect(prot: str) -> Statement:
    return Statement("mprotect", (_UPPER, Name(prot)))


_PTE_MAPPED = (_protect("R"), _protect("RW"))  # one half is protected for a moment: that splits the PMD
_EARLY = Actor("process", "early", "early", (Statement("exit"),))
_PARTLY_SHARED = (
    _advise(_UPPER, "DONTFORK"),
    Statement("fork", (Name("early"),)),
    Statement("wait", (Name("early"),)),
    _advise(_UPPER, "DOFORK"),
)
_THP = Stage(Mapping("x", "anon", (("", 1),), 1, "RW", ("thp",)))

ANON_KINDS: Final = (
    Kind("base page", "base", BARE),
    Kind("swapped out base page", "base_swapped", BARE, "Swap.p"),
    Kind("THP", "thp", _THP),
    Kind("swapped-out THP", "thp_swapped", _THP, "Swap.p"),
    Kind("PTE-mapped THP", "thp_pte_mapped", _halves(*_PTE_MAPPED)),
    Kind("swapped-out, PTE-mapped THP", "thp_pte_mapped_swapped", _halves(*_PTE_MAPPED), "Swap.p"),
    Kind("single PTE of THP", "thp_single_pte", _halves(_advise(_UPPER, "DONTNEED"), part=_LOWER)),
    Kind("single PTE of swapped-out THP", "thp_single_pte_swapped",
         _halves(_advise(_UPPER, "DONTNEED"), part=_LOWER), "Swap.p"),
    Kind("partially mremap()'ed THP", "thp_partly_moved", _halves(Statement("mremap", (_UPPER,)), part=_LOWER)),
    Kind("partially shared THP", "thp_partly_shared", _halves(*_PARTLY_SHARED, extras=(_EARLY,))),
    Kind("hugetlb", "hugetlb", Stage(Mapping("x", "hugetlb_private", (("", 1),)))),
)  # fmt: skip

#: Each case on a stage of its own: a PTE-mapped THP of which one half was, perhaps, not shared.
THP_CASES: Final = (
    (Case("Basic COW after fork() when collapsing before fork()", "cow_collapsed_before",
          "Collapse.p Fork Load.c Store.p Load.c"), _halves(*_PTE_MAPPED)),
    (Case("Basic COW after fork() when collapsing after fork() (fully shared)", "cow_collapsed_fully_shared",
          "Fork Load.c Collapse.p Store.p Load.c"), _halves(*_PTE_MAPPED)),
    (Case("Basic COW after fork() when collapsing after fork() (lower shared)", "cow_collapsed_lower_shared",
          "Fork Load.c DoFork.p Collapse.p Store.p Load.c"), _halves(*_PTE_MAPPED, _advise(_UPPER, "DONTFORK"))),
    (Case("Basic COW after fork() when collapsing after fork() (upper shared)", "cow_collapsed_upper_shared",
          "Fork Load.c DoFork.p Collapse.p Store.p Load.c"),
     replace(_halves(*_PTE_MAPPED, _advise(_LOWER, "DONTFORK")), value=_UPPER)),
)  # fmt: skip

_FILE = Stage(Mapping("x", "file_private", (("", 1),)))

NON_ANON_KINDS: Final = (
    Kind("shared zeropage", "zeropage", Stage(Mapping("x", "anon_zero"))),
    Kind("memfd", "memfd", _FILE),
    Kind("tmpfile", "tmpfile", _FILE),
    Kind("huge zeropage", "huge_zeropage", Stage(Mapping("x", "anon_zero", flags=("thp",)))),
    Kind("memfd hugetlb", "memfd_hugetlb", None,
         why_not="the language has no private mapping of a file on hugetlbfs"),
)  # fmt: skip


def cells() -> Iterator[Cell]:
    """Every test of cow.c, kind by kind, in its order."""
    for kind in ANON_KINDS:
        yield from (_cell(case, kind) for case in ANON_CASES)
    for case, stage in THP_CASES:
        yield _cell(case, Kind("THP, collapsed", "thp_collapsed", stage))
    for kind in NON_ANON_KINDS:
        yield from (_cell(case, kind) for case in NON_ANON_CASES)


def _cell(case: Case, kind: Kind) -> Cell:
    if kind.stage is None:
        return Cell(case, kind, None)
    title = case.title if kind.name == "thp_collapsed" else f"{case.title} ... with {kind.title}"
    name = case.name if case.name.startswith("cow_collapsed") else f"{case.name}__{kind.name}"
    test = write_test(f"{kind.first} {case.word}", kind.stage, f"cow_c_{name}")
    return Cell(case, kind, replace(test, description=title, sources=(f"{SOURCE}: {title}",)))

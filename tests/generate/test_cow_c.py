"""The cross product of cow.c's axes: all of it, and as sources say where they say anything."""

from __future__ import annotations

from collections import Counter

import pytest

from cowcatcher.explore.verdict import Checker, Verdict
from cowcatcher.generate.cow_c import ANON_CASES, ANON_KINDS, NON_ANON_CASES, NON_ANON_KINDS, THP_CASES, cells
from cowcatcher.kernels import KERNELS, LINE, kernel
from cowcatcher.litmus import check, parse, to_text
from cowcatcher.litmus.order import ordered

CELLS = list(cells())
CHECKERS = {
    (cell.case.title, cell.kind.title): Checker(cell.test)
    for cell in CELLS
    if cell.test is not None and cell.kind.name != "thp_collapsed"
}


def test_the_product_is_complete() -> None:
    """tests_per_anon_test_case() and its siblings, with one size of THP, the PMD's, and one of hugetlb."""
    thp_sizes = hugetlb_sizes = pmd = 1
    assert len(ANON_CASES) == 14
    assert len(ANON_KINDS) == 2 + hugetlb_sizes + 6 * thp_sizes + 2 * pmd
    assert len(THP_CASES) == 4
    assert len(NON_ANON_CASES) == 3
    assert len(NON_ANON_KINDS) == 3 + pmd + hugetlb_sizes
    assert len(CELLS) == 14 * 11 + 4 + 3 * 5 == 173
    assert len({(cell.case.title, cell.kind.title) for cell in CELLS}) == 173
    for case in ANON_CASES:
        assert [c.kind.title for c in CELLS if c.case is case] == [kind.title for kind in ANON_KINDS]


def test_each_names_what_it_stands_for() -> None:
    written = [cell for cell in CELLS if cell.test is not None]
    assert len({cell.test.name for cell in written if cell.test}) == len(written) == 170
    for cell in written:
        assert cell.test
        title = (
            cell.case.title if cell.kind.name == "thp_collapsed" else f"{cell.case.title} ... with {cell.kind.title}"
        )
        assert cell.test.sources == (f"tools/testing/selftests/mm/cow.c: {title}",)
        assert parse(to_text(cell.test), f"{cell.test.name}.cow") == cell.test
        assert not check(cell.test)
        assert ordered(cell.test)
        assert cell.test.claims


def test_what_is_missing_is_named() -> None:
    """Whatever has to do with transparent huge pages is not applicable; one kind of memory has no words."""
    reasons = Counter(
        Checker(cell.test).check(LINE[0]).reason if cell.test else cell.kind.why_not
        for cell in CELLS
        if cell.test is None or Checker(cell.test).program is None
    )
    assert reasons == {
        "transparent huge pages (x) are not modelled": 8 * 14 + 4 + 3,
        "the language has no private mapping of a file on hugetlbfs": 3,
    }


def verdicts(case: str, kind: str) -> str:
    """``X`` where it is violated, along the line."""
    checker = CHECKERS[case, kind]
    return "".join({Verdict.VIOLATED: "X", Verdict.HOLDS: "."}[checker.check(k).verdict] for k in LINE)


def violated(case: str, kind: str, *ranges: tuple[str, str]) -> None:
    """Violated on these ranges of the line, both ends included, and nowhere else."""
    wanted = ["."] * len(LINE)
    for first, last in ranges:
        low, high = KERNELS[first].place, KERNELS[last].place
        assert low is not None
        assert high is not None
        wanted[low : high + 1] = ["X"] * (high + 1 - low)
    assert verdicts(case, kind) == "".join(wanted), (case, kind)


VMSPLICE = [case.title for case in ANON_CASES if case.title.startswith("vmsplice()")]
READ_ONLY_PINS = [case.title for case in ANON_CASES if case.title.startswith("R/O GUP")]
BASE, SWAPPED, HUGETLB = "base page", "swapped out base page", "hugetlb"


def test_plain_copy_on_write_was_always_right() -> None:
    for case, kind in CHECKERS:
        if case.startswith("Basic COW") and CHECKERS[case, kind].program is not None:
            violated(case, kind)


def test_cve_2020_29374() -> None:
    """Fixed by 17839856fd58 (v5.8-rc1) for a reference that is taken after the fork, and by 09854ba94c6a (v5.9-rc4)
    for one that was taken before. On swapped memory it comes back, until swap-in counts references (v5.18)."""
    assert len(VMSPLICE) == 4
    for case in VMSPLICE:
        before_fork = "before fork()" in case
        violated(case, BASE, ("v5.7", "v5.8" if before_fork else "v5.7"))
        if before_fork:
            violated(case, SWAPPED, ("v5.7", "v5.8"))
        else:
            violated(case, SWAPPED, ("v5.7", "v5.7"), ("v5.9-rc4", "v5.17"))


def test_hugetlb_leaks_to_this_day() -> None:
    """cow.c expects these to fail: "harder to fix and nobody really cares"."""
    for case in VMSPLICE:
        whole_line = [("v5.7", "v7.3")] if "before fork()" in case else [("v5.7", "v5.7"), ("v5.9-rc4", "v7.3")]
        violated(case, HUGETLB, *whole_line)


def test_pins_to_write() -> None:
    """fork copies pinned pages since v5.9-rc7 (70e806e4e645), huge ones since v5.12-rc3 (4eae4efa2c29); a page that is
    mapped read-only for any other reason is kept since v5.19 (6c287605fd56)."""
    violated("fork() with an iouring fixed buffer", BASE, ("v5.7", "v5.9-rc4"))
    violated("fork() with an iouring fixed buffer", HUGETLB, ("v5.7", "v5.11"))
    violated("R/O-mapping a page registered as iouring fixed buffer", BASE, ("v5.9-rc4", "v5.18"))


@pytest.mark.parametrize("kind", [BASE, SWAPPED])
def test_pins_to_read(kind: str) -> None:
    """Reliable since v5.19 (a7f226604170); on v5.7 by the mapcount, on v5.8 because every reference broke COW."""
    assert len(READ_ONLY_PINS) == 6
    for case in READ_ONLY_PINS:
        shared = [("v5.7", "v5.7")] if case.endswith(" R/O-mapped shared page") else []
        violated(case, kind, *shared, ("v5.9-rc4", "v5.18"))


def test_pins_to_read_what_is_not_anonymous() -> None:
    """Reliable since v6.2 (84209e87c696)."""
    for case in ("R/O longterm GUP pin", "R/O longterm GUP-fast pin"):
        for kind in ("shared zeropage", "memfd", "tmpfile"):
            violated(case, kind, ("v5.7", "v5.7"), ("v5.9-rc4", "v6.1"))


def test_the_newest_kernels_fail_as_was_reported() -> None:
    """January 2023, on v6.2: of all that cow.c tests, only vmsplice with hugetlb fails."""
    for on in ("v6.2", "v6.12", "v7.3"):
        failing = [
            (case, kind)
            for (case, kind), checker in CHECKERS.items()
            if checker.check(kernel(on)).verdict is Verdict.VIOLATED
        ]
        assert failing == [(case, HUGETLB) for case in VMSPLICE]

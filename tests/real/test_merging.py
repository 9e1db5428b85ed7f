"""What is not modelled: pages merged by ksmd, or moved to other frames. No kernel does either to a pinned one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from cowcatcher.litmus import parse
from cowcatcher.real import vm
from cowcatcher.real.compare import Verdict, evaluate
from cowcatcher.real.host import OK
from cowcatcher.real.images import KernelImage

MERGED = """
test merged
memory { x = anon(7); y = anon(7); z = anon(8) }
process p {
    madvise(x, MERGEABLE); madvise(y, MERGEABLE); madvise(z, MERGEABLE)
    ksm_scan(); r1 = load(x); r2 = load(y); r3 = load(z)
}
always same_page(p:x, p:y)
never same_page(p:x, p:z)
always r1 == 7 and r2 == 7 and r3 == 8
"""
PINNED = """
test pinned
memory { x = anon(7); y = anon(7) }
process p { madvise(x, MERGEABLE); madvise(y, MERGEABLE); q = io_uring_register(x); ksm_scan(); r1 = load(y) }
never same_page(p:x, p:y)
always same_page(p:x, q)
always r1 == 7
"""
WRITTEN = """
test written
memory { x = anon(7) }
process p { madvise(x, MERGEABLE); fork(c); post(e); await(f); ksm_scan(); store(x, 9); post(g) }
process c { await(e); store(x, 7); post(f); await(g); r1 = load(x) }
never same_page(p:x, c:x)
always r1 == 7
"""
#: Nothing is advised: a scan ends all the same.
NOTHING = """
test nothing
memory { x = anon(7); y = anon(7) }
process p { ksm_scan(); ksm_scan(); r1 = load(x); r2 = load(y) }
never same_page(p:x, p:y)
"""

MOVES = (
    """
test moved
memory { x = anon(7, pages=2) }
process p { store(x[0], 7); r0 = migrate(x); store(x[1], 8); r1 = migrate(x[1]); r2 = load(x[0]); r3 = load(x[1]) }
always r0 != EBUSY and r1 != EBUSY and r2 == 7 and r3 == 8
""",
    """
test moved_for_both
memory { x = anon(7) }
process p { fork(c); r0 = migrate(x); post(e) }
process c { await(e); r1 = load(x) }
always r0 != EBUSY and r1 == 7
always same_page(p:x, c:x)
""",
    """
test moved_when_released
memory { x = anon(7) }
process p { q = io_uring_register(x); r0 = migrate(x); store(x, 8); post(e); await(f); unpin(q); r2 = migrate(x) }
device d { await(e); r1 = dma_read(q); post(f) }
always r0 == EBUSY and r1 == 8 and r2 != EBUSY
""",
    """
test moved_with_a_huge_page
memory { x = anon(7, thp, pages=2) }
process p { store(x[1], 7); r0 = migrate(x); r1 = load(x[1]) }
always r0 != EBUSY and r1 == 7
""",
)


def test_merging_and_moving(installed: KernelImage, agent: Path) -> None:
    tests = [parse(text) for text in (MERGED, PINNED, WRITTEN, NOTHING, *MOVES)]
    report = vm.run_image(tests, installed, agent=agent, trace=True)
    assert report.problems == ()
    for test, seen in zip(tests, report.observations, strict=True):
        claims = evaluate(test, seen)
        assert [c.verdict for c in claims] == [Verdict.HOLDS] * len(test.claims), (claims, seen)
        for before, after in pairwise(seen.log):
            if "migrate" in after.statement:
                was, is_now = ([page.pfn for page in done.pages if page.process == "p"][-1] for done in (before, after))
                assert after.result in (OK, "EBUSY")
                assert (None not in (was, is_now), was != is_now) == (True, after.result == OK), (before, after)

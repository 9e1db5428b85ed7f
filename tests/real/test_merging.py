"""What is not modelled: equal pages merged by ksmd. No kernel merges a pinned one."""

from __future__ import annotations

from pathlib import Path

from cowcatcher.litmus import parse
from cowcatcher.real import vm
from cowcatcher.real.compare import Verdict, evaluate
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


def test_merging(installed: KernelImage, agent: Path) -> None:
    tests = [parse(text) for text in (MERGED, PINNED, WRITTEN, NOTHING)]
    report = vm.run_image(tests, installed, agent=agent)
    assert report.problems == ()
    for test, seen in zip(tests, report.observations, strict=True):
        claims = evaluate(test, seen)
        assert [c.verdict for c in claims] == [Verdict.HOLDS] * len(test.claims), (claims, seen)

"""Three tests small enough to be enumerated on paper, from what the model says about its steps.

Every state is listed below, grouped by the step that makes it; the engine must find exactly as many, at the same
distances from the start, by exactly as many transitions.
"""

from __future__ import annotations

from collections import Counter

import pytest

from cowcatcher.explore.effects import reduced
from cowcatcher.explore.program import compile_test, initial_state
from cowcatcher.explore.search import Exploration, Limits, in_every_order, search
from cowcatcher.explore.verdict import Checker, kernel_tasks
from cowcatcher.kernels import KERNELS
from cowcatcher.litmus import parse


def explored(text: str, kernel: str, *, reduces: bool = False) -> Exploration:
    program = compile_test(parse(text, "hand.cow"))
    m = program.on(KERNELS[kernel].rules())
    if reduces:
        m = reduced(m, KERNELS[kernel].rules())
    return search(m, bytes(initial_state(program, m)), kernel_tasks(program), Limits())


def layers(found: Exploration) -> list[int]:
    """How many states lie at each distance from the start."""
    distance = [0] * len(found.states)
    for state in range(1, len(found.states)):
        distance[state] = distance[found.parent[state]] + 1
    counts = Counter(distance)
    return [counts[d] for d in range(max(counts) + 1)]


# --- one process, one page never touched ------------------------------------------------------------------------------
#
#     0  nothing mapped, nothing run
#   load(x), first try: the page table is empty, so the instruction faults. Taking mmap_lock, finding the pte missing,
#   mapping the zero page and dropping the lock are one step (mm/fault.py: a page that nobody sees yet needs no second).
#     1  x leads to the zero page, read-only; still at load(x)
#   load(x), again
#     2  r = 0; at store(x, 1)
#   store(x, 1), first try: the pte is not writable, do_wp_page() sees that the page is not anonymous and begins a copy
#     3  the old page (the zero page) is remembered, mmap_lock held for read, page-table lock dropped
#   wp_page_copy()
#     4  a new page with the contents of the old, mapped nowhere
#   wp_page_copy(), install
#     5  x leads to the new page, writable and dirty; mmap_lock dropped; still at store(x, 1)
#   store(x, 1), again
#     6  x = 1; the program is over
#
# Seven states in a row, six transitions, one final state. No rule that ever changed is asked, so on every kernel.

UNTOUCHED = """test untouched
memory { x = anon() }
process p { r = load(x); store(x, 1) }
"""


@pytest.mark.parametrize("kernel", ["v5.7", "v5.9-rc4", "v5.19", "v7.3"])
def test_untouched_page(kernel: str) -> None:
    found = explored(UNTOUCHED, kernel)
    assert layers(found) == [1] * 7
    assert (len(found.states), found.transitions, len(found.finals)) == (7, 6, 1)


# --- a page shared by fork, one sharer leaves, the other writes -------------------------------------------------------
#
# The fork, alone, since the child does not run before its end:
#
#     F0  nothing has run
#   fork(q): mmap_lock for write, write_protect_seq odd, the child's VMAs
#     F1
#   copy_present_pte(), the test: not pinned, so it will be shared; the page-table lock stays
#     F2
#   copy_present_pte(), the sharing: both ptes read-only, two references, two mappings
#     F3
#   dup_mmap(), the end: the child runs
#     P0 Q0
#
# From here p and q are independent but for the counts of the page that they share. q takes three steps:
#
#     Q0  at exit()
#   exit()
#     Q1  on its way out
#   exit_mmap(): the pte and the mapcount go, the reference is gathered
#     Q2
#   exit_mmap(): the reference goes; the process is gone
#     Q3
#
# p faults at store(x, 2), for its pte is read-only. If the page must be copied:
#
#     P0  at store(x, 2), pte read-only
#   do_wp_page(): a reference on the old page
#     PC
#   wp_page_copy()
#     PI  a new page, not yet mapped
#   wp_page_copy(), install: the old page loses p's mapping and both of p's references
#     PD  x leads to a page of p's own, writable
#   store(x, 2)
#     PF  x = 2
#
# That makes 5 * 4 pairs. When may p keep the page instead? By the rule of v5.9-rc4 and all later ones, when no
# reference is left but its own: at Q3. The step P0 Q3 -> "x leads to a page of p's own, writable, q gone" leads to the
# very state PD Q3: which frame it is makes no difference, the other one having been freed. So
#
#     4 (F0..F3) + 5 * 4 = 24 states.
#
# Transitions: 4 for the fork; q takes each of its 3 steps in each of p's 5 situations, 15; p takes P0 -> PC in Q0..Q2
# (3) and P0 -> PD in Q3 (1), then PC -> PI, PI -> PD, PD -> PF in Q0..Q3 (12): 16. In all 35. Final: PF Q3.
#
# Distances: the fork's states are at 0..3, P0 Q0 at 4, a pair as far behind it as the steps of both add up to.
# p's steps are 0..4, q's 0..3: so 1, 2, 3, 4, 4, 3, 2, 1 pairs at 4..11. But PD Q3 is reached by keeping the page at
# 4 + 3 + 1 = 8 instead of 10, hence PF Q3 at 9 instead of 11.
#
#     1 1 1 1 | 1 2 3 4 4+1 3+1 2-1 1-1
#
# By the classic rule (v5.7, by mapcount) p may keep the page at Q2, too: one mapping is left, the gathered reference is
# not asked for. In Q2 it does make a difference that p kept the page: q still holds a reference on it. Two states more:
#
#     PR Q2  x leads to the old page, writable, q holds a reference on it
#     PRF Q2  the same with x = 2
#
# 26 states. Transitions: P0 Q2 -> PR Q2 takes the place of P0 Q2 -> PC Q2, and there are PR Q2 -> PRF Q2,
# PR Q2 -> PD Q3 and PRF Q2 -> PF Q3 besides: 38. PR Q2 is at 4 + 2 + 1 = 7, PRF Q2 at 8; nothing becomes nearer.

SHARED = """test shared
memory { x = anon(1) }
process p { fork(q); store(x, 2) }
process q { exit() }
"""


@pytest.mark.parametrize("kernel", ["v5.9-rc4", "v5.11", "v5.18", "v5.19", "v7.3"])
def test_shared_page_by_references(kernel: str) -> None:
    found = explored(SHARED, kernel)
    assert layers(found) == [1, 1, 1, 1, 1, 2, 3, 4, 5, 4, 1]
    assert (len(found.states), found.transitions, len(found.finals)) == (24, 35, 1)


@pytest.mark.parametrize("kernel", ["v5.7", "v5.8", "precop"])
def test_shared_page_by_mappings(kernel: str) -> None:
    found = explored(SHARED, kernel)
    assert layers(found) == [1, 1, 1, 1, 1, 2, 3, 5, 6, 4, 1]
    assert (len(found.states), found.transitions, len(found.finals)) == (26, 38, 1)


# With reduction (explore.commuting), by the rule of references:
#
#   F0..F3  nobody but p is there
#   P0 Q0   q's exit() commutes with everything: alone, to Q1
#   P0 Q1   q's next step changes the mapcount, which p's fault looks at, and p's is that look: both
#   P0 Q2   the same with the reference: both
#   P0 Q3   nobody is left but p: PD Q3, PF Q3
#   PC Q1, PC Q2   the old page is written by nobody: the copy alone
#   PI Q1, PI Q2   p gives up the old page, and q, who has it too, only lets it go: the installation alone
#   PD Q1, PD Q2   nobody else knows p's page: the store alone
#   PF Q1, PF Q2   nobody is left but q
#
# So p's four steps from PC on are taken at once in Q1 and in Q2, and those that other pairs would have led to are left
# out: PC Q0, PI Q0, PD Q0, PF Q0, PC Q3, PI Q3. 24 - 6 = 18 states. Steps: 4 for the fork, 1 from P0 Q0, 2 from each of
# P0 Q1 and P0 Q2, one from every other state but the last: P0 Q3, PC, PI, PD and PF in Q1 and in Q2, PD Q3: 10. In
# all 19.
#
#     F0..F3 at 0..3, P0 Q0..P0 Q3 at 4..7; behind P0 Q1 at 5, PC..PF Q1 at 6..9; behind P0 Q2 at 6, PC..PF Q2 at 7..10;
#     PD Q3 at 8, PF Q3 at 9, as before
#
# PF Q2 is at 10 either way, and nothing is further.


def test_shared_page_reduced() -> None:
    found = explored(SHARED, "v7.3", reduces=True)
    assert layers(found) == [1, 1, 1, 1, 1, 1, 2, 3, 3, 3, 1]
    assert (len(found.states), found.transitions, len(found.finals)) == (18, 19, 1)


# --- a pin, an event, a device ----------------------------------------------------------------------------------------
#
#     P0  nothing has run
#   pin(x, WRITE|FAST): the first look at the pte, which is writable
#     PA  the pte is remembered
#   gup_fast, the reference
#     PB
#   gup_fast, the second look: nothing has changed, the handle is held
#     P1  at post(go)
#   post(go)
#     P2  at store(x, 3), the event is 1
#
# The device waits until here. Then it takes its two steps, and p the one that it has left:
#
#     D0  at await(go)             P2  x not yet 3
#   await(go)                    store(x, 3): the pte is still writable, nothing faults
#     D1  the event is 0 again     P3  the program is over
#   dma_write(m, 2)
#     D2  the program is over
#
# P2 D0, P2 D1, P2 D2 (x = 2), P3 D0 (x = 3), P3 D1 (x = 3); and P3 D2 twice: x = 3 if the store came last, x = 2 if the
# device did. With P0, PA, PB, P1: 4 + 5 + 2 = 11 states, two of them final.
#
# Transitions: 4 to P2 D0; the device's two in P2 and in P3, 4; p's one in D0, D1 and D2, 3: 11. Distances: P0..P1
# at 0..3, P2 D0 at 4, P2 D1 and P3 D0 at 5, P2 D2 and P3 D1 at 6, both P3 D2 at 7.

PINNED = """test pinned
memory { x = anon(1) }
process p { m = pin(x, WRITE|FAST); post(go); store(x, 3); }
device d { await(go); dma_write(m, 2) }
sometimes same_page(m, p:x)
"""


@pytest.mark.parametrize("kernel", ["v5.7", "v5.9-rc4", "v5.19", "v7.3"])
def test_pin_and_event(kernel: str) -> None:
    found = explored(PINNED, kernel)
    assert layers(found) == [1, 1, 1, 1, 1, 2, 2, 2]
    assert (len(found.states), found.transitions, len(found.finals)) == (11, 11, 2)


def test_the_two_ends_of_the_last() -> None:
    """With a load at the end the two ways to end become two outcomes, and five states come behind P3."""
    result = Checker(
        parse(PINNED.replace("store(x, 3);", "store(x, 3); r = load(x)"), "hand.cow"), search=in_every_order
    ).check(KERNELS["v7.3"])
    # P4, after the load: D0 and D1, r = 3; D2 after the load: x = 2, r = 3; before it: x = r = 2, or x = r = 3.
    assert result.states == 11 + 5
    assert sorted(str(o.registers["r"]) for o in result.outcomes) == ["2", "3"]
    assert [o.states for o in result.outcomes] == [1, 2]

"""One test's two answers, the model's and a kernel's, compared in all that both can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from cowcatcher.agree.expect import Expected
from cowcatcher.agree.story import Story
from cowcatcher.litmus import cond_text
from cowcatcher.litmus.ast import Query, Test
from cowcatcher.litmus.order import ordered
from cowcatcher.litmus.printer import statement_text
from cowcatcher.real.compare import holds
from cowcatcher.real.host import Observation, Page

#: Bits of /proc/kpageflags, from the kernel's include/uapi/linux/kernel-page-flags.h.
KPF_ANON: Final = 1 << 12
KPF_SWAPCACHE: Final = 1 << 13
KPF_SWAPBACKED: Final = 1 << 14
KPF_HUGE: Final = 1 << 17
KPF_KSM: Final = 1 << 21


class Status(StrEnum):
    AGREE = "agree"
    DISAGREE = "disagree"
    NOT_APPLICABLE = "not applicable"
    COULD_NOT_TELL = "could not tell"
    FLAKY = "flaky"


@dataclass(frozen=True, slots=True)
class Compared:
    """One test on both sides.

    ``differences``: nearest to the cause first. ``asked``: questions about pages, of which ``open`` were left without
    answer; ``counted``: pages whose mapcounts were compared.
    """

    story: Story
    test: Test
    status: Status
    reason: str = ""
    differences: tuple[str, ...] = ()
    asked: int = 0
    open: int = 0
    counted: int = 0
    expected: Expected | None = None
    seen: Observation | None = None


def judge(story: Story, test: Test, said: Expected | str, seen: Observation | None) -> Compared:
    """``said`` is why the model says nothing if it is a text; then nothing was run."""
    if isinstance(said, str) or seen is None:
        return Compared(story, test, Status.NOT_APPLICABLE, said if isinstance(said, str) else "it was not run")
    if seen.status != "ok":
        status = Status.NOT_APPLICABLE if seen.status == "not applicable" else Status.COULD_NOT_TELL
        return Compared(story, test, status, seen.reason, expected=said, seen=seen)
    differences = [*_registers(test, said, seen), *_deaths(test, said, seen)]
    open_ = 0
    reason = ""
    for claim in test.claims:
        assert isinstance(claim.cond, Query)
        text = cond_text(claim.cond)
        truth, why = holds(claim.cond, test, seen)
        if truth is None:
            open_ += 1
            reason = why
        elif truth != said.queries[text] and _only_spares_a_fault(claim.cond, test, seen):
            open_ += 1
        elif truth != said.queries[text]:
            differences.append(f"{text}: {_yes(truth)} here, {_yes(said.queries[text])} in the model")
    counted = 0
    merges = any(s.op == "ksm_scan" for a in test.actors for s in a.body)
    for page in seen.pages:
        if (kind := _kind(page, merges)) is not None and (expected := said.pages.get(key_of(page))) is not None:
            counted += kind == expected.state == "anon"
            differences += _page(test, page, kind, said)
    asked = len(test.claims)
    status = Status.DISAGREE if differences else Status.AGREE
    if asked and open_ == asked and not differences:
        status = Status.COULD_NOT_TELL
    return Compared(story, test, status, reason, tuple(differences), asked, open_, counted, said, seen)


def _registers(test: Test, said: Expected, seen: Observation) -> Iterator[str]:
    """In the order of the test, so that what comes first is nearest to the cause.

    A run answers vfork() when the child is there, the model when the caller goes on; that it never does is none.
    """
    for step in ordered(test):
        target = step.statement.target
        if target is None:
            continue
        here, there = seen.registers.get(target), said.registers.get(target)
        if step.statement.op == "vfork" and here == "ok" and there is None:
            continue
        if here != there:
            text = f"{step.actor}: {statement_text(step.statement)}"
            yield f"{text}: {result_text(here)} here, {result_text(there)} in the model"


def result_text(value: int | str | None) -> str:
    return "never executed" if value is None else str(value)


def _deaths(test: Test, said: Expected, seen: Observation) -> Iterator[str]:
    for actor in test.actors:
        here, there = seen.deaths.get(actor.name, "alive"), said.deaths.get(actor.name, "alive")
        if actor.kind == "process" and here != there:
            yield f"process {actor.name}: {here} here, {there} in the model"


def _only_spares_a_fault(query: Query, test: Test, seen: Observation) -> bool:
    """Is this about the zero page, or the page cache mapped privately, and whether fork gave it to the child?

    The kernel asks for the VMA's anon_vma, which stays when its last anonymous page has gone, and is split with it; the
    model looks for an anonymous page in the mapping. What a child does not inherit then, its own fault finds again.
    Shared huge pages: copied by fork until v6.0 (bcd51a3c679d), and never in the model.
    """
    left_to_fault = {m.name for m in test.memory if m.kind in ("anon", "anon_zero", "file_private", "hugetlb")}
    places = [(a.process, a.place.name, a.place.index or 0) for a in query.args if a.process is not None]
    pages = [page for page in seen.pages if key_of(page) in places]
    present = [page for page in pages if page.state == "present"]
    return (
        query.op == "same_page"
        and bool(present)
        and all(page.mapping in left_to_fault and page.state in ("present", "empty") for page in pages)
        and all(page.flags is not None and not page.flags & KPF_ANON for page in present)
    )


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


# --- pages ------------------------------------------------------------------------------------------------------------


def key_of(page: Page) -> tuple[str, str, int]:
    """As the pages of ``Expected``."""
    return page.process, page.mapping, page.index


def name_of(test: Test, page: Page) -> str:
    """As the language writes it: ``p:x``, ``p:x[1]``."""
    several = next(m.pages for m in test.memory if m.name == page.mapping) > 1
    return f"{page.process}:{page.mapping}" + (f"[{page.index}]" if several else "")


def _kind(page: Page, merges: bool) -> Literal["anon", "swapped", "other"] | None:
    """As ``ModelPage.state``; None where the kernel does not tell, or has merged the page with others (KSM).

    ``merges``: may it have? Since v6.10 (dee3d0bef2b0) every anonymous page says so, until that was noticed in 2026.
    """
    if page.state == "unknown" or (page.state == "present" and page.flags is None):
        return None
    if page.state == "swapped":
        return "swapped"
    if page.state == "present" and page.flags is not None and page.flags & KPF_ANON:
        return None if merges and page.flags & KPF_KSM else "anon"
    return "other"


_CALLED: Final = {"anon": "an anonymous page", "swapped": "swapped out", "other": "no anonymous page"}


def _page(test: Test, page: Page, kind: str, said: Expected) -> Iterator[str]:
    """How often an anonymous page is mapped, and what else both know of it.

    Not the zero page and the page cache: others map them too, and fork leaves them to the child's own fault at times.
    """
    expected = said.pages[key_of(page)]
    name = name_of(test, page)
    if kind != expected.state:
        yield f"{name}: {_CALLED[kind]} here, {_CALLED[expected.state]} in the model"
    elif kind == "anon":
        assert page.flags is not None
        if page.mapcount != expected.mapcount:
            yield f"mapcount of {name}: {page.mapcount} here, {expected.mapcount} in the model"
        if page.flags & KPF_HUGE:
            return  # a huge page of the pool is never swapped
        lazyfree = not page.flags & KPF_SWAPBACKED
        if lazyfree != expected.lazyfree:
            yield f"{name} given up by MADV_FREE: {_yes(lazyfree)} here, {_yes(expected.lazyfree)} in the model"
        swapcache = bool(page.flags & KPF_SWAPCACHE)
        if swapcache != expected.swapcache:
            yield f"{name} in the swap cache: {_yes(swapcache)} here, {_yes(expected.swapcache)} in the model"

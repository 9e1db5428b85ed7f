"""The model against the kernel of this machine, on random tests.

Each test has one order. The model says how it ends, the kernel runs it, and every register with its value or its
error's name, every death and every question about pages is compared. What differs is made smaller and printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cowcatcher import state as st
from cowcatcher.explore.ordered import Prediction, predict
from cowcatcher.explore.program import NotModelled, compile_test
from cowcatcher.kernels import Kernel, UnknownKernel, kernel, kernel_of_release
from cowcatcher.litmus import check, cond_text, to_text
from cowcatcher.litmus.ast import Query, Test
from cowcatcher.litmus.order import NoOrder, ordered
from cowcatcher.litmus.printer import statement_text
from cowcatcher.real.build import BuildError
from cowcatcher.real.compare import holds
from cowcatcher.real.host import Observation, has_soft_dirty, has_swap, run_host
from tests.real.stories import Story, random_story, smaller

#: Tests handed to one agent.
BATCH = 200
#: Seconds for one test; what takes longer is no answer.
TIMEOUT = 10.0
#: Further runs of a test that disagrees, to tell a disagreement from a kernel that answers differently each time.
RERUNS = 4
#: Smaller tests tried before a disagreement is shown as it is then.
MOST_TRIED = 400


class Status(StrEnum):
    AGREE = "agree"
    DISAGREE = "disagree"
    NOT_APPLICABLE = "not applicable"
    COULD_NOT_TELL = "could not tell"
    FLAKY = "flaky"


@dataclass(frozen=True, slots=True)
class Compared:
    """One test on both sides. ``differences``: nearest to the cause first. ``open``: questions left without answer."""

    story: Story
    test: Test
    status: Status
    reason: str = ""
    differences: tuple[str, ...] = ()
    asked: int = 0
    open: int = 0
    seen: Observation | None = None


def compare_all(stories: Sequence[Story], on: Kernel, agent: Path | None = None) -> list[Compared]:
    """Every story once; those that disagree some more times."""
    compared = _once(stories, on, agent)
    return [_rerun(c, on, agent) if c.status is Status.DISAGREE else c for c in compared]


def _once(stories: Sequence[Story], on: Kernel, agent: Path | None) -> list[Compared]:
    tests = [story.test(f"random_{i}") for i, story in enumerate(stories)]
    predictions = [_predict(test, on) for test in tests]
    runnable = [test for test, said in zip(tests, predictions, strict=True) if isinstance(said, Prediction)]
    observations = iter(run_host(runnable, timeout=TIMEOUT, agent=agent))
    return [
        _judge(story, test, said, next(observations))
        if isinstance(said, Prediction)
        else Compared(story, test, Status.NOT_APPLICABLE, said)
        for story, test, said in zip(stories, tests, predictions, strict=True)
    ]


def _predict(test: Test, on: Kernel) -> Prediction | str:
    """What the model says, or why it says nothing."""
    try:
        return predict(test, on)
    except (NotModelled, NoOrder) as e:
        return str(e)


def _judge(story: Story, test: Test, said: Prediction, seen: Observation) -> Compared:
    if seen.status != "ok":
        status = Status.NOT_APPLICABLE if seen.status == "not applicable" else Status.COULD_NOT_TELL
        return Compared(story, test, status, seen.reason, seen=seen)
    differences = [*_registers(test, said, seen), *_deaths(test, said, seen)]
    asked = open_ = 0
    reason = ""
    for claim in test.claims:
        assert isinstance(claim.cond, Query)
        text = cond_text(claim.cond)
        truth, why = holds(claim.cond, test, seen)
        asked += 1
        if truth is None:
            open_ += 1
            reason = why
        elif truth != said.queries[text] and _only_spares_a_fault(claim.cond, test, seen):
            open_ += 1
        elif truth != said.queries[text]:
            differences.append(f"{text}: {_yes(truth)} here, {_yes(said.queries[text])} in the model")
    status = Status.DISAGREE if differences else Status.AGREE
    if asked and open_ == asked and not differences:
        status = Status.COULD_NOT_TELL
    return Compared(story, test, status, reason, tuple(differences), asked, open_, seen)


def _only_spares_a_fault(query: Query, test: Test, seen: Observation) -> bool:
    """Is this about the zero page, or the page cache mapped privately, and whether fork gave it to the child?

    The kernel asks for the VMA's anon_vma, which stays when its last anonymous page has gone, and is split with it; the
    model looks for an anonymous page in the mapping. What a child does not inherit then, its own fault finds again.
    """
    kpf_anon = 1 << 12
    private = {m.name for m in test.memory if m.kind in ("anon", "anon_zero", "file_private")}
    places = [(a.process, a.place.name, a.place.index or 0) for a in query.args if a.process is not None]
    pages = [page for page in seen.pages if (page.process, page.mapping, page.index) in places]
    present = [page for page in pages if page.state == "present"]
    return (
        query.op == "same_page"
        and bool(present)
        and all(page.mapping in private and page.state in ("present", "empty") for page in pages)
        and all(page.flags is not None and not page.flags & kpf_anon for page in present)
    )


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _registers(test: Test, said: Prediction, seen: Observation) -> Iterator[str]:
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
            yield f"{text}: {_result(here)} here, {_result(there)} in the model"


def _result(value: int | str | None) -> str:
    return "never executed" if value is None else str(value)


def _deaths(test: Test, said: Prediction, seen: Observation) -> Iterator[str]:
    predicted = deaths(test, said)
    for actor in test.actors:
        here, there = seen.deaths.get(actor.name, "alive"), predicted.get(actor.name, "alive")
        if actor.kind == "process" and here != there:
            yield f"process {actor.name}: {here} here, {there} in the model"


def deaths(test: Test, said: Prediction) -> dict[str, str]:
    """Who has ended in the model, and of what: "exit" or the signal's name, as a run on a kernel reports it."""
    program = compile_test(test)
    m = program.layout
    found: dict[str, str] = {}
    for step in said.steps:
        for i, process in enumerate(program.names.processes):
            if process not in found and step.state[m.procs + i * st.PROC_SIZE + st.P_STATE] == st.EXITING:
                at = step.state[m.tasks + step.task * st.TASK_SIZE + st.T_PC]
                ended_by = program.tasks[step.task].statements[at]
                found[process] = "exit" if getattr(ended_by, "op", "") == "exit" else "SIGSEGV"
    return found


def _rerun(compared: Compared, on: Kernel, agent: Path | None) -> Compared:
    """Does the kernel say the same each time? If not, neither answer is one."""
    again = _once([compared.story] * RERUNS, on, agent)
    other = next((c for c in again if c.differences != compared.differences), None)
    if other is None:
        return compared
    reason = f"once: {'; '.join(compared.differences)}; then: {'; '.join(other.differences) or other.status}"
    return Compared(compared.story, compared.test, Status.FLAKY, reason, seen=compared.seen)


def shrink(compared: Compared, on: Kernel, agent: Path | None = None) -> Compared:
    """The smallest story found that still disagrees every time; with only those questions that show it."""
    tried = 0
    found = True
    while found:
        found = False
        for story in smaller(compared.story):
            tried += 1
            if tried > MOST_TRIED:
                break
            if check(story.test("smaller")):
                continue
            smaller_one = compare_all([story], on, agent)[0]
            if smaller_one.status is Status.DISAGREE:
                compared, found = smaller_one, True
                break
    shown = {d.split(": ")[0] for d in compared.differences}
    claims = [c for c in compared.test.claims if cond_text(c.cond) in shown] or compared.test.claims[:1]
    test = compared.story.test("disagreement", claims)
    return Compared(compared.story, test, compared.status, "", compared.differences, seen=compared.seen)


def stories(seed: int, count: int, *, swap: bool, first: int = 0) -> Iterator[Story]:
    """The tests of a seed: number ``first``, and so on."""
    soft_dirty = has_soft_dirty()
    for number in range(first, first + count):
        yield random_story(f"{seed} {number}", swap=swap, soft_dirty=soft_dirty)


# --- from a shell -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if anything disagrees, 2 if nothing could be compared."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.agreement", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="tests (20000)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other tests (1)")
    parser.add_argument("--kernel", metavar="NAME", help="the modelled kernel (that of the running release)")
    parser.add_argument("--swap", action="store_true", help="with MADV_PAGEOUT; needs swap in use")
    parser.add_argument("--show", type=int, default=5, help="disagreements to make smaller and print (5)")
    options = parser.parse_args(arguments)
    if options.swap and not has_swap():
        parser.error("--swap: no swap is in use; fallocate -l 64M FILE; chmod 600 FILE; mkswap FILE; swapon FILE")
    release = os.uname().release
    try:
        on = kernel(options.kernel) if options.kernel else kernel_of_release(release)
    except UnknownKernel as e:
        parser.error(str(e))
    print(f"Linux {release} against the model of {on.name}, seed {options.seed}")
    try:
        counts, reasons, seconds = _run(options, on)
    except BuildError as e:
        parser.error(str(e))
    for status in Status:
        print(f"{counts[status]:8} {status}")
        for (of, reason), count in sorted(reasons.items(), key=lambda item: -item[1])[:12]:
            if of is status:
                print(f"{count:16} {reason}")
    total = sum(counts[status] for status in Status)
    print(
        f"{total} tests in {seconds:.0f} s, {total / max(seconds, 0.001):.0f} a second; "
        f"{counts['registers']} registers and {counts['asked']} questions about pages compared, "
        f"{counts['open']} more left open by the kernel"
    )
    if not counts[Status.AGREE] + counts[Status.DISAGREE]:
        return 2
    return 1 if counts[Status.DISAGREE] else 0


def _run(options: argparse.Namespace, on: Kernel) -> tuple[Counter[str], Counter[tuple[Status, str]], float]:
    counts: Counter[str] = Counter()
    reasons: Counter[tuple[Status, str]] = Counter()
    shown = 0
    started = time.monotonic()
    for first in range(0, options.count, BATCH):
        size = min(BATCH, options.count - first)
        for number, compared in enumerate(
            compare_all(list(stories(options.seed, size, swap=options.swap, first=first)), on), start=first
        ):
            counts[compared.status] += 1
            if compared.status is Status.NOT_APPLICABLE:
                reasons[compared.status, compared.reason.split(": ")[-1]] += 1
            elif compared.status in (Status.COULD_NOT_TELL, Status.FLAKY):
                reasons[compared.status, f"test {number}: {compared.reason}"] += 1
            elif compared.seen is not None:
                counts["registers"] += len(compared.seen.registers)
                counts["asked"] += compared.asked - compared.open
                counts["open"] += compared.open
            if compared.status is Status.DISAGREE and shown < options.show:
                shown += 1
                _clear_progress()
                print(_show(number, shrink(compared, on)), flush=True)
        done = first + size
        rate = done / (time.monotonic() - started)
        _progress(f"{done} of {options.count}, {counts[Status.DISAGREE]} disagree, {rate:.0f} a second")
    _clear_progress()
    return counts, reasons, time.monotonic() - started


def _show(number: int, compared: Compared) -> str:
    assert compared.seen is not None
    log = "".join(
        f"    {done.actor}: {done.statement}: {done.outcome if done.result is None else done.result}\n"
        for done in compared.seen.log
        if not done.statement.startswith(("post(", "await("))
    )
    said = "".join(f"    {d}\n" for d in compared.differences)
    text = to_text(compared.test)
    return f"--- test {number} disagrees; made smaller:\n{text}\n  the kernel:\n{log}  different:\n{said}"


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

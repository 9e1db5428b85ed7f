"""Disagreements written down, each a ``.cow`` test with its diagnosis, until somebody has found out who is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cowcatcher.agree.campaign import Campaign, Found
from cowcatcher.agree.expect import Expected
from cowcatcher.agree.judge import key_of, name_of, result_text
from cowcatcher.agree.under_test import KernelUnderTest
from cowcatcher.litmus import to_text
from cowcatcher.litmus.order import ordered
from cowcatcher.litmus.printer import statement_text


def keep(campaign: Campaign, directory: Path) -> list[Path]:
    """One file for each test that disagrees; those that shrank to the same one share it, those not shrunk have none."""
    kept: dict[str, tuple[Found, list[int]]] = {}
    for found in campaign.found:
        if found.shrunk:
            kept.setdefault(to_text(found.compared.test), (found, []))[1].append(found.number)
    paths = []
    for found, numbers in kept.values():
        directory.mkdir(parents=True, exist_ok=True)
        name = name_of_file(campaign, found.number)
        path = directory / f"{name}.cow"
        path.write_text(text_of(campaign, found, name, numbers))
        paths.append(path)
    return paths


def name_of_file(campaign: Campaign, number: int) -> str:
    """The test's name too, so of letters, digits and underscores."""
    release = re.sub(r"\W+", "_", campaign.on.release)
    return f"linux_{release}_seed_{campaign.seed}_test_{number}"


def text_of(campaign: Campaign, found: Found, name: str, numbers: list[int]) -> str:
    """The test below a diagnosis: which kernels, what differs, how to draw it again, what both sides said."""
    head = "\n".join(f"# {line}".rstrip() for line in _diagnosis(campaign, found, numbers))
    return f"{head}\n{to_text(replace(found.compared.test, name=name))}"


def _diagnosis(campaign: Campaign, found: Found, numbers: list[int]) -> Iterator[str]:
    on, compared = campaign.on, found.compared
    yield f"Linux {on.release} ({on.name}) and its model, {on.model.name}, disagree."
    yield ""
    yield "Different, each time it was run:"
    yield from (f"    {difference}" for difference in compared.differences)
    yield ""
    several = f", and of tests {', '.join(map(str, numbers[1:]))}" if len(numbers) > 1 else ""
    yield f"What is left of test {found.number} of seed {campaign.seed}{several}:"
    yield f"    {command(on, campaign.seed, first=found.number, count=1)}"
    yield ""
    yield from _both_logs(found)
    yield ""


def command(on: KernelUnderTest, seed: int, *, first: int, count: int) -> str:
    """What draws these tests again, on this kernel."""
    words = ["cowcatcher agree"]
    if on.name != "host":
        words.append(f"--on {on.name}")
    elif on.facilities.swap:
        words.append("--swap")
    if on.facilities.prefer:
        words.append(f"--device {','.join(on.facilities.prefer)}")
    if on.model_named:
        words.append(f"--kernel {on.model.name}")
    return " ".join([*words, f"--seed {seed} --first {first} --count {count}"])


def _both_logs(found: Found) -> Iterator[str]:
    """Statement by statement what came of it here, and the register of the model; then how all ended, and the pages."""
    test, seen, said = found.compared.test, found.compared.seen, found.compared.expected
    assert seen is not None
    assert said is not None
    rows = [("step", "here", "in the model")]
    for step, done in zip(ordered(test), seen.log, strict=False):
        if step.statement.op not in ("post", "await"):
            here = str(done.result) if done.result is not None else done.outcome.replace("_", " ")
            target = step.statement.target
            there = "" if target is None else result_text(said.registers.get(target))
            rows.append((f"{step.actor}: {statement_text(step.statement)}", here, there))
    for process in (actor.name for actor in test.actors if actor.kind == "process"):
        rows.append((f"end of {process}", seen.deaths.get(process, "alive"), said.deaths.get(process, "alive")))
    for page in seen.pages:
        here = page.state
        if page.pfn is not None:
            here += f", frame {page.pfn:x}, mapped {page.mapcount}, flags {page.flags:x}"
        rows.append((name_of(test, page), here, _model_page(said, key_of(page))))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for row in rows:
        yield f"    {row[0].ljust(widths[0])}  {row[1].ljust(widths[1])}  {row[2]}"


def _model_page(said: Expected, key: tuple[str, str, int]) -> str:
    page = said.pages.get(key)
    if page is None:
        return "its process has ended"
    if page.state != "anon":
        return {"swapped": "swapped", "other": "no anonymous page"}[page.state]
    more = [word for word, is_so in (("in the swap cache", page.swapcache), ("lazyfree", page.lazyfree)) if is_so]
    return ", ".join([f"anonymous, mapped {page.mapcount}", *more])

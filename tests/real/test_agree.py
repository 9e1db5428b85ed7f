"""Model and kernel agree on random tests with one order; where they do not, it is found, made smaller and kept."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cowcatcher.agree import under_test
from cowcatcher.agree.campaign import Campaign, compare, prepare, run_all, shrink
from cowcatcher.agree.draw import random_story
from cowcatcher.agree.expect import Expected, expect
from cowcatcher.agree.judge import Status, judge
from cowcatcher.agree.keep import keep
from cowcatcher.agree.shrink import smaller
from cowcatcher.agree.under_test import Host, host
from cowcatcher.cli import main
from cowcatcher.kernels import UnknownKernel, kernel, kernel_of_release
from cowcatcher.litmus import check, parse, parse_file, to_text
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.order import ordered
from cowcatcher.litmus.statements import SIGNATURES
from cowcatcher.real.backends import BACKENDS, DIRECT_IO
from cowcatcher.real.host import AgentError, Observation
from cowcatcher.real.host import Status as ObservedStatus
from cowcatcher.real.images import KernelImage
from cowcatcher.real.lower import Facilities
from cowcatcher.real.probe import Capability
from cowcatcher.real.qemu import VmError
from cowcatcher.real.vm import Report
from cowcatcher.report.agree_record import agree_document, exit_status
from cowcatcher.report.agree_text import agree_text
from cowcatcher.report.style import PLAIN

COUNT = 300
#: A machine that has everything there is a backend for.
ALL = Facilities(swap=True, soft_dirty=True, backends=dict.fromkeys(BACKENDS, ""))


@pytest.fixture
def here(agent: Path) -> Host:
    release = os.uname().release
    try:
        return host(kernel_of_release(release), agent=agent)
    except UnknownKernel as e:
        pytest.skip(f"no modelled kernel stands for {release}: {e}")


@pytest.fixture
def wrong(agent: Path) -> Host:
    """Held against v5.9-rc4, which never was a release: whatever runs here, its pins stay with their process."""
    return host(kernel("v5.9-rc4"), named=True, agent=agent)


def of(on: Host, count: int, first: int = 0, seed: int = 1) -> Campaign:
    campaign = Campaign(on, seed, first, count)
    run_all([campaign], threading.Event(), 1)
    return campaign


# --- on this kernel ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("need_rings")
def test_kernel_and_model_agree(here: Host, capabilities: dict[str, Capability]) -> None:
    campaign = of(here, COUNT)
    wrong = [f"test {f.number}:\n{to_text(f.compared.test)}{f.compared.differences}" for f in campaign.found]
    assert not wrong, "\n\n".join(wrong[:3])
    assert campaign.done == COUNT
    if capabilities["frame numbers"].ok:
        assert campaign.statuses[Status.AGREE] > 0.8 * COUNT
        assert campaign.counted > COUNT
        assert agree_document([campaign], [[]])["exit"] == 0


@pytest.mark.usefixtures("need_rings", "need_frames")
def test_a_wrong_model_is_found_out_in_few_lines(wrong: Host, tmp_path: Path) -> None:
    campaign = of(wrong, 60)
    assert campaign.found
    shrunk = [f.compared for f in campaign.found if f.shrunk]
    assert min(len(c.story.told()) for c in shrunk) <= 6
    for compared in shrunk:
        assert compared.status is Status.DISAGREE
        assert check(compared.test) == []
    kept = keep(campaign, tmp_path / "new")
    assert len({to_text(replace(parse_file(path), name="t")) for path in kept}) == len(kept)
    for path in kept:
        test = parse_file(path)
        assert test.name == path.stem
        text = path.read_text()
        assert text.startswith("# Linux ")
        assert f"--kernel v5.9-rc4 --seed {campaign.seed} --first " in text
        said = expect(test, wrong.model)
        assert isinstance(said, Expected)
        story = shrunk[0].story  # any: the text's own is not kept
        assert judge(story, test, said, wrong.run([test])[0]).differences
    doc = agree_document([campaign], [kept])
    assert doc["exit"] == 1
    for path in kept:
        assert str(path) in agree_text(doc, PLAIN)


@pytest.mark.usefixtures("need_rings", "need_frames")
def test_shrinking_keeps_the_disagreement(wrong: Host) -> None:
    found = next(
        c
        for c in compare(prepare(1, 0, 60, wrong.facilities, wrong.model.name), wrong)
        if c.status is Status.DISAGREE and len(c.story.told()) > 8
    )
    small = shrink(found, wrong)
    assert small.status is Status.DISAGREE
    assert len(small.story.told()) < len(found.story.told())


@pytest.mark.usefixtures("need_rings")
def test_going_on_is_the_same_as_going_through(here: Host) -> None:
    whole, first, rest = of(here, 40), of(here, 15), of(here, 25, first=15)
    for figure in ("registers", "asked", "open", "counted"):
        assert getattr(whole, figure) == getattr(first, figure) + getattr(rest, figure), figure
    assert whole.statuses == first.statuses + rest.statuses


def test_stopped_it_says_how_to_go_on(here: Host) -> None:
    stop = threading.Event()
    here.batch = 10
    campaign = Campaign(here, 3, 5, 1000)
    run_all([campaign], stop, 1, progress=stop.set)
    assert campaign.done == 10
    doc = agree_document([campaign], [[]], interrupted=True)
    assert doc["exit"] == 130
    assert "  cowcatcher agree --seed 3 --first 15 --count 990\n" in agree_text(doc, PLAIN)


class _Answers(Host):
    """This kernel, with its answers changed on their way."""

    def run(self, tests: Sequence[Test]) -> list[Observation]:
        return [self.changed(seen) for seen in super().run(tests)]

    def changed(self, seen: Observation) -> Observation:
        raise NotImplementedError


class _OneMapping(_Answers):
    def changed(self, seen: Observation) -> Observation:
        return replace(seen, pages=tuple(replace(p, mapcount=p.mapcount and 1) for p in seen.pages))


class _NoAnswer(_Answers):
    def changed(self, seen: Observation) -> Observation:
        return replace(seen, status="crash", reason="it is said to have crashed")


class _Moody(_Answers):
    def changed(self, seen: Observation) -> Observation:
        self.lost += 1
        return replace(seen, registers=dict.fromkeys(seen.registers, self.lost))


def as_if(kind: type[_Answers], on: Host) -> Host:
    return kind(on.release, on.model, on.model_named, on.facilities, on.agent)


@pytest.mark.usefixtures("need_rings", "need_frames")
def test_a_wrong_mapcount_is_noticed(here: Host) -> None:
    campaign = of(as_if(_OneMapping, here), 30)
    said = [d for f in campaign.found for d in f.compared.differences]
    assert any(d.startswith("mapcount of ") and d.endswith(": 1 here, 2 in the model") for d in said)
    assert all(d.startswith("mapcount of ") for d in said)


def test_no_answer_is_no_agreement(here: Host) -> None:
    campaign = of(as_if(_NoAnswer, here), 10)
    assert campaign.statuses[Status.COULD_NOT_TELL] == 10 - campaign.statuses[Status.NOT_APPLICABLE]
    assert campaign.unsure
    assert agree_document([campaign], [[]])["exit"] == 3


def test_another_answer_each_time_is_flaky(here: Host) -> None:
    campaign = of(as_if(_Moody, here), 10)
    assert not campaign.found
    assert campaign.statuses[Status.FLAKY] > 0


@pytest.mark.parametrize(
    ("agree", "flaky", "untold", "disagree", "lost", "status"),
    [
        (100, 0, 0, 0, 0, 0), (100, 1, 0, 0, 0, 0), (100, 2, 0, 0, 0, 3), (100, 0, 1, 0, 0, 3), (100, 0, 0, 0, 1, 3),
        (0, 0, 0, 0, 0, 3), (100, 5, 5, 1, 1, 1),
    ],
)  # fmt: skip
def test_one_agreement_is_not_enough(
    agree: int, flaky: int, untold: int, disagree: int, lost: int, status: int
) -> None:
    on = Host("6.1.0", kernel("v6.1"), False, Facilities(), lost=lost)
    counts = {Status.AGREE: agree, Status.FLAKY: flaky, Status.COULD_NOT_TELL: untold, Status.DISAGREE: disagree}
    good = Campaign(replace(on, lost=0), 1, 0, 9, 9, statuses=Counter({Status.AGREE: 9}))
    number = sum(counts.values())
    assert exit_status([good, Campaign(on, 1, 0, number, number, statuses=Counter(counts))]) == status
    if status == 0:
        assert exit_status([good, Campaign(on, 1, 0, number + 1, number, statuses=Counter(counts))]) == 3


def virtual_that_says(status: ObservedStatus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> under_test.Virtual:
    """A kernel in whose machine the first try of a direct read through FUSE comes to this."""
    image = KernelImage("mine", "6.1.0", "own", tmp_path / "vmlinux", None, None, {})

    def run_image(tests: Sequence[Test], image: KernelImage, **_: object) -> Report:
        seen = [Observation(test.name, "ok") for test in tests]
        (at,) = (i for i, t in enumerate(tests) if t.actors[0].body[0].op == "dio_read" and "FUSE" in to_text(t))
        seen[at] = replace(seen[at], status=status, reason="no luck")
        return Report(seen, "6.1.0", 1.0, 2.0, tmp_path / "log", facilities=Facilities())

    monkeypatch.setattr(under_test, "run_image", run_image)
    return under_test.virtual(image, kernel("v6.1"), threading.Event())


def test_a_backend_is_lacking_only_if_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = virtual_that_says("not applicable", monkeypatch, tmp_path)
    assert found.facilities.backends["fuse"] == "no luck"
    assert not found.facilities.backends["nfs"]
    for status in ("crash", "timeout", "could not tell"):
        with pytest.raises(VmError, match="mine: try_dio_read: no luck"):
            virtual_that_says(status, monkeypatch, tmp_path)  # type: ignore[arg-type]


# --- the stories ------------------------------------------------------------------------------------------------------


def test_nothing_is_wrong_with_the_tests() -> None:
    for seed in range(COUNT):
        test = random_story(seed, ALL).test("t")
        assert check(test) == [], to_text(test)
        assert parse(to_text(test)) == test


def test_they_are_executed_in_the_order_in_which_they_are_told() -> None:
    for seed in range(COUNT):
        story = random_story(seed, ALL)
        steps = [(o.actor, o.statement) for o in ordered(story.test("t")) if o.statement.op not in ("post", "await")]
        assert steps == [tuple(step) for step in story.told()]


def test_what_is_made_smaller_is_a_test_too() -> None:
    for seed in range(30):
        story = random_story(seed, ALL)
        for candidate in smaller(story):
            assert len(candidate.told()) <= len(story.told())
            if not check(candidate.test("t")):
                ordered(candidate.test("t"))


def test_the_same_for_the_same_seed() -> None:
    assert random_story("1 7", ALL) == random_story("1 7", ALL)
    assert random_story("1 7", ALL) != random_story("2 7", ALL)


def test_every_statement_that_the_agent_has_comes_up() -> None:
    seen = {step.statement.op for seed in range(1500) for step in random_story(seed, ALL).told()}
    held_in_flight = any(backend.kind in DIRECT_IO.values() for backend in BACKENDS.values())
    without_backend = set[str]() if held_in_flight else {"dio_read", "dio_write"}
    in_machines_alone = {"ksm_scan", "migrate"}
    assert seen == set(SIGNATURES) - in_machines_alone - without_backend - {"post", "await"}


def test_who_dies_of_what() -> None:
    test = parse(
        """
        test t
        memory { x = anon(1, prot=R) }
        process p { fork(c); fork(d); wait(d) }
        process c { store(x, 2) }
        process d { exit() }
        always mapped(p:x)
        """
    )
    said = expect(test, kernel("v6.15"))
    assert isinstance(said, Expected)
    assert said.deaths == {"c": "SIGSEGV", "d": "exit"}
    assert {key: page.mapcount for key, page in said.pages.items()} == {("p", "x", 0): 1}


def test_what_a_read_in_flight_has_dirtied_is_not_compared() -> None:
    """Each dma_write is a request of its own on a real kernel, and dirties its page as it ends."""
    text = """
        test t
        memory { x = anon(1) }
        process p { m = dio_read(x, FUSE); post(go); await(done); %s fork(q); madvise(x, FREE) }
        process q { }
        device d { await(go); dma_write(m, 2); post(done) }
        always mapped(p:x)
        """
    assert "direct read" in str(expect(parse(text % ""), kernel("v5.10.y")))
    assert isinstance(expect(parse(text % "unpin(m);"), kernel("v5.10.y")), Expected)


@pytest.mark.parametrize(("system", "lazyfree"), [("BLOCK", False), ("FUSE", True)])
def test_a_direct_read_of_a_block_device_dirties_its_pages_at_once(system: str, lazyfree: bool) -> None:
    """So MADV_FREE of a page that fork has shared finds it dirty, and leaves it. Seen on 5.10.223 and 6.1.176."""
    test = parse(
        f"test t\nmemory {{ x = anon(3) }}\nprocess p {{ m = dio_read(x, {system}); fork(q); madvise(x, FREE) }}\n"
        "process q { }\nalways mapped(p:x)"
    )
    said = expect(test, kernel("v6.1.y"))
    assert isinstance(said, Expected)
    assert said.pages["q", "x", 0].lazyfree == lazyfree


@pytest.mark.parametrize(
    ("name", "cached"), [("v5.10.y", 0), ("v6.1.y", 0), ("v6.15", 0), ("v7.0", 1), ("v7.2", 1), ("v7.3", 0)]
)
def test_who_keeps_a_written_page_in_the_swap_cache(name: str, cached: bool) -> None:
    """Seen on 5.10.223 to 7.3.4; 4b34f1d82c65 (v7.0) and 3cedb745d354 (v7.3)."""
    test = parse("test t\nmemory { x = anon(1) }\nprocess p { madvise(x, PAGEOUT); store(x, 2) }\nalways mapped(p:x)")
    said = expect(test, kernel(name))
    assert isinstance(said, Expected)
    assert said.pages["p", "x", 0].swapcache == cached


@pytest.mark.parametrize(("name", "cached"), [("v6.15", 0), ("v7.0", 0), ("v7.3", 0)])
def test_a_write_that_is_to_be_noticed_sheds_the_swap_cache(name: str, cached: bool) -> None:
    """Since v6.11 swap-in leaves it to the write fault to set the soft-dirty bit. Seen on 7.0.13 and 7.2.12."""
    body = "clear_refs(); madvise(x, PAGEOUT); store(x, 2)"
    test = parse(f"test t\nmemory {{ x = anon(1) }}\nprocess p {{ {body} }}\nalways mapped(p:x)")
    said = expect(test, kernel(name))
    assert isinstance(said, Expected)
    assert said.pages["p", "x", 0].swapcache == cached


def test_a_page_that_somebody_else_has_locked_sheds_the_swap_cache() -> None:
    """PG_mlocked, asked at swap-in beside VM_LOCKED. Seen on all eight kernels, 5.10.223 to 7.3.4."""
    body = "madvise(x, PAGEOUT); mprotect(x, R); fork(q); mlock(x); post(e)"
    actors = f"process p {{ {body} }}\nprocess q {{ await(e); r = load(x) }}"
    test = parse(f"test t\nmemory {{ x = anon(3) }}\n{actors}\nalways mapped(p:x)")
    for name in ("v5.10.y", "v6.12", "v7.3"):
        said = expect(test, kernel(name))
        assert isinstance(said, Expected)
        assert not said.pages["q", "x", 0].swapcache


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("need_rings", "here")
def test_from_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agree", "--count", "20", "--seed", "3", "--keep", str(tmp_path), "--json"]) == 0
    (on,) = json.loads(capsys.readouterr().out)["kernels"]
    assert on["tests"] == 20 == on["agree"] + on["not_applicable"]
    assert on["go_on"] is None
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("need_rings", "need_frames", "agent")
def test_from_a_shell_against_a_wrong_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["agree", "--count", "40", "--kernel", "v5.9-rc4", "--keep", str(tmp_path / "new")]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert f"kept in {tmp_path / 'new'}" in said
    assert " disagrees; made smaller:" in said


@pytest.mark.usefixtures("need_rings", "need_frames", "agent")
def test_what_was_found_before_a_problem_is_not_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent fails in the second batch; the first disagrees."""
    run, shrink_all, first_done = Host.run, Campaign._shrink, threading.Event()

    def run_until_then(self: Host, tests: Sequence[Test]) -> list[Observation]:
        if first_done.is_set():
            raise AgentError("no luck any more")
        return run(self, tests)

    def shrink_and_end(self: Campaign) -> None:
        shrink_all(self)
        first_done.set()

    monkeypatch.setattr(Host, "run", run_until_then)
    monkeypatch.setattr(Campaign, "_shrink", shrink_and_end)
    monkeypatch.setattr(under_test, "host", lambda *words, **more: replace(host(*words, **more), batch=40))
    words = ["agree", "--count", "80", "--kernel", "v5.9-rc4", "--keep", str(tmp_path / "new")]
    assert main(words) == 1
    said = capsys.readouterr()
    assert f"kept in {tmp_path / 'new'}" in said.out
    assert "--first 40 --count 40" in said.out
    assert "no luck any more" in said.err


@pytest.mark.parametrize("words", ["--kernel v99", "--device crystal", "--on 1.0", "--count 0", "--first -1"])
def test_mistakes_on_the_command_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agree", *words.split()]) == 2
    assert capsys.readouterr().err.startswith("cowcatcher: ")

"""``run --stress``: what outcomes mean for a test, from made-up observations; and the whole command once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cowcatcher.cli import main
from cowcatcher.kernels import kernel
from cowcatcher.litmus import parse
from cowcatcher.litmus.ast import Test
from cowcatcher.real.build import BuildError, agent_path
from cowcatcher.real.host import OK, Observation, Page, Seen, facilities, run_host
from cowcatcher.real.lower import Race
from cowcatcher.real.recording import Header, OnKernel, Options, Recorder, Recording, read
from cowcatcher.report.prediction import Predicted, prediction_for
from cowcatcher.report.record import Record, kernel_record
from cowcatcher.report.run_record import run_document
from cowcatcher.report.stress_record import stress_record
from cowcatcher.report.stress_text import stress_ktap, stress_text
from cowcatcher.report.style import PLAIN

RACE = """
test race
memory { x = anon(1) }
process p { store(x, 2) }
thread t of p { r = load(x) }
always r == 2
sometimes r == 1
"""
STUCK = """
test stuck
memory { x = anon(1) }
process p { post(e); await(e) }
thread t of p { await(e) }
"""


def ended(r: int | None, **more: Any) -> Observation:
    return Observation("race", "ok", registers={} if r is None else {"r": r}, **more)


def raced(*counts: tuple[int, Observation], **more: Any) -> Observation:
    outcomes = tuple(Seen(count, number, seen) for number, (count, seen) in enumerate(counts))
    made = sum(count for count, _ in counts)
    return Observation("race", **{"status": "ok", "outcomes": outcomes, "made": made, **more})


def record(seen: Observation, text: str = RACE, name: str = "v6.12") -> Record:
    test = parse(text)
    return stress_record(test, seen, prediction_for(test, kernel(name), [seen]))


def test_counts_and_claims() -> None:
    found = record(raced((7, ended(2)), (3, ended(1))))
    assert (found["standing"], found["verdict"], found["modelled"], found["unseen"]) == ("pass", "violated", 2, [])
    assert [(o["count"], o["allowed"], o["violates"]) for o in found["outcomes"]] == [
        (7, True, []),
        (3, True, ["always r == 2"]),
    ]
    assert [(c["verdict"], c["holds"], c["violated"]) for c in found["claims"]] == [("violated", 7, 3), ("holds", 3, 0)]


def test_what_was_not_seen_is_told() -> None:
    found = record(raced((10, ended(2))))
    assert [o["registers"] for o in found["unseen"]] == [{"r": 1}]
    assert found["claims"][1]["verdict"] == "could not tell"
    assert found["standing"] == "pass"


@pytest.mark.parametrize(
    ("seen", "standing"),
    [
        (raced((9, ended(2)), (1, ended(3))), "fail"),  # no execution of the model reads 3
        (raced((9, ended(2)), (1, ended(None))), "fail"),
        (raced((9, ended(2)), (1, ended(2, blocked=("p",)))), "fail"),  # nobody can be stuck
        (raced((9, ended(2)), uncounted=1), "unknown"),
        (raced((9, ended(2)), (1, replace(ended(2), status="could not tell", reason="why"))), "unknown"),
        (raced((9, ended(2)), status="timeout", reason="too long"), "unknown"),
        (raced((9, ended(3)), status="timeout", reason="too long"), "fail"),
        (raced(status="crash", reason="gone"), "unknown"),
        (raced(status="not applicable", reason="no ring"), "skip"),
    ],
)
def test_standing(seen: Observation, standing: str) -> None:
    assert record(seen)["standing"] == standing


def test_who_is_stuck_is_part_of_an_outcome() -> None:
    seen = [Observation("stuck", "ok", blocked=(who,)) for who in ("p", "t")]
    both = record(raced((1, seen[0]), (1, seen[1])), STUCK)
    assert (both["standing"], both["unseen"]) == ("pass", [])
    assert record(raced((1, replace(seen[0], blocked=()))), STUCK)["standing"] == "fail"


def test_pages_are_part_of_an_outcome() -> None:
    text = """
    test pages
    memory { x = anon(1) }
    process p { fork(c) }
    process c { store(x, 2) }
    never same_page(p:x, c:x)
    """

    def frames(p: int | None, c: int | None) -> Observation:
        return Observation("t", "ok", pages=tuple(Page(who, "x", 0, "present", f) for who, f in (("p", p), ("c", c))))

    assert record(raced((1, frames(1, 2))), text)["standing"] == "pass"
    assert record(raced((1, frames(1, 1))), text)["standing"] == "fail"
    unknown = record(raced((1, frames(None, None))), text)  # an ordinary user is not told
    assert (unknown["standing"], unknown["verdict"]) == ("pass", "could not tell")


def test_without_a_model_the_claims_decide() -> None:
    test = parse(RACE)
    told = [stress_record(test, raced((1, ended(r))), Predicted(why_not="no such thing")) for r in (2, 1)]
    assert [t["standing"] for t in told] == ["unknown", "fail"]  # of the first, the 'sometimes' is open
    assert told[0]["not_predicted"] == "no such thing"


def document(observations: Sequence[Observation], test: Test) -> Record:
    on = OnKernel("host", "6.12.0-test", {}, kernel_record(kernel("v6.12")) | {"summary": ""})
    recording = Recording(None, Header((test,) * len(observations), (on,), Options(stress=10, seed=4)))
    recording.seen = {("host", number, 0): seen for number, seen in enumerate(observations)}
    predicted = {
        ("v6.12", number): prediction_for(test, kernel("v6.12"), observations) for number in range(len(observations))
    }
    doc: Record = json.loads(json.dumps(run_document(recording, predicted)))
    return doc


def test_the_histogram() -> None:
    doc = document([raced((7, ended(2)), (3, ended(3))), raced(status="not applicable", reason="why")], parse(RACE))
    assert doc["exit"] == 1
    text = stress_text(doc, PLAIN)
    assert "7/10  >  r=2;\n" in text
    assert "3/10     r=3;  not allowed by the model; violates always r == 2\n" in text
    assert "   0  *  r=1;  allowed, not seen\n" in text
    assert "not applicable: race: why" in text
    assert "1 of 2 allowed outcomes seen in 10 runs" in text
    ktap = stress_ktap(doc)
    assert "# 3/10 r=3;; not allowed by the model; always r == 2\nnot ok 1 race\nok 2 race # SKIP why\n" in ktap


def test_a_race_is_recorded(tmp_path: Path) -> None:
    test = parse(RACE)
    on = OnKernel("host", "6.12.0-test", {}, kernel_record(kernel("v6.12")) | {"summary": ""})
    seen = raced((7, ended(2, pages=(Page("p", "x", 0, "present", 1),), pinned={("m", 0): 1})), (3, ended(1)))
    with Recorder.start(tmp_path / "r.jsonl", Header((test,), (on,), Options(stress=10))) as recorder:
        recorder.observed("host", 0, replace(seen, registers={"mr": OK}))
    again = read(tmp_path / "r.jsonl")
    assert again.seen["host", 0, 0] == replace(seen, registers={"mr": OK})
    assert again.header.options.stress == 10


@pytest.fixture
def need_agent() -> None:
    try:
        agent_path()
    except BuildError as e:
        pytest.skip(str(e))


@pytest.mark.usefixtures("need_agent")
def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    test = tmp_path / "race.cow"
    test.write_text(RACE.strip().replace("sometimes r == 1\n", ""))
    assert main(["run", str(test), "--stress", "30", "--seed", "2", "--json", "--record", str(file)]) == 0
    doc = json.loads(capsys.readouterr().out)
    assert doc["stress"] == {"runs": 30, "seed": 2}
    assert sum(o["count"] for o in doc["tests"][0]["results"][0]["outcomes"]) == 30
    assert main(["report", str(file)]) == 0
    assert "/30" in capsys.readouterr().out


@pytest.mark.usefixtures("need_agent")
def test_the_wrong_kernels_model_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel that is not v5.9-rc4 does what that one's model does not allow: it keeps pinned pages where they are."""
    if lacking := facilities().backends["uring"]:
        pytest.skip(lacking)
    command = ["run", "rdma_fork_wait", "--stress", "30"]
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--kernel", "v5.9-rc4"]) == 1
    assert "30/30" in (text := capsys.readouterr().out)
    assert "not allowed by the model" in text


@pytest.mark.usefixtures("need_agent")
def test_every_outcome_of_some_races_is_allowed() -> None:
    """The whole catalogue takes longer; docs/stress.md has its figures."""
    import os

    from cowcatcher.kernels import kernel_of_release
    from cowcatcher.litmus.catalogue import find
    from cowcatcher.litmus.parser import parse_file

    tests = [parse_file(find(name)) for name in ("torn_snapshot", "owner_exits", "poke_races_fork", "two_threads_fork")]
    here = kernel_of_release(os.uname().release)
    for test, seen in zip(tests, run_host(tests, race=Race(100)), strict=True):
        if seen.status != "not applicable":
            assert stress_record(test, seen, prediction_for(test, here, [seen]))["standing"] == "pass"

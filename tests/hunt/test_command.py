"""The command: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cowcatcher.litmus import parse_file
from tests.cli.conftest import Command, cowcatcher

__all__ = ["cowcatcher"]


def test_the_seed_s_bug(cowcatcher: Command, tmp_path: Path) -> None:
    said = cowcatcher("hunt", "--kernel", "v5.9-rc4", "--alphabet", "pins", "--depth", "3", "--output", str(tmp_path))
    assert said.status == 1
    assert "coherent is violated by 1 minimal program. Cured by any of `fork_copies_pinned`" in said.out
    assert "pin_fork_store  p: m = pin(x, WRITE|LONGTERM); fork(q); store(x, 2)" in said.out
    written = tmp_path / "pin_fork_store.cow"
    assert "# A shortest way, 3 steps:" in written.read_text()
    assert parse_file(written).name == "pin_fork_store"
    assert cowcatcher("check", str(written), "--kernel", "v5.9-rc4").status == 0


def test_nothing_found_is_0_and_says_what_was_searched(cowcatcher: Command) -> None:
    said = cowcatcher("hunt", "--kernel", "v5.9,v6.12", "--alphabet", "pins", "--depth", "4")
    assert said.status == 0
    assert said.out.count("No violation in what was searched.") == 2
    assert "every program of at most 4 statements, in every interleaving" in said.out


def test_json(cowcatcher: Command) -> None:
    said = cowcatcher(
        "hunt", "--kernel", "v5.9", "--against", "previous", "--alphabet", "pins", "--depth", "3", "--json"
    )
    doc = json.loads(said.out)
    assert (said.status, doc["exit"]) == (1, 1)
    (hunt,) = doc["hunts"]
    assert hunt["against"]["name"] == "v5.9-rc4"
    assert hunt["complete"] == 3
    assert {d["name"] for d in hunt["differences"]} >= {"pin_fork", "pin_fork_store"}


def test_a_search_that_found_no_room_is_3(cowcatcher: Command) -> None:
    said = cowcatcher(
        "hunt", "--kernel", "v6.12", "--alphabet", "pins,swap,advice,mapping", "--depth", "7", "--max-memory", "64M"
    )
    assert said.status == 3
    assert "Not finished" in said.out


def test_a_saved_search_is_that_of_its_kernel_and_letters(cowcatcher: Command, tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    words = ("--alphabet", "pins,swap,advice,mapping", "--depth", "7")
    assert cowcatcher("hunt", "--kernel", "v6.12", *words, "--max-memory", "64M", "--save", saved).status == 3
    for other in (("--kernel", "v6.9", *words), ("--kernel", "v6.12", *words[:1], "pins,swap", *words[2:])):
        said = cowcatcher("hunt", *other, "--resume", saved)
        assert said.status == 2
        assert "something else" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--alphabet", "stor"), "did you mean 'store'"),
        (("--processes", "9"), "at most 3 processes"),
        (("--pages", "9"), "at most 8 pages"),
        (("--alphabet", "all", "--pages", "8"), "the compiled model has room for"),
        (("--alphabet", "store,dma_read"), "nothing takes a pin"),
        (("--resume", "nowhere"), "nowhere: No such file"),
        (("--save", "no/where"), "there is no such folder"),
        (("--against", "previous"), "no kernel before it"),
        (("--memory", "hugetlb_private", "--alphabet", "mlock"), "not modelled for hugetlb memory"),
    ],
)
def test_mistakes(words: tuple[str, ...], said: str, cowcatcher: Command) -> None:
    ended = cowcatcher("hunt", "--kernel", "v5.7", *words)
    assert ended.status == 2
    assert said in ended.err

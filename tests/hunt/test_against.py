"""Programs that two kernels execute differently: they are tests, and they come out differently."""

from __future__ import annotations

from cowcatcher.explore.verdict import as_expected, check
from cowcatcher.hunt.alphabet import Size, letters_of
from cowcatcher.hunt.search import Hunt, Settings, hunt_against
from cowcatcher.kernels import kernel
from cowcatcher.litmus import parse, to_text

SETTINGS = Settings(threads=1, memory=1 << 30)


def hunted(here: str, there: str, alphabet: str, depth: int) -> Hunt:
    return hunt_against(letters_of(alphabet), Size(depth=depth), kernel(here), kernel(there), SETTINGS)


def test_what_v5_9_changed_is_found() -> None:
    found = hunted("v5.9-rc4", "v5.9", "pins", 4)
    by_kind = {d.kind: d for d in reversed(found.differences)}
    assert by_kind["pages"].test.name == "pin_fork"
    assert [d.name for d in by_kind["pages"].blamed] == ["fork_shares_everything"]
    assert by_kind["checks"].what == "coherent"


def test_a_difference_is_a_test_that_holds_here_and_fails_there() -> None:
    found = hunted("v5.18", "v5.19", "pins,reads,protection", 3)
    assert found.differences
    for difference in found.differences:
        again = parse(to_text(difference.test))
        assert as_expected(check(again, kernel("v5.18"))), difference.test.name
        assert as_expected(check(again, kernel("v5.19"))), difference.test.name


def test_a_process_may_end() -> None:
    """The child's end is part of a program as anything else: the last one to map a page may write to it."""
    found = hunted("v5.8", "v5.9-rc4", "store,fork,exit,get_read,unpin", 5)
    assert any("exit" in d.test.name for d in found.differences)


def test_a_kernel_does_not_differ_from_itself() -> None:
    assert not hunted("v6.12", "v6.12", "pins,reads,swap", 3).differences

"""What a hunt finds: the seed's bug from nothing, and exactly what trying every program finds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest

from cowcatcher.explore.verdict import Verdict, as_expected, check
from cowcatcher.hunt.alphabet import Size, letters_of
from cowcatcher.hunt.hunt import classes, violates
from cowcatcher.hunt.search import Hunt, Settings, hunt
from cowcatcher.hunt.space import HuntSpace, hunt_space
from cowcatcher.hunt.story import Begun, Word, by_task, is_part_of, name_of
from cowcatcher.kernels import kernel
from cowcatcher.litmus import parse, to_text

SETTINGS = Settings(threads=1, memory=1 << 30)


def hunted(name: str, alphabet: str, **size: int) -> Hunt:
    return hunt(letters_of(alphabet), Size(**size), kernel(name), SETTINGS)


def test_the_bug_of_september_2020_is_found_from_nothing() -> None:
    """A pin, a fork, a store: three statements, and what cures it is what cured it."""
    found = hunted("v5.9-rc4", "pins", depth=5)
    first = found.findings[0]
    assert first.test.name == "pin_fork_store"
    assert first.check == "coherent"
    assert [d.name for d in first.cured_by] == ["fork_copies_pinned"]
    assert [c.check for c in classes(found.findings)] == ["coherent", "isolated"]
    assert found.found.complete == 5
    assert not found.cut


def test_nothing_is_left_of_it_in_v5_10() -> None:
    found = hunted("v5.10", "pins", depth=5)
    assert not found.findings
    assert found.found.complete == 5


def test_a_finding_is_a_test_that_comes_out_as_it_says() -> None:
    for finding in hunted("v5.10", "pins,swap", depth=5).findings:
        again = parse(to_text(finding.test))
        result = check(again, kernel("v5.10"))
        assert result.verdict is Verdict.VIOLATED
        assert as_expected(result)


def all_words(space: HuntSpace, depth: int) -> Iterator[Word]:
    """Every program of at most ``depth`` statements that is one: each actor's statements in every order."""
    everybody = [range(len(r.statements) or 1) for r in space.repertoires]
    for length in range(1, depth + 1):
        for shares in itertools.product(range(length + 1), repeat=len(everybody)):
            if sum(shares) == length:
                yield from _words(everybody, shares)


def _words(everybody: Sequence[range], shares: Sequence[int]) -> Iterator[Word]:
    bodies = [itertools.product(numbers, repeat=share) for numbers, share in zip(everybody, shares, strict=True)]
    for chosen in itertools.product(*bodies):
        yield tuple(Begun(task, number) for task, body in enumerate(chosen) for number in body)


@pytest.mark.parametrize(
    ("name", "alphabet", "depth"),
    [
        ("v5.9-rc4", "store,fork,exit,pin", 4),
        ("v5.18", "store,fork,pin_read", 4),
        ("v5.7", "fork,store,dma_read,get_read", 4),
        ("v5.7", "fork,store,pin,dma_read", 5),  # isolated is broken after coherent
        ("v5.9", "store,fork,pin,reclaim", 4),
    ],
)
def test_a_hunt_finds_what_checking_every_program_finds(name: str, alphabet: str, depth: int) -> None:
    """The minimal violating programs of both, as sets; here every program is checked by itself, by the interpreter."""
    on = kernel(name)
    space = hunt_space(letters_of(alphabet), Size(depth=depth))
    minimal: dict[str, list[tuple[tuple[int, ...], ...]]] = {"coherent": [], "isolated": [], "alive": []}
    for word in all_words(space, depth):
        shape = by_task(space, word)
        for broken, kept in minimal.items():
            if not any(is_part_of(other, shape) for other in kept) and violates(space, on, broken, word):
                kept.append(shape)
    found = hunted(name, alphabet, depth=depth)
    for broken, kept in minimal.items():
        assert {by_task(space, f.word) for f in found.findings if f.check == broken} == set(kept), broken


def test_a_child_is_forked_once_by_whoever() -> None:
    """Three processes, two of which could fork the third; while one does, the other must not."""
    assert not hunted("v6.12", "fork,pin", depth=4, processes=3).findings
    assert not hunted("v6.12", "fork,vfork,pin", depth=3, threads=1).findings


def test_threads_and_whole_states_find_the_same() -> None:
    def names(settings: Settings) -> list[str]:
        return [f.test.name for f in hunt(letters_of("pins,swap"), Size(depth=5), kernel("v5.10"), settings).findings]

    one = names(SETTINGS)
    assert one
    assert names(Settings(threads=2, memory=1 << 30)) == one
    assert names(Settings(threads=1, memory=1 << 30, exact=True)) == one


def test_names_tell_who_does_what() -> None:
    space = hunt_space(letters_of("store,fork,reclaim"), Size())
    fork = [letter.name for letter in space.repertoires[0].letters].index("fork")
    store = [letter.name for letter in space.repertoires[1].letters].index("store")
    assert name_of(space, (Begun(2, 0), Begun(0, fork), Begun(1, store))) == "reclaim_fork_q_store"

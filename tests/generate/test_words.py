"""Words and the tests that they stand for: right by themselves, true of a kernel without bugs, false of one with."""

from __future__ import annotations

import doctest
import random
from types import ModuleType

import pytest

from cowcatcher.explore.ordered import predict
from cowcatcher.explore.search import Limits
from cowcatcher.explore.verdict import Verdict
from cowcatcher.explore.verdict import check as verdict
from cowcatcher.generate import word as word_module
from cowcatcher.generate import write as write_module
from cowcatcher.generate.every import USUAL, every_word
from cowcatcher.generate.letters import LETTERS
from cowcatcher.generate.word import WordError, parse_letter, read_word
from cowcatcher.generate.write import BARE, Stage, write_test
from cowcatcher.kernels import kernel
from cowcatcher.litmus import check, claim_text, format_source, parse, to_text
from cowcatcher.litmus.ast import Mapping, Test
from cowcatcher.litmus.order import ordered

NEWEST = kernel("v7.3")


def claim(word: str, stage: Stage = BARE) -> str:
    return "; ".join(map(claim_text, write_test(word, stage).claims))


def on(kind: str, *cells: int) -> Stage:
    return Stage(Mapping("x", kind, tuple(("", value) for value in cells)))


@pytest.mark.parametrize(
    ("word", "claimed"),
    [
        ("Fork Store.p Load.c", "always r == 1"),
        ("Store.p Fork Load.c", "always r == 2"),
        ("RegMr Fork Store.p Dma.r", "always r == 2"),
        ("RegMr Fork Dma.w Load.p Load.c", "always r1 == 2 and r2 == 1"),
        ("RegMr Fork Store.c Dma.r", "always r == 1"),
        # A pipe's page may be left behind by its owner's write, and shows nobody else's.
        ("Vmsplice Store.p Dma.r", "always r in {1, 2}"),
        ("Vmsplice Fork Munmap.p Store.c Dma.r", "always r == 1"),
        ("RegMr Vmsplice Store.p Dma.r[2]", "always r == 2"),
        ("DontFork Fork Load.c", "always r == SIGSEGV"),
        ("DontFork DoFork Fork Load.c", "always r == 1"),
        ("WipeOnFork Fork Load.c Load.p", "always r1 == 0 and r2 == 1"),
        ("DontNeed.p Load.p", "always r == 0"),
        ("Mlock DontNeed.p Load.p", "always r == 1"),
        ("Free.p Swap.p Load.p", "always r in {0, 1}"),
        ("Mprotect Store.p Load.p", "always r1 == SIGSEGV and r2 == 1"),
        ("RegMr Munmap.p Dma.w Dma.r", "always r == 2"),
        ("Odp DontNeed.p Dma.r", "always r == 0"),
        ("Fork Poke.p[c] Peek.p[c] Load.p", "always r1 == 2 and r2 == 1"),
        ("Fork Fork.c Store.c Load.g", "always r == 1"),
        # Without an order between them, either; but both ends are seen alike.
        ("Fork Load.c | Store.p", "always r == 1"),
        ("Load.p | Store.t", "always r in {1, 2}"),
        ("Load.p Load.p | Store.t", "always r1 == 1 and r2 == 1 or r1 == 1 and r2 == 2 or r1 == 2 and r2 == 2"),
    ],
)
def test_what_everybody_must_read(word: str, claimed: str) -> None:
    assert claim(word) == claimed


def test_shared_memory_is_one_for_all() -> None:
    for kind in ("shared_anon", "memfd", "file_shared", "hugetlb"):
        assert claim("Vmsplice Fork Store.c Dma.r Load.p", on(kind, 1)) == "always r1 == 2 and r2 == 2"
    assert claim("Store.p DontNeed.p Load.p", on("file_private", 5)) == "always r == 5"
    assert claim("Load.p", on("anon_zero")) == "always r == 0"


def test_the_order_is_forced_where_it_is_not_there_anyway() -> None:
    """A fork starts the child, a wait follows the exit; the rest is posts and awaits."""
    text = to_text(write_test("RegMr Fork ChildExit Store.p Dma.r Dma.w Load.p"))
    body = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert body == [
        "x = anon(1)",
        "m = ibv_reg_mr(x)", "fork(c)", "wait(c)", "store(x, 2)", "post(e1)", "await(e2)", "r2 = load(x)",
        "exit()",
        "await(e1)", "r1 = dma_read(m)", "dma_write(m, 3)", "post(e2)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("", "a word has a letter"),
        ("Fork |", "a word has a letter"),
        ("Frok", "did you mean 'Fork'?"),
        ("Store.x", "no actor is called 'x'"),
        ("Store.d", "a device cannot do that"),
        ("RegMr Dma.p", "no letter is called 'Dma.p'"),
        ("Store.c", "c is not there yet; Fork comes first"),
        ("Fork.c", "c is not there yet"),
        ("Fork Store.g", "Fork.c comes first"),
        ("Fork ChildExit Store.c", "c has exited before"),
        ("Fork Wait", "no child of p has exited"),
        ("Fork Fork Fork", "all the children"),
        ("Dma.r", "no such pin is taken before"),
        ("RegMr Dma.r[2]", "no such pin is taken before"),
        ("RegMr Unpin Dma.r", "released already"),
        ("Vmsplice Dma.w", "a device cannot write through Vmsplice"),
        ("Pin[R] Dma.w", "a device cannot write through Pin[R]"),
        ("Pin[R|W]", "either R or W"),
        ("Pin[R|LONGTREM]", "did you mean 'LONGTERM'?"),
        ("Mprotect[X]", "NONE or R or RW"),
        ("Peek.p[g]", "no other process g"),
        ("Munmap.p RegMr", "no memory there that could be pinned"),
        ("Munmap.p Mprotect[R]", "p has no memory there"),
        ("DontFork Fork Munmap.c", "c has no memory there"),
        ("ChildExit.t", "a thread does not exit by itself"),
        ("Store.p[c]", "stands nothing"),
        ("Store.p.c", "one actor, one argument"),
        ("Store..p", "is no letter"),
        (" ".join(["Store.p"] * 15), "more than 15 values"),
    ],
)
def test_what_cannot_happen_is_no_word(word: str, complaint: str) -> None:
    with pytest.raises(WordError, match=complaint.replace("[", r"\[").replace("?", r"\?")):
        write_test(word)


def test_every_letter_has_an_example_that_is_one() -> None:
    assert len(LETTERS) > 30
    for letter in LETTERS.values():
        assert parse_letter(letter.example)[0] is letter


def is_right(test: Test) -> None:
    """It parses back, has no mistake, is laid out as it should, and has an order if it has one."""
    text = to_text(test)
    assert parse(text, f"{test.name}.cow") == test
    assert format_source(text) == text
    assert not check(test)


def test_every_short_word_holds_on_the_newest_kernel() -> None:
    """All of what it claims is true there: the ideal asks for nothing that Linux does not want to give."""
    tests = [test for _, test in every_word(3)]
    assert len(tests) == len({test.name for test in tests}) == 141
    for test in tests:
        is_right(test)
        assert ordered(test)
        assert verdict(test, NEWEST).verdict is Verdict.HOLDS
        assert not predict(test, NEWEST).broken


def test_the_seed_is_among_them() -> None:
    """Every word of four letters of its alphabet: on v5.9-rc4 a pin and a fork lose data, on v5.9 nothing does."""
    letters = ["RegMr", "Fork", "Store.p", "Store.c", "Load.p", "Dma.r"]
    found = {
        on: [word for word, test in every_word(4, letters) if verdict(test, kernel(on)).violations]
        for on in ("v5.9-rc4", "v5.9")
    }
    assert "RegMr Fork Store.p Dma.r" in found["v5.9-rc4"]
    assert all("RegMr Fork" in word for word in found["v5.9-rc4"])
    assert found["v5.9"] == []


#: Two still take references that nothing keeps in place: FOLL_GET by rule, and NFS.
_KNOWN = ("Get[W]", "DioRead[NFS]")
_SPELT_WITH = [
    "Load.p", "Load.c", "Load.t", "Store.p", "Store.c", "Store.t", "Fork", "Fork", "Fork", "Fork.t", "ChildExit",
    "Pin", "Pin[R]", "Pin[R|LONGTERM]", "Pin[R|LONGTERM|FAST]", "Get[R]", "RegMr", "RegMr[READONLY]", "Odp", "Fixed",
    "Vfio",
    "Xdp", "Vmsplice", "Vmsplice.c", "DioRead", "DioWrite", "Unpin", "Dma.r", "Dma.r", "Dma.w", "Peek.p[c]",
    "Poke.p[c]", "Poke.c[p]", "Mprotect", "Mprotect[RW]", "Mprotect.c[NONE]", "Munmap.p", "Munmap.c", "Mremap",
    "Mlock", "ClearRefs", "Swap.p", "DontFork", "DoFork", "WipeOnFork", "KeepOnFork", "DontNeed.p", "DontNeed.c",
    "Free.p", "Free.c", "PopulateRead", "PopulateWrite",
]  # fmt: skip
_STAGES = [
    BARE, BARE, on("anon_zero"), on("file_private", 1), on("shared_anon", 1), on("hugetlb_private", 1),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_random_words_hold_on_the_newest_kernel(seed: int) -> None:
    """In order and in parallel, on every kind of memory, with every letter."""
    rng = random.Random(f"word {seed}")
    found = 0
    while found < 60:
        letters = [rng.choice(_SPELT_WITH) for _ in range(rng.randint(3, 7))]
        if rng.random() < 0.6:
            letters.insert(rng.randint(1, len(letters) - 1), "|")
        try:
            test = write_test(" ".join(letters), rng.choice(_STAGES))
        except WordError:
            continue
        found += 1
        is_right(test)
        if "|" not in letters:
            assert ordered(test)
        result = verdict(test, NEWEST, Limits(states=50_000, seconds=20))
        assert not result.violations, (letters, result.violations)


def test_what_is_known_to_be_unsafe_is_found() -> None:
    for pin in _KNOWN:
        assert verdict(write_test(f"{pin} Fork Store.p Dma.r"), NEWEST).violations


def test_words_that_say_the_same_are_one() -> None:
    letters = ["Fork", "Fork.p", "ChildExit", "Wait", "Load.p"]
    words = [word for word, _ in every_word(4, letters)]
    assert "Fork ChildExit Load.p" in words
    assert "Fork.p ChildExit Load.p" not in words
    assert "Fork ChildExit Wait Load.p" not in words
    assert len(USUAL) == len(set(USUAL))


def test_names_are_short_and_different() -> None:
    long = "Fork " + " ".join(["Mprotect.c[NONE]", "Mprotect.c[RW]"] * 4)
    one, other = write_test(f"{long} Load.c"), write_test(f"{long} Load.p")
    assert len(one.name) <= 64
    assert one.name != other.name
    is_right(one)


@pytest.mark.parametrize("module", [word_module, write_module])
def test_the_examples_in_the_docstrings(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def test_parts_are_read_as_parts() -> None:
    word = read_word("RegMr Fork Store.p|Pin[R|LONGTERM].t Load.c")
    assert [event.text for event in word.events] == ["RegMr", "Fork", "Store.p", "Pin[R|LONGTERM].t", "Load.c"]
    assert word.after == (-1, 0, 1, -1, 3)

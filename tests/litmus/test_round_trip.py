"""Printing and reading are inverse; laying out keeps everything and is done after once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowcatcher.litmus import LitmusError, check, format_source, parse, parse_file, to_text
from cowcatcher.litmus.ast import Test
from cowcatcher.litmus.parser import parse_form
from tests.litmus.fuzz import comments_of
from tests.strategies import litmus_tests, trees

GOOD = sorted((Path(__file__).parent / "good").glob("*.cow"))


@given(trees())
@settings(max_examples=100, deadline=None)
def test_any_tree_survives_print_and_parse(tree: Test) -> None:
    parsed = parse_form(to_text(tree))
    assert list(parsed.report) == []
    assert parsed.test == tree


@given(litmus_tests())
@settings(max_examples=100, deadline=None)
def test_a_generated_test_has_no_mistake(test: Test) -> None:
    assert check(test) == []
    assert parse(to_text(test)) == test


@given(trees(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_layout_keeps_comments_and_tree(tree: Test, rng: random.Random) -> None:
    text = untidy(to_text(tree), rng)
    laid_out = format_source(text)
    assert parse_form(laid_out).test == parse_form(text).test == tree
    assert comments_of(laid_out) == comments_of(text)
    assert format_source(laid_out) == laid_out


def untidy(text: str, rng: random.Random) -> str:
    """``text`` with comments, blank lines and blanks strewn in, where they change nothing."""
    lines = []
    for i, line in enumerate(text.split("\n")):
        lines += [""] * rng.choice((0, 0, 0, 1, 3))
        if rng.random() < 0.2:
            lines.append(" " * rng.randrange(6) + f"# alone {i}  ")
        line = line.strip() + rng.choice(("", "", " ;", " # behind", f"#{i}"))
        lines.append("\t" * rng.randrange(3) + line)
    return "\n".join(lines)


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
def test_good_files(path: Path) -> None:
    test = parse_file(path)
    assert parse(to_text(test)) == test
    assert to_text(parse(to_text(test))) == to_text(test)
    laid_out = format_source(test.text)
    assert parse(laid_out) == test
    assert format_source(laid_out) == laid_out
    assert comments_of(laid_out) == comments_of(test.text)


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_line_ends_and_a_missing_last_one_change_nothing(path: Path, end: str) -> None:
    text = path.read_text()
    assert parse(text.rstrip("\n").replace("\n", end)) == parse(text)


def test_canonical_text() -> None:
    text = """test t
"one"
"two"
source "s"

memory {
    x = anon(a=1, b=2, pages=2, prot=R, thp)
}

process p {
    m = pin(x, WRITE|FORCE)
}

kernel may merge

never not (m == EFAULT or m != EIO) and maybe_pinned(p:x[0].a)

unchecked alive

expect violated ALIVE on ..v5.7, v5.9
"""
    assert to_text(parse_form(text).test) == text
    assert format_source(text) == text


def test_layout_moves_nothing() -> None:
    text = (Path(__file__).parent / "good" / "layout.cow").read_text()
    assert format_source(text) == (Path(__file__).parent / "good" / "layout.fmt").read_text()


def test_layout_of_a_test_with_wrong_names() -> None:
    assert format_source("test t;process p{store(nowhere,1)}") == "test t\n\nprocess p {\n    store(nowhere, 1)\n}\n"


def test_layout_refuses_what_it_cannot_read() -> None:
    with pytest.raises(LitmusError):
        format_source("test t\nprocess p { store( }\n")

"""The manual says everything the tables do, and its examples are true."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowcatcher.litmus import LitmusError, format_source, parse
from cowcatcher.litmus import statements as table
from cowcatcher.litmus.conditions import MAX_DEPTH, QUERIES
from cowcatcher.litmus.cursor import ITEMS
from cowcatcher.litmus.lexer import MAX_BYTES, MAX_WORD

MANUAL = (Path(__file__).parents[2] / "docs" / "language.md").read_text()


@pytest.mark.parametrize("op", sorted(table.SIGNATURES))
def test_every_statement_is_shown(op: str) -> None:
    assert f"`{op}(" in MANUAL or f"= {op}(" in MANUAL


@pytest.mark.parametrize(
    "word",
    [
        *table.ADVICES, *table.GUP_FLAGS, *table.PROTECTIONS, *table.FILESYSTEMS, *table.ERRORS, *table.CHECKS,
        *table.MAPPING_FLAGS,
    ],
)  # fmt: skip
def test_every_word_is_named(word: str) -> None:
    assert f"`{word}`" in MANUAL


@pytest.mark.parametrize("kind", table.MAPPING_KINDS)
def test_every_kind_of_mapping_is_shown(kind: str) -> None:
    assert f"| `{kind}(" in MANUAL


@pytest.mark.parametrize("query", QUERIES)
def test_every_question_is_shown(query: str) -> None:
    assert f"`{query}(" in MANUAL


@pytest.mark.parametrize("action", table.KERNEL_ACTIONS)
def test_every_kernel_action_is_shown(action: str) -> None:
    assert f"`kernel may {action}" in MANUAL


@pytest.mark.parametrize("item", ITEMS)
def test_every_top_level_item_is_named(item: str) -> None:
    assert f"`{item}" in MANUAL


@pytest.mark.parametrize(
    "row",
    [
        f"a file | {MAX_BYTES // 1024} KiB",
        f"a word | {MAX_WORD} characters",
        f"a value | {table.MAX_VALUE}",
        f"processes | {table.MAX_PROCESSES}",
        f"actors | {table.MAX_ACTORS}",
        f"pages, all mappings together | {table.MAX_PAGES}",
        f"cells in a page | {table.MAX_CELLS}",
        f"statements | {table.MAX_STATEMENTS}",
        f"pins | {table.MAX_PINS}",
        f"parentheses and `not` inside one another | {MAX_DEPTH}",
    ],
)
def test_every_limit_is_right(row: str) -> None:
    assert f"| {row} |" in MANUAL


def blocks() -> list[str]:
    return [part.lstrip("\n") for part in MANUAL.split("```")[1::2]]


def test_the_example_is_a_test_and_laid_out() -> None:
    example = blocks()[0]
    assert parse(example).name == "rdma_fork_write"
    assert format_source(example) == example


def test_the_errors_are_what_is_printed() -> None:
    source, shown = blocks()[1:3]
    with pytest.raises(LitmusError) as caught:
        parse(source, "typo.cow")
    assert f"{caught.value}\n" == shown

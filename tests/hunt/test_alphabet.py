"""Letters become statements that the language has."""

from __future__ import annotations

import pytest

from cowcatcher.hunt.alphabet import BY_NAME, GROUPS, LETTERS, Size, UnknownLetter, letters_of, repertoires
from cowcatcher.litmus.statements import KERNEL_ACTIONS, SIGNATURES


def test_groups_and_letters_are_joined_and_left_out() -> None:
    names = [letter.name for letter in letters_of("pins,-load,mlock")]
    assert names == [n for n in BY_NAME if n in (*GROUPS["pins"], "mlock") and n != "load"]
    assert len(letters_of("all")) == len(LETTERS)
    assert len(letters_of("pins,pins,store")) == len(GROUPS["pins"])


@pytest.mark.parametrize(
    ("text", "said"), [("stor", "did you mean 'store'"), ("", "at least one letter"), ("pins,-pins", "at least")]
)
def test_what_is_no_alphabet_is_said(text: str, said: str) -> None:
    with pytest.raises(UnknownLetter, match=said):
        letters_of(text)


@pytest.mark.parametrize("size", [Size(), Size(processes=3, pages=2, pins=2, threads=1)], ids=["small", "large"])
def test_every_letter_is_a_statement_of_the_language(size: Size) -> None:
    for letter in LETTERS:
        assert letter.op in SIGNATURES or letter.op in KERNEL_ACTIONS
    for everything in repertoires(LETTERS, size):
        assert len(everything.letters) == len(everything.statements) or everything.kind == "kernel"
        for letter, statement in zip(everything.letters, everything.statements, strict=False):
            wanted = [p for p in SIGNATURES[statement.op].params if not p.optional]
            assert len(wanted) <= len(statement.args) <= len(SIGNATURES[statement.op].params), letter


def test_nobody_forks_the_first_process_or_itself() -> None:
    for everything in repertoires(letters_of("fork"), Size(processes=3)):
        children = {str(s.args[0]) for s in everything.statements if s.op == "fork"}
        assert not any("'p'" in child or f"'{everything.name}'" in child for child in children)

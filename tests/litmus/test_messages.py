"""The texts of errors, word for word: ``bad/NAME.cow`` beside ``bad/NAME.expected``.

After a wanted change: ``COWCATCHER_ACCEPT=1 pytest tests/litmus/test_messages.py``, then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowcatcher.litmus import LitmusError, parse_file
from cowcatcher.litmus.ast import NOWHERE, Span, Test
from cowcatcher.litmus.errors import MAX_DIAGNOSTICS, Diagnostic

BAD = Path(__file__).parent / "bad"


@pytest.mark.parametrize("name", sorted(p.stem for p in BAD.glob("*.cow")))
def test_text_of_errors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(LitmusError) as caught:
        parse_file(f"{name}.cow")
    text = f"{caught.value}\n"
    golden = BAD / f"{name}.expected"
    if os.environ.get("COWCATCHER_ACCEPT"):
        golden.write_text(text)
    assert text == golden.read_text()
    assert len(caught.value.diagnostics) <= MAX_DIAGNOSTICS


def test_every_golden_has_its_input() -> None:
    assert {p.stem for p in BAD.glob("*.expected")} == {p.stem for p in BAD.glob("*.cow")}


def test_a_diagnostic_of_another_room() -> None:
    test = Test(name="t", path="t.cow", text="test t\n\texpect holds on v9.9\n")
    found = Diagnostic.of(test, Span(2, 18, 22), "no kernel is called 'v9.9'", nearest="v5.9", hint="see 'kernels'")
    assert found.render().split("\n") == [
        "t.cow:2:18: error: no kernel is called 'v9.9'",
        "    2 |     expect holds on v9.9",
        "      |                     ^~~~",
        "  did you mean 'v5.9'?",
        "  hint: see 'kernels'",
    ]


def test_a_diagnostic_of_a_whole_file() -> None:
    found = Diagnostic("t.cow", NOWHERE, "the file is too long", expected=("less",))
    assert str(found) == "t.cow: error: the file is too long\n  expected less"

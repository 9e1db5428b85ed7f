"""Commands called as functions, in the directory of the cases; their times are made equal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cowcatcher.cli import main

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Said:
    out: str
    err: str
    status: int


Command = Callable[..., Said]


@pytest.fixture
def cowcatcher(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """``cowcatcher("check", "x.cow")`` among the cases, without a terminal."""
    monkeypatch.chdir(HERE / "cases")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def call(*words: str) -> Said:
        status = main(list(words))
        out, err = capsys.readouterr()
        return Said(out, err, status)

    return call


def timeless(text: str) -> str:
    """The text with every duration and every size of a search replaced."""
    text = re.sub(r'"(seconds|states|transitions|depth)": [0-9.e-]+(?=,?$)', r'"\1": 0', text, flags=re.M)
    text = re.sub(r"[\d,]+ states?, [\d,]+ steps? between them, at most [\d,]+ deep", "N states", text)
    return re.sub(r"\d+\.\d{3} s\b", "0.000 s", text)

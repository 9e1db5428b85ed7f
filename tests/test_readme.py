"""The README shows what the program prints, and claims only what runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cowcatcher.kernels import kernel, load_decisions
from cowcatcher.litmus import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TRANSCRIPTS = re.findall(r"```console\n\$ cowcatcher (.*)\n((?:.*\n)*?)```", README)


@pytest.mark.parametrize(("words", "shown"), TRANSCRIPTS, ids=[words for words, _ in TRANSCRIPTS])
def test_transcript_is_what_is_printed(words: str, shown: str) -> None:
    """Every console block, run again."""
    result = subprocess.run(
        [sys.executable, "-m", "cowcatcher", *words.split()],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}, check=False,
    )  # fmt: skip
    assert result.stdout == shown


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 2


def test_the_test_shown_parses() -> None:
    """The first block is a whole test."""
    block = re.search(r"```\n(test (?:.*\n)*?)```", README)
    assert block
    assert parse(block.group(1)).name == "rdma_fork_wait"


def test_the_decision_shown_loads(tmp_path: Path) -> None:
    """The Python block is a whole decision file, and does what the text says."""
    block = re.search(r"```python\n((?:.*\n)*?)```", README)
    assert block
    path = tmp_path / "my_patch.py"
    path.write_text(block.group(1))
    (own,) = load_decisions(path)
    assert own.question in kernel("v5.9-rc4").decisions
    assert own.answer(1, 0, 0) == 1

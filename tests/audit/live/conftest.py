"""Real strace, real programs. Without strace or a C compiler these tests skip, and say so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

from cowcatcher.audit.live.tracer import Traced
from cowcatcher.cc import find_compiler

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def tools() -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    if not find_compiler():
        pytest.skip("no C compiler")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """One of the programs here, compiled; skips where what it is linked with is not installed."""
    place = tmp_path_factory.mktemp("programs")

    def build(name: str, *flags: str, output: str = "") -> Path:
        made = place / (output or name)
        if not made.exists():
            compiler = find_compiler()
            assert compiler
            made.parent.mkdir(exist_ok=True)
            command = [compiler, "-O1", "-g", "-D_GNU_SOURCE", str(PROGRAMS / f"{name}.c"), "-o", str(made), *flags]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode and ("cannot find -l" in done.stderr or "No such file" in done.stderr):
                pytest.skip(f"a library that {name}.c needs is not installed: {done.stderr.splitlines()[-1]}")
            assert not done.returncode, done.stderr
        return made

    return build


@dataclass(frozen=True)
class Word:
    name: str
    values: dict[str, str]

    def __getitem__(self, key: str) -> str:
        return self.values[key]

    def number(self, key: str) -> int:
        return int(self.values[key], 0)


@dataclass(frozen=True)
class Run:
    """A program that was watched to its end."""

    status: int
    lines: list[str]
    lost: tuple[str, ...]

    def words(self, *names: str) -> list[Word]:
        return [word for word in map(word_of, self.lines) if word and (not names or word.name in names)]

    def only(self, name: str) -> Word:
        found = self.words(name)
        assert len(found) == 1, found
        return found[0]


def word_of(line: str) -> Word | None:
    _, found, rest = line.partition('mq_unlink("/cowcatcher:')
    if not found:
        return None
    name, *pairs = rest.partition('"')[0].split(" ")
    return Word(name, {k: unquote(v) for k, _, v in (pair.partition("=") for pair in pairs)})


@pytest.fixture
def watch() -> Callable[..., Run]:
    def run(*command: str | Path, **options: bool) -> Run:
        with Traced.launch([str(word) for word in command], **options) as traced:  # type: ignore[arg-type]
            lines = list(traced.lines())
        return Run(traced.wait(), lines, traced.lost)

    return run


@pytest.fixture
def driver(tmp_path: Path) -> Callable[..., list[str]]:
    """A command that watches another one, as a process of its own: for standard streams, signals, descriptors."""
    script = tmp_path / "driver.py"
    script.write_text(
        "import sys\n"
        "from cowcatcher.audit.live.tracer import Traced\n"
        "with Traced.launch(sys.argv[2:]) as traced:\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        for line in traced.lines():\n"
        "            file.write(line)\n"
        "            file.flush()\n"
        "status = traced.wait()\n"
        "sys.exit(status if status >= 0 else 128 - status)\n"
    )

    def command(*words: str | Path) -> list[str]:
        return [sys.executable, str(script), str(tmp_path / "trace"), *map(str, words)]

    return command


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}

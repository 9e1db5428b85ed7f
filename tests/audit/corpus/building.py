"""The corpus, compiled."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.audit.corpus.expectation import HERE, Program

INCLUDE = HERE / "include"
COMPILER = shutil.which("cc") or shutil.which("gcc")
_STAND_IN = "libibverbs.so.1.14.44.0"  # rdma-core writes its own version there: 44.0


class CannotBuild(Exception):
    pass


class Workshop:
    """A directory with the stand-in libraries, and with those programs that were asked for."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._library("ibverbs.c", _STAND_IN, "-Wl,-soname,libibverbs.so.1", self._symbols())
        for link, target in (("libibverbs.so.1", _STAND_IN), ("libibverbs.so", "libibverbs.so.1")):
            (place / link).symlink_to(target)
        self._library("collective.c", "libcollective.so", f"-L{place}", libraries=["-libverbs"])

    def command(self, program: Program) -> list[str]:
        if program.path.suffix == ".py":
            return [sys.executable, str(program.path)]
        built = self.place / program.name
        if not built.exists():
            here = f"-L{self.place}", f"-Wl,-rpath,{self.place}"
            self._compile("-pthread", str(program.path), "-o", str(built), *here, *program.build)
        return [str(built)]

    def _symbols(self) -> str:
        return f"-Wl,--version-script={HERE / 'stand_in' / 'ibverbs.map'}"

    def _library(self, source: str, name: str, *flags: str, libraries: Sequence[str] = ()) -> None:
        path = str(HERE / "stand_in" / source)
        self._compile("-shared", "-fPIC", path, "-o", str(self.place / name), *flags, *libraries)

    def _compile(self, *arguments: str) -> None:
        """With -rdynamic, so that a stack shows function names as those of a stripped program's libraries would."""
        command = [str(COMPILER), "-O1", "-g", "-Wall", "-Wextra", "-rdynamic", f"-I{INCLUDE}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or done.stderr:
            raise CannotBuild(done.stderr)

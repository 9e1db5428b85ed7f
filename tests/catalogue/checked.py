"""The catalogue parsed, and one checker a test: kernels that a test cannot tell apart are explored once a run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cowcatcher.explore.verdict import Checker
from cowcatcher.litmus import parse_file
from cowcatcher.litmus.catalogue import groups

PATHS: tuple[Path, ...] = tuple(path for tests in groups().values() for path in tests)


@cache
def checker(path: Path) -> Checker:
    return Checker(parse_file(str(path)))


def name_of(path: Path) -> str:
    """``seed/rdma_fork_wait``."""
    return f"{path.parent.name}/{path.stem}"

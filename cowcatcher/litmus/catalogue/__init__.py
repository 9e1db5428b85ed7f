"""The built-in tests, in folders by what they teach; each is a file ``<group>/<name>.cow``.

>>> find("rdma_fork_wait") == find("seed/rdma_fork_wait")
True
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cowcatcher.litmus.errors import nearest

ROOT = Path(__file__).resolve().parent
SUFFIX = ".cow"
#: Reading order; a group that is not named here comes behind, by name.
ORDER = (
    "seed", "fork", "readonly_pins", "zero_page", "swap", "protection", "leaks", "direct_io", "madvise", "devices",
    "hugetlb", "shared", "costs", "hunted",
)  # fmt: skip


class UnknownTest(Exception):
    """Nothing is called that; the message names what there is, or what was probably meant."""


def groups() -> dict[str, list[Path]]:
    """The tests of every group, in reading order of the groups; by name within a group."""
    found = {d.name: sorted(d.glob(f"*{SUFFIX}")) for d in ROOT.iterdir() if d.is_dir()}
    named = {group: tests for group, tests in found.items() if tests}
    return {group: named[group] for group in sorted(named, key=_position)}


def _position(group: str) -> tuple[int, str]:
    return (ORDER.index(group) if group in ORDER else len(ORDER), group)


def find(name: str) -> Path | None:
    """The test of that name (``rdma_fork_wait``) or of that group and name (``seed/rdma_fork_wait``), or None."""
    for group, tests in groups().items():
        for path in tests:
            if name.removesuffix(SUFFIX) in (path.stem, f"{group}/{path.stem}"):
                return path
    return None


def resolve(args: Sequence[str]) -> list[Path]:
    """The files that the arguments of a command mean, in their order, each once.

    An argument is a file, a directory (every test below it), a group, a test's name, or ``all``. A file or directory
    that exists goes before a name of the catalogue. Raises UnknownTest.
    """
    files: dict[Path, None] = {}
    for arg in args:
        files.update(dict.fromkeys(_resolve_one(arg)))
    return list(files)


def _resolve_one(arg: str) -> list[Path]:
    path = Path(arg)
    if path.is_file():
        return [path]
    if path.is_dir():
        below = sorted(path.rglob(f"*{SUFFIX}"))
        if not below:
            raise UnknownTest(f"there is no {SUFFIX} file below the directory {arg!r}")
        return below
    catalogue = groups()
    if arg == "all":
        return [test for tests in catalogue.values() for test in tests]
    if arg in catalogue:
        return catalogue[arg]
    found = find(arg)
    if found is not None:
        return [found]
    raise UnknownTest(_unknown(arg, catalogue))


def _unknown(arg: str, catalogue: dict[str, list[Path]]) -> str:
    tests = [path.stem for paths in catalogue.values() for path in paths]
    qualified = [f"{group}/{path.stem}" for group, paths in catalogue.items() for path in paths]
    near = nearest(arg, [*catalogue, *tests, *(qualified if "/" in arg else ())])
    hint = f"; did you mean {near!r}?" if near else f"; the groups are: {', '.join(catalogue)}"
    what = "no such file" if arg.endswith(SUFFIX) or "/" in arg else "no file, group or test is called that"
    return f"{arg!r}: {what}{hint}"

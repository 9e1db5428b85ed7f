"""From a module's source to compiled functions with some of its names bound, compiled once and cached.

A module that is to be compiled is an ordinary module of plain functions. What may differ from one use to the next
(sizes, the kernel's answers, the model's ``expand``) it assigns at its top level, as a default or a stand-in.
``instantiate`` executes the source with those names bound to something else, and makes every function of it a compiled
one.

numba's cache looks at the file of the function that it compiles and not at what that calls, nor at globals. So each
combination of sources, bindings, versions and processor has a directory of its own, named by a digest over all of them.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import binding as llvm

#: Written into a cache directory once everything that belongs there has been compiled.
_DONE = "complete"
#: Everything of this package can find its way into compiled code.
_PACKAGE = Path(__file__).parent


def cache_home() -> Path:
    """Where compiled code is kept; ``COWCATCHER_CACHE`` names another place."""
    chosen = os.environ.get("COWCATCHER_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cowcatcher"


def digest_of(paths: Iterable[Path], *words: object) -> str:
    """Names what was compiled from these sources with these words bound, by these versions, for this processor."""
    h = hashlib.sha256()
    for path in sorted({*paths, *_PACKAGE.glob("*.py")}):
        h.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    processor = (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), platform.machine())
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    h.update(repr((words, processor, versions)).encode())
    return h.hexdigest()[:24]


@dataclass
class Namespace:
    """What a source was turned into: its names, the functions among them compiled or about to be."""

    names: dict[str, Any]
    cache: Path
    compiled: set[str] = field(default_factory=set)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.names[name]
        except KeyError:
            raise AttributeError(name) from None

    def compile(self, wanted: Mapping[str, Sequence[Any]], announce: Callable[[str], None] | None = None) -> float:
        """Compile functions for arguments of these numba types, or load them from the cache; seconds that it took.

        ``announce`` is called first if something has to be compiled, which takes seconds.
        """
        started = time.perf_counter()
        marker = self.cache / _DONE
        fresh = not marker.exists()
        if fresh and announce:
            announce("compiling for this processor, once (kept in the cache)")
        for name, types in wanted.items():
            self.names[name].compile(tuple(types))
        if fresh:
            self.cache.mkdir(parents=True, exist_ok=True)
            marker.touch()
        return time.perf_counter() - started


def instantiate(path: Path, bindings: Mapping[str, Any], digest: str, inline: Iterable[str] = ()) -> Namespace:
    """The module at ``path`` with ``bindings`` in the place of what it assigns to these names; functions compiled.

    ``inline`` names functions that are put into their callers by numba itself, not left to LLVM's judgement.
    """
    tree = ast.parse(path.read_text(), str(path))
    tree.body = [statement for statement in tree.body if not _assigns(statement, bindings)]
    missing = set(bindings) - _assigned_names(ast.parse(path.read_text()))
    if missing:
        raise ValueError(f"{path.name} has no {', '.join(sorted(missing))} to bind")
    cache = cache_home() / digest
    # numba's cache asks for the module by its name; the plain one would be another.
    module = ModuleType(f"cowcatcher_{path.stem}_{digest}")
    sys.modules[module.__name__] = module
    names: dict[str, Any] = module.__dict__
    names.update(bindings, __file__=str(path))
    exec(compile(tree, str(path), "exec"), names)
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(cache)
    try:
        for name, value in list(names.items()):
            if isinstance(value, FunctionType) and value.__code__.co_filename == str(path):
                names[name] = numba.njit(
                    nogil=True,
                    cache=True,
                    boundscheck=False,
                    error_model="numpy",
                    inline="always" if name in inline else "never",
                )(value)
    finally:
        config.CACHE_DIR = before
    return Namespace(names, cache)


def _assigns(statement: ast.stmt, names: Iterable[str]) -> bool:
    return bool(_names_of(statement) & set(names))


def _names_of(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        return {target.id for target in statement.targets if isinstance(target, ast.Name)}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    return set()


def _assigned_names(tree: ast.Module) -> set[str]:
    return set[str]().union(*(_names_of(statement) for statement in tree.body))

"""The layout of the house, enforced: who may import whom, where releases may be named, what is documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cowcatcher"

#: What each room may import from the others.
MAY_IMPORT = {
    "decision": set[str](),
    "cc": set[str](),
    "state": {"decision"},
    "litmus": set[str](),
    "mm": {"state"},
    "device": {"state", "mm"},
    "kernels": {"state", "decision"},
    "explore": {"state", "decision", "litmus", "mm", "device", "kernels"},
    "engine": set[str](),
    "compiled": {"state", "mm", "device", "kernels", "explore", "engine"},
    "generate": {"litmus"},
    "real": {"cc", "litmus"},
    "agree": {"state", "litmus", "kernels", "explore", "real"},
    "hunt": {"state", "litmus", "kernels", "explore", "agree", "compiled", "engine"},
    "audit": {"cc", "litmus", "kernels", "explore"},
    "report": {
        "audit",
        "state",
        "decision",
        "litmus",
        "generate",
        "mm",
        "device",
        "kernels",
        "explore",
        "real",
        "agree",
        "hunt",
        "engine",
    },
    "cli": {
        "audit",
        "litmus",
        "generate",
        "kernels",
        "explore",
        "real",
        "agree",
        "hunt",
        "compiled",
        "engine",
        "report",
    },
    "__init__": set[str](),
    "__main__": {"cli"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported_rooms(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "cowcatcher":
                names = [f"cowcatcher.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "cowcatcher" and len(parts) > 1 and parts[1] != "__version__":
                yield node.lineno, parts[1]


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    """A room imports only itself and the rooms below it."""
    room = room_of(path)
    allowed = MAY_IMPORT[room] | {room}
    wrong = [
        f"line {line}: {other}" for line, other in imported_rooms(ast.parse(path.read_text())) if other not in allowed
    ]
    assert not wrong, f"{room} may import {sorted(allowed)} only"


#: What is installed only with ``cowcatcher[fast]``, and the rooms that may ask for it.
FAST = {"numba", "llvmlite", "numpy"}
MAY_BE_FAST = {"engine", "compiled"}


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_but_the_engine_needs_numba(path: Path) -> None:
    """Checking a test starts in a fraction of a second and needs nothing but Python."""
    if room_of(path) in MAY_BE_FAST:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & FAST


def code_strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """String constants that are not docstrings."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


@pytest.mark.parametrize("room", ["mm", "device", "state", "decision", "explore"])
def test_no_version_is_compared_in_the_model(room: str) -> None:
    """Kernels are sets of decisions: no release is named in the code of the model."""
    paths = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else sorted((PACKAGE / room).glob("*.py"))
    for path in paths:
        for line, text in code_strings(ast.parse(path.read_text())):
            assert not re.search(r"\bv?\d+\.\d+(\.\w+|-rc\d+)?\b", text), f"{path.name}:{line}: {text!r}"


def test_every_public_function_of_the_model_is_documented() -> None:
    """What mm/ and device/ do is told by the functions themselves, or by a name of the kernel's that is a one-liner."""
    bare = []
    for room in ("mm", "device"):
        for path in sorted((PACKAGE / room).glob("*.py")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and not ast.get_docstring(node):
                    statements = len(node.body)
                    if statements > 6:
                        bare.append(f"{path.name}:{node.lineno} {node.name}")
    assert not bare

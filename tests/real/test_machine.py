"""Building the agent, and finding out what the machine has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cowcatcher.real.build import BuildError, agent_path, find_compiler, sources
from cowcatcher.real.probe import probe


def test_probe_answers_everything() -> None:
    found = probe()
    names = [c.name for c in found]
    assert len(names) == len(set(names))
    assert {"kernel", "uring", "frame numbers", "C compiler", "swap"} <= set(names)
    for capability in found:
        assert capability.why
        assert capability.ok or capability.next_step or capability.name == "userfaultfd"


def test_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_compiler() is None:
        pytest.skip("no C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = agent_path()
    made = path.stat().st_mtime_ns
    assert path.parent == tmp_path / "cowcatcher"
    assert agent_path() == path
    assert path.stat().st_mtime_ns == made
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_no_warnings(tmp_path: Path) -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C compiler")
    flags = ["-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-pthread", "-o", str(tmp_path / "agent")]
    subprocess.run([compiler, *flags, *map(str, sources())], check=True)


def test_no_compiler_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(BuildError, match="install one"):
        agent_path()


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho stdio.h: no such file >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BuildError, match=r"stdio\.h: no such file"):
        agent_path()


def test_nothing_heavy_is_imported_early() -> None:
    program = (
        "import sys, cowcatcher.real.host, cowcatcher.real.build, cowcatcher.real.probe\n"
        "print([m for m in ('subprocess', 'ctypes', 'tempfile', 'selectors', 'hashlib') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"

"""What audits make of recordings, as tests: real kernels do with them what the model says, and what was seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cowcatcher.audit.emit import emit, file_name
from cowcatcher.real import images
from cowcatcher.real.qemu import EMULATOR

from .audits import RECORDINGS, audit_file
from .conftest import CACHE, Need

KERNELS = ("5.10", "6.1", "6.12")
#: By the recording: on which of the kernels the test made of its gravest finding is violated.
VIOLATED = {
    "reader": {"5.10", "6.1"},  # as reader.py itself loses a read there, see test_machines
    "queue_then_fork": {"5.10", "6.1"},
    "ring_then_fork": set[str](),
    "rdma_page": set[str](),
    "rdma_init_malloc_touch": set(KERNELS),  # as the child was killed
}


def test_real_kernels_agree(tmp_path: Path, need: Need, monkeypatch: pytest.MonkeyPatch) -> None:
    need(EMULATOR, "qemu-system-x86")
    if CACHE is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    there = [kernel for kernel in KERNELS if kernel in {image.name for image in images.installed()}]
    if not there:
        pytest.skip(f"no kernel is installed ('cowcatcher kernels install {' '.join(KERNELS)}')")
    for name in VIOLATED:
        found = next(f for f in audit_file(RECORDINGS / f"{name}.strace").findings if f.ranges)
        text = emit(found).replace(f"test {file_name(found).removesuffix('.cow')}\n", f"test {name}\n", 1)
        (tmp_path / f"{name}.cow").write_text(text)
    tests = sorted(map(str, tmp_path.glob("*.cow")))
    done = subprocess.run(
        [sys.executable, "-m", "cowcatcher", "run", *tests, "--on", ",".join(there)],
        capture_output=True, text=True, check=False, timeout=110,
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[3]}"},
    )  # fmt: skip
    assert f"{len(tests) * len(there)} as the model says" in done.stdout, done.stdout + done.stderr
    for name, violated in VIOLATED.items():
        row = re.search(rf"^{name} +(.*)$", done.stdout, re.MULTILINE) if len(there) > 1 else None
        if row:
            marks = dict(zip(there, row[1].split(), strict=True))
            assert {kernel for kernel, mark in marks.items() if mark == "violated"} == violated & set(there), name

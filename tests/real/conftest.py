"""What the tests on this machine's kernel share: one agent for all of them, and reasons to skip."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cowcatcher.litmus import parse
from cowcatcher.real import images
from cowcatcher.real.build import agent_path, find_compiler
from cowcatcher.real.host import Observation, run_host
from cowcatcher.real.images import KernelImage
from cowcatcher.real.probe import Capability, probe
from cowcatcher.real.qemu import EMULATOR

#: Where the user's own kernels are; what these tests build goes elsewhere.
CACHE = os.environ.get("XDG_CACHE_HOME")

Run = Callable[[str], Observation]


@pytest.fixture(scope="session")
def capabilities() -> dict[str, Capability]:
    return {c.name: c for c in probe()}


@pytest.fixture(scope="session")
def agent() -> Iterator[Path]:
    """The agent, where every user can execute it."""
    if sys.platform != "linux":
        pytest.skip("runs on Linux only")
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        Path(place).chmod(0o755)
        patch.setenv("XDG_CACHE_HOME", place)
        if find_compiler() is None:
            pytest.skip("no C compiler")
        path = agent_path()
        path.parent.chmod(0o755)
        path.chmod(0o755)
        yield path


#: What a machine may lack for a backend. Whatever else the agent says came of a trial that has to succeed.
ENVIRONMENT = re.compile(
    r"there is no (?!memory)|the kernel has no |only root |the agent was built without |.* may not be opened"
)


def skip_if(lack: str) -> None:
    """Skip what this machine lacks something for; but a backend that is there and does not work is a failure."""
    if lack and not ENVIRONMENT.match(lack):
        pytest.fail(f"the backend is there and does not work: {lack}")
    if lack:
        pytest.skip(lack)


@pytest.fixture
def need_rings(capabilities: dict[str, Capability]) -> None:
    """Skip where there is no io_uring, and with it no long-term pin."""
    if not capabilities["uring"].ok:
        pytest.skip(capabilities["uring"].why)


@pytest.fixture
def need_frames(capabilities: dict[str, Capability]) -> None:
    if not capabilities["frame numbers"].ok:
        pytest.skip(capabilities["frame numbers"].why)


@pytest.fixture
def as_nobody(capabilities: dict[str, Capability]) -> tuple[str, ...]:
    """A command that runs another as an ordinary user."""
    setpriv = shutil.which("setpriv")
    if not capabilities["root"].ok or setpriv is None:
        pytest.skip("needs root and setpriv to become an ordinary user")
    return (setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")


@pytest.fixture
def run(agent: Path) -> Run:
    """Run one test's text once; the body alone is enough."""

    def run_one(text: str) -> Observation:
        body = text if text.lstrip().startswith("test ") else f"test t\n{text}"
        return run_host([parse(body)], agent=agent, timeout=20)[0]

    return run_one


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> KernelImage:
    """A kernel from the user's own cache; the agent of all these tests lies in another."""
    if CACHE is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"{EMULATOR} is not installed")
    there = [image for image in images.installed() if image.flavour == "cloud"]
    if not there:
        pytest.skip("no kernel is installed ('cowcatcher kernels install 6.1')")
    return there[0]

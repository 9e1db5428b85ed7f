"""Programs from the package archives: there, installed now, or a reason to skip. Recordings made, and live audits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from cowcatcher.kernels import Kernel, kernel_of_release

from .audits import JOBS, PROGRAMS

#: Where the user's own kernels are; other tests look elsewhere.
CACHE: Final = os.environ.get("XDG_CACHE_HOME")
#: Set to 1: tests may install packages. Nobody's machine is changed by running tests alone.
INSTALL: Final = os.environ.get("COWCATCHER_TESTS_INSTALL") == "1"
#: What a person would trace: an audit's calls, and the transfers with their addresses instead of their data.
TRANSFERS: Final = ("read", "write", "pread64", "pwrite64")
CALLS: Final = (
    "process", "mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "shmget", "shmat", "shmdt",
    "openat", "close", "dup", "?dup2", "dup3", "fcntl", "ioctl", "io_uring_setup", "io_uring_register",
    "io_setup", "io_submit", "io_getevents", "io_destroy", "vmsplice", "process_vm_readv", "process_vm_writev",
    "preadv", "pwritev", "?preadv2", "?pwritev2", *TRANSFERS,
)  # fmt: skip

Need = Callable[[str, str], str]
Record = Callable[..., Path]
Live = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def need() -> Need:
    """``need(program, package)``: where the program is, installed if that is allowed; else the test is skipped."""

    def find(program: str, package: str) -> str:
        path = "/usr/local/sbin:/usr/sbin:/sbin:" + os.environ["PATH"]
        if not shutil.which(program, path=path) and INSTALL and shutil.which("apt-get") and os.geteuid() == 0:
            install = ["apt-get", "install", "--yes", "--no-install-recommends", package]
            subprocess.run(
                install,
                capture_output=True,
                check=False,
                timeout=300,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
        if found := shutil.which(program, path=path):
            return found
        pytest.skip(f"{program} is not there: `apt install {package}`, or COWCATCHER_TESTS_INSTALL=1 as root")

    return find


@pytest.fixture(scope="session")
def here() -> Kernel:
    """The model of the kernel that these programs run on."""
    return kernel_of_release(os.uname().release, os.uname().version)


@pytest.fixture
def record(tmp_path: Path, need: Need) -> Record:
    """``record(command)``: run it under strace, as anybody would; where the recording is."""
    strace = need("strace", "strace")

    def run(command: Sequence[str], status: int = 0) -> Path:
        out = tmp_path / "recording.strace"
        words = [
            strace,
            "-f",
            "-ttt",
            "-s",
            "512",
            "-e",
            f"trace={','.join(CALLS)}",
            "-e",
            f"raw={','.join(TRANSFERS)}",
        ]
        done = subprocess.run(
            [*words, "-o", str(out), *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        if "Operation not permitted" in done.stderr and "ptrace" in done.stderr.lower():
            pytest.skip(f"tracing is not allowed here: {done.stderr.splitlines()[0]}")
        assert done.returncode == status, done.stderr
        return out

    return run


@pytest.fixture
def live(tmp_path: Path, need: Need) -> Live:
    """``live(command)``: run it by `cowcatcher audit --`; the report, and what the program said as "stdout"."""
    need("strace", "strace")

    def run(command: Sequence[str], status: int = 0) -> dict[str, Any]:
        out = tmp_path / "report.json"
        words = [sys.executable, "-m", "cowcatcher", "audit", "--json", "-o", str(out), "--", *command]
        path = f"{Path(__file__).parents[3]}:{os.environ.get('PYTHONPATH', '')}"
        done = subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        if "tracing is not allowed" in done.stderr:
            pytest.skip(done.stderr.strip())
        assert done.returncode == status, done.stderr
        report: dict[str, Any] = json.loads(out.read_text())
        return report | {"stdout": done.stdout}

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A megabyte."""
    file = tmp_path / "data"
    file.write_bytes(b"DATA" * (1 << 18))
    return file


@pytest.fixture
def direct(data: Path) -> Path:
    """A megabyte on a file system that has O_DIRECT."""
    try:
        os.close(os.open(data, os.O_RDONLY | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"{data.parent} has no O_DIRECT: {error.strerror}")
    return data


def fio(binary: str, job: str, data: Path) -> list[str]:
    return [binary, str(JOBS / f"{job}.fio"), f"--filename={data}", f"--output={data.parent / 'fio.out'}"]


def python(name: str, *words: str) -> list[str]:
    return [sys.executable, "-B", str(PROGRAMS / name), *words]

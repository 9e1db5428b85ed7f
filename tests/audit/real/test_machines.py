"""RDMA programs, and a reader whose data is lost, on other kernels: each in one virtual machine with soft-RoCE.

The programs are this machine's, and so is what watches them in there; what each does on which kernel, and what is to be
found: docs/audited-programs.md.
"""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cowcatcher.audit.finding import Severity
from cowcatcher.audit.live.build import shim_path
from cowcatcher.kernels import Kernel, kernel_of_release
from cowcatcher.real import images
from cowcatcher.real.images import KernelImage
from cowcatcher.real.qemu import EMULATOR, VmError
from cowcatcher.real.userland import OUT, RDMA, run_userland
from cowcatcher.real.vm import version_of

from .audits import HERE, PROGRAMS, Seen, audit, size
from .conftest import CACHE, Need, python

#: The kernels, and whether each says that it copies registered memory at fork.
SAYS_SO = {"5.10-full": False, "6.1-full": True}
#: Soft-RoCE on a network device that goes nowhere; a block device on which every read takes 200 ms.
SCRIPT = f"""
ip link set lo up
ip link add d0 type dummy && ip addr add 10.1.0.1/24 dev d0 && ip link set d0 up
rdma link add rxe0 type rxe netdev d0
rdma system
head -c 4096 /dev/zero | tr '\\0' D >/dev/ram0
echo "0 8192 delay /dev/ram0 0 200" | dmsetup create slow
for try in 1 2 3 4 5 6 7 8 9 10; do ibv_devinfo -v | grep -q ffff:10.1.0.1 && break; sleep 0.3; done
cd /tmp
export PYTHONPATH={HERE.parents[2]} PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=$OUT/cache
exec {sys.executable} -m tests.audit.real.in_machine $OUT/jobs
"""
SAFE = {"RDMAV_FORK_SAFE": "1"}
PINGPONG = ["ibv_rc_pingpong", "-d", "rxe0", "-g", "1", "-n", "20", "-s", "4096"]
WRITE_BW = ["ib_write_bw", "-d", "rxe0", "-x", "1", "-n", "20", "-s", "4096", "-F"]


def forks(*words: str) -> list[str]:
    return [f"{OUT}/rdma_forks", *words]


def reader(*words: str) -> list[str]:
    return python("reader.py", "/dev/dm-0", *words)


JOBS: list[dict[str, Any]] = [
    {"name": "page", "command": forks("page")},
    {"name": "page, protected", "command": forks("init", "page")},
    {"name": "malloc", "command": forks("malloc", "touch")},
    {"name": "malloc, protected", "command": forks("init", "malloc", "touch")},
    {"name": "malloc, by environment", "command": forks("malloc", "touch"), "env": SAFE},
    {"name": "read", "command": reader()},
    {"name": "read, protected", "command": reader("dontfork")},
    {"name": "read, fork later", "command": reader("later")},
    {"name": "pingpong", "command": PINGPONG, "client": [*PINGPONG, "10.1.0.1"], "env": SAFE},
    {"name": "write_bw", "command": WRITE_BW, "client": [*WRITE_BW, "10.1.0.1"], "env": SAFE},
]


class Machine:
    """What came of one machine."""

    def __init__(self, kernel: Kernel, out: Path) -> None:
        self._kernel, self._out = kernel, out

    def said(self, job: str) -> str:
        return (self._out / f"{job}.out").read_text()

    def seen(self, job: str) -> Seen:
        return audit(pickle.loads((self._out / f"{job}.events").read_bytes()), self._kernel)


def run(image: KernelImage, out: Path) -> Machine:
    (out / "jobs").write_text(json.dumps(JOBS))
    came = run_userland(SCRIPT, image, out, modules=(*RDMA, "brd", "dm_mod", "dm_delay"), timeout=150)
    assert came.status == 0, came.stderr
    copies = re.search(r"copy-on-fork (\w+)", came.stdout)
    assert copies is not None
    assert (copies[1] == "on") is SAYS_SO[image.name]
    return Machine(kernel_of_release(version_of(image)), out)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, need: Need) -> Iterator[dict[str, Future[Machine]]]:
    """One machine for each kernel that is there, side by side; each does everything: starting one takes longer."""
    for program, package in [
        (EMULATOR, "qemu-system-x86"), ("strace", "strace"), ("rdma", "iproute2"), ("dmsetup", "dmsetup"),
        ("ibv_rc_pingpong", "ibverbs-utils"), ("ib_write_bw", "perftest"), ("cc", "gcc"),
    ]:  # fmt: skip
        need(program, package)
    places = {name: tmp_path_factory.mktemp("out") for name in SAYS_SO}
    with pytest.MonkeyPatch.context() as patch:
        for out in places.values():
            source = str(PROGRAMS / "rdma_forks.c")
            build = ["cc", "-O1", "-Wall", "-Wextra", source, "-o", str(out / "rdma_forks"), "-libverbs"]
            if subprocess.run(build, capture_output=True, check=False).returncode:
                pytest.skip("rdma-core's headers are not there: `apt install libibverbs-dev`")
            patch.setenv("XDG_CACHE_HOME", str(out / "cache"))
            shim_path()  # built here: emulated, a compiler takes its time
        if CACHE is None:
            patch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            patch.setenv("XDG_CACHE_HOME", CACHE)
        there = [image for image in images.installed() if image.name in SAYS_SO]
        with ThreadPoolExecutor(len(SAYS_SO)) as pool:
            yield {image.name: pool.submit(run, image, places[image.name]) for image in there}


@pytest.fixture(params=list(SAYS_SO))
def machine(request: pytest.FixtureRequest, machines: dict[str, Future[Machine]]) -> Machine:
    if request.param not in machines:
        pytest.skip(f"that kernel is not installed: cowcatcher kernels install {request.param}")
    try:
        return machines[request.param].result()
    except VmError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("job", ["page", "page, protected"])
def test_the_device_stays_with_its_owner(machine: Machine, job: str) -> None:
    assert machine.said(job) == "device sees b\nowner sees c\nchild exited 0\n"


def test_what_fork_copies_needs_no_cure(machine: Machine) -> None:
    found = machine.seen("page").of("fork-shares-pinned")
    assert size(found) == 8192
    assert found.severity is Severity.GOOD
    assert found.judged is not None
    assert found.judged.here is not None
    assert found.judged.here.verdict == "holds"


@pytest.mark.parametrize("job", ["malloc, protected", "malloc, by environment"])
def test_protection_kills_a_child(machine: Machine, job: str) -> None:
    """On a kernel that needs none of it, too."""
    assert machine.said(job).endswith("child killed by Segmentation fault\n")
    seen = machine.seen(job)
    assert seen.of("dontfork-neighbours").severity is Severity.ERROR
    assert "fork-protection" in seen.rules


def test_without_protection_the_child_lives(machine: Machine) -> None:
    assert machine.said("malloc").endswith("child exited 0\n")
    assert not [f for f in machine.seen("malloc").findings if f.severity is Severity.ERROR]


@pytest.mark.parametrize("job", ["pingpong", "write_bw"])
def test_programs_that_fork_nobody(machine: Machine, job: str) -> None:
    seen = machine.seen(job)
    assert not [f for f in seen.findings if f.severity in (Severity.ERROR, Severity.WARNING)]
    assert "RDMAV_FORK_SAFE" in seen.of("fork-protection").title


@pytest.mark.parametrize(("job", "arrived"), [("read", 3), ("read, protected", 4), ("read, fork later", 4)])
def test_a_read_that_a_fork_takes_away(machine: Machine, job: str, arrived: int) -> None:
    """Both kernels take a plain reference for it, and the first to write gets the copy."""
    assert machine.said(job) == f"{arrived} of 4 arrived\n"
    seen = machine.seen(job)
    if arrived == 4:
        assert not [f for f in seen.findings if f.rule == "direct-io-across-fork" and f.ranges]
    else:
        found = seen.of("direct-io-across-fork")
        assert found.severity is Severity.ERROR
        assert size(found) == 512

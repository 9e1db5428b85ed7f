"""Recordings of real programs, shortened: found is what was worked out by hand (docs/audited-programs.md)."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from cowcatcher.audit.finding import Severity
from cowcatcher.kernels import kernel_of_release

from .audits import RECORDINGS, audit_file, ranges, violated

OLD_FORK = ["v5.7..v5.9-rc4"]  # a pinned page is shared by fork: 70e806e4e645
PLAIN_DIRECT = ["v5.7..v6.3"]  # O_DIRECT takes a reference that fork does not see: a7e689dd1c06
EVERYWHERE = ["v5.7..v7.3"]
#: UNSURE: no trace tells on what filesystem a file lies, and on NFS no kernel takes a pin.
GOOD, ERROR, UNSURE = Severity.GOOD, Severity.ERROR, Severity.UNSURE


class Wanted(NamedTuple):
    rule: str
    ranges: list[str]
    violated: list[str]
    on_6_1: Severity
    on_6_18: Severity


BY_HAND: dict[str, list[Wanted]] = {
    "ring_jobs": [],
    "ring_then_fork": [Wanted("fork-shares-pinned", ["0x7f4a18002000-0x7f4a1800a000"], OLD_FORK, GOOD, GOOD)],
    "ring_and_shell": [],
    "workers": [Wanted("fork-shares-pinned", ["0x7f63309bc000-0x7f63309c0000"], OLD_FORK, GOOD, GOOD)],
    "workers-leave": [
        Wanted("fork-shares-pinned", ["0x7fa0031f5000-0x7fa0031f9000"], OLD_FORK, GOOD, GOOD),
        Wanted("freed-while-pinned", ["0x7fa0031f5000-0x7fa0031f9000"], EVERYWHERE, Severity.NOTE, Severity.NOTE),
    ],
    "workers-shared": [],
    "workers-dontfork": [],
    "workers-subprocess": [],
    "workers-preexec": [Wanted("fork-shares-pinned", ["0x7f5983211000-0x7f5983215000"], OLD_FORK, GOOD, GOOD)],
    "reader": [Wanted("direct-io-across-fork", ["0x7fc73e232000-0x7fc73e232200"], PLAIN_DIRECT, ERROR, GOOD)],
    "reader-dontfork": [],
    "reader-later": [],
    "rdma_page": [Wanted("fork-shares-pinned", ["0x7f46dd631000-0x7f46dd633000"], OLD_FORK, GOOD, GOOD)],
    "rdma_malloc_touch": [Wanted("fork-shares-pinned", ["0x55d4ba09cf20-0x55d4ba09d308"], OLD_FORK, GOOD, GOOD)],
    "rdma_init_malloc_touch": [
        Wanted("dontfork-neighbours", ["0x56449f691000-0x56449f691f60"], EVERYWHERE, ERROR, ERROR)
    ],
    "rdma_env_malloc_touch": [
        Wanted("dontfork-neighbours", ["0x562f43eab000-0x562f43eabf60"], EVERYWHERE, ERROR, ERROR)
    ],
    "rdma_pingpong.0": [],
}
#: Said of these beside what is above: who switched protection on, and that pages are shared with others.
REMARKS = {"fork-protection", "partial-page", "lost-sight"}


@pytest.mark.parametrize("release", ["6.1.0", "6.18.44"])
@pytest.mark.parametrize("name", BY_HAND)
def test_what_is_found_is_what_was_worked_out(name: str, release: str) -> None:
    seen = audit_file(RECORDINGS / f"{name}.strace", kernel_of_release(release))
    graver = [f for f in seen.findings if f.rule not in REMARKS and f.ranges]  # without any: that all is in order
    found = [(f.rule, ranges(f), violated(f), f.severity) for f in graver]
    wanted = [(w.rule, w.ranges, w.violated, w.on_6_1 if release == "6.1.0" else w.on_6_18) for w in BY_HAND[name]]
    assert found == wanted


def test_a_queue_of_direct_reads_is_in_flight_across_the_fork() -> None:
    """Which seven or eight of the eight buffers, the trace does not tell: docs/audited-programs.md has the excerpt."""
    seen = audit_file(RECORDINGS / "queue_then_fork.strace", kernel_of_release("6.18.44"))
    found = seen.of("direct-io-across-fork")
    assert found.severity is UNSURE
    assert violated(found) == PLAIN_DIRECT
    assert all(0x7F9FACC4F000 <= one.start < one.end <= 0x7F9FACD4F000 for one in found.ranges)


def test_a_daemon_loses_what_its_ring_reads() -> None:
    """The ring's pages stayed with a process that is gone; seen on 6.18 (it logs what it had put there itself)."""
    seen = audit_file(RECORDINGS / "daemon.strace", kernel_of_release("6.18.44"))
    (found,) = (f for f in seen.findings if "goes on" in f.title)
    assert found.rule == "fork-shares-pinned"
    assert ranges(found) == ["0x7f1f3bdc3000-0x7f1f3bdc5000"]
    assert found.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("rdma_init_page", "by rdma_forks"),
        ("rdma_env_malloc_touch", "by the environment: RDMAV_FORK_SAFE=1"),
        ("rdma_pingpong.1", "by the environment: RDMAV_FORK_SAFE=1"),
        ("rdma_write_bw.1", "by the environment: RDMAV_FORK_SAFE=1"),
    ],
)
def test_who_switched_protection_on(name: str, by: str) -> None:
    found = audit_file(RECORDINGS / f"{name}.strace", kernel_of_release("6.1.0")).of("fork-protection")
    assert found.title.endswith(by)
    assert found.times == 1


@pytest.mark.parametrize(
    "name", ["rdma_init_page", "rdma_init_malloc_touch", "rdma_env_malloc_touch", "rdma_pingpong.1"]
)
def test_protection_that_nobody_needs_is_told(name: str) -> None:
    """6.1 copies pinned pages at fork, and rdma-core 44 knows; who calls ibv_fork_init() gets it all the same."""
    seen = audit_file(RECORDINGS / f"{name}.strace", kernel_of_release("6.1.0"))
    assert seen.of("fork-protection").severity in {Severity.GOOD, Severity.NOTE, Severity.WARNING}

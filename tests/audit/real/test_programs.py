"""Programs from the package archives and Python's own, run under audit: found is what was worked out by hand.

What each does, and why that is or is not at risk: docs/audited-programs.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cowcatcher.audit.finding import Severity
from cowcatcher.kernels import Kernel

from .audits import Seen, audit_file, size
from .conftest import Live, Need, Record, fio, python

ALARMS = {"error", "warning"}
RISKS = {"fork-shares-pinned", "direct-io-across-fork"}


def alarms(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(f["rule"], f["title"]) for f in report["findings"] if f["severity"] in ALARMS]


def risks_told(report: dict[str, Any]) -> dict[str, int]:
    """As :func:`risks`, of a report."""
    found = [f for f in report["findings"] if f["rule"] in RISKS and f["ranges"]]
    return {f["rule"]: sum(r["end"] - r["start"] for r in f["ranges"]) for f in found}


def risks(seen: Seen) -> dict[str, int]:
    """Rules and bytes, without remarks, such as that all is in order."""
    return {f.rule: size(f) for f in seen.findings if f.rule in RISKS and f.ranges}


# --- fio --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "risk"),
    [
        ("ring_jobs", {}),  # forked before they register
        ("ring_then_fork", {"fork-shares-pinned": 8 * 4096}),
        ("ring_and_shell", {}),  # system() shares the memory
        ("plain_jobs", {}),
    ],
)
def test_fio(
    job: str, risk: dict[str, int], need: Need, record: Record, live: Live, direct: Path, here: Kernel
) -> None:
    command = fio(need("fio", "fio"), job, direct)
    seen = audit_file(record(command), here)
    assert risks(seen) == risk
    report = live(command)
    assert risks_told(report) == risk
    # Since v5.9 nothing is lost. But fio frees its buffers before it closes the ring (free_io_mem() before the engine).
    assert {rule for rule, _ in alarms(report)} == ({"freed-while-pinned"} if job.startswith("ring") else set())


def test_fio_with_reads_in_flight(need: Need, record: Record, live: Live, direct: Path, here: Kernel) -> None:
    command = fio(need("fio", "fio"), "queue_then_fork", direct)
    seen = audit_file(record(command), here)
    found = seen.of("direct-io-across-fork")
    assert 0 < size(found) <= 8 * (128 << 10)
    assert found.judged is not None
    assert ("v5.7..v6.3", "violated") in {(g.kernel, g.verdict) for g in found.judged.groups}
    rules = {f["rule"] for f in live(command)["findings"]}
    assert rules & {"direct-io-across-fork", "lost-sight"}  # without --io what is in flight is only known by luck


# --- daemons and children ---------------------------------------------------------------------------------------------


def test_a_daemon_of_dpkg_s(need: Need, record: Record, direct: Path, here: Kernel) -> None:
    """It forks twice, closes thousands of descriptors, and fio below it registers and forks: nothing to be found."""
    daemon = [need("start-stop-daemon", "dpkg"), "--start", "--background", "--pidfile", f"{direct}.pid", "--startas"]
    first, *words = fio(need("fio", "fio"), "ring_jobs", direct)
    seen = audit_file(record([*daemon, first, "--", *words]), here)
    assert risks(seen) == {}
    assert not [f for f in seen.findings if f.severity in (Severity.ERROR, Severity.WARNING)]


@pytest.mark.parametrize(
    ("words", "much"),
    [("", 4), ("shared", 0), ("dontfork", 0), ("subprocess", 0), ("preexec", 4)],
)
def test_python_with_workers(words: str, much: int, record: Record, live: Live, data: Path, here: Kernel) -> None:
    command = python("workers.py", str(data), *words.split())
    seen = audit_file(record(command), here)
    assert risks(seen) == ({"fork-shares-pinned": much * 4096} if much else {})
    report = live(command)
    assert report["stdout"].startswith("read 512: b'DATA'")
    assert risks_told(report) == ({"fork-shares-pinned": much * 4096} if much else {})
    assert alarms(report) == []


@pytest.mark.parametrize("late", [False, True])
def test_a_daemon_that_registers_too_early(late: bool, record: Record, live: Live, data: Path, here: Kernel) -> None:
    log = data.parent / "log"
    command = python("daemon.py", str(data), str(log), *(["late"] if late else []))
    seen = audit_file(record(command), here)
    assert log.read_text() == f"read 512: {b'DATA' if late else b'aaaa'!r}\n"  # lost, and no error anywhere
    assert risks(seen) == ({} if late else {"fork-shares-pinned": 8192})
    report = live(command)
    assert [rule for rule, _ in alarms(report)] == ([] if late else ["fork-shares-pinned"])


# --- those that read and write directly -------------------------------------------------------------------------------


def test_qemu_img(need: Need, record: Record, live: Live, tmp_path: Path, direct: Path) -> None:
    qemu_img = need("qemu-img", "qemu-utils")
    subprocess.run([qemu_img, "convert", "-O", "qcow2", direct, "source.qcow2"], cwd=tmp_path, check=True)
    command = [qemu_img, "convert", "-t", "none", "-T", "none", "-O", "raw", "source.qcow2", "copy"]
    recording = record(command)
    assert "O_DIRECT" in recording.read_text(errors="replace")
    assert audit_file(recording).findings == []  # nobody forks
    assert live(command)["findings"] == []
    assert (tmp_path / "copy").read_bytes() == direct.read_bytes()


POSTGRES = Path("/usr/lib/postgresql")
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{place}'
wal_level = minimal
max_wal_senders = 0
wal_sync_method = open_datasync
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users can reach."""
    with tempfile.TemporaryDirectory(prefix="cowcatcher-") as made:
        yield Path(made)


def test_postgresql(need: Need, record: Record, place: Path) -> None:
    """Its log goes out with O_DIRECT, while the postmaster forks: from shared memory, so nothing is at risk."""
    need("setpriv", "util-linux")
    binaries = sorted(POSTGRES.glob("*/bin")) or [Path(need("initdb", "postgresql")).resolve().parent]
    user = "postgres"
    try:
        shutil.chown(place, user)
    except (LookupError, PermissionError) as error:
        pytest.skip(f"cannot become the user {user}: {error}")
    script = place / "script"
    script.write_text(
        f"set -e; PATH={binaries[-1]}:$PATH; cd {place}\ninitdb -D d -A trust -N >/dev/null\n"
        f"cat >>d/postgresql.conf <<'X'\n{SETTINGS.format(place=place)}\nX\n"
        f"pg_ctl -D d -w -l log start >/dev/null\n"
        f"psql -h {place} -d postgres -qc 'create table t(a int); insert into t select generate_series(1, 2000)'\n"
        f"pg_ctl -D d -w -m fast stop >/dev/null\n"
    )
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    recording = record([*become, "sh", str(script)])
    text = recording.read_text(errors="replace")
    assert "O_DSYNC|O_DIRECT" in text
    seen = audit_file(recording)
    assert [f for f in seen.findings if f.ranges] == []


MARIADB = """
[mariadbd]
datadir = {place}/data
innodb_flush_method = O_DIRECT
innodb_buffer_pool_size = 16M
innodb_log_file_size = 8M
skip-networking
socket = {place}/socket
"""


def test_mariadb(need: Need, record: Record, live: Live, tmp_path: Path) -> None:
    """liburing madvises its ring DONTFORK; mariadbd makes threads only. What its ring reads is not in a trace."""
    install = need("mariadb-install-db", "mariadb-server")
    options = ["--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"]

    def command(name: str) -> list[str]:
        settings = tmp_path / f"{name}.cnf"
        settings.write_text(MARIADB.format(place=tmp_path / name))
        return [install, f"--defaults-file={settings}", *options, f"--datadir={tmp_path / name / 'data'}"]

    seen = audit_file(record(command("recorded")))
    assert [f for f in seen.findings if f.severity not in (Severity.NOTE, Severity.GOOD, Severity.UNSURE)] == []
    assert risks(seen) == {}
    assert alarms(live(command("live"))) == []


# --- a process that is there already ----------------------------------------------------------------------------------


def test_a_server_that_is_attached_to(need: Need, data: Path, tmp_path: Path) -> None:
    """Its ring and its buffers are known from /proc; the fork is seen, and nothing of it is disturbed."""
    need("strace", "strace")
    out = tmp_path / "report.json"
    server = subprocess.Popen(
        python("workers.py", str(data), "pause"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline().startswith("at registered")
    words = [sys.executable, "-m", "cowcatcher", "audit", "-p", str(server.pid), "--json", "-o", str(out)]
    audit = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])})
    end = time.monotonic() + 20
    while not traced(server.pid):
        assert audit.poll() is None, "the audit has ended: may processes be traced here?"
        assert time.monotonic() < end
        time.sleep(0.05)
    said = server.communicate("\n\n\n", timeout=20)[0]
    assert "read 512: b'DATA'" in said
    assert server.returncode == 0
    assert audit.wait(20) == 0
    report = json.loads(out.read_text())
    assert risks_told(report) == {"fork-shares-pinned": 4 * 4096}
    assert alarms(report) == []


def traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()

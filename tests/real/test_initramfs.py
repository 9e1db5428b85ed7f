"""The archive that a virtual machine starts from, read back by a reader of our own and by cpio."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from cowcatcher.real.initramfs import Entry, initramfs, newc


def read(archive: bytes) -> list[Entry]:
    """Every entry up to the trailer, as newc(5) lays them out."""
    entries: list[Entry] = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, major, minor, name_size = fields[1], fields[6], fields[9], fields[10], fields[11]
        start = at + 110
        name = archive[start : start + name_size]
        assert name.endswith(b"\0")
        data = -(-(start + name_size) // 4) * 4
        at = -(-(data + size) // 4) * 4
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return entries
        entries.append(Entry(name[:-1].decode(), mode, archive[data : data + size], (major, minor)))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 4095, 4096])
def test_what_is_written_can_be_read(size: int) -> None:
    entries = [
        Entry("d", stat.S_IFDIR | 0o755),
        *(Entry("d/" + "n" * length, stat.S_IFREG | 0o644, b"x" * size) for length in range(1, 6)),
        Entry("null", stat.S_IFCHR | 0o666, device=(1, 3)),
    ]
    assert read(newc(entries)) == entries


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    agent, first, second = tmp_path / "agent-1", tmp_path / "zsmalloc.ko", tmp_path / "a_zram.ko"
    for path in (agent, first, second):
        path.write_bytes(path.name.encode())
    return initramfs(agent, "test 0 1000 0\nrun\n", [first, second])


def test_what_init_expects_is_there(archive: bytes) -> None:
    entries = {entry.name: entry for entry in read(archive)}
    assert entries["init"].data == b"agent-1"
    assert entries["init"].mode == stat.S_IFREG | 0o755
    assert entries["tests"].data == b"test 0 1000 0\nrun\n"
    assert entries["modules"].data == b"/zsmalloc.ko\n/a_zram.ko\n"
    assert entries["zsmalloc.ko"].data == b"zsmalloc.ko"
    assert entries["dev/console"].device == (5, 1)
    assert stat.S_ISCHR(entries["dev/console"].mode)
    assert list(entries).index("dev") < list(entries).index("dev/console")


def test_the_same_contents_give_the_same_bytes(tmp_path: Path, archive: bytes) -> None:
    agent = tmp_path / "agent-1"
    agent.touch()
    assert initramfs(agent, "test 0 1000 0\nrun\n", [tmp_path / "zsmalloc.ko", tmp_path / "a_zram.ko"]) == archive


def test_cpio_can_read_it(archive: bytes) -> None:
    cpio = shutil.which("cpio")
    if cpio is None:
        pytest.skip("no cpio on this machine")
    listed = subprocess.run([cpio, "-t", "--quiet"], input=archive, capture_output=True, check=True)
    assert listed.stdout.decode().split() == [entry.name for entry in read(archive)]
    assert listed.stderr == b""

"""The first file system of a virtual machine: the agent as /init, modules, tests, as the kernel unpacks it.

The format is cpio's "newc" (Documentation/driver-api/early-userspace/buffer-format.rst). It is left uncompressed:
every kernel reads that, whatever decompressors it was built with, and under emulation unpacking would cost more than it
saves.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

MODULES: Final = "modules"  # see init.c for both
TESTS: Final = "tests"


class Entry(NamedTuple):
    """A file, a directory or a device node; ``mode`` with the type, as stat(2) has it."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def newc(entries: Iterable[Entry]) -> bytes:
    """The archive. A directory has to come before what is in it."""
    parts = [_record(number, entry) for number, entry in enumerate(entries, 1)]
    return b"".join([*parts, _record(0, Entry("TRAILER!!!", 0))])


def _record(inode: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links, nobody, no_time, unchecked = 1, 0, 0, 0
    fields = (
        inode, entry.mode, nobody, nobody, links, no_time, len(entry.data), 0, 0, *entry.device, len(name), unchecked,
    )  # fmt: skip
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def initramfs(agent: Path, tests: str, modules: Sequence[Path] = ()) -> bytes:
    """What init.c expects to find. ``modules`` are plain .ko files in the order in which they are to be loaded."""
    directory, program, text = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
    entries = [Entry("dev", directory), Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))]
    paths = []
    for module in modules:
        paths.append(f"/{module.name}\n")
        entries.append(Entry(module.name, text, module.read_bytes()))
    entries += [
        Entry("init", program, agent.read_bytes()),
        Entry(MODULES, text, "".join(paths).encode()),
        Entry(TESTS, text, tests.encode()),
    ]
    return newc(entries)

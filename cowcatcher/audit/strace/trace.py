"""A file of strace's output, as lines: whatever the file is."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

#: Longer lines are cut: a list of all 16,384 buffers of a ring, with decorations, is shorter.
LONGEST = 1 << 21
_CHUNK = 1 << 18

#: Packed files, by their first bytes: (what it is, the program that unpacks it).
_PACKED = {
    b"\x1f\x8b": ("gzip", "zcat"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
    b"\xfd7zXZ": ("xz", "xzcat"),
    b"BZh": ("bzip2", "bzcat"),
}


class TraceError(Exception):
    """The file cannot be read as a trace, and why."""


def open_trace(path: str) -> Iterator[str]:
    """The lines of ``path``, of the standard input for "-", without their ends. TraceError comes first.

    Bytes that are not UTF-8 are replaced, a line longer than ``LONGEST`` is cut there. From a pipe, lines come as they
    are written.
    """
    name = "the standard input" if path == "-" else path
    try:
        descriptor = os.dup(sys.stdin.fileno()) if path == "-" else os.open(path, os.O_RDONLY)
    except (OSError, ValueError) as why:
        raise TraceError(f"{name}: {getattr(why, 'strerror', None) or why}") from None
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise TraceError(
                f"{name} is a directory: give one of the files in it (strace -ff writes one for each task)"
            )
        first = os.read(descriptor, _CHUNK)
        _check(name, first)
    except OSError as why:
        os.close(descriptor)
        raise TraceError(f"{name}: {why.strerror}") from None
    except TraceError:
        os.close(descriptor)
        raise
    return _lines(name, descriptor, first)


def _check(name: str, first: bytes) -> None:
    if not first:
        raise TraceError(f"{name} is empty")
    for magic, (kind, unpack) in _PACKED.items():
        if first.startswith(magic):
            file = "FILE" if name == "the standard input" else Path(name).name
            raise TraceError(
                f"{name} is compressed ({kind}); unpacked it can be read: {unpack} {file} | cowcatcher audit --strace -"
            )
    if first.startswith(b"\x7fELF"):
        raise TraceError(f"{name} is a program, no trace: cowcatcher audit -- {name} watches it")
    if first.count(0) > len(first) // 10:
        raise TraceError(f"{name} is binary, no output of strace")


def _lines(name: str, descriptor: int, first: bytes) -> Iterator[str]:
    with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)) as file:
        kept: list[bytes] = []  # of the line that is not complete
        size = 0
        chunk: bytes | None = first
        while chunk:
            last = chunk.rfind(b"\n")
            if last < 0:
                if size < LONGEST:
                    kept.append(chunk[: LONGEST - size])
                    size += len(kept[-1])
            else:
                kept.append(chunk[:last])
                for line in b"".join(kept).decode("utf-8", "replace").split("\n"):
                    yield line if len(line) <= LONGEST else line[:LONGEST]
                kept, size = [chunk[last + 1 :]], len(chunk) - last - 1
            try:
                chunk = file.read(_CHUNK)
            except OSError as why:
                raise TraceError(f"{name}: {why.strerror}") from None
        if size:
            yield b"".join(kept).decode("utf-8", "replace")

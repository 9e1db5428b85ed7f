"""Enough of an executable's header to say whether a library can be preloaded into it."""

from __future__ import annotations

import os
import shutil
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

_PT_LOAD = 1
_PT_DYNAMIC = 2
_PT_INTERP = 3
_DT_NEEDED = 1
_DT_STRTAB = 5
#: They want to be the first of all libraries, and replace the same functions.
_SANITIZERS = ("libasan.", "libtsan.", "libhwasan.", "liblsan.", "libclang_rt.")
#: os.uname().machine, and what <elf.h> calls it.
_MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243, "s390x": 22, "ppc64le": 21}
#: Words of the sanitizers, of which nothing else need be left where they are linked in.
_LINKED_STATICALLY = ((b"verify_asan_link_order\0", b"libasan.a"), (b"WARNING: ThreadSanitizer: ", b"libtsan.a"))
_SEARCHED = 64 << 20


@dataclass(frozen=True, slots=True)
class Elf:
    """``interpreter`` is the dynamic linker, "" if there is none. ``machine`` is 0 if it is not of 64 bits."""

    path: Path
    machine: int
    interpreter: str
    privileged: bool = False  # setuid, setgid
    needs: tuple[str, ...] = ()

    def refuses(self) -> str:
        """Why the shim is not loaded into it; "" if it is."""
        if not self.machine or self.machine != _MACHINES.get(os.uname().machine, self.machine):
            return "it is for another architecture"
        if not self.interpreter:
            return "it is linked statically"
        if "ld-linux" not in self.interpreter and "ld64" not in self.interpreter:
            return f"it has another C library, {Path(self.interpreter).name}"
        if self.privileged and os.geteuid():
            return "it runs as another user"
        if sanitizer := next((name for name in self.needs if name.startswith(_SANITIZERS)), None):
            return (
                f"it is built with {sanitizer}, which wants to be the first library; if that looks for leaks, which it "
                "cannot below any tracer, set ASAN_OPTIONS=detect_leaks=0"
            )
        return ""


def program_of(name: str, depth: int = 4) -> Elf | None:
    """The executable that exec of ``name`` runs: of a script its interpreter. None if there is no such program."""
    found = shutil.which(name)
    if not found or not depth:
        return None
    path = Path(found)
    try:
        with path.open("rb") as file:
            head = file.read(256)
            if head.startswith(b"#!"):
                words = head[2:].split(b"\n")[0].split()
                return program_of(os.fsdecode(words[0]), depth - 1) if words else None
            file.seek(0)
            program = _read(path, file.read(4096), bool(path.stat().st_mode & 0o6000))
            return replace(program, needs=_needs(file)) if program.interpreter else program
    except OSError:
        return Elf(path, 0, "")  # may be executed, though not read: nothing is known of it


def _read(path: Path, head: bytes, privileged: bool) -> Elf:
    if head[:4] != b"\x7fELF" or len(head) < 64 or head[4] != 2:
        return Elf(path, 0, "", privileged)
    order = "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    (table,) = struct.unpack_from(f"{order}Q", head, 32)
    size, count = struct.unpack_from(f"{order}HH", head, 54)
    for i in range(count):
        at = table + i * size
        if at + 56 > len(head):
            break
        kind, _, offset, _, _, length = struct.unpack_from(f"{order}IIQQQQ", head, at)
        if kind == _PT_INTERP:
            return Elf(path, machine, head[offset : offset + length].rstrip(b"\0").decode(errors="replace"), privileged)
    return Elf(path, machine, "", privileged)


def _needs(file: BinaryIO) -> tuple[str, ...]:
    """The libraries that an executable of 64 bits is linked with; none where that cannot be read."""

    def at(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    try:
        head = at(0, 64)
        order = "<" if head[5] == 1 else ">"
        (table,) = struct.unpack_from(f"{order}Q", head, 32)
        size, count = struct.unpack_from(f"{order}HH", head, 54)
        parts = [struct.unpack_from(f"{order}IIQQQQ", at(table + i * size, 56)) for i in range(min(count, 64))]
        offset, length = next((part[2], part[5]) for part in parts if part[0] == _PT_DYNAMIC)
        entries = list(struct.iter_unpack(f"{order}qQ", at(offset, min(length, 1 << 16) & ~15)))
        strings = next(value for tag, value in entries if tag == _DT_STRTAB)
        place = next(p[2] + strings - p[3] for p in parts if p[0] == _PT_LOAD and p[3] <= strings < p[3] + p[5])
        names = [at(place + value, 256).split(b"\0")[0] for tag, value in entries if tag == _DT_NEEDED]
        text = at(0, _SEARCHED)
        names += [name for mark, name in _LINKED_STATICALLY if mark in text]
    except (OSError, OverflowError, struct.error, StopIteration, IndexError):
        return ()
    return tuple(name.decode(errors="replace") for name in names)

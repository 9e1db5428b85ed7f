"""Where the fields of the kernel's structures are: from its own description (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

KERNEL: Final = Path("/sys/kernel/btf/vmlinux")

_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG, _ENUM64 = (
    1,
    3,
    4,
    5,
    6,
    13,
    14,
    15,
    17,
    19,
)
#: What follows a type: so many bytes for each of its parts, or once.
_EACH: Final = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_ONCE: Final = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_TYPE: Final = struct.Struct("=III")
_MEMBER: Final = struct.Struct("=III")


class NotThere(Exception):
    """There is no such structure, or no such field in it."""


class Btf:
    """The structures that are named in ``wanted``, and what they are made of."""

    def __init__(self, data: bytes, wanted: set[str]) -> None:
        magic, _, _, size, types, length, strings, _ = struct.unpack_from("=HBBIIIII", data)
        if magic != 0xEB9F:
            raise NotThere("this is no BTF")
        self._data, self._strings = data, size + strings
        self._places: list[int] = [0]  # by number of the type
        self._named: dict[str, int] = {}
        self._walk(size + types, size + types + length, {self._offset(name): name for name in wanted})

    def _offset(self, name: str) -> int:
        at = self._data.find(b"\0" + name.encode() + b"\0", self._strings)
        if at < 0:
            raise NotThere(f"struct {name}")
        return int(at + 1 - self._strings)

    def _walk(self, at: int, end: int, wanted: dict[int, str]) -> None:
        data, places, unpack = self._data, self._places, _TYPE.unpack_from
        while at < end:
            name, info, _ = unpack(data, at)
            places.append(at)
            kind = info >> 24 & 31
            if kind == _STRUCT and name in wanted:
                self._named[wanted[name]] = at
            at += 12 + (_EACH[kind] * (info & 0xFFFF) if kind in _EACH else _ONCE.get(kind, 0))

    def field(self, structure: str, *path: str) -> int:
        """How many bytes from the start of ``structure`` the field is; a path leads through structures in it."""
        if structure not in self._named:
            raise NotThere(f"struct {structure}")
        at, total = self._named[structure], 0
        for name in path:
            found = self._member(at, name.encode())
            if found is None:
                raise NotThere(f"struct {structure}: {'.'.join(path)}")
            offset, which = found
            total += offset
            at = self._places[which]
        return total

    def _member(self, at: int, name: bytes) -> tuple[int, int] | None:
        """(bytes, type) of a member, of those without a name, too."""
        _, info, _ = _TYPE.unpack_from(self._data, at)
        for i in range(info & 0xFFFF):
            called, which, bits = _MEMBER.unpack_from(self._data, at + 12 + 12 * i)
            offset = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            if called:
                start = self._strings + called
                if self._data.startswith(name + b"\0", start):
                    return offset, which
            elif self._is_structure(which) and (inside := self._member(self._places[which], name)):
                return offset + inside[0], inside[1]
        return None

    def _is_structure(self, which: int) -> bool:
        info: int = _TYPE.unpack_from(self._data, self._places[which])[1]
        return info >> 24 & 31 in (_STRUCT, _UNION)

# SPDX-License-Identifier: Apache-2.0
"""io_uring without a library: a ring of few entries, buffers registered with it, and one read at a time."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_BUFFERS, _READ_FIXED, _GETEVENTS, _SINGLE_MMAP = 0, 4, 1, 1
_SQES = 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())} (system call {number})")
    return result


def address(buffer: bytearray | mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Ring:
    def __init__(self) -> None:
        parameters = bytearray(120)
        self.fd = _call(_SETUP, 4, ctypes.c_void_p(address(parameters)))
        words = struct.unpack_from("<30I", parameters)
        assert words[5] & _SINGLE_MMAP
        self._tail, self._mask, self._array = words[11], words[12], words[16]
        self._head_done, self._cqes, self._cq_mask = words[20], words[25], words[22]
        size = max(self._array + 4 * words[0], self._cqes + 16 * words[1])
        self._rings = mmap.mmap(self.fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._sqes = mmap.mmap(self.fd, 64 * words[0], mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=_SQES)

    def close(self) -> None:
        """Its buffers are given back with it: when nobody has it open, and mmap objects do, each by a descriptor."""
        self._rings.close()
        self._sqes.close()
        os.close(self.fd)

    def register(self, *ranges: tuple[int, int]) -> None:
        vector = b"".join(struct.pack("<QQ", *one) for one in ranges)
        _call(_REGISTER, self.fd, _BUFFERS, ctypes.c_char_p(vector), len(ranges))

    def read(self, file: int, where: int, size: int, offset: int, buffer: int) -> int:
        """Into the registered buffer of that number; the number of bytes."""
        (tail,) = struct.unpack_from("<I", self._rings, self._tail)
        (mask,) = struct.unpack_from("<I", self._rings, self._mask)
        place = tail & mask
        entry = struct.pack("<BBHiQQIIQH", _READ_FIXED, 0, 0, file, offset, where, size, 0, 0, buffer)
        self._sqes[64 * place : 64 * place + 64] = entry.ljust(64, b"\0")
        struct.pack_into("<I", self._rings, self._array + 4 * place, place)
        struct.pack_into("<I", self._rings, self._tail, tail + 1)
        _call(_ENTER, self.fd, 1, 1, _GETEVENTS, None, ctypes.c_size_t(0))
        (head,) = struct.unpack_from("<I", self._rings, self._head_done)
        (mask,) = struct.unpack_from("<I", self._rings, self._cq_mask)
        (result,) = struct.unpack_from("<i", self._rings, self._cqes + 16 * (head & mask) + 8)
        struct.pack_into("<I", self._rings, self._head_done, head + 1)
        return int(result)

"""What the Python programs of the corpus share: corpus.h, for ctypes."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

PAGE = 4096
UNAVAILABLE = 77
_SETUP, _REGISTER = 425, 427  # the same on every architecture
_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def address_of(buffer: mmap.mmap | bytearray | memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def say(name: str, start: int, size: int) -> None:
    """Write down which bytes ``name`` is, where the test wants to know."""
    if path := os.environ.get("CORPUS_RANGES"):
        with open(path, "a") as file:
            file.write(f"{name} {start:#x}-{start + size:#x}\n")


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        print(os.strerror(ctypes.get_errno()), file=sys.stderr)
        sys.exit(UNAVAILABLE)
    return result


class Ring:
    """An io_uring, for its registered buffers."""

    def __init__(self) -> None:
        params = (ctypes.c_char * 120)()
        self.fd = _call(_SETUP, ctypes.c_uint(4), params)

    def register(self, start: int, size: int) -> None:
        _call(_REGISTER, self.fd, 0, ctypes.byref(_Iovec(start, size)), 1)

    def unregister(self) -> None:
        _call(_REGISTER, self.fd, 1, None, 0)

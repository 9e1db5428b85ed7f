"""The uncompressed kernel inside a bzImage: an emulator boots it sooner, and nothing in the guest has to unpack it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

ELF: Final = b"\x7fELF"
_SETUP_SECTORS, _BOOT_MAGIC, _VERSION, _PAYLOAD = 0x1F1, 0x202, 0x20E, 0x248  # of the x86 boot protocol
_LARGEST = 1 << 30


class NoKernel(Exception):
    """There is no kernel to be had from this file; the text says why and what to do next."""


def extract(data: bytes) -> bytes:
    """The ELF image in ``data``: a bzImage, any other wrapping that begins like a compressed file, or the ELF itself.

    Where a boot header says at which offset the payload lies, that is where it is taken from. Elsewhere every place
    that looks like a beginning is tried, as scripts/extract-vmlinux of the kernel does.
    """
    if data.startswith(ELF):
        return data
    missing: list[str] = []
    for form, payload in _payloads(data):
        try:
            found = _UNPACK[form](payload)
        except NoTool as absent:
            missing.append(str(absent))
            continue
        if found.startswith(ELF):
            return found
    if missing:
        raise NoKernel(missing[0])
    raise NoKernel("there is no compressed kernel in it, and it is no ELF file either; give a vmlinux or a bzImage")


def release(image: bytes) -> str:
    """``6.1.0-50-cloud-amd64``: what ``uname -r`` will say, from a bzImage's header or an ELF's banner; else ""."""
    if image[_BOOT_MAGIC : _BOOT_MAGIC + 4] == b"HdrS":
        (at,) = struct.unpack_from("<H", image, _VERSION)
        text = image[at + 0x200 : at + 0x200 + 256]
    else:
        at = image.find(b"Linux version ")
        text = image[at + 14 : at + 256] if at >= 0 else b""
    return text.split(b"\0")[0].split(b" ")[0].decode("ascii", "replace")


def _payloads(data: bytes) -> Iterator[tuple[str, bytes]]:
    if data[_BOOT_MAGIC : _BOOT_MAGIC + 4] == b"HdrS" and len(data) > _PAYLOAD + 8:
        offset, length = struct.unpack_from("<II", data, _PAYLOAD)
        start = ((data[_SETUP_SECTORS] or 4) + 1) * 512 + offset
        for form, magic in _MAGIC:
            if length and data.startswith(magic, start):
                yield form, data[start : start + length]
    for form, magic in _MAGIC:
        at = data.find(magic)
        while at >= 0:
            yield form, data[at:]
            at = data.find(magic, at + 1)


class NoTool(Exception):
    """A tool is missing on this machine; the text names the package that has it."""


def unzstd(data: bytes) -> bytes:
    return _outside(data, "zstd", "zstd")


def _gzip(data: bytes) -> bytes:
    import zlib

    return _leniently(zlib.decompressobj(31).decompress, data, zlib.error)


def _xz(data: bytes) -> bytes:
    import lzma

    return _leniently(lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress, data, lzma.LZMAError)


def _lzma(data: bytes) -> bytes:
    import lzma

    return _leniently(lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress, data, lzma.LZMAError)


def _bzip2(data: bytes) -> bytes:
    import bz2

    return _leniently(bz2.BZ2Decompressor().decompress, data, OSError)


def _leniently(decompress: Callable[[bytes, int], bytes], data: bytes, error: type[Exception]) -> bytes:
    """What follows the compressed stream (its length, the rest of the file) is of no interest."""
    try:
        return decompress(data, _LARGEST)
    except (error, EOFError):
        return b""


def _outside(data: bytes, tool: str, package: str) -> bytes:
    """By a tool of this machine. It complains of what follows the stream, after having written all of it."""
    import shutil
    import subprocess

    path = shutil.which(tool)
    if path is None:
        raise NoTool(f"it is compressed with {tool}, and there is no {tool} here: install the package '{package}'")
    return subprocess.run([path, "-dcq"], input=data, capture_output=True, check=False).stdout


_MAGIC: Final = (
    ("gzip", b"\x1f\x8b\x08"),
    ("xz", b"\xfd7zXZ\0"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("lz4", b"\x02\x21\x4c\x18"),
    ("bzip2", b"BZh"),
    ("lzma", b"\x5d\0\0"),
    ("lzo", b"\x89LZO\0\r\n"),
)
_UNPACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": _gzip,
    "xz": _xz,
    "zstd": unzstd,
    "lz4": lambda data: _outside(data, "lz4", "lz4"),
    "bzip2": _bzip2,
    "lzma": _lzma,
    "lzo": lambda data: _outside(data, "lzop", "lzop"),
}

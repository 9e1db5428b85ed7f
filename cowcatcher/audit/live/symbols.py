"""Names for places in a program and its libraries: the shim, which is in there, does not look them up."""

from __future__ import annotations

import bisect
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

_SHT_SYMTAB = 2
_SHT_DYNSYM = 11
_STT_FUNC = 2
_PT_LOAD = 1
_LARGEST: Final = 256 << 20
_FRAME = re.compile(r"([^<= ]+)!\+0x([0-9a-f]+)")
_FILE = re.compile(r'mq_unlink\("/cowcatcher:(?:exe|module) path=([^ "]+)')


class Symbols:
    """The functions in the symbol tables of a program or a library; none if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._base = 0
        self._functions: list[tuple[int, int, str]] = []
        try:
            if path.stat().st_size <= _LARGEST:
                self._read(path.read_bytes())
        except (OSError, struct.error, IndexError):
            self._functions = []
        self._functions.sort()

    def _read(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
            return
        headers, sections = struct.unpack_from("<QQ", data, 32)
        size, count, section_size, section_count = struct.unpack_from("<HHHH", data, 54)
        loads = [struct.unpack_from("<IIQQ", data, headers + i * size) for i in range(count)]
        self._base = min((load[3] & ~0xFFF for load in loads if load[0] == _PT_LOAD), default=0)
        table = [struct.unpack_from("<IIQQQQIIQQ", data, sections + i * section_size) for i in range(section_count)]
        for kind, at, length, strings in ((s[1], s[4], s[5], s[6]) for s in table):
            if kind in (_SHT_SYMTAB, _SHT_DYNSYM):
                self._symbols(data[at : at + length], data, table[strings][4])

    def _symbols(self, entries: bytes, data: bytes, strings: int) -> None:
        for name, info, _, _, value, size in struct.iter_unpack("<IBBHQQ", entries[: len(entries) // 24 * 24]):
            if info & 15 == _STT_FUNC and value:
                start = strings + name
                text = data[start : data.index(b"\0", start)].decode(errors="replace")
                self._functions.append((value, size, text))

    def name(self, offset: int) -> str | None:
        """What is ``offset`` bytes into the loaded file, as ``main+0x1f``; a return address: the call before counts."""
        at = self._base + offset
        i = bisect.bisect_right(self._functions, (at - 1, 1 << 64, "")) - 1
        if i < 0:
            return None
        value, size, text = self._functions[i]
        return f"{text}+{at - value:#x}" if at - 1 < value + max(size, 1) else None


def named(lines: Iterable[str]) -> Iterator[str]:
    """strace's lines, with the shim's frames named where there is a symbol table."""
    read: dict[Path, Symbols] = {}
    known: dict[str, Symbols] = {}

    def name(frame: re.Match[str]) -> str:
        symbols = known.get(unquote(frame[1]))
        found = symbols.name(int(frame[2], 16)) if symbols else None
        return f"{frame[1]}!{quote(found, safe='_./:+-@[]')}" if found else frame[0]

    for line in lines:
        if "/cowcatcher:" in line:
            if file := _FILE.search(line):
                path = Path(unquote(file[1]))
                if path not in read and len(read) < 256:
                    read[path] = Symbols(path)
                if path in read:
                    known[path.name] = read[path]
            elif "!+0x" in line:
                line = _FRAME.sub(name, line)
        yield line

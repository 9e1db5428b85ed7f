"""Whose bytes lie around a pin: glibc's malloc keeps a header before each block, and blocks lie one after the other.

Read from outside, while the program runs: every header is checked, and at the first that cannot be one nothing more is
said. malloc/malloc.c: struct malloc_chunk, "chunk size", the low three bits of which are flags.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from cowcatcher.audit.events import PAGE, Chunks, Range
from cowcatcher.audit.live.proc import mapping_at

_PREV_INUSE, _IS_MMAPPED, _NON_MAIN = 1, 2, 4
_HEADER, _SMALLEST = 16, 32
_ARENA: Final = 64 << 20  # HEAP_MAX_SIZE: arenas of threads begin at multiples of it
_MOST_CHUNKS: Final = 200_000
_MOST_READ: Final = 32 << 20
_CHAIN: Final = 4  # headers that have to follow each other for the first of them to be believed
_MOST_OWNERS: Final = 64
_PRESENT = 1 << 63


class Chunk(NamedTuple):
    """``start`` is where its header is; the program's bytes follow."""

    start: int
    size: int
    flags: int

    @property
    def end(self) -> int:
        return self.start + self.size


class _Memory:
    """Another process's memory, of which only pages are read that are there: reading others would bring them in."""

    def __init__(self, pid: int) -> None:
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        try:
            self._pages = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
        except OSError:
            os.close(self._memory)
            raise

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._memory)
        os.close(self._pages)

    def read(self, at: int, length: int) -> bytes:
        """As much of it as is there, from its beginning on."""
        first, last = at // PAGE, (at + length - 1) // PAGE
        entries = os.pread(self._pages, 8 * (last - first + 1), 8 * first)
        there = 0
        for (entry,) in struct.iter_unpack("<Q", entries[: len(entries) // 8 * 8]):
            if not entry & _PRESENT:
                break
            there += 1
        length = min(length, (first + there) * PAGE - at)
        return os.pread(self._memory, length, at) if length > 0 else b""


def chunks(pid: int, pin: Range) -> Chunks | None:
    """The blocks on the first and the last page of ``pin``; None where the memory is not glibc's, or is not read."""
    pages = pin.pages()
    where = mapping_at(pid, pin.start)
    if where is None or pages.size > _MOST_READ:
        return None
    mapping, what = where
    try:
        with _Memory(pid) as memory:
            found = list(_around(memory, mapping, what, pages))
    except (OSError, struct.error):
        return None
    return Chunks(time.time(), 0, pid, pages, tuple(found)) if found else None


def _around(memory: _Memory, mapping: Range, what: str, pages: Range) -> Iterator[tuple[Range, str]]:
    if block := _mmapped(memory, mapping, pages):
        yield Range(block.start, block.end), f"block of {block.size} bytes with a mapping of its own"
        return
    if what == "[heap]":
        first: int | None = mapping.start
    else:
        mapping = Range(max(mapping.start, pages.start // _ARENA * _ARENA), mapping.end)
        first = _first_of_arena(memory, mapping)
    if first is None:
        return
    told = 0
    chain = list(_walk(memory, Range(first, mapping.end), pages.end))
    for chunk, after in zip(chain, [*chain[1:], None], strict=False):
        edges = chunk.start < pages.start + PAGE or chunk.end > pages.end - PAGE
        if chunk.end <= pages.start or chunk.start >= pages.end or not edges or told >= _MOST_OWNERS:
            continue
        told += 1
        yield Range(chunk.start, chunk.end), _state(chunk, after)


def _state(chunk: Chunk, after: Chunk | None) -> str:
    """A chunk is in use if the next one says so; small freed ones wait in a list of their own, marked as in use."""
    if after is None:
        return f"the heap's unused end, {chunk.size} bytes"
    return f"chunk of {chunk.size} bytes {'in use' if after.flags & _PREV_INUSE else 'free'}"


def _walk(memory: _Memory, heap: Range, upto: int) -> Iterator[Chunk]:
    """Chunk by chunk from the heap's beginning to the first behind ``upto``. Nothing at all if one is not sound."""
    found: list[Chunk] = []
    at, block, base = heap.start, b"", 0
    while at < heap.end and len(found) < _MOST_CHUNKS:
        if not base <= at <= base + len(block) - _HEADER:
            base, block = at, memory.read(at, min(1 << 16, heap.end - at))
            if len(block) < _HEADER:
                return
        chunk = _chunk(block[at - base : at - base + _HEADER], at)
        if chunk.size < _SMALLEST or chunk.size % 16 or chunk.end > heap.end or chunk.flags & _IS_MMAPPED:
            return
        found.append(chunk)
        if at >= upto:
            break
        at = chunk.end
    yield from found


def _chunk(header: bytes, at: int) -> Chunk:
    _, size = struct.unpack("<QQ", header)
    return Chunk(at, size & ~7, size & 7)


def _mmapped(memory: _Memory, mapping: Range, pages: Range) -> Chunk | None:
    """A block with a mapping of its own: its header is at the beginning of a page, at or before the pin's first."""
    for at in {pages.start, mapping.start, pages.start - PAGE}:
        if at < mapping.start:
            continue
        header = memory.read(at, _HEADER)
        if len(header) < _HEADER:
            continue
        chunk = _chunk(header, at)
        whole = chunk.size % PAGE == 0 and chunk.size >= PAGE
        if chunk.flags == _IS_MMAPPED and whole and pages.start < chunk.end <= mapping.end:
            return chunk
    return None


def _first_of_arena(memory: _Memory, mapping: Range) -> int | None:
    """The arena's own records come first, as long as this release has them: look where sound headers begin."""
    base = mapping.start
    if base % _ARENA:
        return None
    for at in range(base + 0x20, base + 0x1000, 16):
        chain = []
        here = at
        for _ in range(_CHAIN):
            header = memory.read(here, _HEADER)
            if len(header) < _HEADER:
                break
            chunk = _chunk(header, here)
            if chunk.size < _SMALLEST or chunk.size % 16 or chunk.end > mapping.end:
                break
            # The last one, which is not handed out yet, need not say whose it is.
            if not chunk.flags & _NON_MAIN and chunk.end != mapping.end:
                break
            chain.append(chunk)
            here = chunk.end
            if here == mapping.end:
                return at
        if len(chain) == _CHAIN:
            return at
    return None

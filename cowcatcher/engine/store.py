"""Where states are kept: the table, the queue, parents, and the memory of it all within a bound that is stated first.

Address space for as much as the bound allows is reserved at the start, which costs nothing; ``used`` counts what has
been touched. ``room_for`` is asked before anything is added and says why there is none: nothing is ever over the bound.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cowcatcher.engine import core

_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
_LINE = 64
_FIRST_BUCKETS = 256
#: A table is made larger when it is so full, and used up to the second figure when there is no memory to do so.
FULL = 0.78
FULLEST = 0.85
_GROWTH = 1.6
_LEAST_GROWTH = 1.25
_BLOCK_BYTES = 1 << 19
#: Buckets laid aside while a table grows; more than SPARE / (1 - 1 / _LEAST_GROWTH), see core.grow.
_ASIDE = 1024
#: A state's parent and the step from there.
LINK_BYTES = 6
MOST_STATES = (1 << 31) - 2


class Reserve:
    """Address space of so many bytes, zero, that becomes memory where it is touched."""

    def __init__(self, size: int, *, huge: bool = False) -> None:
        size = max(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE, mmap.PAGESIZE)
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        if huge and hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._map, dtype=np.uint8)
        self.address = int(self.bytes.ctypes.data)

    def view(self, dtype: Any, count: int, offset: int = 0) -> NDArray[Any]:
        size = np.dtype(dtype).itemsize
        return self.bytes[offset : offset + count * size].view(dtype)

    def forget(self, size: int) -> None:
        """Zero again, and no memory, up to ``size``."""
        size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if size and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, 0, size)
        elif size:
            self.bytes[:size] = 0


class Table:
    """An open-addressing table of 64-bit entries in reserved memory; ``core`` says how it is laid out."""

    def __init__(self, bound: int, grow: Callable[..., Any]) -> None:
        self._reserve = Reserve(bound, huge=True)
        self._aside = Reserve(_ASIDE * _LINE)
        self._grow = grow
        self.address = self._reserve.address
        self.buckets = _FIRST_BUCKETS
        self.entries = 0

    @staticmethod
    def _bytes(buckets: int) -> int:
        return core.PARTS * (buckets + core.SPARE) * _LINE

    @property
    def used(self) -> int:
        return self._bytes(self.buckets)

    def makes_room(self, more: int, allowance: int) -> bool:
        """Whether ``more`` entries find a place, after growing by at most ``allowance`` bytes."""
        per_bucket = core.PARTS * 8
        wanted = self.entries + more
        if wanted <= FULL * per_bucket * self.buckets:
            return True
        target = max(int(self.buckets * _GROWTH), int(wanted / FULL / per_bucket) + 1)
        target = min(target, self.buckets + allowance // (core.PARTS * _LINE))
        if target >= _LEAST_GROWTH * self.buckets and wanted <= FULLEST * per_bucket * target:
            self._grow(self.address, self.buckets, target, self._aside.address, _ASIDE)
            self.buckets = target
        return wanted <= FULLEST * per_bucket * self.buckets

    def clear(self) -> None:
        self._reserve.forget(self.used)
        self.entries = 0

    @property
    def memory(self) -> NDArray[np.uint64]:
        return self._reserve.view(np.uint64, self.used // 8)

    def restore(self, memory: NDArray[np.uint64], entries: int) -> None:
        self.buckets = len(memory) // (core.PARTS * 8) - core.SPARE
        self.memory[:] = memory
        self.entries = entries


class Deferred:
    """States that a costed step leads to, while the level before them is not closed."""

    def __init__(self, bound: int, size: int) -> None:
        self.record = size + 8 + 4 + 2 + 1
        most = bound // self.record
        self.most = most
        self.count = 0
        self.peak = 0
        self._parts = [Reserve(most * width) for width in (size, 8, 4, 2, 1)]
        self.widths = (size, 8, 4, 2, 1)

    def addresses(self, at: int) -> list[int]:
        return [part.address + at * width for part, width in zip(self._parts, self.widths, strict=True)]

    def append(self, buffers: list[NDArray[np.uint8]], count: int) -> None:
        for part, width, buffer in zip(self._parts, self.widths, buffers, strict=True):
            part.bytes[self.count * width : (self.count + count) * width] = buffer[: count * width]
        self.count += count
        self.peak = max(self.peak, self.count)

    @property
    def used(self) -> int:
        return self.peak * self.record

    def arrays(self) -> list[NDArray[np.uint8]]:
        return [part.bytes[: self.count * width] for part, width in zip(self._parts, self.widths, strict=True)]

    def restore(self, number: int, piece: NDArray[np.uint8]) -> None:
        self._parts[number].bytes[: len(piece)] = piece

    def clear(self) -> None:
        self.count = 0


class Queue:
    """All states by number, in blocks; those of blocks that were let go are gone."""

    def __init__(self, bound: int, size: int) -> None:
        self.size = size
        self.shift = max(6, (_BLOCK_BYTES // size).bit_length() - 1)
        self.block_bytes = (size << self.shift) + _LINE
        self.most_blocks = max(bound // self.block_bytes, 1)
        self._reserve = Reserve(self.most_blocks * self.block_bytes, huge=True)
        # One address for each block that there ever was; states at most as many as the table has room for.
        self._table = Reserve(8 * (2 + (bound // 8 >> self.shift)))
        self.blocks = self._table.view(np.int64, 2 + (bound // 8 >> self.shift))
        self.touched = 0
        self.free: list[int] = []
        self.first = 0  # block that still has states
        self.end = 0  # one past the last block

    @property
    def table_address(self) -> int:
        return self._table.address

    @property
    def used(self) -> int:
        return self.touched * self.block_bytes + 8 * self.end

    def makes_room(self, states: int, allowance: int) -> bool:
        """Whether there are blocks for states numbered below ``states``, after touching at most ``allowance`` bytes."""
        need = (states + (1 << self.shift) - 1) >> self.shift
        fresh = max(need - self.end - len(self.free), 0)
        if self.touched + fresh > self.most_blocks or fresh * self.block_bytes > allowance or need > len(self.blocks):
            return False
        while self.end < need:
            if self.free:
                block = self.free.pop()
            else:
                block = self.touched
                self.touched += 1
            self.blocks[self.end] = self._reserve.address + block * self.block_bytes
            self.end += 1
        return True

    def let_go(self, number: int) -> None:
        """States numbered below ``number`` are needed no more."""
        while self.first < number >> self.shift:
            address = int(self.blocks[self.first])
            self.free.append((address - self._reserve.address) // self.block_bytes)
            self.first += 1

    def begin_at(self, number: int) -> None:
        """Before anything else is there: states below ``number`` will never be."""
        self.first = self.end = number >> self.shift

    def states(self, first: int, end: int) -> list[NDArray[np.uint8]]:
        """The bytes of states ``first`` up to ``end``, in pieces, as they lie there."""
        pieces = [np.empty((0, self.size), dtype=np.uint8)]
        while first < end:
            stop = min(((first >> self.shift) + 1) << self.shift, end)
            pieces.append(self._piece(first, stop))
            first = stop
        return pieces

    def write(self, first: int, states: NDArray[np.uint8]) -> None:
        at, end = first, first + len(states)
        while at < end:
            stop = min(((at >> self.shift) + 1) << self.shift, end)
            self._piece(at, stop)[:] = states[at - first : stop - first]
            at = stop

    def _piece(self, at: int, stop: int) -> NDArray[np.uint8]:
        offset = int(self.blocks[at >> self.shift]) - self._reserve.address
        offset += (at & ((1 << self.shift) - 1)) * self.size
        return self._reserve.bytes[offset : offset + (stop - at) * self.size].reshape(stop - at, self.size)


class Store:
    """Everything that grows with the number of states."""

    def __init__(self, size: int, memory: int, exact: bool, stays: bool, grow: Callable[..., Any]) -> None:
        self.memory = memory
        self.exact = exact
        self.states = 0
        self.fixed = 0  # bytes of buffers, which do not grow
        self.table = Table(memory, grow)
        self.later = Table(memory if stays else 1 << 20, grow)
        self.deferred = Deferred(memory if stays else 1 << 20, size)
        self.queue = Queue(memory, size)
        self.most_states = min(memory // (8 + LINK_BYTES) + 1024, MOST_STATES)
        self._parents = Reserve(4 * self.most_states)
        self._steps = Reserve(2 * self.most_states)
        self.parents = self._parents.view(np.uint32, self.most_states)
        self.steps = self._steps.view(np.uint16, self.most_states)
        self._stays = stays

    @property
    def used(self) -> int:
        """Bytes: what has been touched and is counted against the bound."""
        used = self.fixed + self.table.used + self.queue.used + self.states * LINK_BYTES
        if self._stays:
            used += self.later.used + self.deferred.used
        return used

    def room_for(self, more: int, later: int = 0) -> str:
        """Make room for ``more`` states and ``later`` deferred ones; why not, if there is none."""
        reason = f"the limit of {self.memory >> 20:,} MiB of memory"
        if self.states + more > self.most_states:
            return reason if self.most_states < MOST_STATES else f"the limit of {MOST_STATES:,} states"
        links = more * LINK_BYTES + later * self.deferred.record
        if self.deferred.count + later > self.deferred.most and later:
            return reason
        fits = (
            self.queue.makes_room(self.states + more, self.memory - self.used - links)
            and self.table.makes_room(more, self.memory - self.used - links)
            and (not later or self.later.makes_room(later, self.memory - self.used - links))
            and self.used + links <= self.memory
        )
        return "" if fits else reason

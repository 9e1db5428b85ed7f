"""A search that was stopped, in a file: everything that it needs to go on as if nothing had been.

A line that says what it is, the length of a header, the header (JSON), and then, as the header lists them, pieces of
memory as they were. Written beside its place and moved there, so that it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"cowcatcher search 1\n"
#: Arrays that lie one after another under one name, so that what is large is not copied.
Pieces = Mapping[str, Sequence[NDArray[Any]]]


class Refused(Exception):
    """The file is no saved search, or that of another one."""


def identity(**parameters: object) -> str:
    """A digest over whatever must be the same for a search to go on."""
    return hashlib.sha256(repr(sorted(parameters.items())).encode()).hexdigest()


def save(path: Path, same: str, facts: Mapping[str, object], pieces: Pieces) -> None:
    header = {
        "same": same,
        "facts": facts,
        "pieces": [
            [name, parts[0].dtype.str, [sum(len(part) for part in parts), *parts[0].shape[1:]]]
            for name, parts in pieces.items()
        ],
    }
    text = json.dumps(header).encode()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(_MAGIC + len(text).to_bytes(8, "little") + text)
            for parts in pieces.values():
                for part in parts:
                    file.write(part.tobytes() if not part.flags.c_contiguous else part.data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


class Saved:
    """A saved search: its facts at once, its pieces one after another, as they lie in the file."""

    def __init__(self, path: Path, same: str) -> None:
        self._path = path
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise Refused(f"{path}: not a saved search, or one of another version")
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length)
            self._start = file.tell()
        if len(text) != length:
            raise Refused(f"{path}: the file ends early")
        header = json.loads(text)
        if header["same"] != same:
            raise Refused(f"{path}: saved by a search of something else, or with other parameters")
        self.facts: dict[str, Any] = header["facts"]
        self._pieces: list[tuple[str, str, list[int]]] = header["pieces"]
        if path.stat().st_size != self._start + sum(self._length(kind, shape) for _, kind, shape in self._pieces):
            raise Refused(f"{path}: the file has not the length it should have")

    @staticmethod
    def _length(kind: str, shape: list[int]) -> int:
        length = np.dtype(kind).itemsize
        for side in shape:
            length *= side
        return length

    def pieces(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Each piece, mapped and not read."""
        at = self._start
        for name, kind, shape in self._pieces:
            length = self._length(kind, shape)
            if length:
                yield name, np.memmap(self._path, dtype=kind, mode="r", offset=at, shape=tuple(shape))
            else:
                yield name, np.empty(shape, dtype=kind)
            at += length

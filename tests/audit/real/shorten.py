"""Shorten a recording of strace's to what an audit looks at, so that it can be kept beside the tests.

    python -m tests.audit.real.shorten RECORDING ADDRESS… > SHORT

Kept: the family's life, what pins, advice, direct I/O near a fork, and whatever else names one of the pages around the
given addresses. Paths of the machine that recorded it are made general.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

PAGE = 4096
NEAR = 12  # lines around a fork
FIRST = 16  # of the direct transfers: what fills a queue
LAST = 15  # and what empties it
FAMILY = re.compile(r"\d (execve|v?fork|clone3?|exit_group)\(|^\d+ +\S+ (\+\+\+|---)|mq_unlink\(")
PINS = re.compile(
    r"io_uring_(setup|register)|io_setup|F_DUPFD|madvise|vmsplice|process_vm|O_DIRECT\b|/uverbs\d|libibverbs\.so|RDMA_VERBS"
)
DIRECT = re.compile(r"io_(submit|getevents|uring_enter)|\bp(read64|write64|readv2?|writev2?)\b")
MAPS = re.compile(r"\b(mmap|munmap|mremap|mprotect|brk|read|write)\b")
FORK = re.compile(r"\bclone\(|\bfork\(\)|clone resumed")
OPENED = re.compile(r"(?:io_uring_setup|F_DUPFD|O_DIRECT\b|uverbs\d).* = (\d+)\b")
CLOSED = re.compile(r"\bclose\((\d+)")
SIZE = re.compile(r"(?:mmap|munmap|mprotect|mremap)\([^,]+, (\d+)|(?:read|write)\(0x\w+, 0x\w+, (0x\w+)")
PLACES = re.compile(r"(?<![\w.])/(?:work|root|opt|tmp)/(?:[\w.+-]+/)*([\w.+-]+)")
PROBES = re.compile(r"(last_op=\d+[^\[]*\[).*\]")


def shorten(lines: list[str], addresses: Iterable[int]) -> Iterator[str]:
    """In their order, none changed but for paths and for what is very long. A call in two parts stays or goes whole."""
    wanted = tuple(addresses)
    forks = [n for n, line in enumerate(lines) if FORK.search(line)]
    direct = [n for n, line in enumerate(lines) if DIRECT.search(line)]
    near = (
        {n for n in direct if any(abs(n - fork) <= NEAR for fork in forks)} | set(direct[:FIRST]) | set(direct[-LAST:])
    )
    other, files, kept = _halves(lines), set[str](), set[int]()
    for n, line in enumerate(lines):
        if opened := OPENED.search(line):
            files.add(opened[1])
        closed = CLOSED.search(line)
        pins = PINS.search(line) or (closed and closed[1] in files)
        if FAMILY.search(line) or pins or n in near or (MAPS.search(line) and _names(line, wanted)):
            kept |= {n, other.get(n, n)}
    for n in sorted(kept):
        yield PROBES.sub(r"\1]", PLACES.sub(r"/srv/\1", lines[n]))


def _halves(lines: list[str]) -> dict[int, int]:
    """The line that ends a call, by the one that begins it, and the other way round."""
    open_by_task: dict[str, int] = {}
    other: dict[int, int] = {}
    for n, line in enumerate(lines):
        task = line.split(maxsplit=1)[0]
        if line.endswith("<unfinished ...>"):
            open_by_task[task] = n
        elif " resumed>" in line and task in open_by_task:
            began = open_by_task.pop(task)
            other |= {began: n, n: began}
    return other


def _names(line: str, wanted: tuple[int, ...]) -> bool:
    """Does it name a range that one of these addresses, or the page before it, is in?"""
    length = SIZE.search(line)
    size = max(int(length[1] or length[2], 0) if length else 0, PAGE)
    numbers = [int(number, 16) for number in re.findall(r"0x[0-9a-f]{6,}", line)]
    return any(number - PAGE <= one < number + size for number in numbers for one in wanted)


if __name__ == "__main__":
    with open(sys.argv[1], errors="replace") as file:
        text = file.read().splitlines()
    print("\n".join(shorten(text, [int(a, 16) for a in sys.argv[2:]])))

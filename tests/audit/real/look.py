"""What /proc says of a process's pages, read here once more, by nobody's code but this file's."""

from __future__ import annotations

from pathlib import Path

PAGE = 4096


def frames(pid: int, start: int, pages: int) -> list[int]:
    """Frame numbers, 0 for a page that is not there (Documentation/admin-guide/mm/pagemap.rst)."""
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as file:
        file.seek(start // PAGE * 8)
        data = file.read(8 * pages)
    entries = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]
    return [entry & ((1 << 55) - 1) if entry >> 63 else 0 for entry in entries]


def flags(pid: int, address: int) -> set[str]:
    """VmFlags of the mapping that has ``address``, {} where there is none; "dc" is MADV_DONTFORK's."""
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            start, _, end = words[0].partition("-")
            inside = int(start, 16) <= address < int(end, 16)
        elif inside and words[0] == "VmFlags:":
            return set(words[1:])
    return set()

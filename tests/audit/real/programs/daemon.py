# SPDX-License-Identifier: Apache-2.0
"""A daemon that forks twice, as the books have it, to be nobody's child.

    daemon.py FILE LOG [late]

It makes its ring and registers its buffer first, when errors can still be seen on the terminal, and uses it as a
daemon; or, ``late``, only then. It writes to LOG what it read.
"""

import mmap
import os
import sys

from ring import Ring, address

file, log = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
late = "late" in sys.argv[3:]


def prepare() -> tuple[Ring, mmap.mmap]:
    memory = mmap.mmap(-1, 2 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"a" * len(memory)
    ring = Ring()
    ring.register((address(memory), len(memory)))
    return ring, memory


def become_daemon() -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")


if late:
    become_daemon()
ring, memory = prepare()
if not late:
    become_daemon()
count = ring.read(file, address(memory) + 4096, 512, 0, 0)
os.write(log, f"read {count}: {memory[4096:4100]!r}\n".encode())
os._exit(0)

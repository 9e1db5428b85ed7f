# SPDX-License-Identifier: Apache-2.0
"""A server that registers buffers with io_uring and then starts workers by multiprocessing's fork.

    workers.py FILE [shared] [dontfork] [subprocess] [preexec] [leave] [pause]

Private memory unless ``shared``: that is mmap's default in Python. ``dontfork``: madvised before the workers start.
``subprocess``: no worker, but a program, as subprocess does it; ``preexec``: with a function before it, so by fork().
``leave``: does not close the ring, and gives the memory back before that goes. ``pause``: says where it is, and goes on
when a line comes, so that somebody can look at it meanwhile.
"""

import mmap
import multiprocessing
import os
import subprocess
import sys

from ring import Ring, address

file, words = os.open(sys.argv[1], os.O_RDONLY), set(sys.argv[2:])
kind = mmap.MAP_SHARED if "shared" in words else mmap.MAP_PRIVATE
memory = mmap.mmap(-1, 4 * 4096, kind | mmap.MAP_ANONYMOUS)
memory[:] = b"a" * len(memory)
if "dontfork" in words:
    memory.madvise(mmap.MADV_DONTFORK)
ring = Ring()
ring.register((address(memory), 4 * 4096))
print(f"registered {address(memory):#x} {len(memory)}", file=sys.stderr)


def at(place: str, *pids: int) -> None:
    if "pause" in words:
        print("at", place, *pids, flush=True)
        sys.stdin.readline()


def work(go: "multiprocessing.connection.Connection") -> None:
    go.recv()


def use() -> None:
    """What the ring reads has to be where the program looks for it."""
    memory[0:4] = b"bbbb"  # copy-on-write?
    count = ring.read(file, address(memory) + 512, 512, 0, 0)
    print(f"read {count}: {memory[512:516]!r}")


at("registered", os.getpid())
if words & {"subprocess", "preexec"}:
    before = (lambda: None) if "preexec" in words else None
    subprocess.run(["/bin/true"], check=True, preexec_fn=before)
    use()
else:
    here, there = multiprocessing.get_context("fork").Pipe()
    worker = multiprocessing.get_context("fork").Process(target=work, args=(there,))
    worker.start()
    at("forked", os.getpid(), worker.pid or 0)
    use()
    at("used", os.getpid(), worker.pid or 0)
    here.send("go")
    worker.join()
    print(f"worker: {worker.exitcode}")
if "leave" not in words:
    ring.close()

# SPDX-License-Identifier: Apache-2.0
"""A thread reads from a file with O_DIRECT, over and over; beside it another thread starts a worker by fork().

    reader.py FILE [dontfork] [later] [vector]

Four reads of 512 bytes into the first half of a page; the second half belongs to the program, which writes to it. It
says of how many reads the data was there. ``later``: the worker is started when all reads are done. ``vector``: by
preadv() instead of read(), so that a trace does not say where to.
"""

import mmap
import os
import sys
import threading
import time

words = set(sys.argv[2:])
file = open(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT), "rb", buffering=0)  # noqa: SIM115
memory = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = b"a" * len(memory)
if "dontfork" in words:
    memory.madvise(mmap.MADV_DONTFORK)
begun, arrived, READS = threading.Event(), 0, 4
buffer = memoryview(memory)[:512]


def read() -> None:
    global arrived
    for _ in range(READS):
        buffer[:] = b"a" * len(buffer)
        begun.set()
        if "vector" in words:
            os.preadv(file.fileno(), [buffer], 0)
        else:
            file.seek(0)
            file.readinto(buffer)
        arrived += bytes(buffer) != b"a" * len(buffer)


reader = threading.Thread(target=read)
reader.start()
begun.wait()
if "later" in words:
    reader.join()
time.sleep(0.005)
child = os.fork()
if child == 0:
    time.sleep(0.5)
    os._exit(0)
memory[2048:2049] = b"b"  # copy-on-write?
reader.join()
os.waitpid(child, 0)
print(f"{arrived} of {READS} arrived")
buffer.release()

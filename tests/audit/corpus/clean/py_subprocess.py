"""A program that has a registered buffer and runs commands by subprocess, which takes vfork() where it may.

allow: -
"""

import mmap
import subprocess

from corpus import PAGE, Ring, address_of

buffer = mmap.mmap(-1, 8 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
buffer.write(b"a" * 8 * PAGE)
ring = Ring()
ring.register(address_of(buffer), 8 * PAGE)
print(subprocess.run(["uname", "-s"], capture_output=True, text=True, close_fds=True, check=True).stdout, end="")
print("status", subprocess.call("exit 3", shell=True))
buffer[0:1] = b"b"
ring.unregister()

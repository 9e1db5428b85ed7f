"""ROCm/rocm-systems#356: pinned host memory is marked MADV_DONTFORK, and the framework reads it in its workers.

find: dontfork-child-touches buffer error
allow: dofork-missing
"""

import mmap
import os

from corpus import PAGE, Ring, address_of, say

tensor = mmap.mmap(-1, 16 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
tensor.write(b"t" * 16 * PAGE)
tensor.madvise(mmap.MADV_DONTFORK)
ring = Ring()
ring.register(address_of(tensor), 16 * PAGE)
say("buffer", address_of(tensor), 16 * PAGE)

worker = os.fork()
if not worker:
    os._exit(tensor[9 * PAGE])
_, status = os.waitpid(worker, 0)
print("worker killed by", os.WTERMSIG(status))
ring.unregister()

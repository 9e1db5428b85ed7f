"""The same from Python: a buffer is registered, a worker is forked and works, the parent writes meanwhile.

find: moved-under-pin ~buffer error
only: live
allow: fork-shares-pinned
"""

import ctypes
import mmap
import os
import time

from corpus import PAGE, address_of, say

verbs = ctypes.CDLL("libibverbs.so.1", mode=ctypes.RTLD_GLOBAL)
for name in ("ibv_get_device_list", "ibv_open_device", "ibv_alloc_pd", "ibv_reg_mr"):
    getattr(verbs, name).restype = ctypes.c_void_p
buffer = mmap.mmap(-1, 2 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
buffer.write(b"a" * 2 * PAGE)
devices = ctypes.cast(verbs.ibv_get_device_list(None), ctypes.POINTER(ctypes.c_void_p))
pd = ctypes.c_void_p(verbs.ibv_alloc_pd(ctypes.c_void_p(verbs.ibv_open_device(ctypes.c_void_p(devices[0])))))
start = ctypes.c_void_p(address_of(buffer))
region = ctypes.c_void_p(verbs.ibv_reg_mr(pd, start, ctypes.c_size_t(2 * PAGE), 7))
say("buffer", address_of(buffer), 2 * PAGE)

reading, writing = os.pipe()
worker = os.fork()
if not worker:
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
time.sleep(0.15)  # what only /proc shows is looked at a little after
buffer[0:1] = b"b"
if not (second := os.fork()):
    os._exit(0)
os.waitpid(second, 0)
time.sleep(0.15)
os.close(writing)
print("worker", os.waitpid(worker, 0)[1])
print("deregistered", verbs.ibv_dereg_mr(region))

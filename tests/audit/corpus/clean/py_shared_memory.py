"""What pytorch's documentation asks for: tensors in shared memory, workers by fork. The shared memory is registered.

allow: -
"""

import multiprocessing
from multiprocessing import shared_memory

from corpus import PAGE, Ring, address_of


def work(memory: shared_memory.SharedMemory) -> None:
    memory.buf[0] = 7


if __name__ == "__main__":
    memory = shared_memory.SharedMemory(create=True, size=4 * PAGE)
    view = memory.buf[: 4 * PAGE]
    ring = Ring()
    ring.register(address_of(view), 4 * PAGE)
    worker = multiprocessing.get_context("fork").Process(target=work, args=(memory,))
    worker.start()
    worker.join()
    print("worker", worker.exitcode, "wrote", memory.buf[0])
    ring.unregister()
    view.release()
    memory.close()
    memory.unlink()

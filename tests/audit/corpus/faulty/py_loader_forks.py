"""bytedance/byteps#54: a data loader made by fork, after the communication buffers were registered.

find: fork-shares-pinned buffer good
"""

import mmap
import multiprocessing

from corpus import PAGE, Ring, address_of, say


def load(batches: "multiprocessing.SimpleQueue[int]") -> None:
    batches.put(sum(range(10)))


if __name__ == "__main__":
    buffer = mmap.mmap(-1, 8 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    buffer.write(b"a" * 8 * PAGE)
    ring = Ring()
    ring.register(address_of(buffer), 8 * PAGE)
    say("buffer", address_of(buffer), 8 * PAGE)

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    worker = context.Process(target=load, args=(queue,))
    worker.start()
    buffer[0:1] = b"b"
    print("batch", queue.get())
    worker.join()
    print("worker", worker.exitcode)
    ring.unregister()

"""pytorch/pytorch#4934, the advice: start workers with "spawn", which executes a new interpreter.

allow: -
"""

import mmap
import multiprocessing

from corpus import PAGE, Ring, address_of


def work(numbers: "multiprocessing.SimpleQueue[int]") -> None:
    numbers.put(42)


if __name__ == "__main__":
    buffer = mmap.mmap(-1, 4 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    buffer.write(b"a" * 4 * PAGE)
    ring = Ring()
    ring.register(address_of(buffer), 4 * PAGE)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    worker = context.Process(target=work, args=(queue,))
    worker.start()
    print("got", queue.get())
    worker.join()
    ring.unregister()

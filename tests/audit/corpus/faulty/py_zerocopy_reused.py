"""The same from Python: the tail of a message is sent with MSG_ZEROCOPY, and filled with the next one at once.

find: overwritten-in-flight ~tail error
only: live
needs: zerocopy
"""

import mmap
import select
import socket

from corpus import PAGE, address_of, say

SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
listener.bind(("127.0.0.1", 0))
listener.listen(1)
sender = socket.socket()
sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 << 20)
sender.connect(listener.getsockname())
receiver, _ = listener.accept()

message = mmap.mmap(-1, 128 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
message.write(b"a" * 128 * PAGE)
say("tail", address_of(message) + 100 * PAGE, 28 * PAGE)
assert sender.send(memoryview(message), MSG_ZEROCOPY) == len(message)
message[100 * PAGE :] = b"b" * 28 * PAGE
got = b""
while len(got) < len(message):
    got += receiver.recv(1 << 16)
print("received", got.count(b"b"), "bytes that were never sent")
poll = select.poll()
poll.register(sender, select.POLLERR)
poll.poll(5000)
sender.recvmsg(1, 128, socket.MSG_ERRQUEUE)

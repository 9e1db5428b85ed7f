/* Registers a buffer, says where, waits for a line, unregisters. */
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
	struct iovec buffer = { malloc(10000), 10000 };
	struct io_uring ring;

	if (io_uring_queue_init(8, &ring, 0) || io_uring_register_buffers(&ring, &buffer, 1))
		return 77;
	printf("%p\n", buffer.iov_base);
	fflush(stdout);
	getchar();
	return io_uring_unregister_buffers(&ring) ? 2 : 0;
}

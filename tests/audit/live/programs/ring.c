/* Registers two buffers with io_uring, forks, frees one and unmaps the other too early, then closes the ring. */
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	struct iovec buffers[2] = { { malloc(10000), 10000 } };
	struct io_uring ring;

	buffers[1].iov_base = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	buffers[1].iov_len = 8192;
	if (io_uring_queue_init(8, &ring, 0))
		return 77;
	if (io_uring_register_buffers(&ring, buffers, 2))
		return 2;
	printf("%p %p\n", buffers[0].iov_base, buffers[1].iov_base);
	fflush(stdout);
	if (!fork())
		_exit(0);
	wait(NULL);
	free(buffers[0].iov_base);
	munmap(buffers[1].iov_base, 8192);
	io_uring_queue_exit(&ring);
	free(malloc(10000));
	return 0;
}

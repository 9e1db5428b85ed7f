/* SPDX-License-Identifier: Apache-2.0 */
/*
 * axboe/liburing#731, "and fork without exec?": a daemon sets up its ring first and forks then; the parent is gone, the child goes
 * on with the ring that it inherited. The ring has the parent's pages, the child has copies: what is read never arrives, on
 * every kernel.
 *
 * find: fork-shares-pinned buffer error|warning
 * build: -luring
 * needs: liburing
 */
#include "corpus.h"

#include <liburing.h>

int main(void)
{
	int disk = memfd_create("disk", 0);
	char *buffer = pages(1);
	struct iovec part = {buffer, PAGE};
	struct io_uring ring;
	struct io_uring_cqe *done;

	need(!io_uring_queue_init(4, &ring, 0), "io_uring_queue_init");
	need(!io_uring_register_buffers(&ring, &part, 1), "io_uring_register_buffers");
	need(write(disk, "data", 4) == 4, "write");
	say("buffer", buffer, PAGE);
	if (fork())
		_exit(0);
	setsid();
	io_uring_prep_read_fixed(io_uring_get_sqe(&ring), disk, buffer, 4, 0, 0);
	need(io_uring_submit_and_wait(&ring, 1) == 1 && !io_uring_wait_cqe(&ring, &done), "io_uring_submit");
	printf("read %d bytes: %.4s\n", done->res, buffer);
	return 0;
}

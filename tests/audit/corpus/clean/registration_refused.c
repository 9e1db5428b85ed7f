/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was refused is not registered (a hole in the buffer), and what madvise() refused is not marked (an address inside a
 * page). A fork has nothing to share.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4);
	struct iovec with_hole = {buffer, 4 * PAGE};

	munmap(buffer + 2 * PAGE, PAGE);
	printf("register: %ld\n", syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &with_hole, 1));
	printf("madvise: %d\n", madvise(buffer + 10, PAGE, MADV_DONTFORK));
	let_go(fork_waiting());
	return 0;
}

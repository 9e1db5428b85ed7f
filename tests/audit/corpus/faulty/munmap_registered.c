/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#1431: the connection's memory is unmapped before its registration ends, and what the allocator
 * hands out next at that address is not what the device has.
 *
 * find: freed-while-pinned buffer error|warning
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4), *again;

	say("buffer", buffer, 4 * PAGE);
	ring_register(ring, buffer, 4 * PAGE);
	munmap(buffer, 4 * PAGE);
	again = pages(4);
	printf("fresh memory: %c\n", again[0]);
	ring_unregister(ring);
	return 0;
}

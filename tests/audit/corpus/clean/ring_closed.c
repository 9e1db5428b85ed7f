/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registration ends with the ring, without being taken back: close() is enough. Then the memory is freed, then a fork.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4), *kept = pages(4);

	ring_register(ring, buffer, 4 * PAGE);
	close(ring);
	munmap(buffer, 4 * PAGE);
	ring = ring_open();
	ring_register(ring, kept, 4 * PAGE);
	close(ring);
	let_go(fork_waiting());
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#883, without the hardware: the same, but the buffer came from malloc() and shares its first and
 * its last page with whatever else the program has.
 *
 * find: fork-shares-pinned buffer good
 * allow: partial-page
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *before = malloc(100), *buffer = malloc(10000), *after = malloc(100);
	struct child child;

	memset(buffer, 'a', 10000);
	say("buffer", buffer, 10000);
	ring_register(ring, buffer, 10000);
	child = fork_waiting();
	strcpy(before, "before");
	strcpy(after, "after");
	buffer[5000] = 'b';
	let_go(child);
	puts(before), puts(after);
	return 0;
}

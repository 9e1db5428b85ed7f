/* SPDX-License-Identifier: Apache-2.0 */
/*
 * axboe/liburing#612, #731: a ring with a registered buffer, and fork() without exec. The child does nothing; the
 * parent writes while it lives, and from then on memory and device may have parted.
 *
 * find: fork-shares-pinned buffer good
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4);
	struct child child;

	say("buffer", buffer, 4 * PAGE);
	ring_register(ring, buffer, 4 * PAGE);
	child = fork_waiting();
	memset(buffer, 'b', 4 * PAGE);
	let_go(child);
	ring_unregister(ring);
	return 0;
}

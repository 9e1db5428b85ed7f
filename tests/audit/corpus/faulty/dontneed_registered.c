/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A purging allocator (jemalloc's dirty decay) gives the pages of a registered buffer back and uses them again: same
 * address, fresh pages, and the device writes to the old ones for ever. A fork comes later.
 *
 * find: freed-while-pinned purged error|warning
 * find: moved-under-pin ~purged error
 * allow: fork-shares-pinned
 * only: live
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(8);

	say("buffer", buffer, 8 * PAGE);
	say("purged", buffer + 2 * PAGE, 4 * PAGE);
	ring_register(ring, buffer, 8 * PAGE);
	be_seen();
	need(!madvise(buffer + 2 * PAGE, 4 * PAGE, MADV_DONTNEED), "madvise");
	memset(buffer, 'b', 8 * PAGE);
	let_go(fork_waiting());
	be_seen();
	ring_unregister(ring);
	return 0;
}

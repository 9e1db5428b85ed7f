/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVIDIA/nccl, a memory pool that resets a slab by mapping fresh memory over it, MAP_FIXED, while it is registered.
 *
 * find: freed-while-pinned slab error|warning
 * allow: fork-shares-pinned
 * only: live
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *pool = pages(8), *slab = pool + 4 * PAGE;

	say("slab", slab, 2 * PAGE);
	ring_register(ring, slab, 2 * PAGE);
	be_seen();
	need(mmap(slab, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == slab, "mmap");
	memset(slab, 'b', 2 * PAGE);
	let_go(fork_waiting());
	be_seen();
	ring_unregister(ring);
	return 0;
}

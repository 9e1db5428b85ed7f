/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#1234, the other way round: marked in pages rounded out, taken back in pages rounded in. The first
 * and the last page stay lost to all children. No child is made here.
 *
 * find: dofork-missing first+last note|warning
 * allow: partial-page
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *memory = pages(4), *buffer = memory + 1000;
	size_t size = 3 * PAGE;

	say("first", memory, PAGE);
	say("last", memory + 3 * PAGE, PAGE);
	need(!madvise(memory, 4 * PAGE, MADV_DONTFORK), "madvise");
	ring_register(ring, buffer, size);
	ring_unregister(ring);
	need(!madvise(memory + PAGE, 2 * PAGE, MADV_DOFORK), "madvise");
	memory[0] = 'b';
	return 0;
}

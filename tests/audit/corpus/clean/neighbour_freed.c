/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory around a registered buffer is unmapped, purged and freed: all of it right up to the buffer, none of it inside.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *memory = pages(12), *buffer = memory + 4 * PAGE;

	ring_register(ring, buffer, 4 * PAGE);
	munmap(memory, 2 * PAGE);
	need(!madvise(memory + 2 * PAGE, 2 * PAGE, MADV_DONTNEED), "madvise");
	need(!mprotect(memory + 8 * PAGE, 4 * PAGE, PROT_NONE), "mprotect");
	munmap(memory + 8 * PAGE, 4 * PAGE);
	memset(buffer, 'b', 4 * PAGE);
	ring_unregister(ring);
	munmap(buffer, 4 * PAGE);
	return 0;
}

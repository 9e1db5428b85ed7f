/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openucx/ucx#686: memory hooks that do not see brk(). A hand-made arena shrinks the heap, and with it goes a registered
 * buffer.
 *
 * find: freed-while-pinned buffer error|warning
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *top = sbrk(0), *arena;

	need(sbrk((page_of(top + PAGE - 1) - top) + 16 * PAGE) == top, "sbrk");
	arena = page_of(top + PAGE - 1);
	memset(arena, 'a', 16 * PAGE);
	say("buffer", arena + 12 * PAGE, 4 * PAGE);
	ring_register(ring, arena + 12 * PAGE, 4 * PAGE);
	need(sbrk(-8 * PAGE) != (void *)-1, "sbrk");
	ring_unregister(ring);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvcache-ai/Mooncake#3639: the transfer engine marks what it registers, and never takes the mark back. The memory is
 * used for other things, and a child lacks it.
 *
 * find: dofork-missing buffer warning
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4);

	say("buffer", buffer, 4 * PAGE);
	need(!madvise(buffer, 4 * PAGE, MADV_DONTFORK), "madvise");
	ring_register(ring, buffer, 4 * PAGE);
	ring_unregister(ring);
	strcpy(buffer, "settings that the child will want");
	let_go(fork_waiting());
	return 0;
}

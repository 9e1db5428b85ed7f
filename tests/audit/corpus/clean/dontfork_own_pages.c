/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cure as it should be: pages of its own, marked before the fork, registered, and given back in the end. The child does
 * not look there.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4);

	need(!madvise(buffer, 4 * PAGE, MADV_DONTFORK), "madvise");
	ring_register(ring, buffer, 4 * PAGE);
	let_go(fork_waiting());
	ring_unregister(ring);
	need(!madvise(buffer, 4 * PAGE, MADV_DOFORK), "madvise");
	let_go(fork_waiting());
	return 0;
}

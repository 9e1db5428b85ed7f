/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registered buffer is moved by mremap(), as realloc() does with large ones. Its pages move along, and so does the mark that
 * keeps them from children.
 *
 * allow: fork-protection
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4), *place = pages(4), *moved;

	need(!madvise(buffer, 4 * PAGE, MADV_DONTFORK), "madvise");
	ring_register(ring, buffer, 4 * PAGE);
	moved = mremap(buffer, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	need(moved == place, "mremap");
	moved[0] = 'b';
	let_go(fork_waiting());
	ring_unregister(ring);
	need(!madvise(moved, 4 * PAGE, MADV_DOFORK), "madvise");
	return 0;
}

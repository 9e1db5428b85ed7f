/* SPDX-License-Identifier: Apache-2.0 */
/*
 * valkey-io/valkey#477: the snapshot child was forked already when the transfer buffer gets its protection. It was
 * registered before, so the child shares the very pages.
 *
 * find: dontfork-too-late buffer any
 * allow: dofork-missing
 * find: fork-shares-pinned buffer good
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4);
	struct child snapshot;

	say("buffer", buffer, 4 * PAGE);
	ring_register(ring, buffer, 4 * PAGE);
	snapshot = fork_waiting();
	need(!madvise(buffer, 4 * PAGE, MADV_DONTFORK), "madvise");
	memset(buffer, 'b', 4 * PAGE);
	let_go(snapshot);
	need(!madvise(buffer, 4 * PAGE, MADV_DOFORK), "madvise");
	ring_unregister(ring);
	return 0;
}

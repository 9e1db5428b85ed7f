/* SPDX-License-Identifier: Apache-2.0 */
/*
 * axboe/liburing#731: what a forked child unmaps is its own copy. The parent's buffer was marked, given back, and is pinned
 * again while the child tidies up.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int go[2], ring;
	char *buffer = pages(4), c;
	pid_t pid;

	need(!pipe(go), "pipe");
	pid = fork();
	if (!pid) {
		close(go[1]);
		need(!read(go[0], &c, 1), "read");
		_exit(munmap(buffer, 4 * PAGE));
	}
	ring = ring_open();
	ring_register(ring, buffer, 4 * PAGE);
	close(go[1]);
	reap(pid);
	buffer[0] = 'p';
	ring_unregister(ring);
	return 0;
}

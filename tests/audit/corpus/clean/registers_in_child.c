/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers register, each for itself, and the parent goes on forking more of them: what a child has pinned is no business of its
 * parent's forks.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	pid_t workers[3];
	int ready[2], go[2];
	char c;

	need(!pipe(ready) && !pipe(go), "pipe");
	for (int i = 0; i < 3; i++) {
		workers[i] = fork();
		if (!workers[i]) {
			int ring = ring_open();
			char *buffer = pages(2);

			close(go[1]);
			ring_register(ring, buffer, 2 * PAGE);
			need(write(ready[1], "r", 1) == 1 && !read(go[0], &c, 1), "pipe");
			buffer[0] = 'w';
			_exit(0);
		}
		need(read(ready[0], &c, 1) == 1, "read");
	}
	close(go[1]);
	for (int i = 0; i < 3; i++)
		reap(workers[i]);
	return 0;
}

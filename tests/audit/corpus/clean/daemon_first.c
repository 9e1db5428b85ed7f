/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openucx/ucx#4325, answered: a daemon that forks twice first and registers then.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int done[2], ring;
	char *buffer, c;

	need(!pipe(done), "pipe");
	if (fork()) {
		close(done[1]);
		return (int)read(done[0], &c, 1);
	}
	setsid();
	if (fork())
		_exit(0);
	ring = ring_open();
	buffer = pages(4);
	ring_register(ring, buffer, 4 * PAGE);
	buffer[0] = 'd';
	puts("daemon: ready");
	fflush(stdout);
	ring_unregister(ring);
	_exit(0);
}

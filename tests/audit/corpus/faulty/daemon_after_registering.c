/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openucx/ucx#4325: "is it legal to fork after initialisation?" A service registers its buffer, then becomes a daemon:
 * forks twice, the parents exit. What writes from now on is a child, and the ring still holds the first parent's pages.
 *
 * find: fork-shares-pinned buffer any
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open(), done[2];
	char *buffer = pages(1), c;

	need(!fcntl(ring, F_SETFD, 0) && !pipe(done), "pipe");
	say("buffer", buffer, PAGE);
	ring_register(ring, buffer, PAGE);
	if (fork()) { /* stays until the daemon is through, so that this has an end that a test can wait for */
		close(done[1]);
		return (int)read(done[0], &c, 1);
	}
	setsid();
	if (fork())
		_exit(0);
	buffer[0] = 'd';
	puts("daemon: ready");
	fflush(stdout);
	_exit(0);
}

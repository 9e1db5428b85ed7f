/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libfuse/libfuse#784, #901, after the change: posix_spawn() instead of fork(). The child borrows the memory until it execs;
 * nothing is copied.
 *
 * allow: -
 */
#include "corpus.h"

#include <spawn.h>

extern char **environ;

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4), *arguments[] = {"true", NULL};
	pid_t pid;

	ring_register(ring, buffer, 4 * PAGE);
	need(!posix_spawnp(&pid, "true", NULL, NULL, arguments, environ), "posix_spawn");
	memset(buffer, 'b', 4 * PAGE);
	reap(pid);
	ring_unregister(ring);
	return 0;
}

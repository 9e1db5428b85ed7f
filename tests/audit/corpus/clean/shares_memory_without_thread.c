/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gVisor and Go start helpers by clone(CLONE_VM) without CLONE_THREAD: another process by its number, the same memory.
 *
 * allow: -
 */
#include "corpus.h"

#include <sched.h>

static char *buffer;

static int helper(void *unused)
{
	(void)unused;
	buffer[0] = 'h';
	return 0;
}

int main(void)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	int ring = ring_open();
	pid_t pid;

	buffer = pages(4);
	ring_register(ring, buffer, 4 * PAGE);
	pid = clone(helper, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	need(pid > 0, "clone");
	reap(pid);
	printf("helper wrote %c\n", buffer[0]);
	ring_unregister(ring);
	return 0;
}

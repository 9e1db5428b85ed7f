/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pmem/rpma#751's other half: not every child that gets SIGSEGV has MADV_DONTFORK to blame. One follows a null pointer, one
 * writes to memory that it protected itself, one is sent the signal.
 *
 * allow: -
 */
#include "corpus.h"

static void crash(int how, char *guard)
{
	if (how == 0)
		*(char *volatile *)&guard = NULL;
	else if (how == 1)
		need(!mprotect(guard, PAGE, PROT_NONE), "mprotect");
	else
		raise(SIGSEGV);
	*(volatile char *)guard = 'x';
}

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(2), *guard = pages(1);

	need(!madvise(buffer, 2 * PAGE, MADV_DONTFORK), "madvise");
	ring_register(ring, buffer, 2 * PAGE);
	for (int how = 0; how < 3; how++) {
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (!pid) {
			crash(how, guard);
			_exit(0);
		}
		reap(pid);
	}
	ring_unregister(ring);
	need(!madvise(buffer, 2 * PAGE, MADV_DOFORK), "madvise");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redis with transparent huge pages: a snapshot by fork shares them, which is what fork is for. Nothing is pinned.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	enum { HUGE = 2 << 20 };
	char *memory = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	need(memory != MAP_FAILED, "mmap");
	madvise(memory, 3 * HUGE, MADV_HUGEPAGE); /* where there are none it is refused */
	memset(memory, 'a', 3 * HUGE);
	pid = fork();
	if (!pid)
		_exit(memory[HUGE] != 'a');
	memory[0] = 'b';
	reap(pid);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#1222, taken to heart: an allocator that gives every registered piece whole pages, between others that
 * the child is free to use, and does.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *before = malloc(100), *buffer = aligned_alloc(PAGE, 2 * PAGE), *after = malloc(100);
	pid_t pid;

	strcpy(before, "before"), strcpy(after, "after");
	memset(buffer, 'a', 2 * PAGE);
	need(page_of(after) != page_of(buffer + PAGE), "after lies on the same page");
	need(!madvise(buffer, 2 * PAGE, MADV_DONTFORK), "madvise");
	ring_register(ring, buffer, 2 * PAGE);
	pid = fork();
	if (!pid)
		_exit(strcmp(before, "before") || strcmp(after, "after"));
	reap(pid);
	ring_unregister(ring);
	need(!madvise(buffer, 2 * PAGE, MADV_DOFORK), "madvise");
	free(buffer);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pmem/rpma#751: the child crashes in fclose(), on one machine only. The FILE lies on the heap page of a small buffer that
 * was registered and marked.
 *
 * find: dontfork-neighbours ~rest error
 * allow: partial-page dofork-missing
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *space = aligned_alloc(PAGE, PAGE), *buffer;
	FILE *log;
	pid_t pid;

	free(space); /* so that what comes next begins a page */
	buffer = malloc(1000);
	log = fopen("/dev/null", "w");
	need(log && page_of(log) == page_of(buffer), "malloc() put them on two pages");
	say("buffer", buffer, 1000);
	say("page", page_of(buffer), PAGE);
	say("rest", page_of(buffer), (size_t)(buffer - page_of(buffer)));
	say("rest", buffer + 1000, (size_t)(page_of(buffer) + PAGE - buffer - 1000));
	need(!madvise(page_of(buffer), PAGE, MADV_DONTFORK), "madvise");
	ring_register(ring, buffer, 1000);
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(fclose(log));
	reap(pid);
	return 0;
}

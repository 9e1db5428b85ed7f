/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws/aws-ofi-nccl#141: loader workers fail with ENOMEM at os.fork(): pinned pages of hugetlb must be copied, from a pool
 * that has none left.
 *
 * find: huge-copy-at-fork buffer note|warning|error
 * only: live
 * allow: fork-shares-pinned
 * needs: hugetlb
 */
#include "corpus.h"

int main(void)
{
	enum { HUGE = 2 << 20 };
	int ring = ring_open();
	char *buffer = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	pid_t pid;

	if (buffer == MAP_FAILED)
		return UNAVAILABLE;
	memset(buffer, 'a', HUGE);
	say("buffer", buffer, HUGE);
	ring_register(ring, buffer, HUGE);
	be_seen();
	pid = fork();
	if (!pid)
		_exit(0);
	puts(pid < 0 ? "fork: no memory" : "forked");
	if (pid > 0)
		reap(pid);
	return 0;
}

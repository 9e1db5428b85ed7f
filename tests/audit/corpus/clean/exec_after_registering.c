/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that registered becomes another program: its memory is gone and so is the ring. What that one forks shares
 * nothing that was pinned, even where the same addresses are in use again.
 *
 * allow: -
 */
#include "corpus.h"

int main(int argc, char **argv)
{
	char *again[] = {argv[0], "again", NULL};
	char *buffer = mmap((void *)0x200000000, 4 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	need(buffer != MAP_FAILED, "mmap");
	memset(buffer, 'a', 4 * PAGE);
	if (argc == 1) {
		ring_register(ring_open(), buffer, 4 * PAGE);
		execv("/proc/self/exe", again);
		return 1;
	}
	let_go(fork_waiting());
	munmap(buffer, 4 * PAGE);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that maps and unmaps a lot: it has several thousand mappings for a while, in the beginning, and then no more than
 * before however long it runs.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	enum { MOST = 1000, ROUNDS = 5000 };
	static char *at[MOST];

	for (int i = 0; i < ROUNDS; i++) {
		char **slot = &at[i % MOST];

		if (*slot)
			munmap(*slot, PAGE);
		/* Two protections in turn, so that neighbours are not joined. */
		*slot = mmap(NULL, PAGE, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		need(*slot != MAP_FAILED, "mmap");
	}
	puts("served");
	return 0;
}

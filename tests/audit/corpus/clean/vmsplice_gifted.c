/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages given to a pipe for good, each time fresh ones, and unmapped at once: the pipe has its own hold of them.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	char got[PAGE];
	int ends[2];

	need(!pipe(ends), "pipe");
	for (int i = 0; i < 4; i++) {
		char *gift = pages(1);
		struct iovec part = {gift, PAGE};

		memset(gift, '0' + i, PAGE);
		need(vmsplice(ends[1], &part, 1, SPLICE_F_GIFT) == PAGE, "vmsplice");
		munmap(gift, PAGE);
	}
	for (int i = 0; i < 4; i++) {
		need(read(ends[0], got, PAGE) == PAGE, "read");
		printf("sent %d, got %c\n", i, got[0]);
	}
	return 0;
}

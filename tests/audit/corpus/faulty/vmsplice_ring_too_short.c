/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same with two buffers used in turn, as if the reader were always one behind: it is two behind. Pages were "gifted", which
 * protects nobody.
 *
 * find: overwritten-in-flight first error
 * only: live
 */
#include "corpus.h"

int main(void)
{
	char *buffer = pages(2), got[PAGE];
	int ends[2];

	need(!pipe(ends), "pipe");
	say("first", buffer, PAGE);
	for (int i = 0; i < 3; i++) {
		struct iovec part = {buffer + i % 2 * PAGE, PAGE};

		memset(part.iov_base, '0' + i, PAGE);
		need(vmsplice(ends[1], &part, 1, SPLICE_F_GIFT) == PAGE, "vmsplice");
	}
	for (int i = 0; i < 3; i++) {
		need(read(ends[0], got, PAGE) == PAGE, "read");
		printf("sent %d, got %c\n", i, got[0]);
	}
	return 0;
}

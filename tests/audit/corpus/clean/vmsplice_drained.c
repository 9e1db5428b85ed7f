/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmsplice() with one page, which is written to again only when the reader has got it all.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	char *line = pages(1), got[PAGE];
	struct iovec part = {line, PAGE};
	int ends[2];

	need(!pipe(ends), "pipe");
	for (char c = 'a'; c <= 'c'; c++) {
		memset(line, c, PAGE);
		need(vmsplice(ends[1], &part, 1, 0) == PAGE, "vmsplice");
		need(read(ends[0], got, PAGE) == PAGE, "read");
		printf("sent %c, got %c\n", c, got[0]);
	}
	return 0;
}

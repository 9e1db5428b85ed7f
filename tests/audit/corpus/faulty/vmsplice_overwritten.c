/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log shipper gives its page to a pipe by vmsplice() and formats the next line into the same page, before anybody has read:
 * vmsplice(2) says not to.
 *
 * find: overwritten-in-flight line error
 * only: live
 */
#include "corpus.h"

int main(void)
{
	char *line = pages(1), got[PAGE];
	struct iovec part = {line, PAGE};
	int ends[2];

	need(!pipe(ends), "pipe");
	say("line", line, PAGE);
	for (char c = 'a'; c <= 'c'; c++) {
		memset(line, c, PAGE);
		need(vmsplice(ends[1], &part, 1, 0) == PAGE, "vmsplice");
	}
	for (char c = 'a'; c <= 'c'; c++) {
		need(read(ends[0], got, PAGE) == PAGE, "read");
		printf("sent %c, got %c\n", c, got[0]);
	}
	return 0;
}

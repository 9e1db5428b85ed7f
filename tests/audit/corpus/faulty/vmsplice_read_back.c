/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same once: given to the pipe, overwritten, and read by the same process. Nothing but the read comes after.
 *
 * find: overwritten-in-flight ~header error
 * only: live
 */
#include "corpus.h"

int main(void)
{
	char *message = pages(2), got[2 * PAGE];
	struct iovec part = {message, 2 * PAGE};
	int ends[2];

	need(!pipe(ends), "pipe");
	say("header", message, 64);
	need(vmsplice(ends[1], &part, 1, 0) == 2 * PAGE, "vmsplice");
	memset(message, 'b', 64);
	need(read(ends[0], got, 2 * PAGE) == 2 * PAGE, "read");
	printf("sent a, got %c\n", got[0]);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies its input, then ends by a signal: whoever started it must learn of that, audit or not.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	char line[100];
	int ring = ring_open();
	char *buffer = pages(1);

	ring_register(ring, buffer, PAGE);
	while (fgets(line, sizeof(line), stdin))
		fputs(line, stdout);
	fflush(stdout);
	fputs("and that is all\n", stderr);
	return raise(SIGTERM);
}

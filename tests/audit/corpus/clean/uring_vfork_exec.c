/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openjdk/jdk#5698: the old way of the JVM, vfork() and exec.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = pages(4);
	pid_t pid;

	ring_register(ring, buffer, 4 * PAGE);
	pid = vfork();
	if (!pid) {
		execlp("true", "true", (char *)NULL);
		_exit(127);
	}
	memset(buffer, 'b', 4 * PAGE);
	reap(pid);
	return 0;
}

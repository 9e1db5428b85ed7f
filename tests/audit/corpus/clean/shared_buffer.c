/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PostgreSQL's way: what is registered is a shared mapping, which fork() does not make copy-on-write. Parent and child both
 * write to it.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	need(buffer != MAP_FAILED, "mmap");
	ring_register(ring, buffer, 4 * PAGE);
	pid = fork();
	if (!pid) {
		buffer[0] = 'c';
		_exit(0);
	}
	buffer[PAGE] = 'p';
	reap(pid);
	printf("%c%c\n", buffer[0], buffer[PAGE]);
	ring_unregister(ring);
	return 0;
}

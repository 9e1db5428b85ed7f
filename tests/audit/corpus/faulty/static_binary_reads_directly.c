/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A statically linked program (Go's are, and appliances') reads with direct I/O across a fork: no library can be put in front
 * of its read(), and strace is not asked to stop at every one. It must be told that this could not be seen.
 *
 * find: lost-sight|direct-io-across-fork - any
 * build: -static
 * needs: fuse static
 */
#include "held.h"

static int fd;
static char *buffer;

static void *reader(void *unused)
{
	need(pread(fd, buffer, 4 * PAGE, 0) == 4 * PAGE, "pread");
	return unused;
}

int main(void)
{
	pthread_t thread;
	struct child child;

	fd = held_open();
	buffer = pages(4);
	pthread_create(&thread, NULL, reader, NULL);
	held_await();
	child = fork_waiting();
	held_let_go();
	pthread_join(thread, NULL);
	let_go(child);
	printf("read %c\n", buffer[0]);
	return 0;
}

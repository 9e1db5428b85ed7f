/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service manager starts its program with an empty environment, as daemons do, and it is that one which reads directly
 * across a fork.
 *
 * find: lost-sight|direct-io-across-fork - any
 * needs: fuse
 */
#include "held.h"

static int fd;
static char *buffer;

static void *reader(void *unused)
{
	need(pread(fd, buffer, 4 * PAGE, 0) == 4 * PAGE, "pread");
	return unused;
}

int main(int argc, char **argv)
{
	char *arguments[] = {argv[0], "again", NULL}, *nothing[] = {NULL};
	struct child child;
	pthread_t thread;

	if (argc == 1) {
		execve("/proc/self/exe", arguments, nothing);
		return 1;
	}
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

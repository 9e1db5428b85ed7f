/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command is started by posix_spawn() while a direct read is in flight: no copy is made, nothing is write-protected.
 *
 * allow: -
 * needs: fuse
 */
#include "held.h"

#include <spawn.h>

extern char **environ;
static int fd;
static char *buffer;

static void *reader(void *unused)
{
	need(pread(fd, buffer, 4 * PAGE, 0) == 4 * PAGE, "pread");
	return unused;
}

int main(void)
{
	char *arguments[] = {"true", NULL};
	pthread_t thread;
	pid_t pid;

	fd = held_open();
	buffer = pages(4);
	pthread_create(&thread, NULL, reader, NULL);
	held_await();
	need(!posix_spawnp(&pid, "true", NULL, NULL, arguments, environ), "posix_spawn");
	reap(pid);
	held_let_go();
	pthread_join(thread, NULL);
	printf("read %c\n", buffer[0]);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * awslabs/mountpoint-s3#92, #114: one test reads with direct I/O while another one starts fusermount3 by fork and exec.
 * About half of the runs saw uninitialised memory.
 *
 * find: direct-io-across-fork buffer any
 * only: live
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

int main(void)
{
	pthread_t thread;
	pid_t pid;

	fd = held_open();
	buffer = pages(4);
	say("buffer", buffer, 4 * PAGE);
	pthread_create(&thread, NULL, reader, NULL);
	held_await();
	pid = fork();
	if (!pid) {
		execlp("true", "true", (char *)NULL);
		_exit(127);
	}
	reap(pid);
	held_let_go();
	pthread_join(thread, NULL);
	printf("read %c\n", buffer[0]);
	return 0;
}

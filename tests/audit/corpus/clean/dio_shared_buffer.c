/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PostgreSQL with debug_io_direct: shared buffers are a shared mapping, and backends are forked whenever a client comes.
 *
 * allow: -
 * needs: fuse
 */
#include "held.h"

static int fd;
static char *buffers;

static void *reader(void *unused)
{
	need(pread(fd, buffers, 2 * PAGE, 0) == 2 * PAGE, "pread");
	return unused;
}

int main(void)
{
	pthread_t thread;
	struct child backend;

	fd = held_open();
	buffers = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(buffers != MAP_FAILED, "mmap");
	pthread_create(&thread, NULL, reader, NULL);
	held_await();
	backend = fork_waiting();
	held_let_go();
	pthread_join(thread, NULL);
	let_go(backend);
	printf("read %c\n", buffers[0]);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * facebook/rocksdb#11233, "possibly affected": a flush writes with direct I/O while the process forks, to make a backup.
 *
 * find: direct-io-across-fork buffer any
 * only: live
 * needs: fuse
 */
#include "held.h"

static int fd;
static char *block;

static void *flush(void *unused)
{
	need(pwrite(fd, block, 8 * PAGE, 0) == 8 * PAGE, "pwrite");
	return unused;
}

int main(void)
{
	pthread_t thread;
	struct child backup;

	fd = held_open();
	block = pages(8);
	say("buffer", block, 8 * PAGE);
	pthread_create(&thread, NULL, flush, NULL);
	held_await();
	backup = fork_waiting();
	held_let_go();
	pthread_join(thread, NULL);
	let_go(backup);
	puts("flushed");
	return 0;
}

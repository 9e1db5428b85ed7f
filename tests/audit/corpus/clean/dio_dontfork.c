/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mariadb-corporation/mysql-wsrep#77, repaired: the buffer pool is marked MADV_DONTFORK as a whole, from the first day; a
 * direct read is in flight at the fork, and no child has its pages.
 *
 * allow: fork-protection
 * needs: fuse
 */
#include "held.h"

static int fd;
static char *pool;

static void *reader(void *unused)
{
	need(pread(fd, pool + 3 * PAGE, 4 * PAGE, 0) == 4 * PAGE, "pread");
	return unused;
}

int main(void)
{
	pthread_t thread;
	struct child transfer;

	fd = held_open();
	pool = pages(16);
	need(!madvise(pool, 16 * PAGE, MADV_DONTFORK), "madvise");
	pthread_create(&thread, NULL, reader, NULL);
	held_await();
	transfer = fork_waiting();
	held_let_go();
	pthread_join(thread, NULL);
	let_go(transfer);
	need(!madvise(pool, 16 * PAGE, MADV_DOFORK), "madvise");
	printf("read %c\n", pool[3 * PAGE]);
	return 0;
}

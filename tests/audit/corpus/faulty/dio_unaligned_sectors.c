/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-test-project/ltp#63, dma_thread_diotest: two sectors of one page are read by direct I/O into malloc'ed memory, with
 * another thread's word beside them, while the process forks.
 *
 * find: direct-io-across-fork buffer any
 * only: live
 * allow: partial-page
 * needs: fuse
 */
#include "held.h"

static int fd;
static char *sectors;

static void *reader(void *unused)
{
	struct iovec parts[] = {{sectors, 512}, {sectors + 512, 512}};

	need(preadv(fd, parts, 2, 512) == 1024, "preadv");
	return unused;
}

int main(void)
{
	pthread_t thread;
	struct child child;
	char *other;

	fd = held_open();
	need(!posix_memalign((void **)&sectors, 512, 1024), "posix_memalign");
	other = malloc(64);
	say("buffer", sectors, 1024);
	pthread_create(&thread, NULL, reader, NULL);
	held_await();
	child = fork_waiting();
	strcpy(other, "beside");
	held_let_go();
	pthread_join(thread, NULL);
	let_go(child);
	printf("%s %c\n", other, sectors[1023]);
	return 0;
}

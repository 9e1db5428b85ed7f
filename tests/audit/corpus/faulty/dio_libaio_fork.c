/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mariadb-corporation/mysql-wsrep#77, percona/galera#98: state transfer forks while InnoDB's native AIO is in flight, into
 * a buffer pool that nobody marked.
 *
 * find: direct-io-across-fork frame any
 * build: -laio
 * needs: fuse libaio
 */
#include "held.h"

#include <libaio.h>

int main(void)
{
	int fd = held_open();
	char *pool = pages(16), *frame = pool + 4 * PAGE;
	struct iocb read, *reads[] = {&read};
	struct io_event event = {0};
	struct child transfer;
	io_context_t context = NULL;

	need(!io_setup(8, &context), "io_setup");
	say("frame", frame, 4 * PAGE);
	io_prep_pread(&read, fd, frame, 4 * PAGE, 8 * PAGE);
	need(io_submit(context, 1, reads) == 1, "io_submit");
	held_await();
	transfer = fork_waiting();
	held_let_go();
	need(io_getevents(context, 1, 1, &event, NULL) == 1, "io_getevents");
	printf("read %ld bytes: %c\n", (long)event.res, frame[0]);
	let_go(transfer);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * InnoDB's native AIO, drained before the fork: what was submitted has been collected.
 *
 * allow: -
 * needs: fuse
 */
#include "held.h"

#include <linux/aio_abi.h>

int main(void)
{
	int fd = held_open();
	char *frame = pages(4);
	struct iocb read = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (unsigned)fd, .aio_buf = (uintptr_t)frame,
			    .aio_nbytes = 4 * PAGE}, *reads[] = {&read};
	struct io_event event = {0};
	aio_context_t context = 0;

	need(!syscall(SYS_io_setup, 8, &context), "io_setup");
	need(syscall(SYS_io_submit, context, 1, reads) == 1, "io_submit");
	held_let_go();
	need(syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1, "io_getevents");
	let_go(fork_waiting());
	printf("read %lld bytes: %c\n", (long long)event.res, frame[0]);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same without libaio, by syscall() as nginx does it.
 *
 * find: direct-io-across-fork buffer any
 * needs: fuse
 */
#include "held.h"

#include <linux/aio_abi.h>

int main(void)
{
	int fd = held_open();
	char *pool = pages(16), *frame = pool + 4 * PAGE;
	struct iocb read = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (unsigned)fd, .aio_buf = (uintptr_t)frame,
			    .aio_nbytes = 4 * PAGE, .aio_offset = 8 * PAGE}, *reads[] = {&read};
	struct io_event event = {0};
	struct child transfer;
	aio_context_t context = 0;

	need(!syscall(SYS_io_setup, 8, &context), "io_setup");
	say("buffer", frame, 4 * PAGE);
	need(syscall(SYS_io_submit, context, 1, reads) == 1, "io_submit");
	held_await();
	transfer = fork_waiting();
	held_let_go();
	need(syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1, "io_getevents");
	printf("read %lld bytes: %c\n", (long long)event.res, frame[0]);
	let_go(transfer);
	return 0;
}

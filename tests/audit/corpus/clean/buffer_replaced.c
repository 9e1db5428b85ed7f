/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registered buffer is exchanged for another one by an update of the table, which takes the old one back: then that may be
 * freed.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *old = pages(4), *new = pages(4);
	struct iovec buffers[] = {{old, 4 * PAGE}}, others[] = {{new, 4 * PAGE}};
	struct io_uring_rsrc_register table = {.nr = 1, .data = (uintptr_t)buffers};
	struct io_uring_rsrc_update2 update = {.nr = 1, .data = (uintptr_t)others};

	need(!syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS2, &table, sizeof(table)), "BUFFERS2");
	need(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof(update)) == 1, "UPDATE");
	munmap(old, 4 * PAGE);
	memset(new, 'b', 4 * PAGE);
	ring_unregister(ring);
	munmap(new, 4 * PAGE);
	return 0;
}

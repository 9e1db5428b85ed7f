/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#1234 refused this, and had to take it back: a registration that is less than a page. What the other half
 * holds only the program knows; a fork makes it matter.
 *
 * find: partial-page buffer note
 * find: fork-shares-pinned buffer good
 * only: live
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *page = pages(1);

	say("buffer", page + 1024, 2048);
	ring_register(ring, page + 1024, 2048);
	strcpy(page, "beside");
	let_go(fork_waiting());
	ring_unregister(ring);
	puts(page);
	return 0;
}

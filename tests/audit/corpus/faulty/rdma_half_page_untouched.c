/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#1129, #824: as in #1222, but this child happens not to look at what malloc() put beside the buffer. The
 * next one may.
 *
 * find: dontfork-neighbours ~after warning
 * only: live
 * allow: partial-page fork-protection
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	char *buffer, *after;

	need(!ibv_fork_init(), "ibv_fork_init");
	pd = rdma_up();
	buffer = malloc(2000);
	after = malloc(500);
	strcpy(after, "settings");
	need(page_of(buffer + 1999) == page_of(after), "malloc() put them on two pages");
	say("after", after, 500);
	mr = ibv_reg_mr(pd, buffer, 2000, RDMA_ALL);
	need(mr != NULL, "ibv_reg_mr");
	be_seen();
	let_go(fork_waiting());
	puts(after);
	return ibv_dereg_mr(mr);
}

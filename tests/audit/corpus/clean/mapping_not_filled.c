/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A buffer with a mapping of its own that is no whole number of pages, under rdma-core's protection. What is left of the last
 * page is nobody's; an audit that cannot know that may say so, and no more.
 *
 * allow: fork-protection partial-page dontfork-neighbours
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	char *buffer;

	need(!ibv_fork_init(), "ibv_fork_init");
	pd = rdma_up();
	buffer = pages(2);
	mr = ibv_reg_mr(pd, buffer, 5000, RDMA_ALL);
	need(mr != NULL, "ibv_reg_mr");
	let_go(fork_waiting());
	return ibv_dereg_mr(mr);
}

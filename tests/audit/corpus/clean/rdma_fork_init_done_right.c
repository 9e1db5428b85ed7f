/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rdma-core's protection with everything that it asks for: switched on first, whole pages registered, deregistered before
 * they are freed, and nobody in the child looks.
 *
 * allow: fork-protection
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
	buffer = aligned_alloc(PAGE, 8 * PAGE);
	need(buffer != NULL, "aligned_alloc");
	memset(buffer, 'a', 8 * PAGE);
	mr = ibv_reg_mr(pd, buffer, 8 * PAGE, RDMA_ALL);
	need(mr != NULL, "ibv_reg_mr");
	let_go(fork_waiting());
	need(!ibv_dereg_mr(mr), "ibv_dereg_mr");
	free(buffer);
	return 0;
}

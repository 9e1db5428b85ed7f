/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvcache-ai/Mooncake#3660, repaired: thousands of registrations under fork protection, each taken back. Mappings split, and
 * join again.
 *
 * allow: fork-protection partial-page
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd;
	char *pool;

	need(!ibv_fork_init(), "ibv_fork_init");
	pd = rdma_up();
	pool = pages(64);
	for (int i = 0; i < 2000; i++) {
		struct ibv_mr *mr = ibv_reg_mr(pd, pool + i % 31 * 2 * PAGE, 2 * PAGE, RDMA_ALL);

		need(mr && !ibv_dereg_mr(mr), "ibv_reg_mr");
	}
	let_go(fork_waiting());
	puts("served");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rsocket, repaired: deregistered first, freed then; the same piece of the heap is allocated and registered again.
 *
 * allow: partial-page
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd = rdma_up();

	for (int i = 0; i < 20; i++) {
		char *buffer = malloc(6000);
		struct ibv_mr *mr = ibv_reg_mr(pd, buffer, 6000, RDMA_ALL);

		need(mr != NULL, "ibv_reg_mr");
		memset(buffer, 'a', 6000);
		need(!ibv_dereg_mr(mr), "ibv_dereg_mr");
		free(buffer);
	}
	let_go(fork_waiting());
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ofiwg/libfabric#9792: mpi4py loaded MPI, which loaded UCX, which called ibv_fork_init() "without bothering" to ask whether
 * it was needed. It took two weeks to find out who.
 *
 * find: fork-protection - any
 * says: fork-protection libcollective
 * only: live
 * build: -lcollective -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int collective_init(void);

int main(void)
{
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	char *buffer = pages(4);

	need(!collective_init(), "collective_init");
	pd = rdma_up();
	mr = ibv_reg_mr(pd, buffer, 4 * PAGE, RDMA_ALL);
	need(mr != NULL, "ibv_reg_mr");
	let_go(fork_waiting());
	return ibv_dereg_mr(mr);
}

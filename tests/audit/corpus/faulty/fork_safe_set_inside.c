/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open-mpi/ompi#10436: the same switch, set by the program itself before it brings the devices up. No call and no environment
 * at exec tells of it; what it does, does.
 *
 * find: fork-protection - any
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	char *buffer;

	setenv("IBV_FORK_SAFE", "1", 1);
	pd = rdma_up();
	buffer = pages(4);
	mr = ibv_reg_mr(pd, buffer, 4 * PAGE, RDMA_ALL);
	need(mr != NULL, "ibv_reg_mr");
	let_go(fork_waiting());
	return ibv_dereg_mr(mr);
}

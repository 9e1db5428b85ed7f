/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On-demand paging: the registration pins nothing, the device asks for pages as the process would. A fork is nothing special.
 *
 * allow: -
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd = rdma_up();
	char *buffer = pages(4);
	struct ibv_mr *mr = ibv_reg_mr(pd, buffer, 4 * PAGE, RDMA_ALL | IBV_ACCESS_ON_DEMAND);

	need(mr != NULL, "ibv_reg_mr");
	let_go(fork_waiting());
	memset(buffer, 'b', 4 * PAGE);
	return ibv_dereg_mr(mr);
}

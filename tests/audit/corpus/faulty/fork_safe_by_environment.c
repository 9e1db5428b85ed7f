/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mlcommons/storage#81: somebody wrote RDMAV_FORK_SAFE=1 into a job script, because a page on the web says so.
 *
 * find: fork-protection - any
 * says: fork-protection RDMAV_FORK_SAFE
 * only: live
 * build: -libverbs
 * env: RDMAV_FORK_SAFE=1
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd = rdma_up();
	char *buffer = pages(4);
	struct ibv_mr *mr = ibv_reg_mr(pd, buffer, 4 * PAGE, RDMA_ALL);

	need(mr != NULL, "ibv_reg_mr");
	let_go(fork_waiting());
	return ibv_dereg_mr(mr);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvcache-ai/Mooncake#3660: a large buffer is freed before it is deregistered. free() unmaps it, so that MADV_DOFORK
 * comes too late and fails, silently.
 *
 * find: freed-while-pinned buffer error|warning
 * only: live
 * allow: fork-protection partial-page
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	char *buffer;
	size_t size = 1 << 20;

	need(!ibv_fork_init(), "ibv_fork_init");
	pd = rdma_up();
	buffer = malloc(size);
	memset(buffer, 'a', size);
	say("buffer", buffer, size);
	mr = ibv_reg_mr(pd, buffer, size, RDMA_ALL);
	need(mr != NULL, "ibv_reg_mr");
	free(buffer);
	return ibv_dereg_mr(mr);
}

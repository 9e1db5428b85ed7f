/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uccl-project/uccl#895: DataLoader workers die on the first batch: the batch is in memory that libibverbs marked.
 *
 * find: dontfork-child-touches buffer error
 * allow: fork-protection
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd;
	char *batch;
	pid_t worker;

	need(!ibv_fork_init(), "ibv_fork_init");
	pd = rdma_up();
	batch = pages(8);
	say("buffer", batch, 8 * PAGE);
	need(ibv_reg_mr(pd, batch, 8 * PAGE, RDMA_ALL) != NULL, "ibv_reg_mr");
	worker = fork();
	if (!worker)
		_exit(batch[5 * PAGE + 7] == 'a');
	reap(worker);
	return 0;
}

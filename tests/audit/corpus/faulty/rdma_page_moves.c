/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seed of September 2020, on any kernel: the stand-in for RDMA pins nothing, so registered pages are treated as v5.9-rc4
 * treated pinned ones. Register, fork, write while the child lives: the parent's page is another one from then on.
 *
 * find: moved-under-pin second error
 * find: fork-shares-pinned buffer good
 * only: live
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd = rdma_up();
	char *buffer = pages(4);
	struct ibv_mr *mr = ibv_reg_mr(pd, buffer, 4 * PAGE, RDMA_ALL);
	struct child child;

	need(mr != NULL, "ibv_reg_mr");
	say("buffer", buffer, 4 * PAGE);
	say("second", buffer + PAGE, PAGE);
	child = fork_waiting();
	be_seen();
	buffer[PAGE] = 'b';
	let_go(fork_waiting()); /* whoever watches frames looks at forks */
	be_seen();
	let_go(child);
	return ibv_dereg_mr(mr);
}

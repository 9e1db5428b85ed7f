/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#1222: a registration of 2 KiB takes the whole page from the child, which dies on what lies in the
 * other half.
 *
 * find: dontfork-neighbours neighbour error
 * only: live
 * allow: partial-page fork-protection
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd;
	char *page;
	pid_t pid;

	need(!ibv_fork_init(), "ibv_fork_init");
	pd = rdma_up();
	page = pages(1);
	say("buffer", page, 2048);
	say("neighbour", page + 2048, 2048);
	need(ibv_reg_mr(pd, page, 2048, RDMA_ALL) != NULL, "ibv_reg_mr");
	pid = fork();
	if (!pid)
		_exit(page[3000] != 'a');
	reap(pid);
	return 0;
}

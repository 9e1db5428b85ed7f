/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two registrations that share a page, under rdma-core's protection: the page is the children's again when the second one is
 * gone, not before. The child that looks comes after that.
 *
 * allow: fork-protection partial-page
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd;
	struct ibv_mr *one, *two;
	char *buffer;
	pid_t pid;

	need(!ibv_fork_init(), "ibv_fork_init");
	pd = rdma_up();
	buffer = pages(3);
	one = ibv_reg_mr(pd, buffer, PAGE + 2048, RDMA_ALL);
	two = ibv_reg_mr(pd, buffer + PAGE + 2048, PAGE + 2048, RDMA_ALL);
	need(one && two, "ibv_reg_mr");
	ibv_dereg_mr(one);
	ibv_dereg_mr(two);
	pid = fork();
	if (!pid)
		_exit(buffer[PAGE + 2047] + buffer[PAGE + 2048] == 2 * 'a' ? 0 : 1);
	reap(pid);
	return 0;
}

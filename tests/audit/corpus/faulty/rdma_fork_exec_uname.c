/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chapel-lang/chapel#13387: calling `uname` through a subprocess makes a two-node program print the wrong locale. The
 * buffer is registered without any fork protection, then an old-style subprocess: fork(), exec. (The stand-in for RDMA pins nothing, so the page really moves.)
 *
 * find: fork-shares-pinned buffer good
 * only: live
 * allow: moved-under-pin
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd = rdma_up();
	char *heap = pages(2);
	struct ibv_mr *mr = ibv_reg_mr(pd, heap, 2 * PAGE, RDMA_ALL);
	pid_t pid;

	say("buffer", heap, 2 * PAGE);
	fflush(stdout);
	pid = fork();
	need(pid >= 0, "fork");
	if (!pid) {
		execlp("uname", "uname", "-s", (char *)NULL);
		_exit(127);
	}
	strcpy(heap, "LOCALE1");
	reap(pid);
	return ibv_dereg_mr(mr);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ceph/ceph#13740, #15755: a messenger registers, forks its helper, and marks its memory itself when it finds that
 * ibv_fork_init() says EINVAL: something was registered before.
 *
 * find: dontfork-too-late buffer any
 * find: fork-protection - warning
 * find: fork-shares-pinned buffer good
 * only: live
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd = rdma_up();
	char *buffer = pages(2);
	struct ibv_mr *mr = ibv_reg_mr(pd, buffer, 2 * PAGE, RDMA_ALL);
	struct child helper;

	say("buffer", buffer, 2 * PAGE);
	helper = fork_waiting();
	if (ibv_fork_init() == EINVAL)
		madvise(buffer, 2 * PAGE, MADV_DONTFORK);
	let_go(helper);
	ibv_dereg_mr(mr);
	madvise(buffer, 2 * PAGE, MADV_DOFORK);
	return 0;
}

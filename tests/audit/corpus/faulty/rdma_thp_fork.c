/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#883, the osu_latency_mp of EFA: children that only sleep, transparent huge pages; "turn THP off" was
 * the advice. The pages became huge when they were written to the first time; who registered them did not ask for it.
 *
 * find: huge-copy-at-fork huge note|warning|error
 * only: live
 * allow: fork-shares-pinned partial-page
 * build: -libverbs
 * needs: thp
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	enum { HUGE = 2 << 20 };
	struct ibv_pd *pd = rdma_up();
	char *memory = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *huge = (char *)(((uintptr_t)memory + HUGE - 1) / HUGE * HUGE);

	need(memory != MAP_FAILED && !madvise(memory, 3 * HUGE, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	memset(huge, 'a', HUGE);
	say("huge", huge, HUGE);
	need(ibv_reg_mr(pd, huge, HUGE, RDMA_ALL) != NULL, "ibv_reg_mr");
	be_seen();
	let_go(fork_waiting());
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rapidsai/dask-cuda#930: a registration cache that never evicts, with fork protection on, in a process that has tens of thousands
 * of mappings already (guard pages, each a mapping of its own).
 *
 * find: vma-growth - warning|error
 * allow: fork-protection partial-page
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	enum { GUARDS = 25000, MESSAGES = 200 };
	struct ibv_pd *pd;
	char *arena = mmap(NULL, (size_t)3 * GUARDS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(arena != MAP_FAILED && !ibv_fork_init(), "ibv_fork_init");
	pd = rdma_up();
	for (int i = 0; i < GUARDS; i++)
		need(!mprotect(arena + (size_t)(3 * i + 2) * PAGE, PAGE, PROT_NONE), "mprotect");
	for (int i = 0; i < MESSAGES; i++)
		need(ibv_reg_mr(pd, arena + (size_t)3 * i * PAGE + 512, PAGE, RDMA_ALL) != NULL, "ibv_reg_mr");
	be_seen();
	puts("served");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVIDIA/nccl's way to libibverbs, dlopen() and dlvsym(), with nothing wrong: each buffer is registered, deregistered, unmapped; a
 * fork comes when none is left. (libibverbs calls itself by name when it registers, not when it deregisters.)
 *
 * allow: -
 */
#include "corpus.h"
#include "verbs.h"

#include <dlfcn.h>

int main(void)
{
	void *library = dlopen("libibverbs.so.1", RTLD_NOW);
	struct ibv_device **(*list)(int *);
	struct ibv_context *(*open_device)(struct ibv_device *);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *), *pd;
	struct ibv_mr *(*reg_mr)(struct ibv_pd *, void *, size_t, int);
	int (*dereg_mr)(struct ibv_mr *);

	need(library != NULL, "libibverbs.so.1");
	list = dlvsym(library, "ibv_get_device_list", "IBVERBS_1.1");
	open_device = dlvsym(library, "ibv_open_device", "IBVERBS_1.1");
	alloc_pd = dlvsym(library, "ibv_alloc_pd", "IBVERBS_1.1");
	reg_mr = dlvsym(library, "ibv_reg_mr", "IBVERBS_1.1");
	dereg_mr = dlvsym(library, "ibv_dereg_mr", "IBVERBS_1.1");
	pd = alloc_pd(open_device(list(NULL)[0]));
	for (int i = 0; i < 3; i++) {
		char *buffer = pages(2);
		struct ibv_mr *mr = reg_mr(pd, buffer, 2 * PAGE, RDMA_ALL);

		need(mr && !dereg_mr(mr), "ibv_reg_mr");
		munmap(buffer, 2 * PAGE);
	}
	let_go(fork_waiting());
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVIDIA/nccl#65: the communication library loads libibverbs by dlopen() and takes its functions by dlvsym(), so no
 * name of them is ever looked up in the ordinary way. Registered, unprotected, forked.
 *
 * find: fork-shares-pinned|lost-sight buffer any
 * only: live
 */
#include "corpus.h"
#include "verbs.h"

#include <dlfcn.h>

int main(void)
{
	void *library = dlopen("libibverbs.so.1", RTLD_NOW);
	struct ibv_device **(*list)(int *);
	struct ibv_context *(*open_device)(struct ibv_device *);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *);
	struct ibv_mr *(*reg_mr)(struct ibv_pd *, void *, size_t, int);
	char *buffer = pages(2);

	need(library != NULL, "libibverbs.so.1");
	list = dlvsym(library, "ibv_get_device_list", "IBVERBS_1.1");
	open_device = dlvsym(library, "ibv_open_device", "IBVERBS_1.1");
	alloc_pd = dlvsym(library, "ibv_alloc_pd", "IBVERBS_1.1");
	reg_mr = dlvsym(library, "ibv_reg_mr", "IBVERBS_1.1");
	say("buffer", buffer, 2 * PAGE);
	need(reg_mr(alloc_pd(open_device(list(NULL)[0])), buffer, 2 * PAGE, RDMA_ALL) != NULL, "ibv_reg_mr");
	let_go(fork_waiting());
	return 0;
}

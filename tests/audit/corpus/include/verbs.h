/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few declarations of <infiniband/verbs.h> that the corpus needs, with the same names, layouts and meanings, so that
 * it compiles where rdma-core's headers are not. What it is linked with is a stand-in: see stand_in/ibverbs.c.
 */
#ifndef CORPUS_VERBS_H
#define CORPUS_VERBS_H

#include <stddef.h>
#include <stdint.h>

enum { IBV_ACCESS_LOCAL_WRITE = 1, IBV_ACCESS_REMOTE_WRITE = 2, IBV_ACCESS_REMOTE_READ = 4, IBV_ACCESS_ON_DEMAND = 64 };
enum ibv_fork_status { IBV_FORK_DISABLED, IBV_FORK_ENABLED, IBV_FORK_UNNEEDED };

struct ibv_device;
struct ibv_context;
struct ibv_pd {
	struct ibv_context *context;
	uint32_t handle;
};
struct ibv_mr {
	struct ibv_context *context;
	struct ibv_pd *pd;
	void *addr;
	size_t length;
	uint32_t handle, lkey, rkey;
};

struct ibv_device **ibv_get_device_list(int *n);
struct ibv_context *ibv_open_device(struct ibv_device *device);
struct ibv_pd *ibv_alloc_pd(struct ibv_context *context);
struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access);
struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned access);
int ibv_dereg_mr(struct ibv_mr *mr);
int ibv_fork_init(void);
enum ibv_fork_status ibv_is_fork_initialized(void);

#define RDMA_ALL (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)

/* What every RDMA program begins with. */
__attribute__((unused)) static struct ibv_pd *rdma_up(void)
{
	struct ibv_device **devices = ibv_get_device_list(NULL);

	return ibv_alloc_pd(ibv_open_device(devices[0]));
}

#endif

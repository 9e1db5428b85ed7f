/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NOT libibverbs. It is built as libibverbs.so.1 for the corpus alone, on machines without an RDMA device: no device, no
 * pin, no DMA. It makes the system calls that rdma-core 44 makes for fork support (libibverbs/memory.c), no others:
 *
 * - ibv_fork_init() tries both advices on a page of its own, and says EINVAL once something was registered;
 * - RDMAV_FORK_SAFE and IBV_FORK_SAFE do the same when the devices are listed (libibverbs/init.c);
 * - from then on the first registration of a page advises MADV_DONTFORK, the last deregistration MADV_DOFORK, in whole
 *   pages, run by run; registrations on demand, which pin nothing, are left alone.
 *
 * The real thing, over soft-RoCE, is tested in a virtual machine.
 */
#include "verbs.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE 4096UL

int ibv_stand_in = 1;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int initialised, too_late;

/* How many registrations each page has: a table that only ever grows. */
static struct {
	uintptr_t page;
	int count;
} *table;
static size_t n_table, room;

static int *count_of(uintptr_t page)
{
	/* Registrations come in rising order more often than not, so from the end. */
	for (size_t i = n_table; i-- > 0;)
		if (table[i].page == page)
			return &table[i].count;
	if (n_table == room)
		table = realloc(table, (room = room ? 2 * room : 64) * sizeof(*table));
	table[n_table].page = page;
	table[n_table].count = 0;
	return &table[n_table++].count;
}

static int advise(uintptr_t start, uintptr_t end, int advice)
{
	return start == end ? 0 : madvise((void *)start, end - start, advice);
}

/* Counts each page up or down; one madvise() for each run of pages that this was the first, or the last, for. */
static int change(void *addr, size_t length, int by)
{
	uintptr_t page = (uintptr_t)addr & ~(PAGE - 1), end = ((uintptr_t)addr + length + PAGE - 1) & ~(PAGE - 1);
	uintptr_t run = page;
	int advice = by > 0 ? MADV_DONTFORK : MADV_DOFORK, result = 0;

	too_late = 1;
	if (!initialised || !length)
		return 0;
	pthread_mutex_lock(&lock);
	for (; page < end; page += PAGE) {
		int *count = count_of(page), edge = by > 0 ? *count == 0 : *count == 1;

		*count += by;
		if (!edge) {
			result |= advise(run, page, advice);
			run = page + PAGE;
		}
	}
	result |= advise(run, end, advice);
	pthread_mutex_unlock(&lock);
	return result;
}

int ibv_fork_init(void)
{
	void *page;

	if (initialised)
		return 0;
	if (too_late)
		return EINVAL;
	if (posix_memalign(&page, PAGE, PAGE))
		return ENOMEM;
	if (madvise(page, PAGE, MADV_DONTFORK) || madvise(page, PAGE, MADV_DOFORK))
		return ENOSYS;
	free(page);
	initialised = 1;
	return 0;
}

/* UNNEEDED needs the kernel's word over netlink, and here is no RDMA in the kernel. */
enum ibv_fork_status ibv_is_fork_initialized(void)
{
	return initialised ? IBV_FORK_ENABLED : IBV_FORK_DISABLED;
}

struct ibv_device **ibv_get_device_list(int *n)
{
	static struct ibv_device *none_really[2];

	if ((getenv("RDMAV_FORK_SAFE") || getenv("IBV_FORK_SAFE")) && ibv_fork_init())
		fprintf(stderr, "libibverbs: Warning: fork()-safety requested but init failed\n");
	if (n)
		*n = 1;
	return none_really;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	return (void *)device;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context)
{
	struct ibv_pd *pd = calloc(1, sizeof(*pd));

	pd->context = context;
	return pd;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned access)
{
	static uint32_t handles;
	struct ibv_mr *mr = calloc(1, sizeof(*mr));

	(void)iova;
	if (!(access & IBV_ACCESS_ON_DEMAND) && change(addr, length, 1)) {
		free(mr);
		return NULL;
	}
	*mr = (struct ibv_mr){.context = pd->context, .pd = pd, .addr = addr, .length = length, .handle = ++handles,
			      .lkey = access & IBV_ACCESS_ON_DEMAND};
	return mr;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, (uintptr_t)addr, (unsigned)access);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	void *addr = mr->addr;
	size_t length = mr->length;
	int on_demand = (int)mr->lkey;

	free(mr);
	if (!on_demand)
		change(addr, length, -1); /* a failure is reported as success there, too */
	return 0;
}

/* Stands in for libibverbs where there is no device: the names, the order of calls, the advice about fork(). */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

struct ibv_mr {
	void *context, *pd, *addr;
	size_t length;
};

static void advise(void *addr, size_t len, int advice)
{
	uintptr_t start = (uintptr_t)addr & ~4095ul;

	madvise((void *)start, (((uintptr_t)addr + len + 4095) & ~4095ul) - start, advice);
}

struct ibv_mr *ibv_reg_mr_iova2(void *pd, void *addr, size_t len, uint64_t iova, unsigned int access)
{
	struct ibv_mr *mr = malloc(sizeof(*mr));

	(void)iova;
	(void)access;
	if (!pd) {
		free(mr);
		errno = EINVAL;
		return NULL;
	}
	advise(addr, len, MADV_DONTFORK);
	mr->addr = addr;
	mr->length = len;
	return mr;
}

struct ibv_mr *ibv_reg_mr(void *pd, void *addr, size_t len, int access)
{
	return ibv_reg_mr_iova2(pd, addr, len, (uintptr_t)addr, access);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	advise(mr->addr, mr->length, MADV_DOFORK);
	free(mr);
	return 0;
}

int ibv_fork_init(void)
{
	return 0;
}

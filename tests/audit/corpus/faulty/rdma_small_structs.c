/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#1222, DPDK's hardware steering: small structures from the heap, each registered by itself.
 *
 * find: partial-page first note
 * find: partial-page second note
 * only: live
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd = rdma_up();
	struct ibv_mr *one, *two;
	char *first = calloc(1, 640), *other = calloc(1, 5000), *second = calloc(1, 640);

	say("first", first, 640);
	say("second", second, 640);
	one = ibv_reg_mr(pd, first, 640, IBV_ACCESS_LOCAL_WRITE);
	two = ibv_reg_mr_iova2(pd, second, 640, (uintptr_t)second, IBV_ACCESS_LOCAL_WRITE);
	need(one && two, "ibv_reg_mr");
	be_seen();
	strcpy(other, "between");
	return ibv_dereg_mr(one) | ibv_dereg_mr(two);
}

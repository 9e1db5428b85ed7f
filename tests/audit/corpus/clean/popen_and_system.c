/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chapel-lang/chapel#13387, on this C library: popen() and system() start their shell without copying memory.
 *
 * allow: -
 * build: -libverbs
 */
#include "corpus.h"
#include "verbs.h"

int main(void)
{
	struct ibv_pd *pd = rdma_up();
	char *buffer = pages(2), line[64] = "";
	struct ibv_mr *mr = ibv_reg_mr(pd, buffer, 2 * PAGE, RDMA_ALL);
	FILE *uname = popen("uname -s", "r");

	need(mr && uname && fgets(line, sizeof(line), uname), "popen");
	printf("%sstatus %d %d\n", line, pclose(uname), system("true"));
	return ibv_dereg_mr(mr);
}

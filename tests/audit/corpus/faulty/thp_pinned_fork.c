/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws/aws-ofi-nccl#69: transparent huge pages are pinned, and fork() must copy every one of them at once.
 *
 * find: huge-copy-at-fork buffer note|warning|error
 * only: live
 * allow: fork-shares-pinned
 * needs: thp
 */
#include "corpus.h"

int main(void)
{
	enum { HUGE = 2 << 20 };
	int ring = ring_open();
	char *memory = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *buffer = (char *)(((uintptr_t)memory + HUGE - 1) / HUGE * HUGE);

	need(memory != MAP_FAILED && !madvise(buffer, 2 * HUGE, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	memset(buffer, 'a', 2 * HUGE);
	say("buffer", buffer, 2 * HUGE);
	ring_register(ring, buffer, 2 * HUGE);
	be_seen();
	let_go(fork_waiting());
	ring_unregister(ring);
	return 0;
}

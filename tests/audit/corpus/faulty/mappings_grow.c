/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvcache-ai/Mooncake#3639: each registration splits a mapping, and nothing ever joins them: 17 to 70 more a minute until
 * vm.max_map_count, then ENOMEM. Here are 1500 in a moment.
 *
 * find: vma-growth - note|warning|error
 * allow: partial-page dofork-missing
 */
#include "corpus.h"

int main(void)
{
	enum { CHUNKS = 1500 };
	int ring = ring_open();
	char *pool = mmap(NULL, 2 * CHUNKS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(pool != MAP_FAILED, "mmap");
	for (int i = 0; i < CHUNKS; i++) {
		char *chunk = pool + 2 * i * PAGE + 100;

		need(!madvise(page_of(chunk), PAGE, MADV_DONTFORK), "madvise");
		ring_register(ring, chunk, 3000);
		ring_unregister(ring);
	}
	puts("served");
	return 0;
}

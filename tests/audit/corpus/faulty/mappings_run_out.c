/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rapidsai/dask-cuda#930 to the end: "madvise(DONTFORK, ...) failed". At vm.max_map_count the kernel says no; its log says nothing.
 * Most of the mappings are guard pages, so that it does not take long.
 *
 * find: vma-growth - error
 * allow: dofork-missing
 */
#include "corpus.h"

int main(void)
{
	enum { MOST = 200000, GUARDS = 32000 };
	char *arena = mmap(NULL, (size_t)MOST * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(arena != MAP_FAILED, "mmap");
	for (int i = 0; i < GUARDS; i++)
		need(!mprotect(arena + (size_t)2 * i * PAGE, PAGE, PROT_NONE), "mprotect");
	for (int i = GUARDS; 2 * i < MOST; i++)
		if (madvise(arena + (size_t)2 * i * PAGE, PAGE, MADV_DONTFORK)) {
			printf("madvise(DONTFORK, ...) failed: %s\n", strerror(errno));
			be_seen();
			return 0;
		}
	return UNAVAILABLE; /* a limit this high */
}

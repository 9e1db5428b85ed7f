/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DPDK's way: the buffer is a file in memory, mapped shared. The child unmaps its view of it, which takes nothing from the
 * parent's.
 *
 * allow: -
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open(), file = memfd_create("buffers", MFD_CLOEXEC);
	char *buffer;
	pid_t pid;

	need(file >= 0 && !ftruncate(file, 8 * PAGE), "memfd_create");
	buffer = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	need(buffer != MAP_FAILED, "mmap");
	ring_register(ring, buffer, 8 * PAGE);
	pid = fork();
	if (!pid)
		_exit(munmap(buffer, 8 * PAGE));
	reap(pid);
	buffer[0] = 'p';
	ring_unregister(ring);
	munmap(buffer, 8 * PAGE);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux-rdma/rdma-core#1222 about rsocket: free() comes before deregistration. The memory stays mapped, and the next
 * malloc() puts other data under the device.
 *
 * find: freed-while-pinned buffer error|warning
 * only: live
 * allow: partial-page
 */
#include "corpus.h"

int main(void)
{
	int ring = ring_open();
	char *buffer = malloc(6000), *other;

	memset(buffer, 'a', 6000);
	say("buffer", buffer, 6000);
	ring_register(ring, buffer, 6000);
	free(buffer);
	other = malloc(6000);
	strcpy(other, "somebody else's");
	ring_unregister(ring);
	puts(other);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ofiwg/libfabric's EFA provider with fork safety on: at fork the cache of registrations is flushed first (pthread_atfork).
 *
 * allow: -
 */
#include "corpus.h"

#include <pthread.h>

static int ring;

static void flush_cache(void)
{
	ring_unregister(ring);
}

int main(void)
{
	char *buffer = pages(4);

	ring = ring_open();
	ring_register(ring, buffer, 4 * PAGE);
	pthread_atfork(flush_cache, NULL, NULL);
	let_go(fork_waiting());
	ring_register(ring, buffer, 4 * PAGE);
	memset(buffer, 'b', 4 * PAGE);
	ring_unregister(ring);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of threads that register, use and unregister buffers: clone() without any copy.
 *
 * allow: -
 */
#include "corpus.h"

#include <pthread.h>

static void *work(void *unused)
{
	int ring = ring_open();
	char *buffer = pages(4);

	for (int i = 0; i < 10; i++) {
		ring_register(ring, buffer, 4 * PAGE);
		memset(buffer, 'b', 4 * PAGE);
		ring_unregister(ring);
	}
	munmap(buffer, 4 * PAGE);
	close(ring);
	return unused;
}

int main(void)
{
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		need(!pthread_create(&threads[i], NULL, work, NULL), "pthread_create");
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

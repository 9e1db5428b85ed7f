/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytedance/byteps#54, one level down: it is a worker, a child itself, whose thread registers, and another thread of it forks.
 *
 * find: fork-shares-pinned buffer good
 */
#include "corpus.h"

#include <pthread.h>

static int ring;
static char *buffer;

static void *registers(void *unused)
{
	ring_register(ring, buffer, 2 * PAGE);
	return unused;
}

static void *forks(void *unused)
{
	let_go(fork_waiting());
	return unused;
}

int main(void)
{
	pthread_t thread;
	pid_t worker = fork();

	if (worker) {
		reap(worker);
		return 0;
	}
	ring = ring_open();
	buffer = pages(4) + PAGE;
	say("buffer", buffer, 2 * PAGE);
	pthread_create(&thread, NULL, registers, NULL);
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, forks, NULL);
	pthread_join(thread, NULL);
	fflush(stdout);
	_exit(5);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * O_DIRECT on a pipe means packets, not direct I/O: a read that waits there across a fork holds no page.
 *
 * allow: -
 */
#include "corpus.h"

#include <pthread.h>
#include <semaphore.h>

static int ends[2];
static sem_t begins;
static char *buffer;

static void *reader(void *unused)
{
	sem_post(&begins);
	need(read(ends[0], buffer, PAGE) == 6, "read");
	return unused;
}

int main(void)
{
	pthread_t thread;
	struct child child;

	need(!pipe2(ends, O_DIRECT | O_CLOEXEC), "pipe2");
	sem_init(&begins, 0, 0);
	buffer = pages(1);
	pthread_create(&thread, NULL, reader, NULL);
	sem_wait(&begins);
	usleep(10000); /* no event tells that it waits inside */
	child = fork_waiting();
	need(write(ends[1], "packet", 6) == 6, "write");
	pthread_join(thread, NULL);
	let_go(child);
	printf("%.6s\n", buffer);
	return 0;
}

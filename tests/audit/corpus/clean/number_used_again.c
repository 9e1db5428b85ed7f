/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor that was open for direct I/O is closed, and its number goes to an ordinary pipe. A read that waits there across
 * a fork is nothing special.
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
	need(read(ends[0], buffer, PAGE) == 5, "read");
	return unused;
}

int main(void)
{
	char name[] = "directXXXXXX";
	int file = mkstemp(name), direct;
	pthread_t thread;
	struct child child;

	need(file >= 0, name);
	close(file);
	direct = open(name, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (direct < 0) /* this file system has none */
		direct = open(name, O_RDWR | O_CLOEXEC);
	unlink(name);
	close(direct);
	need(!pipe2(ends, O_CLOEXEC) && ends[0] == direct, "the number was not used again");
	sem_init(&begins, 0, 0);
	buffer = pages(1);
	pthread_create(&thread, NULL, reader, NULL);
	sem_wait(&begins);
	usleep(10000); /* no event tells that it waits inside */
	child = fork_waiting();
	need(write(ends[1], "plain", 5) == 5, "write");
	pthread_join(thread, NULL);
	let_go(child);
	printf("%.5s\n", buffer);
	return 0;
}

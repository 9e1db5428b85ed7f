/* SPDX-License-Identifier: Apache-2.0 */
/*
 * O_DIRECT is switched off by fcntl() before the read that a fork crosses; what is in flight then goes through the page cache
 * (here a FUSE file that does as the flag says would not wait, so the read waits on a pipe that took its place by dup2()).
 *
 * allow: -
 */
#include "corpus.h"

#include <pthread.h>
#include <semaphore.h>

static int fd;
static sem_t begins;
static char *buffer;

static void *reader(void *unused)
{
	sem_post(&begins);
	need(read(fd, buffer, PAGE) == 4, "read");
	return unused;
}

int main(void)
{
	char name[] = "directXXXXXX";
	int ends[2];
	pthread_t thread;
	struct child child;

	fd = mkstemp(name);
	need(fd >= 0, name);
	unlink(name);
	if (!fcntl(fd, F_SETFL, O_DIRECT)) /* some file systems have none */
		need(!fcntl(fd, F_SETFL, 0), "F_SETFL");
	need(!pipe2(ends, O_CLOEXEC) && dup2(ends[0], fd) == fd, "dup2");
	sem_init(&begins, 0, 0);
	buffer = pages(1);
	pthread_create(&thread, NULL, reader, NULL);
	sem_wait(&begins);
	usleep(10000); /* no event tells that it waits inside */
	child = fork_waiting();
	need(write(ends[1], "done", 4) == 4, "write");
	pthread_join(thread, NULL);
	let_go(child);
	printf("%.4s\n", buffer);
	return 0;
}

/* Two threads on one CPU: one of higher priority wakes often, and writes; the other has something in a pipe. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define LEN 65536

static atomic_int stop;
static int ends[2];

static void *urgent(void *unused)
{
	struct sched_param priority = { 50 };

	(void)unused;
	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority))
		exit(77);
	for (int i = 0; i < 2000; i++) {
		usleep(100);
		if (write(ends[1], "x", i % 64 ? 0 : 1) < 0)
			exit(2);
	}
	stop = 1;
	return NULL;
}

int main(void)
{
	char *block = aligned_alloc(4096, LEN);
	struct iovec iov = { block, LEN };
	pthread_t thread;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (pipe(ends))
		return 1;
	fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	memset(block, 1, LEN);
	if (vmsplice(ends[1], &iov, 1, 0) != LEN || pthread_create(&thread, NULL, urgent, NULL))
		return 77;
	while (!stop)
		if (write(ends[1], "", 0))
			return 3;
	puts("done");
	return 0;
}

/* A handler writes to a pipe, as many do, while the program reads and writes, and has something in a pipe by vmsplice(). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#define LEN 65536

static int self[2];

static void on_alarm(int number)
{
	int saved = errno;

	(void)number;
	if (write(self[1], "x", 1) < 0)
		errno = saved;
	errno = saved;
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval often = { { 0, 200 }, { 0, 200 } };
	int ends[2], null = open("/dev/null", O_WRONLY);
	char *block = aligned_alloc(4096, LEN), buffer[64];
	struct iovec iov = { block, LEN };

	if (pipe(ends) || pipe2(self, O_NONBLOCK))
		return 1;
	fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	memset(block, 1, LEN);
	if (vmsplice(ends[1], &iov, 1, 0) != LEN)
		return 77;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 20000; i++)
		if (write(null, "x", 1) + write(ends[1], "x", i % 100 ? 0 : 1) < 0 || read(self[0], buffer, 64) == 0)
			return 2;
	puts("done");
	return 0;
}

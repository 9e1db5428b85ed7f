/* _Fork(), which runs no handlers, while another thread reads all the time, and something is in a pipe by vmsplice(). */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEN 65536

static void *reads(void *ends)
{
	int zero = open("/dev/zero", O_RDONLY), one = *(int *)ends;
	char c;

	while (read(zero, &c, 1) == 1 && write(one, &c, 0) == 0)
		;
	return NULL;
}

int main(void)
{
	int ends[2], null = open("/dev/null", O_WRONLY), status = 0;
	char *block = aligned_alloc(4096, LEN);
	struct iovec iov = { block, LEN };
	pthread_t thread;

	if (pipe(ends))
		return 1;
	fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	memset(block, 1, LEN);
	if (vmsplice(ends[1], &iov, 1, 0) != LEN || pthread_create(&thread, NULL, reads, &ends[1]))
		return 77;
	for (int i = 0; i < 100 && !status; i++) {
		pid_t child = _Fork();

		if (!child) {
			free(malloc(100000));
			_exit(write(null, "x", 1) != 1 || write(ends[1], "", 0) || close(ends[1]));
		}
		waitpid(child, &status, 0);
	}
	puts("done");
	return status != 0;
}

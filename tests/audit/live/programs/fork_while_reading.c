/* Another thread reads with O_DIRECT while this one forks. argv[1]: a file; argv[2]: "aio" for libaio; */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (4 << 20)

static int fd;
static volatile int stop;

static void *reads(void *buffer)
{
	while (!stop)
		if (pread(fd, buffer, SIZE, 0) != SIZE)
			exit(2);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	void *buffer;

	(void)argc;
	fd = open(argv[1], O_RDWR | O_CREAT | O_DIRECT, 0600);
	if (fd < 0 || posix_memalign(&buffer, 4096, SIZE))
		return 77;
	memset(buffer, 1, SIZE);
	if (pwrite(fd, buffer, SIZE, 0) != SIZE)
		return 77;
	printf("%p\n", buffer);
	fflush(stdout);
	pthread_create(&thread, NULL, reads, buffer);
	for (int i = 0; i < 20; i++) {
		usleep(3000);
		if (!fork())
			_exit(0);
		wait(NULL);
	}
	stop = 1;
	pthread_join(thread, NULL);
	return 0;
}
